"""Online data mixing (methods.md 12.2)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradatim as gr
from gradatim.mixing import OnlineDataMixing


def at(t: int, estimates: list[float], **options: Any) -> OnlineDataMixing:
    """A mix about to draw for step t."""
    mix = OnlineDataMixing(len(estimates), **options)
    mix.estimates = torch.tensor(estimates, dtype=torch.float64)
    mix.steps = t - 1
    return mix


def rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def test_exploration_by_hand() -> None:
    """K = 3: 1/3 for t = 1, 2, 3 (exactly uniform), .302574, .270630 and .060515 at t = 100."""
    mix = OnlineDataMixing(3)
    assert [mix.exploration(t) for t in (1, 2, 3)] == [1 / 3] * 3
    assert [round(mix.exploration(t), 6) for t in (4, 5, 100)] == [0.302574, 0.270630, 0.060515]
    for t in (1, 2, 3):
        assert at(t, [5.0, 1.0, 0.0]).probabilities().tolist() == [1 / 3] * 3


def test_the_mix_and_its_update_by_hand() -> None:
    """t = 10, R = (2, 1, .5); a loss of 3.2 on domain 0 gives R = 2.693908.

    Albalak et al. 2023.
    """
    mix = gr.OnlineDataMixing(3)
    mix.load_state_dict(at(10, [2.0, 1.0, 0.5]).state_dict())
    assert round(mix.exploration(10), 6) == 0.191365
    assert round(mix.exploration(9), 6) == 0.201716
    assert rounded(mix.probabilities()) == [0.357979, 0.327543, 0.314478]
    mix.update(0, 3.2)
    assert rounded(mix.estimates) == [2.693908, 1.0, 0.5]
    assert mix.steps == 10


def test_the_linear_variant_by_hand() -> None:
    mix = at(10, [2.0, 1.0, 0.5], reward="exp_linear")
    assert rounded(mix.probabilities()) == [0.434740, 0.313052, 0.252208]
    mix.update(1, 0.5)
    assert float(mix.estimates[1]) == pytest.approx(0.9 + 0.1 * math.exp(0.5))
    untouched = at(10, [0.0, 0.0, 0.0], reward="exp_linear")
    assert rounded(untouched.probabilities()) == [0.333333] * 3


def test_several_domains_of_one_step_share_its_mix() -> None:
    """Each is divided by the probability it was drawn with; one step; repeated ones average."""
    mix, chances = at(10, [2.0, 1.0, 0.5]), at(10, [2.0, 1.0, 0.5]).probabilities().tolist()
    mix.update([2, 0, 2], [1.0, 3.2, 3.0])
    expected = [1.8 + 0.32 / chances[0], 1.0, 0.45 + 0.1 * 2.0 / chances[2]]
    assert mix.estimates.tolist() == pytest.approx(expected)
    assert mix.steps == 10


def test_warm_up_draws_by_fixed_weights_and_learns() -> None:
    mix = OnlineDataMixing(2, warmup_steps=2, weights=[3, 1])
    for _ in range(2):
        assert mix.probabilities().tolist() == [0.75, 0.25]
        mix.update(0, 1.5)
    assert mix.probabilities().tolist() != [0.75, 0.25]
    assert float(mix.estimates[0]) == pytest.approx(0.9 * 0.2 + 0.2)
    assert OnlineDataMixing(4, warmup_steps=1).probabilities().tolist() == [0.25] * 4


@given(
    st.lists(st.floats(0, 50), min_size=2, max_size=8),
    st.integers(1, 10**6),
    st.sampled_from(["importance", "exp_linear"]),
)
def test_every_domain_keeps_at_least_eps(estimates: list[float], t: int, reward: Any) -> None:
    mix = at(t, estimates, reward=reward)
    chances = mix.probabilities()
    assert float(chances.sum()) == pytest.approx(1)
    assert float(chances.min()) >= mix.exploration(t) - 1e-12


def test_the_mix_drifts_to_uniform() -> None:
    """R is an average and eps falls: reported in the docstring, and so."""
    gaps = []
    for t in (10, 1000, 100_000):
        chances = at(t, [9.0, 6.0, 3.0]).probabilities()
        gaps.append(float(chances.max() - chances.min()))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.02


def test_the_mix_resumes_exactly() -> None:
    whole, part = OnlineDataMixing(3, seed=2), OnlineDataMixing(3, seed=2)
    for step in range(80):
        if step == 31:
            part.load_state_dict(whole.state_dict())
        for mix in (whole, *([part] if step >= 31 else [])):
            source = mix.draw()
            mix.update(source, 2.0 + source + math.sin(step))
    assert torch.equal(part.estimates, whole.estimates)
    assert part.draws == whole.draws == 80


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"sources": 1}, "sources"),
        ({"alpha": 1.0}, "alpha"),
        ({"reward": "loss"}, "reward"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"weights": [1, 2]}, "weights"),
        ({"weights": [0, 0, 0]}, "weights"),
        ({"weights": [1, -1, 1]}, "weights"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        OnlineDataMixing(**{"sources": 3, **options})


@pytest.mark.parametrize(
    ("source", "loss", "name"),
    [
        (0, math.nan, "loss"),
        ([0, 1], [1.0, math.inf], "loss"),
        (3, 1.0, "source"),
        (-1, 1.0, "source"),
        ([0, 1], [1.0], "loss"),
        (0.5, 1.0, "source"),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(source: Any, loss: Any, name: str) -> None:
    mix = at(10, [2.0, 1.0, 0.5])
    with pytest.raises(ValueError, match=f"^{name} must be"):
        mix.update(source, loss)
    assert mix.steps == 9
    assert mix.estimates.tolist() == [2.0, 1.0, 0.5]


def test_what_the_warm_up_never_draws_and_what_overflows_is_refused() -> None:
    mix = OnlineDataMixing(2, warmup_steps=2, weights=[1, 0])
    with pytest.raises(ValueError, match="source must be one that the warm-up weights draw"):
        mix.update(1, 1.0)
    linear = OnlineDataMixing(2, reward="exp_linear")
    with pytest.raises(ValueError, match="loss must be small enough"):
        linear.update(0, 1000.0)
    assert linear.steps == mix.steps == 0
