"""LeRaC: every worked number of the specification, trap 10 and defect D30, and what must hold."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import gradatim as gr
from gradatim.layers import (
    decade_factor,
    decade_start,
    decades_below,
    exponential_factor,
    initial_factors,
    linear_factor,
)
from gradatim.plots import layer_rates

ETA = 0.1


def mlp(layers: int = 5) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(3, 3) for _ in range(layers)))


# ---------------------------------------------------------------------------- initial rates


def test_equation_6_initial_rates_are_geometric() -> None:
    """n = 5, .1 to .01: exponents -1, -1.25, -1.5, -1.75, -2."""
    rates = [ETA * factor for factor in initial_factors(5, last=0.1)]
    assert rates == pytest.approx([0.1, 0.056234, 0.031623, 0.017783, 0.01], rel=2e-5)
    exponents = [math.log10(rate) for rate in rates]
    assert exponents == pytest.approx([-1, -1.25, -1.5, -1.75, -2], abs=1e-12)


def test_equation_6_one_layer_has_the_first_rate() -> None:
    assert initial_factors(1, first=0.5, last=0.1) == [0.5]
    assert initial_factors(2, first=0.5, last=0.1) == [0.5, 0.1]


@given(
    st.integers(1, 40),
    st.floats(1e-6, 1),
    st.floats(1e-9, 1),
    st.sampled_from(["paper", "decade"]),
)
@settings(max_examples=50, deadline=None)
def test_equation_6_initial_rates_never_rise_and_stay_between_the_ends(
    count: int, first: float, part: float, mode: str
) -> None:
    last = first * part
    start = decade_start if mode == "decade" else initial_factors
    factors = start(count, first=first, last=last)
    assert len(factors) == count
    assert factors[0] == first
    assert count == 1 or factors[-1] == last
    assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(factors))
    assert all(last * (1 - 1e-12) <= factor <= 1 for factor in factors)


# ---------------------------------------------------------------------------- the rise


def test_equation_8_of_the_last_of_five_layers() -> None:
    rates = [ETA * exponential_factor(0.1, step / 5) for step in range(6)]
    expected = [0.01, 0.015849, 0.025119, 0.039811, 0.063096, 0.1]
    assert rates == pytest.approx(expected, rel=2e-5)
    linear = [ETA * linear_factor(0.1, step / 5) for step in range(6)]
    assert linear == pytest.approx([0.01, 0.028, 0.046, 0.064, 0.082, 0.1], rel=1e-12)


def test_equation_8_from_1e_8_to_a_tenth_in_seven_steps_is_a_decade_each() -> None:
    method = gr.LeRaC(7, last=1e-7)
    rates = [ETA * method.rates(epoch, layers=2)[1] for epoch in range(8)]
    assert rates == pytest.approx([10.0 ** (power - 8) for power in range(8)], rel=1e-12)


def test_equation_8_the_papers_illustration_is_k_of_four() -> None:
    """1e-8 to 1e-4 in five epochs, by way of 1e-7, 1e-6, 1e-5."""
    rates = [1e-4 * exponential_factor(1e-4, epoch / 4) for epoch in range(5)]
    assert rates == pytest.approx([1e-8, 1e-7, 1e-6, 1e-5, 1e-4], rel=1e-12)


@pytest.mark.parametrize("base", [2.0, math.e, 10.0])
@given(st.floats(1e-9, 1), st.floats(1e-5, 10), st.integers(1, 9), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_equation_8_whatever_c(base: float, initial: float, eta: float, k: int, at: float) -> None:
    """eta_j(0) c^{(l / k)(log_c eta - log_c eta_j(0))}, with eta_j(0) = initial times eta."""
    start, step = initial * eta, at * k
    literal = start * base ** ((step / k) * (math.log(eta, base) - math.log(start, base)))
    assert eta * exponential_factor(initial, step / k) == pytest.approx(literal, rel=1e-9)
    closed = eta * initial ** (1 - step / k)
    assert eta * exponential_factor(initial, step / k) == pytest.approx(closed, rel=1e-12)


def test_the_closed_form_of_equations_6_and_8_together() -> None:
    """eta (eta_n / eta)^{((j - 1) / (n - 1)) (1 - l / k)}."""
    method = gr.LeRaC(6, last=1e-5)
    for epoch in range(7):
        for layer, factor in enumerate(method.rates(epoch, layers=9)):
            assert factor == pytest.approx(1e-5 ** (layer / 8 * (1 - epoch / 6)), rel=1e-12)


@pytest.mark.parametrize("increase", ["exponential", "linear"])
@given(st.integers(1, 9), st.integers(1, 20), st.floats(1e-9, 0.5), st.floats(0.5, 1))
@settings(max_examples=40, deadline=None)
def test_rates_rise_with_l_fall_with_j_and_are_equal_at_k(
    increase: str, k: int, layers: int, last: float, first: float
) -> None:
    method = gr.LeRaC(k, first=first, last=last, increase=increase)  # type: ignore[arg-type]
    rates = [method.rates(epoch, layers=layers) for epoch in range(k + 2)]
    for before, after in itertools.pairwise(rates):
        assert all(a <= b * (1 + 1e-12) for a, b in zip(before, after, strict=True))
    for row in rates:
        assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(row))
    assert rates[k] == rates[k + 1] == [1.0] * layers  # equation 7, exactly


def test_the_functions_take_tensors() -> None:
    initial = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    halfway = exponential_factor(initial, 0.5)
    assert halfway.tolist() == pytest.approx([1.0, 0.1**0.5, 0.1], rel=1e-12)
    assert linear_factor(initial, 0.5).tolist() == pytest.approx([1.0, 0.55, 0.505], rel=1e-12)
    assert decade_factor(initial, 1).tolist() == [1.0, 1.0, 0.1]
    assert linear_factor(initial, 1.5).tolist() == [1.0, 1.0, 1.0]


# ---------------------------------------------------------------------------- units and variants


def test_per_epoch_rates_stand_within_an_epoch_and_per_step_they_do_not() -> None:
    by_epoch, by_step = gr.LeRaC(2, last=1e-4), gr.LeRaC(2, last=1e-4, unit="step")
    assert by_epoch.rates(0.75, layers=2) == by_epoch.rates(0, layers=2) == [1.0, 1e-4]
    assert by_step.rates(0.5, layers=2) == pytest.approx([1.0, 1e-3], rel=1e-12)
    assert by_step.rates(1, layers=2) == by_epoch.rates(1, layers=2)
    with pytest.raises(ValueError, match=r"count must be a whole number, at least 1\. Got 0"):
        by_step.rates(1, layers=0)


def test_anti_lerac_reversed_is_lerac() -> None:
    usual, anti = gr.LeRaC(4, last=1e-3), gr.LeRaC(4, last=1e-3, anti=True)
    for epoch in range(6):
        assert anti.rates(epoch, layers=6)[::-1] == usual.rates(epoch, layers=6)
    assert anti.initial_rates(3) == [1e-3, pytest.approx(10**-1.5), 1.0]


def test_decade_mode_lowers_by_tens_to_a_floor_and_raises_by_tens() -> None:
    """The authors' code: a decade per layer, the head at the floor, layers arrive one by one."""
    method = gr.LeRaC(4, last=1e-4, mode="decade")
    table = [method.rates(epoch, layers=4) for epoch in range(6)]
    expected = [
        [1.0, 1e-1, 1e-2, 1e-4],
        [1.0, 1.0, 1e-1, 1e-3],
        [1.0, 1.0, 1.0, 1e-2],
        [1.0, 1.0, 1.0, 1e-1],
        [1.0] * 4,
        [1.0] * 4,
    ]
    for row, wanted in zip(table, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("k", "raises"), [(8, 1), (4, 2), (3, 3), (2, 4)])
def test_decade_mode_raises_as_often_as_it_takes_to_be_done_by_k(k: int, raises: int) -> None:
    method = gr.LeRaC(k, last=1e-8, mode="decade")
    head = [method.rates(epoch, layers=3)[-1] for epoch in range(k + 1)]
    wanted = [min(1.0, 1e-8 * 10.0 ** (raises * epoch)) for epoch in range(k)]
    assert head == pytest.approx([*wanted, 1.0], rel=1e-9)
    by_step = gr.LeRaC(k, last=1e-8, mode="decade", unit="step")
    assert by_step.rates(1 / raises, layers=3)[-1] == pytest.approx(1e-7, rel=1e-9)


def test_decades_are_counted_without_rounding_up() -> None:
    assert [decades_below(10.0**-power) for power in range(12)] == list(range(12))
    assert decades_below(0.09) == 2
    assert [decade_factor(10.0**-power, power) for power in range(12)] == [1.0] * 12


# ---------------------------------------------------------------------------- within training


def trained(
    method: gr.LeRaC,
    *,
    epochs: int,
    schedule: str | None = None,
    between: object = None,
    layers: int = 4,
) -> tuple[list[list[float]], list[float]]:
    """Rates by step and layer, as gradients say, and the optimizer's own rates."""
    model = mlp(layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=ETA)
    scheduler = None
    if schedule == "cosine":
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    elif schedule == "lambda":
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch)
    curriculum = gr.Curriculum(method)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.ones(4, 3)), 2)
    curriculum.attach(model, optimizer)
    found, own = [], []
    for _ in range(epochs):
        for (x,) in loader:
            loss = curriculum(model(x).square().sum(1))
            optimizer.zero_grad()
            loss.backward()
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
                parameter.data.zero_()
            optimizer.step()
            found.append([-layer.bias[0].item() for layer in model])  # type: ignore[index]
            own.append(optimizer.param_groups[0]["lr"])
        if scheduler is not None:
            scheduler.step()
    return found, own


def test_equation_5_each_layer_moves_at_its_own_rate() -> None:
    found, own = trained(gr.LeRaC(2, last=1e-3), epochs=3)
    first = [0.1, 1e-2, 1e-3, 1e-4]
    second = [0.1, 0.1 * 0.1**0.5, 1e-2, 0.1 * 1e-3**0.5]
    for row, wanted in zip(found, [first, first, second, second], strict=False):
        assert row == pytest.approx(wanted, rel=1e-5)
    assert list(found[4:]) == [pytest.approx([0.1] * 4, rel=1e-6)] * 2
    assert own == [ETA] * 6


def test_equation_8_per_step_counts_batches_also_the_last_of_an_epoch() -> None:
    found, _ = trained(gr.LeRaC(2, last=1e-4, unit="step"), epochs=3, layers=2)
    head = [row[-1] for row in found]
    assert head == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.1], rel=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "lambda"])
def test_d30_trap_10_a_schedule_goes_on_and_every_layer_reaches_its_rate_at_k(
    schedule: str,
) -> None:
    """A scheduler reads ``initial_lr`` and writes rates: neither sees those of the layers."""
    plain, _ = trained(gr.LeRaC(0), epochs=5, schedule=schedule)
    found, own = trained(gr.LeRaC(3, last=1e-3), epochs=5, schedule=schedule)
    _, untouched = trained(gr.LeRaC(0), epochs=5, schedule=schedule)
    assert own == untouched
    assert found[6:] == plain[6:]
    for epoch in range(3):
        for layer in range(4):
            expected = plain[2 * epoch][0] * 1e-3 ** (layer / 3 * (1 - epoch / 3))
            assert found[2 * epoch][layer] == pytest.approx(expected, rel=1e-5)


def test_d30_all_layers_arrive_together_in_the_papers_mode_and_one_by_one_in_the_codes() -> None:
    def arrivals(mode: str) -> list[int]:
        method = gr.LeRaC(4, last=1e-4, mode=mode)  # type: ignore[arg-type]
        table = [method.rates(epoch, layers=4) for epoch in range(6)]
        return [next(e for e, row in enumerate(table) if row[layer] == 1) for layer in range(1, 4)]

    assert arrivals("paper") == [4, 4, 4]
    assert arrivals("decade") == [1, 2, 4]


def test_the_papers_hand_over_a_scheduler_that_starts_at_k_finds_every_layer_at_eta() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=ETA)
    curriculum = gr.Curriculum(gr.LeRaC(2, last=1e-7))
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.ones(4, 3)), 2)
    curriculum.attach(model, optimizer)
    for _ in range(2):
        for (x,) in loader:
            curriculum(model(x).square().sum(1)).backward()
            optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    assert scheduler.base_lrs == [ETA]
    assert [group["lr"] for group in optimizer.param_groups] == [ETA]
    assert optimizer.param_groups[0]["initial_lr"] == ETA


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "epochs must be a whole number, at least 0"),
        ({"first": 1.5}, "first must be .* at most 1"),
        ({"first": 0.1, "last": 0.2}, "last must be at most first, 0.1. Got 0.2. Swapped"),
        ({"last": 0.0}, "last must be .* above 0"),
        ({"last": math.nan}, "last must be a finite number"),
        ({"increase": "linear", "mode": "decade"}, "increase must be 'exponential' in mode"),
        ({"unit": "iteration"}, "unit must be one of 'epoch', 'step'"),
    ],
)
def test_rates_out_of_order_and_other_parameters_are_refused_by_name(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gr.LeRaC(**settings)  # type: ignore[arg-type]


def test_the_parts_refuse_the_same() -> None:
    with pytest.raises(ValueError, match="count must be a whole number, at least 1"):
        initial_factors(0)
    with pytest.raises(ValueError, match="last must be at most first"):
        decade_start(3, first=0.1, last=0.5)
    with pytest.raises(ValueError, match="initial must be"):
        exponential_factor(0.0, 0.5)
    with pytest.raises(ValueError, match="progress must be"):
        linear_factor(0.5, -0.1)
    with pytest.raises(ValueError, match="initial must be above 0 everywhere"):
        decade_factor(torch.tensor([0.0]), 1)


def test_rates_of_nothing_attached_need_a_number_of_layers() -> None:
    with pytest.raises(RuntimeError, match="attach a model first, or pass layers="):
        gr.LeRaC().rates(0)
    model = mlp(3)
    method = gr.LeRaC(last=1e-2)
    method.attach(model, torch.optim.SGD(model.parameters(), lr=0.5))
    assert method.rates(0) == pytest.approx([1.0, 0.1, 0.01])


def test_the_picture_of_the_rates_has_a_curve_per_layer() -> None:
    method = gr.LeRaC(epochs=2, last=1e-4)
    rates = [method.rates(epoch, layers=3) for epoch in range(4)]
    figure = layer_rates(rates, names=["stem", "block", "head"])
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["stem", "block", "head"]
    assert lines[2].get_ydata() == pytest.approx([1e-4, 1e-2, 1, 1])
    assert figure.axes[0].get_yscale() == "log"
    with pytest.raises(ValueError, match="rates must be above 0"):
        layer_rates([[1.0, 0.0]])
    with pytest.raises(ValueError, match="names must be 3"):
        layer_rates(rates, names=["stem"])
