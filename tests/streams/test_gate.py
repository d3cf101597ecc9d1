"""DifficultyGate: what passes and when, by hand and against the definition."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import gradatim as gr
from gradatim.streams import DifficultyGate
from gradatim.streams.ranks import ScoreReservoir
from streams.toy_streams import Plain, numbers

scores = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


def gate(samples: list[Any], score: Any = float, **options: Any) -> DifficultyGate:
    return DifficultyGate(Plain(samples), score, **options)


# --- Thresholds ---------------------------------------------------------------------------------


def test_a_constant_threshold_lets_equal_scores_pass() -> None:
    assert list(gate([3, 1, 2, 5, 3, 4], threshold=3)) == [3, 1, 2, 3]


def test_a_pair_of_thresholds_is_crossed_in_a_line_over_items() -> None:
    """a + (b - a) n / items: 1, 2, 3, 4, 5, 5, 5 before samples 0 to 6."""
    found = gate([1, 3, 3, 4, 6, 5, 6], threshold=(1, 5), items=4)
    assert [found.allowed(n) for n in range(7)] == [1, 2, 3, 4, 5, 5, 5]
    assert list(found) == [1, 3, 4, 5]


def test_a_threshold_may_be_any_function_of_the_samples_read() -> None:
    found = gate([5, 5, 5, 5], threshold=lambda n: math.inf if n == 2 else 4)
    assert list(found) == [5]
    assert (found.items_read, found.passed) == (4, 1)


def test_hard_first_turns_the_threshold_round() -> None:
    """9, 7, 5, 3, 1 before samples 0 to 4."""
    falling = gate([9, 5, 4, 3, 1], threshold=(9, 1), items=4, order="anti")
    assert list(falling) == [9, 3, 1]


def test_progress_goes_on_over_passes() -> None:
    """1, 1.5; 2, 2.5; 3, 3 before the samples of three passes."""
    found = gate([1, 2], threshold=(1, 3), items=4)
    assert [list(found) for _ in range(3)] == [[1], [1, 2], [1, 2]]
    assert (found.items_read, found.passed) == (6, 5)


def test_samples_are_passed_on_as_they_are() -> None:
    samples = [{"length": 3, "text": "abc"}, {"length": 9, "text": "abcdefghi"}]
    (kept,) = gate(samples, lambda sample: sample["length"], threshold=5)
    assert kept is samples[0]


# --- Paces --------------------------------------------------------------------------------------


def test_a_sample_passes_by_its_rank_among_the_scores_before_it() -> None:
    """#{kept < s} < ceil(m' / 2), with m' = 1, 2, 3, ... scores, this one included.

    5: 0 < 1. 1: 0 < 1. 4: 1 < 2. 2: 1 < 2. 9: 4 < 3 not. 3: 2 < 3. 8: 5 < 4 not. 7: 5 < 4 not.
    """
    assert list(gate([5, 1, 4, 2, 9, 3, 8, 7], pace=lambda n: 0.5)) == [5, 1, 4, 2, 3]


def test_the_hardest_fraction_passes_with_the_order_turned_round() -> None:
    samples = [5, 1, 4, 2, 9, 3, 8, 7]
    hard = list(gate(samples, pace=lambda n: 0.5, order="anti"))
    assert hard == list(gate(samples, lambda sample: -sample, pace=lambda n: 0.5))
    assert hard == [5, 4, 9, 8, 7]


def test_a_pace_is_asked_for_the_samples_read_before() -> None:
    asked: list[float] = []

    def pace(n: float) -> float:
        asked.append(n)
        return 1.0

    list(gate([3, 1, 2], pace=pace))
    assert asked == [0.0, 1.0, 2.0]


@given(scores)
def test_everything_passes_an_open_gate(values: list[int]) -> None:
    assert list(gate(values, pace=lambda n: 1.0, memory=3)) == values
    assert list(gate(values, threshold=5)) == values


@given(scores, st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.sampled_from(["curriculum", "anti"]))
def test_with_room_for_all_scores_ranks_are_those_of_the_definition(
    values: list[int], fraction: float, order: Any
) -> None:
    """Property: #{before < s} < ceil(c (m + 1)), m the samples before."""
    sign = 1 if order == "curriculum" else -1
    expected = [
        value
        for place, value in enumerate(values)
        if sum(sign * other < sign * value for other in values[:place])
        < math.ceil(fraction * (place + 1) - 1e-9)
    ]
    assert list(gate(values, pace=lambda n: fraction, order=order, memory=50)) == expected


def test_a_pace_of_ours_is_built_with_counts_of_samples() -> None:
    """c rises from .1 to 1 over 2,000 samples: .55 of them pass, then all."""
    values = numbers(4000)
    pace = gr.pacing.Linear(start_fraction=0.1, epochs=2000)
    passed = set(gate(values, pace=pace, memory=256))
    early, late = values[:2000], values[2000:]
    assert abs(sum(value in passed for value in early) / 2000 - 0.55) < 0.05
    assert all(value in passed for value in late)


def test_in_the_long_run_the_fraction_of_the_pace_passes() -> None:
    """Of 8,000 scores the .3-quantile is estimated from 512: two deviations are .04."""
    values = numbers(8000, seed=3)
    passed = list(gate(values, pace=lambda n: 0.3, memory=512, seed=1))
    assert abs(len(passed) / 8000 - 0.3) < 2 * 0.5 / math.sqrt(512)
    assert sum(value < 2400 for value in passed) / len(passed) > 0.9


def test_a_pace_with_a_window_hides_the_easiest_too() -> None:
    """Window (.5, 1]: of m' scores the ranks from ceil(m' / 2) on, but never none of them.

    m' = 1: ranks 0 to 0; 2: 1; 3: 2; 4: 2 to 3; 5: 3 to 4.
    """

    class UpperHalf:
        def __call__(self, t: float) -> float:
            return 1.0

        def window(self, t: float) -> tuple[float, float]:
            return 0.5, 1.0

    assert list(gate([1, 2, 0, 9, 2], pace=UpperHalf())) == [1, 2, 9]


# --- The reservoir ------------------------------------------------------------------------------


def test_every_score_is_kept_equally_often() -> None:
    """Algorithm R: 4 of 20 kept, over 2,000 seeds 400 each; five deviations are 90."""
    kept = torch.zeros(20)
    for seed in range(2000):
        reservoir = ScoreReservoir(4, seed=seed)
        for score in range(20):
            reservoir.add(float(score))
        kept[[int(score) for score in reservoir.state_dict()["scores"]]] += 1
    assert kept.sum() == 8000
    assert float((kept - 400).abs().max()) < 5 * math.sqrt(2000 * 0.2 * 0.8)


@given(scores, st.integers(1, 6), st.integers(0, 3))
def test_memory_is_bounded_and_order_kept(values: list[int], size: int, seed: int) -> None:
    reservoir = ScoreReservoir(size, seed=seed)
    for value in values:
        reservoir.add(float(value))
    kept = reservoir.state_dict()["scores"]
    assert reservoir.count == len(kept) == min(size, len(values))
    for probe in range(-6, 7):
        assert reservoir.below(probe) == sum(score < probe for score in kept)
        assert reservoir.above(probe) == sum(score > probe for score in kept)


# --- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"threshold": None}, ValueError, "threshold or pace must be given, one of them. Got neither"),  # noqa: E501
        ({"pace": lambda n: 1.0}, ValueError, "threshold or pace must be given, one of them. Got both"),  # noqa: E501
        ({"threshold": None, "pace": 0.5}, TypeError, "pace must be callable"),
        ({"threshold": math.nan}, ValueError, "threshold must be a finite number. Got nan"),
        ({"threshold": "low"}, TypeError, "threshold must be a finite number. Got 'low'"),
        ({"threshold": (1, 2, 3)}, ValueError, "threshold must be a number, a pair or a function"),
        ({"threshold": (1, 2)}, ValueError, "items must be given for a pair of thresholds"),
        ({"threshold": (1, math.inf), "items": 3}, ValueError, r"threshold\[1\] must be a finite"),
        ({"items": 3}, ValueError, "items must be left out without a pair"),
        ({"threshold": (1, 2), "items": 0}, ValueError, "items must be a whole number, at least 1"),
        ({"order": "hard"}, ValueError, "order must be one of 'curriculum', 'anti'"),
        ({"memory": 0}, ValueError, "memory must be a whole number, at least 1"),
        ({"seed": -1}, ValueError, "seed must be a whole number, at least 0"),
        ({"sharded": 1}, TypeError, "sharded must be True or False"),
        ({"reread": None}, TypeError, "reread must be True or False"),
        ({"score": "length"}, TypeError, "score must be a function of one sample that gives a number. Got 'length'. Did you mean operator.itemgetter"),  # noqa: E501
        ({"stream": [1, 2]}, TypeError, "stream must be an iterable data set, .* Got list. It has positions: gradatim.Predefined"),  # noqa: E501
        ({"stream": iter([1])}, TypeError, "stream must be an iterable data set, .* An iterator ends for good"),  # noqa: E501
        ({"stream": DataLoader([1])}, TypeError, "stream must be an iterable data set, .* A loader gives batches"),  # noqa: E501
        ({"stream": 7}, TypeError, "stream must be an iterable data set, to be iterated anew for each pass. Got int"),  # noqa: E501
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    sound: dict[str, Any] = {"stream": Plain([1]), "score": float, "threshold": 1}
    with pytest.raises(error, match=f"^{message}"):
        DifficultyGate(**{**sound, **change})


@pytest.mark.parametrize(
    ("value", "error", "got"),
    [
        (math.nan, ValueError, "nan"),
        (torch.tensor(math.nan), ValueError, "nan"),
        (-math.inf, ValueError, "-inf"),
        ("long", TypeError, "'long'"),
        (None, TypeError, "None"),
        (True, TypeError, "True"),
        (torch.zeros(2), TypeError, "tensor"),
    ],
)
def test_a_score_that_is_no_finite_number_names_its_sample(
    value: Any, error: type[Exception], got: str
) -> None:
    found = gate([0, 1, 2, 3], lambda sample: value if sample == 2 else sample, threshold=9)
    message = f"^score of sample 2 of the stream must be a finite number. Got {got}"
    with pytest.raises(error, match=message):
        list(found)


def test_scores_may_be_numbers_of_any_library() -> None:
    import numpy as np

    for kind in (int, np.float32, np.asarray, torch.tensor, lambda n: torch.tensor([float(n)])):
        assert list(gate([1, 5, 2], kind, threshold=3)) == [1, 2]


def test_what_a_function_gives_is_checked_when_it_gives_it() -> None:
    with pytest.raises(ValueError, match=r"^threshold\(n\) must be a number. Got nan"):
        list(gate([1], threshold=lambda n: math.nan))
    for wrong in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"^pace\(n\) must be a finite number, above 0"):
            list(gate([1], pace=lambda n, wrong=wrong: wrong))


def test_a_stream_that_is_dry_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^stream must be non-empty. Got no sample in a first"):
        list(gate([], threshold=1))


def test_a_pass_in_which_nothing_passed_is_refused_if_nothing_ever_did() -> None:
    with pytest.raises(ValueError, match=r"^threshold must be such that .* Got none of 3 samples"):
        list(gate([4, 5, 6], threshold=3))
    later = gate([1], threshold=lambda n: 1 - n)
    assert [list(later), list(later)] == [[1], []]
