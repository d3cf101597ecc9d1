"""The arithmetic of the metrics, on arrays that are known to be sound.

Outputs are float64 (N, K). Targets are int64 (N,) for classes, float64 (N, K) of 0/1 for labels,
and float64 (N, K) for numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import torch

from gradatim.validation import check_choice, refusal

__all__ = [
    "Items",
    "Score",
    "Values",
    "as_arrays",
    "binary_f1",
    "calibration_error",
    "correct",
    "decided_f1",
    "f1_per_label",
    "macro_f1",
    "matthews",
    "micro_f1",
    "r2",
    "rank_correlation",
    "recall_per_class",
    "rmse",
    "surprise",
    "wrong_labels",
]

Values: TypeAlias = "np.ndarray | torch.Tensor"
Score: TypeAlias = Callable[[np.ndarray, np.ndarray], float]
Items: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

KINDS = ("classification", "multilabel", "regression")
CALIBRATION_BINS = 15  # as Guo et al. (2017)


def as_arrays(kind: str, outputs: Values, targets: Values) -> tuple[np.ndarray, np.ndarray]:
    """Bring outputs and targets to the form that this module works on, or refuse them.

    Args:
        kind: "classification", "multilabel" or "regression".
        outputs: logits (N, C), logits (N, L), or numbers (N,) or (N, T).
        targets: classes int (N,) in [0, C), 0/1 (N, L), or numbers of the outputs' shape.

    Returns:
        Outputs and targets.

    Raises:
        ValueError: an unknown kind, no items, shapes that do not fit, or values not finite.

    Example:
        >>> as_arrays("regression", torch.zeros(3), torch.ones(3, 1))[0].shape
        (3, 1)
    """
    check_choice("kind", kind, KINDS)
    scores = _numpy(outputs).astype(np.float64)
    truth = _numpy(targets)
    if kind == "regression":
        scores, truth = (v[:, None] if v.ndim == 1 else v for v in (scores, truth))
    if scores.ndim != 2 or not scores.size:
        raise refusal("outputs", "of shape (N, outputs), N at least 1", scores.shape)
    wanted = scores.shape[:1] if kind == "classification" else scores.shape
    if truth.shape != wanted:
        raise refusal("targets", f"of shape {wanted} for outputs {scores.shape}", truth.shape)
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise refusal("outputs", "finite", f"{count} that are not", "Did training diverge?")
    if kind != "classification":
        truth = truth.astype(np.float64)
        if not math.isfinite(float(truth.sum())):
            raise refusal("targets", "finite", "a value that is not")
        return scores, truth
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        got = f"{truth.min()} to {truth.max()}"
        raise refusal("targets", f"classes in [0, {scores.shape[1]})", got)
    return scores, truth.astype(np.int64)


def _numpy(values: Values) -> np.ndarray:
    return values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asarray(values)


def decided(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Turn logits into predictions: the largest of a class row, every label above 0."""
    return outputs.argmax(1) if targets.ndim == 1 else (outputs > 0).astype(np.float64)


def correct(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Say 1 or 0 per item (N,): the right class, or every label right."""
    right = decided(outputs, targets) == targets
    return (right if right.ndim == 1 else right.all(1)).astype(np.float64)


def wrong_labels(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Give the share of wrong decisions per item (N,)."""
    return (decided(outputs, targets) != targets).mean(1)


def recall_per_class(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Give the recall per class (C,), NaN for classes that the data does not have."""
    count = np.bincount(targets, minlength=outputs.shape[1]).astype(np.float64)
    right = np.bincount(targets, weights=correct(outputs, targets), minlength=outputs.shape[1])
    return np.divide(right, count, out=np.full(len(count), np.nan), where=count > 0)


def f1_per_label(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Give F1 per label (L,), NaN for labels that no item has."""
    both, total = _label_counts(outputs, targets)
    found = (targets > 0).any(0)
    return np.divide(2.0 * both, total, out=np.full(len(total), np.nan), where=found)


def decided_f1(
    outputs: np.ndarray, targets: np.ndarray, *, empty: Literal["zero", "skip"] = "zero"
) -> np.ndarray:
    """Give F1 per label (L,), 0 or NaN for one that neither occurs nor is predicted."""
    both, total = _label_counts(outputs, targets)
    unknown = np.full(len(total), 0.0 if empty == "zero" else np.nan)
    return np.divide(2.0 * both, total, out=unknown, where=total > 0)


def binary_f1(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Compute F1 of the second of two classes; 0 where it neither occurs nor is predicted."""
    predicted, actual = decided(outputs, targets) == 1, targets == 1
    total = int(predicted.sum() + actual.sum())
    return 2 * int((predicted & actual).sum()) / total if total else 0.0


def macro_f1(
    outputs: np.ndarray, targets: np.ndarray, *, empty: Literal["zero", "skip"] = "zero"
) -> float:
    """Average F1 over labels, or over the classes that occur in targets or predictions.

    A label that neither occurs nor is predicted counts 0, or nothing with ``empty="skip"``; where
    all are so, the mean is 0.
    """
    if targets.ndim == 2:
        values = decided_f1(outputs, targets, empty=empty)
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else 0.0
    from sklearn.metrics import f1_score

    return float(f1_score(targets, decided(outputs, targets), average="macro"))


def micro_f1(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Compute F1 of all decisions pooled; for one class per item this is accuracy."""
    if targets.ndim == 1:
        return float(correct(outputs, targets).mean())
    both, total = (counts.sum() for counts in _label_counts(outputs, targets))
    return float(2 * both / total) if total else 0.0


def _label_counts(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count per label: found rightly; predicted and present together.

    scikit-learn would take a single label for two classes.
    """
    predicted, actual = outputs > 0, targets > 0
    return (predicted & actual).sum(0), predicted.sum(0) + actual.sum(0)


def matthews(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Correlate predicted and true classes; 0 if either does not vary."""
    from sklearn.metrics import matthews_corrcoef

    predictions = decided(outputs, targets)
    if (predictions == predictions[0]).all() or (targets == targets[0]).all():
        return 0.0
    return float(matthews_corrcoef(targets, predictions))


def surprise(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Give -log p(true class) per item (N,)."""
    return -np.take_along_axis(_log_probabilities(outputs), targets[:, None], 1)[:, 0]


def calibration_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Weigh the gap between stated and reached accuracy by the items of each bin."""
    confidence = np.exp(_log_probabilities(outputs).max(1))
    # Bin b holds (b / 15, (b + 1) / 15]; rounding may lift a certain prediction above 1.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1)
    gap = np.bincount(bins.astype(np.int64), weights=correct(outputs, targets) - confidence)
    return float(np.abs(gap).sum() / len(targets))


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def rmse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Average the root mean squared error over targets."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(targets, outputs))


def r2(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Average the variance explained over targets; 0 for a single item."""
    from sklearn.metrics import r2_score

    return float(r2_score(targets, outputs)) if len(targets) > 1 else 0.0


def rank_correlation(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Average Spearman's correlation over targets; 0 where either side does not vary."""
    from scipy.stats import rankdata

    first, second = (rankdata(v, axis=0) - (len(v) + 1) / 2 for v in (outputs, targets))
    size = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    product = (first * second).sum(0)
    return float(np.divide(product, size, out=np.zeros_like(size), where=size > 0).mean())
