"""How fast a curriculum learns: areas under learning curves, and what a target costs to reach.

A curve is a dict with a list per quantity: ``steps``, ``samples`` and ``seconds`` are what had been
spent at each evaluation, ``validation_score`` is what it gave. Grids need not be equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from gradatim.validation import refusal

__all__ = ["COSTS", "area_under_curve", "first_reached", "to_reach"]

Values: TypeAlias = "Sequence[float] | np.ndarray"
Curve: TypeAlias = Mapping[str, Any]

COSTS = ("samples", "steps", "seconds")


def area_under_curve(x: Values, values: Values) -> float:
    """Average a learning curve over what it cost: the trapezoid rule, divided by the range.

    The result has the unit of the values and lies between their extremes. Curves are compared only
    over one and the same range, such as the step budget.

    Args:
        x: what had been spent at each evaluation, (E,), ascending.
        values: what it gave, (E,).

    Returns:
        The area divided by ``x[-1] - x[0]``; the mean of the values if that is 0.

    Raises:
        ValueError: no values, unequal lengths, values that are not finite, or ``x`` that falls.

    Example:
        >>> area_under_curve([0, 1, 3], [0.0, 1.0, 1.0])
        0.8333333333333334
    """
    grid, scores = _curve(x, values)
    width = float(grid[-1] - grid[0])
    if width == 0:
        return float(scores.mean())
    return float(((scores[1:] + scores[:-1]) / 2 * np.diff(grid)).sum() / width)


def first_reached(x: Values, values: Values, target: float) -> float:
    """Find what had been spent when a target was first met.

    Only evaluations count: between two of them nothing is known, and a line drawn there would
    credit a run with a score it was never seen to have.

    Args:
        x: what had been spent at each evaluation, (E,), ascending.
        values: what it gave, (E,); higher is better.
        target: the value to reach.

    Returns:
        The first of ``x`` whose value is at least ``target``; infinity if there is none.

    Raises:
        ValueError: no values, unequal lengths, values that are not finite, or ``x`` that falls.

    Example:
        >>> first_reached([10, 20, 30], [0.5, 0.8, 0.7], 0.7)
        20.0
        >>> first_reached([10, 20, 30], [0.5, 0.8, 0.7], 0.9)
        inf
    """
    grid, scores = _curve(x, values)
    reached = np.flatnonzero(scores >= target)
    return float(grid[reached[0]]) if len(reached) else math.inf


def to_reach(
    curves: Mapping[str, Curve], baseline: Curve, *, higher_is_better: bool = True
) -> dict[str, dict[str, float]]:
    """Say what each curriculum spent until it met plain training's final score, for one seed.

    The target is the last evaluation of ``baseline``. Plain training may have met it before its
    end, so its own cost is a fair row of the same table: hand it in among the curves.

    Args:
        curves: by curriculum, ``validation_score`` and any of ``samples``, ``steps`` and
            ``seconds``, each (E,).
        baseline: plain training's curve for the same seed.
        higher_is_better: the score's direction.

    Returns:
        By curriculum, samples, steps and seconds, those that its curve has; infinity where the
        target was never met.

    Raises:
        ValueError: a curve without evaluations, or as in `first_reached`.

    Example:
        >>> plain = {"steps": [10, 20, 30], "validation_score": [0.5, 0.7, 0.8]}
        >>> fast = {"steps": [10, 20, 30], "validation_score": [0.6, 0.8, 0.8]}
        >>> to_reach({"uniform": plain, "fast": fast}, plain)
        {'uniform': {'steps': 30.0}, 'fast': {'steps': 20.0}}
    """
    sign = 1 if higher_is_better else -1
    final = baseline["validation_score"]
    if not len(final):
        raise refusal("baseline", "a curve with evaluations", "none")
    target = sign * final[-1]
    return {
        name: {
            cost: first_reached(curve[cost], sign * np.asarray(curve["validation_score"]), target)
            for cost in COSTS
            if cost in curve
        }
        for name, curve in curves.items()
    }


def _curve(x: Values, values: Values) -> tuple[np.ndarray, np.ndarray]:
    grid, scores = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if grid.ndim != 1 or not len(grid) or grid.shape != scores.shape:
        raise refusal("values", "one per entry of x, at least one", f"{len(scores)}, {len(grid)}")
    if not (np.isfinite(grid).all() and np.isfinite(scores).all()):
        raise refusal("x and values", "finite", "entries that are not")
    if (np.diff(grid) < 0).any():
        raise refusal("x", "ascending", grid.tolist(), "Are the evaluations in order?")
    return grid, scores
