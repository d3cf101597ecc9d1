"""Paces: how much of the ordered data is visible at each moment of training.

A pace is called with t, the time since the start (0 is the start), and answers with the visible
fraction of the data, easiest first. Time is in epochs; a pace that should count updates is built
with counts of updates and called with them. Below, x = t / epochs and c0 = ``start_fraction``.

Ramps return exactly c0 at t = 0 and exactly 1.0 from t = epochs on, whatever rounding does in
between: data that stay hidden because a pace ends at 0.9999999 would never be trained on.
"""

from gradatim.pacing.jumps import BabySteps, Constant, FixedExponential, OnePass, Step
from gradatim.pacing.protocol import Pace
from gradatim.pacing.ramps import Exponential, Geometric, Linear, Logarithmic, Polynomial, Root

__all__ = [
    "BabySteps",
    "Constant",
    "Exponential",
    "FixedExponential",
    "Geometric",
    "Linear",
    "Logarithmic",
    "OnePass",
    "Pace",
    "Polynomial",
    "Root",
    "Step",
]
