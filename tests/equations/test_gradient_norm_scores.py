"""Scores by gradients: GraNd and EL2N, Paul et al. 2021; methods 9.1 and 15."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.scores import el2n, gradient_norm

# --- EL2N -------------------------------------------------------------------------------------


def test_paul2021_el2n_by_hand() -> None:
    """p = (.7, .2, .1), y = 0: sqrt(.09 + .04 + .01) = .374166."""
    logits = torch.tensor([[0.7, 0.2, 0.1]] * 3, dtype=torch.float64).log()
    found = el2n(logits, torch.tensor([0, 1, 2]))
    assert found[0].item() == pytest.approx(0.374166, abs=5e-7)
    assert found[1].item() == pytest.approx(math.sqrt(0.49 + 0.64 + 0.01))
    assert found[2].item() == pytest.approx(math.sqrt(0.49 + 0.04 + 0.81))


def test_el2n_is_the_norm_of_the_slope_of_the_cross_entropy() -> None:
    logits = 4 * torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
    targets = torch.arange(40) % 6
    given = logits.clone().requires_grad_()
    F.cross_entropy(given, targets, reduction="sum").backward()
    assert given.grad is not None
    torch.testing.assert_close(el2n(logits, targets), given.grad.norm(dim=1))


def test_el2n_keeps_its_digits_where_the_model_is_sure() -> None:
    """p_y = 1 - 2e-9 is 1 in float32; the error is sqrt(2) e^-20 all the same."""
    found = el2n(torch.tensor([[20.0, 0.0]]), torch.tensor([0]))
    assert found.item() == pytest.approx(math.sqrt(2) * math.exp(-20), rel=1e-5)
    sure = el2n(torch.tensor([[1000.0, -1000.0]] * 2), torch.tensor([0, 1]))
    assert sure.tolist() == pytest.approx([0.0, math.sqrt(2)])


def test_el2n_refuses_what_is_no_logits_or_label() -> None:
    with pytest.raises(ValueError, match="logits must be of shape"):
        el2n(torch.zeros(3), torch.zeros(3).long())
    with pytest.raises(ValueError, match="targets must"):
        el2n(torch.zeros(3, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="logits must be finite"):
        el2n(torch.tensor([[0.0, math.nan]]), torch.tensor([0]))


# --- The exact norm ---------------------------------------------------------------------------


def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(4)
        return nn.Sequential(
            nn.Conv1d(1, 3, 3, padding=1),
            nn.BatchNorm1d(3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(15, 4),
        ).double()


def batch(size: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 1, 5, generator=generator).double(), torch.arange(size) % 4


def one_by_one(net: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Any) -> torch.Tensor:
    """The slow way: a backward pass for each sample."""
    net = copy.deepcopy(net).eval()
    learnt = [parameter for parameter in net.parameters() if parameter.requires_grad]
    norms = []
    for row, target in zip(x.split(1), y.split(1), strict=True):
        found = torch.autograd.grad(loss(net(row), target).sum(), learnt)
        norms.append(torch.cat([gradient.flatten() for gradient in found]).norm())
    return torch.stack(norms)


@pytest.mark.parametrize("chunk_size", [1, 4, 11, 100])
def test_paul2021_grand_equals_a_backward_pass_per_sample(chunk_size: int) -> None:
    net, (x, y) = model(), batch()
    found = gradient_norm(net, F.cross_entropy, (x, y), chunk_size=chunk_size)
    torch.testing.assert_close(found, one_by_one(net, x, y, F.cross_entropy))
    assert not found.requires_grad


def test_any_loss_will_do_reduced_or_not() -> None:
    net, (x, _) = model(), batch()
    y = torch.randn(11, 4, generator=torch.Generator().manual_seed(6)).double()

    def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - targets).square().sum(1)

    found = gradient_norm(net, squared, (x, y))
    torch.testing.assert_close(found, one_by_one(net, x, y, squared))


def test_only_parameters_that_learn_count() -> None:
    """Of a last layer alone the norm is EL2N times that of its inputs, with 1 for the bias."""
    net, (x, y) = model(), batch()
    for layer in net[:-1]:
        layer.requires_grad_(False)
    features = copy.deepcopy(net[:-1]).eval()(x)
    logits = copy.deepcopy(net).eval()(x)
    bound = el2n(logits.detach(), y) * (features.square().sum(1) + 1).sqrt()
    torch.testing.assert_close(gradient_norm(net, F.cross_entropy, (x, y)), bound.detach())


@pytest.mark.parametrize("tied", [False, True])
def test_shared_parameters_count_once_with_both_their_gradients(tied: bool) -> None:
    """A module in two places, or two modules with one weight; either is left as it was."""
    first = nn.Linear(4, 4, bias=False).double()
    last = nn.Linear(4, 4, bias=False).double() if tied else first
    last.weight = first.weight
    net = nn.Sequential(first, nn.Tanh(), last)
    x, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double(), batch(6)[1]
    before = first.weight
    found = gradient_norm(net, F.cross_entropy, (x, y))
    assert net[0].weight is net[2].weight is before
    torch.testing.assert_close(found, one_by_one(net, x, y, F.cross_entropy))


def test_inputs_may_be_a_dict_of_arguments() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model()

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return self.net(x) * scale.unsqueeze(1)

    net, (x, y) = Named(), batch()
    scale = torch.arange(1.0, 12.0).double()
    found = gradient_norm(net, F.cross_entropy, ({"x": x, "scale": scale}, y))
    for row in range(11):

        def scaled(z: torch.Tensor, t: torch.Tensor, factor: torch.Tensor = scale[row]) -> Any:
            return F.cross_entropy(z * factor, t)

        expected = one_by_one(net.net, x[row : row + 1], y[row : row + 1], scaled)
        torch.testing.assert_close(found[row : row + 1], expected)


def test_the_model_and_the_random_states_are_left_as_they_were() -> None:
    net, (x, y) = model(), batch()
    net[4].eval()  # a mixture of modes
    F.cross_entropy(net(x), y).backward()
    before = copy.deepcopy(net)
    gradients = [parameter.grad for parameter in net.parameters()]
    values = [gradient.clone() for gradient in gradients]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    gradient_norm(net, F.cross_entropy, (x, y))
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    for name, value in net.state_dict().items():
        assert torch.equal(value, before.state_dict()[name]), name
    for parameter, gradient, old in zip(net.parameters(), gradients, values, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is gradient
        assert torch.equal(gradient, old)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


def test_half_precision_parameters_do_not_overflow() -> None:
    """Squares of 300 are 90,000, more than float16 holds."""
    net = nn.Linear(1, 2, bias=False).half()
    nn.init.zeros_(net.weight)
    rows = torch.tensor([[600.0]]).half(), torch.zeros(1).long()
    found = gradient_norm(net, F.cross_entropy, rows)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(600 * math.sqrt(0.5), rel=1e-3)


def test_scores_of_several_models_average() -> None:
    """What the paper ranks by: the mean over initialisations, each scored by itself."""
    (x, y), nets = batch(), [model(), model()]
    nn.init.normal_(nets[1][5].weight, generator=torch.Generator().manual_seed(2))
    scores = torch.stack([gradient_norm(net, F.cross_entropy, (x, y)) for net in nets])
    expected = (scores[0] + scores[1]) / 2
    torch.testing.assert_close(scores.mean(0), expected)
    curriculum = gr.Predefined(scores.mean(0), pace=gr.pacing.Constant(0.5))
    run = gr.Run(size=11, seed=0)
    curriculum.setup(run)
    kept = curriculum.plan(gr.Pool(torch.arange(11)), run).index
    assert set(kept.tolist()) == set(expected.argsort()[:6].tolist())


def test_an_empty_batch_has_no_scores() -> None:
    x, y = batch()
    assert gradient_norm(model(), F.cross_entropy, (x[:0], y[:0])).shape == (0,)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"model": "resnet"}, TypeError, "model must be a torch.nn.Module"),
        ({"loss": None}, TypeError, "loss must be callable"),
        ({"batch": torch.zeros(4, 1, 5)}, ValueError, r"batch must be a pair \(inputs, targets\)"),
        ({"batch": ([1.0], [0])}, ValueError, "tensors with one row per sample. Got list"),
        ({"batch": (batch()[0], batch(7)[1])}, ValueError, r"as many rows. Got \[11, 7\]"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be a whole number, at least 1"),
        ({"model": nn.Tanh()}, ValueError, "parameters that require a gradient. Got none"),
        ({"loss": lambda z, y: z}, ValueError, "one number for one sample"),
        ({"loss": lambda z, y: (z - z).sqrt().sum()}, ValueError, "norms.*finite"),
    ],
)
def test_what_has_no_gradient_per_sample_is_refused(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"model": model(), "loss": F.cross_entropy, "batch": batch()}
    with pytest.raises(error, match=message):
        gradient_norm(**{**given, **changed})
