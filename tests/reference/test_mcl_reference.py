"""MCL against a slow and obvious loop: its own model and losses, 20 epochs, sample by sample."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradatim.methods.mcl import MCL
from gradatim.testing import Example, Problem, Training

EPOCHS = 20
Rows = list[list[float]]


def coverage(rows: Rows, members: list[int]) -> float:
    """Eq. 2's F, from its definition."""
    return sum(math.sqrt(sum(rows[i][u] for i in members)) for u in range(len(rows[0])))


def facility(rows: Rows, members: list[int]) -> float:
    """G of facility location, from its definition."""
    distances = [math.dist(a, b) for i, a in enumerate(rows) for b in rows[:i]]
    scale = sum(distances) / len(distances)
    return sum(
        max((math.exp(-(math.dist(z, rows[i]) ** 2) / (2 * scale**2)) for i in members), default=0)
        for z in rows
    )


def greedy(losses: list[float], rows: Rows, k: int, weight: float, value: Any) -> list[int]:
    chosen: list[int] = []
    for _ in range(k):
        left = [i for i in range(len(rows)) if i not in chosen]
        chosen.append(max(left, key=lambda i: losses[i] + weight * value(rows, [*chosen, i])))
    return chosen


class Obvious:
    """Algorithm 1 with one pass of mini-batches per inner step, on a model of its own."""

    def __init__(self, problem: Problem, rows: Rows, value: Any, settings: dict[str, Any]) -> None:
        torch.random.default_generator.manual_seed(0)
        self.model = hidden(problem)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.2, momentum=0.9)
        self.problem, self.rows, self.value, self.settings = problem, rows, value, settings
        self.losses = [0.0] * problem.size
        self.weight, self.share = settings["diversity"], settings["start_fraction"]
        self.inner = 0

    def choice(self, epoch: int) -> set[int]:
        n = self.problem.size
        if epoch == 0:
            return set(range(n))
        if self.inner == self.settings["inner_epochs"]:
            self.inner = 0
            self.weight *= 1 - self.settings["gamma"]
            self.share += self.settings["growth"]
        self.inner += 1
        k = min(n, math.ceil(self.share * n - 1e-9))
        return set(greedy(self.losses, self.rows, k, self.weight, self.value))

    def train(self, index: torch.Tensor) -> None:
        problem = self.problem
        logits = self.model(problem.features[index])
        losses = F.cross_entropy(logits, problem.targets[index], reduction="none")
        losses.mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for i, loss in zip(index.tolist(), losses.tolist(), strict=True):
            self.losses[i] = loss


def hidden(problem: Problem) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.parametrize(("function", "value"), [("coverage", coverage), ("facility", facility)])
def test_zhou2018_algorithm_1_over_20_epochs(function: Any, value: Any) -> None:
    problem = Problem.make(size=24)
    rows = problem.features.abs()
    settings = {
        "start_fraction": 0.15, "growth": 0.1, "inner_epochs": 3, "gamma": 0.3, "diversity": 0.2,
    }  # fmt: skip
    method = MCL(features=rows, function=function, greedy="lazy", **settings)
    example = Example(build=lambda problem: method, neutral="none", bad={}, model=hidden)
    training = Training(example, problem, method)
    with torch.random.fork_rng(devices=[]):
        obvious = Obvious(problem, rows.double().tolist(), value, settings)
    sizes, seen = [], set()
    for epoch in range(EPOCHS):
        expected = obvious.choice(epoch)
        begun = len(training.batches)
        training.run(epoch + 1)
        visited = torch.cat(training.batches[begun:])
        assert visited.numel() == len(expected), epoch
        assert set(visited.tolist()) == expected, epoch
        for index in training.batches[begun:]:
            obvious.train(index)
        sizes.append(len(expected))
        seen.add(frozenset(expected))
    assert sizes == [24] + [4] * 3 + [6] * 3 + [9] * 3 + [11] * 3 + [14] * 3 + [16] * 3 + [18]
    assert len(seen) > 6  # and it is not the same choice all along
