"""Self-paced weights: Kumar et al. 2010; Jiang et al. 2014 and 2015; Zhao et al. 2015."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradatim import weighting

LOSSES = (0.1, 0.3, 0.5, 0.9)

losses_strategy = st.lists(st.floats(0, 50, allow_subnormal=False), min_size=1, max_size=30)
thresholds_strategy = st.floats(1e-3, 60)


def as_losses(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Worked numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.5, torch.tensor(0.5, dtype=torch.float64)])
def test_kumar2010_eq4_hard_weights_by_hand(threshold: float | torch.Tensor) -> None:
    weights = weighting.hard(as_losses(LOSSES), threshold)
    assert weights.tolist() == [1, 1, 1, 0]


def test_kumar2010_eq4_tie_is_included_also_after_rounding_to_float32() -> None:
    # 0.1 as float32 is larger than 0.1 as float64.
    assert weighting.hard(torch.tensor([0.1]), 0.1).tolist() == [1]


SOFT: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], list[float]]] = {
    "linear": (lambda x: weighting.linear(x, 0.5), [0.8, 0.4, 0, 0]),
    "logarithmic": (lambda x: weighting.logarithmic(x, 0.5), [0.736966, 0.321928, 0, 0]),
    "mixture": (lambda x: weighting.mixture(x, upper=0.8, lower=0.2), [1, 0.555556, 0.2, 0]),
    "polynomial t=3": (
        lambda x: weighting.polynomial(x, 0.5, power=3),
        [0.894427, 0.632456, 0, 0],
    ),
    "polynomial t=1.5": (lambda x: weighting.polynomial(x, 0.5, power=1.5), [0.64, 0.16, 0, 0]),
    "logistic": (lambda x: weighting.logistic(x, 0.5), [0.961810, 0.883325, 0.803265, 0.644721]),
    "root_mixture": (
        lambda x: weighting.root_mixture(x, threshold=0.8, gamma=0.5),
        [0.956139, 0.287871, 0.082107, 0],
    ),
}


@pytest.mark.parametrize("name", SOFT)
def test_jiang2014easy_soft_weights_by_hand(name: str) -> None:
    weigh, expected = SOFT[name]
    weights = weigh(as_losses(LOSSES))
    assert weights.tolist() == pytest.approx(expected, abs=5e-7)


def test_logarithmic_weight_is_not_monotone_in_the_threshold() -> None:
    loss = as_losses([0.3])
    weights = [weighting.logarithmic(loss, threshold).item() for threshold in (0.5, 0.99)]
    assert weights == pytest.approx([0.322, 0.254], abs=5e-4)


def test_kumar2010_hard_objective_equals_clipped_losses_by_hand() -> None:
    losses = as_losses(LOSSES)
    weights = weighting.hard(losses, 0.5)
    parts = weights * losses - 0.5 * weights
    assert parts.tolist() == pytest.approx([-0.4, -0.2, 0, 0], abs=1e-15)


# The minimiser property: weights against a grid search of v l + f(v) ------------------------


def log_regulariser(v: np.ndarray, threshold: float) -> np.ndarray:
    zeta = 1 - threshold
    return zeta * v - zeta**v / np.log(zeta)


def mixture_regulariser(v: np.ndarray, upper: float, lower: float) -> np.ndarray:
    zeta = upper * lower / (upper - lower)
    return -zeta * np.log(v + zeta / upper)


REGULARISED: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable]] = {
    "hard": (lambda x: weighting.hard(x, 0.5), lambda v: -0.5 * v),
    "linear": (lambda x: weighting.linear(x, 0.7), lambda v: 0.7 * (v**2 / 2 - v)),
    "logarithmic": (lambda x: weighting.logarithmic(x, 0.8), lambda v: log_regulariser(v, 0.8)),
    "mixture": (
        lambda x: weighting.mixture(x, upper=0.8, lower=0.2),
        lambda v: mixture_regulariser(v, 0.8, 0.2),
    ),
    "root_mixture": (
        lambda x: weighting.root_mixture(x, threshold=0.8, gamma=0.5),
        lambda v: 0.25 / (v + 0.5 / 0.8),
    ),
    "polynomial t=3": (
        lambda x: weighting.polynomial(x, 0.6, power=3),
        lambda v: 0.6 * (v**3 / 3 - v),
    ),
    "polynomial t=1.5": (
        lambda x: weighting.polynomial(x, 0.6, power=1.5),
        lambda v: 0.6 * (v**1.5 / 1.5 - v),
    ),
}


@pytest.mark.parametrize("name", REGULARISED)
def test_weights_minimise_the_regularised_loss_on_a_grid(name: str) -> None:
    weigh, regulariser = REGULARISED[name]
    grid = np.linspace(0, 1, 200_001)
    penalty = regulariser(grid)
    losses = np.array([0.0, 0.03, 0.11, 0.199, 0.21, 0.32, 0.45, 0.59, 0.69, 0.81, 1.5])
    best = [grid[np.argmin(grid * loss + penalty)] for loss in losses]
    weights = weigh(torch.from_numpy(losses))
    assert np.abs(weights.numpy() - best).max() < 1e-5


@given(losses_strategy, thresholds_strategy)
def test_kumar2010_hard_objective_is_the_sum_of_clipped_losses(
    values: list[float], threshold: float
) -> None:
    losses = as_losses(values)
    weights = weighting.hard(losses, threshold)
    objective = (weights * (losses - threshold)).sum().item()
    clipped = sum(min(value, threshold) for value in values) - len(values) * threshold
    assert objective == pytest.approx(clipped, abs=1e-9)


# What holds for all inputs -------------------------------------------------------------------

FORMS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "hard": weighting.hard,
    "linear": weighting.linear,
    "polynomial t=3": lambda x, t: weighting.polynomial(x, t, power=3),
    "polynomial t=1.2": lambda x, t: weighting.polynomial(x, t, power=1.2),
    "logistic": weighting.logistic,
    "mixture": lambda x, t: weighting.mixture(x, upper=2 * t, lower=t),
    "root_mixture": lambda x, t: weighting.root_mixture(x, threshold=t, gamma=0.7),
    "logarithmic": lambda x, t: weighting.logarithmic(x / 60, t / 61),
}


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=40)
@given(values=losses_strategy, threshold=thresholds_strategy)
def test_weights_fall_with_the_loss_within_zero_and_one(
    name: str, values: list[float], threshold: float
) -> None:
    losses = as_losses([0.0, *sorted(values)])
    weights = FORMS[name](losses, threshold)
    assert weights[0] == 1
    assert (weights[1:] <= weights[:-1] + 1e-12).all()
    assert ((weights >= 0) & (weights <= 1)).all()


@pytest.mark.parametrize("name", sorted(set(FORMS) - {"logarithmic"}))
@settings(max_examples=40)
@given(values=losses_strategy, threshold=thresholds_strategy, growth=st.floats(1, 10))
def test_weights_rise_with_the_threshold(
    name: str, values: list[float], threshold: float, growth: float
) -> None:
    losses = as_losses(values)
    lower, higher = (FORMS[name](losses, t) for t in (threshold, threshold * growth))
    assert (higher >= lower - 1e-12).all()


@given(losses_strategy, thresholds_strategy)
def test_polynomial_of_power_two_is_linear(values: list[float], threshold: float) -> None:
    losses = as_losses(values)
    linear = weighting.linear(losses, threshold)
    assert torch.equal(weighting.polynomial(losses, threshold, power=2), linear)
    assert torch.equal(weighting.polynomial(losses, threshold), linear)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [1e-50, 1e-30, 1e-6, 0.3, 0.999, 1 - 1e-9, 1 - 1e-16])
def test_trap16_logarithmic_weights_are_never_nan(dtype: torch.dtype, threshold: float) -> None:
    losses = torch.tensor([0, 1e-7, 0.3, 0.9999, 1, 5, 1e4], dtype=dtype)
    weights = weighting.logarithmic(losses, threshold)
    assert weights[0] == 1
    assert weights[-3:].tolist() == [0, 0, 0]
    assert ((weights >= 0) & (weights <= 1)).all()


def test_logarithmic_keeps_the_digits_of_a_small_threshold() -> None:
    # To first order in lambda the form is linear; 1 - 1e-6 in float32 has lost 2 % of 1e-6.
    losses = torch.tensor([0.25e-6, 0.5e-6])
    assert weighting.logarithmic(losses, 1e-6).tolist() == pytest.approx([0.75, 0.5], rel=1e-5)


@pytest.mark.parametrize("name", ["hard", "linear", "polynomial", "logistic", "root_mixture"])
def test_d9b_an_infinite_threshold_is_plain_training_to_the_bit(name: str) -> None:
    losses = torch.tensor([0.0, 0.1, 2.3, 17.0])
    if name == "root_mixture":
        weights = weighting.root_mixture(losses, threshold=math.inf, gamma=10.0)
    else:
        weights = getattr(weighting, name)(losses, math.inf)
    assert torch.equal(weights, torch.ones(4))
    assert torch.equal((weights * losses).mean(), losses.mean())


def test_d9b_weights_approach_one_as_the_threshold_grows() -> None:
    losses = torch.tensor([0.1, 2.3, 5.0])
    for name in ("linear", "polynomial", "logistic"):
        assert getattr(weighting, name)(losses, 1e6).min() > 0.99999


def test_negative_losses_weigh_one_in_forms_that_admit_them() -> None:
    losses = torch.tensor([-3.0, -0.1])
    for weigh in (weighting.hard, weighting.linear, weighting.logistic):
        assert weigh(losses, 0.5).tolist() == [1, 1]


def test_root_mixture_has_its_corners_where_the_paper_has_them() -> None:
    full = (0.8 * 0.5 / 1.3) ** 2
    losses = as_losses([full * (1 - 1e-9), full * (1 + 1e-3), 0.64 * (1 - 1e-3), 0.64])
    inside = weighting.root_mixture(losses, threshold=0.8, gamma=0.5)
    assert inside[0] == 1
    assert 0.99 < inside[1] < 1
    assert 0 < inside[2] < 0.01
    assert inside[3].item() == pytest.approx(0, abs=1e-15)


# Thresholds (3.2) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "threshold", "chosen"),
    [(0.4, 0.25, [1, 3]), (0.6, 0.35, [1, 3, 4]), (1.0, 0.9 * (1 + 1e-6) + 1e-12, [0, 1, 2, 3, 4])],
)
def test_kumar2010_threshold_by_fraction_by_hand(
    keep: float, threshold: float, chosen: list[int]
) -> None:
    losses = as_losses([0.4, 0.1, 0.9, 0.2, 0.3])
    found = weighting.threshold_for(losses, keep)
    assert found.shape == ()
    assert found.item() == pytest.approx(threshold, abs=1e-15)
    assert weighting.hard(losses, found).nonzero().squeeze(1).tolist() == chosen


@settings(max_examples=60)
@given(
    st.sets(st.floats(0, 50, width=32, allow_subnormal=False), min_size=1, max_size=40),
    st.floats(0.001, 1),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_threshold_by_fraction_includes_that_many(
    values: set[float], keep: float, dtype: torch.dtype
) -> None:
    losses = torch.tensor(sorted(values), dtype=dtype).flip(0)
    count = min(max(math.ceil(keep * len(values) - 1e-9), 1), len(values))
    threshold = weighting.threshold_for(losses, keep)
    assert weighting.hard(losses, threshold).sum() == count


def test_trap16_the_hardest_sample_included_keeps_a_soft_weight() -> None:
    losses = as_losses([0.4, 0.1, 0.9, 0.2, 0.3])
    for keep, count in ((0.2, 1), (0.6, 3), (1.0, 5)):
        threshold = weighting.threshold_for(losses, keep)
        for weigh in (weighting.linear, weighting.polynomial):
            assert (weigh(losses, threshold) > 0).sum() == count


def test_trap17_a_fraction_of_three_tenths_keeps_three_of_ten() -> None:
    losses = torch.arange(10.0)
    assert 0.1 * 3 * 10 > 3
    assert weighting.hard(losses, weighting.threshold_for(losses, 0.1 * 3)).sum() == 3


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=30), st.floats(0.01, 1), st.floats(1e-3, 1e3)
)
def test_threshold_by_fraction_does_not_depend_on_the_unit(
    values: list[int], keep: float, unit: float
) -> None:
    losses = as_losses(values) + 0.5
    here = weighting.hard(losses, weighting.threshold_for(losses, keep))
    there = weighting.hard(losses * unit, weighting.threshold_for(losses * unit, keep))
    assert torch.equal(here, there)


def test_threshold_between_neighbouring_floats_leaves_the_next_out() -> None:
    # Rounding to even would send one of these two middles to the upper neighbour.
    first = torch.tensor(1.0)
    second = torch.nextafter(first, torch.tensor(2.0))
    third = torch.nextafter(second, torch.tensor(2.0))
    for pair in ((first, second), (second, third)):
        losses = torch.stack(pair)
        assert weighting.hard(losses, weighting.threshold_for(losses, 0.5)).tolist() == [1, 0]


def test_threshold_of_losses_that_are_zero_admits_them_fully() -> None:
    losses = torch.tensor([0.0, 0.0, 0.0, 1.0])
    threshold = weighting.threshold_for(losses, 0.5)
    for weigh in (weighting.hard, weighting.linear, weighting.polynomial, weighting.logistic):
        assert weigh(losses, threshold)[:3].tolist() == [1, 1, 1]


def test_threshold_of_negative_losses_includes_as_many_as_asked() -> None:
    losses = torch.tensor([-3.0, -1.0, -2.0])
    for keep, chosen in ((0.5, [1, 0, 1]), (1.0, [1, 1, 1])):
        assert weighting.hard(losses, weighting.threshold_for(losses, keep)).tolist() == chosen


@pytest.mark.parametrize("size", [1, 2, 100, 101, 1234])
def test_loss_scale_is_the_99th_percentile_and_one_per_cent(size: int) -> None:
    losses = torch.rand(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    expected = 1.01 * np.percentile(losses.numpy(), 99)
    assert weighting.loss_scale(losses).item() == pytest.approx(expected, rel=1e-12)


def test_loss_scale_of_zeros_is_one() -> None:
    assert weighting.loss_scale(torch.zeros(5)).item() == 1


def test_loss_scale_brings_losses_into_the_reach_of_the_logarithmic_form() -> None:
    losses = torch.linspace(0, 20, 1000)
    rescaled = losses / weighting.loss_scale(losses)
    assert (weighting.logarithmic(rescaled, 0.995) > 0).float().mean() > 0.98


# Refusals ------------------------------------------------------------------------------------

L = torch.tensor(LOSSES)
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: weighting.hard(L, 0.0), r"threshold must be .* above 0\. Got 0\.0"),
    (lambda: weighting.hard(L, math.nan), r"threshold must be .*Got nan"),
    (lambda: weighting.hard(L, -math.inf), r"threshold must be .*Got -inf"),
    (lambda: weighting.linear(L, -1), r"threshold must be .*Got -1"),
    (lambda: weighting.linear(L, torch.ones(2)), r"threshold must be a number or a 0-d tensor"),
    (lambda: weighting.polynomial(L, 0), r"threshold must be .*Got 0"),
    (lambda: weighting.logistic(L, 0), r"threshold must be .*Got 0"),
    (lambda: weighting.logarithmic(L, 0), r"threshold must be above 0 and below 1 .*Got 0"),
    (lambda: weighting.logarithmic(L, 1), r"threshold must be .*logarithmic form\. Got 1"),
    (lambda: weighting.logarithmic(L, 2.3), r"below 1 .*Got 2\.3\. .*loss_scale"),
    (lambda: weighting.logarithmic(L, math.inf), r"threshold must be .*Got inf"),
    (lambda: weighting.logarithmic(L - 1, 0.5), r"losses must be at least 0 everywhere"),
    (lambda: weighting.mixture(L, upper=0.2, lower=0.8), r"upper must be above lower.*Swapped"),
    (lambda: weighting.mixture(L, upper=0.2, lower=0.2), r"upper must be above lower"),
    (lambda: weighting.mixture(L, upper=0.2, lower=0), r"lower must be .*above 0\. Got 0"),
    (lambda: weighting.mixture(L - 1, upper=0.8, lower=0.2), r"losses must be at least 0"),
    (lambda: weighting.root_mixture(L, threshold=0, gamma=1), r"threshold must be .*Got 0"),
    (lambda: weighting.root_mixture(L, threshold=1, gamma=0), r"gamma must be .*Got 0"),
    (lambda: weighting.root_mixture(L - 1, threshold=1, gamma=1), r"losses must be at least 0"),
    (lambda: weighting.polynomial(L, 0.5, power=1), r"power must be .*above 1\. Got 1"),
    (lambda: weighting.polynomial(L, 0.5, power=math.nan), r"power must be .*Got nan"),
    (lambda: weighting.polynomial(L - 1, 0.5), r"losses must be at least 0"),
    (lambda: weighting.threshold_for(L, 0), r"keep must be .*Got 0"),
    (lambda: weighting.threshold_for(L, 1.01), r"keep must be .*at most 1\. Got 1\.01"),
    (lambda: weighting.threshold_for(L[:0], 0.5), r"losses must be at least one value"),
    (lambda: weighting.loss_scale(L[:0]), r"losses must be at least one value"),
    (lambda: weighting.loss_scale(L - 1), r"losses must be at least 0"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_bad_input_is_refused_by_name(case: int) -> None:
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("threshold", ["0.5", None, True])
def test_a_threshold_that_is_no_number_is_a_type_error(threshold: object) -> None:
    with pytest.raises(TypeError, match="threshold must be"):
        weighting.hard(L, threshold)  # type: ignore[arg-type]


# The toy of 3.1: wrong labels are hard -------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_the_easier_half_holds_hardly_any_wrong_labels(seed: int) -> None:
    """2-D Gaussians, 30 % of the labels flipped, 3 epochs on everything, then the easier half."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(400) % 2
    centres = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])
    features = centres[labels] + torch.randn(400, 2, generator=generator)
    flipped = torch.rand(400, generator=generator) < 0.3
    given_labels = torch.where(flipped, 1 - labels, labels).float()
    weight, bias = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=0.1)

    def per_sample(rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            features[rows] @ weight + bias, given_labels[rows], reduction="none"
        )

    for _ in range(3):
        for rows in torch.randperm(400, generator=generator).split(20):
            optimizer.zero_grad()
            per_sample(rows).mean().backward()
            optimizer.step()
    losses = per_sample(torch.arange(400))
    weights = weighting.hard(losses, weighting.threshold_for(losses, 0.5))
    assert weights.sum() == 200
    assert flipped.float().mean() > 0.25
    assert flipped[weights.bool()].float().mean() <= 0.05
