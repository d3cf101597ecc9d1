"""DoCL against a slow one: Algorithm 1 with loops over samples and dictionaries, in real training.

The slow one is told what the loop below sees anyway: the batches, the outputs, the learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.methods.docl import DoCL

SIZE = 60
CLASSES = 3
ENDS = (3, 6, 10, 15)
EPOCHS = 30


class Slow:
    """Algorithm 1 of Zhou, Wang and Bilmes (AISTATS 2021) as methods and text together want it."""

    def __init__(
        self,
        *,
        sampling: str = "boltzmann",
        temperature: float = 0.1,
        gamma: float = 0.9,
        gamma_k: float = 0.9,
        k_min: float = 0.2,
        score: str = "residual",
        growth: float = 1.1,
        exp3: bool = False,
        lr_sum: str = "elapsed",
        task: str = "classification",
    ) -> None:
        self.sampling, self.temperature, self.gamma = sampling, temperature, gamma
        self.gamma_k, self.k_min, self.growth = gamma_k, k_min, growth
        self.score, self.exp3, self.lr_sum, self.task = score, exp3, lr_sum, task
        self.g: dict[int, list[float]] = {}
        self.rho: dict[int, float] = {}
        self.ahat: dict[int, float] = {}
        self.chance: dict[int, float] = {}
        self.k = k_min * SIZE if score == "norm" else float(SIZE)

    # --- lines 3 to 5 and 19

    def ends(self) -> list[int]:
        ends = list(ENDS)
        while ends[-1] < EPOCHS:
            ends.append(ends[-1] + ENDS[-1] - ENDS[-2])
        return ends

    def large(self, epoch: int) -> bool:
        t = epoch + 1
        return t <= ENDS[0] or t in self.ends()

    def end_epoch(self, epoch: int) -> None:
        t = epoch + 1
        if t not in self.ends():
            return
        if self.score == "norm":
            if t != ENDS[0]:
                self.k = min(float(SIZE), self.growth * self.k)
        else:
            self.k = max(self.k_min * SIZE, self.gamma_k * self.k)

    # --- line 9

    def subset(self) -> int:
        return max(1, math.floor(self.k + 1e-9))

    def log_weights(self) -> list[float]:
        best = max(self.ahat.values()) if self.ahat else 0.0
        scores = [self.ahat.get(i, best) for i in range(SIZE)]
        if self.sampling == "boltzmann":
            return [a / self.temperature for a in scores]
        if self.sampling == "topk":
            return scores
        low, high = min(scores), max(scores)
        return [math.log(max(a - low, 1e-6 * (high - low), 1e-30)) for a in scores]

    def draw(self, generator: torch.Generator) -> set[int]:
        weights = self.log_weights()
        if self.sampling == "topk":
            order = sorted(range(SIZE), key=lambda i: -weights[i])
            return set(order[: self.subset()])
        drawn = gr.selection.weighted_draw(
            torch.tensor(weights), self.subset(), generator=generator, log=True
        )
        return set(drawn.tolist())

    def start_epoch(self, epoch: int) -> None:
        self.chance = dict.fromkeys(range(SIZE), 1.0)
        if not self.exp3 or self.large(epoch) or self.subset() >= SIZE:
            return
        logs = self.log_weights()
        weights = [math.exp(weight - max(logs)) for weight in logs]
        shares = [weight / sum(weights) for weight in weights]
        low, high = 0.0, 1.0
        while sum(1 - math.exp(-high * p) for p in shares) < self.subset():
            high *= 2
        for _ in range(200):
            middle = (low + high) / 2
            short = sum(1 - math.exp(-middle * p) for p in shares) < self.subset()
            low, high = (middle, high) if short else (low, middle)
        for i in range(SIZE):
            self.chance[i] = max(0.01, 1 - math.exp(-high * shares[i]))

    # --- lines 13 to 17

    def residual(self, f: Sequence[float], y: Any) -> list[float]:
        if self.task == "regression":
            return [target - value for target, value in zip(y, f, strict=True)]
        total = sum(math.exp(value - max(f)) for value in f)
        p = [math.exp(value - max(f)) / total for value in f]
        return [(1.0 if c == y else 0.0) - p[c] for c in range(len(f))]

    def loss(self, f: Sequence[float], y: Any) -> float:
        return sum(part * part for part in self.residual(f, y)) / 2

    def observe(self, i: int, f: list[float], y: Any, rate: float) -> None:
        if i in self.g:
            rho = self.rho[i] + (rate if self.lr_sum == "inclusive" else 0.0)
            if rho > 1e-12:
                dynamics = [(now - then) / rho for now, then in zip(f, self.g[i], strict=True)]
                if self.score == "norm":
                    a = math.sqrt(sum(d * d for d in dynamics))
                else:
                    a = sum(r * d for r, d in zip(self.residual(f, y), dynamics, strict=True))
                a /= self.chance[i]
                old = self.ahat.get(i)
                self.ahat[i] = a if old is None else self.gamma * old + (1 - self.gamma) * a
        self.g[i] = f
        self.rho[i] = 0.0

    def step(self, rate: float) -> None:
        """Every sample's sum grows with every optimizer step, selected or not."""
        for i in self.rho:
            self.rho[i] += rate


def rate_of(step: int) -> float:
    """Cosine cycles with a rate of exactly 0 now and then."""
    return 0.0 if step % 17 == 5 else 0.05 + 0.2 * (1 + math.cos(math.pi * (step % 23) / 23))


VARIANTS: dict[str, dict[str, Any]] = {
    "boltzmann": {},
    "cold": {"temperature": 0.01, "gamma_k": 0.8, "gamma": 0.5},
    "proportional, inclusive": {"sampling": "proportional", "lr_sum": "inclusive", "gamma_k": 0.7},
    "topk": {"sampling": "topk", "gamma_k": 0.6},
    "no residual": {"score": "norm", "growth": 1.2, "k_min": 0.3},
    "exp3": {"exp3": True, "gamma_k": 0.7},
    "regression": {"task": "regression", "gamma_k": 0.7},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_algorithm_1_agrees_with_the_slow_one_sample_by_sample(settings: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SIZE, 4, generator=generator)
    noise = torch.randn(SIZE, CLASSES, generator=generator)
    regression = settings.get("task") == "regression"
    y: Any = x[:, :CLASSES] + noise / 2 if regression else (x[:, :CLASSES] + noise).argmax(1)
    truth = y.tolist()
    model = nn.Linear(4, CLASSES, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    fast, slow = DoCL(episodes=ENDS, batch_mul=2, **settings), Slow(**settings)
    curriculum = gr.Curriculum(fast, seed=7)
    loader = curriculum.loader(range(SIZE), batch_size=8)
    curriculum.attach(model, optimizer)
    signal = "outputs" if regression else "logits"
    selected_epochs = step = 0
    for epoch in range(EPOCHS):
        assert fast.large_batch(epoch) is slow.large(epoch)
        members = set(range(SIZE))
        if not slow.large(epoch):
            assert fast.planned_size(SIZE, epoch) == slow.subset()
            found = fast.log_weights(torch.arange(SIZE)).tolist()
            assert found == pytest.approx(slow.log_weights(), rel=2e-4, abs=2e-3)
            members = slow.draw(curriculum.run.generator("docl", "draw"))
            selected_epochs += len(members) < SIZE
        slow.start_epoch(epoch)
        shown: set[int] = set()
        for index in loader:
            rate = rate_of(step)
            optimizer.param_groups[0]["lr"] = rate
            outputs = model(x[index])
            losses = curriculum.criterion(outputs, y[index])
            values = outputs.detach().double().tolist()
            for i, f, loss in zip(index.tolist(), values, losses.tolist(), strict=True):
                if slow.large(epoch) or regression:
                    assert loss == pytest.approx(slow.loss(f, truth[i]), rel=1e-4, abs=1e-6)
                slow.observe(i, f, truth[i], rate)
            if not slow.large(epoch) and not regression:
                assert losses.equal(F.cross_entropy(outputs, y[index], reduction="none"))
            curriculum(losses, **{signal: outputs}, targets=y[index]).backward()
            optimizer.step()
            optimizer.zero_grad()
            slow.step(rate)
            shown |= set(index.tolist())
            step += 1
        slow.end_epoch(epoch)
        assert shown == members
        scores = curriculum.scores()["DoCL.score"].tolist()
        for i in range(SIZE):
            if i in slow.ahat:
                assert scores[i] == pytest.approx(slow.ahat[i], rel=2e-4, abs=2e-4)
            else:
                assert math.isnan(scores[i])
    assert selected_epochs > 10
