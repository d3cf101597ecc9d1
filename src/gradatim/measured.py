"""Named parts of a method's work, for whoever wants to know where the seconds of a run went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["collected", "measured"]

_COLLECTING: ContextVar[dict[str, float] | None] = ContextVar("gradatim_measured", default=None)


@contextmanager
def measured(section: str) -> Iterator[None]:
    """Count the seconds inside ``with`` for a section; free where nobody collects.

    Args:
        section: such as ``"diversity"``.

    Example:
        >>> with collected() as seconds:
        ...     with measured("diversity"):
        ...         pass
        >>> list(seconds)
        ['diversity']
    """
    seconds = _COLLECTING.get()
    if seconds is None:
        yield
        return
    begun = time.perf_counter()
    try:
        yield
    finally:
        seconds[section] = seconds.get(section, 0.0) + time.perf_counter() - begun


@contextmanager
def collected() -> Iterator[dict[str, float]]:
    """Collect the seconds of measured sections inside ``with``, also where they are nested deep.

    Yields:
        Seconds by section, filled as they come.

    Example:
        >>> with collected() as seconds:
        ...     pass
        >>> seconds
        {}
    """
    token = _COLLECTING.set({})
    try:
        found = _COLLECTING.get()
        assert found is not None
        yield found
    finally:
        _COLLECTING.reset(token)
