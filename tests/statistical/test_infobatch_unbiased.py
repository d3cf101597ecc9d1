"""InfoBatch is unbiased: an epoch's weighted gradients sum to those of the full data (10.3)."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

import gradatim as gr

SIZE, EPOCHS = 200, 20_000


def drawn(mode: Literal["bernoulli", "fixed"], epochs: int, copies: int) -> torch.Tensor:
    """The weights of samples in each epoch, 0 where skipped: (epochs, SIZE).

    Bernoulli tosses are independent, so one plan of many copies of the data is many epochs; a
    fixed number is kept over all of a plan, so there each epoch needs a plan of its own.
    """
    scores = torch.randn(SIZE, generator=torch.Generator().manual_seed(4)).exp()
    method = gr.InfoBatch(None, ratio=0.4, mode=mode)
    size = SIZE * copies
    method.setup(gr.Run(size=size, seed=0))
    method.score.allocate(size).write(torch.arange(size), scores.repeat(copies))
    rows = []
    for epoch in range(1, epochs // copies + 1):
        pool = method.plan(gr.Pool(torch.arange(size)), gr.Run(size=size, seed=0, epoch=epoch))
        weights = torch.zeros(size)
        assert pool.weights is not None
        weights[pool.index] = pool.weights
        rows.append(weights.reshape(copies, SIZE))
    return torch.cat(rows).double()


@pytest.mark.parametrize(("mode", "copies"), [("bernoulli", 1000), ("fixed", 1)])
def test_qin2024_the_weighted_sum_of_gradients_is_the_full_one(
    mode: Literal["bernoulli", "fixed"], copies: int
) -> None:
    """Fails by chance less than once in 10^4: 10 directions, each within 4.5 standard errors.

    Weighing kept samples by 1, as plain pruning does, is off by dozens of them.
    """
    epochs = EPOCHS if mode == "bernoulli" else 1_000
    weights = drawn(mode, epochs, copies)
    gradients = torch.randn(SIZE, 10, generator=torch.Generator().manual_seed(9)).double()
    gradients = gradients + 0.5
    sums = weights @ gradients
    errors = sums.std(0) / math.sqrt(epochs)
    assert (errors > 0).all()
    off = (sums.mean(0) - gradients.sum(0)) / errors
    assert off.abs().max() < 4.5
    unweighted = (weights > 0).double() @ gradients
    assert ((unweighted.mean(0) - gradients.sum(0)) / errors).abs().min() > 20


def test_a_low_sample_is_kept_with_chance_one_minus_r() -> None:
    """20 000 tosses each of about 120: 5 standard errors of .0035; by chance once in 10^4."""
    weights = drawn("bernoulli", EPOCHS, 1000)
    shares = (weights > 0).double().mean(0)
    low = shares < 1
    assert 100 < int(low.sum()) < 160
    assert shares[low].sub(0.6).abs().max() < 5 * math.sqrt(0.24 / EPOCHS)
