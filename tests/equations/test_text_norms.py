"""Norms of single tokens and entries, and what the figures make of norms (methods.md 7)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import gradatim as gr
from gradatim.analysis import first_norms, length_and_norm, norms_by_epoch
from gradatim.scores.token_norms import NORMS

WORD, L1, L2 = gr.scores.word_norm, gr.scores.l1_norm, gr.scores.l2_norm
# Two tokens of norm 5 and 13, and one that is padding.
HIDDEN = torch.tensor([[[3.0, -4.0], [99.0, 99.0], [5.0, 12.0]]])
MASK = torch.tensor([[1, 0, 1]])


def test_the_norms_of_two_tokens_by_hand() -> None:
    """||(3, -4)|| = 5, ||(5, 12)|| = 13; 3 + 4 + 5 + 12 = 24; 25 + 169 = 194."""
    assert WORD(HIDDEN, MASK).tolist() == [18]
    assert WORD(HIDDEN, MASK, mean=True).tolist() == [9]
    assert L1(HIDDEN, MASK).tolist() == [24]
    assert L2(HIDDEN, MASK).tolist() == pytest.approx([math.sqrt(194)])


def texts(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(9, 7, 5, generator=generator, dtype=torch.float64).to(dtype)
    mask = (torch.rand(9, 7, generator=generator) < 0.6).long()
    mask[:, 3] = 1
    return hidden, mask


def test_against_numpy_text_by_text() -> None:
    hidden, mask = texts()
    for number, (states, kept) in enumerate(zip(hidden.numpy(), mask.numpy() == 1, strict=True)):
        tokens = states[kept]
        expected = {
            "nuclear": np.linalg.norm(tokens, "nuc"),
            "word": sum(np.linalg.norm(token) for token in tokens),
            "word_mean": np.mean([np.linalg.norm(token) for token in tokens]),
            "l1": np.abs(tokens).sum(),
            "l2": np.linalg.norm(tokens, "fro"),
        }
        assert set(expected) == set(NORMS)
        for name, value in expected.items():
            found = NORMS[name](hidden, mask, None)[number]
            assert float(found) == pytest.approx(value, rel=1e-12), name


def test_the_nuclear_norm_lies_between_l2_and_its_root_of_rank_fold() -> None:
    hidden, mask = texts()
    nuclear, flat = gr.scores.nuclear_norm(hidden, mask), L2(hidden, mask)
    rank = torch.minimum(mask.sum(1), torch.tensor(5))
    assert bool((flat <= nuclear + 1e-12).all())
    assert bool((nuclear <= rank.sqrt() * flat + 1e-12).all())


@pytest.mark.parametrize("name", NORMS)
def test_padding_counts_for_nothing_whatever_stands_there(name: str) -> None:
    hidden, mask = texts()
    expected = NORMS[name](hidden, mask, None)
    spoilt = hidden.masked_fill(mask.unsqueeze(2) == 0, math.nan)
    torch.testing.assert_close(NORMS[name](spoilt, mask, None), expected, rtol=1e-12, atol=0)
    longer = torch.cat([torch.full((9, 4, 5), math.inf), spoilt], 1)
    more = torch.cat([torch.zeros(9, 4), mask], 1)
    torch.testing.assert_close(NORMS[name](longer, more, None), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NORMS)
def test_half_precision_is_cast_up_and_its_overflow_is_none(name: str) -> None:
    hidden, mask = texts(torch.float16)
    hidden = hidden * 20000  # finite in float16, but not a sum of two
    found = NORMS[name](hidden, mask, None)
    assert found.dtype == torch.float32
    exact = NORMS[name](hidden.double(), mask, None)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
    brain = hidden.bfloat16()
    exact = NORMS[name](brain.double(), mask, None)
    torch.testing.assert_close(NORMS[name](brain, mask, None).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scaling_states_scales_the_norm_without_leaving_the_range(name: str, scale: float) -> None:
    hidden, mask = texts(torch.float32)
    expected = NORMS[name](hidden, mask, None).double() * scale
    found = NORMS[name](hidden * scale, mask, None).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_zeros_have_norm_0_and_no_texts_none() -> None:
    for norm in NORMS.values():
        assert norm(torch.zeros(2, 3, 4), torch.ones(2, 3), None).tolist() == [0, 0]
        assert norm(torch.zeros(0, 3, 4), torch.ones(0, 3), None).shape == (0,)


@pytest.mark.parametrize("norm", [WORD, L1, L2])
def test_states_that_are_not_finite_and_empty_texts_are_named(norm: Any) -> None:
    hidden, mask = texts()
    hidden[[4, 6], 3] = math.nan
    with pytest.raises(ValueError, match=r"finite where mask is 1. Got 2 .* at index \[4, 6\]"):
        norm(hidden, mask)
    hidden[[4, 6], 3] = math.inf
    with pytest.raises(ValueError, match=r"Got 2 .* at index \[4, 6\]"):
        norm(hidden, mask)
    with pytest.raises(ValueError, match=r"1 at least once .* index \[0\]. Are these texts empty"):
        norm(torch.ones(2, 3, 4), torch.tensor([[0, 0, 0], [1, 0, 0]]))
    with pytest.raises(TypeError, match=r"hidden_states\[-1\]"):
        norm((HIDDEN, HIDDEN), MASK)


def test_no_norm_has_a_gradient_or_changes_the_states() -> None:
    hidden, mask = texts()
    kept = hidden.clone()
    for norm in NORMS.values():
        assert not norm(hidden.requires_grad_(), mask, None).requires_grad
    assert torch.equal(hidden.detach(), kept)


# ------------------------------------------------------------------------------ what figures show


def test_moments_are_epochs_trained_and_old_norms_are_left_out() -> None:
    nan = math.nan
    norm = [[5.0, 3.0, nan], [4.0, 3.5, nan], [4.0, 3.5, nan], [6.0, 6.0, nan]]
    seen = [[0, 0, -1], [2, 2, -1], [2, 2, -1], [8, 8, -1]]
    before = [[nan, nan, nan], *[[5.0, 3.0, nan]] * 3]
    found = norms_by_epoch(norm, seen, before)
    assert [moment.epochs for moment in found] == [0, 1, 4]
    assert [moment.norms.tolist() for moment in found] == [[5, 3], [4, 3.5], [6, 6]]


def test_norms_of_training_stand_a_half_epoch_later_after_all_of_the_first_survey() -> None:
    norm, seen, before = [[9.0, 3.0], [9.0, 8.0]], [[1, 0], [1, 3]], [[5.0, math.nan], [5.0, 3.0]]
    found = norms_by_epoch(norm, seen, before)
    assert [(moment.epochs, moment.norms.tolist()) for moment in found] == [
        (0, [5, 3]),
        (0.5, [9]),
        (1.5, [8]),
    ]


def test_nothing_measured_is_no_moment() -> None:
    assert norms_by_epoch([[math.nan]], [[-1]], [[math.nan]]) == []


def test_first_norms_are_those_of_the_first_survey_where_they_are_still_known() -> None:
    found = first_norms([7.0, 4.0, 9.0, math.nan], [0, 1, 2, -1], [math.nan, 5.0, 6.0, math.nan])
    assert found.tolist() == pytest.approx([7, 5, math.nan, math.nan], nan_ok=True)


def test_table_1_bins_are_by_norm_and_show_the_mean_length() -> None:
    """Norms 1 to 7 in three bins: 3, 2 and 2 texts."""
    norms = [4.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0]
    lengths = [40, 10, 90, 60, 30, 20, 50]
    found = length_and_norm(lengths, norms, bins=3)
    assert found.texts.tolist() == [3, 2, 2]
    assert found.length.tolist() == [30, 45, 60]
    assert found.norm.tolist() == [2, 4.5, 6.5]
    # Ranks of lengths by norm: 1 6 2 4 5 3 7, so 1 - 6 (16 + 1 + 9) / (7 * 48).
    assert found.correlation == pytest.approx(1 - 6 * 26 / 336)


def test_bins_may_be_by_length_and_ties_go_by_the_other() -> None:
    found = length_and_norm([5, 5, 1, 9], [8.0, 2.0, 3.0, 1.0], bins=4, by="length")
    assert found.length.tolist() == [1, 5, 5, 9]
    assert found.norm.tolist() == [3, 2, 8, 1]
    assert length_and_norm([2, 1], [3.0, 3.0], bins=2).length.tolist() == [1, 2]


def test_correlation_of_ties_is_scipys_and_of_a_constant_nan() -> None:
    stats = pytest.importorskip("scipy.stats")
    lengths, norms = [1, 2, 2, 3, 3, 3], [2.0, 1.0, 4.0, 4.0, 5.0, 0.5]
    expected = stats.spearmanr(lengths, norms).statistic
    assert length_and_norm(lengths, norms, 2).correlation == pytest.approx(expected)
    assert math.isnan(length_and_norm([3, 3], [1.0, 2.0], 1).correlation)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: length_and_norm([1, 2], [1.0], 1), r"norms must be of shape \(N,\)"),
        (lambda: length_and_norm([], [], 1), r"lengths must be of shape \(N,\)"),
        (lambda: length_and_norm([1, 2], [1.0, math.nan], 1), "norms must be finite"),
        (lambda: length_and_norm([1, 2], [1.0, 2.0]), "bins must be a whole number.*at most 2"),
        (lambda: length_and_norm([1], [1.0], 1, by="x"), "by must be one of"),  # type: ignore[arg-type]
        (lambda: norms_by_epoch([[1.0]], [[0, 0]], [[1.0]]), r"seen must be of shape \(1, 1\)"),
        (lambda: first_norms([1.0], [0], [1.0, 2.0]), r"before must be of shape \(1, 1\)"),
        (lambda: norms_by_epoch([], [], []), "norm must be of shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
