"""Mixtures over two processes: what ranks agree on without a word, and DoReMi's shared sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradatim.mixing import DoReMi, MixtureLoader

LOSSES = torch.linspace(0.0, 3.0, 24, dtype=torch.float64).reshape(6, 4)
REFERENCE = torch.linspace(2.0, 0.5, 24, dtype=torch.float64).reshape(6, 4)
DOMAINS = torch.tensor([0, 1, 0, 2, 1, 1])


def observed(rank: int, world: int) -> list[float]:
    proxy = DoReMi(3)
    proxy.observe(LOSSES[rank::world], REFERENCE[rank::world], DOMAINS[rank::world])
    proxy.update()
    return proxy.probabilities().tolist()


def batches(rank: int, world: int) -> list[list[int]]:
    data = [list(range(30)), list(range(100, 120))]
    loader = MixtureLoader(data, 8 // world, weights=[2, 1], max_epochs=1, seed=3)
    return [batch.data.tolist() for batch in loader]


def test_doremi_pools_the_tokens_of_all_ranks(run_ranks: Callable[..., list[Any]]) -> None:
    alone = torch.tensor(observed(0, 1))
    one, two = run_ranks(observed, 2)
    assert one == two
    assert torch.allclose(torch.tensor(one), alone, atol=1e-12)


def test_two_ranks_share_the_batches_of_one(run_ranks: Callable[..., list[Any]]) -> None:
    whole = batches(0, 1)
    one, two = run_ranks(batches, 2)
    assert len(one) == len(two) == len(whole) == 7
    for batch, left, right in zip(whole, one, two, strict=True):
        assert sorted([*left, *right]) == sorted(batch)
