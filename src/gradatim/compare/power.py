"""What a plan can find at all: asked before it runs, and again when it found nothing."""

from __future__ import annotations

import functools

from gradatim.compare.extras import needs_extra
from gradatim.validation import check_count, check_number

__all__ = ["minimum_detectable_difference", "smallest_sign_flip_p", "t_test_power"]


def smallest_sign_flip_p(pairs: int) -> float:
    """Say the smallest two-sided p-value that a sign-flip test of this many pairs can give.

    Where it is above the level one wants, the plan cannot succeed whatever the method does.

    Args:
        pairs: number of pairs n, at least 1.

    Returns:
        2^(1-n).

    Raises:
        ValueError: ``pairs`` is below 1.

    Example:
        >>> smallest_sign_flip_p(5), smallest_sign_flip_p(8)
        (0.0625, 0.0078125)
    """
    return 2.0 ** (1 - check_count("pairs", pairs, at_least=1))


def t_test_power(effect: float, pairs: int, *, alpha: float = 0.05) -> float:
    """Say how often a paired t-test of this many pairs finds a difference of this size.

    t follows the non-central t distribution with n - 1 degrees of freedom and non-centrality
    effect * sqrt(n); power is its probability beyond the two critical values.

    Args:
        effect: true difference in standard deviations of the paired differences.
        pairs: number of pairs n, at least 2.
        alpha: two-sided level, in (0, 1).

    Returns:
        A probability; alpha itself at effect 0.

    Raises:
        ValueError: ``pairs`` below 2 or ``alpha`` outside (0, 1).

    Example:
        >>> round(t_test_power(0.0, 8), 6)
        0.05
        >>> t_test_power(1.0, 8) < t_test_power(1.0, 16)
        True
    """
    check_number("effect", effect)
    check_count("pairs", pairs, at_least=2)
    check_number("alpha", alpha, above=0, below=1)
    with needs_extra("gradatim.compare.t_test_power"):
        from scipy import special
    critical = float(special.stdtrit(pairs - 1, 1 - alpha / 2))
    # t^2 beyond critical^2: both tails at once, and finite where SciPy's non-central t is not.
    return 1 - float(special.ncfdtr(1, pairs - 1, effect**2 * pairs, critical**2))


def minimum_detectable_difference(
    deviation: float, pairs: int, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Say the smallest true difference that this plan finds with the stated power.

    A verdict of "not enough evidence" means little if only a huge difference could have been seen.

    Args:
        deviation: standard deviation of the paired differences, at least 0.
        pairs: number of pairs n, at least 2.
        alpha: two-sided level of the paired t-test, in (0, 1).
        power: probability of finding it, in (alpha, 1).

    Returns:
        A difference in the unit of ``deviation``.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> effect = minimum_detectable_difference(1.0, 8)
        >>> round(t_test_power(effect, 8), 6)
        0.8
    """
    check_number("deviation", deviation, at_least=0)
    check_count("pairs", pairs, at_least=2)
    check_number("alpha", alpha, above=0, below=1)
    check_number("power", power, above=alpha, below=1)
    return deviation * _detectable_effect(pairs, alpha, power)


@functools.lru_cache
def _detectable_effect(pairs: int, alpha: float, power: float) -> float:
    """Find the difference in standard deviations; the same for a whole family, so it is kept."""
    with needs_extra("gradatim.compare.minimum_detectable_difference"):
        from scipy import optimize
    largest = 1.0
    while t_test_power(largest, pairs, alpha=alpha) < power:
        largest *= 2

    def excess(effect: float) -> float:
        return t_test_power(effect, pairs, alpha=alpha) - power

    return float(optimize.root_scalar(excess, bracket=(0, largest), xtol=1e-12).root)
