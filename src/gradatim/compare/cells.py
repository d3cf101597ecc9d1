"""One cell of a comparison: one curriculum, one setting, one seed, from data to a plain dict."""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from gradatim.compare import curricula
from gradatim.compare.data import Task, load, make_task
from gradatim.compare.extras import needs_extra
from gradatim.compare.loggers import report_to
from gradatim.compare.metrics import by_class, by_frequency, by_label_group, measure, per_item
from gradatim.compare.models import build_model, tokenizer_for
from gradatim.compare.models.build import seeded
from gradatim.compare.objectives import Objective
from gradatim.compare.plan import PRECISIONS, Cell, Plan
from gradatim.compare.scoring import as_arrays
from gradatim.compare.training import predict, train

__all__ = ["ARRAYS", "FOLD_ARRAYS", "run_cell", "task_of"]

ARRAYS = ("test_labels", "test_predictions", "items")
"""Entries of a result with a value per test item; they are kept apart, as arrays."""

FOLD_ARRAYS = (*ARRAYS, "test_rows", "test_outputs")
"""Those of a single fold."""


def task_of(plan: Plan, cell: Cell) -> Task:
    """Make the data of a cell: split, stress and encoding depend on the plan and the seed alone."""
    encode = tokenizer_for(plan.model, plan.max_tokens)
    stress = plan.settings[cell.setting]
    loaded = load(plan.source)
    return make_task(loaded, stress, seed=cell.seed, fold=cell.fold, encode_texts=encode)


def run_cell(
    plan: Plan,
    cell: Cell,
    *,
    learning_rate: float | None = None,
    loggers: Sequence[str] = (),
    log_folder: str = "",
) -> dict[str, Any]:
    """Train one curriculum once, choose its checkpoint on validation, open the test set once.

    The result depends on the plan, the cell and the learning rate alone: not on the process, the
    number of jobs or the cells before. Only ``seconds`` are measured. A tuning trial never sees
    the test set.

    Args:
        plan: the comparison, resolved.
        cell: which run of it; with folds, one fold of it.
        learning_rate: that tuning chose; None is the plan's own.
        loggers: names of loggers that follow the run.
        log_folder: where they write.

    Returns:
        Plain numbers, strings, lists and dicts, as they stand in ``result.json``, and the arrays
        that `ARRAYS` names.

    Raises:
        ValueError: training met losses that are not finite.

    Example:
        >>> from gradatim.compare.defaults import resolve
        >>> plan, _ = resolve(Plan(seeds=2, epochs=1))
        >>> result = run_cell(plan, Cell("noise-0.3", "uniform", 0))
        >>> result["steps"], result["corrupted_labels"], result["samples"]["backward"]
        (16, 323, 1024)
    """
    with needs_extra("gradatim compare"):
        from lightning_fabric import Fabric
    with _quiet(), warnings.catch_warnings():
        # Fabric's hints about workers and nodes are no concern of who compares curricula.
        warnings.filterwarnings("ignore", module="lightning_fabric")
        fabric = Fabric(
            accelerator=plan.device,
            devices=plan.devices,
            strategy="auto" if plan.devices == 1 else "ddp_spawn",
            precision=PRECISIONS[plan.precision],
        )
    run = functools.partial(
        _run,
        plan=plan,
        cell=cell,
        learning_rate=learning_rate,
        loggers=loggers,
        log_folder=log_folder,
    )
    try:
        return run(fabric) if plan.devices == 1 else fabric.launch(run)
    except ValueError as error:
        if cell.trial is None:
            raise
        # A rate that makes training diverge is an answer, not a failure.
        rate = learning_rate or plan.learning_rate
        return {"learning_rate": rate, "validation_score": None, "reason": str(error)}


def _run(
    fabric: Any,
    *,
    plan: Plan,
    cell: Cell,
    learning_rate: float | None,
    loggers: Sequence[str],
    log_folder: str,
) -> dict[str, Any]:
    metric = plan.score
    sign = 1.0 if metric.higher_is_better else -1.0
    spec = next(spec for spec in plan.specs if spec.label == cell.curriculum)
    with _one_thread(), seeded(cell.seed + fabric.global_rank):
        started = time.perf_counter()
        task = task_of(plan, cell)
        training = task.training
        model = build_model(
            plan.model,
            modality=task.modality,
            shape=tuple(training.features.shape[1:]),
            outputs=task.outputs,
            tokens=task.tokens,
            seed=cell.seed,
        )
        loaded = time.perf_counter()
        context = curricula.Context.of(
            task,
            seed=cell.seed,
            budget_epochs=plan.plain_epochs(len(training)),
            budget=plan.budget,
        )
        methods = curricula.build(spec, context)
        prepared = time.perf_counter()
        settings = plan.training(len(training), learning_rate=learning_rate)
        objective = Objective.of(task.kind, training.labels)
        with report_to(loggers, log_folder, plan, cell) as report:
            done = train(
                fabric,
                model,
                methods,
                training,
                task.validation,
                settings,
                objective=objective,
                score=lambda found, wanted: (
                    sign * metric.score(*as_arrays(task.kind, found, wanted))
                ),
                seed=cell.seed,
                prepared=prepared - loaded,
                report=report if fabric.global_rank == 0 else None,
            )
        checkpoint = done.curve["steps"].index(done.checkpoint_step)
        done.curve["validation_score"] = [sign * v for v in done.curve["validation_score"]]
        result = {
            "setting": cell.setting,
            "curriculum": cell.curriculum,
            "seed": cell.seed,
            "method": " + ".join(map(repr, methods)),
            "sees": list(curricula.sees(spec, kind=task.kind)),
            "learning_rate": settings.learning_rate,
            "validation_score": done.curve["validation_score"][checkpoint],
            "checkpoint_step": done.checkpoint_step,
            "steps": done.steps,
            "stopped_early": done.stopped_early,
            "samples": done.samples,
            "shared_test": "test" not in task.facts["drawn_parts"],
            "corrupted_labels": int(task.corrupted.count_nonzero()),
            "seconds": {"loading": round(loaded - started, 3), **done.seconds},
            "epochs": done.epochs,
            "curve": done.curve,
        }
        result["seconds"]["preparation"] = round(prepared - loaded, 3)
        if cell.trial is None:
            result |= _opened(model, task, objective, fabric.device, metric.name)
        if cell.fold is not None:
            result["fold"] = cell.fold
    return result


def _opened(
    model: torch.nn.Module, task: Task, objective: Objective, device: torch.device, metric: str
) -> dict[str, Any]:
    """Predict the test part: the only lines that see it."""
    outputs, _ = predict(model, task.test, objective, device)
    targets = task.test.labels
    counts = None
    if task.kind != "regression":
        labels = task.training.labels
        several = task.kind == "multilabel"
        found = labels.sum(0) if several else torch.bincount(labels, minlength=task.outputs)
        counts = [int(count) for count in found]
    items = per_item(metric, outputs, targets)
    opened: dict[str, Any] = {
        "scores": measure(task.kind, outputs, targets),
        # What each test item adds to the judged metric, where that is a mean over items.
        "items": None if items is None else items.astype(np.float32),
    }
    opened["test_labels"] = targets.numpy()
    if task.kind == "classification":
        opened["test_predictions"] = outputs.argmax(1).numpy()
    elif task.kind == "multilabel":
        opened["test_predictions"] = (outputs > 0).numpy()
    else:
        opened["test_predictions"] = outputs.reshape(targets.shape).numpy()
    if "fold" in task.facts:  # what all folds together are scored by
        opened |= {"test_rows": task.positions["test"], "test_outputs": outputs.numpy()}
        opened["training_counts"] = counts
    if counts is not None:
        opened["by_class"] = by_class(task.kind, outputs, targets, task.label_names)
        opened["by_frequency"] = by_frequency(task.kind, outputs, targets, counts)
    if task.kind == "multilabel":
        opened["by_label_group"] = by_label_group(outputs, targets, counts or [])
    return opened


@contextmanager
def _quiet() -> Iterator[None]:
    """Fabric says for every run which precision it uses; here everybody's is the same."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: cells run side by side, and sums keep their order on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
