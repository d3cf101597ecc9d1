"""From paired scores to a sentence: helps, hurts, equivalent, or not enough evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gradatim.compare.power import minimum_detectable_difference
from gradatim.compare.statistics import (
    EquivalenceTest,
    PairedTTest,
    SignFlipTest,
    Values,
    equivalence_test,
    holm,
    paired_t_test,
    sign_flip_test,
)
from gradatim.validation import check_number

__all__ = ["Comparison", "Verdict", "judge", "probability", "signed"]

Verdict: TypeAlias = Literal["helps", "hurts", "equivalent", "not enough evidence"]


@dataclass(frozen=True)
class Comparison:
    """One curriculum against plain training, with all that its verdict rests on.

    Attributes:
        verdict: "helps" or "hurts" if the t-test's p-value after Holm is below alpha (and, where
            all seeds share one test set, the interval over seeds and items leaves out 0); else
            "equivalent" if both one-sided tests are below alpha; else "not enough evidence".
        t_test: the primary test, unadjusted.
        p_holm: its p-value adjusted for the family.
        sign_flip: the same question without assuming normality, unadjusted.
        equivalence: two one-sided tests against the margin.
        detectable: smallest true difference that this plan finds with power .8, given the spread
            seen here and the strictest level that Holm can ask for (alpha / family size).
        item_interval: 95 % interval of the difference that resamples seeds and test items
            together, where all seeds share one test set.

    Example:
        >>> better = judge({"new": ([3.0, 5.0, 7.1], [2.0, 4.1, 6.0])}, alpha=0.05, margin=0.1)
        >>> better["new"].verdict
        'helps'
    """

    verdict: Verdict
    t_test: PairedTTest
    p_holm: float
    sign_flip: SignFlipTest
    equivalence: EquivalenceTest
    detectable: float
    item_interval: tuple[float, float] | None = None

    def sentence(self, name: str, *, unit: str = "points", scale: float = 100) -> str:
        """Say the verdict in one sentence.

        Args:
            name: the curriculum.
            unit: what ``scale`` turns the scores into.
            scale: factor on scores before they are printed; 100 makes accuracies percent.

        Returns:
            A sentence with the difference, its 95 % interval and, where evidence is lacking, the
            difference that this plan would have found four times in five.

        Example:
            >>> pairs = {"new": ([0.3, 0.5, 0.7], [0.3, 0.5, 0.6])}
            >>> print(judge(pairs, alpha=0.05, margin=0.01)["new"].sentence("new"))
            new: not enough evidence: +3.3 points, from -11.0 to +17.7; this plan can show 18.8.
        """
        low, high = (signed(scale * bound, scale) for bound in self.interval)
        gain = signed(scale * self.t_test.difference, scale)
        size = f"{gain} {unit}".rstrip() + f", from {low} to {high}"
        if self.verdict in ("helps", "hurts"):
            p = f"= {probability(self.p_holm)}".replace("= <", "< ")
            return f"{name} {self.verdict}: {size} (p {p} after Holm)."
        if self.verdict == "equivalent":
            margin = f"{scale * self.equivalence.margin:.3g}"
            within = f"{margin} {unit.rstrip('s') if margin == '1' else unit}".rstrip()
            return f"{name} is equivalent within {within}: {size}."
        if self.t_test.deviation == 0:
            pairs = self.t_test.pairs
            return (
                f"{name}: not enough evidence: all {pairs} pairs differ by {gain} {unit}".rstrip()
                + (", which leaves nothing to judge chance by.")
            )
        found = signed(scale * self.detectable, scale).lstrip("+")
        return f"{name}: not enough evidence: {size}; this plan can show {found}."

    @property
    def interval(self) -> tuple[float, float]:
        """The interval to show: over seeds and items where both were drawn, else over seeds."""
        return self.t_test.interval if self.item_interval is None else self.item_interval


def signed(value: float, scale: float) -> str:
    """Write a difference: percent with one decimal, other units in about three digits.

    Args:
        value: already scaled.
        scale: by which it was; 100 for points.

    Example:
        >>> signed(1.26, 100), signed(0.01234, 1), signed(1234.5, 1)
        ('+1.3', '+0.012', '+1,234')
    """
    if scale == 100:
        return f"{value:+,.1f}"
    if abs(value) >= 100:
        return f"{value:+,.0f}"
    return f"{value:+.3f}" if 0.001 <= abs(value) < 1 or value == 0 else f"{value:+.3g}"


def probability(p: float) -> str:
    """Write a p-value in at most five characters.

    Args:
        p: in [0, 1].

    Returns:
        Three decimals without the leading zero.

    Example:
        >>> probability(0.0421), probability(0.00002), probability(1.0)
        ('.042', '<.001', '1')
    """
    if p < 0.0005:
        return "<.001"
    return f"{p:.3f}".lstrip("0") if p < 0.9995 else "1"


def judge(
    pairs: Mapping[str, tuple[Values, Values]],
    *,
    alpha: float,
    margin: float,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    family: int | None = None,
) -> dict[str, Comparison]:
    """Compare each curriculum with plain training; the family is what is handed over together.

    One call is one family: one setting and one metric. The level and the margin belong to the plan
    and are fixed before any result is seen. Holm protects "helps" and "hurts"; each "equivalent"
    errs at alpha on its own.

    Args:
        pairs: by curriculum, its scores and the baseline's for the same seeds, each of shape (n,),
            n at least 2; higher scores are better.
        alpha: family-wise level of "helps" and "hurts", in (0, 0.5).
        margin: the largest difference that does not matter, in the unit of the scores.
        intervals: by curriculum, an interval that also counts the chance of the test items, where
            all seeds share one test set; "helps" and "hurts" must leave out 0 there too. Seeds on
            one small test set alone find differences that belong to its items.
        family: how many comparisons were planned; those that are missing (their runs failed) count
            as found nothing. None is as many as are handed over.

    Returns:
        A comparison per curriculum, in the order given.

    Raises:
        ValueError: fewer than two pairs, unequal lengths, or a parameter outside its range.

    Example:
        >>> pairs = {"same": ([0.90, 0.91, 0.92], [0.90, 0.91, 0.92])}
        >>> judge(pairs, alpha=0.2, margin=0.01)["same"].verdict
        'equivalent'
    """
    check_number("alpha", alpha, above=0, below=0.5)
    t_tests = {name: paired_t_test(a, b) for name, (a, b) in pairs.items()}
    family = max(len(pairs), family or 0)
    # Failed runs must not make the verdicts of the others easier.
    missing = [1.0] * (family - len(pairs))
    adjusted = holm([*(test.p_value for test in t_tests.values()), *missing])[: len(pairs)]
    return {
        name: _comparison(
            t_tests[name], float(p), a, b, alpha, margin, family, (intervals or {}).get(name)
        )
        for (name, (a, b)), p in zip(pairs.items(), adjusted, strict=True)
    }


def _comparison(
    t_test: PairedTTest,
    p_holm: float,
    a: Values,
    b: Values,
    alpha: float,
    margin: float,
    family: int,
    items: tuple[float, float] | None,
) -> Comparison:
    equivalence = equivalence_test(a, b, margin=margin, alpha=alpha)
    verdict: Verdict = "not enough evidence"
    if p_holm < alpha and (items is None or not items[0] <= 0 <= items[1]):
        verdict = "helps" if t_test.difference > 0 else "hurts"
    elif equivalence.p_value < alpha:
        verdict = "equivalent"
    detectable = minimum_detectable_difference(t_test.deviation, t_test.pairs, alpha=alpha / family)
    return Comparison(verdict, t_test, p_holm, sign_flip_test(a, b), equivalence, detectable, items)
