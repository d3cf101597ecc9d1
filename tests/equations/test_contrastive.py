"""Hard negatives in contrastive learning: Robinson et al. 2021; methods 11.3."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gradatim.contrastive import hard_negative_loss

FIRST = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
SECOND = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)


def views(size: int = 12, width: int = 5, dtype: torch.dtype = torch.float64) -> Any:
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(size, width, generator=generator, dtype=torch.float64)
    second = first + 0.5 * torch.randn(size, width, generator=generator, dtype=torch.float64)
    return first.to(dtype), second.to(dtype)


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """SimCLR's loss as everybody writes it: a cross-entropy over the other embeddings."""
    both = F.normalize(torch.cat([first, second]), dim=1)
    logits = both @ both.T / temperature
    logits = logits.masked_fill(torch.eye(len(both), dtype=torch.bool), -math.inf)
    targets = torch.arange(len(both)).roll(len(first))
    return F.cross_entropy(logits, targets, reduction="none")


def slow(
    first: torch.Tensor, second: torch.Tensor, temperature: float, beta: float, tau_plus: float
) -> torch.Tensor:
    """The equations, anchor by anchor, with no logarithm but the last."""
    t, tau = temperature, tau_plus
    both = [row / row.norm() for row in (*first, *second)]
    count, losses = len(both), []
    for i, anchor in enumerate(both):
        pair = (i + count // 2) % count
        e = [torch.exp(anchor @ both[j] / t) for j in range(count) if j not in (i, pair)]
        pos, m = torch.exp(anchor @ both[pair] / t), len(e)
        q = [each**beta for each in e]
        mass = m * sum(a * b for a, b in zip(q, e, strict=True)) / sum(q)
        rest = (mass - tau * m * pos) / (1 - tau)
        losses.append(-torch.log(pos / (pos + max(rest, rest.new_tensor(m * math.exp(-1 / t))))))
    return torch.stack(losses)


# --- By hand ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "tau_plus", "losses", "mean"),
    [
        (0, 0, [0.460373, 0.339178, 0.460373, 0.850424], 0.527587),
        (0, 0.1, None, 0.433613),
        (1, 0.1, [0.479194, 0.204113, 0.479194, 0.818624], 0.495281),
        (1, 0, None, 0.578149),
    ],
)
def test_robinson2021_by_hand(
    beta: float, tau_plus: float, losses: list[float] | None, mean: float
) -> None:
    """Robinson et al. 2021, Eqs. 3 to 5, of (1, 0), (0, 1) and (1, 0), (.6, .8)."""
    found = hard_negative_loss(FIRST, SECOND, temperature=0.5, beta=beta, tau_plus=tau_plus)
    assert found.mean().item() == pytest.approx(mean, abs=5e-7)
    if losses is not None:
        assert found.tolist() == pytest.approx(losses, abs=5e-7)


def test_what_is_left_of_the_negatives_has_a_floor_by_hand() -> None:
    """tau+ = .9 would leave less than nothing: Ng = 2 e^-2 = .270671, l = log(1 + Ng / pos)."""
    found = hard_negative_loss(FIRST, SECOND, temperature=0.5, beta=0, tau_plus=0.9)
    mass = found.expm1() * torch.tensor([2.0, 1.6, 2.0, 1.6]).double().exp()
    assert mass.tolist() == pytest.approx([0.270671] * 4, abs=5e-7)


def test_the_defaults_are_the_papers() -> None:
    found = hard_negative_loss(FIRST, SECOND)
    assert found.mean().item() == pytest.approx(0.495281, abs=5e-7)


# --- Against others ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5, 5.0])
def test_without_both_terms_it_is_nt_xent(temperature: float) -> None:
    first, second = views()
    expected = nt_xent(first, second, temperature)
    found = hard_negative_loss(first, second, temperature=temperature, beta=0, tau_plus=0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [0, 0.3, 1, 2.5])
@pytest.mark.parametrize("tau_plus", [0, 0.05, 0.3, 0.9])
def test_equals_the_equations_and_their_gradient(beta: float, tau_plus: float) -> None:
    results = []
    for function in (slow, hard_negative_loss):
        first, second = (view.requires_grad_() for view in views())
        given = {"temperature": 0.4, "beta": beta, "tau_plus": tau_plus}
        losses = function(first, second, **given)
        losses.sum().backward()
        results.append((losses.detach(), first.grad, second.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_detached_importance_has_the_same_value_and_another_gradient() -> None:
    """With q held fixed the gradient of log R is the average of those of s under q e."""
    gradients = []
    values = []
    for detach in (False, True):
        first, second = (view.requires_grad_() for view in views())
        losses = hard_negative_loss(first, second, beta=1, tau_plus=0, detach=detach)
        losses.sum().backward()
        gradients.append(first.grad)
        values.append(losses.detach())
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3
    first, second = (view.requires_grad_() for view in views())
    both = F.normalize(torch.cat([first, second]), dim=1)
    e = torch.exp(both @ both.T / 0.5)
    pairs = torch.arange(24).roll(12)
    keep = ~(torch.eye(24, dtype=torch.bool) | F.one_hot(pairs, 24).bool())
    q = (e * keep).detach()
    mass = 22 * (q * e).sum(1) / q.sum(1)
    pos = e[torch.arange(24), pairs]
    (-torch.log(pos / (pos + mass))).sum().backward()
    torch.testing.assert_close(gradients[1], first.grad, rtol=1e-8, atol=1e-10)


# --- Properties -------------------------------------------------------------------------------


@pytest.mark.parametrize("tau_plus", [0, 0.1])
def test_the_loss_never_falls_with_beta(tau_plus: float) -> None:
    first, second = views(20)
    before = None
    for beta in (0, 0.1, 0.5, 1, 2, 8, 64):
        losses = hard_negative_loss(first, second, beta=beta, tau_plus=tau_plus)
        if before is not None:
            assert (losses >= before - 1e-12).all()
        before = losses
    hardest = hard_negative_loss(first, second, beta=1e4, tau_plus=0)
    assert torch.isfinite(hardest).all()


def test_only_directions_matter() -> None:
    first, second = views()
    expected = hard_negative_loss(first, second)
    for scale in (1e-300, 1e-20, 1e20, 1e300):
        torch.testing.assert_close(hard_negative_loss(first * scale, second), expected)
    small = hard_negative_loss(first.float() * 1e-25, second.float() * 1e25)
    torch.testing.assert_close(small, expected.float(), rtol=1e-5, atol=1e-6)


def test_samples_and_views_may_change_places() -> None:
    first, second = views()
    losses = hard_negative_loss(first, second).view(2, -1)
    swapped = hard_negative_loss(second, first).view(2, -1)
    torch.testing.assert_close(swapped, losses.flip(0))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        hard_negative_loss(first[order], second[order]).view(2, -1), losses[:, order]
    )


# --- Numbers that are hard on it --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.9])
def test_low_temperatures_and_precision_are_stable(
    dtype: torch.dtype, temperature: float, tau_plus: float
) -> None:
    """exp(1 / .01) = 2.7e43 is more than float32 holds."""
    first, second = (view.requires_grad_() for view in views(16, 8, dtype))
    given = {"temperature": temperature, "beta": 2.0, "tau_plus": tau_plus}
    losses = hard_negative_loss(first, second, **given)
    losses.float().sum().backward()
    assert losses.dtype == dtype
    assert torch.isfinite(losses).all()
    assert torch.isfinite(first.grad).all()
    assert torch.isfinite(second.grad).all()
    wide = hard_negative_loss(first.detach().double(), second.detach().double(), **given)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(losses.detach().double(), wide, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.9])
def test_solved_samples_at_a_low_temperature_have_a_finite_gradient(
    dtype: torch.dtype, tau_plus: float
) -> None:
    """Far more is subtracted than there is, by a factor of exp(100), which is no float32."""
    first, second = (torch.eye(4, dtype=dtype, requires_grad=True) for _ in range(2))
    given = {"temperature": 0.01, "beta": 1.0, "tau_plus": tau_plus}
    losses = hard_negative_loss(first, second, **given)
    losses.sum().backward()
    assert losses.detach().double().max() < 1e-40
    for view in (first, second):
        assert view.grad is not None
        assert torch.isfinite(view.grad).all()


@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.5])
def test_equal_embeddings_have_a_finite_gradient(tau_plus: float) -> None:
    """Where R = tau+ M pos to the bit nothing is left, and its logarithm has no slope."""
    first = torch.ones(3, 4, requires_grad=True)
    losses = hard_negative_loss(first, torch.ones(3, 4), tau_plus=tau_plus, temperature=0.01)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


# --- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a finite number, above 0"),
        ({"beta": -0.1}, "beta must be a finite number, at least 0"),
        ({"tau_plus": 1.0}, "tau_plus must be a finite number, at least 0 and below 1"),
        ({"tau_plus": -0.1}, "tau_plus must be a finite number, at least 0 and below 1"),
        ({"first": torch.ones(1, 2), "second": torch.ones(1, 2)}, "One sample has no negatives"),
        ({"first": torch.ones(0, 2)}, "first must be of at least 2 rows"),
        ({"first": torch.ones(2, 0)}, "first must be of at least 2 rows and 1 column"),
        ({"second": torch.ones(3, 2)}, r"second must be of shape \(2, 2\), as first"),
        ({"first": torch.ones(2)}, r"first must be a floating tensor of shape \(N, d\)"),
        ({"first": torch.ones(2, 2).long()}, "first must be a floating tensor"),
        ({"second": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}, "not all zero. Got zeros in row 1"),
        ({"first": torch.tensor([[1.0, math.nan], [0.0, 1.0]])}, r"finite.*index \[0\]"),
    ],
)
def test_what_has_no_negatives_or_no_direction_is_refused(
    changed: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"first": FIRST, "second": SECOND, **changed}
    with pytest.raises(ValueError, match=message):
        hard_negative_loss(given.pop("first"), given.pop("second"), **given)


def test_lists_are_refused() -> None:
    with pytest.raises(TypeError, match="second must be a floating tensor"):
        hard_negative_loss(FIRST, [[1.0, 0.0]])  # type: ignore[arg-type]
