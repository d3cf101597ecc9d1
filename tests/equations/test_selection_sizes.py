"""Rounding (methods 1.4) and the definition of a curriculum (Bengio et al. 2009)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradatim.selection import check_curriculum, prefix_size, share_sizes, shrinking_size


def test_prefix_sizes_by_hand() -> None:
    assert [prefix_size(c, 10) for c in (0.2, 0.36, 0.52, 0.68, 0.84, 1.0)] == [2, 4, 6, 7, 9, 10]
    assert [prefix_size(c, 10) for c in (0.0, 1e-300, 0.1, 0.11)] == [1, 1, 1, 2]


def test_rounding_adds_no_sample() -> None:
    """0.1 * 3 * 10 is 3.0000000000000004 and its bare ceiling is 4 (trap 17)."""
    assert math.ceil(0.1 * 3 * 10) == 4
    assert prefix_size(0.1 * 3, 10) == 3


@given(st.integers(1, 10**6), st.data())
def test_prefix_size_of_a_count_is_the_count(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size))
    assert prefix_size(count / size, size) == count


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 1000))
def test_prefix_size_rises_within_bounds(one: float, other: float, size: int) -> None:
    low, high = sorted((one, other))
    assert 1 <= prefix_size(low, size) <= prefix_size(high, size) <= size
    assert prefix_size(1.0, size) == size


def test_shrinking_budgets_by_hand() -> None:
    k, found = 100.0, []
    for _ in range(5):
        found.append(shrinking_size(k))
        k *= 0.9
    assert found == [100, 90, 81, 72, 65]
    assert 0.7 / 0.1 < 7
    assert [shrinking_size(k) for k in (0.7 / 0.1, 0.4, 0)] == [7, 1, 1]


def test_shares_by_hand() -> None:
    assert share_sizes(10, 4) == [3, 3, 2, 2]
    assert share_sizes(8, 4) == [2, 2, 2, 2]
    assert share_sizes(2, 3) == [1, 1, 0]
    assert share_sizes(0, 2) == [0, 0]


@given(st.integers(0, 10**6), st.integers(1, 200))
def test_shares_are_as_equal_as_possible(size: int, shares: int) -> None:
    found = share_sizes(size, shares)
    assert (len(found), sum(found)) == (shares, size)
    assert found == sorted(found, reverse=True)
    assert max(found) - min(found) <= 1
    assert found.count(max(found)) in (size % shares, shares)


def test_impossible_sizes_are_refused() -> None:
    for fraction in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"^fraction must be"):
            prefix_size(fraction, 3)
    with pytest.raises(ValueError, match=r"^size must be .* at least 1\. Got 0\."):
        prefix_size(0.5, 0)
    for k in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^k must be"):
            shrinking_size(k)
    with pytest.raises(ValueError, match=r"^shares must be"):
        share_sizes(3, 0)
    with pytest.raises(ValueError, match=r"^size must be"):
        share_sizes(-1, 2)


def test_bengio2009_entropies_of_prefixes_by_hand() -> None:
    """Four samples, prefixes 1, 2, 4: entropies 0, 0.693147, 1.386294."""
    schedule = torch.arange(4) < torch.tensor([1, 2, 4])[:, None]
    shares = schedule / schedule.sum(1, keepdim=True)
    entropies = torch.special.entr(shares).sum(1)
    assert entropies.tolist() == pytest.approx([0, 0.693147, 1.386294], abs=5e-7)
    assert check_curriculum(schedule) is None


@pytest.mark.parametrize(
    ("schedule", "rule", "epoch"),
    [
        ([[1, 0, 0], [0, 1, 1], [1, 1, 1]], r"condition i\)", 1),
        ([[1, 0, 0], [1, 1, 0], [1, 0.9, 1], [1, 1, 1]], r"condition i\)", 2),
        ([[1, 0, 0], [1, 0, 0], [1, 1, 1]], r"condition ii\)", 1),
        ([[0.5, 0, 0], [1, 0, 0], [1, 1, 1]], r"condition ii\)", 1),
        ([[0.5, 0.5, 0.5], [0.5, 0.5, 1], [1, 1, 1]], r"condition ii\)", 1),
        ([[1, 0, 0], [1, 1, 0]], r"condition iii\)", 1),
        ([[0.5, 0, 0], [0.5, 0.4, 0.3]], r"condition iii\)", 1),
        ([[1, 0, 0]], r"condition iii\)", 0),
        ([[0, 0, 0], [1, 1, 1]], "positive for some sample", 0),
    ],
)
def test_bengio2009_conditions_are_named(
    schedule: list[list[float]], rule: str, epoch: int
) -> None:
    with pytest.raises(ValueError, match=rf"^weights must be .*{rule}.* in epoch {epoch}\."):
        check_curriculum(schedule)


def test_bengio2009_accepts_what_has_reached_the_whole() -> None:
    assert check_curriculum([[0.2, 0.1], [0.5, 0.4], [0.5, 0.5], [1, 1], [1, 1]]) is None
    assert check_curriculum([[1, 1]]) is None


def test_what_is_no_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^weights must be of shape \(epochs, samples\)"):
        check_curriculum(torch.ones(3))
    with pytest.raises(ValueError, match=r"^weights must be of shape"):
        check_curriculum(torch.ones(0, 3))
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"^weights must be in \[0, 1\] everywhere"):
            check_curriculum([[value, 1.0], [1.0, 1.0]])
