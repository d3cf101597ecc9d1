"""Learning rates of layers as multiples of the optimizer's own: where they start, how they rise.

Layers are counted from the input. A factor of 1 is the optimizer's rate, whatever that is just now,
so these rates compose with any schedule of it.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch

from gradatim.validation import check_count, check_number, refusal

__all__ = [
    "decade_factor",
    "decade_start",
    "decades_below",
    "exponential_factor",
    "initial_factors",
    "linear_factor",
]

Value = TypeVar("Value", float, torch.Tensor)


def initial_factors(count: int, *, first: float = 1.0, last: float = 1e-6) -> list[float]:
    """Spread initial rates geometrically over layers (within Eq. 6).

    ``f_j = first (last / first)^{(j - 1) / (n - 1)}`` for j = 1 ... n; one layer has ``first``.

    Args:
        count: n, layers, at least 1.
        first: of the layer nearest to the input, in (0, 1].
        last: of the layer nearest to the output, above 0 and at most ``first``.

    Returns:
        n factors, never rising.

    Raises:
        ValueError: a rate out of order, or no layer.

    Example:
        >>> [round(factor, 6) for factor in initial_factors(5, last=0.1)]
        [1.0, 0.562341, 0.316228, 0.177828, 0.1]

    References:
        Croitoru et al., Learning rate curriculum, IJCV 2025, Eq. 6.
    """
    count, first, last = _checked(count, first, last)
    if count == 1:
        return [first]
    # The ends as they were given: powers would round them.
    inner = [first * (last / first) ** (j / (count - 1)) for j in range(1, count - 1)]
    return [first, *inner, last]


def exponential_factor(initial: Value, progress: float) -> Value:
    """Raise a rate exponentially to the optimizer's own (Eq. 8).

    ``eta_j(l) = eta_j(0) c^{(l / k)(log_c eta - log_c eta_j(0))} = eta_j(0)^{1 - l/k} eta^{l/k}``,
    whatever c; divided by eta: ``f_j^{1 - l/k}``.

    Args:
        initial: f_j, above 0; a float or a tensor of any shape.
        progress: l / k, at least 0; from 1 on the factor is 1, exactly.

    Returns:
        Like ``initial``.

    Raises:
        ValueError: ``initial`` not above 0, or progress negative.

    Example:
        >>> [round(exponential_factor(1e-5, l / 5), 9) for l in range(6)]
        [1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0]

    References:
        Croitoru et al., Learning rate curriculum, IJCV 2025, Eq. 8.
    """
    return exponentially(initial, _progress(initial, progress))


def linear_factor(initial: Value, progress: float) -> Value:
    """Raise a rate in equal steps to the optimizer's own: ``f_j + (l / k)(1 - f_j)``.

    Args:
        initial: f_j, above 0; a float or a tensor of any shape.
        progress: l / k, at least 0; from 1 on the factor is 1, exactly.

    Returns:
        Like ``initial``.

    Raises:
        ValueError: ``initial`` not above 0, or progress negative.

    Example:
        >>> [round(linear_factor(0.1, l / 5), 2) for l in range(6)]
        [0.1, 0.28, 0.46, 0.64, 0.82, 1.0]
    """
    return linearly(initial, _progress(initial, progress))


def decade_start(count: int, *, first: float = 1.0, last: float = 1e-6) -> list[float]:
    """Initial rates in the manner of the authors' code: a tenth of it at each layer, to a floor.

    ``f_j = max(first 10^{-(j - 1)}, last)`` for j < n, and the head, f_n, starts at ``last``.

    Args:
        count: n, layers, at least 1.
        first: of the layer nearest to the input, in (0, 1].
        last: the floor, above 0 and at most ``first``.

    Returns:
        n factors, never rising; one layer has ``first``.

    Raises:
        ValueError: a rate out of order, or no layer.

    Example:
        >>> decade_start(6, last=1e-3)
        [1.0, 0.1, 0.01, 0.001, 0.001, 0.001]
        >>> decade_start(3, last=1e-6)
        [1.0, 0.1, 1e-06]
    """
    count, first, last = _checked(count, first, last)
    if count == 1:
        return [first]
    return [max(first / 10**j, last) for j in range(count - 1)] + [last]


def decade_factor(initial: Value, raises: int) -> Value:
    """Raise a rate tenfold, several times, up to the optimizer's own: ``min(1, f_j 10^r)``.

    Args:
        initial: f_j, above 0; a float or a tensor of any shape.
        raises: r, at least 0.

    Returns:
        Like ``initial``.

    Raises:
        ValueError: ``initial`` not above 0, or ``raises`` negative.

    Example:
        >>> [decade_factor(0.001, r) for r in range(5)]
        [0.001, 0.01, 0.1, 1.0, 1.0]
    """
    raises = check_count("raises", raises)
    _progress(initial, 0.0)
    if isinstance(initial, torch.Tensor):
        raised = initial * 10.0**raises
        return torch.where(raised >= 1 - 1e-6, torch.ones_like(raised), raised)
    raised = float(initial) * 10.0**raises
    return 1.0 if raised >= 1 - 1e-6 else raised


def decades_below(factor: float) -> int:
    """Count the tenfold raises after which a rate has reached the optimizer's own.

    Args:
        factor: above 0.

    Returns:
        ``ceil(-log10 factor)``, at least 0.

    Raises:
        ValueError: ``factor`` not above 0.

    Example:
        >>> decades_below(1e-6), decades_below(0.2), decades_below(1.0)
        (6, 1, 0)
    """
    return max(0, math.ceil(-math.log10(check_number("factor", factor, above=0)) - 1e-9))


def exponentially(initial: Value, progress: float) -> Value:
    """`exponential_factor` without its checks, for use within a step; progress in [0, 1].

    Example:
        >>> round(exponentially(1e-4, 0.5), 9)
        0.01
    """
    raised: Any = initial ** (1 - progress)
    return raised


def linearly(initial: Value, progress: float) -> Value:
    """`linear_factor` without its checks, for use within a step; progress in [0, 1].

    Example:
        >>> linearly(0.5, 0.5)
        0.75
    """
    return (1 - progress) * initial + progress


def _checked(count: int, first: float, last: float) -> tuple[int, float, float]:
    count = check_count("count", count, at_least=1)
    first = check_number("first", first, above=0, at_most=1)
    last = check_number("last", last, above=0)
    if last > first:
        raise refusal("last", f"at most first, {first}", last, "Swapped? anti=True reverses them.")
    return count, first, last


def _progress(initial: float | torch.Tensor, progress: float) -> float:
    if isinstance(initial, torch.Tensor):
        if not initial.is_floating_point() or not bool((initial > 0).all()):
            raise refusal("initial", "above 0 everywhere, floating", initial)
    else:
        check_number("initial", initial, above=0)
    return min(1.0, check_number("progress", progress, at_least=0))
