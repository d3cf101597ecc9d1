"""Labels of a text data set: how often each occurs, and rare ones apart from frequent ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradatim.validation import check_count, refusal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["group_means", "label_f1", "label_frequencies", "label_groups"]


def label_groups(counts: ArrayLike | torch.Tensor, groups: int = 4) -> list[np.ndarray]:
    """Split labels into groups of equal size by how often they occur (SPDCL, figures 6 and 7).

    Args:
        counts: (L,), how often each label occurs in training data, at least 0; other numbers by
            which to sort will do.
        groups: how many, in [1, L].

    Returns:
        For each group its labels, int64, most frequent first; of labels as frequent as each other
        the smaller number comes first. The first L mod ``groups`` groups have one label more.

    Raises:
        TypeError: ``groups`` is no whole number, or ``counts`` no numbers.
        ValueError: ``counts`` not of shape (L,), not finite or below 0, or more groups than labels.

    Example:
        >>> [group.tolist() for group in label_groups([5, 9, 1, 5, 2], groups=2)]
        [[1, 0, 3], [4, 2]]

    Differences from the paper:
        The paper sorts 54 labels into four groups and does not say how large each is; 14, 14, 13
        and 13 are ours.
    """
    found = _numbers("counts", counts)
    if found.ndim != 1 or not found.size:
        raise refusal("counts", "of shape (L,), not empty", found.shape)
    wrong = found[~(np.isfinite(found) & (found >= 0))]
    if wrong.size:
        raise refusal("counts", "finite and at least 0", wrong[:10].tolist())
    check_count("groups", groups, at_least=1, at_most=len(found))
    order = np.argsort(-found, kind="stable").astype(np.int64)
    return list(np.array_split(order, groups))


def label_frequencies(
    labels: ArrayLike | torch.Tensor, classes: int | None = None, *, multilabel: bool | None = None
) -> np.ndarray:
    """Count how often each label occurs.

    Args:
        labels: (N,) class numbers from 0 on, or (N, L) of 0 and 1, any number of ones in a row.
        classes: L, for class numbers whose last classes may not occur; None takes the largest + 1.
        multilabel: what the labels must be, or None for either.

    Returns:
        int64 (L,).

    Raises:
        TypeError: no numbers.
        ValueError: another shape, class numbers that are not whole, below 0 or at least
            ``classes``, values other than 0 and 1.

    Example:
        >>> label_frequencies([0, 2, 2], classes=4)
        array([1, 0, 2, 0])
        >>> label_frequencies([[1, 0, 1], [0, 0, 1]])
        array([1, 0, 2])
    """
    found = _numbers("labels", labels)
    shapes = {None: "(N,) or (N, L)", True: "(N, L)", False: "(N,)"}[multilabel]
    known = (1, 2) if multilabel is None else (2,) if multilabel else (1,)
    if found.ndim not in known or not found.size:
        raise refusal("labels", f"of shape {shapes}, not empty", found.shape)
    if found.ndim == 2:
        _check_zero_one("labels", found)
        if classes is not None and classes != found.shape[1]:
            raise refusal("classes", f"{found.shape[1]}, as labels have columns", classes)
        return found.sum(0).astype(np.int64)
    if (found != np.floor(found)).any() or (found < 0).any():
        raise refusal("labels", "class numbers, 0 or above", found[:10].tolist())
    if classes is None:
        return np.bincount(found.astype(np.int64))
    check_count("classes", classes, at_least=int(found.max()) + 1)
    return np.bincount(found.astype(np.int64), minlength=classes)


def label_f1(
    targets: ArrayLike | torch.Tensor,
    predictions: ArrayLike | torch.Tensor,
    classes: int | None = None,
) -> np.ndarray:
    """F1 of each label on its own; their mean is macro-F1.

    ``F1 = 2 TP / (2 TP + FP + FN)``, and 0 for a label that neither occurs nor is predicted.

    Args:
        targets: (N,) class numbers, or (N, L) of 0 and 1.
        predictions: likewise.
        classes: L, for class numbers; None takes the largest + 1.

    Returns:
        float64 (L,), in [0, 1].

    Raises:
        TypeError: no numbers.
        ValueError: shapes that differ, or such as `label_frequencies` refuses.

    Example:
        >>> truth = [[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]]
        >>> found = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1]]
        >>> label_f1(truth, found).round(6)
        array([1.      , 0.5     , 0.666667])
    """
    truth, guess = _numbers("targets", targets), _numbers("predictions", predictions)
    if truth.shape != guess.shape:
        raise refusal("predictions", f"of shape {truth.shape}, as targets", guess.shape)
    if classes is None and truth.ndim == 1 and truth.size:
        classes = int(max(truth.max(), guess.max())) + 1
    occurs, predicted = (label_frequencies(values, classes) for values in (truth, guess))
    if truth.ndim == 1:
        hits = np.bincount(truth[truth == guess].astype(np.int64), minlength=len(occurs))
    else:
        hits = (truth * guess).sum(0)
    both = occurs + predicted
    return np.divide(2.0 * hits, both, out=np.zeros(len(occurs)), where=both > 0)


def group_means(
    values: ArrayLike | torch.Tensor, groups: Sequence[ArrayLike | torch.Tensor]
) -> np.ndarray:
    """Mean of a value per label within each group: macro-F1 per group of `label_f1`.

    Args:
        values: (L,), one per label, finite.
        groups: of labels, as `label_groups` gives them.

    Returns:
        float64, one per group.

    Raises:
        ValueError: ``values`` of another shape, no groups, an empty one, or labels outside [0, L).

    Example:
        >>> group_means([0.9, 0.5, 0.7], label_groups([10, 1, 5], groups=2))
        array([0.8, 0.5])
    """
    found = _numbers("values", values)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise refusal("values", "finite, of shape (L,)", found.shape)
    means = []
    for number, group in enumerate(groups):
        labels = _numbers(f"groups[{number}]", group).astype(np.int64)
        if not labels.size or labels.min() < 0 or labels.max() >= len(found):
            raise refusal(f"groups[{number}]", f"labels in [0, {len(found)})", labels.tolist())
        means.append(found[labels].mean())
    if not means:
        raise refusal("groups", "one group or more", "none")
    return np.array(means)


def _numbers(name: str, values: Any) -> np.ndarray:
    """As float64, wherever it was."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    found = np.asarray(values)
    if found.dtype.kind not in "biuf":
        raise TypeError(str(refusal(name, "real numbers", found.dtype)))
    return found.astype(np.float64)


def _check_zero_one(name: str, values: np.ndarray) -> None:
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        raise refusal(name, "0 or 1 everywhere", float(values[wrong][0]))
