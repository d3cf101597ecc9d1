"""Counts from fractions, with the rounding fixed once for all."""

from __future__ import annotations

import math

from gradatim.validation import check_count, check_number

__all__ = ["prefix_size", "share_sizes", "shrinking_size"]

# 0.1 * 3 * 10 is 3.0000000000000004 and its bare ceiling is 4; likewise 0.3 * 10 / 3 rounds down.
_SLACK = 1e-9


def prefix_size(fraction: float, size: int) -> int:
    """Turn a visible fraction into a number of samples: at least one, at most all.

    clip(ceil(c n - 1e-9), 1, n). The slack keeps rounding in c from adding a sample.

    Args:
        fraction: c, in [0, 1].
        size: n, at least 1.

    Returns:
        A count in [1, size].

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is outside its range.

    Example:
        >>> [prefix_size(c, 10) for c in (0, 0.2, 0.36, 0.1 * 3, 1)]
        [1, 2, 4, 3, 10]
    """
    fraction = check_number("fraction", fraction, at_least=0, at_most=1)
    size = check_count("size", size, at_least=1)
    return min(max(math.ceil(fraction * size - _SLACK), 1), size)


def shrinking_size(k: float) -> int:
    """Turn a budget that shrinks as a real number into a number of samples.

    max(1, floor(k + 1e-9)). Keep the budget itself a float: rounding it at every step would
    stop it from shrinking.

    Args:
        k: the budget, at least 0.

    Returns:
        A count, at least 1.

    Raises:
        TypeError: ``k`` is not a real number.
        ValueError: ``k`` is negative or not finite.

    Example:
        >>> [shrinking_size(k) for k in (100, 90.0, 72.9, 0.7 / 0.1, 0.2)]
        [100, 90, 72, 7, 1]
    """
    return max(1, math.floor(check_number("k", k, at_least=0) + _SLACK))


def share_sizes(size: int, shares: int) -> list[int]:
    """Split a number of samples into shares as equal as possible, the larger ones first.

    Args:
        size: n, the number of samples, at least 0.
        shares: K, the number of shares, at least 1.

    Returns:
        K counts that add up to n: the first n mod K are one larger than the rest.

    Raises:
        TypeError: an argument is not a whole number.
        ValueError: an argument is outside its range.

    Example:
        >>> share_sizes(10, 4)
        [3, 3, 2, 2]
    """
    size = check_count("size", size)
    shares = check_count("shares", shares, at_least=1)
    each, larger = divmod(size, shares)
    return [each + (share < larger) for share in range(shares)]
