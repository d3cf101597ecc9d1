"""What the papers' figures show, as arrays (5.5, 6, 15): worked numbers and missing values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradatim import analysis
from gradatim.analysis import hardness_figures as data
from gradatim.analysis.selection_figures import selection_dynamics

NAN = math.nan
HARD, OTHER = [9, 8, 7, 1, 2, 3], [9, 1, 8, 2, 7, 3]


def test_flips_by_hand() -> None:
    found = data.flips([[1, 0, NAN], [0, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(found, [[NAN] * 3, [1, 0, NAN], [1, 1, 0]])


def test_bands_leave_out_what_is_missing() -> None:
    found = data.band([[1, 3, NAN, 9], [NAN, NAN, NAN, 9]], [True, True, True, False])
    np.testing.assert_array_equal(found.mean, [2, NAN])
    np.testing.assert_array_equal(found.deviation, [1, NAN])


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=9))
def test_bands_are_mean_and_deviation(values: list[float]) -> None:
    found = data.band([values])
    assert found.mean[0] == pytest.approx(np.mean(values), abs=1e-12)
    assert found.deviation[0] == pytest.approx(np.std(values), abs=1e-9)


def test_zhou2020_figure2_groups_are_followed_from_the_row_on() -> None:
    hardness = [[9, 9, 9, 9, 9], [5, 1, NAN, 2, 3], [0, 0, 0, 0, 0]]
    record = [[0] * 5, [10, 11, 12, 13, 14], [20, 21, 22, 23, 24]]
    found = data.groups_from(hardness, record, row=1, m=1)
    assert found.moments.tolist() == [1, 2]
    assert {name: rows.tolist() for name, rows in found.members.items()} == {
        "hard": [0],
        "rest": [3, 4],
        "easy": [1],
    }
    assert found.mean["rest"].tolist() == [13.5, 23.5]
    assert found.deviation["rest"].tolist() == [0.5, 0.5]


def test_zhou2020_figure3_overlaps_by_hand() -> None:
    rows = [[0] * 6, HARD, [0] * 6, OTHER, HARD]
    found = data.overlaps(rows, every=2, m=3)
    assert found.rows.tolist() == [1, 3]
    np.testing.assert_allclose(found.top, [[1, 2 / 3], [NAN, 1]])
    np.testing.assert_allclose(found.bottom, [[1, 2 / 3], [NAN, 1]])
    assert found.chance == 0.5
    assert found.tied == (1 / 6, 1 / 6)


def test_ties_share_no_more_than_chance() -> None:
    """All but 10 of 1,000 tie: 200 easiest of 990 are drawn by lot, not by their place."""
    row = np.zeros(1000)
    row[:10] = 1
    found = data.overlaps([row, row], every=1)
    assert found.bottom[0, 1] == pytest.approx(200 / 990, abs=0.08)
    assert found.tied == (0.99, 0.99)
    repeated = data.overlaps([row, row], every=1)
    np.testing.assert_array_equal(found.bottom, repeated.bottom)


def test_groups_of_ties_do_not_follow_the_order_of_storage() -> None:
    """Stored class by class, "the first fifth" would be two of ten classes."""
    found = data.groups_from(np.zeros((1, 1000)), np.zeros((1, 1000)), row=0)
    classes = np.bincount(found.members["hard"] // 100, minlength=10)
    assert classes.min() > 0


def test_zhou2020_figure4_extremes_come_from_the_ends() -> None:
    hardness = np.arange(100.0)
    hardness[50] = NAN
    found = data.extremes(hardness, count=5, m=10)
    assert len(set(found.hard)) == len(set(found.easy)) == 5
    assert set(found.hard) <= set(range(90, 100))
    assert set(found.easy) <= set(range(10))
    assert np.array_equal(found.hard, data.extremes(hardness, count=5, m=10).hard)


def test_fewer_extremes_than_asked_where_there_are_fewer() -> None:
    found = data.extremes([3.0, 1.0, 2.0, 5.0, 4.0], count=10)
    assert (found.hard.tolist(), found.easy.tolist()) == ([3], [1])


def test_zhou2020_figure5_agreement_by_hand() -> None:
    first, second = [[1, 2, 3, 4, 5], [1] * 5], [[2, 1, 4, 3, 5], [1, 2, 3, 4, 5]]
    found = data.agreement_curves(first, second, m=2)
    np.testing.assert_allclose(found.tau, [0.6, NAN])
    np.testing.assert_allclose(found.p_value, [0.2333, NAN], atol=1e-4)
    np.testing.assert_allclose(found.top, [0.5, NAN])
    np.testing.assert_allclose(found.bottom, [1, NAN])
    assert found.chance == 0.4


def test_agreement_is_about_samples_that_both_runs_observed() -> None:
    first, second = [[1, 2, 3, 4, NAN]], [[1, 2, 3, NAN, 0]]
    assert data.agreement_curves(first, second, m=1).tau.tolist() == [pytest.approx(1.0)]


def test_separation_by_epoch_equals_separation() -> None:
    rows = np.array([[0.1, 0.4, 0.35, 0.8], [1, 2, NAN, 0], [1, 2, NAN, NAN]])
    wrong = np.array([False, False, True, True])
    found = data.separation_curve(rows, wrong)
    assert found[:2].tolist() == [analysis.separation(rows[0], wrong), 0.0]
    assert math.isnan(found[2])


def test_toneva2019_histogram_by_hand() -> None:
    """Events 2, infinity, 0 and (never observed) none."""
    history = [[1, 0, 1, NAN], [0, 0, 1, NAN], [0, 0, 1, NAN], [1, 0, 1, NAN], [0, 0, 1, NAN]]
    counts, never = data.event_counts(history)
    assert (counts.tolist(), never) == ([1, 0, 1], 1)
    counts, never = data.event_counts(history, [False, True, False, True])
    assert (counts.tolist(), never) == ([], 1)


def test_zhou2021_figures_follow_selected_and_unselected_by_hand() -> None:
    members = [[True, False, False, False, False], [False, False, False, False, True]]
    score = [[5, 1, 1, 1, 1], [1, 1, 1, 1, 7]]
    objective = [[9, 4, 3, 2, 1], [4, 3, NAN, 1, 9]]
    probability = [[0.0, 0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1, 0.0]]
    found = selection_dynamics(score, objective, probability, members, m=2)
    assert found.selected_score.mean.tolist() == [5, 7]
    assert found.objective["largest"].mean.tolist() == [3.5, 4]
    assert found.objective["smallest"].mean.tolist() == [1.5, 1]
    assert found.objective["largest"].deviation.tolist() == [0.5, 0]
    np.testing.assert_allclose(found.probability["largest"].mean, [0.35, 0.4])
    np.testing.assert_allclose(found.probability["smallest"].mean, [0.15, 0.1])


def test_where_all_are_selected_there_is_no_group() -> None:
    one = np.ones((1, 3))
    found = selection_dynamics(one, one, one, one.astype(bool))
    assert math.isnan(found.objective["largest"].mean[0])


TWO: Any = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.flips([1, 0]), r"correct must be of shape \(T, N\)"),
        (lambda: data.observed_samples([[NAN, NAN]]), "records must be of samples that were obs"),
        (lambda: data.groups_from(TWO, TWO[:1], row=0), r"record must be of shape \(2, 3\)"),
        (lambda: data.groups_from(TWO, TWO, row=2), "row must be"),
        (lambda: data.overlaps(TWO, every=3), "every must be"),
        (lambda: data.overlaps(TWO, every=1, m=4), "m must be"),
        (lambda: data.extremes(TWO), r"hardness must be of shape \(N,\)"),
        (lambda: data.extremes(TWO[0], count=0), "count must be"),
        (lambda: data.agreement_curves(TWO, TWO[:1]), r"second must be of shape \(2, 3\)"),
        (lambda: data.separation_curve(TWO, [True]), "corrupted must be one per sample: 3"),
        (lambda: selection_dynamics(TWO, TWO[:1], TWO, TWO), r"objective must be of shape \(2"),
        (lambda: selection_dynamics(TWO, TWO, TWO, TWO[:1]), r"members must be of shape \(2"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
