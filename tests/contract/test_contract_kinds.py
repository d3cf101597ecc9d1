"""The suite holds methods of every kind that the protocol allows, not only today's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.selection import prefix_size
from gradatim.testing import METHOD_CHECKS, Example, Problem, bad_numbers, run_checks
from gradatim.validation import check_number


class TopLosses(gr.Method):
    """Selects the hardest of a batch."""

    def select(self, batch: gr.Batch, k: int, run: gr.Run) -> torch.Tensor:
        return batch.losses.topk(k).indices


class Preferring(gr.Method):
    """Draws part of the samples, in proportion to one more than their last losses."""

    def __init__(self, keep: float = 0.5) -> None:
        self.keep = check_number("keep", keep, above=0, at_most=1)

    def setup(self, run: gr.Run) -> None:
        self.losses = gr.Table("loss", fill=1.0)

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        if self.keep == 1:
            return pool
        size = prefix_size(self.keep, pool.index.numel())
        return replace(pool.prefer((self.losses.values[pool.index] + 1).log()), size=size)

    def planned_size(self, size: int, epoch: int) -> int:
        return prefix_size(self.keep, size)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.losses.write(batch.index, batch.losses)


class Changing(gr.Method):
    """Trains on samples whose loss changes, per learning rate spent between two visits."""

    wants = ("learning_rate",)

    def setup(self, run: gr.Run) -> None:
        self.losses = gr.Table("loss", dtype=torch.float64)
        self.stamps = gr.Table("stamp", dtype=torch.float64, fill=-1.0)
        self.changes = gr.Table("change", dtype=torch.float64)

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        changes = self.changes.values[pool.index]
        if run.epoch % 2 == 0:
            return pool
        order = (-changes).argsort(stable=True)
        return pool.keep(order[: prefix_size(0.5, order.numel())])

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        losses, clock = batch.losses.double(), batch.clock
        assert isinstance(clock, torch.Tensor)
        elapsed = (clock - self.stamps[batch.index]).clamp(min=0.1)
        self.changes.write(batch.index, (losses - self.losses[batch.index]).abs() / elapsed)
        self.losses.write(batch.index, losses)
        self.stamps.write(batch.index, clock)


class Normed(gr.Method):
    """Orders by the norm of hidden states, which it asks a survey for every other epoch."""

    wants = ("hidden",)

    def setup(self, run: gr.Run) -> None:
        self.norms = gr.Table("norm")
        self.surveyed = -1

    def survey_due(self, run: gr.Run) -> bool:
        return run.epoch % 2 == 0 and self.surveyed != run.epoch

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        norms = self.norms.values[pool.index]
        keep = 0.5 + run.epoch % 2 / 2
        return pool.keep(norms.argsort()[: prefix_size(keep, norms.numel())])

    def record(self, batch: gr.Batch, run: gr.Run) -> dict[str, torch.Tensor]:
        return {"norm": batch.signals["hidden"].flatten(1).norm(dim=1)}

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.norms.write(batch.index, batch.signals["norm"])
        if batch.surveyed:
            self.surveyed = run.epoch

    def state_dict(self) -> dict[str, Any]:
        return {"surveyed": self.surveyed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.surveyed = state["surveyed"]


class Squared(gr.Method):
    """Trains on squared errors in every other epoch."""

    def replaces_criterion(self, run: gr.Run) -> bool:
        return run.epoch % 2 == 0

    def criterion(
        self, logits: torch.Tensor, targets: torch.Tensor, run: gr.Run
    ) -> torch.Tensor | None:
        if run.epoch % 2:
            return None
        truth = F.one_hot(targets, logits.shape[1]).to(logits)
        return (logits.softmax(1) - truth).square().sum(1)


class Slowed(gr.Method):
    """Scales the learning rate within each optimizer step, the less the later the epoch."""

    def __init__(self, start: float = 0.5) -> None:
        self.start = check_number("start", start, above=0, at_most=1)
        self.hooks: list[Any] = []

    def attach(self, model: nn.Module | None, optimizer: Any | None) -> None:
        assert optimizer is not None
        self.hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._scale(optimizer, self.factor)),
            optimizer.register_step_post_hook(lambda *_: self._scale(optimizer, 1 / self.factor)),
        ]

    def detach(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks = []

    def start_epoch(self, run: gr.Run) -> None:
        self.factor = min(1.0, self.start * 2**run.epoch)

    @staticmethod
    def _scale(optimizer: Any, factor: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= factor


def two_layers(problem: Problem) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


KINDS = {
    "selecting": Example(
        build=lambda problem: TopLosses(),
        neutral="it always leaves out a part of each batch",
        bad={},
        exceptions={"return": "the easiest of a batch may be so in every batch"},
    ),
    "drawing by weight": Example(
        build=lambda problem: Preferring(),
        neutral=lambda problem: Preferring(keep=1.0),
        bad={"keep": bad_numbers(above=0, at_most=1)},
        returns_within=15,
    ),
    "clocked": Example(
        build=lambda problem: Changing(),
        neutral="every other epoch leaves out half of the samples",
        bad={},
    ),
    "surveyed": Example(
        build=lambda problem: Normed(),
        neutral="every other epoch leaves out half of the samples",
        bad={},
        signals={"hidden": lambda problem, index: problem.features[index].unsqueeze(1)},
    ),
    "with its own criterion": Example(
        build=lambda problem: Squared(),
        neutral="it has no parameter",
        bad={},
    ),
    "acting on the optimizer": Example(
        build=lambda problem: Slowed(),
        neutral=lambda problem: Slowed(start=1.0),
        bad={"start": bad_numbers(above=0, at_most=1)},
        model=two_layers,
    ),
}


@pytest.mark.parametrize("check", METHOD_CHECKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_method_of_this_kind_passes(kind: str, check: str) -> None:
    excepted = KINDS[kind].exceptions
    held = run_checks({check: METHOD_CHECKS[check]}, KINDS[kind])
    assert held == ([] if check in excepted else [check])


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_do_what_their_names_say(kind: str) -> None:
    from gradatim.testing import Rehearsal, Training

    example, problem = KINDS[kind], Problem.make()
    training = Training(example, problem, example.build(problem))
    training.run(2)
    trained = sum(index.numel() for index in training.batches)
    everything = trained == 2 * problem.size
    assert everything == (kind in ("with its own criterion", "acting on the optimizer"))
    assert bool(training.surveyed_epochs) == (kind == "surveyed")
    decisions = Rehearsal(example, problem).epoch()
    assert bool(decisions.selected) == (kind == "selecting")
    assert (decisions.log_weights is not None) == (kind == "drawing by weight")


def test_a_signal_that_nobody_calculates_is_refused_by_name() -> None:
    example = Example(build=lambda problem: Normed(), neutral="as above", bad={})
    for check in ("resume", "decisions"):
        with pytest.raises(ValueError, match="signals must say how to calculate 'hidden'"):
            METHOD_CHECKS[check](example)
