"""Weightings against slow loops and SciPy, and what holds for all of them alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, LinearConstraint, linprog, minimize, minimize_scalar
from scipy.special import lambertw

from gradatim import weighting

Weigh = Callable[[torch.Tensor], torch.Tensor]

# Each public weighting with suitable parameters; spread() is made new for each number of samples.


def spread(losses: torch.Tensor) -> torch.Tensor:
    return torch.arange(losses.numel()) % 3


def prices(losses: torch.Tensor) -> torch.Tensor:
    return torch.arange(1, losses.numel() + 1) / losses.numel()


SELF_PACED: dict[str, Weigh] = {
    "hard": lambda x: weighting.hard(x, 0.5),
    "linear": lambda x: weighting.linear(x, 0.5),
    "logarithmic": lambda x: weighting.logarithmic(x, 0.5),
    "polynomial": lambda x: weighting.polynomial(x, 0.5, power=3),
    "logistic": lambda x: weighting.logistic(x, 0.5),
    "mixture": lambda x: weighting.mixture(x, upper=0.8, lower=0.2),
    "root_mixture": lambda x: weighting.root_mixture(x, threshold=0.8, gamma=0.5),
}
TOGETHER: dict[str, Weigh] = {
    "spld": lambda x: weighting.spld(x, spread(x), threshold=0.3, gamma=0.3),
    "spcl": lambda x: weighting.spcl(x, prices(x), budget=1.0, threshold=0.9),
    "spcl hard": lambda x: weighting.spcl(x, prices(x), budget=1.0, threshold=0.9, form="hard"),
    "spcl logistic": lambda x: weighting.spcl(
        x, prices(x), budget=1.0, threshold=0.9, form="logistic"
    ),
}
BY_COUNT: dict[str, Weigh] = {
    "spld_by_count": lambda x: weighting.spld_by_count(x, spread(x), k=1, gamma=0.3),
}
SHAPING: dict[str, Weigh] = {
    "focal": lambda x: weighting.focal(x, 2.0),
    "focal below one": lambda x: weighting.focal(x, 0.5),
    "super_loss": lambda x: weighting.super_loss(x, tau=0.3, lam=1.0),
    "super_loss_value": lambda x: weighting.super_loss_value(x, tau=0.3, lam=1.0),
}
EVERY = SELF_PACED | TOGETHER | BY_COUNT | SHAPING
DIFFERENTIABLE = ("focal", "focal below one", "super_loss_value")


def sample(size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, generator=generator, dtype=torch.float64).to(dtype)


# For all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_d47_every_floating_dtype_is_kept_and_calculated_wide(
    name: str, dtype: torch.dtype
) -> None:
    losses = sample(20, dtype)
    weights = EVERY[name](losses)
    assert weights.dtype == dtype
    assert weights.shape == (20,)
    wide = torch.float32 if dtype.itemsize == 2 else dtype
    assert torch.equal(weights, EVERY[name](losses.to(wide)).to(dtype))
    exact = EVERY[name](losses.double())
    torch.testing.assert_close(weights.double(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", EVERY)
def test_whole_numbers_become_float64(name: str) -> None:
    weights = EVERY[name](torch.tensor([0, 1, 2, 3]))
    assert weights.dtype == torch.float64
    assert torch.equal(weights, EVERY[name](torch.tensor([0.0, 1, 2, 3], dtype=torch.float64)))


@pytest.mark.parametrize("name", EVERY)
def test_losses_are_neither_changed_nor_shared(name: str) -> None:
    losses = sample(9)
    before = losses.clone()
    EVERY[name](losses).fill_(7)
    assert torch.equal(losses, before)


@pytest.mark.parametrize("name", EVERY)
def test_weights_are_detached_except_where_they_are_a_loss(name: str) -> None:
    losses = sample(9).requires_grad_()
    assert EVERY[name](losses).requires_grad == (name in DIFFERENTIABLE)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    losses = (sample(9) + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(EVERY[name], (losses,))


@pytest.mark.parametrize("name", EVERY)
def test_d46_losses_that_save_their_output_still_differentiate(name: str) -> None:
    inputs = sample(9).requires_grad_()
    losses = inputs.exp() - 1
    (EVERY[name](losses) * losses).sum().backward()
    assert inputs.grad is not None
    assert torch.isfinite(inputs.grad).all()


@pytest.mark.parametrize("name", SELF_PACED | TOGETHER | SHAPING)
def test_d22_nothing_is_read_back_from_the_device(name: str) -> None:
    # A meta tensor has no values: reading one raises.
    weights = EVERY[name](torch.empty(6, device="meta"))
    assert weights.device.type == "meta"
    assert weights.shape == (6,)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, t: weighting.hard(x, t),
        lambda x, t: weighting.linear(x, t),
        lambda x, t: weighting.logarithmic(x, t),
        lambda x, t: weighting.polynomial(x, t),
        lambda x, t: weighting.logistic(x, t),
        lambda x, t: weighting.mixture(x, upper=2 * t, lower=t),
        lambda x, t: weighting.root_mixture(x, threshold=t, gamma=t),
        lambda x, t: weighting.spld(x, spread(x), threshold=t, gamma=t),
        lambda x, t: weighting.spcl(x, prices(x), budget=t, threshold=t),
        lambda x, t: weighting.spcl(x, prices(x), budget=t, threshold=t, form="logarithmic"),
        lambda x, t: weighting.super_loss(x, tau=t, lam=1.0),
        lambda x, t: weighting.super_loss_value(x, tau=t, lam=1.0),
    ],
)
def test_a_parameter_may_be_a_tensor_that_stays_unread(call: Callable) -> None:
    losses = sample(8)
    by_number = call(losses, 0.4)
    assert torch.equal(call(losses, torch.tensor(0.4, dtype=torch.float64)), by_number)
    attached = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert not call(losses, attached).requires_grad
    # A wider scalar does not widen the weights.
    narrow = call(losses.float(), torch.tensor(0.4, dtype=torch.float64))
    assert narrow.dtype == torch.float32
    meta = torch.empty((), device="meta")
    assert call(torch.empty(8, device="meta"), meta).shape == (8,)


@pytest.mark.parametrize(
    "call", [lambda x: weighting.threshold_for(x, 0.5), lambda x: weighting.loss_scale(x)]
)
def test_thresholds_are_found_without_reading_the_device(call: Weigh) -> None:
    found = call(torch.empty(6, device="meta"))
    assert found.shape == ()
    assert found.device.type == "meta"
    assert call(sample(6, torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_thresholds_are_the_same_on_the_path_that_other_devices_take(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = sample(size)
    found = [weighting.threshold_for(losses, keep) for keep in (0.1, 0.5, 1.0)]
    scale = weighting.loss_scale(losses)
    monkeypatch.setattr(weighting.thresholds, "readable", lambda values: False)
    assert [weighting.threshold_for(losses, keep) for keep in (0.1, 0.5, 1.0)] == found
    assert weighting.loss_scale(losses) == scale


def test_focal_loss_is_calculated_without_reading_the_device() -> None:
    targets = torch.zeros(6, dtype=torch.int64, device="meta")
    assert weighting.focal_loss(torch.empty(6, device="meta"), targets).shape == (6,)
    assert weighting.focal_loss(torch.empty(6, 4, device="meta"), targets).shape == (6,)


@pytest.mark.parametrize("name", SELF_PACED | SHAPING)
def test_each_weight_depends_on_its_own_loss_alone(name: str) -> None:
    losses = sample(11)
    whole = EVERY[name](losses)
    assert torch.equal(torch.cat([EVERY[name](part) for part in losses.split(1)]), whole)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, g: weighting.spld(x, g, threshold=0.3, gamma=0.3),
        lambda x, g: weighting.spld_by_count(x, g, k=7, gamma=0.3),
        lambda x, g: weighting.spcl(x, g + 1, budget=2.0, threshold=0.9, form="hard"),
    ],
)
def test_relabelling_samples_relabels_the_weights(call: Callable) -> None:
    losses, groups = sample(30), torch.arange(30) % 4
    order = torch.randperm(30, generator=torch.Generator().manual_seed(5))
    assert torch.equal(call(losses[order], groups[order]), call(losses, groups)[order])


@pytest.mark.parametrize("name", SELF_PACED | TOGETHER | SHAPING)
def test_an_empty_batch_has_no_weights(name: str) -> None:
    weights = EVERY[name](torch.empty(0))
    assert weights.shape == (0,)
    assert weights.dtype == torch.float32


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_refused_by_position(name: str, bad: float) -> None:
    losses = sample(6)
    losses[4] = bad
    with pytest.raises(ValueError, match=r"losses must be finite.*at index \[4\]"):
        EVERY[name](losses)


@pytest.mark.parametrize("name", EVERY)
def test_a_reduced_loss_is_refused_with_a_hint(name: str) -> None:
    with pytest.raises(ValueError, match=r"losses must be one-dim.*Forgot reduction='none'\?"):
        EVERY[name](torch.tensor(0.5))


@pytest.mark.parametrize("name", EVERY)
def test_a_table_of_losses_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"losses must be one-dimensional.*\(2, 2\)"):
        EVERY[name](torch.zeros(2, 2))


@pytest.mark.parametrize("name", EVERY)
def test_no_global_generator_is_touched(name: str, watch_global_rng: Callable) -> None:
    losses = sample(6)
    moved = watch_global_rng()
    EVERY[name](losses)
    assert moved() == []
    assert EVERY[name](losses).shape == (6,)


# SPLD against the paper's loop ---------------------------------------------------------------


def algorithm_1(
    losses: list[float], groups: list[int], threshold: float, gamma: float
) -> list[float]:
    """Slow and literal: per group, walk by ascending loss until one misses its bar."""
    weights = [0.0] * len(losses)
    for group in set(groups):
        members = [i for i in range(len(losses)) if groups[i] == group]
        for rank, i in enumerate(sorted(members, key=losses.__getitem__), start=1):
            if losses[i] >= threshold + gamma * (1 / (math.sqrt(rank) + math.sqrt(rank - 1))):
                break
            weights[i] = 1.0
    return weights


@pytest.mark.parametrize("seed", range(20))
def test_jiang2014_algorithm1_equals_the_slow_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Rounded losses make ties; groups are uneven and their ids neither sorted nor dense.
    losses = np.round(rng.exponential(size=200), 2)
    groups = rng.choice([-7, 0, 3, 900], size=200, p=[0.6, 0.3, 0.09, 0.01])
    threshold, gamma = rng.uniform(-0.5, 1), rng.uniform(0, 2)
    weights = weighting.spld(
        torch.from_numpy(losses), torch.from_numpy(groups), threshold=threshold, gamma=gamma
    )
    assert weights.tolist() == algorithm_1(losses.tolist(), groups.tolist(), threshold, gamma)


# SPCL against generic solvers ----------------------------------------------------------------

REGULARISERS: dict[str, tuple[Callable, Callable]] = {
    # f(v) and f'(v), written down independently of the code under test
    "linear": (lambda v, t: t * (v**2 / 2 - v), lambda v, t: t * (v - 1)),
    "polynomial": (lambda v, t: t * (v**3 / 3 - v), lambda v, t: t * (v**2 - 1)),
    "logarithmic": (
        lambda v, t: (1 - t) * v - (1 - t) ** v / np.log(1 - t),
        lambda v, t: (1 - t) - (1 - t) ** v,
    ),
}


@pytest.mark.parametrize("form", REGULARISERS)
@pytest.mark.parametrize("seed", range(6))
def test_jiang2015_region_equals_a_generic_convex_solver(form: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 8
    losses, order = rng.uniform(0, 1.2, size), rng.permutation(size) + 1.0
    threshold, budget = 0.9, rng.uniform(0.05, 0.5) * order.sum()
    value, slope = REGULARISERS[form]
    found = weighting.spcl(
        torch.from_numpy(losses),
        torch.from_numpy(order),
        budget=budget,
        threshold=threshold,
        form=form,  # type: ignore[arg-type]
        power=3,
    ).numpy()

    def objective(v: np.ndarray) -> float:
        return float((v * losses + value(v, threshold)).sum())

    solved = minimize(
        objective,
        np.full(size, 0.05),
        jac=lambda v: losses + slope(v, threshold),
        method="SLSQP",
        bounds=Bounds(np.zeros(size), np.ones(size)),
        constraints=LinearConstraint(order[None], -np.inf, budget),
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert solved.success
    assert order @ found <= budget + 1e-9
    assert objective(found) == pytest.approx(solved.fun, abs=1e-7)
    assert objective(found) <= solved.fun + 1e-9
    assert np.abs(found - solved.x).max() < 2e-3


@pytest.mark.parametrize("seed", range(20))
def test_jiang2015_hard_form_equals_a_linear_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 10
    losses, order = rng.exponential(size=size), rng.uniform(0.1, 3, size)
    budget = rng.uniform(0.05, 1.1) * order.sum()
    solved = linprog(losses - 0.9, A_ub=order[None], b_ub=[budget], bounds=(0, 1))
    found = weighting.spcl(
        torch.from_numpy(losses),
        torch.from_numpy(order),
        budget=budget,
        threshold=0.9,
        form="hard",
    ).numpy()
    assert order @ found <= budget + 1e-12
    assert (losses - 0.9) @ found == pytest.approx(solved.fun, abs=1e-9)
    assert ((found > 1e-9) & (found < 1 - 1e-9)).sum() <= 1


def test_jiang2015_logistic_form_meets_the_optimality_conditions() -> None:
    # Its regulariser is implicit, f'(v) = -(v*)^{-1}(v); so check l + f'(v) + nu a = 0.
    losses, order = sample(12), prices(sample(12)).double()
    weights = weighting.spcl(losses, order, budget=0.5, threshold=0.9, form="logistic")
    inverse = 0.9 + torch.log((1 + math.exp(-0.9)) / weights - 1)
    multipliers = (inverse - losses) / order
    assert (order * weights).sum().item() == pytest.approx(0.5, abs=1e-12)
    torch.testing.assert_close(multipliers, multipliers[:1].expand(12), rtol=1e-9, atol=0)
    assert multipliers[0] > 0


# SuperLoss and Lambert W against SciPy -------------------------------------------------------


def test_castells2020_value_equals_a_numeric_minimum() -> None:
    for beta in (-0.7, -0.5, 0.0, 0.3, 2.0, 10.0, 300.0):
        for lam in (0.25, 1.0):
            loss = beta * lam
            # Over x = log s, where the problem is unimodal up to s = e.
            solved = minimize_scalar(
                lambda x, loss=loss, lam=lam: loss * math.exp(x) + lam * x * x,
                bounds=(-20, 1),
                method="bounded",
                options={"xatol": 1e-12},
            )
            losses = torch.tensor([loss], dtype=torch.float64)
            value = weighting.super_loss_value(losses, tau=0.0, lam=lam).item()
            assert value == pytest.approx(solved.fun, rel=1e-9, abs=1e-12)
            confidence = weighting.super_loss(losses, tau=0.0, lam=lam).item()
            assert confidence == pytest.approx(math.exp(solved.x), rel=1e-5)


def test_castells2020_confidence_equals_scipy_lambert() -> None:
    losses = torch.linspace(-0.73, 1000, 5001, dtype=torch.float64)
    expected = np.exp(-lambertw(losses.numpy() / 2).real)
    np.testing.assert_allclose(
        weighting.super_loss(losses, tau=0.0, lam=1), expected, rtol=1e-11, atol=0
    )


def test_lambert_w_equals_scipy() -> None:
    branch = -1 / math.e
    # SciPy itself is off by up to 2e-12 within 1e-6 of the branch point (equations/ has the exact
    # comparison); everywhere else the two agree to 1.4e-12 and better.
    x = np.concatenate(
        [
            np.linspace(branch + 1e-9, 1e6, 20_001),
            branch + np.logspace(-5, math.log10(-branch) - 1e-9, 4000),
            -np.logspace(-300, -1, 5000),
            np.logspace(-300, 300, 4000),
        ]
    )
    found = weighting.lambert_w(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, lambertw(x).real, rtol=1.4e-12, atol=0)
