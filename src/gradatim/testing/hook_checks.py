"""Checks of a method's decisions, hook by hook, with known losses."""

from __future__ import annotations

import contextlib
import copy
import pickle
from contextlib import AbstractContextManager
from typing import Any

import torch

from gradatim.method import Batch, Pool, Run, overrides
from gradatim.testing.differences import difference, failing, unchanged
from gradatim.testing.examples import Example
from gradatim.testing.problems import Problem
from gradatim.testing.rehearsals import Rehearsal
from gradatim.testing.trainings import Training

__all__ = [
    "check_copies",
    "check_decisions",
    "check_distinct",
    "check_empty_batch",
    "check_inputs",
    "check_planned_size",
    "check_relabelling",
    "check_scores_stand",
]


def check_decisions(example: Example) -> None:
    """What the hooks return has the shape and range that the engine expects.

    Plans hold distinct positions of the pool they were given, with one weight each; weights are
    finite and at least 0, also for losses of 0 and of 10,000; selections hold k positions.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Focal(), neutral="...", bad={})
        >>> check_decisions(example)
    """
    problem = Problem.make()
    rehearsal = Rehearsal(example, problem)
    for _ in range(example.epochs):
        for pool in (rehearsal.pool(), Pool(torch.arange(1, problem.size, 2))):
            _check_plan(rehearsal.plan(pool), pool)
        _check_factors(rehearsal)
        _check_selection(rehearsal)
        rehearsal.epoch()


def _check_plan(plan: Pool, pool: Pool) -> None:
    index = plan.index
    assert index.dtype == torch.int64, f"plan.index must be int64. Got {index.dtype}"
    assert index.ndim == 1, f"plan.index must be one-dimensional. Got {tuple(index.shape)}"
    assert index.numel() > 0, "plan left no sample"
    assert index.unique().numel() == index.numel(), "plan.index holds a sample twice"
    assert torch.isin(index, pool.index).all(), "plan.index holds samples that the pool did not"
    if plan.size is not None:
        assert 0 < plan.size <= index.numel(), f"plan.size must be in [1, M]. Got {plan.size}"
    if plan.weights is not None:
        _check_weights("plan.weights", plan.weights, index.numel())
    if plan.log_weights is not None:
        shape = tuple(plan.log_weights.shape)
        assert shape == (index.numel(),), f"plan.log_weights must be one per sample. Got {shape}"
        bad = plan.log_weights.isnan() | plan.log_weights.isposinf()
        assert not bad.any(), "plan.log_weights must be finite or -inf"


def _check_weights(name: str, weights: torch.Tensor, size: int) -> None:
    shape = tuple(weights.shape)
    assert shape == (size,), f"{name} must be of shape ({size},). Got {shape}"
    assert weights.is_floating_point(), f"{name} must be floating. Got {weights.dtype}"
    assert torch.isfinite(weights).all(), f"{name} must be finite. Got {weights}"
    assert (weights >= 0).all(), f"{name} must be at least 0. Got {float(weights.min())}"


def _check_factors(rehearsal: Rehearsal) -> None:
    batch = rehearsal.batch(torch.arange(8))
    extreme = torch.tensor([0.0, 1e-30, 1e-6, 1e-3, 1.0, 30.0, 1e3, 1e4])
    for losses in (batch.losses, extreme, torch.full((8,), 0.5)):
        trial = copy.deepcopy(rehearsal)  # weighing may move running means
        weights = trial.weigh(Batch(**{**vars(batch), "losses": losses.clone()}))
        if weights is not None:
            _check_weights("weigh(batch)", weights, 8)


def _check_selection(rehearsal: Rehearsal) -> None:
    if not overrides(rehearsal.method, "select"):
        return
    for size, k in ((8, 3), (3, 3), (1, 1)):
        trial = copy.deepcopy(rehearsal)
        kept = trial.method.select(trial.batch(torch.arange(size)), k, trial.run)
        good = kept.dtype == torch.int64 and kept.shape == (k,)
        good = good and int(kept.min()) >= 0 and int(kept.max()) < size
        assert good, f"select must return {k} int64 positions in [0, {size}). Got {kept}"


def check_distinct(example: Example) -> None:
    """A selection holds no row twice; a method that draws with replacement is excepted.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.OHEM(), neutral="...", bad={})
        >>> check_distinct(example)
    """
    rehearsal = Rehearsal(example, Problem.make())
    if not overrides(rehearsal.method, "select"):
        return
    for decisions in rehearsal.epochs():
        for kept in decisions.selected:
            assert kept.unique().numel() == kept.numel(), f"selected a row twice: {kept.tolist()}"


def check_planned_size(example: Example) -> None:
    """Where `planned_size` answers, `plan` leaves exactly that many samples.

    For the whole data set and for half of it, and with losses that are all equal.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SPL(), neutral="...", bad={})
        >>> check_planned_size(example)
    """
    for problem in (Problem.make(), Problem.make().alike()):
        rehearsal = Rehearsal(example, problem)
        for epoch in range(example.epochs):
            for pool in (rehearsal.pool(), Pool(torch.arange(1, problem.size, 2))):
                size = pool.index.numel()
                planned = rehearsal.method.planned_size(size, epoch)
                plan = rehearsal.plan(pool)
                left = plan.index.numel() if plan.size is None else plan.size
                assert planned is None or planned == left, (
                    f"planned_size({size}, {epoch}) is {planned}, but plan leaves {left} samples"
                )
            rehearsal.epoch()


def check_scores_stand(example: Example) -> None:
    """Planning and selecting change no table and no state, and answer the same when asked again.

    A sample that an epoch leaves out keeps its scores through it.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SPL(), neutral="...", bad={})
        >>> check_scores_stand(example)
    """
    problem = Problem.make()
    rehearsal = Rehearsal(example, problem)
    for _ in range(example.epochs):
        rehearsal.epoch()
        method, run = rehearsal.method, rehearsal.run
        rehearsal.survey()
        before = copy.deepcopy((rehearsal.tables(), method.state_dict()))
        first, again = rehearsal.plan(), rehearsal.plan()
        found = difference(again, first, where="plan")
        assert not found, f"planning twice gives two plans: {found}"
        later = Run(**{**vars(run), "epoch": run.epoch + 1})
        if not method.survey_due(later):
            with contextlib.suppress(RuntimeError):  # what it needs may not have been seen yet
                method.plan(rehearsal.pool(), later)
        method.planned_size(problem.size, run.epoch)
        found = difference(rehearsal.plan(), first, where="plan")
        assert not found, f"planning another epoch changed the plan of this one: {found}"
        found = difference((rehearsal.tables(), method.state_dict()), before, where="state")
        assert not found, f"planning changed what the method knows: {found}"
        if overrides(method, "select"):
            method.select(rehearsal.batch(torch.arange(8)), 3, run)
            found = difference(rehearsal.tables(), before[0], where="tables")
            assert not found, f"selecting changed a score: {found}"
    _check_left_out(example, problem)


def _check_left_out(example: Example, problem: Problem) -> None:
    training = Training(example, problem, example.build(problem))
    for epoch in range(example.epochs):
        before, done = training.curriculum.scores(), len(training.batches)
        training.run(epoch + 1)
        if epoch in training.surveyed_epochs or training.curriculum.survey_due:
            continue
        left_out = torch.ones(problem.size, dtype=torch.bool)
        left_out[torch.cat(training.shown[done:])] = False
        for name, values in training.curriculum.scores().items():
            found = difference(values[left_out], before[name][left_out], where=name)
            assert not found, f"epoch {epoch} changed the score of a sample it left out: {found}"


def check_relabelling(example: Example) -> None:
    """Under other positions of the same samples the method decides the same about each of them.

    Plans, weights, selections, factors and tables are compared by sample, within 1e-4.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.PacedRandom(), neutral="...", bad={})
        >>> check_relabelling(example)
        Traceback (most recent call last):
        AssertionError: relabelling the samples changes more than their labels: ...
    """
    problem = Problem.make()
    order = torch.randperm(problem.size, generator=torch.Generator().manual_seed(1))
    usual = Rehearsal(example, problem).epochs()
    relabelled = Rehearsal(example, problem.relabelled(order), names=order).epochs()
    found = difference(relabelled, usual, tolerance=1e-4, where="decisions")
    assert not found, f"relabelling the samples changes more than their labels: {found}"


def check_inputs(example: Example) -> None:
    """No hook changes what it is given: losses, signals, pools, constructor tensors.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Focal(), neutral="...", bad={})
        >>> check_inputs(example)
    """
    problem = Problem.make()
    with unchanged(problem, "the constructor"):
        method = example.build(problem)
    held = (problem, method.settings())

    def around(hook: str, arguments: tuple[Any, ...]) -> AbstractContextManager[None]:
        given = arguments if hook not in ("setup", "attach") else ()
        return unchanged((held, given), hook)

    Rehearsal(example, problem, method=method, around=around).epochs()


def check_copies(example: Example) -> None:
    """Pickling and deep copying give an equal method that decides alike and shares nothing.

    Fresh and after training.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SPL(), neutral="...", bad={})
        >>> check_copies(example)
    """
    problem = Problem.make()
    for epochs in (0, example.epochs - 1):
        for how, copied in (("pickle", _pickled), ("deepcopy", copy.deepcopy)):
            original = Rehearsal(example, problem)
            for _ in range(epochs):
                original.epoch()
            original.method.detach()
            with failing(f"{how} after {epochs} epochs"):
                twin = copied(original.method)
            found = difference(twin, original.method, where="method")
            assert not found, f"{how} after {epochs} epochs gives another method: {found}"
            if epochs == 0:
                Rehearsal(example, problem, method=twin).epoch()
                continue
            before = (original.tables(), copy.deepcopy(original.method.state_dict()))
            other = copy.copy(original)
            other.method, other.run = twin, copy.copy(original.run)
            decisions = other.epoch()
            after = (original.tables(), original.method.state_dict())
            found = difference(after, before, where="state")
            assert not found, f"{how}: using the copy changed the original: {found}"
            found = difference(decisions, original.epoch(), where="decisions")
            assert not found, f"{how}: the copy decides otherwise: {found}"


def _pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def check_empty_batch(example: Example) -> None:
    """A batch without rows is weighed and observed, and changes nothing.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.SuperLoss(), neutral="...", bad={})
        >>> check_empty_batch(example)
    """
    problem = Problem.make()
    rehearsal, twin = Rehearsal(example, problem), Rehearsal(example, problem)
    none = torch.zeros(0, dtype=torch.int64)
    for epoch in range(example.epochs):
        with failing("weighing a batch of no rows"):
            weights = rehearsal.weigh(rehearsal.batch(none))
        shape = None if weights is None else tuple(weights.shape)
        assert shape in (None, (0,)), f"a batch of no rows must get no weights. Got {shape}"
        with failing("observing a batch of no rows"):
            rehearsal.observe(rehearsal.batch(none))
        found = difference(rehearsal.tables(), twin.tables(), where="tables")
        assert not found, f"observing a batch of no rows changed epoch {epoch}: {found}"
        found = difference(rehearsal.epoch(), twin.epoch(), where="decisions")
        assert not found, f"a batch of no rows changed epoch {epoch}: {found}"
