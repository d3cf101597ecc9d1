"""What an estimate of values is, how sure it is, and why it stopped."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Literal

import torch

__all__ = ["RunningMean", "Valuation"]

Reason = Literal["converged", "permutations"]


@dataclasses.dataclass(frozen=True)
class Valuation:
    """Estimated values of all samples, with what is needed to judge the estimate.

    Args:
        values: float64 (n,), higher is better; the mean marginal over permutations.
        standard_errors: float64 (n,), of each mean; NaN after a single permutation.
        permutations: how many were averaged.
        converged: whether the values had settled when it stopped.
        reason: why it stopped: ``"converged"``, or ``"permutations"`` when the limit was reached.
        change: mean over samples of |phi^t - phi^(t - window)| / |phi^t| at the end; infinite
            where fewer than ``window`` permutations came before.
        whole: v of all samples; NaN where nobody asked for it.
        empty: v of no sample, or of the fresh model (mean over permutations).
        evaluations: utilities asked for in the permutations that count.
        truncated: mean share of each permutation that was not evaluated.

    Example:
        >>> from gradatim.valuation import tmc_shapley
        >>> found = tmc_shapley(len, 3, permutations=2, seed=0)
        >>> found.values.tolist(), found.permutations, found.converged, found.reason
        ([1.0, 1.0, 1.0], 2, False, 'permutations')
    """

    values: torch.Tensor
    standard_errors: torch.Tensor
    permutations: int
    converged: bool
    reason: Reason
    change: float
    whole: float
    empty: float
    evaluations: int
    truncated: float

    def __str__(self) -> str:
        why = "converged" if self.converged else "limit of permutations reached"
        return (
            f"values of {self.values.numel()} samples after {self.permutations} permutations "
            f"({why}, change {self.change:.3g}, largest standard error "
            f"{float(self.standard_errors.max()):.3g})"
        )


class RunningMean:
    """Mean, standard error and change of the mean over permutations (n,), one row at a time."""

    def __init__(self, size: int, window: int) -> None:
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.squares = torch.zeros(size, dtype=torch.float64)
        self.earlier: deque[torch.Tensor] = deque(maxlen=window)

    def add(self, marginals: torch.Tensor) -> None:
        """Take one permutation's marginals (Welford's update, which loses no digits)."""
        if self.count:
            self.earlier.append(self.mean.clone())
        self.count += 1
        off = marginals - self.mean
        self.mean += off / self.count
        self.squares += off * (marginals - self.mean)

    def change(self) -> float:
        """Mean relative change over the window; infinity before it is filled."""
        if len(self.earlier) < (self.earlier.maxlen or 0):
            return float("inf")
        moved = (self.mean - self.earlier[0]).abs()
        # Null players have values of rounding errors only: relative to the largest they are 0.
        floor = 1e-12 * float(self.mean.abs().max())
        return float(torch.where(moved > floor, moved / (self.mean.abs() + floor), 0.0).mean())

    def standard_errors(self) -> torch.Tensor:
        """Of the mean; NaN after one permutation."""
        if self.count < 2:
            return torch.full_like(self.mean, float("nan"))
        return (self.squares / (self.count - 1) / self.count).sqrt()
