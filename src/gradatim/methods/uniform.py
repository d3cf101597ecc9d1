"""Plain shuffling."""

from __future__ import annotations

from gradatim.method import Method

__all__ = ["Uniform"]


class Uniform(Method):
    """Plain shuffling: every sample once per epoch, in a seeded random order, with weight 1.

    The baseline of every comparison. Its loss is ``losses.mean()`` to the bit.

    Example:
        >>> Uniform()
        Uniform()

    Differences from the paper:
        None known.
    """
