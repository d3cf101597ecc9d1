"""Analyses of recorded runs (5.5, 15): worked numbers, against SciPy and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from gradatim import analysis

HARD = [9, 8, 7, 1, 2, 3]
OTHER = [9, 1, 8, 2, 7, 3]


def test_zhou2020_figure1_overlaps_by_hand() -> None:
    assert analysis.overlap(HARD, OTHER, m=3) == pytest.approx(2 / 3)
    assert analysis.overlap(HARD, OTHER, m=3, end="bottom") == pytest.approx(2 / 3)


def test_overlap_matrices_show_the_upper_triangle() -> None:
    snapshots = torch.tensor([HARD, OTHER, HARD], dtype=torch.float32)
    found = analysis.overlap_matrix(snapshots, m=3)
    expected = [[1, 2 / 3, 1], [math.nan, 1, 2 / 3], [math.nan, math.nan, 1]]
    np.testing.assert_allclose(found, expected)


def test_zhou2020_figure2_tau_by_hand() -> None:
    found = analysis.agreement([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert (found.tau, found.p_value) == (pytest.approx(0.6), pytest.approx(0.2333, abs=1e-4))
    assert found.chance == 0.2
    assert analysis.agreement([1, 1, 2, 3], [1, 2, 2, 3]).tau == pytest.approx(0.8)


def test_identical_runs_agree_wholly() -> None:
    scores = torch.randn(200, generator=torch.Generator().manual_seed(0))
    found = analysis.agreement(scores, scores.clone())
    assert (found.tau, found.top, found.bottom) == (pytest.approx(1.0), 1.0, 1.0)


def test_unrelated_scores_overlap_as_chance_has_it() -> None:
    """Hypergeometric: m = 200 of N = 1,000, mean share .2, and its deviation over 40 pairs."""
    rng = np.random.default_rng(0)
    shares = [analysis.overlap(*rng.normal(size=(2, 1000))) for _ in range(40)]
    variance = 200 * 0.2 * 0.8 * (800 / 999) / 200**2
    assert np.mean(shares) == pytest.approx(0.2, abs=3 * math.sqrt(variance / 40))


def test_ties_at_the_border_go_to_the_first() -> None:
    assert analysis.overlap([1, 1, 1, 1], [0, 0, 1, 1], m=2) == 0.0
    assert analysis.overlap([1, 1, 1, 1], [1, 1, 0, 0], m=2) == 1.0


@pytest.mark.parametrize(
    ("history", "events"),
    [((1, 0, 0, 1, 0, 1), 2), ((0, 0, 0), math.inf), ((1, 1, 1), 0), ((1, math.nan, 0, 1), 1)],
)
def test_toneva2019_events_by_hand(history: tuple[float, ...], events: float) -> None:
    assert analysis.forgetting_events([[value] for value in history]).tolist() == [events]


def test_what_was_never_seen_has_no_count() -> None:
    found = analysis.forgetting_events([[math.nan, 1], [math.nan, 0]])
    assert math.isnan(found[0])
    assert found[1] == 1


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=3, max_size=3), max_size=9)
)
def test_events_equal_a_plain_loop(history: list[list[float]]) -> None:
    found = analysis.forgetting_events(np.array(history).reshape(-1, 3))
    for sample in range(3):
        seen = [row[sample] for row in history if not math.isnan(row[sample])]
        if not seen:
            assert math.isnan(found[sample])
        elif 1.0 not in seen:
            assert found[sample] == math.inf
        else:
            assert found[sample] == sum(a > b for a, b in itertools.pairwise(seen))


def test_groups_are_followed_from_the_moment_on() -> None:
    record = np.arange(20, dtype=float).reshape(4, 5)
    found = analysis.group_dynamics([5, 1, 4, 2, 3], record, moment=2, m=2)
    assert found.moments.tolist() == [2, 3]
    members = {name: rows.tolist() for name, rows in found.members.items()}
    assert members == {"hard": [0, 2], "rest": [4], "easy": [1, 3]}
    assert found.mean["hard"].tolist() == [11, 16]  # of 10 and 12, of 15 and 17
    assert found.deviation["hard"].tolist() == [1, 1]
    assert found.deviation["rest"].tolist() == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_separation_is_the_area_under_the_curve(pairs: list[tuple[int, bool]]) -> None:
    scores, wrong = [value for value, _ in pairs], [flag for _, flag in pairs]
    if len(set(wrong)) < 2:
        with pytest.raises(ValueError, match="corrupted must be true for some"):
            analysis.separation(scores, wrong)
    else:
        assert analysis.separation(scores, wrong) == pytest.approx(roc_auc_score(wrong, scores))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analysis.overlap([1.0], [1.0, 2.0]), "second must be of 1 samples"),
        (lambda: analysis.overlap([1.0, 2.0], [1.0, 2.0], m=3), "m must be"),
        (lambda: analysis.overlap([1.0, 2.0], [1.0, 2.0], m=1, end="left"), "end must be one of"),
        (lambda: analysis.overlap_matrix([1.0, 2.0]), r"snapshots must be of shape \(T, N\)"),
        (lambda: analysis.overlap_matrix([[math.nan]]), "snapshots must be finite"),
        (lambda: analysis.agreement([], []), "first must be of shape"),
        (lambda: analysis.agreement([1.0, 2.0], [1.0]), "second must be of 2 samples"),
        (lambda: analysis.forgetting_events([1, 0]), "correct must be of shape"),
        (lambda: analysis.forgetting_events([[2.0]]), "correct must be 1, 0 or NaN"),
        (lambda: analysis.group_dynamics([1, 2], [[1, 2]], moment=1), "moment must be"),
        (lambda: analysis.group_dynamics([1, 2], [[1, 2]], moment=0, m=2), "m must be at most"),
        (lambda: analysis.group_dynamics([1, 2], [[1]], moment=0), "record must be of 2 samples"),
        (lambda: analysis.separation([1, 2], [True]), "corrupted must be one per sample"),
    ],
)
def test_bad_input_is_refused_by_name(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
