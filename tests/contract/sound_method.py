"""A method that keeps the contract: what the broken ones are made of."""

from __future__ import annotations

from typing import Any

import torch

import gradatim as gr
from gradatim.selection import lowest, prefix_size
from gradatim.testing import (
    Example,
    bad_counts,
    bad_numbers,
    bad_vectors,
)
from gradatim.validation import as_vector, check_count, check_number


class Sound(gr.Method):
    """Every second epoch trains on the samples of lowest loss and score; keeps the contract."""

    wants = ("targets",)
    references = ("kumar2010",)

    def __init__(self, score: Any, *, keep: float = 0.5, warmup_epochs: int = 1) -> None:
        self.score = as_vector("score", score)
        self.keep = check_number("keep", keep, above=0, at_most=1)
        self.warmup_epochs = check_count("warmup_epochs", warmup_epochs)
        self.ended = 0

    def setup(self, run: gr.Run) -> None:
        as_vector("score", self.score, size=run.size)
        self.losses = gr.Table("loss", fill=0.0)
        self.average = gr.Scalar("average", fill=1.0)

    def chooses(self, epoch: int) -> bool:
        return self.keep < 1 and epoch >= self.warmup_epochs and epoch % 2 == 1

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        if not self.chooses(run.epoch):
            return pool
        hardness = self.losses.values[pool.index] + self.score[pool.index]
        k = prefix_size(self.keep, pool.index.numel())
        return pool.keep(lowest(hardness, k, generator=run.generator("ties")))

    def planned_size(self, size: int, epoch: int) -> int | None:
        return prefix_size(self.keep, size) if self.chooses(epoch) else size

    def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor | None:
        return None if self.keep == 1 else 1 / (1 + batch.losses)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.losses.write(batch.index, batch.losses)
        if batch.size:
            self.average.write(batch.losses.double().mean())

    def end_epoch(self, run: gr.Run) -> None:
        self.ended += 1

    def state_dict(self) -> dict[str, Any]:
        return {"ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ended = state["ended"]


def example(kind: type[Sound] = Sound, **facts: Any) -> Example:
    usual: dict[str, Any] = {
        "build": lambda problem: kind(problem.scores),
        "neutral": lambda problem: kind(problem.scores, keep=1.0),
        "bad": {
            "score": bad_vectors(60),
            "keep": bad_numbers(above=0, at_most=1),
            "warmup_epochs": bad_counts(),
        },
    }
    return Example(**{**usual, **facts})
