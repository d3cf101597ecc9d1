"""Paces: Bengio 2009, Spitkovsky 2010, Hacohen 2019, Platanios 2019, Penha 2020, Wu 2021."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gradatim import pacing
from gradatim.pacing import (
    BabySteps,
    Constant,
    Exponential,
    FixedExponential,
    Geometric,
    Linear,
    Logarithmic,
    OnePass,
    Polynomial,
    Root,
    Step,
)
from gradatim.pacing.jumps import Phases
from gradatim.pacing.ramps import Ramp
from gradatim.selection import check_curriculum, prefix_size

RAMPS: list[Any] = [Linear, Root, Geometric, Exponential, Logarithmic, Polynomial]
SHAPES = {Root: "power", Polynomial: "power", Exponential: "steepness", Logarithmic: "steepness"}
EVERY = [
    Linear(start_fraction=0.2, epochs=5),
    Root(start_fraction=0.2, epochs=5, power=3),
    Geometric(start_fraction=0.2, epochs=5),
    Exponential(start_fraction=0.2, epochs=5, steepness=4),
    Logarithmic(start_fraction=0.2, epochs=5, steepness=4),
    Polynomial(start_fraction=0.2, epochs=5, power=0.5),
    Step(start_fraction=0.2, epochs=5),
    FixedExponential(start_fraction=0.2, increase=1.5, every_epochs=1),
    BabySteps(buckets=5),
    OnePass(buckets=5),
    Constant(1.0),
]

fractions = st.floats(0.001, 1)
lengths = st.floats(0.01, 1e4)
shapes = st.floats(0.2, 8)


def build(kind: Any, start: float, epochs: float, shape: float) -> Any:
    own = {SHAPES[kind]: shape} if kind in SHAPES else {}
    return kind(start_fraction=start, epochs=epochs, **own)


def closed_form(kind: Any, start: float, shape: float, x: float) -> float:
    """The table of formulas in extended precision and as printed, without any care."""
    c0, p, x_long = np.longdouble(start), np.longdouble(shape), np.longdouble(x)
    values = {
        Linear: c0 + (1 - c0) * x_long,
        Root: (c0**p + (1 - c0**p) * x_long) ** (1 / p),
        Geometric: np.exp(np.log(c0) * (1 - x_long)),
        Exponential: c0 + (1 - c0) * (np.exp(p * x_long) - 1) / (np.exp(p) - 1),
        Logarithmic: c0 + (1 - c0) * (1 + np.log(x_long + np.exp(-p)) / p),
        Polynomial: c0 + (1 - c0) * x_long**p,
    }
    return min(1.0, float(values[kind]))


@pytest.mark.parametrize(
    ("pace", "by_hand"),
    [
        (Linear(start_fraction=0.01, epochs=100), [0.257500, 0.505000, 0.752500]),
        (Root(start_fraction=0.01, epochs=100), [0.500075, 0.707142, 0.866040]),
        (Root(start_fraction=0.01, epochs=100, power=3), [0.629961, 0.793701, 0.908560]),
        (Geometric(start_fraction=0.01, epochs=100), [0.031623, 0.100000, 0.316228]),
        (Exponential(start_fraction=0.01, epochs=100), [0.010503, 0.016626, 0.091223]),
        (Logarithmic(start_fraction=0.01, epochs=100), [0.862775, 0.931387, 0.971525]),
    ],
    ids=[
        "platanios2019_linear",
        "platanios2019_square_root",
        "platanios2019_cube_root",
        "penha2020_geometric",
        "wu2021_exponential",
        "wu2021_logarithmic",
    ],
)
def test_ramps_by_hand(pace: Any, by_hand: list[float]) -> None:
    assert [pace(t) for t in (25, 50, 75)] == pytest.approx(by_hand, abs=5e-7)
    assert (pace(0), pace(100)) == (0.01, 1.0)


def test_wu2021_polynomial_by_hand() -> None:
    assert Polynomial(start_fraction=0.2, epochs=4)(2) == pytest.approx(0.4, abs=1e-15)
    assert Polynomial(start_fraction=0.2, epochs=4, power=0.5)(1) == pytest.approx(0.6, abs=1e-15)


def test_defaults_are_those_of_the_table() -> None:
    assert Linear() == Linear(start_fraction=0.01, epochs=10)
    assert Root() == Root(start_fraction=0.01, epochs=10, power=2)
    assert Geometric() == Geometric(start_fraction=0.01, epochs=10)
    assert Exponential() == Exponential(start_fraction=0.01, epochs=10, steepness=10)
    assert Logarithmic() == Logarithmic(start_fraction=0.01, epochs=10, steepness=10)
    assert Polynomial() == Polynomial(start_fraction=0.01, epochs=10, power=2)
    assert FixedExponential() == FixedExponential(start_fraction=0.04, increase=1.9)


def test_platanios2019_linear_sizes_of_ten_samples_by_hand() -> None:
    pace = Linear(start_fraction=0.2, epochs=5)
    assert [prefix_size(pace(t), 10) for t in range(6)] == [2, 4, 6, 7, 9, 10]


def test_hacohen2019_fixed_exponential_by_hand() -> None:
    pace = FixedExponential(start_fraction=0.04, increase=1.9, every_epochs=100)
    by_hand = [0.04, 0.076, 0.1444, 0.27436, 0.521284, 0.99044]
    assert [pace(100 * jump) for jump in range(6)] == pytest.approx(by_hand, abs=5e-7)
    assert pace(99.9) == 0.04
    assert pace(600) == 1.0
    assert pace(1e300) == 1.0


def test_hacohen2019_product_that_is_one_on_paper_is_one() -> None:
    """In floats 1 / 49 * 49 is 0.9999999999999999."""
    assert FixedExponential(start_fraction=1 / 49, increase=7, every_epochs=1)(2) == 1.0


def test_spitkovsky2010_baby_steps_by_hand() -> None:
    pace = BabySteps(buckets=4, epochs_per_bucket=2)
    assert [pace(t) for t in range(8)] == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0]
    assert pace(1e6) == 1.0


def test_phases_that_are_due_on_paper_are_not_lost_to_rounding() -> None:
    """0.3 / 0.1 is 2.9999999999999996."""
    assert BabySteps(buckets=4, epochs_per_bucket=0.1)(0.3) == 1.0
    assert FixedExponential(start_fraction=0.1, increase=2, every_epochs=0.1)(0.3) == 0.8


def test_more_phases_than_a_float_can_count_are_all_of_them() -> None:
    assert BabySteps(buckets=3, epochs_per_bucket=1e-200)(1e200) == 1.0
    assert FixedExponential(every_epochs=1e-200)(1e200) == 1.0
    assert OnePass(buckets=3, epochs_per_bucket=1e-200).window(1e200) == (0.0, 1.0)


def test_one_pass_drops_earlier_buckets_and_ends_with_everything() -> None:
    pace = OnePass(buckets=4, epochs_per_bucket=2)
    quarters = [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)]
    assert [pace.window(t) for t in range(8)] == [window for window in quarters for _ in "12"]
    assert pace.window(8) == (0.0, 1.0)
    assert [pace(t) for t in (0, 7.9, 8)] == [0.25, 0.25, 1.0]


def test_step_by_hand() -> None:
    pace = Step(start_fraction=0.3, epochs=2)
    assert [pace(t) for t in (0, 1.999, 2, 9)] == [0.3, 0.3, 1.0, 1.0]


def test_constant_stays() -> None:
    assert {Constant(0.3)(t) for t in (0, 1, 1e9)} == {0.3}


@given(st.sampled_from(RAMPS), fractions, lengths, shapes, st.floats(0, 1e5))
def test_ends_are_exact(kind: Any, start: float, epochs: float, shape: float, more: float) -> None:
    pace = build(kind, start, epochs, shape)
    assert pace(0) == start
    assert pace(epochs) == 1.0
    assert pace(epochs + more) == 1.0


@given(st.sampled_from(RAMPS), fractions, lengths, shapes, st.floats(1e-6, 1, exclude_max=True))
def test_interior_equals_the_closed_form(
    kind: Any, start: float, epochs: float, shape: float, x: float
) -> None:
    t = x * epochs
    assume(t < epochs)
    expected = closed_form(kind, start, shape, t / epochs)
    assert build(kind, start, epochs, shape)(t) == pytest.approx(expected, abs=1e-12)


@given(st.sampled_from(EVERY), st.floats(0, 8), st.floats(0, 8))
def test_paces_never_fall_and_stay_in_range(pace: Any, one: float, other: float) -> None:
    early, late = sorted((one, other))
    assert 0 < pace(early) <= pace(late) + 1e-12
    assert pace(late) <= 1


@given(fractions, lengths, st.floats(0, 2))
def test_root_one_is_linear(start: float, epochs: float, x: float) -> None:
    root, linear = (kind(start_fraction=start, epochs=epochs) for kind in (Root, Linear))
    root = dataclasses.replace(root, power=1)
    assert root(x * epochs) == pytest.approx(linear(x * epochs), abs=1e-12)


@given(st.floats(0.001, 0.9), st.floats(0.01, 0.99), st.floats(1.1, 8))
def test_root_lies_above_linear_and_linear_above_geometric(
    start: float, t: float, power: float
) -> None:
    ends = {"start_fraction": start, "epochs": 1}
    assert Root(**ends, power=power)(t) > Linear(**ends)(t) > Geometric(**ends)(t)


def test_root_of_another_power_is_no_square_root() -> None:
    """A published toolkit takes the square root whatever the power (D8)."""
    pace = Root(start_fraction=0.1, epochs=7, power=3)
    assert pace(0) == 0.1
    assert pace(3.5) == pytest.approx(0.5005 ** (1 / 3), abs=1e-12)


@given(st.floats(0.01, 1, exclude_max=True))
def test_extreme_shapes_reach_their_limits(t: float) -> None:
    ends = {"start_fraction": 0.2, "epochs": 1}
    geometric, linear = Geometric(**ends)(t), Linear(**ends)(t)
    assert Root(**ends, power=1e-12)(t) == pytest.approx(geometric, abs=1e-9)
    assert Exponential(**ends, steepness=1e-12)(t) == pytest.approx(linear, abs=1e-9)
    steep = Exponential(**ends, steepness=1e6)(t)
    assert steep == pytest.approx(0.2 + 0.8 * math.exp(-1e6 * (1 - t)), abs=1e-9)
    assert Logarithmic(**ends, steepness=1e6)(t) == pytest.approx(1.0, abs=1e-5)
    assert Root(**ends, power=1e6)(t) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("pace", EVERY, ids=repr)
def test_the_shortest_time_after_the_start_is_still_the_start(pace: Any) -> None:
    assert pace(5e-324) == pytest.approx(pace(0), abs=1e-12)


def test_logarithmic_is_held_at_one_where_its_formula_passes_it() -> None:
    """1 + log(x + e^-a) / a is above 1 for x > 1 - e^-a."""
    pace = Logarithmic(start_fraction=0.2, epochs=1, steepness=1)
    assert pace(0.5) < 1
    assert [pace(t) for t in (0.64, 0.9)] == [1.0, 1.0]


@pytest.mark.parametrize("pace", EVERY, ids=repr)
def test_paces_rebuild_compare_hash_and_travel(pace: Any) -> None:
    rebuilt = eval(repr(pace), vars(pacing).copy())
    assert rebuilt == pace
    assert hash(rebuilt) == hash(pace)
    assert pickle.loads(pickle.dumps(pace)) == pace
    assert copy.deepcopy(pace) == pace
    first = dataclasses.fields(pace)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(pace, first, 0.5)
    other = 7 if first == "buckets" else 0.77
    assert dataclasses.replace(pace, **{first: other}) != pace


def test_paces_of_different_kind_differ() -> None:
    assert len(set(EVERY)) == len(EVERY)
    assert Linear() != Geometric()


def test_numpy_numbers_do_not_spoil_the_repr() -> None:
    pace = Linear(start_fraction=np.float64(0.5), epochs=np.int64(3))  # pyright: ignore
    assert repr(pace) == "Linear(start_fraction=0.5, epochs=3.0)"


def test_paces_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        Linear(0.5, 10)  # pyright: ignore


BAD = [
    *[(kind, "start_fraction", value) for kind in RAMPS for value in (0, -0.1, 1.1, math.nan)],
    *[(kind, "epochs", value) for kind in RAMPS for value in (0, -1, math.inf)],
    *[(kind, name, value) for kind, name in SHAPES.items() for value in (0, -1, math.nan)],
    (Step, "start_fraction", 0),
    (Step, "epochs", 0),
    (FixedExponential, "start_fraction", 0),
    (FixedExponential, "increase", 1),
    (FixedExponential, "every_epochs", 0),
    (BabySteps, "buckets", 0),
    (BabySteps, "epochs_per_bucket", 0),
    (OnePass, "buckets", 0),
    (OnePass, "epochs_per_bucket", 0),
    (Constant, "fraction", 0),
    (Constant, "fraction", 1.5),
]


@pytest.mark.parametrize(("kind", "name", "value"), BAD)
def test_impossible_parameters_are_refused_by_name(kind: Any, name: str, value: float) -> None:
    needed = {
        Step: {"start_fraction": 0.5},
        BabySteps: {"buckets": 2},
        OnePass: {"buckets": 2},
        Constant: {"fraction": 0.5},
    }.get(kind, {})
    with pytest.raises(ValueError, match=rf"^{name} must be .* Got {value}\.$"):
        kind(**{**needed, name: value})


@pytest.mark.parametrize("value", [True, "0.5", None])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^start_fraction must be a finite number"):
        Linear(start_fraction=value)
    with pytest.raises(TypeError, match=r"^buckets must be a whole number"):
        BabySteps(buckets=value)


@pytest.mark.parametrize("pace", EVERY, ids=repr)
def test_time_before_the_start_is_refused(pace: Any) -> None:
    for t in (-1, -1e-9, math.nan):
        with pytest.raises(ValueError, match=r"^t must be a finite number, at least 0"):
            pace(t)
    if isinstance(pace, OnePass):
        with pytest.raises(ValueError, match=r"^t must be"):
            pace.window(-1)


@pytest.mark.parametrize("kind", RAMPS)
def test_bengio2009_conditions_hold_for_every_ramp(kind: Any) -> None:
    """Subset schedules are nested, gain entropy while sizes grow, and end with everything."""
    size, pace = 1000, build(kind, 0.05, 6, 2.0)
    visible = [prefix_size(pace(t), size) for t in range(8)]
    assert visible[0] == 50
    assert visible[-2:] == [size, size]
    schedule = torch.arange(size) < torch.tensor(visible)[:, None]
    assert check_curriculum(schedule) is None


@given(st.sampled_from(EVERY), st.integers(1, 50), st.floats(0, 20))
def test_visible_size_never_falls_below_its_bounds(pace: Any, size: int, t: float) -> None:
    """Rounding down below the minimum is a known defect elsewhere (D26)."""
    visible = prefix_size(pace(t), size)
    assert 1 <= visible <= size
    assert visible >= min(size, pace(t) * size - 1e-6)


def test_what_paces_share_is_abstract() -> None:
    for kind, arguments in ((Ramp, {}), (Phases, {"buckets": 2})):
        with pytest.raises(TypeError, match="abstract"):
            kind(**arguments)
