"""Self-paced curriculum learning: Jiang et al. 2015, the linear curriculum region."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradatim import weighting

LOSSES = torch.tensor([0.2, 0.1, 0.3], dtype=torch.float64)
ORDER = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

PLAIN: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "hard": weighting.hard,
    "linear": weighting.linear,
    "logarithmic": weighting.logarithmic,
    "polynomial": weighting.polynomial,
    "logistic": weighting.logistic,
}


def test_jiang2015_linear_region_by_hand() -> None:
    weights = weighting.spcl(LOSSES, ORDER, budget=2.0, threshold=1.0)
    assert weights.tolist() == pytest.approx([0.607143, 0.514286, 0.121429], abs=5e-7)
    assert (ORDER * weights).sum().item() == pytest.approx(2, abs=1e-12)
    # The multiplier, from v_i = 1 - (l_i + nu a_i): the same for all three.
    multipliers = (1 - weights - LOSSES) / ORDER
    assert multipliers.tolist() == pytest.approx([0.192857] * 3, abs=5e-7)


def test_jiang2015_without_a_binding_budget_by_hand() -> None:
    unconstrained = [0.8, 0.9, 0.7]
    for budget in (4.7 + 1e-9, 6.0, 1e9, math.inf):
        weights = weighting.spcl(LOSSES, ORDER, budget=budget, threshold=1.0)
        assert weights.tolist() == pytest.approx(unconstrained, abs=1e-15)
    bound = weighting.spcl(LOSSES, ORDER, budget=4.6, threshold=1.0)
    assert (ORDER * bound).sum().item() == pytest.approx(4.6, abs=1e-12)


def test_jiang2015_hard_form_is_a_knapsack_by_hand() -> None:
    # Value for money: .8/1, .9/2, .7/3. The first two cost 3; the rest of 4 buys a third of 3.
    weights = weighting.spcl(LOSSES, ORDER, budget=4.0, threshold=1.0, form="hard")
    assert weights.tolist() == pytest.approx([1, 1, 1 / 3], abs=1e-15)
    weights = weighting.spcl(LOSSES, ORDER, budget=0.5, threshold=1.0, form="hard")
    assert weights.tolist() == pytest.approx([0.5, 0, 0], abs=1e-15)


def test_jiang2015_hard_form_buys_nothing_of_negative_value() -> None:
    losses = torch.tensor([0.2, 1.0, 1.5])
    weights = weighting.spcl(losses, ORDER, budget=100.0, threshold=1.0, form="hard")
    assert weights.tolist() == [1, 1, 0]


@pytest.mark.parametrize("form", PLAIN)
def test_jiang2015_a_large_budget_is_plain_self_paced_learning(form: str) -> None:
    losses = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    order = torch.arange(1, 51) / 50
    for budget in (order.sum().item(), math.inf):
        weights = weighting.spcl(losses, order, budget=budget, threshold=0.7, form=form)
        assert torch.equal(weights, PLAIN[form](losses, 0.7))


def test_jiang2015_swapping_the_order_moves_weight_to_the_earlier_sample() -> None:
    losses = torch.full((2,), 0.3)
    for form in PLAIN:
        first = weighting.spcl(losses, [1.0, 2.0], budget=0.9, threshold=0.9, form=form)
        second = weighting.spcl(losses, [2.0, 1.0], budget=0.9, threshold=0.9, form=form)
        assert first[0] > first[1]
        assert torch.equal(first.flip(0), second)


@pytest.mark.parametrize("form", PLAIN)
@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 5)), min_size=1, max_size=12),
    fraction=st.floats(1e-3, 2),
    threshold=st.floats(0.01, 0.99),
)
def test_jiang2015_weights_lie_in_the_region_and_spend_the_budget(
    form: str, rows: list[tuple[float, float]], fraction: float, threshold: float
) -> None:
    losses = torch.tensor([row[0] for row in rows], dtype=torch.float64)
    order = torch.tensor([row[1] for row in rows], dtype=torch.float64)
    budget = fraction * order.sum().item()
    weights = weighting.spcl(losses, order, budget=budget, threshold=threshold, form=form)
    assert ((weights >= 0) & (weights <= 1)).all()
    free = (order * PLAIN[form](losses, threshold)).sum().item()
    spent = (order * weights).sum().item()
    # The logarithmic weight falls with infinite steepness as lambda nears 1; hence 1e-6.
    assert spent == pytest.approx(min(free, budget), rel=1e-6, abs=1e-9)


def test_jiang2015_weights_grow_with_the_budget() -> None:
    previous = torch.zeros(3, dtype=torch.float64)
    for budget in (0.01, 0.5, 1.0, 2.0, 4.0, 5.0):
        weights = weighting.spcl(LOSSES, ORDER, budget=budget, threshold=1.0)
        assert (weights >= previous).all()
        previous = weights


def test_costs_of_very_different_size_still_meet_the_budget() -> None:
    losses = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    order = torch.tensor([1e-9, 1.0, 1e6], dtype=torch.float64)
    weights = weighting.spcl(losses, order, budget=0.5, threshold=1.0)
    assert (order * weights).sum().item() == pytest.approx(0.5, rel=1e-9)


def test_the_power_reaches_the_polynomial_form() -> None:
    weights = weighting.spcl(
        LOSSES, ORDER, budget=math.inf, threshold=1.0, form="polynomial", power=3
    )
    assert torch.equal(weights, weighting.polynomial(LOSSES, 1.0, power=3))


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: weighting.spcl(LOSSES, ORDER - 1, budget=1, threshold=1), r"order must be above 0"),
    (lambda: weighting.spcl(LOSSES, ORDER[:2], budget=1, threshold=1), r"order must be one value"),
    (lambda: weighting.spcl(LOSSES, ORDER / 0, budget=1, threshold=1), r"order must be finite"),
    (lambda: weighting.spcl(LOSSES, ORDER, budget=0, threshold=1), r"budget must be .*Got 0"),
    (lambda: weighting.spcl(LOSSES, ORDER, budget=-1, threshold=1), r"budget must be .*Got -1"),
    (lambda: weighting.spcl(LOSSES, ORDER, budget=math.nan, threshold=1), r"budget must be"),
    (lambda: weighting.spcl(LOSSES, ORDER, budget=1, threshold=0), r"threshold must be .*Got 0"),
    (lambda: weighting.spcl(LOSSES, ORDER, budget=1, threshold=math.inf), r"threshold must be"),
    (
        lambda: weighting.spcl(LOSSES, ORDER, budget=1, threshold=1, form="logarithmic"),
        r"threshold must be above 0 and below 1",
    ),
    (
        lambda: weighting.spcl(LOSSES, ORDER, budget=1, threshold=1, form="lineer"),  # type: ignore[arg-type]
        r"form must be one of .*Did you mean 'linear'",
    ),
    (
        lambda: weighting.spcl(LOSSES, ORDER, budget=1, threshold=1, form="polynomial", power=1),
        r"power must be",
    ),
    (
        lambda: weighting.spcl(LOSSES - 1, ORDER, budget=1, threshold=1, form="polynomial"),
        r"losses must be at least 0",
    ),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_bad_input_is_refused_by_name(case: int) -> None:
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
