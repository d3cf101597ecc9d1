"""What the report says in words: numbers in their unit, verdicts as sentences, and the headline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradatim.compare.verdicts import probability

__all__ = ["Numbers", "headline", "interval_of", "joined", "sentence"]

MINUS = "\u2212"  # as wide as a plus, and no line ends after it


@dataclass(frozen=True)
class Numbers:
    """How the values of one metric are written.

    Attributes:
        name: the metric's name.
        title: its title.
        unit: "points" or "".
        scale: factor on values before they are written.
        decimals: places behind the point.
        higher_is_better: the metric's direction.

    Example:
        >>> accuracy = {"title": "accuracy", "unit": "points", "scale": 100}
        >>> Numbers.of(accuracy, [0.9]).change(0.0125)
        '+1.2 points'
    """

    name: str
    title: str
    unit: str
    scale: float
    decimals: int
    higher_is_better: bool

    @classmethod
    def of(cls, metric: Mapping[str, Any], means: Sequence[float | None]) -> Numbers:
        """Choose the decimals: one for points, else three digits of the largest mean."""
        scale = float(metric.get("scale", 1))
        largest = max((abs(mean) for mean in means if mean is not None), default=0.0)
        decimals = 1
        if scale != 100:
            order = math.floor(math.log10(largest)) if 0 < largest < math.inf else 0
            decimals = min(6, max(0, 2 - order))
        up = bool(metric.get("higher_is_better", True))
        title, unit = str(metric["title"]), str(metric.get("unit") or "")
        return cls(str(metric.get("name", title)), title, unit, scale, decimals, up)

    def value(self, value: float | None) -> str:
        """Write a value without its unit; nothing for a missing one."""
        if value is None or not math.isfinite(value):
            return ""
        return f"{self.scale * value:.{self.decimals}f}".replace("-", MINUS)

    def signed(self, value: float) -> str:
        """Write a difference with its sign; what rounds to 0 is +0."""
        text = f"{self.scale * value:+.{self.decimals}f}"
        if float(text) == 0:
            text = text.replace("-", "+")
        return text.replace("-", MINUS)

    def change(self, value: float) -> str:
        """Write a difference with its sign and unit."""
        return f"{self.signed(value)} {self.unit}".rstrip()

    def size(self, value: float) -> str:
        """Write a difference without a sign, in its unit, as short as it is exact."""
        number = f"{self.scale * value:.4g}"
        unit = self.unit.removesuffix("s") if number == "1" else self.unit
        return f"{number} {unit}".rstrip()

    def interval(self, bounds: Sequence[float]) -> str:
        """Write an interval: "+0.1 to +2.3"."""
        return f"{self.signed(bounds[0])} to {self.signed(bounds[1])}"

    @staticmethod
    def amount(value: float | None) -> str:
        """Write a cost, such as samples or seconds, in three digits: 4.21, 950, 12.3k, 1.05M."""
        if value is None or not math.isfinite(value):
            return ""
        for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
            if abs(value) >= least:
                short = value / {"G": 1e9, "M": 1e6, "k": 1e3}[letter]
                return f"{short:.3g}{letter}" if short < 999.5 else f"{short:.0f}{letter}"
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"

    @staticmethod
    def seconds(value: float) -> str:
        """Write a time so that columns line up: 0.04, 12.3, 950."""
        return (
            f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
        )


def sentence(found: Mapping[str, Any], numbers: Numbers) -> str:
    """Say a verdict, to be read after the curriculum's name.

    Args:
        found: a comparison as a dict.
        numbers: how the metric is written.

    Returns:
        One or two sentences with the difference and its 95 % interval, and, where evidence is
        lacking, what would have been found four times in five.

    Example:
        >>> from dataclasses import asdict
        >>> from gradatim.compare.verdicts import judge
        >>> numbers = Numbers.of({"title": "accuracy", "unit": "points", "scale": 100}, [])
        >>> pairs = {"new": ([0.3, 0.5, 0.7], [0.3, 0.5, 0.6])}
        >>> print(sentence(asdict(judge(pairs, alpha=0.05, margin=0.01)["new"]), numbers))
        not enough evidence: +3.3 points (95 % interval ... to +17.7). This plan would find 18.8 ...
    """
    test = found["t_test"]
    size = numbers.change(test["difference"])
    span = f"95 % interval {numbers.interval(interval_of(found))}"
    verdict = found["verdict"]
    if verdict in ("helps", "hurts"):
        p = f"= {probability(found['p_holm'])}".replace("= <", "< ")
        return f"{verdict}: {size} ({span}; p {p} after Holm)."
    if verdict == "equivalent":
        margin = numbers.size(found["equivalence"]["margin"])
        return f"equivalent to plain training within {margin}: {size} ({span})."
    words = f"{verdict}: {size} ({span})."
    if not test["deviation"]:
        return f"{words} All {test['pairs']} pairs differ by the same amount: too few to judge."
    unit = f" {numbers.unit}".rstrip()
    return (
        f"{words} This plan would find {numbers.value(found['detectable'])}{unit} "
        "or more four times in five."
    )


def interval_of(found: Mapping[str, Any]) -> Sequence[float]:
    """Give the interval to show: over seeds and test items where both were drawn.

    Args:
        found: a comparison as a dict.

    Returns:
        Two bounds, unscaled.

    Example:
        >>> interval_of({"t_test": {"interval": [0, 1]}, "item_interval": None})
        [0, 1]
    """
    return found.get("item_interval") or found["t_test"]["interval"]


def headline(
    settings: Mapping[str, Mapping[str, Any]], numbers: Numbers, controls: Sequence[str]
) -> tuple[str, str]:
    """Answer "does a curriculum help here?" in a word and a sentence.

    Controls are no curricula: random subsets that do better speak for the pace, not for an order.

    Args:
        settings: by title, the rows by curriculum, as dicts.
        numbers: how the metric is written.
        controls: plain training and the control of random subsets.

    Returns:
        "Yes", "Partly", "No", "Not shown" or "No answer", and a sentence.

    Example:
        >>> headline({}, Numbers.of({"title": "accuracy"}, []), ["uniform"])[0]
        'No answer'
    """
    judged = {}
    for title, rows in settings.items():
        found = [
            (name, row["comparison"])
            for name, row in rows.items()
            if name not in controls and row.get("comparison")
        ]
        if found:
            judged[title] = found
    if not judged:
        return "No answer", "no curriculum has two finished runs to compare with plain training."
    better = {title: _named(found, "helps", numbers) for title, found in judged.items()}
    worse = {title: _named(found, "hurts") for title, found in judged.items()}
    gain = f"improved {numbers.title} over plain training"
    if any(better.values()):
        answer = "Yes" if all(better.values()) else "Partly"
        return answer, _by_setting(better, gain)
    names = list(dict.fromkeys(name for found in judged.values() for name, _ in found))
    who = f"none of the {len(names)} curricula {gain}" if len(names) > 1 else None
    open_ends = any(
        comparison["verdict"] == "not enough evidence"
        for found in judged.values()
        for _, comparison in found
    )
    if open_ends:
        one = f"{names[0]} is not known to have {gain}"
        words = f"{who} by more than chance can explain" if who else one
    else:
        words = who or f"{names[0]} has not {gain}"
    if len(judged) > 1:
        words += (
            ", in either setting" if len(judged) == 2 else f", in any of {len(judged)} settings"
        )
    harm = [
        f"{names} made it worse" + (f" ({title})" if len(judged) > 1 else "")
        for title, names in worse.items()
        if names
    ]
    return "Not shown" if open_ends else "No", "; ".join([words, *harm]) + "."


def _named(
    found: Sequence[tuple[str, Mapping[str, Any]]], verdict: str, numbers: Numbers | None = None
) -> str:
    """Name those with a verdict, the largest difference first; at most three."""
    chosen = [(name, c["t_test"]["difference"]) for name, c in found if c["verdict"] == verdict]
    chosen.sort(key=lambda entry: -abs(entry[1]))
    short = [(n if len(n) <= 40 else f"{n[:37]}...", difference) for n, difference in chosen[:3]]
    words = [f"{n} ({numbers.change(value)})" if numbers else n for n, value in short]
    if len(chosen) > 3:
        words.append(f"{len(chosen) - 3} more")
    return joined(words)


def joined(words: Sequence[str]) -> str:
    """Join words as speech does: "a, b and c".

    Args:
        words: any number of them.

    Returns:
        Text; empty for none.

    Example:
        >>> joined(["a", "b", "c"]), joined(["a"])
        ('a, b and c', 'a')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _by_setting(better: Mapping[str, str], gain: str) -> str:
    """Say who helped where; settings where somebody did come first."""
    if len(better) == 1:
        return f"{next(iter(better.values()))} {gain}."
    titles = sorted(better, key=lambda title: not better[title])
    clauses = [f"{title}: {better[title] or 'none'} did" for title in titles[1:]]
    return "; ".join([f"{titles[0]}: {better[titles[0]]} {gain}", *clauses]) + "."
