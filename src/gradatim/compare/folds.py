"""Cross-validation: what the runs of single folds say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from gradatim.compare.data import folds_of, load
from gradatim.compare.metrics import by_class, by_frequency, by_label_group, measure, per_item
from gradatim.compare.plan import Plan

__all__ = ["fold_count", "mean_curve", "pooled", "trainings"]

Result: TypeAlias = "dict[str, Any]"

EACH = (
    "fold", "validation_score", "checkpoint_step", "steps", "stopped_early", "samples",
    "corrupted_labels", "seconds", "epochs", "curve", "scores",
)  # fmt: skip
"""What a run keeps of each fold."""


def fold_count(plan: Plan) -> int | None:
    """Count the trainings of a run.

    Args:
        plan: the comparison; a column of folds is read from the data.

    Returns:
        The number of folds; None without cross-validation.

    Example:
        >>> fold_count(Plan("iris", folds=5)), fold_count(Plan("iris"))
        (5, None)
    """
    folds = folds_of(load(plan.source))
    return None if folds is None else int(folds.max())


def trainings(run: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """List what was trained in a run: its folds, or itself.

    Args:
        run: a result.

    Returns:
        One or more, each with steps, epochs and a curve of its own.

    Example:
        >>> trainings({"steps": 5, "folds": [{"steps": 4}, {"steps": 6}]})
        [{'steps': 4}, {'steps': 6}]
    """
    return run.get("folds") or [run]


def mean_curve(curves: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Average learning curves evaluation by evaluation: costs and scores alike.

    A fold that stopped early stays where it stopped: it spends no more and gets no better.

    Args:
        curves: one per fold, with the same quantities.

    Returns:
        As many entries as the longest curve has.

    Example:
        >>> mean_curve([{"steps": [4, 8], "score": [0.5, 0.75]}, {"steps": [4], "score": [0.25]}])
        {'steps': [4.0, 6.0], 'score': [0.375, 0.5]}
    """
    length = max(len(values) for curve in curves for values in curve.values())
    mean = {}
    for name in curves[0]:
        rows = [np.asarray(curve[name], float) for curve in curves]
        rows = [np.pad(row, (0, length - len(row)), mode="edge") for row in rows]
        mean[name] = np.mean(rows, axis=0).tolist()
    return mean


def pooled(plan: Plan, parts: Sequence[Result], *, kind: str, names: Sequence[str]) -> Result:
    """Make one run of the runs of its folds.

    The test scores are those of all predictions together, in the order of the data: every sample
    was predicted once, by the model that had not seen it. Costs and curves are means over folds.

    Args:
        plan: the comparison.
        parts: results of the folds, in order; of a tuning trial without predictions.
        kind: of the task.
        names: of the classes, labels or targets.

    Returns:
        A result like that of a run without folds, with ``folds`` in place of ``epochs``. A trial
        that diverged in any fold has diverged.

    Example:
        >>> failed = {"learning_rate": 9.0, "validation_score": None, "reason": "infinite"}
        >>> pooled(Plan(), [failed, failed], kind="classification", names=())["reason"]
        'infinite'
    """
    diverged = next((part for part in parts if part["validation_score"] is None), None)
    if diverged is not None:
        return diverged
    numbers = ("validation_score", "checkpoint_step", "steps", "corrupted_labels")
    tables = ("samples", "seconds")
    run = {k: v for k, v in parts[0].items() if k not in (*EACH, "training_counts")}
    run |= {name: _mean([part[name] for part in parts]) for name in numbers}
    for name in tables:
        found = [part[name] for part in parts]
        run[name] = {key: _mean([each.get(key, 0) for each in found]) for key in found[0]}
    run["stopped_early"] = any(part["stopped_early"] for part in parts)
    run["curve"] = mean_curve([part["curve"] for part in parts])
    run["folds"] = [{name: part[name] for name in EACH if name in part} for part in parts]
    if "test_outputs" not in parts[0]:
        return run
    arrays = ("test_rows", "test_outputs", "test_labels", "test_predictions")
    order = np.argsort(np.concatenate([part["test_rows"] for part in parts]))
    rows, outputs, targets, predictions = (
        np.concatenate([part[name] for part in parts])[order] for name in arrays
    )
    assert (np.diff(rows) > 0).all(), "every sample is in one fold"
    assert plan.metric is not None, "the plan is not resolved"
    for name in ("test_rows", "test_outputs", "items"):
        run.pop(name, None)
    items = per_item(plan.metric, outputs, targets)
    run |= {
        "scores": measure(kind, outputs, targets),
        "items": None if items is None else items.astype(np.float32),
        "test_labels": targets,
        "test_predictions": predictions,
    }
    if kind != "regression":
        counts = np.sum([part["training_counts"] for part in parts], axis=0).tolist()
        run["by_class"] = by_class(kind, outputs, targets, names)
        run["by_frequency"] = by_frequency(kind, outputs, targets, counts)
        if kind == "multilabel":
            run["by_label_group"] = by_label_group(outputs, targets, counts)
    return run


def _mean(values: Sequence[float]) -> float:
    """Average; what is the same everywhere stays as it is, a count a count."""
    return values[0] if len(set(values)) == 1 else float(np.mean(values))
