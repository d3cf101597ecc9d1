"""What a model is worth on held-out data: every metric of the comparison, under one name each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradatim.analysis.text_labels import label_groups
from gradatim.compare.extras import needs_extra
from gradatim.compare.scoring import (
    KINDS,
    Items,
    Score,
    Values,
    as_arrays,
    binary_f1,
    calibration_error,
    correct,
    decided_f1,
    f1_per_label,
    macro_f1,
    matthews,
    micro_f1,
    r2,
    rank_correlation,
    recall_per_class,
    rmse,
    surprise,
    wrong_labels,
)
from gradatim.validation import check_choice, check_count, refusal

__all__ = [
    "METRICS",
    "PRIMARY",
    "Metric",
    "by_class",
    "by_frequency",
    "by_label_group",
    "has",
    "measure",
    "per_item",
]

GROUPS = ("many", "medium", "few")


@dataclass(frozen=True)
class Metric:
    """A score of a model's outputs against the targets.

    Attributes:
        name: as it is asked for.
        title: as tables and figures call it.
        kinds: the kinds of task that have it.
        higher_is_better: its direction.
        unit: "points" where values are shown times 100, else "".
        score: from outputs and targets, as `as_arrays` gives them, to a number.
        items: where the metric is a mean over items, their values (N,); else None.
        description: one line.

    Example:
        >>> METRICS["accuracy"].scale, METRICS["rmse"].higher_is_better
        (100.0, False)
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    higher_is_better: bool
    unit: str
    score: Score
    items: Items | None
    description: str

    @property
    def scale(self) -> float:
        """Factor on values before they are shown."""
        return 100.0 if self.unit == "points" else 1.0


def _mean(items: Items) -> tuple[Score, Items]:
    return lambda outputs, targets: float(items(outputs, targets).mean()), items


def _balanced(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float(np.nanmean(recall_per_class(outputs, targets)))


def _distance(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.abs(outputs - targets).mean(1)


def _same_largest(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (outputs.argmax(1) == targets.argmax(1)).astype(np.float64)


CLASSES, LABELS, NUMBERS = (("classification",), ("multilabel",), ("regression",))
UP, DOWN = True, False

# Name, title, kinds, direction, unit, score, values per item; and the description.
_ALL: tuple[Any, ...] = (
    ("accuracy", "accuracy", CLASSES, UP, "points", *_mean(correct)),
    "share of items whose largest logit is that of their class",
    ("balanced_accuracy", "balanced accuracy", CLASSES, UP, "points", _balanced, None),
    "recall, averaged over the classes that the data has",
    ("macro_f1", "macro F1", CLASSES + LABELS, UP, "points", macro_f1, None),
    "F1, averaged over labels, or over the classes found in targets or predictions",
    ("micro_f1", "micro F1", CLASSES + LABELS, UP, "points", micro_f1, None),
    "F1 of all decisions pooled; with one class per item it equals accuracy",
    ("f1", "F1", CLASSES, UP, "points", binary_f1, None),
    "F1 of the second of two classes; other numbers of classes do not have it",
    ("mcc", "Matthews correlation", CLASSES, UP, "", matthews, None),
    "correlation of predicted and true classes, -1 to 1; 0 if either is constant",
    ("calibration_error", "calibration error", CLASSES, DOWN, "points", calibration_error, None),
    "gap between the probability given to the prediction and how often it is right, 15 bins",
    ("cross_entropy", "cross-entropy", CLASSES, DOWN, "", *_mean(surprise)),
    "mean of -log p(true class), natural logarithm",
    ("subset_accuracy", "subset accuracy", LABELS, UP, "points", *_mean(correct)),
    "share of items with every label right",
    ("hamming_loss", "Hamming loss", LABELS, DOWN, "points", *_mean(wrong_labels)),
    "share of wrong decisions over all items and labels",
    ("rmse", "RMSE", NUMBERS, DOWN, "", rmse, None),
    "root of the mean squared error, averaged over targets, in their own unit",
    ("mae", "MAE", NUMBERS, DOWN, "", *_mean(_distance)),
    "mean absolute error, averaged over targets, in their own unit",
    ("r2", "R²", NUMBERS, UP, "", r2, None),
    "share of the targets' variance explained, averaged over targets, at most 1",
    ("top_target", "accuracy of the largest target", NUMBERS, UP, "points", *_mean(_same_largest)),
    "share of items whose largest output is their largest target, as in distillation",
    ("spearman", "rank correlation", NUMBERS, UP, "", rank_correlation, None),
    "Spearman's correlation, averaged over targets; 0 if either is constant",
)

METRICS: dict[str, Metric] = {
    facts[0]: Metric(*facts, description=text)
    for facts, text in zip(_ALL[::2], _ALL[1::2], strict=True)
}
PRIMARY = {"classification": "accuracy", "multilabel": "micro_f1", "regression": "r2"}


def measure(kind: str, outputs: Values, targets: Values) -> dict[str, float]:
    """Compute all metrics that a kind of task has: the same names in every run.

    Args:
        kind: "classification", "multilabel" or "regression".
        outputs: logits (N, C), logits (N, L), or numbers (N,) or (N, T).
        targets: classes int (N,) in [0, C), 0/1 (N, L), or numbers of the outputs' shape.

    Returns:
        Finite numbers by metric, unscaled.

    Raises:
        ValueError: an unknown kind, no items, shapes that do not fit, or outputs that are not
            finite.

    Example:
        >>> scores = measure("regression", np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        >>> scores["mae"], scores["r2"], scores["spearman"]
        (1.0, 0.11111111111111116, 1.0)

    References:
        Guo et al., "On calibration of modern neural networks", ICML 2017 (calibration error).
    """
    pair = as_arrays(kind, outputs, targets)
    known = [m for m in METRICS.values() if has(m.name, kind, pair[0].shape[1])]
    with needs_extra("gradatim compare"):
        return {m.name: m.score(*pair) for m in known}


def has(name: str, kind: str, outputs: int) -> bool:
    """Tell whether a task has a metric.

    Args:
        name: a metric.
        kind: of the task.
        outputs: classes, labels or targets.

    Example:
        >>> has("f1", "classification", 2), has("f1", "classification", 3)
        (True, False)
    """
    if name == "top_target" and outputs == 1:  # the one target is the largest
        return False
    if name == "f1" and outputs != 2:
        return False
    return kind in METRICS[name].kinds


def per_item(name: str, outputs: Values, targets: Values) -> np.ndarray | None:
    """Give the values whose mean a metric is, so that items can be resampled.

    Args:
        name: a metric.
        outputs: as `measure` takes them.
        targets: as `measure` takes them.

    Returns:
        float64 (N,); None for a metric that is no mean over items, such as F1 or RMSE.

    Raises:
        ValueError: an unknown metric, or bad outputs or targets.

    Example:
        >>> per_item("accuracy", np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 0])).tolist()
        [1.0, 0.0]
        >>> per_item("rmse", np.array([1.0, 2.0]), np.array([1.0, 4.0])) is None
        True
    """
    metric = METRICS[check_choice("metric", name, METRICS)]
    if metric.items is None:
        return None
    return metric.items(*as_arrays(metric.kinds[0], outputs, targets))


def by_class(
    kind: str, outputs: Values, targets: Values, label_names: Sequence[object]
) -> dict[str, float]:
    """Score each class by its recall, or each label by its F1.

    Args:
        kind: as for `measure`; regression has no classes.
        outputs: as `measure` takes them.
        targets: as `measure` takes them.
        label_names: one per class or label, in the outputs' order, all different.

    Returns:
        Scores in [0, 1] by name; classes and labels that the data does not have are left out, for
        nothing can be said of them.

    Raises:
        ValueError: names that do not fit, or bad outputs or targets.

    Example:
        >>> by_class("classification", np.eye(3), np.array([0, 1, 1]), ["a", "b", "c"])
        {'a': 1.0, 'b': 0.5}
    """
    scores = _per_class(kind, outputs, targets)
    names = [str(name) for name in label_names]
    if len(names) != len(scores) or len(set(names)) < len(names):
        got = f"{len(names)}, {len(set(names))} of them different"
        raise refusal("label_names", f"{len(scores)} different names", got)
    return {name: float(value) for name, value in zip(names, scores, strict=True) if value == value}


def by_frequency(
    kind: str, outputs: Values, targets: Values, training_counts: Sequence[int]
) -> dict[str, float]:
    """Score frequent, medium and rare classes apart.

    Classes are ranked by their number of training items. The first third of the ranks is "many",
    the last "few"; classes with equal numbers stay together, in the group of the first of them.
    With two classes there is no "medium". Where the most frequent class has less than twice the
    items of the rarest there are no groups, for nothing would set them apart but chance.

    Args:
        kind: as for `measure`; regression has no classes.
        outputs: as `measure` takes them.
        targets: as `measure` takes them.
        training_counts: training items per class or label, in the outputs' order.

    Returns:
        Mean recall (or F1) over the classes of each group that the data has, by group.

    Raises:
        ValueError: counts that do not fit, or bad outputs or targets.

    Example:
        >>> by_frequency("classification", np.eye(3), np.array([0, 1, 1]), [9, 5, 1])
        {'many': 1.0, 'medium': 0.5}
    """
    scores = _per_class(kind, outputs, targets)
    counts = np.asarray(training_counts)
    if counts.shape != scores.shape:
        raise refusal("training_counts", f"{len(scores)} numbers, one per class", counts.shape)
    if counts.max() < 2 * counts.min():
        return {}
    larger = len(counts) - np.searchsorted(np.sort(counts), counts, side="right")
    group = 2 * larger if len(counts) == 2 else 3 * larger // len(counts)
    found = {}
    for number, name in enumerate(GROUPS):
        values = scores[(group == number) & ~np.isnan(scores)]
        if len(values):
            found[name] = float(values.mean())
    return found


def by_label_group(
    outputs: Values,
    targets: Values,
    training_counts: Sequence[int],
    *,
    groups: int = 4,
    empty: Literal["zero", "skip"] = "zero",
) -> dict[str, float]:
    """Average F1 within groups of labels by how often they occur in training (SPDCL, Figure 7).

    Labels are sorted by their training items, most first, equal ones by their place, and divided
    into groups as equal as possible, first ones larger: 54 labels into 14, 14, 13 and 13.

    Args:
        outputs: logits (N, L).
        targets: 0/1 (N, L).
        training_counts: training items per label, in the outputs' order.
        groups: how many; no more than there are labels.
        empty: a label that neither occurs nor is predicted counts 0 (``"zero"``) or nothing
            (``"skip"``); a group of such labels alone is 0.

    Returns:
        Macro-F1 by the ranks of a group's labels, such as ``"1-14"``.

    Raises:
        ValueError: counts that do not fit, or bad outputs or targets.

    Example:
        >>> outputs, targets = np.array([[1, 1, -1], [-1, 1, 1]]), np.array([[1, 1, 0], [0, 0, 1]])
        >>> by_label_group(outputs, targets, [9, 5, 7], groups=2)
        {'1-2': 1.0, '3': 0.6666666666666666}
    """
    scores, truth = as_arrays("multilabel", outputs, targets)
    values = decided_f1(scores, truth, empty=check_choice("empty", empty, ("zero", "skip")))
    counts = np.asarray(training_counts)
    if counts.shape != values.shape:
        raise refusal("training_counts", f"{len(values)} numbers, one per label", counts.shape)
    check_count("groups", groups, at_least=1)
    found, first = {}, 1
    for group in label_groups(counts, min(groups, len(values))):
        last = first + len(group) - 1
        known = values[group][~np.isnan(values[group])]
        name = str(first) if first == last else f"{first}-{last}"
        found[name] = float(known.mean()) if len(known) else 0.0
        first = last + 1
    return found


def _per_class(kind: str, outputs: Values, targets: Values) -> np.ndarray:
    if check_choice("kind", kind, KINDS) == "regression":
        raise refusal("kind", "'classification' or 'multilabel'", repr(kind), "It has no classes.")
    pair = as_arrays(kind, outputs, targets)
    return recall_per_class(*pair) if kind == "classification" else f1_per_label(*pair)
