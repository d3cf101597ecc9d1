"""Orders, ranked selection and balanced prefixes: methods 1.5, 2.1 and 2.3."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradatim.selection import balanced_prefix, highest, lowest, order_by

small_scores = st.lists(st.integers(-3, 3), min_size=1, max_size=30).map(
    lambda values: torch.tensor(values, dtype=torch.float32)
)
seeds = st.integers(0, 2**32)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def varied(scores: torch.Tensor) -> bool:
    return scores.numel() == 1 or bool((scores != scores[0]).any())


def test_curriculum_is_ascending_and_anti_descending_by_hand() -> None:
    scores = torch.tensor([3.0, 1.0, 1.0, 5.0])
    assert order_by(scores, tie="index").tolist() == [1, 2, 0, 3]
    # Reading the ascending order backwards would give 3, 0, 2, 1.
    assert order_by(scores, order="anti", tie="index").tolist() == [3, 0, 1, 2]


@given(small_scores.filter(varied), seeds)
def test_anti_order_is_the_curriculum_of_negated_scores(scores: torch.Tensor, seed: int) -> None:
    for tie in ("random", "index"):
        anti = order_by(scores, order="anti", generator=seeded(seed), tie=tie)
        assert torch.equal(anti, order_by(-scores, generator=seeded(seed), tie=tie))


@given(small_scores.filter(varied), seeds, st.sampled_from(["curriculum", "anti", "random"]))
def test_orders_are_sorted_permutations(scores: torch.Tensor, seed: int, order: Any) -> None:
    found = order_by(scores, order=order, generator=seeded(seed))
    assert found.dtype == torch.int64
    assert sorted(found.tolist()) == list(range(scores.numel()))
    if order != "random":
        assert sorted(scores.tolist(), reverse=order == "anti") == scores[found].tolist()


def test_random_order_ignores_the_scores() -> None:
    scores = torch.arange(50.0)
    one = order_by(scores, order="random", generator=seeded(1))
    permuted = scores[torch.randperm(50, generator=seeded(9))]
    assert torch.equal(one, order_by(permuted, order="random", generator=seeded(1)))
    assert torch.equal(one, order_by(scores, order="random", generator=seeded(1), tie="index"))
    assert not torch.equal(one, order_by(scores, order="random", generator=seeded(2)))


def test_ties_do_not_follow_the_stored_order() -> None:
    """Discrete scores on data stored class by class must not select by class (D28b)."""
    scores = torch.cat([torch.ones(500), torch.zeros(500)])
    labels = torch.arange(10).repeat_interleave(100)
    for choose in (
        lambda g: order_by(scores, generator=g)[:250],
        lambda g: lowest(scores, 250, generator=g),
    ):
        chosen = choose(seeded(0))
        assert bool((scores[chosen] == 0).all())
        assert labels[chosen].bincount(minlength=10)[5:].min() >= 30
        assert torch.equal(chosen, choose(seeded(0)))
        assert not torch.equal(chosen, choose(seeded(1)))


def test_equal_scores_warn() -> None:
    with pytest.warns(UserWarning, match="nothing to order by"):
        found = order_by(torch.ones(100), generator=seeded(0))
    assert found.tolist() != list(range(100))
    assert sorted(found.tolist()) == list(range(100))
    # No difference between samples is no news where they are shuffled, or where there is one.
    order_by(torch.ones(100), order="random", generator=seeded(0))
    assert order_by(torch.ones(1), generator=seeded(0)).tolist() == [0]
    assert order_by(torch.ones(0), generator=seeded(0)).tolist() == []


@given(small_scores, st.data(), seeds)
def test_ranked_selection_takes_exactly_k_of_the_extremes(
    scores: torch.Tensor, data: st.DataObject, seed: int
) -> None:
    k = data.draw(st.integers(0, scores.numel()))
    for select, reverse in ((lowest, False), (highest, True)):
        chosen = select(scores, k, generator=seeded(seed))
        assert chosen.dtype == torch.int64
        assert chosen.tolist() == sorted(set(chosen.tolist()))
        assert sorted(scores[chosen].tolist()) == sorted(
            sorted(scores.tolist(), reverse=reverse)[:k]
        )
        by_index = sorted(range(len(scores)), key=lambda i: float(scores[i]), reverse=reverse)[:k]
        assert select(scores, k, tie="index").tolist() == sorted(by_index)


def test_ranked_selection_breaks_ties_uniformly() -> None:
    """Each of 10 tied samples is in 5 of 10 places: 2000 trials, 5 sigma, fails once in 10^5."""
    scores = torch.cat([torch.zeros(1), torch.ones(10), torch.full((1,), 2.0)])
    generator, counts = seeded(0), torch.zeros(12)
    for _ in range(2000):
        counts[lowest(scores, 6, generator=generator)] += 1
    assert counts[0] == 2000
    assert counts[11] == 0
    assert (counts[1:11] - 1000).abs().max() < 5 * math.sqrt(2000 * 0.25)


def test_infinite_scores_are_the_hardest() -> None:
    scores = torch.tensor([math.inf, 2.0, -math.inf, math.inf])
    assert order_by(scores, tie="index").tolist() == [2, 1, 0, 3]
    assert lowest(scores, 3, tie="index").tolist() == [0, 1, 2]
    assert highest(scores, 2, tie="index").tolist() == [0, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_scores_of_any_type(dtype: torch.dtype) -> None:
    scores = torch.tensor([3, 1, 2, 0], dtype=dtype)
    assert order_by(scores, tie="index").tolist() == [3, 1, 2, 0]
    assert lowest(scores, 2, tie="index").tolist() == [1, 3]
    assert highest([3, 1, 2, 0], 2, tie="index").tolist() == [0, 2]


def test_inputs_and_global_generators_are_left_alone(watch_global_rng: Any) -> None:
    scores = torch.tensor([2.0, 1.0, 1.0], requires_grad=True)
    before = scores.detach().clone()
    moved = watch_global_rng()
    order_by(scores, order="anti", generator=seeded(0))
    lowest(scores, 1, generator=seeded(0))
    highest(scores, 1, generator=seeded(0))
    assert moved() == []
    assert torch.equal(scores.detach(), before)


def test_balanced_prefix_by_hand() -> None:
    """Classes of 4, 2 and 1 samples, easiest first: half of each is 2, 1 and 1."""
    labels = torch.tensor([0, 0, 0, 0, 5, 5, 9])
    order = torch.tensor([6, 3, 4, 0, 1, 5, 2])
    assert balanced_prefix(order, labels, 0.5).tolist() == [6, 3, 4, 0]
    assert balanced_prefix(order, labels, 0.75).tolist() == [6, 3, 4, 0, 1, 5]
    assert balanced_prefix(order, labels, 1.0).tolist() == order.tolist()
    # Each class has its easiest from the start.
    assert balanced_prefix(order, labels, 0.0).tolist() == [6, 3, 4]


def test_balanced_prefix_of_a_part_of_the_data_lacks_classes() -> None:
    """A class that is absent takes no place and breaks nothing (D28)."""
    labels = torch.tensor([0, 1, 2, 0, 2])
    order = torch.tensor([4, 2, 0])
    assert balanced_prefix(order, labels, 0.5).tolist() == [4, 0]
    empty = torch.empty(0, dtype=torch.int64)
    assert balanced_prefix(empty, labels, 0.5).tolist() == []


def test_balanced_prefixes_are_nested() -> None:
    generator = seeded(3)
    labels = torch.randint(0, 7, (300,), generator=generator)
    order = torch.randperm(300, generator=generator)
    before: set[int] = set()
    for fraction in (0.01, 0.1, 0.33, 0.5, 0.99, 1.0):
        visible = set(balanced_prefix(order, labels, fraction).tolist())
        assert before <= visible
        before = visible
    assert len(before) == 300


def test_misuse_of_orders_is_refused() -> None:
    scores = torch.tensor([1.0, math.nan, math.inf])
    for refused in (
        lambda: order_by(scores, tie="index"),
        lambda: lowest(scores, 1, tie="index"),
        lambda: highest(scores, 1, tie="index"),
    ):
        with pytest.raises(ValueError, match=r"^scores must be finite\. Got 1 .* at index \[1\]"):
            refused()
    good = torch.tensor([2.0, 1.0])
    with pytest.raises(ValueError, match=r"^order must be one of .*Did you mean 'curriculum'\?"):
        order_by(good, order="curiculum", tie="index")  # pyright: ignore
    with pytest.raises(ValueError, match=r"^tie must be one of 'random', 'index'\. Got 'first'"):
        lowest(good, 1, tie="first")  # pyright: ignore
    for refused in (
        lambda: order_by(good),
        lambda: order_by(good, order="random", tie="index"),
        lambda: lowest(good, 1),
        lambda: highest(good, 1),
    ):
        with pytest.raises(TypeError, match=r"^generator must be a torch\.Generator\. Got None"):
            refused()
    for select in (lowest, highest):
        with pytest.raises(ValueError, match=r"^k must be .* at most 2\. Got 3\."):
            select(good, 3, tie="index")
    with pytest.raises(ValueError, match=r"^scores must be one-dimensional"):
        order_by(torch.ones(2, 2), tie="index")


def test_misuse_of_balanced_prefix_is_refused() -> None:
    order = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"^labels must be whole numbers"):
        balanced_prefix(order, torch.tensor([0.0, 1.0]), 0.5)
    with pytest.raises(ValueError, match=r"^order must be int64 positions in \[0, 1\)\. Got 1\."):
        balanced_prefix(order, [0], 0.5)
    for fraction in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"^fraction must be"):
            balanced_prefix(order[:0], [0], fraction)
