"""Paces that rise without a halt from a first fraction to everything."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from gradatim.pacing.checked import FRACTION, POSITIVE, Checked
from gradatim.validation import check_number

__all__ = ["Exponential", "Geometric", "Linear", "Logarithmic", "Polynomial", "Ramp", "Root"]


@dataclass(frozen=True, kw_only=True)
class Ramp(Checked, ABC):
    """A pace that rises from ``start_fraction`` at 0 to 1 at ``epochs``."""

    start_fraction: float = field(default=0.01, metadata=FRACTION)
    epochs: float = field(default=10.0, metadata=POSITIVE)

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

    @abstractmethod
    def _fraction_at(self, x: float) -> float:
        """Return the visible fraction at ``x`` = t / epochs, in (0, 1), give or take rounding."""


@dataclass(frozen=True, kw_only=True)
class Linear(Ramp):
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
class Root(Ramp):
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

    power: float = field(default=2.0, metadata=POSITIVE)

    def _fraction_at(self, x: float) -> float:
        start = self.start_fraction**self.power
        if start < 0.5:
            return (start + (1 - start) * x) ** (1 / self.power)
        # A small power: start is nearly 1, and its distance to 1 is what counts.
        gap = math.expm1(self.power * math.log(self.start_fraction)) * (1 - x)
        return math.exp(math.log1p(gap) / self.power)


@dataclass(frozen=True, kw_only=True)
class Geometric(Ramp):
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
class Exponential(Ramp):
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

    steepness: float = field(default=10.0, metadata=POSITIVE)

    def _fraction_at(self, x: float) -> float:
        a = self.steepness
        rise = math.exp(a * (x - 1)) * math.expm1(-a * x) / math.expm1(-a)
        return self.start_fraction + (1 - self.start_fraction) * rise


@dataclass(frozen=True, kw_only=True)
class Logarithmic(Ramp):
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

    steepness: float = field(default=10.0, metadata=POSITIVE)

    def _fraction_at(self, x: float) -> float:
        a = self.steepness
        rise = 1 + math.log(x + math.exp(-a)) / a
        return self.start_fraction + (1 - self.start_fraction) * rise


@dataclass(frozen=True, kw_only=True)
class Polynomial(Ramp):
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

    power: float = field(default=2.0, metadata=POSITIVE)

    def _fraction_at(self, x: float) -> float:
        return self.start_fraction + (1 - self.start_fraction) * x**self.power
