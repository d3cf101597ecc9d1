"""The one form in which gradatim refuses bad input.

Every refusal reads: *name* must be *rule*. Got *value*. *Likely cause?*
Checks run before any state changes, and they name what the user wrote, not what we call it inside.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

__all__ = [
    "as_vector",
    "check_choice",
    "check_count",
    "check_finite",
    "check_flag",
    "check_index",
    "check_number",
    "refusal",
]

Choice = TypeVar("Choice", bound=str)


def refusal(name: str, rule: str, got: Any, cause: str = "") -> ValueError:
    """Build the error; the caller raises it, so that tracebacks end where the check stands.

    Args:
        name: what the user passed, as the user spells it.
        rule: what it must be, completing "must be ...".
        got: the offending value; tensors are shown by shape and dtype.
        cause: a question or sentence that names the likely cause; empty for none.

    Example:
        >>> str(refusal("gamma", "in [0, 1]", 1.5))
        'gamma must be in [0, 1]. Got 1.5.'
        >>> str(refusal("losses", "of shape (4,)", torch.tensor(0.5), "Forgot reduction='none'?"))
        "losses must be of shape (4,). Got a tensor of shape () and dtype float32. Forgot ...
    """
    if isinstance(got, torch.Tensor):
        dtype = str(got.dtype).removeprefix("torch.")
        got = f"a tensor of shape {tuple(got.shape)} and dtype {dtype}"
    message = f"{name} must be {rule}. Got {got}."
    return ValueError(f"{message} {cause}" if cause else message)


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return ``value`` as a float, or refuse it.

    Args:
        name: the parameter's name.
        value: a finite real number; booleans are refused.
        above: exclusive lower bound.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
        at_most: inclusive upper bound.

    Raises:
        TypeError: ``value`` is not a real number.
        ValueError: it is not finite or lies outside the bounds.

    Example:
        >>> check_number("gamma", 0.5, at_least=0, at_most=1)
        0.5
        >>> check_number("gamma", float("nan"), at_least=0)
        Traceback (most recent call last):
        ValueError: gamma must be a finite number, at least 0. Got nan.
    """
    parts = [
        text.format(bound)
        for text, bound in (
            ("above {}", above),
            ("at least {}", at_least),
            ("below {}", below),
            ("at most {}", at_most),
        )
        if bound is not None
    ]
    rule = ", ".join(["a finite number", " and ".join(parts)] if parts else ["a finite number"])
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(str(refusal(name, rule, repr(value))))
    number = float(value)
    if (
        not math.isfinite(number)
        or (above is not None and number <= above)
        or (at_least is not None and number < at_least)
        or (below is not None and number >= below)
        or (at_most is not None and number > at_most)
    ):
        raise refusal(name, rule, value)
    return number


def check_count(name: str, value: Any, *, at_least: int = 0, at_most: int | None = None) -> int:
    """Return ``value`` as an int, or refuse it.

    Args:
        name: the parameter's name.
        value: a whole number (Python or NumPy); booleans are refused.
        at_least: inclusive lower bound.
        at_most: inclusive upper bound, or None.

    Raises:
        TypeError: ``value`` is not a whole number.
        ValueError: it lies outside the bounds.

    Example:
        >>> check_count("k", 0, at_least=1)
        Traceback (most recent call last):
        ValueError: k must be a whole number, at least 1. Got 0.
    """
    rule = f"a whole number, at least {at_least}"
    if at_most is not None:
        rule += f" and at most {at_most}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(str(refusal(name, rule, repr(value))))
    count = int(value)
    if count < at_least or (at_most is not None and count > at_most):
        raise refusal(name, rule, value)
    return count


def check_choice(name: str, value: Any, choices: Iterable[Choice]) -> Choice:
    """Return ``value`` if it is one of ``choices``, else refuse it and suggest the nearest.

    Raises:
        ValueError: ``value`` is none of the choices.

    Example:
        >>> check_choice("order", "curiculum", ["curriculum", "anti", "random"])
        Traceback (most recent call last):
        ValueError: order must be one of 'curriculum', 'anti', 'random'. Got 'curiculum'. Did ...
    """
    known = list(choices)
    for choice in known:
        if isinstance(value, str) and value == choice:
            return choice
    near = difflib.get_close_matches(value, known, n=1) if isinstance(value, str) else []
    cause = f"Did you mean {near[0]!r}?" if near else ""
    raise refusal(name, "one of " + ", ".join(map(repr, known)), repr(value), cause)


def check_flag(name: str, value: Any) -> bool:
    """Return ``value``, or refuse it.

    Raises:
        TypeError: ``value`` is neither True nor False.

    Example:
        >>> check_flag("rescale", 1)
        Traceback (most recent call last):
        TypeError: rescale must be True or False. Got 1.
    """
    if not isinstance(value, bool):
        raise TypeError(str(refusal(name, "True or False", repr(value))))
    return value


def check_finite(name: str, values: torch.Tensor, index: torch.Tensor | None = None) -> None:
    """Refuse NaN and infinities, naming up to ten offending positions.

    Args:
        name: what the values are.
        values: any shape; the first dimension counts samples.
        index: int64 (B,), the data set positions to name; None names rows of ``values``.

    Raises:
        ValueError: a value is NaN or infinite.

    Example:
        >>> check_finite("losses", torch.tensor([0.1, float("nan")]), torch.tensor([7, 9]))
        Traceback (most recent call last):
        ValueError: losses must be finite. Got 1 non-finite value at index [9].
    """
    # One sum finds every NaN and infinity in a twentieth of the time; it may also overflow.
    if bool(torch.isfinite(values.sum())):
        return
    finite = torch.isfinite(values)
    if bool(finite.all()):
        return
    rows = (~finite.reshape(finite.shape[0], -1).all(1)).nonzero().squeeze(1).cpu()
    named = (rows if index is None else index.cpu()[rows])[:10].tolist()
    count = rows.numel()
    shown = f"{named}"[:-1] + (", ...]" if count > 10 else "]")
    noun = "value" if count == 1 else "values"
    raise refusal(name, "finite", f"{count} non-finite {noun} at index {shown}")


def check_index(name: str, index: torch.Tensor, size: int) -> None:
    """Refuse anything but int64 positions in [0, size).

    Raises:
        ValueError: wrong dtype or shape, or a position outside the data set.

    Example:
        >>> check_index("index", torch.tensor([0, 5]), 4)
        Traceback (most recent call last):
        ValueError: index must be int64 positions in [0, 4). Got 5. Does index belong to another ...
    """
    rule = f"int64 positions in [0, {size})"
    if index.dtype != torch.int64 or index.ndim != 1:
        raise refusal(name, rule, index)
    if index.numel() == 0:
        return
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= size:
        got = low if low < 0 else high
        raise refusal(name, rule, got, f"Does {name} belong to another data set?")


def as_vector(
    name: str,
    values: torch.Tensor | Sequence[float] | Any,
    *,
    size: int | None = None,
    dtype: torch.dtype | None = None,
    at_least: float | None = None,
    above: float | None = None,
    finite: bool = True,
) -> torch.Tensor:
    """Return ``values`` as a one-dimensional tensor, detached, or refuse it.

    Args:
        name: the parameter's name.
        values: a tensor, NumPy array or sequence of numbers.
        size: the length it must have, or None for any.
        dtype: convert to this dtype; None keeps floating dtypes and makes the rest float64.
        at_least: inclusive lower bound of every value.
        above: exclusive lower bound of every value.
        finite: refuse NaN and infinities.

    Raises:
        TypeError: ``values`` cannot be read as numbers.
        ValueError: wrong shape, length or values.

    Example:
        >>> as_vector("score", [3, 1, 2], size=3).tolist()
        [3.0, 1.0, 2.0]
        >>> as_vector("score", [3, 1], size=3)
        Traceback (most recent call last):
        ValueError: score must be one value per sample: 3 of them. Got 2.
    """
    try:
        # NumPy reads Python floats as they are; torch would round them to float32.
        known = values if isinstance(values, torch.Tensor) else np.asarray(values)
        vector = torch.as_tensor(known).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values).__name__
        raise TypeError(f"{name} must be numbers, one per sample. Got {kind}.") from error
    if vector.ndim != 1:
        raise refusal(name, "one-dimensional, one value per sample", vector)
    if size is not None and vector.numel() != size:
        raise refusal(name, f"one value per sample: {size} of them", vector.numel())
    if vector.is_complex():
        raise refusal(name, "real numbers", vector)
    if dtype is not None:
        vector = vector.to(dtype)
    elif not vector.is_floating_point():
        vector = vector.to(torch.float64)
    if finite:
        check_finite(name, vector)
    for bound, wrong, rule in (
        (at_least, torch.lt, "at least"),
        (above, torch.le, "above"),
    ):
        if bound is not None and vector.numel() and bool(wrong(vector, bound).any()):
            raise refusal(name, f"{rule} {bound} everywhere", float(vector.min()))
    return vector
