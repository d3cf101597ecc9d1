"""Runs checks, and holds exceptions to their reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradatim.validation import refusal

__all__ = ["run_checks"]


def run_checks(checks: Mapping[str, Callable[[Any], None]], example: Any) -> list[str]:
    """Run checks of one kind on an example; excepted ones must fail.

    Args:
        checks: by name, as `METHOD_CHECKS` or some of it.
        example: what they take; its ``exceptions`` may name more checks than these.

    Returns:
        The names of the checks that held, in their order: all but the excepted ones.

    Raises:
        AssertionError: a check fails, or passes although it is excepted; the message names it.
        ValueError: an exception without a reason.

    Example:
        >>> from types import SimpleNamespace
        >>> def check_even(example):
        ...     assert example.number % 2 == 0, f"{example.number} is odd"
        >>> run_checks({"even": check_even}, SimpleNamespace(number=4, exceptions={}))
        ['even']
        >>> run_checks({"even": check_even}, SimpleNamespace(number=3, exceptions={}))
        Traceback (most recent call last):
        AssertionError: even: 3 is odd
        >>> excepted = {"even": "primes above 2 are not"}
        >>> run_checks({"even": check_even}, SimpleNamespace(number=3, exceptions=excepted))
        []
        >>> run_checks({"even": check_even}, SimpleNamespace(number=2, exceptions=excepted))
        Traceback (most recent call last):
        AssertionError: even: passes, so drop its exception ('primes above 2 are not')
    """
    held = []
    for name, check in checks.items():
        reason = example.exceptions.get(name)
        if reason is None:
            try:
                check(example)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
            held.append(name)
            continue
        if not reason.strip():
            raise refusal(f"exceptions[{name!r}]", "a reason in words", repr(reason))
        try:
            check(example)
        except Exception:  # whatever the reason describes
            continue
        raise AssertionError(f"{name}: passes, so drop its exception ({reason!r})")
    return held
