"""Ranks that choose from their own candidates, where the last batch leaves them uneven numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import gradatim as gr

BATCH = 4  # candidates per rank; two ranks make batches of 8

METHODS: dict[str, Callable[[int], gr.Method]] = {
    "RHOLoss": lambda size: gr.RHOLoss(torch.zeros(size)),
    "OHEM": lambda size: gr.OHEM(),
    "SelectiveBackprop": lambda size: gr.SelectiveBackprop(history=16),
    "SelectiveBackprop rank": lambda size: gr.SelectiveBackprop(draw="rank"),
    "ImportanceSampling": lambda size: gr.ImportanceSampling(threshold=1e9),  # uniform
}
# (samples, k): the last batch has 1, 3 or 5 candidates: ranks have 1 and 0, 2 and 1, 3 and 2.
CASES = [(size, k) for size in (17, 19, 21) for k in (1, 2, 3, 4)]


def chosen(rank: int, world: int, name: str, size: int, k: int, batch: int) -> list[Any]:
    """Per step: the rows this rank trains on, its loss and its gradient."""
    # A seeded shuffle of samples whose losses are 1 + their number, so that no loss is 0.
    curriculum = gr.Curriculum(METHODS[name](size), seed=0)
    loader = curriculum.loader(TensorDataset(torch.arange(float(size)), torch.arange(size)), batch)
    weight = torch.ones((), requires_grad=True)
    found = []
    for x, number in loader:
        logits = torch.stack([torch.zeros_like(x), x], 1)
        signals = {"logits": logits, "targets": torch.zeros(len(x), dtype=torch.int64)}
        kept = curriculum.select(x + 1, k, **signals)
        codes = curriculum.index  # padding is decoded; its weight says so
        assert torch.equal(codes, number[kept])
        weights, scale = curriculum.weigh(weight * (x[kept] + 1))
        loss = (weights * weight * (x[kept] + 1)).sum() * scale
        (gradient,) = torch.autograd.grad(loss, weight)
        found.append((number[kept][weights > 0].tolist(), float(loss.detach()), float(gradient)))
    assert curriculum.epoch == 1
    return found


def every(rank: int, world: int, runs: list[tuple[Any, ...]], batch: int) -> list[Any]:
    return [chosen(rank, world, *run, batch) for run in runs]


@pytest.fixture(scope="module")
def two(_ranks: Any) -> dict[tuple[Any, ...], list[Any]]:
    """What each of two ranks did, by (method, size, k)."""
    runs = [(name, *case) for name in METHODS for case in CASES]
    left, right = _ranks.run(every, 2, runs, BATCH)
    return {run: list(zip(a, b, strict=True)) for run, a, b in zip(runs, left, right, strict=True)}


@pytest.mark.parametrize("name", METHODS)
def test_ranks_choose_equal_numbers_but_for_the_end(
    two: dict[tuple[Any, ...], list[Any]], name: str
) -> None:
    """k each; of the last batch as many as there are, up to k."""
    for size, k in CASES:
        steps = two[name, size, k]
        counts = [tuple(len(rows) for rows, _, _ in step) for step in steps]
        left = size % 8
        expected = [(k, k)] * 2 + [(min(k, -(-left // 2)), min(k, left // 2))]
        assert counts == expected, (size, k)


@pytest.mark.parametrize("name", METHODS)
def test_every_chosen_sample_counts_alike_whichever_rank_chose_it(
    two: dict[tuple[Any, ...], list[Any]], name: str
) -> None:
    """The ranks' mean loss, and gradient, is the mean over all that both chose."""
    for size, k in CASES:
        for step in two[name, size, k]:
            rows = [row + 1 for part, _, _ in step for row in part]
            expected = sum(rows) / len(rows)
            assert sum(loss for _, loss, _ in step) / 2 == pytest.approx(expected, rel=1e-6)
            assert sum(slope for _, _, slope in step) / 2 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_where_all_are_chosen_two_ranks_equal_one(
    two: dict[tuple[Any, ...], list[Any]], name: str
) -> None:
    for size in (17, 19, 21):
        one = chosen(0, 1, name, size, 8, 2 * BATCH)
        for (rows, loss, slope), step in zip(one, two[name, size, 4], strict=True):
            assert sorted(rows) == sorted(row for part, _, _ in step for row in part)
            assert sum(part for _, part, _ in step) / 2 == pytest.approx(loss, rel=1e-6)
            assert sum(part for _, _, part in step) / 2 == pytest.approx(slope, rel=1e-6)
