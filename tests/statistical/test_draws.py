"""Weighted draws without replacement: frequencies against stated probabilities (methods 1.3)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import scipy.stats
import torch

from gradatim.selection import inclusion_probabilities, weighted_draw

WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 4.0])
BY_HAND = [0.234524, 0.441270, 0.608333, 0.715873]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def races(weights: torch.Tensor, count: int, **options: Any) -> torch.Tensor:
    """Run ``count`` independent draws of all n samples, in order of drawing: (count, n).

    One draw over ``count`` copies of the weights serves for all of them: drawing without
    replacement, seen within one copy, is drawing without replacement from that copy alone.
    """
    size = weights.numel()
    copies = weights.repeat(count)
    order = weighted_draw(copies, count * size, generator=seeded(1), ordered=True, **options)
    return order[(order // size).argsort(stable=True)].reshape(count, size) % size


def shares(drawn: torch.Tensor, size: int) -> torch.Tensor:
    """The share of draws that contain each sample."""
    return drawn.flatten().bincount(minlength=size).double() / len(drawn)


def test_sets_of_two_of_four_by_hand() -> None:
    """3000 separate draws, 5 standard errors of 0.0091: fails by chance once in 10^5."""
    generator = seeded(0)
    drawn = [weighted_draw(WEIGHTS, 2, generator=generator) for _ in range(3000)]
    assert shares(torch.stack(drawn), 4).tolist() == pytest.approx(BY_HAND, abs=0.0456)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_inclusion_of_two_of_four_by_hand(dtype: torch.dtype, log: bool) -> None:
    """200 000 draws: standard error 0.0011, tolerance 4.5 of them: fails once in 10^5."""
    weights = (WEIGHTS.log() - 5 if log else WEIGHTS).to(dtype)
    drawn = races(weights, 200_000, log=log)[:, :2]
    assert shares(drawn, 4).tolist() == pytest.approx(BY_HAND, abs=0.005)


def test_draws_equal_drawing_one_after_the_other() -> None:
    """Chi-square over the 12 ordered pairs, p_i p_j / (1 - p_i): fails once in 10^5."""
    pairs = races(WEIGHTS, 200_000)[:, :2]
    observed, expected = [], []
    for i, j in itertools.permutations(range(4), 2):
        p, q = WEIGHTS[i].item() / 10, WEIGHTS[j].item() / 10
        expected.append(len(pairs) * p * q / (1 - p))
        observed.append(int((pairs == torch.tensor([i, j])).all(1).sum()))
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-5


def test_uniform_weights_draw_uniformly() -> None:
    """Chi-square of the counts of 5 of 20, corrected for drawing without replacement.

    Counts of one draw are negatively correlated: their chi-square is (n - k) / (n - 1) of the
    usual one. Fails once in 10^5, on either side.
    """
    size, k, count = 20, 5, 20_000
    counts = shares(races(torch.full((size,), 0.3), count)[:, :k], size) * count
    expected = count * k / size
    statistic = float(((counts - expected) ** 2 / expected).sum()) * (size - 1) / (size - k)
    assert 5e-6 < scipy.stats.chi2.sf(statistic, size - 1) < 1 - 5e-6


def test_inclusion_probabilities_against_draws() -> None:
    """40 of 200, exponential weights: off by at most 0.008 plus 5 standard errors of 0.0071."""
    weights = torch.empty(200).exponential_(generator=seeded(5))
    share = shares(races(weights, 5000)[:, :40], 200)
    assert (share - inclusion_probabilities(weights, 40)).abs().max() < 0.008 + 0.0354
    naive = (40 * weights / weights.sum()).clamp(max=1)
    assert (share - naive).abs().max() > 0.1  # draws can tell the two apart


@pytest.mark.parametrize("log", [False, True])
def test_samples_of_weight_zero_fill_uniformly_and_only_when_needed(log: bool) -> None:
    """6 of 3 positive and 7 zero weights, 5 standard errors: fails once in 10^5.

    torch.multinomial was seen to return zero-weight samples (trap 18).
    """
    weights = torch.tensor([0.0, 2.0, 0, 0, 1e-3, 0, 0, 5.0, 0, 0])
    positive = weights > 0
    generator, count = seeded(2), 2000
    handed = weights.log() if log else weights
    for _ in range(100):
        drawn = weighted_draw(handed, 3, generator=generator, log=log)
        assert drawn.tolist() == [1, 4, 7]
    drawn = [weighted_draw(handed, 6, generator=generator, log=log) for _ in range(count)]
    share = shares(torch.stack(drawn), 10)
    assert share[positive].tolist() == [1.0] * 3
    assert (share[~positive] - 3 / 7).abs().max() < 5 * math.sqrt(0.25 / count)


def test_the_order_of_draws_puts_weight_zero_last_and_at_random() -> None:
    """Each of 4 zero weights is first of them in a quarter of 2000 draws; 5 standard errors."""
    weights = torch.tensor([0.0, 1.0, 0.0, 0.0, 3.0, 0.0])
    generator, first = seeded(2), torch.zeros(6)
    for _ in range(2000):
        drawn = weighted_draw(weights, 6, generator=generator, ordered=True).tolist()
        assert set(drawn[:2]) == {1, 4}
        first[drawn[2]] += 1 / 2000
    assert (first[weights == 0] - 0.25).abs().max() < 5 * math.sqrt(0.1875 / 2000)


def test_equal_weights_near_all_leave_out_each_equally() -> None:
    """19 of 20: the one left out, 20 000 draws, chi-square; fails once in 10^5."""
    left_out = races(torch.ones(20), 20_000)[:, 19].bincount(minlength=20)
    assert scipy.stats.chisquare(left_out).pvalue > 1e-5


def test_leaving_out_one_favours_the_light() -> None:
    """P(left out) of 2 of 3, weights 1, 1, 2, by hand; 20 000 draws, 5 standard errors.

    The third is left out by 1, 2 or 2, 1 first: 2 * 1/4 * 1/3 = 1/6; the rest is shared.
    """
    left_out = shares(races(torch.tensor([1.0, 1.0, 2.0]), 20_000)[:, 2:], 3)
    assert left_out.tolist() == pytest.approx([5 / 12, 5 / 12, 1 / 6], abs=0.0177)


def test_more_weights_than_multinomial_takes() -> None:
    """2^24 + 16 weights, a quarter of them 3 times as heavy: they get half of the first 4000.

    5 standard errors of sqrt(1/4 / 4000); positions by a Kolmogorov-Smirnov test, once in 10^5.
    """
    size, k = 2**24 + 16, 4000
    weights = torch.ones(size)
    weights[1::4] = 3.0
    chosen = weighted_draw(weights, k, generator=seeded(0))
    assert chosen.unique().numel() == k
    heavy = float((chosen % 4 == 1).double().mean())
    assert abs(heavy - 0.5) < 5 * math.sqrt(0.25 / k)
    assert scipy.stats.kstest(chosen.numpy() / size, "uniform").pvalue > 1e-5
