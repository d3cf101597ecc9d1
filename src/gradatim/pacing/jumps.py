"""Paces that stand still between jumps; `Constant` never jumps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from gradatim.pacing.checked import COUNT, FRACTION, POSITIVE, Checked
from gradatim.validation import check_number

__all__ = ["BabySteps", "Constant", "FixedExponential", "OnePass", "Phases", "Step"]


def phases_completed(t: float, length: float) -> int:
    """Count the phases completed at ``t``: rounded, because 0.3 / 0.1 is 2.9999999999999996."""
    count = check_number("t", t, at_least=0) / length + 1e-9
    return math.floor(min(count, 1e18))  # infinity has no floor


@dataclass(frozen=True, kw_only=True)
class Step(Checked):
    """Train on the easiest part first, then on everything.

    The two-phase curriculum: c(t) = c0 for t < T, then 1.

    Args:
        start_fraction: c0, in (0, 1].
        epochs: T, above 0, the length of the first phase; default 10, ours.

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        >>> pace = Step(start_fraction=0.5, epochs=2)
        >>> [pace(t) for t in (0, 1.9, 2, 3)]
        [0.5, 0.5, 1.0, 1.0]

    Differences from the paper: None known.

    References:
        Bengio et al., Curriculum learning, ICML 2009 [bengio2009].
    """

    start_fraction: float = field(metadata=FRACTION)
    epochs: float = field(default=10.0, metadata=POSITIVE)

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""
        return 1.0 if check_number("t", t, at_least=0) >= self.epochs else self.start_fraction


@dataclass(frozen=True, kw_only=True)
class FixedExponential(Checked):
    """Multiply the visible part by a fixed factor, in jumps.

    c(t) = min(1, c0 increase^floor(t / every_epochs)).

    Args:
        start_fraction: c0, in (0, 1]; default 0.04, after Hacohen and Weinshall.
        increase: the factor of each jump, above 1; default 1.9, after the same.
        every_epochs: the time between jumps, above 0; default 1, ours (the paper counts updates,
            about 100 between jumps).

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        >>> pace = FixedExponential(start_fraction=0.25, increase=2, every_epochs=3)
        >>> [pace(t) for t in (0, 2.9, 3, 6, 100)]
        [0.25, 0.25, 0.5, 1.0, 1.0]

    Differences from the paper: t / every_epochs is rounded down after adding 1e-9, so that a jump
    due at 0.3 with every_epochs = 0.1 is not lost to rounding.

    References:
        Hacohen and Weinshall, On the power of curriculum learning in training deep networks,
        ICML 2019 [hacohen2019].
    """

    start_fraction: float = field(default=0.04, metadata=FRACTION)
    increase: float = field(default=1.9, metadata={"above": 1})
    every_epochs: float = field(default=1.0, metadata=POSITIVE)

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""
        jumps = phases_completed(t, self.every_epochs)
        # In logarithms first, as the power overflows in a long run; 1/49 * 7^2 must count as 1.
        if math.log(self.start_fraction) + jumps * math.log(self.increase) > -1e-12:
            return 1.0
        return self.start_fraction * self.increase**jumps


@dataclass(frozen=True, kw_only=True)
class Phases(Checked, ABC):
    """A pace that moves on by one of K equal buckets after each phase."""

    buckets: int = field(metadata=COUNT)
    epochs_per_bucket: float = field(default=1.0, metadata=POSITIVE)

    @abstractmethod
    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""


@dataclass(frozen=True, kw_only=True)
class BabySteps(Phases):
    """Add one bucket of harder data after each phase and keep the earlier ones.

    c(t) = min(K, 1 + floor(t / u)) / K.

    Args:
        buckets: K, at least 1, the number of equal buckets.
        epochs_per_bucket: u, above 0, the time until the next bucket; default 1, ours.

    Raises:
        TypeError: ``buckets`` is not a whole number; another value is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        >>> pace = BabySteps(buckets=4, epochs_per_bucket=2)
        >>> [pace(t) for t in range(8)]
        [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0]

    Differences from the paper: phases last a fixed time, not until the loss stops falling.

    References:
        Spitkovsky, Alshawi and Jurafsky, From baby steps to leapfrog, NAACL 2010
        [spitkovsky2010].
    """

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""
        return min(self.buckets, 1 + phases_completed(t, self.epochs_per_bucket)) / self.buckets


@dataclass(frozen=True, kw_only=True)
class OnePass(Phases):
    """Train on one bucket after the other, easiest first, dropping the earlier ones.

    Bucket min(K, 1 + floor(t / u)) alone is visible; after all of them, everything. A curriculum
    must end with the whole distribution (`gradatim.selection.check_curriculum`, condition iii).

    Args:
        buckets: K, at least 1, the number of equal buckets.
        epochs_per_bucket: u, above 0, the time spent on each; default 1, ours.

    Raises:
        TypeError: ``buckets`` is not a whole number; another value is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        >>> pace = OnePass(buckets=4, epochs_per_bucket=2)
        >>> [pace.window(t) for t in (0, 2, 7, 8)]
        [(0.0, 0.25), (0.25, 0.5), (0.75, 1.0), (0.0, 1.0)]
        >>> pace(2), pace(8)
        (0.25, 1.0)

    Differences from the paper: phases last a fixed time; after the last bucket the whole data set
    is visible, where the paper stops.

    References:
        Cirik, Hovy and Morency, Visualizing and understanding curriculum learning for long
        short-term memory networks, 2016 [cirik2016].
    """

    def window(self, t: float) -> tuple[float, float]:
        """Return the visible ranks at time ``t``: (low, high), fractions of the ordered data."""
        bucket = phases_completed(t, self.epochs_per_bucket)
        if bucket >= self.buckets:
            return 0.0, 1.0
        return bucket / self.buckets, (bucket + 1) / self.buckets

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0: the width of the window."""
        return (
            1.0 if phases_completed(t, self.epochs_per_bucket) >= self.buckets else 1 / self.buckets
        )


@dataclass(frozen=True)
class Constant(Checked):
    """Keep the same fraction visible for ever.

    For pruning studies, or as the part of a pace one writes oneself: c(t) = fraction. Below 1 it
    never shows the rest of the data.

    Args:
        fraction: in (0, 1]; 1 is plain training.

    Raises:
        TypeError: ``fraction``, or t, is not a real number.
        ValueError: ``fraction`` is outside its range; t is negative.

    Example:
        >>> Constant(0.3)(7.5)
        0.3

    Differences from the paper: None known.
    """

    fraction: float = field(metadata=FRACTION)

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""
        check_number("t", t, at_least=0)
        return self.fraction
