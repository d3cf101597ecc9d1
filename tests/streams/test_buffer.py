"""SortBuffer: blocks sorted by score, ties as they came, nothing lost."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradatim.streams import SortBuffer
from streams.toy_streams import Plain

values = st.lists(st.tuples(st.integers(0, 3), st.integers()), min_size=1, max_size=30)


def test_each_block_is_sorted_by_itself() -> None:
    """Blocks (5 1 4), (2 9 3), (8)."""
    samples = [5, 1, 4, 2, 9, 3, 8]
    assert list(SortBuffer(Plain(samples), float, size=3)) == [1, 4, 5, 2, 3, 9, 8]
    anti = SortBuffer(Plain(samples), float, size=3, order="anti")
    assert list(anti) == [5, 4, 1, 9, 3, 2, 8]


@pytest.mark.parametrize("order", ["curriculum", "anti"])
def test_ties_stay_as_they_came(order: Any) -> None:
    samples = ["aa", "bb", "c", "dd", "e"]
    found = list(SortBuffer(Plain(samples), len, size=5, order=order))
    short, long = ["c", "e"], ["aa", "bb", "dd"]
    assert found == (short + long if order == "curriculum" else long + short)


@given(values, st.integers(1, 12), st.sampled_from([1, -1]))
def test_blocks_hold_what_they_held_in_the_order_of_a_stable_sort(
    samples: list[tuple[int, int]], size: int, sign: int
) -> None:
    order: Any = "curriculum" if sign == 1 else "anti"
    expected = []
    for start in range(0, len(samples), size):
        expected += sorted(samples[start : start + size], key=lambda sample: sign * sample[0])
    assert list(SortBuffer(Plain(samples), lambda s: s[0], size=size, order=order)) == expected


def test_a_block_of_one_changes_nothing_and_no_more_than_a_block_is_read_ahead() -> None:
    assert list(SortBuffer(Plain([3, 1, 2]), float, size=1)) == [3, 1, 2]
    stream = Plain(list(range(100)))
    next(iter(SortBuffer(stream, float, size=8)))
    assert stream.given == 8


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"size": 0}, ValueError, "size must be a whole number, at least 1. Got 0"),
        ({"size": 2.0}, TypeError, "size must be a whole number, at least 1. Got 2.0"),
        ({"order": "random"}, ValueError, "order must be one of 'curriculum', 'anti'"),
        ({"score": None}, TypeError, "score must be a function of one sample"),
        ({"stream": (1, 2)}, TypeError, "stream must be an iterable data set"),
    ],
)
def test_bad_settings_are_refused_by_name(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    sound: dict[str, Any] = {"stream": Plain([1]), "score": float, "size": 2}
    with pytest.raises(error, match=f"^{message}"):
        SortBuffer(**{**sound, **change})


def test_bad_scores_and_empty_streams_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^score of sample 3 of the stream must be a finite"):
        list(SortBuffer(Plain([0.0, 1.0, 2.0, math.nan]), float, size=2))
    with pytest.raises(ValueError, match=r"^stream must be non-empty"):
        list(SortBuffer(Plain([]), float, size=2))
