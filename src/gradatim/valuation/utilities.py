"""Call what the user gives as v, and refuse what is no number."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch

from gradatim.validation import refusal

__all__ = ["Utility", "as_utility", "check_utility"]

Utility = Callable[..., Any]
"""v: the performance of a model trained on the given samples, a frozenset of positions."""


def check_utility(utility: Any, name: str = "utility") -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: ``utility`` is not callable.

    Example:
        >>> check_utility(0.5)
        Traceback (most recent call last):
        TypeError: utility must be callable. Got 0.5.
    """
    if not callable(utility):
        raise TypeError(str(refusal(name, "callable", repr(utility))))


def as_utility(value: Any, where: str) -> float:
    """Return a utility as a float, or refuse it.

    Args:
        value: what the utility returned: a number, or a tensor or array of one element.
        where: for which samples, in words.

    Raises:
        TypeError: it is not one number.
        ValueError: it is NaN or infinite.

    Example:
        >>> as_utility(float("nan"), "of {0, 2}")
        Traceback (most recent call last):
        ValueError: utility must be a finite number for every subset. Got nan of {0, 2}. Did a ...
    """
    rule = "a finite number for every subset"
    try:
        number = float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(str(refusal("utility", rule, f"{value!r} {where}"))) from error
    if not math.isfinite(number):
        raise refusal("utility", rule, f"{number} {where}", "Did a model diverge?")
    return number


def named(subset: Collection[int]) -> str:
    """Say in words which samples a utility was asked for; at most ten of them.

    Example:
        >>> named({2, 0}), named(())
        ('of {0, 2}', 'of the empty set')
    """
    if not subset:
        return "of the empty set"
    shown = sorted(subset)[:10]
    more = f", ... ({len(subset)} samples)" if len(subset) > 10 else ""
    return "of {" + ", ".join(map(str, shown)) + more + "}"
