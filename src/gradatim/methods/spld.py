"""Self-paced learning with diversity."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradatim.method import Pool, Run
from gradatim.methods.self_paced import SelfPaced
from gradatim.pacing import Pace
from gradatim.selection import prefix_size
from gradatim.validation import check_count, check_number, refusal
from gradatim.weighting import spld_by_count
from gradatim.weighting.inputs import read_groups

__all__ = ["SPLD"]


class SPLD(SelfPaced):
    """Self-paced learning with diversity: easy samples, spread over groups.

    Adds ``- gamma sum_g ||v^(g)||_2`` to the hard self-paced objective. Exact selection (Jiang et
    al. 2014, Algorithm 1): the sample of rank r (from 1) by loss within its group is taken if
    ``l < lambda + gamma / (sqrt(r) + sqrt(r - 1))``. lambda is chosen so that the pace's number of
    samples is taken.

    Args:
        groups: int64 (N,), group of each sample: class labels, clusters.
        pace: maps epochs since the warm-up to the included fraction.
        gamma: strength of diversity, at least 0, in the unit of the loss; 0 is hard `SPL`.
        gamma_growth: factor on gamma per epoch since the warm-up, above 0; default 1.
        min_group_size: groups smaller than this are merged into one: each group's first pick gains
            all of gamma, so many tiny groups would dominate.
        warmup_epochs: as of `SPL`.
        survey_every_epochs: as of `SPL`.

    State:
        loss: float32 (N,), last seen; the later observation wins between ranks.

    Raises:
        ValueError: a parameter outside its range, or groups of another length than the data.

    Example:
        >>> import gradatim as gr
        >>> gr.SPLD([0, 0, 1, 1], gamma=0.5).gamma
        0.5

    Differences from the paper:
        The pace fixes the number of samples and lambda follows (the paper grows lambda itself).

    References:
        Jiang, Meng, Yu, Lan, Shan and Hauptmann, Self-paced learning with diversity, NIPS 2014,
        Algorithm 1 [jiang2014spld].
    """

    references = ("jiang2014spld",)

    def __init__(
        self,
        groups: torch.Tensor | Sequence[int],
        *,
        pace: Pace | None = None,
        gamma: float = 1.0,
        gamma_growth: float = 1.0,
        min_group_size: int = 1,
        warmup_epochs: int = 1,
        survey_every_epochs: int | None = None,
    ) -> None:
        super().__init__(pace, warmup_epochs, survey_every_epochs)
        self.groups = read_groups(groups).cpu()
        self.gamma = check_number("gamma", gamma, at_least=0)
        self.gamma_growth = check_number("gamma_growth", gamma_growth, above=0)
        self.min_group_size = check_count("min_group_size", min_group_size, at_least=1)
        _, members, counts = torch.unique(self.groups, return_inverse=True, return_counts=True)
        small = counts[members] < self.min_group_size
        self._members = torch.where(small, counts.numel(), members)

    def setup(self, run: Run) -> None:
        if self.groups.numel() != run.size:
            rule = f"one group per sample: {run.size} of them"
            raise refusal("groups", rule, self.groups.numel())
        super().setup(run)

    def plan(self, pool: Pool, run: Run) -> Pool:
        fraction = self._fraction(run.epoch)
        if fraction >= 1:
            return pool
        losses = self._losses(pool, run)
        k = prefix_size(fraction, losses.numel())
        gamma = self.gamma * self.gamma_growth ** (run.epoch - self.warmup_epochs)
        groups = self._members[pool.index]
        generator = run.generator("spld", "ties")
        weights = spld_by_count(losses, groups, k=k, gamma=gamma, generator=generator)
        return pool.keep((weights > 0).nonzero().squeeze(1))

    def planned_size(self, size: int, epoch: int) -> int | None:
        return prefix_size(self._fraction(epoch), size)
