"""What a method asks of a pace."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Pace"]


class Pace(Protocol):
    """What a method asks of a pace: a callable from time to the visible fraction.

    Any function will do; the classes of `gradatim.pacing` add validation, equality and a repr that
    rebuilds them. A pace with a method ``window(t) -> (low, high)`` also hides the easiest part:
    only ranks between low and high, as fractions of the data, are visible.

    Example:
        >>> def halves(t: float) -> float:
        ...     return 0.5 if t < 3 else 1.0
        >>> pace: Pace = halves
        >>> pace(0.0), pace(3.0)
        (0.5, 1.0)
    """

    def __call__(self, t: float, /) -> float:
        """Return the visible fraction, in (0, 1], at time ``t``, at least 0."""
        ...
