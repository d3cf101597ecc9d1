"""Focal loss: Lin et al. 2017."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gradatim import weighting

PROBABILITIES = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
BY_HAND = [0.00105361, 0.173287, 1.865094]


def two_classes(logits: torch.Tensor) -> torch.Tensor:
    """The same problem as a softmax over (0, z)."""
    return torch.stack([torch.zeros_like(logits), logits], 1)


def test_lin2017_eq4_by_hand() -> None:
    losses = -PROBABILITIES.log()
    assert losses[0].item() == pytest.approx(0.105361, abs=5e-7)
    weighted = weighting.focal(losses, 2.0) * losses
    assert weighted.tolist() == pytest.approx(BY_HAND, rel=5e-6)
    # p = .9 counts exactly a hundredth.
    assert weighted[0].item() == pytest.approx(losses[0].item() / 100, rel=1e-12)


@pytest.mark.parametrize("classes", ["binary", "multi-class"])
def test_lin2017_eq4_focal_loss_by_hand(classes: str) -> None:
    logits = PROBABILITIES.logit()
    targets = torch.ones(3, dtype=torch.int64)
    shown = logits if classes == "binary" else two_classes(logits)
    assert weighting.focal_loss(shown, targets).tolist() == pytest.approx(BY_HAND, rel=5e-6)


def test_lin2017_eq5_alpha_by_hand() -> None:
    logits = PROBABILITIES.logit()
    positives = weighting.focal_loss(logits, torch.ones(3), alpha=0.25)
    assert positives.tolist() == pytest.approx([0.000263401, 0.0433217, 0.466273], rel=5e-6)
    negatives = weighting.focal_loss(-logits, torch.zeros(3), alpha=0.25)
    assert negatives.tolist() == pytest.approx(
        [3 * value for value in positives.tolist()], rel=1e-12
    )


def gradient_by_hand(p: float, gamma: float) -> float:
    """d FL / d logit of the true class, binary."""
    return (1 - p) ** gamma * (gamma * p * math.log(p) - (1 - p))


def test_lin2017_gradient_by_hand_at_seven_tenths() -> None:
    assert gradient_by_hand(0.7, 2) == pytest.approx(-0.0719410, abs=5e-8)
    logit = torch.tensor([0.7], dtype=torch.float64).logit().requires_grad_()
    losses = F.binary_cross_entropy_with_logits(logit, torch.ones_like(logit), reduction="none")
    (gradient,) = torch.autograd.grad((weighting.focal(losses, 2.0) * losses).sum(), logit)
    assert gradient.item() == pytest.approx(-0.0719410, abs=5e-8)
    (direct,) = torch.autograd.grad(
        weighting.focal_loss(logit, torch.ones_like(logit)).sum(), logit
    )
    assert direct.item() == pytest.approx(-0.0719410, abs=5e-8)


@given(st.floats(-8, 8), st.floats(0, 5))
def test_lin2017_gradient_for_every_probability_and_gamma(logit: float, gamma: float) -> None:
    z = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    expected = gradient_by_hand(torch.sigmoid(z).item(), gamma)
    losses = F.softplus(-z)
    (gradient,) = torch.autograd.grad((weighting.focal(losses, gamma) * losses).sum(), z)
    assert gradient.item() == pytest.approx(expected, rel=1e-8, abs=1e-14)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("classes", ["binary", "multi-class"])
def test_lin2017_reweighing_and_direct_calculation_agree(gamma: float, classes: str) -> None:
    generator = torch.Generator().manual_seed(3)
    shape = (40,) if classes == "binary" else (40, 5)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    if classes == "binary":
        targets = (torch.rand(40, generator=generator) < 0.5).double()
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    else:
        targets = torch.randint(5, (40,), generator=generator)
        losses = F.cross_entropy(logits, targets, reduction="none")
    reweighed = weighting.focal(losses, gamma) * losses
    direct = weighting.focal_loss(logits, targets, gamma=gamma)
    torch.testing.assert_close(direct, reweighed, rtol=1e-11, atol=1e-14)
    there = torch.autograd.grad(reweighed.sum(), logits)[0]
    here = torch.autograd.grad(direct.sum(), logits)[0]
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-13)
    if gamma == 0:
        torch.testing.assert_close(direct, losses, rtol=1e-12, atol=1e-15)


def test_no_gamma_is_plain_training_to_the_bit() -> None:
    losses = torch.tensor([0.0, 1e-30, 0.7, 80.0], requires_grad=True)
    weights = weighting.focal(losses, 0)
    assert torch.equal(weights, torch.ones(4))
    (gradient,) = torch.autograd.grad((weights * losses).sum(), losses)
    assert torch.equal(gradient, torch.ones(4))


@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 0.999, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_gradient_is_finite_down_to_a_loss_of_zero(gamma: float, dtype: torch.dtype) -> None:
    # 1e-45 and 1e-310 are subnormal: there x^(gamma - 1) overflows.
    values = [0.0, -0.0, 1e-310, 1e-45, 1e-38, 1e-7, 1.0, 100.0]
    losses = torch.tensor(values, dtype=dtype, requires_grad=True)
    weights = weighting.focal(losses, gamma)
    (gradient,) = torch.autograd.grad((weights * losses).sum(), losses)
    assert torch.isfinite(weights).all()
    assert torch.isfinite(gradient).all()


def test_small_losses_keep_their_digits() -> None:
    # 1 - exp(-1e-6) in float32 is off by 5 %.
    weights = weighting.focal(torch.tensor([1e-6]), 1.0)
    assert weights.item() == pytest.approx(1e-6, rel=1e-6)


def test_a_loss_of_zero_has_the_true_derivative_where_it_exists() -> None:
    losses = torch.zeros(1, requires_grad=True)
    (gradient,) = torch.autograd.grad(weighting.focal(losses, 1.0).sum(), losses)
    assert gradient.item() == 1


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [1000.0, -1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_finite_for_extreme_logits(
    gamma: float, size: float, dtype: torch.dtype
) -> None:
    # Wrong by 1000 (binary) or 2000 (against the two others), or right by as much.
    expected = max(0.0, -size)
    binary = torch.tensor([size], dtype=dtype, requires_grad=True)
    several = torch.tensor([[size, -size, -size]], dtype=dtype, requires_grad=True)
    for logits, targets, value in (
        (binary, torch.ones(1), expected),
        (several, torch.zeros(1, dtype=torch.int64), 2 * expected),
    ):
        losses = weighting.focal_loss(logits, targets, gamma=gamma)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        assert losses.item() == pytest.approx(value, abs=1)
        assert torch.isfinite(gradient).all()
        assert bool(gradient.abs().sum() > 0) == (size < 0)


def test_half_precision_logits_are_calculated_wide() -> None:
    logits, ones = torch.linspace(-9, 9, 200).bfloat16(), torch.ones(200)
    losses = weighting.focal_loss(logits, ones)
    assert losses.dtype == torch.bfloat16
    assert torch.equal(losses, weighting.focal_loss(logits.float(), ones).bfloat16())


LOGITS = torch.zeros(2, 3)
LABELS = torch.tensor([0, 2])
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: weighting.focal(torch.ones(3), -1), r"gamma must be .*at least 0\. Got -1"),
    (lambda: weighting.focal(torch.ones(3), math.nan), r"gamma must be"),
    (lambda: weighting.focal(-torch.ones(3), 2), r"losses must be at least 0"),
    (lambda: weighting.focal_loss(LOGITS, LABELS, gamma=-0.1), r"gamma must be"),
    (lambda: weighting.focal_loss(LOGITS[:, 0], LABELS * 0, alpha=1.5), r"alpha must be .*Got 1.5"),
    (lambda: weighting.focal_loss(LOGITS[:, 0], LABELS * 0, alpha=-0.1), r"alpha must be"),
    (lambda: weighting.focal_loss(LOGITS, LABELS, alpha=0.25), r"alpha must be None .*class weigh"),
    (lambda: weighting.focal_loss(LOGITS[:, :1], LABELS), r"logits must be .*Squeeze the last"),
    (lambda: weighting.focal_loss(LOGITS[None], LABELS), r"logits must be of shape \(B,\)"),
    (lambda: weighting.focal_loss(LOGITS, LABELS[:1]), r"targets must be of shape \(2,\)"),
    (lambda: weighting.focal_loss(LOGITS, LABELS.float()), r"targets must be class numbers, int64"),
    (lambda: weighting.focal_loss(LOGITS, LABELS + 1), r"targets must be .*\[0, 3\)\. Got 3"),
    (lambda: weighting.focal_loss(LOGITS, LABELS - 100), r"Got -100\. Drop ignored labels"),
    (lambda: weighting.focal_loss(LOGITS[:, 0], LABELS), r"targets must be 0 or 1\. Got 2"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_bad_input_is_refused_by_name(case: int) -> None:
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_logits_and_targets_must_be_tensors() -> None:
    with pytest.raises(TypeError, match=r"logits must be a floating tensor\. Got list"):
        weighting.focal_loss([0.1], LABELS)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"targets must be a tensor of labels\. Got list"):
        weighting.focal_loss(LOGITS, [0, 2])  # type: ignore[arg-type]
