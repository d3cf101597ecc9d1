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

__all__ = ["Comparison", "Verdict", "judge", "probability"]

Verdict: TypeAlias = Literal["helps", "hurts", "equivalent", "not enough evidence"]


@dataclass(frozen=True)
class Comparison:
    """One curriculum against plain training, with all that its verdict rests on.

    Attributes:
        verdict: "helps" or "hurts" if the t-test's p-value after Holm is below alpha; else
            "equivalent" if both one-sided tests are below alpha; else "not enough evidence".
        t_test: the primary test, unadjusted.
        p_holm: its p-value adjusted for the family.
        sign_flip: the same question without assuming normality, unadjusted.
        equivalence: two one-sided tests against the margin.
        detectable: smallest true difference that this plan finds with power .8, given the spread
            seen here and the strictest level that Holm can ask for (alpha / family size).

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
        low, high = (scale * bound for bound in self.t_test.interval)
        size = f"{scale * self.t_test.difference:+.1f} {unit}, from {low:+.1f} to {high:+.1f}"
        if self.verdict in ("helps", "hurts"):
            p = f"= {probability(self.p_holm)}".replace("= <", "< ")
            return f"{name} {self.verdict}: {size} (p {p} after Holm)."
        if self.verdict == "equivalent":
            margin = f"{scale * self.equivalence.margin:g}"
            within = f"{margin} {unit.rstrip('s') if margin == '1' else unit}"
            return f"{name} is equivalent within {within}: {size}."
        found = f"{scale * self.detectable:.1f}"
        return f"{name}: not enough evidence: {size}; this plan can show {found}."


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
    pairs: Mapping[str, tuple[Values, Values]], *, alpha: float, margin: float
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
    adjusted = holm([test.p_value for test in t_tests.values()])
    return {
        name: _comparison(t_tests[name], float(p), a, b, alpha, margin, len(pairs))
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
) -> Comparison:
    equivalence = equivalence_test(a, b, margin=margin, alpha=alpha)
    verdict: Verdict = "not enough evidence"
    if p_holm < alpha:
        verdict = "helps" if t_test.difference > 0 else "hurts"
    elif equivalence.p_value < alpha:
        verdict = "equivalent"
    detectable = minimum_detectable_difference(t_test.deviation, t_test.pairs, alpha=alpha / family)
    return Comparison(verdict, t_test, p_holm, sign_flip_test(a, b), equivalence, detectable)
