"""A slow, obvious DIHCL beside the fast one: the same samples, hardness and sizes for 30 epochs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.selection import inclusion_probabilities, weighted_draw

SIZE, BATCH, EPOCHS, WARMUP = 50, 16, 30, 3
GAMMA, GAMMA_K, K_MIN = 0.8, 0.9, 0.3


class Obvious:
    """Algorithm 1 with a Python loop over samples and rates summed step by step."""

    def __init__(self, hardness: str, selection: str) -> None:
        self.hardness, self.selection = hardness, selection
        self.r = dict.fromkeys(range(SIZE), 1.0)
        self.last_loss: dict[int, float] = {}
        self.last_correct: dict[int, bool] = {}
        self.summed: dict[int, float] = {}  # rates of the steps since each sample's observation
        self.chance = dict.fromkeys(range(SIZE), 1.0)

    def choose(self, epoch: int, generator: torch.Generator) -> list[int]:
        self.chance = dict.fromkeys(range(SIZE), 1.0)
        if epoch < WARMUP:
            return list(range(SIZE))
        k = float(SIZE)
        for _ in range(epoch - WARMUP + 1):
            k = max(GAMMA_K * k, K_MIN * SIZE)
        count = math.floor(k + 1e-9)
        if self.selection == "greedy":
            return sorted(sorted(self.r, key=lambda i: -self.r[i])[:count])
        if self.selection == "rand":
            weights = torch.tensor([self.r[i] for i in range(SIZE)], dtype=torch.float32)
            return weighted_draw(weights, count, generator=generator).tolist()
        scale = math.sqrt(2 * math.log(SIZE) / SIZE)
        logits = torch.tensor([scale * self.r[i] for i in range(SIZE)], dtype=torch.float64)
        weights = [math.exp(float(value - logits.max())) for value in logits]
        chances = inclusion_probabilities(weights, count)
        self.chance = {i: max(float(chances[i]), 0.01) for i in range(SIZE)}
        return weighted_draw(logits, count, generator=generator, log=True).tolist()

    def observe(self, i: int, loss: float, correct: bool, previous_rate: float) -> None:
        a = None
        if self.hardness == "loss":
            a = loss / previous_rate
        elif i in self.last_loss:
            changed = abs(loss - self.last_loss[i])
            flipped = float(correct != self.last_correct[i])
            a = (changed if self.hardness == "loss_change" else flipped) / self.summed[i]
        if a is not None:
            self.r[i] = GAMMA * self.r[i] + (1 - GAMMA) * a / self.chance[i]
        self.last_loss[i], self.last_correct[i], self.summed[i] = loss, correct, 0.0

    def step(self, rate: float) -> None:
        for i in self.summed:  # of samples that were left out, too
            self.summed[i] += rate


@pytest.mark.parametrize("selection", ["greedy", "rand", "exp"])
@pytest.mark.parametrize("hardness", ["loss", "loss_change", "flip"])
def test_the_fast_algorithm_is_the_obvious_one(hardness: str, selection: str) -> None:
    """With a learning rate that changes at every step, so that every sum of rates differs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SIZE, 4, generator=generator)
    y = (x[:, 0] + 0.7 * torch.randn(SIZE, generator=generator) > 0).long()
    model = nn.Linear(4, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    method = gr.DIHCL(
        hardness,  # type: ignore[arg-type]
        selection,  # type: ignore[arg-type]
        warmup_epochs=WARMUP,
        gamma=GAMMA,
        gamma_k=GAMMA_K,
        k_min=K_MIN,
    )
    curriculum = gr.Curriculum(method, seed=7)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(SIZE)), BATCH)
    curriculum.attach(model=model, optimizer=optimizer)
    slow, previous, step = Obvious(hardness, selection), None, 0
    if selection == "greedy" and hardness == "flip":
        # Hardness of flips ties by the dozen and ties go by a draw; nudged apart, it cannot.
        nudge = torch.linspace(0, 0.01, SIZE)
        method.dih.write(torch.arange(SIZE), 1 + nudge)
        slow.r = {i: float(1 + nudge[i]) for i in range(SIZE)}
    for epoch in range(EPOCHS):
        expected = slow.choose(epoch, curriculum.run.generator("dihcl", "draw"))
        trained: list[int] = []
        for (index,) in loader:
            rate = 0.3 * (1 + 0.5 * math.sin(step))
            optimizer.param_groups[0]["lr"] = rate
            logits = model(x[index])
            losses = F.cross_entropy(logits, y[index], reduction="none")
            loss = curriculum(losses, logits=logits, targets=y[index])
            right = logits.argmax(1) == y[index]
            for i, value, correct in zip(
                index.tolist(), losses.tolist(), right.tolist(), strict=True
            ):
                slow.observe(i, value, correct, rate if previous is None else previous)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            slow.step(rate)
            previous, step = rate, step + 1
            trained += index.tolist()
        assert sorted(trained) == expected, f"epoch {epoch}"
        found = curriculum.scores()["DIHCL.dih"].tolist()
        assert found == pytest.approx([slow.r[i] for i in range(SIZE)], rel=1e-4), f"epoch {epoch}"
    assert curriculum.epoch == EPOCHS
