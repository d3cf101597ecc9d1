"""DoReMi (methods.md 12.3)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import gradatim as gr
from gradatim.mixing import DoReMi, domain_excess


def rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def test_weights_and_their_average_by_hand() -> None:
    """Xie et al. 2023, Algorithm 1: e = (.5, 0, .1), a = 1/3, twice."""
    proxy = gr.DoReMi(3)
    proxy.update([0.5, 0.0, 0.1])
    assert rounded(proxy.probabilities()) == [0.439097, 0.266457, 0.294446]
    proxy.update([0.5, 0.0, 0.1])
    assert rounded(proxy.probabilities()) == [0.549972, 0.202634, 0.247394]
    assert rounded(proxy.average()) == [0.494535, 0.234545, 0.270920]


def test_trap_15_each_token_is_cut_before_the_mean() -> None:
    """Token excess (.3, -.3): .15; the mean first would give 0."""
    proxy = torch.tensor([[1.3, 0.7]], dtype=torch.float64)
    sums, tokens = domain_excess(proxy, torch.ones_like(proxy), torch.tensor([0]), 1)
    assert float(sums / tokens) == pytest.approx(0.15)


def test_excess_is_the_mean_over_a_domains_tokens_without_padding() -> None:
    """Rows of one domain pool their tokens; padding may hold anything, NaN included."""
    losses = torch.tensor([[2.0, math.nan, 3.0], [1.0, 5.0, 1.5], [4.0, 4.0, math.inf]])
    mask = torch.tensor([[1, 0, 1], [1, 1, 1], [1, 1, 0]])
    sums, tokens = domain_excess(losses, torch.ones(3, 3), torch.tensor([0, 2, 0]), 4, mask=mask)
    assert sums.tolist() == [1 + 2 + 3 + 3, 0, 0 + 4 + 0.5, 0]
    assert tokens.tolist() == [4, 0, 3, 0]
    proxy = DoReMi(4)
    proxy.observe(losses, torch.ones(3, 3), torch.tensor([0, 2, 0]), mask=mask)
    proxy.update()
    assert proxy.excess.tolist() == [2.25, 0.0, 1.5, 0.0]
    assert proxy.seen.tolist() == [True, False, True, False]


def test_micro_batches_are_one_step() -> None:
    """Sums and counts add up, and are spent by the update."""
    generator = torch.Generator().manual_seed(0)
    losses, reference = torch.rand(2, 6, 5, generator=generator, dtype=torch.float64)
    domains = torch.tensor([0, 1, 2, 0, 1, 1])
    whole, parts = DoReMi(3), DoReMi(3)
    whole.observe(losses, reference, domains)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.observe(losses[rows], reference[rows], domains[rows])
    whole.update()
    parts.update()
    assert torch.allclose(whole.log_weights, parts.log_weights, atol=1e-14)
    with pytest.raises(ValueError, match="excess must be given, or tokens observed"):
        parts.update()
    assert parts.steps == 1


def test_an_absent_domain_keeps_its_last_excess() -> None:
    """First log of the vocabulary, as in the authors' code; then what was seen last."""
    proxy = DoReMi(2, vocabulary=100)
    proxy.update([1.0, math.nan])
    assert proxy.excess.tolist() == pytest.approx([1.0, math.log(100)])
    proxy.update([math.nan, 0.25])
    assert proxy.excess.tolist() == pytest.approx([1.0, 0.25])


def test_no_excess_pulls_to_uniform_by_c_alone() -> None:
    proxy = DoReMi(2, c=0.1)
    proxy.log_weights = torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    proxy.update([0.0, 0.0])
    assert proxy.probabilities().tolist() == pytest.approx([0.9 * 0.8 + 0.05, 0.9 * 0.2 + 0.05])
    free = DoReMi(2, c=0.0)
    free.log_weights = torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    free.update([0.0, 0.0])
    assert free.probabilities().tolist() == pytest.approx([0.8, 0.2])


@example([[1.0, 0.0, 0.0]], 5e-324)  # c / K would be 0
@given(
    st.lists(st.lists(st.floats(0, 1e4), min_size=3, max_size=3), min_size=1, max_size=20),
    st.floats(0, 0.9),
)
def test_weights_stay_a_distribution_above_c_over_k(steps: list[list[float]], c: float) -> None:
    """Also where exp(eta e) would overflow."""
    proxy = DoReMi(3, c=c)
    for excess in steps:
        proxy.update(excess)
        weights = proxy.probabilities()
        assert float(weights.sum()) == pytest.approx(1)
        assert float(weights.min()) >= c / 3 - 1e-12
    assert float(proxy.average().sum()) == pytest.approx(1)


def test_the_proxys_loss_weighs_domains_by_the_weights_of_the_step() -> None:
    """sum_i a_i times the mean token loss, with its gradient; absent domains add nothing."""
    proxy = DoReMi(3)
    proxy.update([0.5, 0.0, 0.1])
    losses = torch.tensor([[1.0, 3.0], [5.0, 7.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    loss = proxy.loss(losses, torch.tensor([0, 2]), mask=mask)
    weights = proxy.probabilities().tolist()
    assert float(loss.detach()) == pytest.approx(weights[0] * 2 + weights[2] * 5)
    loss.backward()
    assert losses.grad is not None
    expected = [[weights[0] / 2, weights[0] / 2], [weights[2], 0.0]]
    assert losses.grad.tolist()[0] == pytest.approx(expected[0])
    assert losses.grad.tolist()[1] == pytest.approx(expected[1])


def test_weights_are_divided_by_uneven_sampling() -> None:
    proxy = DoReMi(2, sampling=[3, 1])
    assert proxy.loss_weights().tolist() == pytest.approx([0.25, 0.75])
    assert proxy.probabilities().tolist() == pytest.approx([0.5, 0.5])


def test_doremi_resumes_exactly_also_between_micro_batches() -> None:
    generator = torch.Generator().manual_seed(1)
    whole, part = DoReMi(2), DoReMi(2)
    for step in range(20):
        losses, reference = torch.rand(2, 4, 3, generator=generator)
        for half in (slice(0, 2), slice(2, 4)):
            domains = torch.tensor([0, 1])
            whole.observe(losses[half], reference[half], domains)
            if step >= 9:
                part.observe(losses[half], reference[half], domains)
            elif step == 8 and half.start == 2:
                part.load_state_dict(whole.state_dict())
        whole.update()
        if step >= 8:
            part.update()
    assert torch.equal(whole.log_weights, part.log_weights)
    assert torch.equal(whole.average(), part.average())


def test_a_domain_that_never_has_a_token_is_named() -> None:
    proxy = DoReMi(3)
    with pytest.raises(ValueError, match="average must be asked for after an update"):
        proxy.average()
    proxy.update([0.1, math.nan, 0.2])
    with pytest.raises(ValueError, match=r"domains must be seen .* Got no token of \[1\]"):
        proxy.average()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"domains": 0}, "domains"),
        ({"eta": 0.0}, "eta"),
        ({"c": 1.0}, "c"),
        ({"c": -0.1}, "c"),
        ({"vocabulary": 0}, "vocabulary"),
        ({"sampling": [1, 2]}, "sampling"),
        ({"sampling": [1, 0, 2]}, "sampling"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        DoReMi(**{"domains": 3, **options})


@pytest.mark.parametrize("excess", [[0.1, -0.1], [0.1, math.inf], [0.1], [[0.1, 0.2]]])
def test_a_bad_excess_is_refused_and_changes_nothing(excess: Any) -> None:
    proxy = DoReMi(2)
    before = str(proxy.state_dict())
    with pytest.raises(ValueError, match="excess must be"):
        proxy.update(excess)
    assert str(proxy.state_dict()) == before


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"losses": torch.zeros(2)}, "losses"),
        ({"reference": torch.zeros(2, 2)}, "reference"),
        ({"mask": torch.ones(3, 2)}, "mask"),
        ({"domains": torch.tensor([0, 2])}, "domains"),
        ({"domains": torch.tensor([0])}, "domains"),
        ({"domains": torch.tensor([0.0, 1.0])}, "domains"),
        ({"losses": torch.full((2, 3), math.nan)}, "losses"),
    ],
)
def test_a_bad_observation_is_refused(change: dict[str, Any], name: str) -> None:
    sound: dict[str, Any] = {
        "losses": torch.zeros(2, 3),
        "reference": torch.zeros(2, 3),
        "domains": torch.tensor([0, 1]),
    }
    proxy = DoReMi(2)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        proxy.observe(**{**sound, **change})
    assert float(proxy.tokens.sum()) == 0
