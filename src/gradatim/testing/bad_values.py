"""Values that a parameter must refuse, generated from what it may be."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = [
    "Bad",
    "bad_callables",
    "bad_choices",
    "bad_counts",
    "bad_generators",
    "bad_numbers",
    "bad_vectors",
    "check_refusals",
]


@dataclass(frozen=True)
class Bad:
    """Values to be refused, and other arguments to try them with.

    Args:
        values: each is tried alone.
        given: arguments that differ from the example's while the values are tried, where two
            parameters exclude each other.

    Example:
        >>> Bad((-1, "x"), given={"pace": None}).values
        (-1, 'x')
    """

    values: tuple[Any, ...]
    given: Mapping[str, Any] = field(default_factory=dict)


def _bad(values: list[Any], optional: bool, given: Mapping[str, Any] | None) -> Bad:
    return Bad(tuple(values if optional else [*values, None]), given or {})


def bad_numbers(
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    optional: bool = False,
    infinite: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Bad:
    """Values that are no finite number within bounds.

    Args:
        above: exclusive lower bound of the good values.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
        at_most: inclusive upper bound.
        optional: None is a good value.
        infinite: ``math.inf`` is a good value.
        given: see `Bad`.

    Example:
        >>> bad_numbers(above=0, optional=True).values
        (0, -1, nan, -inf, inf, '1', True, 1j)
    """
    values: list[Any] = []
    for bound, inside in ((above, False), (at_least, True)):
        if bound is not None:
            values += [bound - 1] if inside else [bound, bound - 1]
    for bound, inside in ((below, False), (at_most, True)):
        if bound is not None:
            values += [bound + 1] if inside else [bound, bound + 1]
    values += [math.nan, -math.inf]
    if not infinite:
        values.append(math.inf)
    return _bad([*values, "1", True, 1j], optional, given)


def bad_counts(
    *,
    at_least: int = 0,
    at_most: int | None = None,
    optional: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Bad:
    """Values that are no whole number within bounds; see `bad_numbers` for the arguments.

    Example:
        >>> bad_counts(at_least=1, optional=True).values
        (0, -1, 1.5, nan, '1', True)
    """
    values = [at_least - 1, -1, at_least + 0.5, math.nan, "1", True]
    if at_most is not None:
        values.append(at_most + 1)
    return _bad(list(dict.fromkeys(values)), optional, given)


def bad_choices(*, optional: bool = False, given: Mapping[str, Any] | None = None) -> Bad:
    """Values that are none of a few words; see `bad_numbers` for the arguments.

    Example:
        >>> bad_choices(optional=True).values
        ('', 'no such choice', 1)
    """
    return _bad(["", "no such choice", 1], optional, given)


def bad_callables(*, optional: bool = False, given: Mapping[str, Any] | None = None) -> Bad:
    """Values that cannot be called; see `bad_numbers` for the arguments.

    Example:
        >>> bad_callables(optional=True).values
        ('linear', 1.0)
    """
    return _bad(["linear", 1.0], optional, given)


def bad_generators(*, optional: bool = False) -> Bad:
    """Values that are no `torch.Generator`; see `bad_numbers` for the argument.

    Example:
        >>> bad_generators(optional=True).values
        (0, 'cpu')
    """
    return _bad([0, "cpu"], optional, None)


def bad_vectors(
    size: int | None,
    *,
    whole: bool = False,
    at_least: float | None = None,
    above: float | None = None,
    infinite: bool = False,
    optional: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Bad:
    """Values that are not one number per sample.

    Args:
        size: the right length, at least 2 (a `Problem` has 60 samples); None where any will do.
        whole: good values are whole numbers: groups, labels.
        at_least: inclusive lower bound of good values.
        above: exclusive lower bound of good values.
        infinite: infinities are good values.
        optional: None is a good value.
        given: see `Bad`.

    Example:
        >>> [value for value in bad_vectors(3).values if isinstance(value, str)]
        ['easy']
    """
    length = 60 if size is None else size
    good = torch.arange(1, length + 1)
    good = good if whole else good.to(torch.float32)
    values: list[Any] = ["easy", object(), good[0], good.unsqueeze(1), good.to(torch.complex64)]
    if size is not None:
        values += [good[1:], torch.cat([good, good])]
    if whole:
        values.append(good + 0.5)
    wrong = [math.nan] if infinite else [math.nan, math.inf, -math.inf]
    if at_least is not None:
        wrong.append(at_least - 1)
    if above is not None:
        wrong.append(above)
    for entry in wrong:
        spoilt = good.to(torch.float64)
        spoilt[-1] = entry
        values.append(spoilt)
    return _bad(values, optional, given)


def check_refusals(
    part: Callable[..., Any],
    bad: Mapping[str, Bad | str],
    attempt: Callable[..., Any],
) -> None:
    """Every parameter refuses its bad values with a ValueError or TypeError that names it.

    Args:
        part: class or function whose parameters are meant; each needs an entry in ``bad``.
        bad: per parameter the values it must refuse, or the reason why it takes anything.
        attempt: called with the arguments to change, by name; must raise for a bad one.

    Raises:
        AssertionError: a parameter is not listed, or takes a bad value, or the error does not
            name it or is of another kind.

    Example:
        >>> from gradatim.validation import check_number
        >>> def halve(loss):
        ...     return check_number("loss", loss, at_least=0) / 2
        >>> check_refusals(halve, {"loss": bad_numbers(at_least=0)}, halve)
        >>> check_refusals(halve, {}, halve)
        Traceback (most recent call last):
        AssertionError: bad must say what halve refuses for 'loss': values or a reason
    """
    owner = getattr(part, "__name__", repr(part))
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(part).parameters
    names = [name for name, found in parameters.items() if found.kind not in kinds]
    unknown = sorted(set(bad) - set(parameters))
    assert not unknown, f"bad lists {unknown}, which {owner} does not take"
    for name in names:
        assert name in bad, f"bad must say what {owner} refuses for {name!r}: values or a reason"
        values = bad[name]
        if isinstance(values, str):
            assert values.strip(), f"bad[{name!r}] must give values, or a reason in words"
            continue
        for value in values.values:
            _check_refusal(name, value, attempt, values.given, owner)


def _check_refusal(
    name: str, value: Any, attempt: Callable[..., Any], given: Mapping[str, Any], owner: str
) -> None:
    try:
        attempt(**{**given, name: value})
    except (ValueError, TypeError) as error:
        message = str(error)
        assert re.search(rf"\b{re.escape(name)}\b", message), (
            f"{owner} refuses {name}={value!r} without naming {name}: {message!r}"
        )
        return
    except Exception as error:
        raise AssertionError(
            f"{owner} must refuse {name}={value!r} by a ValueError or TypeError. "
            f"Got {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{owner} takes {name}={value!r}, which it must refuse")
