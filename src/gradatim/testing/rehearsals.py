"""A method's hooks called as the engine calls them, with known losses instead of a model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradatim.method import Batch, Method, Pool, Run, overrides
from gradatim.testing.examples import Example
from gradatim.testing.problems import Problem
from gradatim.testing.trainings import BATCH_SIZE, fresh_model, fresh_optimizer

__all__ = ["Decisions", "Rehearsal"]

Around = Callable[[str, tuple[Any, ...]], AbstractContextManager[None]]

LEARNING_RATE = 0.2


@dataclass
class Decisions:
    """What a method decided in an epoch, in terms of names: the samples' own, under any labels.

    Args:
        names: int64 (M,), samples the plan left; ascending unless the plan is ordered.
        size: how many of them are to be drawn, or None.
        ordered: whether the plan fixes their order.
        batch_scale: of the plan.
        log_weights: (M,) of the plan, or None.
        weights: (M,) of the plan, or None.
        selected: per batch, the names that `Method.select` took.
        factors: per batch, what `Method.weigh` gave.
        tables: every table at the end of the epoch, rows by name.

    Example:
        >>> import gradatim as gr
        >>> problem = Problem.make(size=4)
        >>> easier_half = gr.Predefined(problem.scores, pace=gr.pacing.Constant(0.5))
        >>> example = Example(build=lambda problem: easier_half, neutral="...", bad={})
        >>> Rehearsal(example, problem).epoch().names.equal(problem.scores.argsort()[:2].sort()[0])
        True
    """

    names: torch.Tensor
    size: int | None
    ordered: bool
    batch_scale: int
    log_weights: torch.Tensor | None
    weights: torch.Tensor | None
    selected: list[torch.Tensor]
    factors: list[torch.Tensor | None]
    tables: dict[str, torch.Tensor]


class Rehearsal:
    """Epochs of a method with losses that depend on sample and epoch alone.

    Every sample a plan leaves is visited, in batches by name, whatever its label: so two
    rehearsals of one problem under two labellings show the method the same.

    Args:
        example: gives the signals and the model to attach.
        problem: gives losses and outputs.
        method: None builds the example's.
        seed: of the run.
        names: int64 (N,), the sample's own name of each position; None takes the position.
        dtype: of losses and floating signals.
        around: ``around(hook, arguments)`` is entered around each call of a hook.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Focal(), neutral="...", bad={})
        >>> decisions = Rehearsal(example, Problem.make(size=3)).epoch()
        >>> decisions.names, decisions.factors[0].shape
        (tensor([0, 1, 2]), torch.Size([3]))
    """

    def __init__(
        self,
        example: Example,
        problem: Problem,
        *,
        method: Method | None = None,
        seed: int = 0,
        names: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        around: Around | None = None,
    ) -> None:
        self.example = example
        self.problem = problem
        self.method = example.build(problem) if method is None else method
        self.names = torch.arange(problem.size) if names is None else names
        self.dtype = dtype
        self.run = Run(size=problem.size, seed=seed)
        self._around: Around = around or _nothing_around
        self._call("setup", self.run)
        for table in self.method.tables().values():
            if table.per_sample:
                table.allocate(problem.size)
        model = fresh_model(example, problem)
        self.method.attach(model, fresh_optimizer(model))

    def _call(self, hook: str, *arguments: Any) -> Any:
        with self._around(hook, arguments):
            return getattr(self.method, hook)(*arguments)

    def pool(self) -> Pool:
        """Every sample, as the first method of a curriculum receives them."""
        return Pool(torch.arange(self.problem.size))

    def survey(self) -> None:
        """Let the method observe every sample, if it asks for that."""
        if self._call("survey_due", self.run):
            self.observe(self.batch(torch.argsort(self.names)), surveyed=True)

    def plan(self, pool: Pool | None = None) -> Pool:
        """What the method plans for the coming epoch, after a survey if it asks for one."""
        self.survey()
        return self._call("plan", self.pool() if pool is None else pool, self.run)

    def batch(self, index: torch.Tensor) -> Batch:
        """The rows at ``index`` as `Method.weigh` sees them in the coming epoch."""
        epoch = self.run.epoch
        logits = self.problem.logits(epoch)[index].to(self.dtype)
        losses = self.problem.losses(epoch)[index].to(self.dtype)
        signals = self.example.signals_of(self.method, self.problem, index, logits)
        step = self.run.step
        rate, clock = LEARNING_RATE, LEARNING_RATE * step
        return Batch(
            *(index, losses, self._narrow(signals), epoch, step, rate, clock), previous_rate=rate
        )

    def _narrow(self, signals: dict[str, Any]) -> dict[str, Any]:
        def cast(value: Any) -> Any:
            floating = isinstance(value, torch.Tensor) and value.is_floating_point()
            return value.to(self.dtype) if floating else value

        return {name: cast(value) for name, value in signals.items()}

    def weigh(self, batch: Batch) -> torch.Tensor | None:
        """The method's factors of a batch's losses, detached."""
        if self.method.differentiable:
            batch = Batch(**{**vars(batch), "losses": batch.losses.requires_grad_()})
        weights = self._call("weigh", batch, self.run)
        batch.losses.requires_grad_(False)
        return None if weights is None else weights.detach()

    def observe(self, *batches: Batch, surveyed: bool = False) -> None:
        """Hand over batches of different samples in one go, as the engine does."""
        if not overrides(self.method, "observe") or not batches:
            return
        batches = tuple(replace(batch, surveyed=surveyed) for batch in batches)
        recorded = [self._call("record", batch, self.run) for batch in batches]
        lengths = torch.tensor([batch.size for batch in batches])

        def spread(name: str, dtype: torch.dtype) -> torch.Tensor:
            values = torch.tensor([getattr(batch, name) for batch in batches], dtype=dtype)
            return values.repeat_interleave(lengths)

        rows = Batch(
            torch.cat([batch.index for batch in batches]),
            torch.cat([batch.losses for batch in batches]).to(torch.float32),
            {name: torch.cat([row[name] for row in recorded]) for name in recorded[0]},
            self.run.epoch,
            spread("step", torch.int64),
            spread("learning_rate", torch.float64),
            spread("clock", torch.float64),
            surveyed,
            previous_rate=spread("previous_rate", torch.float64),
        )
        self._call("observe", rows, self.run)

    def epoch(self) -> Decisions:
        """Go through one epoch."""
        run = self.run
        pool = self.plan()
        self._call("start_epoch", run)
        order = torch.argsort(self.names[pool.index])
        visited = order if pool.size is None else order[: pool.size]
        batches, selected, factors = [], [], []
        for index in pool.index[visited].split(BATCH_SIZE):
            batch = self.batch(index)
            batches.append(batch)
            if overrides(self.method, "select"):
                half = max(1, batch.size // 2)
                kept = self._call("select", batch, half, run).sort().values
                selected.append(self.names[index[kept]])
                batch = self.batch(index[kept])
            factors.append(self.weigh(batch))
            run.step += 1
        self.observe(*batches)
        self._call("end_epoch", run)
        shown = torch.arange(pool.index.numel()) if pool.ordered else order
        decisions = Decisions(
            self.names[pool.index[shown]],
            pool.size,
            pool.ordered,
            pool.batch_scale,
            None if pool.log_weights is None else pool.log_weights[shown],
            None if pool.weights is None else pool.weights[shown],
            selected,
            factors,
            self.tables(),
        )
        run.epoch += 1
        return decisions

    def epochs(self) -> list[Decisions]:
        """Go through the example's number of epochs."""
        return [self.epoch() for _ in range(self.example.epochs)]

    def tables(self) -> dict[str, torch.Tensor]:
        """Copies of every table, rows by name."""
        by_name = torch.argsort(self.names)
        return {
            name: table.values[by_name] if table.per_sample else table.values.clone()
            for name, table in self.method.tables().items()
            if table.allocated
        }


def _nothing_around(hook: str, arguments: tuple[Any, ...]) -> AbstractContextManager[None]:
    return nullcontext()
