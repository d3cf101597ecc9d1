"""Feature coverage: a subset that is hard and in which no feature is missing.

``F(A) = sum_u omega_u sqrt(sum_{i in A} c_u(i))``: what a sample adds to a feature counts less, the
more of that feature the subset holds already. F is monotone and submodular where features are not
negative, so that greedy maximisers reach 1 - 1/e of the best value (Nemhauser et al. 1978).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from gradatim.measured import measured
from gradatim.selection.facility import _distinct
from gradatim.selection.partial import check_generator
from gradatim.validation import (
    as_vector,
    check_choice,
    check_count,
    check_index,
    check_number,
    refusal,
)

__all__ = ["coverage_gains", "coverage_value", "feature_coverage"]

Greedy = Literal["lazy", "exact", "stochastic"]

CHUNK_ROWS = 4096  # candidates looked at in one piece: memory stays small beside the features
WINDOW = 128  # candidates whose gains are kept up to date while the lazy choice takes the best


def feature_coverage(
    features: torch.Tensor,
    k: int,
    *,
    scores: torch.Tensor | Sequence[float] | None = None,
    diversity: float = 1.0,
    weights: torch.Tensor | Sequence[float] | None = None,
    greedy: Greedy = "lazy",
    epsilon: float = 0.01,
    generator: torch.Generator | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Choose k candidates with large scores that together cover all features.

    Maximises ``sum_{i in A} r_i + lambda F(A)``, ``F(A) = sum_u omega_u sqrt(sum_{i in A} c_u(i))``
    (Zhou and Bilmes 2018, Eq. 2), greedily.

    Args:
        features: c, (m, U), floating, at least 0 everywhere; half precision is widened. On any
            device; the choice itself, one step after the other, is made on the CPU.
        k: how many to choose, at most m.
        scores: r, (m,), the modular term; None is 0. Only differences count.
        diversity: lambda, at least 0; 0 chooses the k largest scores.
        weights: omega, (U,), at least 0; None is 1.
        greedy: ``"exact"`` looks at all candidates in each step; ``"lazy"`` finds the same choice
            and looks again only where a gain may still be the largest. ``"stochastic"`` looks at
            ``ceil(m / k log(1 / epsilon))`` random candidates (Mirzasoleiman et al. 2015): expected
            value at least 1 - 1/e - epsilon of the best.
        epsilon: of the stochastic choice, in (0, 1).
        generator: for ``"stochastic"``.
        start: int64 (j,), distinct positions that are chosen already, at most k; None is none.

    Returns:
        int64 (k,), ``start`` and then the others in the order of choice, on the features' device.
        Ties go to the first.

    Raises:
        TypeError: features that are no floating tensor, or a generator that is missing.
        ValueError: features that are no finite matrix or negative, or a parameter outside its
            range.

    Example:
        >>> c = torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 9.0]])
        >>> feature_coverage(c, 2, scores=[0.5, 0.2, 0.1])
        tensor([2, 0])
        >>> feature_coverage(c, 2, scores=[0.5, 0.2, 0.1], diversity=0.01)
        tensor([0, 1])

    Caveats:
        Where features and scores are the same for very many candidates, laziness saves nothing.

    References:
        Zhou and Bilmes, Minimax Curriculum Learning, ICLR 2018, Eq. 2. Mirzasoleiman et al.,
        Lazier Than Lazy Greedy, AAAI 2015.
    """
    held = _matrix(features)
    size = len(held)
    k = check_count("k", k, at_most=size)
    check_number("diversity", diversity, at_least=0)
    check_choice("greedy", greedy, ("lazy", "exact", "stochastic"))
    check_number("epsilon", epsilon, above=0, below=1)
    if greedy == "stochastic":
        check_generator(generator)
    modular = np.zeros(size)
    if scores is not None:
        modular = as_vector("scores", scores).cpu().to(torch.float64, copy=True).numpy()
        if len(modular) != size:
            raise refusal("scores", f"one per candidate: {size}", len(modular))
    covered = _Covered(held, weights, diversity)
    begun = _positions("start", () if start is None else start, size)
    if len(begun) > k:
        raise refusal("start", f"at most k = {k} positions", len(begun))
    covered.add(begun)
    if k and size > 1 and diversity > 0 and bool((held == held[0]).all()):
        warnings.warn(
            "features are all equal, so nothing is diverse: the largest scores are chosen.",
            stacklevel=2,
        )
        covered.scale = 0.0
    modular[begun] = -np.inf  # never the best of those that are left
    count = k - len(begun)
    with measured("diversity"):
        if covered.scale == 0:
            added = np.argsort(-modular, kind="stable")[:count]
        elif greedy == "stochastic":
            assert generator is not None
            left = np.setdiff1d(np.arange(size), begun)
            looked_at = math.ceil(len(left) / max(1, count) * math.log(1 / epsilon))
            added = _stochastic(covered, modular, left, count, looked_at, generator)
        else:
            added = _windowed(covered, modular, count, WINDOW if greedy == "lazy" else size)
    return torch.from_numpy(np.concatenate([begun, added])).to(features.device)


def coverage_value(
    features: torch.Tensor,
    chosen: torch.Tensor | Sequence[int],
    weights: torch.Tensor | Sequence[float] | None = None,
) -> float:
    """Compute F(A) of a subset.

    Args:
        features: c, (m, U), floating, at least 0 everywhere.
        chosen: positions of A; the empty set has the value 0.
        weights: omega, (U,), at least 0; None is 1.

    Returns:
        F(A), at least 0.

    Raises:
        TypeError: an argument of another kind.
        ValueError: features that are no finite matrix or negative, or positions outside it.

    Example:
        >>> c = torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 9.0]])
        >>> coverage_value(c, [0, 2]), round(coverage_value(c, [1, 2]), 6)
        (5.0, 4.162278)
    """
    covered = _Covered(_matrix(features), weights, 1.0)
    covered.add(_positions("chosen", chosen, len(covered.features)))
    return float((np.sqrt(covered.sums) * covered.weights).sum())


def coverage_gains(
    features: torch.Tensor,
    chosen: torch.Tensor | Sequence[int] = (),
    weights: torch.Tensor | Sequence[float] | None = None,
) -> torch.Tensor:
    """Compute what each candidate would add to F(A): ``F(A + i) - F(A)``.

    Args:
        features: c, (m, U), floating, at least 0 everywhere.
        chosen: positions of A; by default none, which gives the singletons' values F({i}).
        weights: omega, (U,), at least 0; None is 1.

    Returns:
        float64 (m,), at least 0, on the features' device.

    Raises:
        TypeError: an argument of another kind.
        ValueError: features that are no finite matrix or negative, or positions outside it.

    Example:
        >>> c = torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 9.0]])
        >>> coverage_gains(c).tolist()
        [2.0, 2.0, 3.0]
    """
    covered = _Covered(_matrix(features), weights, 1.0)
    covered.add(_positions("chosen", chosen, len(covered.features)))
    gains = covered.gains(np.arange(len(covered.features)))
    return torch.from_numpy(gains).to(features.device)


class _Covered:
    """How much of each feature the chosen ones hold, and what candidates would add to F."""

    def __init__(
        self,
        features: np.ndarray,
        weights: torch.Tensor | Sequence[float] | None,
        scale: float,
    ) -> None:
        width = features.shape[1]
        self.features = features
        self.scale = float(scale)
        self.weights = np.ones(width)
        if weights is not None:
            omega = as_vector("weights", weights, at_least=0).cpu().double().numpy()
            if len(omega) != width:
                raise refusal("weights", f"one per feature: {width}", len(omega))
            self.weights = omega
        self.sums = np.zeros(width)
        self._roots = np.zeros(width)

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        """``lambda (F(A + i) - F(A))`` of candidates (C,); no row's value depends on another."""
        found = np.empty(len(candidates))
        for start in range(0, len(candidates), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            rows = self.features[candidates[part]].astype(np.float64)
            rows += self.sums
            np.sqrt(rows, out=rows)
            rows -= self._roots
            rows *= self.weights
            found[part] = rows.sum(1)
        return found * self.scale

    def add(self, positions: np.ndarray) -> None:
        """Choose candidates (C,)."""
        for start in range(0, len(positions), CHUNK_ROWS):
            rows = self.features[positions[start : start + CHUNK_ROWS]]
            self.sums += rows.sum(0, dtype=np.float64)
        self._roots = np.sqrt(self.sums)


def _matrix(features: torch.Tensor) -> np.ndarray:
    if not isinstance(features, torch.Tensor) or not features.is_floating_point():
        kind = getattr(features, "dtype", type(features).__name__)
        raise TypeError(str(refusal("features", "a floating tensor", kind)))
    if features.ndim != 2 or features.shape[1] == 0:
        raise refusal("features", "of shape (m, U) with U at least 1", tuple(features.shape))
    wide = features.detach().to(torch.promote_types(features.dtype, torch.float32)).cpu()
    if wide.numel():
        low, high = wide.aminmax()
        if not bool(torch.isfinite(low)) or not bool(torch.isfinite(high)):
            rows = (~torch.isfinite(wide)).any(1).nonzero().squeeze(1)[:10].tolist()
            raise refusal("features", "finite", f"values that are not, in rows {rows}")
        if float(low) < 0:
            raise refusal(
                "features",
                "at least 0 everywhere",
                float(low),
                "The square root of negative sums is undefined: take features behind a ReLU, or "
                "facility location, which takes any.",
            )
    return wide.numpy()


def _windowed(covered: _Covered, modular: np.ndarray, k: int, width: int) -> np.ndarray:
    """Greedy choice that keeps only the ``width`` most promising candidates up to date.

    Gains only fall, so an old gain bounds the present one. As long as the best of the window
    exceeds all bounds outside, it is the best of all; where it does not, the largest bounds are
    looked at again.
    """
    bounds = modular + covered.gains(np.arange(len(modular)))
    window = np.empty(0, dtype=np.int64)
    values = np.empty(0)
    outside = np.inf  # the largest bound of the others; at first nobody is in the window
    chosen = np.empty(k, dtype=np.int64)
    for step in range(k):
        best = int(values.argmax()) if len(values) else -1
        if best >= 0 and values[best] > outside:
            position = window[best]
        else:
            bounds[window] = values
            position = _best(covered, modular, bounds, window if step else None, width)
            bounds[position] = -np.inf
            window, outside = _largest(bounds, width)
            values = bounds[window]
            best = -1
        chosen[step] = position
        bounds[position] = -np.inf
        covered.add(chosen[step : step + 1])
        if best >= 0:
            window = np.delete(window, best)
        values = modular[window] + covered.gains(window)
    return chosen


def _best(
    covered: _Covered,
    modular: np.ndarray,
    bounds: np.ndarray,
    fresh_ones: np.ndarray | None,
    width: int,
) -> int:
    """The first of the largest, once all of these are fresh; None says that all bounds are."""
    if fresh_ones is None:
        return int(bounds.argmax())
    stale = bounds.copy()
    stale[fresh_ones] = -np.inf
    best = bounds[fresh_ones].max(initial=-np.inf)
    while best <= (top := stale.max()) and top > -np.inf:
        again, _ = _largest(stale, width)
        bounds[again] = modular[again] + covered.gains(again)
        stale[again] = -np.inf
        best = max(best, bounds[again].max())
        width *= 2  # or equal candidates would be looked at in countless small pieces
    return int(bounds.argmax())


def _largest(bounds: np.ndarray, width: int) -> tuple[np.ndarray, float]:
    """Positions of the ``width`` largest finite bounds, increasing, and the largest of the rest."""
    if width < len(bounds):
        parted = np.argpartition(bounds, len(bounds) - width - 1)
        outside = float(bounds[parted[len(bounds) - width - 1]])
        found = np.sort(parted[len(bounds) - width :])
    else:
        found, outside = np.arange(len(bounds)), -np.inf
    return found[bounds[found] > -np.inf], outside


def _stochastic(
    covered: _Covered,
    modular: np.ndarray,
    left: np.ndarray,
    count: int,
    looked_at: int,
    generator: torch.Generator,
) -> np.ndarray:
    chosen = np.empty(count, dtype=np.int64)
    for step in range(count):
        remaining = len(left) - step  # the first ones of ``left`` are not chosen
        slots = _distinct(min(looked_at, remaining), remaining, generator)
        candidates = left[slots]
        best = slots[int((modular[candidates] + covered.gains(candidates)).argmax())]
        chosen[step] = left[best]
        covered.add(chosen[step : step + 1])
        left[best] = left[remaining - 1]  # the last one takes the place of the one that leaves
    return chosen


def _positions(name: str, given: torch.Tensor | Sequence[int], size: int) -> np.ndarray:
    try:
        found = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(str(refusal(name, "int64 positions", repr(given)))) from error
    found = found.to(torch.int64) if found.numel() == 0 else found
    check_index(name, found, size)
    if len(found.unique()) < len(found):
        raise refusal(name, "distinct positions", found.tolist()[:10])
    return found.numpy()
