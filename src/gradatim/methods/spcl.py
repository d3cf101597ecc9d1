"""Self-paced curriculum learning: self-paced weights within an expert's region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from gradatim import weighting
from gradatim.method import Pool, Run
from gradatim.methods.self_paced import SelfPaced, weighted
from gradatim.pacing import Pace
from gradatim.validation import as_vector, check_choice, check_number, refusal
from gradatim.weighting import threshold_for

__all__ = ["SPCL"]


class SPCL(SelfPaced):
    """Self-paced curriculum learning: self-paced weights within a region an expert allows.

    The weights v are restricted to ``a' v <= c`` with a rising in the expert's difficulty: samples
    the expert finds hard use up more of the budget (Jiang et al. 2015). The minimiser is the
    self-paced one for shifted losses, ``v_i = v*(l_i + nu a_i)``.

    Args:
        score: (N,), the expert's difficulty, higher is harder; a is its rank over N.
        pace: maps epochs since the warm-up to the fraction q that sets both lambda (the q-quantile
            of the losses) and the budget, ``c = budget_fraction q sum(a)``.
        form: ``"linear"`` or ``"hard"``.
        budget_fraction: in (0, 1]; smaller follows the expert more; default .5, ours.
        warmup_epochs: as of `SPL`.
        survey_every_epochs: as of `SPL`.

    State:
        loss: float32 (N,), last seen; the later observation wins between ranks.

    Raises:
        ValueError: a parameter outside its range, or a score of another length than the data.

    Example:
        >>> import gradatim as gr
        >>> gr.SPCL([0.1, 0.9, 0.5]).form
        'linear'

    Differences from the paper:
        The paper allows any convex region and solver; this is its linear region, solved by
        bisection from the optimality conditions. How c grows is ours.

    References:
        Jiang, Meng, Zhao, Shan and Hauptmann, Self-paced curriculum learning, AAAI 2015
        [jiang2015spcl].
    """

    references = ("jiang2015spcl",)

    def __init__(
        self,
        score: torch.Tensor | Sequence[float],
        *,
        pace: Pace | None = None,
        form: Literal["linear", "hard"] = "linear",
        budget_fraction: float = 0.5,
        warmup_epochs: int = 1,
        survey_every_epochs: int | None = None,
    ) -> None:
        super().__init__(pace, warmup_epochs, survey_every_epochs)
        self.score = as_vector("score", score).cpu()
        check_choice("form", form, ("linear", "hard"))
        self.form: Literal["linear", "hard"] = form
        self.budget_fraction = check_number("budget_fraction", budget_fraction, above=0, at_most=1)
        size = self.score.numel()
        # Ties share the rank of their last member, as in the distribution function.
        ordered = self.score.sort().values
        self._cost = torch.searchsorted(ordered, self.score, right=True).double() / max(1, size)

    def setup(self, run: Run) -> None:
        if self.score.numel() != run.size:
            rule = f"one value per sample: {run.size} of them"
            raise refusal("score", rule, self.score.numel())
        super().setup(run)

    def plan(self, pool: Pool, run: Run) -> Pool:
        fraction = self._fraction(run.epoch)
        if fraction >= 1:
            return pool
        losses = self._losses(pool, run).double()
        cost = self._cost[pool.index]
        weights = weighting.spcl(
            losses,
            cost,
            budget=self.budget_fraction * fraction * float(cost.sum()),
            threshold=threshold_for(losses, fraction),
            form=self.form,
        )
        return weighted(pool, weights)

    def planned_size(self, size: int, epoch: int) -> int | None:
        return size if self._fraction(epoch) >= 1 else None
