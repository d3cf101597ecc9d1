"""The contract of a pace."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from itertools import pairwise

from gradatim.testing.bad_values import bad_numbers, check_refusals
from gradatim.testing.differences import failing
from gradatim.testing.examples import PaceExample
from gradatim.testing.running import run_checks

__all__ = ["PACE_CHECKS", "check_pace"]


def _times(example: PaceExample) -> list[float]:
    """300 times, some beyond the end, whole numbers among them."""
    end = 10.0 if example.end is None else example.end
    return sorted({*(place * end / 250 for place in range(300)), *map(float, range(int(end) + 3))})


def check_pace_start(example: PaceExample) -> None:
    """At t = 0 exactly the start fraction is visible, and always a fraction in (0, 1]."""
    pace = example.build()
    assert pace(0.0) == example.start, f"c(0) is {pace(0.0)} instead of {example.start}"
    for t in _times(example):
        fraction = pace(t)
        assert isinstance(fraction, float), f"c({t}) must be a float. Got {fraction!r}"
        assert 0 < fraction <= 1, f"c({t}) must be in (0, 1]. Got {fraction}"


def check_pace_rises(example: PaceExample) -> None:
    """The visible fraction never shrinks."""
    pace = example.build()
    times = _times(example)
    for earlier, later in pairwise(times):
        assert pace(earlier) <= pace(later), (
            f"c({earlier}) = {pace(earlier)} is above c({later}) = {pace(later)}"
        )


def check_pace_end(example: PaceExample) -> None:
    """From the end on everything is visible, exactly; before it, by any ulp, may be less."""
    pace = example.build()
    if example.end is None:
        assert pace(1e9) < 1, "everything is visible in the end: say when"
        return
    for t in (example.end, math.nextafter(example.end, math.inf), 2 * example.end, 1e9):
        assert pace(t) == 1.0, f"c({t}) is {pace(t)!r} instead of 1.0"


def check_pace_window(example: PaceExample) -> None:
    """A pace with a window shows ranks from low to high, as many as its fraction says."""
    window = getattr(example.build(), "window", None)
    if window is None:
        return
    pace = example.build()
    for t in _times(example):
        low, high = window(t)
        assert 0 <= low < high <= 1, f"window({t}) must be 0 <= low < high <= 1. Got {low, high}"
        assert math.isclose(high - low, pace(t)), f"window({t}) is {low, high}, c({t}) {pace(t)}"


def check_pace_repr(example: PaceExample) -> None:
    """``eval(repr(pace))`` equals the pace, with equal hashes; other parameters make another."""
    pace = example.build()
    with failing(f"eval({pace!r})"):
        other = eval(repr(pace), {type(pace).__name__: type(pace)})
    assert other == pace, f"eval({pace!r}) gives {other!r}"
    with failing(f"hash({pace!r})"):
        assert hash(other) == hash(pace), f"equal paces {pace!r} have different hashes"
    assert pace != object(), f"{pace!r} equals anything"
    for name, value in example.arguments.items():
        with failing(f"another {name}"):
            changed = example.build(**{name: value + 1 if isinstance(value, int) else value * 0.75})
        assert changed != pace, f"{changed!r} equals {pace!r}"


def check_pace_copies(example: PaceExample) -> None:
    """Pickling and deep copying give an equal pace."""
    pace = example.build()
    with failing("pickle"):
        twin = pickle.loads(pickle.dumps(pace))
    assert twin == pace, f"pickle gives {twin!r} for {pace!r}"
    assert copy.deepcopy(pace) == pace, f"deepcopy gives another pace than {pace!r}"


def check_pace_bad_values(example: PaceExample) -> None:
    """Every parameter, and the time t, refuses bad values by name."""
    check_refusals(example.pace, example.bad, example.build)
    pace = example.build()

    def at(t: float) -> float:
        return pace(t)

    check_refusals(at, {"t": bad_numbers(at_least=0)}, at)


PACE_CHECKS: dict[str, Callable[[PaceExample], None]] = {
    "start": check_pace_start,
    "rises": check_pace_rises,
    "end": check_pace_end,
    "window": check_pace_window,
    "repr": check_pace_repr,
    "copies": check_pace_copies,
    "bad_values": check_pace_bad_values,
}
"""Every check of a pace by name."""


def check_pace(example: PaceExample) -> list[str]:
    """A pace keeps `PACE_CHECKS`: exact ends, never shrinking, a value like any other.

    Returns:
        The names of the checks that held: all but the excepted ones.

    Example:
        >>> import dataclasses
        >>> from gradatim.testing import PaceExample, bad_numbers, check_pace
        >>> from gradatim.pacing import Linear
        >>> check_pace(PaceExample(
        ...     pace=Linear,
        ...     arguments={"start_fraction": 0.2, "epochs": 5},
        ...     start=0.2,
        ...     end=5.0,
        ...     bad={
        ...         "start_fraction": bad_numbers(above=0, at_most=1),
        ...         "epochs": bad_numbers(above=0),
        ...     },
        ... ))
        ['start', 'rises', 'end', 'window', 'repr', 'copies', 'bad_values']
    """
    return run_checks(PACE_CHECKS, example)
