"""Bring any score to one scale: its rank, or the share of samples that are no harder."""

from __future__ import annotations

import torch

from gradatim.selection.partial import check_generator, permutation
from gradatim.validation import as_vector, refusal

__all__ = ["cdf", "rank"]


def rank(scores: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Replace scores by their ranks, so that only the order counts and outliers lose their grip.

    Ranks run from 1/n (easiest) to 1. Tied samples share the mean of the ranks they occupy, or,
    given a generator, receive them in random order. They are never ranked by their position in
    the data set: data stored class by class would then be opened class by class. With
    ``#`` counting samples j::

        rank_i = (#{d_j < d_i} + (#{d_j = d_i} + 1) / 2) / n

    Args:
        scores: (n,) finite difficulties d, higher is harder; n at least 1.
        generator: breaks ties at random; None shares the mean rank.

    Returns:
        float64 (n,) in (0, 1], no gradient, on the device of ``scores``. Sorting costs O(n log n).

    Raises:
        ValueError: not one finite score per sample, or no sample.

    Example:
        >>> rank(torch.tensor([3.0, 1.0, 1.0, 5.0]))
        tensor([0.7500, 0.3750, 0.3750, 1.0000], dtype=torch.float64)
        >>> rank(torch.tensor([3.0, 9.0]), generator=torch.Generator().manual_seed(0))
        tensor([0.5000, 1.0000], dtype=torch.float64)

    Differences from the paper:
        No paper.
    """
    vector = _scores(scores)
    size = vector.numel()
    if generator is None:
        inverse, counts, last = _ties(vector)
        return (last - (counts - 1) / 2)[inverse] / size
    shuffled = permutation(size, check_generator(generator)).to(vector.device)
    order = shuffled[torch.argsort(vector[shuffled], stable=True)]
    ranks = torch.empty(size, dtype=torch.float64, device=vector.device)
    ranks[order] = torch.arange(1, size + 1, dtype=torch.float64, device=vector.device) / size
    return ranks


def cdf(scores: torch.Tensor) -> torch.Tensor:
    """Replace each score by the share of samples that are no harder.

    The empirical distribution function: a learner of competence c is shown exactly the samples
    whose value is at most c::

        cdf_i = #{j : d_j <= d_i} / n

    Args:
        scores: (n,) finite difficulties d, higher is harder; n at least 1.

    Returns:
        float64 (n,) in (0, 1], no gradient, on the device of ``scores``; equal scores have equal
        values, the hardest has 1. Sorting costs O(n log n).

    Raises:
        ValueError: not one finite score per sample, or no sample.

    Example:
        >>> cdf(torch.tensor([3.0, 1.0, 1.0, 5.0]))
        tensor([0.7500, 0.5000, 0.5000, 1.0000], dtype=torch.float64)

    Differences from the paper:
        None known.

    References:
        Platanios et al., Competence-based Curriculum Learning for Neural Machine Translation,
        NAACL 2019, section 2 (`platanios2019`).
    """
    vector = _scores(scores)
    inverse, _, last = _ties(vector)
    return last[inverse].to(torch.float64) / vector.numel()


def _scores(scores: torch.Tensor) -> torch.Tensor:
    vector = as_vector("scores", scores)
    if vector.numel() == 0:
        raise refusal("scores", "one value per sample, at least one", "none")
    return vector


def _ties(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Group equal scores: each sample's group, each group's count, each group's last rank."""
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    return inverse, counts.to(torch.float64), counts.cumsum(0)
