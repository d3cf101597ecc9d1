import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from gradatim.compare.efficiency import area_under_curve, first_reached, to_reach


def test_area_by_hand():
    # (0 + 1)/2 * 1 + (1 + 1)/2 * 2 = 2.5, over a range of 3.
    assert area_under_curve([0, 1, 3], [0.0, 1.0, 1.0]) == pytest.approx(2.5 / 3)
    assert area_under_curve([5, 7], [0.2, 0.4]) == pytest.approx(0.3)


def test_area_of_a_range_of_zero_is_the_mean():
    assert area_under_curve([4], [0.7]) == 0.7
    assert area_under_curve([0.0, 0.0], [0.2, 0.4]) == pytest.approx(0.3)


@given(
    st.lists(
        st.tuples(st.floats(0.1, 10), st.floats(-5, 5)),
        min_size=2,
        max_size=10,
    )
)
def test_area_lies_between_the_extremes_and_agrees_with_numpy(pairs):
    x = np.cumsum([step for step, _ in pairs])
    values = [value for _, value in pairs]
    area = area_under_curve(x, values)
    assert min(values) - 1e-9 <= area <= max(values) + 1e-9
    assert area == pytest.approx(trapezoid(values, x) / (x[-1] - x[0]), abs=1e-9)
    # Another unit of x changes nothing.
    assert area_under_curve(60 * x, values) == pytest.approx(area, abs=1e-9)


def test_first_reached_by_hand():
    x, values = [10, 20, 30, 40], [0.5, 0.8, 0.7, 0.9]
    assert first_reached(x, values, 0.8) == 20  # equal is enough, and a later dip does not count
    assert first_reached(x, values, 0.81) == 40  # no line between 30 and 40
    assert first_reached(x, values, 0.1) == 10
    assert first_reached(x, values, 0.95) == math.inf


PLAIN = {
    "steps": [10, 20, 30, 40],
    "samples": [640, 1280, 1920, 2560],
    "seconds": [1.0, 2.0, 3.0, 4.0],
    "validation_score": [0.5, 0.7, 0.8, 0.8],
}


def test_costs_to_plain_trainings_final_score_by_hand():
    # Another grid; it surveys, so it spends samples and seconds faster than steps.
    quick = {
        "steps": [12, 24, 36],
        "samples": [2000, 3000, 4000],
        "seconds": [2.5, 4.5, 6.5],
        "validation_score": [0.6, 0.81, 0.79],
    }
    never = {**PLAIN, "validation_score": [0.5, 0.6, 0.7, 0.79]}
    found = to_reach({"uniform": PLAIN, "quick": quick, "never": never}, PLAIN)
    assert found["uniform"] == {"samples": 1920, "steps": 30, "seconds": 3}
    assert found["quick"] == {"samples": 3000, "steps": 24, "seconds": 4.5}
    assert found["never"] == dict.fromkeys(("samples", "steps", "seconds"), math.inf)


def test_lower_is_better_turns_the_target_round():
    plain = {"steps": [1, 2, 3], "validation_score": [3.0, 2.0, 1.5]}
    other = {"steps": [1, 2, 3], "validation_score": [1.6, 1.5, 9.0]}
    found = to_reach({"a": other}, plain, higher_is_better=False)
    assert found == {"a": {"steps": 2}}


def test_costs_that_a_curve_does_not_know_are_left_out():
    curve = {"steps": [1, 2], "validation_score": [0.1, 0.2]}
    assert to_reach({"a": curve}, curve) == {"a": {"steps": 2}}
    assert to_reach({}, curve) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: area_under_curve([], []), "values must be one per entry of x, at least one"),
        (lambda: area_under_curve([1, 2], [1]), "values must be one per entry of x"),
        (lambda: area_under_curve([2, 1], [1, 1]), "x must be ascending"),
        (lambda: first_reached([1, 2], [1, math.nan], 0.5), "x and values must be finite"),
        (lambda: to_reach({}, {"validation_score": []}), "baseline must be a curve with"),
    ],
)
def test_bad_curves_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
