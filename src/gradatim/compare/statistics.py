"""Tests for paired results: did B differ from A, by how much, and could we have seen it?

All of them compare values that belong together: the same seed, the same split, the same initial
weights under two curricula. Differences are always ``a - b``: positive means that ``a`` is larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from gradatim.compare.extras import needs_extra
from gradatim.compare.power import smallest_sign_flip_p
from gradatim.validation import as_vector, check_count, check_number, refusal

__all__ = [
    "EquivalenceTest",
    "McNemarTest",
    "PairedTTest",
    "SignFlipTest",
    "equivalence_test",
    "holm",
    "mcnemar",
    "paired_t_test",
    "sign_flip_test",
]

Values: TypeAlias = "Sequence[float] | np.ndarray | torch.Tensor"

ENUMERATED_PAIRS = 20  # 2**19 sign patterns: 4 MB and some milliseconds


@dataclass(frozen=True)
class PairedTTest:
    """What a paired t-test found.

    Attributes:
        difference: mean of ``a - b``.
        interval: confidence interval of the difference.
        statistic: t; infinite where the differences have no spread.
        p_value: two-sided.
        deviation: standard deviation of the differences (n - 1 in the denominator).
        pairs: their number n.

    Example:
        >>> paired_t_test([0.9, 0.8, 0.7], [0.8, 0.6, 0.6]).pairs
        3
    """

    difference: float
    interval: tuple[float, float]
    statistic: float
    p_value: float
    deviation: float
    pairs: int


@dataclass(frozen=True)
class SignFlipTest:
    """What a sign-flip permutation test found.

    Attributes:
        difference: mean of ``a - b``.
        statistic: sum of ``a - b``.
        p_value: two-sided.
        smallest_p: the smallest p-value that this number of pairs (or draws) can give.
        exact: whether all sign patterns were counted.
        pairs: number of pairs n.

    Example:
        >>> sign_flip_test([0.9, 0.8, 0.7], [0.8, 0.6, 0.6]).smallest_p
        0.25
    """

    difference: float
    statistic: float
    p_value: float
    smallest_p: float
    exact: bool
    pairs: int


@dataclass(frozen=True)
class McNemarTest:
    """What McNemar's test found.

    Attributes:
        only_a: samples that only A gets right (b in most texts).
        only_b: samples that only B gets right (c).
        statistic: continuity-corrected chi-square; 0 if both numbers are 0.
        p_value: two-sided.
        exact: whether ``p_value`` comes from the binomial distribution.

    Example:
        >>> mcnemar([True, True, False], [True, False, False]).only_a
        1
    """

    only_a: int
    only_b: int
    statistic: float
    p_value: float
    exact: bool


@dataclass(frozen=True)
class EquivalenceTest:
    """What two one-sided tests found.

    Attributes:
        difference: mean of ``a - b``.
        interval: confidence interval of coverage 1 - 2 alpha: equivalence is shown at level alpha
            exactly where it lies inside (-margin, margin).
        statistic: the smaller of the two t values, both counted positive towards equivalence.
        p_value: the larger of the two one-sided p-values.
        margin: the largest difference that does not matter.
        pairs: number of pairs n.

    Example:
        >>> equivalence_test([0.9, 0.8, 0.7], [0.9, 0.8, 0.7], margin=0.01).difference
        0.0
    """

    difference: float
    interval: tuple[float, float]
    statistic: float
    p_value: float
    margin: float
    pairs: int


def paired_t_test(a: Values, b: Values, *, confidence: float = 0.95) -> PairedTTest:
    """Paired t-test: the primary test for two curricula run with the same seeds.

    With d = a - b, its mean m and standard deviation s over n pairs, t = m / (s / sqrt(n)) is
    referred to Student's distribution with n - 1 degrees of freedom.

    Args:
        a: one value per pair, shape (n,), n at least 2.
        b: the values they are paired with, shape (n,).
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The difference, its interval, t and the two-sided p-value.

    Raises:
        ValueError: fewer than two pairs, unequal lengths, or values that are not finite.

    Example:
        >>> test = paired_t_test([3, 5, 7], [2, 3, 4])
        >>> test.difference, round(test.statistic, 4), round(test.p_value, 4)
        (2.0, 3.4641, 0.0742)

    Caveats:
        If all differences are equal there is no spread to test against, and t is undefined. The
        p-value is then that of the sign-flip test, 2^(1-n), never 0; the interval is the single
        point. Accuracies on a small test set and two or three seeds can bring this about.

    References:
        Student, "The probable error of a mean", Biometrika 1908.
    """
    differences, deviation = _paired_differences(a, b)
    check_number("confidence", confidence, above=0, below=1)
    n, mean = len(differences), float(differences.mean())
    if deviation == 0:
        p_value = 1.0 if mean == 0 else smallest_sign_flip_p(n)
        statistic = math.copysign(math.inf, mean) if mean else 0.0
        return PairedTTest(mean, (mean, mean), statistic, p_value, 0.0, n)
    with needs_extra("gradatim.compare.paired_t_test"):
        from scipy import special
    error = deviation / math.sqrt(n)
    half = error * float(special.stdtrit(n - 1, (1 + confidence) / 2))
    p_value = 2 * float(special.stdtr(n - 1, -abs(mean) / error))
    return PairedTTest(mean, (mean - half, mean + half), mean / error, p_value, deviation, n)


def sign_flip_test(
    a: Values, b: Values, *, draws: int = 100_000, generator: np.random.Generator | None = None
) -> SignFlipTest:
    """Sign-flip permutation test: the same question with no assumption of normality.

    If nothing distinguishes A from B, each difference was as likely to come out with the other
    sign. The p-value is the share of the 2^n sign patterns whose sum is at least as far from 0 as
    the sum observed. Up to 20 pairs all patterns are counted; above, random ones are drawn and the
    observed one counts as drawn, so that p is never 0.

    Args:
        a: one value per pair, shape (n,), n at least 2.
        b: the values they are paired with, shape (n,).
        draws: random patterns if n is above 20.
        generator: source of these patterns; None starts one from seed 0.

    Returns:
        The difference, the sum of differences and the two-sided p-value.

    Raises:
        ValueError: fewer than two pairs, unequal lengths, or values that are not finite.

    Example:
        The sums of +-1 +-2 +-3 that reach 6 are two of eight.

        >>> sign_flip_test([1, 2, 3], [0, 0, 0]).p_value
        0.25

    Caveats:
        With n pairs p cannot go below 2^(1-n) (see `smallest_sign_flip_p`).

    References:
        Fisher, "The design of experiments", 1935, section 21.
        Phipson and Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol.
        Biol. 2010.
    """
    differences, _ = _paired_differences(a, b)
    check_count("draws", draws, at_least=1)
    n, total = len(differences), float(differences.sum())
    # Accuracies are multiples of one test sample: sums that tie on paper differ in the last bits.
    reached = abs(total) - 1e-9 * float(np.abs(differences).sum())
    if n <= ENUMERATED_PAIRS:
        # A pattern and its mirror image have the same distance from 0: the first sign stays.
        sums = differences[:1]
        for difference in differences[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        p_value, smallest = float((np.abs(sums) >= reached).mean()), smallest_sign_flip_p(n)
    else:
        generator = np.random.default_rng(0) if generator is None else generator
        count, rows = 0, max(1, 2**22 // n)
        for first in range(0, draws, rows):
            signs = 2 * generator.integers(0, 2, (min(rows, draws - first), n), np.int8) - 1
            count += int((np.abs(signs @ differences) >= reached).sum())
        p_value, smallest = (count + 1) / (draws + 1), 1 / (draws + 1)
    exact = n <= ENUMERATED_PAIRS
    return SignFlipTest(total / n, total, p_value, smallest, exact, n)


def holm(p_values: Values) -> np.ndarray:
    """Holm's adjustment: p-values of a family, such that the family errs at the level chosen.

    Whoever tests six curricula at .05 each is wrong about at least one of six useless ones in up
    to 30 % of all studies. With p sorted ascending, the adjusted value of rank r (from 1, of m) is
    the largest of (m - j + 1) p_(j) over j <= r, at most 1.

    Args:
        p_values: shape (m,), each in [0, 1].

    Returns:
        Adjusted p-values in the order given, float64, shape (m,).

    Raises:
        ValueError: a value outside [0, 1] or not finite.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 1979.
    """
    values = _doubles("p_values", p_values)
    if ((values < 0) | (values > 1)).any():
        raise refusal("p_values", "in [0, 1]", values.tolist())
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1)
    return adjusted


def mcnemar(correct_a: Any, correct_b: Any, *, exact: bool | None = None) -> McNemarTest:
    """McNemar's test: two classifiers on one test set, from the samples they disagree on.

    With b samples only A and c samples only B gets right, (|b - c| - 1)^2 / (b + c) is referred to
    the chi-square distribution with one degree of freedom; below 25 disagreements the two-sided
    binomial probability is exact and takes its place; without any, p = 1.

    Args:
        correct_a: whether A is right, booleans of shape (samples,).
        correct_b: whether B is right on the same samples in the same order.
        exact: True or False forces the binomial or the chi-square p-value.

    Returns:
        The two counts, the statistic and the two-sided p-value.

    Raises:
        ValueError: unequal lengths, or values that are not booleans (or 0 and 1).

    Example:
        >>> a = [True] * 2 + [False] * 8
        >>> b = [False] * 2 + [True] * 8
        >>> round(mcnemar(a, b).p_value, 6)
        0.109375

    Caveats:
        It speaks of two trained models, not of two methods: one run each, never pooled over seeds.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions",
        Psychometrika 1947. Edwards (1948) for the correction by 1.
    """
    right_a = _doubles("correct_a", correct_a)
    right_b = _doubles("correct_b", correct_b, size=len(right_a))
    for name, values in (("correct_a", right_a), ("correct_b", right_b)):
        if ((values != 0) & (values != 1)).any():
            raise refusal(name, "booleans", "other values", "Did you pass predictions?")
    only_a = int((right_a > right_b).sum())
    only_b = int((right_b > right_a).sum())
    disagreements = only_a + only_b
    exact = disagreements < 25 if exact is None else exact
    if disagreements == 0:
        return McNemarTest(0, 0, 0.0, 1.0, exact)
    with needs_extra("gradatim.compare.mcnemar"):
        from scipy import special
    statistic = (abs(only_a - only_b) - 1) ** 2 / disagreements
    if exact:
        tail = float(special.bdtr(min(only_a, only_b), disagreements, 0.5))
        p_value = min(1.0, 2 * tail)
    else:
        p_value = float(special.chdtrc(1, statistic))
    return McNemarTest(only_a, only_b, statistic, p_value, exact)


def equivalence_test(
    a: Values, b: Values, *, margin: float, alpha: float = 0.05
) -> EquivalenceTest:
    """Two one-sided paired t-tests: is the difference too small to matter?

    A large p-value of the t-test is no proof of equality. Here the burden is turned round:
    equivalence is shown only if both "a - b <= -margin" and "a - b >= margin" are rejected.

    Args:
        a: one value per pair, shape (n,), n at least 2.
        b: the values they are paired with, shape (n,).
        margin: the largest difference that does not matter, above 0, in the unit of the values.
            It must be chosen before the results are seen.
        alpha: level, for the coverage 1 - 2 alpha of the interval, in (0, 0.5).

    Returns:
        The difference, its interval and the p-value, the larger of the two.

    Raises:
        ValueError: fewer than two pairs, unequal lengths, or ``margin`` not above 0.

    Example:
        >>> test = equivalence_test([0.90, 0.91, 0.90], [0.90, 0.90, 0.91], margin=0.1)
        >>> test.p_value < 0.05
        True

    Caveats:
        Without any spread in the differences t is undefined; p is then the one-sided sign-flip
        value 2^-n if the difference lies within the margin, else 1.

    References:
        Schuirmann, "A comparison of the two one-sided tests procedure and the power approach",
        J. Pharmacokinet. Biopharm. 1987.
    """
    differences, deviation = _paired_differences(a, b)
    check_number("margin", margin, above=0)
    check_number("alpha", alpha, above=0, below=0.5)
    n, mean = len(differences), float(differences.mean())
    distance = margin - abs(mean)
    if deviation == 0:
        p_value = 2.0**-n if distance > 0 else 1.0
        statistic = math.copysign(math.inf, distance) if distance else 0.0
        return EquivalenceTest(mean, (mean, mean), statistic, p_value, margin, n)
    with needs_extra("gradatim.compare.equivalence_test"):
        from scipy import special
    error = deviation / math.sqrt(n)
    half = error * float(special.stdtrit(n - 1, 1 - alpha))
    # The nearer bound decides: its test has the smaller statistic and the larger p-value.
    statistic = distance / error
    p_value = float(special.stdtr(n - 1, -statistic))
    return EquivalenceTest(mean, (mean - half, mean + half), statistic, p_value, margin, n)


def _paired_differences(a: Values, b: Values) -> tuple[np.ndarray, float]:
    """Return ``a - b`` and its standard deviation: exactly 0 if only rounding is left."""
    first = _doubles("a", a)
    second = _doubles("b", b, size=len(first))
    if len(first) < 2:
        cause = "One run tells nothing about the spread: are there more seeds?"
        raise refusal("a", "at least two values, one per seed", len(first), cause)
    differences = first - second
    scale = float(np.abs(first).max() + np.abs(second).max())
    # 0.9 - 0.8 and 0.8 - 0.7 differ in the last bit: without this, t would be 1e15.
    rounding = 8 * np.finfo(np.float64).eps * scale
    if float(np.ptp(differences)) <= rounding:
        mean = float(differences.mean())
        mean = 0.0 if abs(mean) <= rounding else mean
        return np.full(len(first), mean), 0.0
    return differences, float(differences.std(ddof=1))


def _doubles(name: str, values: Any, *, size: int | None = None) -> np.ndarray:
    """Return finite float64 values; a list goes through NumPy, since torch would read float32."""
    if isinstance(values, Sequence):
        values = np.asarray(values, dtype=None if values else np.float64)
    return as_vector(name, values, size=size, dtype=torch.float64).numpy(force=True)
