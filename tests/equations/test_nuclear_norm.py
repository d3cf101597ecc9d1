"""The nuclear norm of token representations (methods.md 7, Eq. 1), against singular values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gradatim.scores import nuclear, nuclear_norm


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def of(matrix: Any) -> float:
    """The norm of one matrix, no row of it masked."""
    rows = torch.as_tensor(matrix, dtype=torch.float64).unsqueeze(0)
    return float(nuclear_norm(rows, torch.ones(rows.shape[:2])))


def by_singular_values(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The definition, text by text, in float64."""
    rows = [
        torch.linalg.svdvals(states[kept.bool()].double()).sum()
        for states, kept in zip(hidden, mask, strict=True)
    ]
    return torch.stack(rows)


def prefixes(lengths: list[int], longest: int) -> torch.Tensor:
    return (torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)).long()


@pytest.mark.parametrize(
    ("matrix", "norm"),
    [
        ([[3, 0], [0, 4], [0, 0]], 7.0),
        ([[1, 1], [1, 1]], 2.0),
        ([[1, 2], [3, 4]], 5.830952),  # sqrt(1 + 4 + 9 + 16 + 2 |4 - 6|)
        ([[-5.0]], 5.0),
        ([[0.0, 0.0]], 0.0),
    ],
)
def test_eq_1_by_hand(matrix: Any, norm: float) -> None:
    assert of(matrix) == pytest.approx(norm, abs=1e-6)


def test_eq_1_the_norm_of_a_two_by_two_matrix_in_closed_form() -> None:
    """sqrt(||E||_F^2 + 2 |det E|)."""
    for seed in range(20):
        matrix = random(2, 2, seed=seed, dtype=torch.float64)
        closed = math.sqrt(float(matrix.square().sum()) + 2 * abs(float(torch.det(matrix))))
        assert of(matrix) == pytest.approx(closed, rel=1e-7)


INPUTS = {
    "wide": random(4, 30, 48),
    "tall": random(4, 48, 30),
    "square": random(4, 16, 16),
    "rank 1": random(4, 60, 1) @ random(4, 1, 96, seed=1),
    "rank 1, tall": random(4, 96, 1) @ random(4, 1, 60, seed=1),
    "rank 5": random(4, 60, 5) @ random(4, 5, 96, seed=1),
    "far from 0": 100 + random(4, 40, 64),
}
MASKS = {
    "whole": lambda length: prefixes([length] * 4, length),
    "prefixes": lambda length: prefixes([1, length // 2, length // 2, length - 1], length),
    "left padding": lambda length: prefixes([1, length // 2, 3, length], length).flip(1),
    "holes": lambda length: (random(4, length, seed=9) > 0).long(),
}


@pytest.mark.parametrize("states", INPUTS)
@pytest.mark.parametrize("masking", MASKS)
def test_eq_1_eigenvalues_in_float64_equal_singular_values(states: str, masking: str) -> None:
    hidden = INPUTS[states]
    mask = MASKS[masking](hidden.shape[1])
    expected = by_singular_values(hidden, mask)
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-6)):
        found = nuclear_norm(hidden.to(dtype), mask)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=0)


def test_trap_8_a_gram_matrix_in_float32_is_wrong_on_rank_1_and_ours_is_not() -> None:
    hidden = random(1, 250, 1) @ random(1, 1, 768, seed=1)
    exact = float(hidden.double().square().sum().sqrt())  # of rank 1: its Frobenius norm
    narrow = torch.linalg.eigvalsh(hidden @ hidden.mT).clamp(min=0).sqrt().sum()
    assert abs(float(narrow) / exact - 1) > 1e-3
    ours = nuclear_norm(hidden, torch.ones(1, 250))
    assert abs(float(ours) / exact - 1) < 1e-6


@pytest.mark.parametrize("junk", [0.0, 7.0, math.nan, math.inf, -math.inf])
def test_trap_9_what_stands_in_padding_does_not_matter(junk: float) -> None:
    """Zero rows add singular values of 0 alone; others must not be looked at."""
    hidden, mask = random(5, 12, 8, dtype=torch.float64), prefixes([3, 12, 1, 7, 7], 12)
    filled = torch.where(mask.bool().unsqueeze(2), hidden, junk)
    norms = nuclear_norm(filled, mask)
    assert torch.equal(norms, nuclear_norm(hidden, mask))
    zeroed = torch.where(mask.bool().unsqueeze(2), hidden, 0.0)
    padded = torch.cat([zeroed, torch.zeros(5, 9, 8, dtype=torch.float64)], 1)
    every = torch.stack([torch.linalg.svdvals(rows).sum() for rows in padded])
    torch.testing.assert_close(norms, every, rtol=1e-7, atol=1e-10)
    longer = torch.cat([mask, torch.zeros(5, 9).long()], 1)
    torch.testing.assert_close(nuclear_norm(padded, longer), norms, rtol=0, atol=1e-10)


def test_trap_9_padding_that_is_not_masked_counts() -> None:
    text, padding = random(1, 4, 8), random(1, 3, 8, seed=1)
    alone = float(nuclear_norm(text, torch.ones(1, 4)))
    together = float(nuclear_norm(torch.cat([text, padding], 1), torch.ones(1, 7)))
    assert together > 1.2 * alone


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (7, 7)])
def test_properties_of_a_norm(shape: tuple[int, int]) -> None:
    for seed in range(5):
        matrix = random(*shape, seed=seed, dtype=torch.float64)
        norm, frobenius = of(matrix), float(matrix.norm())
        shuffled = matrix[torch.randperm(shape[0], generator=torch.Generator().manual_seed(seed))]
        rotation = torch.linalg.qr(random(shape[1], shape[1], seed=9, dtype=torch.float64))[0]
        assert of(shuffled) == pytest.approx(norm, rel=1e-7)
        assert of(matrix @ rotation) == pytest.approx(norm, rel=1e-7)
        for factor in (-3.0, 1e-3, 1e4):
            assert of(factor * matrix) == pytest.approx(abs(factor) * norm, rel=1e-7)
        assert frobenius <= norm <= math.sqrt(min(shape)) * frobenius + 1e-9
        assert of(matrix[:-1]) <= norm + 1e-9  # another token never takes from it
        other = random(*shape, seed=seed + 50, dtype=torch.float64)
        assert of(matrix + other) <= norm + of(other) + 1e-9


def test_extreme_values_neither_overflow_nor_vanish() -> None:
    plain = of([[1, 2], [3, 4]])
    for factor in (1e-200, 1e200):
        scaled = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64) * factor
        assert of(scaled) == pytest.approx(plain * factor, rel=1e-7)
    narrow = torch.tensor([[[1e30, 2e30], [3e30, 4e30]]])
    found = float(nuclear_norm(narrow, torch.ones(1, 2)))
    assert found == pytest.approx(plain * 1e30, rel=1e-6)
    assert float(nuclear_norm(torch.zeros(1, 2, 2), torch.ones(1, 2))) == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_up(dtype: torch.dtype) -> None:
    hidden, mask = random(3, 9, 6, dtype=dtype), prefixes([9, 4, 1], 9)
    found = nuclear_norm(hidden, mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, nuclear_norm(hidden.float(), mask))


def test_every_real_kind_of_mask_means_the_same() -> None:
    hidden, mask = random(3, 5, 4), prefixes([5, 2, 3], 5)
    expected = nuclear_norm(hidden, mask)
    for given in (mask.bool(), mask.float(), mask.to(torch.uint8), mask.numpy(), mask.tolist()):
        assert torch.equal(nuclear_norm(hidden, given), expected)


def test_a_text_costs_and_means_the_same_in_any_company() -> None:
    """Rows are grouped by length inside; results stand where the texts stood."""
    lengths = [4, 9, 1, 9, 4, 12, 2, 9]
    hidden, mask = random(8, 12, 6), prefixes(lengths, 12)
    together = nuclear_norm(hidden, mask)
    alone = torch.cat(
        [nuclear_norm(hidden[row : row + 1], mask[row : row + 1]) for row in range(8)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=0)
    assert together.argsort().tolist() != list(range(8))


def test_short_texts_do_not_pay_for_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    gram = nuclear._gram_sums

    def watched(rows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(rows.shape))
        return gram(rows)

    monkeypatch.setattr(nuclear, "_gram_sums", watched)
    nuclear_norm(random(4, 20, 6), prefixes([3, 10, 3, 1], 20))
    assert shapes == [(1, 1, 6), (2, 3, 6), (1, 10, 6)]


def test_elsewhere_than_on_the_cpu_singular_values_say_the_same() -> None:
    for hidden in INPUTS.values():
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            rows = hidden.to(dtype)
            found = nuclear._singular_sums(rows)
            assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            expected = nuclear._gram_sums(rows).to(found.dtype)
            torch.testing.assert_close(found, expected, rtol=2e-5, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_says_what_the_cpu_says() -> None:
    for hidden in INPUTS.values():
        for masking in MASKS.values():
            mask = masking(hidden.shape[1])
            for given in (mask, mask.cuda()):
                found = nuclear_norm(hidden.cuda(), given)
                assert found.device.type == "cuda"
                torch.testing.assert_close(
                    found.cpu(), nuclear_norm(hidden, mask), rtol=2e-5, atol=0
                )


def test_no_gradient_no_change_of_what_is_given_and_no_texts() -> None:
    hidden = random(3, 4, 5).requires_grad_()
    mask = prefixes([4, 2, 1], 4)
    kept = hidden.detach().clone()
    assert not nuclear_norm(hidden, mask).requires_grad
    assert torch.equal(hidden.detach(), kept)
    assert nuclear_norm(torch.zeros(0, 4, 5), torch.zeros(0, 4)).shape == (0,)
    strided = random(4, 3, 5).transpose(0, 1)  # not contiguous
    expected = by_singular_values(strided, mask)
    torch.testing.assert_close(nuclear_norm(strided, mask).double(), expected, rtol=1e-6, atol=0)


STATES, ONES = torch.ones(3, 4, 2), torch.ones(3, 4)


@pytest.mark.parametrize(
    ("hidden", "mask", "message"),
    [
        (STATES, torch.ones(3, 5), r"mask must be of shape \(3, 4\), as hidden. Got .*\(3, 5\)"),
        (STATES, torch.ones(4), r"mask must be of shape \(3, 4\)"),
        (STATES[0], ONES, r"hidden must be a floating tensor of shape \(B, L, h\)"),
        (STATES.long(), ONES, r"hidden must be a floating tensor .* dtype int64"),
        (STATES, ONES * 2, r"mask must be 0 or 1 everywhere. Got 2.0."),
        (STATES, -1e9 * ONES, r"mask must be 0 or 1 .* Pass the tokenizer's attention_mask"),
        (STATES, ONES * math.nan, r"mask must be 0 or 1 everywhere. Got nan"),
        (
            STATES,
            torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]),
            r"mask must be 1 at least once in each row. Got 1 zero row at index \[1\]",
        ),
        (STATES * torch.tensor([1, math.inf, math.nan]).reshape(3, 1, 1), ONES, r"\[1, 2\]"),
    ],
)
def test_bad_input_is_refused_by_name(hidden: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nuclear_norm(hidden, mask)


def test_what_is_no_tensor_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"hidden must be .* Got tuple. .* hidden_states\[-1\]"):
        nuclear_norm((STATES, STATES), ONES)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"hidden must be a floating tensor .* Got NoneType"):
        nuclear_norm(None, ONES)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"mask must be a tensor of 0 and 1. Got str"):
        nuclear_norm(STATES, "ones")
    assert np.isfinite(nuclear_norm(STATES, ONES).numpy()).all()


def test_a_sum_that_overflows_is_not_taken_for_states_that_are_not_finite() -> None:
    hidden = torch.full((1, 2, 4), 3e38)
    found = float(nuclear_norm(hidden / 4, torch.ones(1, 2)))
    assert found == pytest.approx(3e38 / 4 * math.sqrt(8), rel=1e-6)
    signs = torch.tensor([[[math.inf, -math.inf]], [[1.0, 2.0]]])
    with pytest.raises(ValueError, match=r"Got 1 non-finite row at index \[0\]"):
        nuclear_norm(signs, torch.ones(2, 1))
