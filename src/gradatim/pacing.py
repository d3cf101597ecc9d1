"""Paces: how much of the ordered data is visible at each moment of training.

A pace is called with t, the time since the start (0 is the start), and answers with the visible
fraction of the data, easiest first. Time is in epochs; a pace that should count updates is built
with counts of updates and called with them. Below, x = t / epochs and c0 = ``start_fraction``.

Ramps return exactly c0 at t = 0 and exactly 1.0 from t = epochs on, whatever rounding does in
between: data that stay hidden because a pace ends at 0.9999999 would never be trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from gradatim.validation import check_count, check_number

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


class Pace(Protocol):
    """What a method asks of a pace: a callable from time to the visible fraction.

    Any function will do; the classes of this module add validation, equality and a repr that
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


_FRACTION: dict[str, float] = {"above": 0, "at_most": 1}
_POSITIVE: dict[str, float] = {"above": 0}
_COUNT: dict[str, float] = {"at_least": 1}


class _Checked:
    """Checks every field of a frozen dataclass against the range in its metadata."""

    def __post_init__(self) -> None:
        own: Any = self
        for entry in fields(own):
            check = check_count if entry.type == "int" else check_number
            value = check(entry.name, getattr(self, entry.name), **dict(entry.metadata))
            # Stored as a plain number, so that the repr rebuilds the pace: NumPy's would not.
            object.__setattr__(self, entry.name, value)


@dataclass(frozen=True, kw_only=True)
class _Ramp(_Checked):
    """A pace that rises from ``start_fraction`` at 0 to 1 at ``epochs``."""

    start_fraction: float = field(default=0.01, metadata=_FRACTION)
    epochs: float = field(default=10.0, metadata=_POSITIVE)

    def __call__(self, t: float) -> float:
        """Return the visible fraction, in [start_fraction, 1], at time ``t``, at least 0."""
        t = check_number("t", t, at_least=0)
        x = t / self.epochs
        if t >= self.epochs:
            return 1.0
        if x == 0:
            return self.start_fraction
        # Rounding can leave the range by an ulp; the logarithmic form leaves it by more.
        return min(1.0, max(self.start_fraction, self._fraction_at(x)))

    def _fraction_at(self, x: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class _Phases(_Checked):
    """A pace that moves on by one of K equal buckets after each phase."""

    buckets: int = field(metadata=_COUNT)
    epochs_per_bucket: float = field(default=1.0, metadata=_POSITIVE)


def _phases(t: float, length: float) -> int:
    """Count the phases completed at ``t``: rounded, because 0.3 / 0.1 is 2.9999999999999996."""
    count = check_number("t", t, at_least=0) / length + 1e-9
    return math.floor(min(count, 1e18))  # infinity has no floor


@dataclass(frozen=True, kw_only=True)
class Linear(_Ramp):
    """Show data at a constant rate.

    The plain choice, and the one to compare others with: c(t) = c0 + (1 - c0) x.

    Args:
        start_fraction: c0, in (0, 1]; default 0.01, after Platanios et al.
        epochs: T, above 0, the time at which everything is visible; default 10, ours.

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        >>> pace = Linear(start_fraction=0.2, epochs=5)
        >>> [round(pace(t), 2) for t in range(7)]
        [0.2, 0.36, 0.52, 0.68, 0.84, 1.0, 1.0]

    Differences from the paper: None known.

    References:
        Platanios et al., Competence-based curriculum learning for neural machine translation,
        NAACL 2019 [platanios2019].
    """

    def _fraction_at(self, x: float) -> float:
        return self.start_fraction + (1 - self.start_fraction) * x


@dataclass(frozen=True, kw_only=True)
class Root(_Ramp):
    """Show many new data early and fewer later, so that each has time to be learnt.

    The rate of new data falls as the visible part grows ("competence"):
    c(t) = (c0^p + (1 - c0^p) x)^(1/p). p = 1 is `Linear`, p = 2 the square root of the paper.

    Args:
        start_fraction: c0, in (0, 1]; default 0.01, after Platanios et al.
        epochs: T, above 0, the time at which everything is visible; default 10, ours.
        power: p, above 0; default 2. Towards 0 the pace becomes `Geometric`.

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        c0 = 0.6 and p = 2: the square rises from 0.36 to 1; halfway it is 0.68.

        >>> pace = Root(start_fraction=0.6, epochs=10, power=2)
        >>> pace(0), round(pace(5) ** 2, 12), pace(10)
        (0.6, 0.68, 1.0)

    Differences from the paper: None known.

    References:
        Platanios et al., Competence-based curriculum learning for neural machine translation,
        NAACL 2019 [platanios2019].
    """

    power: float = field(default=2.0, metadata=_POSITIVE)

    def _fraction_at(self, x: float) -> float:
        start = self.start_fraction**self.power
        if start < 0.5:
            return (start + (1 - start) * x) ** (1 / self.power)
        # A small power: start is nearly 1, and its distance to 1 is what counts.
        gap = math.expm1(self.power * math.log(self.start_fraction)) * (1 - x)
        return math.exp(math.log1p(gap) / self.power)


@dataclass(frozen=True, kw_only=True)
class Geometric(_Ramp):
    """Multiply the visible part by the same factor in equal times: slow first, fast at the end.

    For tasks where the easy part deserves most of the ramp: c(t) = c0^(1 - x).

    Args:
        start_fraction: c0, in (0, 1]; default 0.01, ours.
        epochs: T, above 0, the time at which everything is visible; default 10, ours.

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        >>> pace = Geometric(start_fraction=0.01, epochs=10)
        >>> [round(pace(t), 3) for t in (0, 5, 10)]
        [0.01, 0.1, 1.0]

    Differences from the paper: None known.

    References:
        Penha and Hauff, Curriculum learning strategies for IR, ECIR 2020 [penha2020].
    """

    def _fraction_at(self, x: float) -> float:
        return self.start_fraction ** (1 - x)


@dataclass(frozen=True, kw_only=True)
class Exponential(_Ramp):
    """Hold close to the start for most of the ramp and open up in the last part.

    c(t) = c0 + (1 - c0) (e^(a x) - 1) / (e^a - 1), evaluated in a form that neither overflows for
    a large a nor cancels for a small one.

    Args:
        start_fraction: c0, in (0, 1]; default 0.01, ours.
        epochs: T, above 0, the time at which everything is visible; default 10, ours.
        steepness: a, above 0; default 10, after Wu et al.; towards 0 it becomes `Linear`.

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        With e^a = 9, halfway is (3 - 1) / (9 - 1) = 1/4 of the way from 0.2 to 1.

        >>> pace = Exponential(start_fraction=0.2, epochs=10, steepness=math.log(9))
        >>> round(pace(5), 12)
        0.4

    Differences from the paper: None known.

    References:
        Wu, Dyer and Neyshabur, When do curricula work?, ICLR 2021 [wu2021].
    """

    steepness: float = field(default=10.0, metadata=_POSITIVE)

    def _fraction_at(self, x: float) -> float:
        a = self.steepness
        rise = math.exp(a * (x - 1)) * math.expm1(-a * x) / math.expm1(-a)
        return self.start_fraction + (1 - self.start_fraction) * rise


@dataclass(frozen=True, kw_only=True)
class Logarithmic(_Ramp):
    """Show most data almost at once and the hardest over the rest of the ramp.

    c(t) = c0 + (1 - c0) (1 + log(x + e^-a) / a). At x = 0 this is c0, because log e^-a = -a. It
    reaches 1 at x = 1 - e^-a, shortly before the end, and is held at 1 from there.

    Args:
        start_fraction: c0, in (0, 1]; default 0.01, ours.
        epochs: T, above 0, the time at which everything is visible; default 10, ours.
        steepness: a, above 0; default 10, after Wu et al. A small a makes the ramp short: a = 0.1
            shows everything after a tenth of ``epochs``.

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        With e^a = 16, x = 3/16 gives log(4/16) / log 16 = -1/2: half of the way.

        >>> pace = Logarithmic(start_fraction=0.2, epochs=16, steepness=math.log(16))
        >>> round(pace(3), 12), pace(15)
        (0.6, 1.0)

    Differences from the paper: values above 1, which the formula takes in the last e^-a of the
    ramp, are 1.

    References:
        Wu, Dyer and Neyshabur, When do curricula work?, ICLR 2021 [wu2021].
    """

    steepness: float = field(default=10.0, metadata=_POSITIVE)

    def _fraction_at(self, x: float) -> float:
        a = self.steepness
        rise = 1 + math.log(x + math.exp(-a)) / a
        return self.start_fraction + (1 - self.start_fraction) * rise


@dataclass(frozen=True, kw_only=True)
class Polynomial(_Ramp):
    """Bend the linear pace: a power above 1 starts slowly, one below 1 starts fast.

    c(t) = c0 + (1 - c0) x^p.

    Args:
        start_fraction: c0, in (0, 1]; default 0.01, ours.
        epochs: T, above 0, the time at which everything is visible; default 10, ours.
        power: p, above 0; Wu et al. use 2 (the default), 1 and 1/2.

    Raises:
        TypeError: an argument, or t, is not a real number.
        ValueError: an argument is outside its range; t is negative.

    Example:
        >>> pace = Polynomial(start_fraction=0.2, epochs=10, power=2)
        >>> round(pace(5), 12)
        0.4

    Differences from the paper: None known.

    References:
        Wu, Dyer and Neyshabur, When do curricula work?, ICLR 2021 [wu2021].
    """

    power: float = field(default=2.0, metadata=_POSITIVE)

    def _fraction_at(self, x: float) -> float:
        return self.start_fraction + (1 - self.start_fraction) * x**self.power


@dataclass(frozen=True, kw_only=True)
class Step(_Checked):
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

    start_fraction: float = field(metadata=_FRACTION)
    epochs: float = field(default=10.0, metadata=_POSITIVE)

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""
        return 1.0 if check_number("t", t, at_least=0) >= self.epochs else self.start_fraction


@dataclass(frozen=True, kw_only=True)
class FixedExponential(_Checked):
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

    start_fraction: float = field(default=0.04, metadata=_FRACTION)
    increase: float = field(default=1.9, metadata={"above": 1})
    every_epochs: float = field(default=1.0, metadata=_POSITIVE)

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""
        jumps = _phases(t, self.every_epochs)
        # In logarithms first, as the power overflows in a long run; 1/49 * 7^2 must count as 1.
        if math.log(self.start_fraction) + jumps * math.log(self.increase) > -1e-12:
            return 1.0
        return self.start_fraction * self.increase**jumps


@dataclass(frozen=True, kw_only=True)
class BabySteps(_Phases):
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
        return min(self.buckets, 1 + _phases(t, self.epochs_per_bucket)) / self.buckets


@dataclass(frozen=True, kw_only=True)
class OnePass(_Phases):
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
        bucket = _phases(t, self.epochs_per_bucket)
        if bucket >= self.buckets:
            return 0.0, 1.0
        return bucket / self.buckets, (bucket + 1) / self.buckets

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0: the width of the window."""
        return 1.0 if _phases(t, self.epochs_per_bucket) >= self.buckets else 1 / self.buckets


@dataclass(frozen=True)
class Constant(_Checked):
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

    fraction: float = field(metadata=_FRACTION)

    def __call__(self, t: float) -> float:
        """Return the visible fraction at time ``t``, at least 0."""
        check_number("t", t, at_least=0)
        return self.fraction
