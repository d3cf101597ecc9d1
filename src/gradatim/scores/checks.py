"""What the scores refuse: no matrix, no probabilities, labels out of range."""

from __future__ import annotations

from typing import Any

import torch

from gradatim.validation import check_finite, refusal

__all__ = ["as_labels", "as_matrix", "as_probabilities", "as_tensor", "check_callable"]


def as_tensor(
    name: str, values: Any, rule: str, *, device: torch.device | None = None
) -> torch.Tensor:
    """Return ``values`` as a detached tensor, or refuse what cannot be read as one.

    Args:
        name: what the user calls it.
        values: a tensor, array or nested sequence of numbers.
        rule: what it must be, completing "must be ...".
        device: where to put it; None leaves it where it is.

    Raises:
        TypeError: ``values`` cannot be read as numbers.

    Example:
        >>> as_tensor("images", "cat.png", "a uint8 tensor")
        Traceback (most recent call last):
        TypeError: images must be a uint8 tensor. Got str.
    """
    try:
        return torch.as_tensor(values, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(str(refusal(name, rule, type(values).__name__))) from error


def check_callable(name: str, value: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: ``value`` is not callable.

    Example:
        >>> check_callable("score", "margin")
        Traceback (most recent call last):
        TypeError: score must be callable. Got 'margin'.
    """
    if not callable(value):
        raise TypeError(str(refusal(name, "callable", repr(value))))


def as_matrix(name: str, values: torch.Tensor | Any, *, columns: int = 1) -> torch.Tensor:
    """Return ``values`` as a detached floating matrix, one row per sample, or refuse it.

    Half precision is raised to float32: scores are made to be ranked, and between .5 and 1 bfloat16
    knows 128 values.

    Args:
        name: what the user calls it.
        values: (n, C) tensor, array or nested sequence of finite real numbers. Integers become
            float64.
        columns: the smallest C that makes sense.

    Returns:
        float32 or float64 (n, C), on the device of ``values``; a view where nothing had to change.

    Raises:
        TypeError: ``values`` cannot be read as numbers.
        ValueError: not two-dimensional, too few columns, not finite, not real.

    Example:
        >>> as_matrix("logits", [[1, 2]])
        tensor([[1., 2.]], dtype=torch.float64)
        >>> as_matrix("logits", torch.zeros(3))
        Traceback (most recent call last):
        ValueError: logits must be of shape (n, C) with C at least 1. Got a tensor of shape (3,) ...
    """
    matrix = as_tensor(name, values, "a matrix of numbers")
    if matrix.ndim != 2 or matrix.shape[1] < columns:
        narrow = matrix.ndim == 1 or (matrix.ndim == 2 and matrix.shape[1] == 1)
        cause = "One value for two classes? Give a column for each." if narrow else ""
        raise refusal(name, f"of shape (n, C) with C at least {columns}", matrix, cause)
    if matrix.is_complex():
        raise refusal(name, "real numbers", matrix)
    if not matrix.is_floating_point():
        matrix = matrix.to(torch.float64)
    elif matrix.dtype.itemsize < 4:
        matrix = matrix.to(torch.float32)
    check_finite(name, matrix)
    return matrix


def as_probabilities(name: str, values: torch.Tensor | Any, *, columns: int = 1) -> torch.Tensor:
    """Return ``values`` as a matrix whose rows are probabilities, or refuse it.

    Rows may miss 1 by 1e-3, or by the spacing of their dtype at 1 where that is coarser (bfloat16:
    .0078). They are not renormalised.

    Args:
        name: what the user calls it.
        values: (n, C), as for `as_matrix`, at least 0.
        columns: the smallest C that makes sense.

    Returns:
        float32 or float64 (n, C), on the device of ``values``.

    Raises:
        TypeError: ``values`` cannot be read as numbers.
        ValueError: as `as_matrix`; a negative entry; a row that does not sum to 1.

    Example:
        >>> as_probabilities("probabilities", [[0.25, 0.75]]).tolist()
        [[0.25, 0.75]]
        >>> as_probabilities("probabilities", [[2.0, 1.0]])
        Traceback (most recent call last):
        ValueError: probabilities must be rows that sum to 1 within 0.001. Got a sum of 3 at ...
    """
    matrix = as_matrix(name, values, columns=columns)
    dtype = values.dtype if isinstance(values, torch.Tensor) else matrix.dtype
    tolerance = max(1e-3, torch.finfo(dtype).eps) if dtype.is_floating_point else 1e-3
    negative = (matrix < 0).any(1)
    if bool(negative.any()):
        row = int(negative.nonzero()[0])
        got = f"{float(matrix[row].min()):g} at index [{row}]"
        raise refusal(name, "at least 0 everywhere", got, "Are these logits? Take softmax first.")
    sums = matrix.sum(1)
    wrong = (sums - 1).abs() > tolerance
    if bool(wrong.any()):
        rows = wrong.nonzero().squeeze(1)[:10].tolist()
        got = f"a sum of {float(sums[rows[0]]):g} at index {rows}"
        rule = f"rows that sum to 1 within {tolerance:g}"
        raise refusal(name, rule, got, "Are these logits? Take softmax first.")
    return matrix


def as_labels(
    name: str,
    values: torch.Tensor | Any,
    *,
    size: int | None = None,
    classes: int | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return ``values`` as int64 class numbers, one per sample, or refuse them.

    Args:
        name: what the user calls them.
        values: (n,) whole numbers of any integer dtype.
        size: the number of samples they must have; None for any.
        classes: labels must lie in [0, classes); None for at least 0 only.
        device: where to put them; None leaves them where they are.

    Returns:
        int64 (n,).

    Raises:
        TypeError: ``values`` cannot be read as numbers.
        ValueError: wrong shape, dtype, length or range.

    Example:
        >>> as_labels("targets", [0, 2], classes=3).tolist()
        [0, 2]
        >>> as_labels("targets", [0, -100], classes=3)
        Traceback (most recent call last):
        ValueError: targets must be class numbers in [0, 3). Got -100 at index [1]. Ignored ...
    """
    labels = as_tensor(name, values, "class numbers, one per sample", device=device)
    if labels.ndim != 1 or (size is not None and labels.numel() != size):
        raise refusal(name, f"of shape ({'n' if size is None else size},)", labels)
    if labels.numel() == 0:  # an empty sequence is read as floats
        return labels.to(torch.int64)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise refusal(name, "whole class numbers", labels, "Floats or truth values? Use .long().")
    labels = labels.to(torch.int64)
    wrong = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        rule = (
            "class numbers, at least 0" if classes is None else f"class numbers in [0, {classes})"
        )
        value = int(labels[row])
        cause = "Ignored or missing labels? Drop their rows." if value < 0 else ""
        raise refusal(name, rule, f"{value} at index [{row}]", cause)
    return labels
