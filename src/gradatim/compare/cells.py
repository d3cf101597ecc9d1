"""One cell of a comparison: one curriculum, one setting, one seed, from data to a plain dict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gradatim.compare.curricula import CURRICULA, Context
from gradatim.compare.data import digits
from gradatim.compare.models import perceptron
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.training import evaluate, train

__all__ = ["run_cell"]


def run_cell(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Train one curriculum once, choose its checkpoint on validation, open the test set once.

    The result depends on the plan and the cell alone: not on the process, the number of jobs or
    the cells before. Only ``seconds`` are measured.

    Args:
        plan: the comparison.
        cell: which run of it.

    Returns:
        Plain numbers, strings, lists and dicts, as they stand in ``result.json``.

    Raises:
        ValueError: training met losses that are not finite.

    Example:
        >>> plan = Plan(seeds=2, epochs=1)
        >>> result = run_cell(plan, Cell("noisy", "uniform", 0))
        >>> result["steps"], result["flipped_labels"], result["samples"]["backward"]
        (16, 323, 1024)
    """
    with _one_thread():
        started = time.perf_counter()
        task = digits(cell.setting, seed=cell.seed)
        model = perceptron(task.training.features.shape[1], task.classes, seed=cell.seed)
        recipe = CURRICULA[cell.curriculum]
        context = Context(task.training, seed=cell.seed, budget_epochs=plan.epochs)
        method = recipe.build(context)
        prepared = time.perf_counter()
        steps = plan.epochs * (len(task.training) // plan.batch_size)
        done = train(
            model,
            method,
            task.training,
            task.validation,
            steps=steps,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            evaluations=plan.evaluations,
            seed=cell.seed,
        )
        finished = time.perf_counter()
        accuracy, _, predictions = evaluate(model, task.test)  # the only line that sees test data
    checkpoint = done.curve["steps"].index(done.checkpoint_step)
    return {
        "setting": cell.setting,
        "curriculum": cell.curriculum,
        "seed": cell.seed,
        "method": repr(method),
        "sees": list(recipe.sees),
        "test_accuracy": accuracy,
        "validation_accuracy": done.curve["validation_accuracy"][checkpoint],
        "checkpoint_step": done.checkpoint_step,
        "steps": steps,
        "samples": done.samples,
        "flipped_labels": int(task.flipped.sum()),
        "seconds": {
            "preparation": round(prepared - started, 3),
            "training": round(finished - prepared, 3),
        },
        "epochs": done.epochs,
        "curve": done.curve,
        "test_labels": task.test.labels.tolist(),
        "test_predictions": predictions.tolist(),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: cells run side by side, and sums keep their order on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
