"""The automated curriculum bandit (methods.md 12.1): Exp3.S, its rewards and its signals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradatim as gr
from gradatim import mixing
from gradatim.mixing import Exp3S, RewardScale


def rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


# --- Exp3.S -------------------------------------------------------------------------------------


def test_exp3s_by_hand_at_t_2_and_3() -> None:
    """Graves et al. 2017, Exp3.S: N = 3, eta = .1, eps = .05, arm 0 rewarded with 1 twice."""
    bandit = gr.Exp3S(3, 0.1, 0.05)
    assert bandit.probabilities().tolist() == pytest.approx([1 / 3] * 3)
    bandit.update(0, 1.0)
    assert rounded(bandit.log_weights) == [0.161208, 0.083849, 0.083849]
    assert rounded(bandit.probabilities()) == [0.349870, 0.325065, 0.325065]
    assert 1 / float(bandit.probabilities()[0]) == pytest.approx(2.858207, abs=1e-6)
    bandit.update(0, 1.0)
    assert rounded(bandit.log_weights) == [0.339986, 0.154291, 0.154291]
    assert rounded(bandit.probabilities()) == [0.373668, 0.313166, 0.313166]


def test_trap_14_the_first_reward_makes_its_arm_more_likely() -> None:
    """At t = 1 alpha would be 1 and all weight would go to the other arms.

    Of two arms alpha = 1/2 makes both equal at t = 2: only from t = 3 on does a reward show.
    """
    for arms, arm in itertools.product((3, 5, 40), (0, 1)):
        bandit = Exp3S(arms, eta=0.1)
        before = float(bandit.probabilities()[arm])
        bandit.update(arm, 1.0)
        assert float(bandit.probabilities()[arm]) > before
        bandit = Exp3S(arms, eta=0.1)
        bandit.update(arm, -1.0)
        assert float(bandit.probabilities()[arm]) < before
    two = Exp3S(2, eta=0.1)
    two.update(1, 1.0)
    assert two.probabilities().tolist() == pytest.approx([0.5, 0.5])
    two.update(1, 1.0)
    assert float(two.probabilities()[1]) > 0.5


rewards = st.lists(st.tuples(st.integers(0, 3), st.floats(-1, 1)), max_size=40)


@given(rewards, st.floats(0.01, 5), st.floats(0.01, 1), st.floats(0, 1))
def test_exp3s_keeps_a_distribution_of_at_least_eps_over_n(
    steps: list[tuple[int, float]], eta: float, epsilon: float, beta: float
) -> None:
    bandit = Exp3S(4, eta, epsilon, beta=beta)
    for arm, reward in steps:
        bandit.update(arm, reward)
        chances = bandit.probabilities()
        assert float(chances.sum()) == pytest.approx(1)
        assert float(chances.min()) >= epsilon / 4 - 1e-12


def test_exp3s_does_not_overflow() -> None:
    """Rewards of 1e6 at the least probability: log-weights beyond 1e7, no NaN."""
    bandit = Exp3S(3, eta=1.0)
    for _ in range(50):
        bandit.update(0, 1e6)
        bandit.update(2, -1e6)
        chances = bandit.probabilities()
        assert float(chances.sum()) == pytest.approx(1)
        assert float(chances.min()) >= 0.05 / 3
    assert float(bandit.log_weights.max()) > 1e7
    assert float(bandit.probabilities()[0]) > 0.9


def test_exp3s_takes_the_probability_of_the_draw() -> None:
    """r / pi with the pi that the arm was drawn with, not with the current one."""
    bandit = Exp3S(3, 0.1)
    bandit.update(0, 1.0, probability=0.5)
    other = Exp3S(3, 0.1)
    other.update(0, 2 / 3)  # (2/3) / (1/3) is 1 / .5
    assert torch.allclose(bandit.log_weights, other.log_weights, atol=1e-12)


def test_beta_adds_to_every_arm() -> None:
    """Equal for all at the start, so that only the reward makes a difference."""
    with_beta, without = Exp3S(3, 0.1, beta=0.5), Exp3S(3, 0.1)
    with_beta.update(0, 1.0)
    without.update(0, 1.0)
    assert torch.allclose(with_beta.probabilities(), without.probabilities())
    assert torch.allclose(
        with_beta.log_weights - without.log_weights, torch.tensor(0.15, dtype=torch.float64)
    )


def test_one_arm_is_always_drawn() -> None:
    bandit = Exp3S(1)
    bandit.update(0, 1.0)
    assert bandit.probabilities().tolist() == [1.0]
    assert bandit.draw() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_is_left_out_with_a_warning(bad: float) -> None:
    bandit = Exp3S(3)
    before = bandit.state_dict()
    with pytest.warns(UserWarning, match="for arm 1 was left out"):
        bandit.update(1, bad)
    assert str(bandit.state_dict()) == str(before)


def test_draws_depend_on_seed_and_number_and_leave_global_states() -> None:
    state = torch.get_rng_state()
    one, two, other = Exp3S(5, seed=1), Exp3S(5, seed=1), Exp3S(5, seed=2)
    drawn = [one.draw() for _ in range(40)]
    assert drawn == [two.draw() for _ in range(40)]
    assert drawn != [other.draw() for _ in range(40)]
    assert set(drawn) == set(range(5))
    assert torch.equal(torch.get_rng_state(), state)


# --- Rewards ------------------------------------------------------------------------------------


def test_rewards_by_hand() -> None:
    """Reservoir 0..10: q20 = 2, q80 = 8; 2 -> -1, 3.5 -> -.5, 5 -> 0, 8 -> 1, 10 -> 1."""
    scale = RewardScale()
    for value in range(11):
        scale(float(value))
    found = [scale.scale(value) for value in (0, 2, 3.5, 5, 8, 10)]
    assert found == pytest.approx([-1, -1, -0.5, 0, 1, 1])


def test_rewards_are_per_unit_of_cost() -> None:
    scale = RewardScale()
    scale(6.0, cost=2.0)
    assert scale.history == [3.0]


def test_equal_percentiles_give_no_reward() -> None:
    scale = RewardScale()
    assert scale.scale(7.0) == 0.0
    assert [scale(4.0), scale(4.0), scale(4.0)] == [0.0, 0.0, 0.0]


def test_progress_that_is_not_finite_stays_out_of_the_history() -> None:
    scale = RewardScale()
    assert math.isnan(scale(math.nan))
    assert math.isnan(scale(math.inf))
    assert (scale.history, scale.seen) == ([], 0)


def test_the_reservoir_is_uniform_over_history() -> None:
    """100 of 2000 values in 20 runs: their mean place is 1000 +- 5 standard errors of 13.

    Fails by chance once in 10^6; the seeds are fixed.
    """
    places: list[float] = []
    for seed in range(20):
        scale = RewardScale(100, seed=seed)
        # Reach into the draws only: percentiles of 2000 steps are not what is tested.
        scale.scale = lambda rate: 0.0
        for value in range(2000):
            scale(float(value))
        assert len(scale.history) == 100
        places += scale.history
    mean = sum(places) / len(places)
    assert abs(mean - 999.5) < 5 * 2000 / math.sqrt(12 * len(places))


# --- Signals ------------------------------------------------------------------------------------


def test_prediction_gains_by_hand() -> None:
    """L = (theta - 2)^2 / 2 at 0, rate .1: PG .38, GPG 4, rate times GPG .4."""
    theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    before = (theta - 2).square().sum() / 2
    (gradient,) = torch.autograd.grad(before, theta)
    after = (theta.detach() - 0.1 * gradient - 2).square().sum() / 2
    assert mixing.prediction_gain(before, after) == pytest.approx(0.38)
    assert mixing.gradient_prediction_gain(gradient) == 4.0
    assert 0.1 * mixing.gradient_prediction_gain([gradient, None]) == pytest.approx(0.4)


def test_norm_gains_by_hand() -> None:
    """(1, 2) -> (1.1, 1.9): -.18; gradient (.3, -.5): 1.4 as the rate falls, 1.400034 at 1e-4."""
    theta = torch.tensor([1.0, 2.0], dtype=torch.float64)
    moved = torch.tensor([1.1, 1.9], dtype=torch.float64)
    gradient = torch.tensor([0.3, -0.5], dtype=torch.float64)
    assert mixing.norm_gain(theta, moved) == pytest.approx(-0.18)
    assert mixing.norm_gain([theta, theta], [moved, moved]) == pytest.approx(-0.36)
    assert mixing.gradient_norm_gain(theta, gradient) == pytest.approx(1.4)
    assert mixing.gradient_norm_gain(theta, gradient, paper_sign=True) == pytest.approx(-0.7)
    at_rate = mixing.norm_gain(theta, theta - 1e-4 * gradient) / 1e-4
    assert at_rate == pytest.approx(1.400034, abs=1e-9)


def test_divergence_of_gaussians_by_hand() -> None:
    """KL(N(1, .5^2) || N(0, 1)) = .818147, and as torch.distributions has it."""
    one = torch.tensor([1.0], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    assert float(mixing.gaussian_kl(*one)) == pytest.approx(0.818147, abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    stds = torch.rand(2, 7, generator=generator, dtype=torch.float64) + 0.1
    normals = [torch.distributions.Normal(means[i], stds[i]) for i in (0, 1)]
    expected = torch.distributions.kl_divergence(*normals).sum()
    found = mixing.gaussian_kl(means[0], stds[0], means[1], stds[1])
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_gvcg_has_the_sign_of_the_finite_difference() -> None:
    """VCG per unit of learning rate, as the rate falls."""
    mean = torch.tensor([1.0, -0.3], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([0.5, 0.8], dtype=torch.float64, requires_grad=True)
    divergence = mixing.gaussian_kl(mean, std)
    of_divergence = torch.autograd.grad(divergence, (mean, std))
    of_loss = torch.autograd.grad(((mean - 3) ** 2).sum() + (std * mean).sum(), (mean, std))
    rate = 1e-6
    moved = mixing.gaussian_kl(mean - rate * of_loss[0], std - rate * of_loss[1])
    vcg = mixing.complexity_gain(divergence, moved)
    gvcg = mixing.gradient_complexity_gain(of_divergence, of_loss)
    assert vcg / rate == pytest.approx(gvcg, rel=1e-4)
    assert mixing.gradient_complexity_gain(of_divergence, of_loss, paper_sign=True) == -gvcg


def test_where_each_prediction_gain_is_measured() -> None:
    assert mixing.evaluated_task("PG", 2, 4) == (2, False)
    assert mixing.evaluated_task("SPG", 2, 4) == (2, True)
    assert mixing.evaluated_task("TPG", 2, 4, target=0) == (0, True)
    drawn = [mixing.evaluated_task("MPG", 2, 4, step=step) for step in range(60)]
    assert {task for task, fresh in drawn if fresh} == {0, 1, 2, 3}
    assert drawn == [mixing.evaluated_task("MPG", 2, 4, step=step) for step in range(60)]
    with pytest.raises(ValueError, match="target must be given"):
        mixing.evaluated_task("TPG", 2, 4)


# --- State and bad input ------------------------------------------------------------------------


def test_bandit_and_rewards_resume_exactly() -> None:
    whole, scales = Exp3S(4, 0.05, seed=3), RewardScale(20, seed=3)
    part: tuple[Exp3S, RewardScale] | None = None
    for step in range(100):
        if step == 57:
            part = Exp3S(4, 0.05, seed=3), RewardScale(20, seed=3)
            part[0].load_state_dict(whole.state_dict())
            part[1].load_state_dict(scales.state_dict())
        for bandit, scale in [(whole, scales), *([part] if part else [])]:
            arm = bandit.draw()
            bandit.update(arm, scale(math.sin(7 * step + arm)))
    assert part is not None
    assert torch.equal(part[0].log_weights, whole.log_weights)
    assert part[1].history == scales.history


def test_state_is_loaded_with_weights_only(tmp_path: Any) -> None:
    bandit = Exp3S(3, 0.1)
    bandit.update(1, 0.5)
    torch.save({"a": bandit.state_dict(), "b": RewardScale().state_dict()}, tmp_path / "s.pt")
    fresh = Exp3S(3, 0.1)
    fresh.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True)["a"])
    assert torch.equal(fresh.probabilities(), bandit.probabilities())


@pytest.mark.parametrize(
    "state",
    [
        {},
        Exp3S(4).state_dict(),
        {**Exp3S(3).state_dict(), "t": 2.0},
        {**Exp3S(3).state_dict(), "more": 1},
        None,
    ],
)
def test_a_state_of_something_else_is_refused(state: Any) -> None:
    bandit = Exp3S(3)
    with pytest.raises(ValueError, match=r"^state"):
        bandit.load_state_dict(state)
    assert bandit.t == 2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"arms": 0}, "arms"),
        ({"eta": 0.0}, "eta"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 1.1}, "epsilon"),
        ({"beta": -0.1}, "beta"),
        ({"seed": -1}, "seed"),
    ],
)
def test_exp3s_refuses_by_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Exp3S(**{"arms": 3, **change})


def test_updates_and_costs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="arm must be"):
        Exp3S(3).update(3, 1.0)
    with pytest.raises(ValueError, match="probability must be"):
        Exp3S(3).update(0, 1.0, probability=0.0)
    with pytest.raises(ValueError, match="cost must be"):
        RewardScale()(1.0, cost=0.0)
    with pytest.raises(ValueError, match="high must be"):
        RewardScale(low=0.5, high=0.4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mixing.prediction_gain(torch.zeros(2), 1.0),
        lambda: mixing.norm_gain(torch.zeros(2), torch.zeros(3)),
        lambda: mixing.norm_gain([torch.zeros(2)], []),
        lambda: mixing.gradient_prediction_gain([None]),
        lambda: mixing.gaussian_kl(torch.zeros(1), torch.zeros(1)),
    ],
)
def test_signals_of_the_wrong_shape_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        call()


def test_repr_rebuilds() -> None:
    bandit = Exp3S(3, eta=0.1, seed=4)
    assert repr(bandit) == "Exp3S(arms=3, eta=0.1, epsilon=0.05, beta=0.0, seed=4)"
    assert repr(eval(repr(bandit))) == repr(bandit)
    assert "graves2017" in gr.cite(bandit)
