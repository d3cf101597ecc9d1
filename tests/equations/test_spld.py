"""Self-paced learning with diversity: Jiang et al. 2014, Algorithm 1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradatim import weighting

LOSSES = torch.tensor([0.05, 0.12, 0.14, 0.15, 0.40, 0.28], dtype=torch.float64)
GROUPS = torch.tensor([0, 0, 0, 0, 1, 1])

SUBSETS = np.array(list(itertools.product([0, 1], repeat=9)), dtype=np.float64)


def group_norms(subsets: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """sum_g ||v^(g)||_2 of each row of 0/1 weights."""
    return sum(np.sqrt(subsets[:, groups == group].sum(1)) for group in np.unique(groups))


def instance(seed: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    rng = np.random.default_rng(seed)
    losses = rng.exponential(size=9)
    return losses, rng.integers(0, 3, 9), rng.uniform(0.01, 1.5), rng.uniform(0, 1.5)


def chosen(weights: torch.Tensor) -> list[int]:
    return weights.nonzero().squeeze(1).tolist()


def test_jiang2014_algorithm1_by_hand() -> None:
    assert chosen(weighting.spld(LOSSES, GROUPS, threshold=0.03, gamma=0.26)) == [0, 1, 5]


def test_jiang2014_algorithm1_thresholds_by_rank_by_hand() -> None:
    # One group of four equal losses: rank r enters just below its bar and not at or above it.
    groups = torch.zeros(4, dtype=torch.int64)
    for rank, bar in enumerate((0.29, 0.137696, 0.112638, 0.099667), start=1):
        for loss, count in ((bar - 1e-6, rank), (bar + 1e-6, rank - 1)):
            losses = torch.full((4,), loss, dtype=torch.float64)
            assert weighting.spld(losses, groups, threshold=0.03, gamma=0.26).sum() == count


def test_jiang2014_without_diversity_three_samples_come_from_one_group() -> None:
    assert chosen(weighting.spld_by_count(LOSSES, GROUPS, k=3, gamma=0)) == [0, 1, 2]
    assert chosen(weighting.spld_by_count(LOSSES, GROUPS, k=3, gamma=0.26)) == [0, 1, 5]


def test_jiang2014_no_gamma_is_hard_with_a_strict_inequality() -> None:
    losses = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    groups = torch.tensor([0, 1, 0, 1])
    assert weighting.spld(losses, groups, threshold=0.5, gamma=0).tolist() == [1, 1, 0, 0]
    strictly_below = weighting.hard(losses, math.nextafter(0.5, 0))
    assert torch.equal(weighting.spld(losses, groups, threshold=0.5, gamma=0), strictly_below)


def test_jiang2014_objective_equals_brute_force_over_all_subsets() -> None:
    sizes = set()
    for seed in range(300):
        losses, groups, threshold, gamma = instance(seed)
        weights = weighting.spld(
            torch.from_numpy(losses), torch.from_numpy(groups), threshold=threshold, gamma=gamma
        ).numpy()
        every = np.vstack([SUBSETS, weights])
        objective = every @ (losses - threshold) - gamma * group_norms(every, groups)
        assert abs(objective[-1] - objective[:-1].min()) < 1e-12
        sizes.add(int(weights.sum()))
    assert len(sizes) > 7  # the instances are not all trivial


def test_jiang2014_by_count_equals_brute_force_over_subsets_of_that_size() -> None:
    for seed in range(60):
        losses, groups, _, gamma = instance(seed)
        for k in (1, 4, 8, 9):
            weights = weighting.spld_by_count(
                torch.from_numpy(losses), torch.from_numpy(groups), k=k, gamma=gamma
            ).numpy()
            assert weights.sum() == k
            rivals = np.vstack([SUBSETS[SUBSETS.sum(1) == k], weights])
            objective = rivals @ losses - gamma * group_norms(rivals, groups)
            assert abs(objective[-1] - objective[:-1].min()) < 1e-12


def test_jiang2014_by_count_agrees_with_the_threshold_that_gives_this_count() -> None:
    """Bisection on lambda, as the paper's pace would find it."""
    for seed in range(12):
        losses, groups, _, gamma = instance(seed)
        x, g = torch.from_numpy(losses), torch.from_numpy(groups)
        low, high = -10.0, 10.0
        for _ in range(60):
            middle = (low + high) / 2
            if weighting.spld(x, g, threshold=middle, gamma=gamma).sum() < 5:
                low = middle
            else:
                high = middle
        by_value = weighting.spld(x, g, threshold=high, gamma=gamma)
        assert torch.equal(weighting.spld_by_count(x, g, k=5, gamma=gamma), by_value)


def test_jiang2014_a_large_gamma_selects_everything() -> None:
    losses = torch.tensor([0.1, 5.0, 100.0, 3.0, 8.0])
    groups = torch.tensor([0, 0, 0, 1, 2])
    assert weighting.spld(losses, groups, threshold=0.1, gamma=1e4).tolist() == [1] * 5
    assert weighting.spld(losses, groups, threshold=math.inf, gamma=0).tolist() == [1] * 5


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(-8, 8))
def test_jiang2014_adding_a_constant_to_losses_and_threshold_changes_nothing(
    seed: int, shift: int
) -> None:
    rng = np.random.default_rng(seed)
    # Multiples of 1/64 keep the sums exact.
    losses = torch.from_numpy(rng.integers(0, 200, 12) / 64)
    groups = torch.from_numpy(rng.integers(0, 4, 12))
    here = weighting.spld(losses, groups, threshold=0.51, gamma=0.8)
    there = weighting.spld(losses + shift, groups, threshold=0.51 + shift, gamma=0.8)
    assert torch.equal(here, there)


def test_jiang2014_equal_losses_differ_only_through_group_sizes() -> None:
    groups = torch.tensor([7] * 6 + [-2] * 6 + [4] * 2 + [9])
    losses = torch.full((15,), 0.5, dtype=torch.float64)
    weights = weighting.spld(losses, groups, threshold=0.3, gamma=0.5)
    # sqrt(r) - sqrt(r - 1) > 0.4 for r = 1 and 2 (.414), not for r = 3 (.318).
    counts = {group: int(weights[groups == group].sum()) for group in (7, -2, 4, 9)}
    assert counts == {7: 2, -2: 2, 4: 2, 9: 1}


def test_every_group_offers_its_easiest_samples() -> None:
    losses, groups, threshold, gamma = instance(3)
    x, g = torch.from_numpy(losses), torch.from_numpy(groups)
    weights = weighting.spld(x, g, threshold=threshold, gamma=gamma).bool()
    for group in g.unique():
        inside, outside = x[weights & (g == group)], x[~weights & (g == group)]
        if len(inside) and len(outside):
            assert inside.max() <= outside.min()


@pytest.mark.parametrize("k", [1, 3, 7, 20])
def test_by_count_is_exact_when_everything_ties(k: int) -> None:
    losses, groups = torch.zeros(20), torch.arange(20) % 5
    assert weighting.spld_by_count(losses, groups, k=k, gamma=0.5).sum() == k
    assert weighting.spld_by_count(losses, groups, k=k, gamma=0).sum() == k


def test_by_count_breaks_ties_by_seed_within_and_between_groups() -> None:
    losses, groups = torch.zeros(40), torch.arange(40) // 10

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return weighting.spld_by_count(losses, groups, k=10, gamma=0.5, generator=generator)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    draws = torch.stack([draw(seed) for seed in range(60)])
    total = draws.sum(0)
    # Each sample has chance 1/4; none is chosen in 60 draws with probability 40 (3/4)^60 = 1e-6.
    assert (total > 0).all()
    # Spread: 10 of 4 groups are 2 or 3 from each.
    assert set(draws.view(60, 4, 10).sum(2).unique().tolist()) == {2, 3}


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: weighting.spld(LOSSES, GROUPS, threshold=0.1, gamma=-1), r"gamma must be .*Got -1"),
    (lambda: weighting.spld(LOSSES, GROUPS, threshold=math.nan, gamma=1), r"threshold must be"),
    (lambda: weighting.spld(LOSSES, GROUPS, threshold=1, gamma=math.nan), r"gamma must be"),
    (lambda: weighting.spld(LOSSES, GROUPS[:5], threshold=0.1, gamma=1), r"groups must be one val"),
    (lambda: weighting.spld(LOSSES, LOSSES, threshold=0.1, gamma=1), r"groups must be whole num"),
    (lambda: weighting.spld_by_count(LOSSES, GROUPS, k=0, gamma=1), r"k must be .*Got 0"),
    (lambda: weighting.spld_by_count(LOSSES, GROUPS, k=7, gamma=1), r"k must be .*at most 6"),
    (lambda: weighting.spld_by_count(LOSSES, GROUPS, k=2, gamma=-0.1), r"gamma must be"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_bad_input_is_refused_by_name(case: int) -> None:
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_groups_that_are_no_numbers_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="groups must be whole numbers"):
        weighting.spld(LOSSES, list("aaaabb"), threshold=0.1, gamma=1)  # type: ignore[arg-type]


def test_a_generator_that_is_none_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator"):
        weighting.spld_by_count(LOSSES, GROUPS, k=2, gamma=1, generator=7)  # type: ignore[arg-type]
