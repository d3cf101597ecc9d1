"""SuperLoss: Castells et al. 2020; and the Lambert W function it rests on."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradatim import weighting
from gradatim.weighting.lambert import _solved, lambert_w


def one(loss: float) -> torch.Tensor:
    return torch.tensor([loss], dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "tau", "confidence", "value"),
    [
        (0, 0.0, 1, 0),
        (2, 0.0, 0.567143, 1.455938),
        (1, 0.0, 0.703467, 0.827184),
        (10, 0.0, 0.265345, 4.413648),
        (-5, 0.0, math.e, -12.591409),
        (2, math.log(10), 1.198871, -0.329862),
        (4, math.log(10), 0.600637, 1.279390),
        (0.5, math.log(10), math.e, None),
    ],
)
def test_castells2020_confidence_and_value_by_hand(
    loss: float, tau: float, confidence: float, value: float | None
) -> None:
    losses = one(loss)
    assert weighting.super_loss(losses, tau=tau, lam=1).item() == pytest.approx(
        confidence, abs=5e-7
    )
    if value is not None:
        found = weighting.super_loss_value(losses, tau=tau, lam=1).item()
        assert found == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_castells2020_a_loss_of_tau_weighs_exactly_one(dtype: torch.dtype) -> None:
    losses = torch.tensor([0.7, 0.7], dtype=dtype)
    assert weighting.super_loss(losses, tau=losses[0], lam=0.3).tolist() == [1, 1]
    assert weighting.super_loss_value(losses, tau=losses[0], lam=0.3).tolist() == [0, 0]


def test_d22_a_tau_of_zero_is_a_value_like_any_other() -> None:
    losses = torch.tensor([1.0, 3.0])
    assert weighting.super_loss(losses, tau=0.0, lam=1)[0].item() == pytest.approx(0.703467)
    assert weighting.super_loss(losses, tau=1.0, lam=1)[0].item() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_d22_the_dtype_is_kept(dtype: torch.dtype) -> None:
    losses = torch.tensor([0.5, 2.0], dtype=dtype)
    assert weighting.super_loss(losses, tau=0.0, lam=1).dtype == dtype
    assert weighting.super_loss_value(losses, tau=0.0, lam=1).dtype == dtype
    assert weighting.lambert_w(losses).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_castells2020_is_calculated_in_float64(dtype: torch.dtype) -> None:
    losses = torch.linspace(-1, 20, 500).to(dtype)
    for call in (weighting.super_loss, weighting.super_loss_value):
        exact = call(losses.double(), tau=0.1, lam=0.3).to(dtype)
        assert torch.equal(call(losses, tau=0.1, lam=0.3), exact)


@pytest.mark.parametrize("lam", [0.25, 1.0, 3.0])
def test_trap13_confidence_is_exactly_e_from_the_clamp_down(lam: float) -> None:
    edge = -2 / math.e * lam
    losses = torch.tensor([edge, edge - 1e-12, 2 * edge, -1e6], dtype=torch.float64)
    confidence = weighting.super_loss(losses, tau=0.0, lam=lam)
    assert confidence.tolist() == [math.e] * 4
    values = weighting.super_loss_value(losses, tau=0.0, lam=lam)
    assert values.tolist() == pytest.approx([x * math.e + lam for x in losses.tolist()])


def test_trap13_confidence_is_continuous_at_the_clamp() -> None:
    # Near the branch W is -1 + sqrt(2 (1 + e x)), so s = e (1 - sqrt(e step)) at x = -1/e + step/2.
    for step in (1e-15, 1e-12, 1e-9, 1e-6):
        found = weighting.super_loss(one(-2 / math.e + step), tau=0.0, lam=1).item()
        assert found <= math.e
        assert found == pytest.approx(math.e * (1 - math.sqrt(math.e * step)), abs=20 * step + 2e-8)


@given(st.floats(-0.7, 1e4), st.sampled_from([0.25, 1.0, 4.0]))
def test_castells2020_gradient_is_the_confidence_by_finite_differences(
    loss: float, lam: float
) -> None:
    step = 1e-5 * max(1, abs(loss))
    low, high = (
        weighting.super_loss_value(one(loss + sign * step), tau=0.0, lam=lam).item()
        for sign in (-1, 1)
    )
    confidence = weighting.super_loss(one(loss), tau=0.0, lam=lam).item()
    assert (high - low) / (2 * step) == pytest.approx(confidence, rel=2e-4)


def test_castells2020_gradient_at_two_by_hand_and_through_autograd() -> None:
    losses = torch.tensor([2.0, -5.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        weighting.super_loss_value(losses, tau=0.0, lam=1).sum(), losses
    )
    assert gradient.tolist() == pytest.approx([0.567143, math.e], abs=5e-7)
    weights = weighting.super_loss(losses, tau=0.0, lam=1)
    assert not weights.requires_grad
    assert torch.equal(torch.autograd.grad((weights * losses).sum(), losses)[0], gradient)


@given(st.lists(st.floats(-5, 1e5), min_size=2, max_size=30), st.floats(-2, 3), st.floats(0.1, 5))
def test_castells2020_confidence_falls_with_the_loss_within_zero_and_e(
    values: list[float], tau: float, lam: float
) -> None:
    losses = torch.tensor(sorted(values), dtype=torch.float64)
    confidence = weighting.super_loss(losses, tau=tau, lam=lam)
    assert (confidence[1:] <= confidence[:-1] + 1e-12).all()
    assert ((confidence > 0) & (confidence <= math.e)).all()


@given(st.floats(-3, 50), st.floats(-1, 3), st.floats(0.1, 10))
def test_castells2020_only_the_ratio_to_lambda_matters(loss: float, tau: float, lam: float) -> None:
    here = weighting.super_loss(one(loss), tau=tau, lam=lam).item()
    there = weighting.super_loss(one((loss - tau) / lam), tau=0.0, lam=1).item()
    assert here == pytest.approx(there, rel=1e-6)


def test_castells2020_a_large_lambda_is_nearly_plain_training() -> None:
    weights = weighting.super_loss(torch.tensor([0.1, 2.0, 9.0]), tau=1.0, lam=1e6)
    assert (weights - 1).abs().max() < 1e-5


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: weighting.super_loss(torch.ones(2), tau=0, lam=0), r"lam must be .*above 0\. Got 0"),
    (lambda: weighting.super_loss(torch.ones(2), tau=0, lam=-1), r"lam must be .*Got -1"),
    (lambda: weighting.super_loss(torch.ones(2), tau=0, lam=math.nan), r"lam must be"),
    (lambda: weighting.super_loss(torch.ones(2), tau=math.inf, lam=1), r"tau must be .*Got inf"),
    (lambda: weighting.super_loss_value(torch.ones(2), tau=0, lam=0), r"lam must be"),
    (lambda: weighting.super_loss_value(torch.ones(2), tau=math.nan, lam=1), r"tau must be"),
    (
        lambda: weighting.super_loss_value(torch.tensor([1, math.inf]), tau=0, lam=1),
        r"losses must be finite\. Got 1 non-finite value at index \[1\]",
    ),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_bad_input_is_refused_by_name(case: int) -> None:
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


# Lambert W -----------------------------------------------------------------------------------


# The float64 next to -1/e lies below it; this is the first one above.
FIRST = math.nextafter(-1 / math.e, 0)


def newton(x: float) -> Decimal:
    """W(x) in 60 digits, by Newton's method on w exp(w) - x from the right of the root."""
    exact = Decimal(x)
    w = Decimal(0) if exact < 0 else (1 + exact).ln()
    for _ in range(400):
        power = w.exp()
        step = (w * power - exact) / (power * (1 + w))
        w -= step
        if abs(step) <= abs(w) * Decimal(10) ** -(getcontext().prec - 25):
            break
    return w


@given(
    st.one_of(
        st.floats(-17, -0.44).map(lambda power: max(FIRST, -1 / math.e + 10**power)),
        st.floats(-300, -1).map(lambda power: -(10**power)),
        st.floats(-300, 300).map(lambda power: 10**power),
    )
)
def test_corless1996_lambert_w_to_thirteen_digits(x: float) -> None:
    with localcontext() as context:
        context.prec = 60
        expected = float(newton(x))
    found = weighting.lambert_w(one(x)).item()
    assert found == pytest.approx(expected, rel=1e-13, abs=0)


def test_corless1996_lambert_w_at_its_landmarks() -> None:
    x = torch.tensor([0.0, 1.0, math.e, 2 * math.e**2, -1 / math.e, math.inf], dtype=torch.float64)
    w = weighting.lambert_w(x)
    assert w[0] == 0
    assert w[1:4].tolist() == pytest.approx([0.5671432904097838, 1, 2], rel=1e-14, abs=0)
    assert w[4:].tolist() == [-1, math.inf]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_corless1996_branch_point_survives_rounding(dtype: torch.dtype) -> None:
    # In float32 the nearest number to -1/e lies below it.
    assert weighting.lambert_w(torch.tensor([-1 / math.e], dtype=dtype)).item() < -0.9


def test_lambert_w_is_nan_where_there_is_no_real_solution() -> None:
    w = weighting.lambert_w(torch.tensor([-0.4, -math.inf, math.nan]))
    assert torch.isnan(w).all()


def test_lambert_w_keeps_the_shape_and_takes_whole_numbers() -> None:
    w = weighting.lambert_w(torch.arange(6).view(2, 3))
    assert w.shape == (2, 3)
    assert w.dtype == torch.float64
    assert (w * w.exp()).tolist()[1] == pytest.approx([3, 4, 5])


def test_lambert_w_is_detached() -> None:
    assert not weighting.lambert_w(torch.ones(2, requires_grad=True)).requires_grad


def test_lambert_w_refuses_what_is_no_tensor() -> None:
    with pytest.raises(TypeError, match=r"values must be a tensor of real numbers\. Got float"):
        weighting.lambert_w(1.0)  # type: ignore[arg-type]


def test_the_lambert_function_is_the_same_on_every_device() -> None:
    """The CPU solves in NumPy, other devices in torch: the formulas are one, and so are results."""
    span = torch.logspace(-12, 6, 400, dtype=torch.float64)
    edge = torch.tensor([-1 / math.e, 0.0, -1.0, math.inf, math.nan], dtype=torch.float64)
    x = torch.cat([span, (span - 1 / math.e).clamp(max=0), edge])
    on_device = _solved(x, torch.finfo(torch.float64).eps, torch)
    torch.testing.assert_close(lambert_w(x), on_device, rtol=1e-13, atol=0, equal_nan=True)
    assert lambert_w(torch.tensor(1.0)).shape == ()
    assert lambert_w(torch.ones(2, device="meta")).device.type == "meta"
