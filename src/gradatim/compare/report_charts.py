"""Figures of the report as inline SVG: they follow the page's colours, also in the dark.

Colours are classes (``s0`` ... ``s7``) that the page's style sheet gives a value for each scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

__all__ = ["Series", "line_chart", "merge_equal", "style_of", "ticks"]

WIDTH, HEIGHT = 500, 330
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 46
COLOURS = 8


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        names: shown when the pointer rests on it; several where equal lines were made one.
        number: its place among the curricula, which decides colour and dashes.
        x: ascending, (E,).
        mean: (E,).
        spread: half the height of the band, (E,); zeros for none.
        stepped: whether a value holds until the next one.

    Example:
        >>> Series(("spl",), 1, np.array([1.0]), np.array([0.5]), np.zeros(1)).style
        's1'
    """

    names: tuple[str, ...]
    number: int
    x: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    stepped: bool = False

    @property
    def style(self) -> str:
        """Classes of the line, see `style_of`."""
        return style_of(self.number)


def style_of(number: int) -> str:
    """Name the classes of a curriculum: a colour, and dashes where colours begin again.

    Args:
        number: its place among the curricula.

    Returns:
        Class names.

    Example:
        >>> style_of(1), style_of(9)
        ('s1', 's1 again')
    """
    return f"s{number % COLOURS}" + (" again" if number >= COLOURS else "")


def merge_equal(series: Sequence[Series]) -> list[Series]:
    """Make one line of equal ones, with all their names: drawn apart, they would hide each other.

    Args:
        series: lines in order.

    Returns:
        The first of each group, named after the whole group.

    Example:
        >>> one, zero = np.ones(1), np.zeros(1)
        >>> lines = [Series((name,), 0, one, one, zero) for name in "ab"]
        >>> [line.names for line in merge_equal(lines)]
        [('a', 'b')]
    """
    merged: list[Series] = []
    for line in series:
        for place, known in enumerate(merged):
            if np.array_equal(known.x, line.x) and np.array_equal(known.mean, line.mean):
                merged[place] = replace(known, names=known.names + line.names)
                break
        else:
            merged.append(line)
    return merged


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Choose round numbers inside a range: multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: lower end.
        high: upper end, at least ``low``.
        about: how many are wanted.

    Returns:
        Ascending numbers; ``[low]`` for an empty range.

    Example:
        >>> ticks(0, 10)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    chart: str,
    xlabel: str,
    ylabel: str,
    from_zero: bool = False,
    lower_is_better: bool = False,
) -> str:
    """Draw lines with bands.

    Early evaluations are far worse than all later ones; shown in full, they would flatten what
    differs. So the vertical axis spans what the second half of the curves needs, and lines leave
    the frame.

    Args:
        series: at least one, each with at least one point.
        chart: a name that no other chart of the page has: letters, digits and hyphens.
        xlabel: what x is.
        ylabel: what the lines are.
        from_zero: whether the vertical axis starts at 0 and shows everything.
        lower_is_better: on which side lines may leave the frame.

    Returns:
        An svg element.

    Example:
        >>> line = Series(("a < b",), 0, np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.zeros(2))
        >>> "a &lt; b" in line_chart([line], chart="c", xlabel="steps", ylabel="accuracy")
        True
    """
    x_low = 0.0 if from_zero else min(float(line.x[0]) for line in series)
    x_high = max(float(line.x[-1]) for line in series)
    low, high = _vertical(series, from_zero=from_zero, lower_is_better=lower_is_better)

    def across(x: np.ndarray) -> np.ndarray:
        return LEFT + (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def down(y: np.ndarray) -> np.ndarray:
        # Far outside is outside: huge coordinates would only upset renderers.
        share = np.clip((y - low) / ((high - low) or 1), -3, 4)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    names = ", ".join(name for line in series for name in line.names)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{ylabel} over {xlabel}: {names}")}">',
        f'<clipPath id="{chart}"><rect x="{LEFT}" y="{TOP - 2}" width="{right - LEFT}" '
        f'height="{floor - TOP + 3}"/></clipPath>',
    ]
    for value in ticks(low, high):
        y = float(down(np.array(value)))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 7}" y="{y + 4.5:.1f}">{_short(value)}</text>')
    for value in ticks(x_low, x_high):
        x = float(across(np.array(value)))
        parts.append(f'<text class="mid" x="{x:.1f}" y="{floor + 19}">{_short(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    parts.append(
        f'<text class="mid label" x="{(LEFT + right) / 2}" y="{HEIGHT - 7}">{escape(xlabel)}</text>'
    )
    parts.append(f'<g clip-path="url(#{chart})">')
    # The first series is the baseline: drawn last, above the others.
    for line in reversed(series):
        x, mean = across(line.x), down(line.mean)
        upper, lower = down(line.mean + line.spread), down(line.mean - line.spread)
        parts.append(
            f'<g class="series {line.style}"><title>{escape(", ".join(line.names))}</title>'
        )
        if line.spread.any():
            outline = _path(np.r_[x, x[::-1]], np.r_[upper, lower[::-1]])
            parts.append(f'<path class="band" d="{outline}Z"/>')
        if line.stepped:
            x, mean = np.repeat(x, 2)[1:], np.repeat(mean, 2)[:-1]
        if len(x) == 1:
            parts.append(f'<circle class="dot" cx="{x[0]:.1f}" cy="{mean[0]:.1f}" r="3.5"/>')
        parts.append(f'<path class="line" d="{_path(x, mean)}"/></g>')
    return "".join([*parts, "</g></svg>"])


def _vertical(
    series: Sequence[Series], *, from_zero: bool, lower_is_better: bool
) -> tuple[float, float]:
    if from_zero:
        return 0.0, max(float(line.mean.max()) for line in series) * 1.05
    low, high = math.inf, -math.inf
    for line in series:
        late, everything = slice(len(line.mean) // 2, None), slice(None)
        bottom, top = (everything, late) if lower_is_better else (late, everything)
        low = min(low, float((line.mean - line.spread)[bottom].min()))
        high = max(high, float((line.mean + line.spread)[top].max()))
    room = (high - low or abs(high) or 1) * 0.05
    return low - room, high + room


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _short(value: float) -> str:
    """Write an axis number: 2k for 2000, no digits that say nothing."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}".replace("-", "\u2212")
