"""Panels of the papers' figures: axes, curves with bands, legends, in one style.

Sizes are those of print: a column of 3.5 inches, a page of 7, letters of 8 and 9 points.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradatim.compare.extras import needs_extra
from gradatim.compare.files import replace_file
from gradatim.plots import _plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["STYLES", "curve", "grid", "legend", "ramp", "rename", "save", "wide_range"]

# Okabe and Ito's colours, told apart by colour-blind readers; styles differ for print in grey.
STYLES: dict[str, dict[str, Any]] = {
    "first": {"color": "#d55e00", "linestyle": "-"},
    "second": {"color": "#0072b2", "linestyle": "--"},
    "third": {"color": "#009e73", "linestyle": "-."},
    "fourth": {"color": "#000000", "linestyle": ":"},
    "fifth": {"color": "#cc79a7", "linestyle": "--"},
    "rest": {"color": "#777777", "linestyle": ":"},
}
WIDTHS = {1: 3.5, 2: 3.4, 3: 2.5}  # inches of a panel, by the number of columns
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 9}
DOTS_PER_INCH = 220


def grid(
    rows: int, columns: int, titles: Sequence[str], labels: Sequence[str]
) -> tuple[Figure, list[Axes]]:
    """Make a figure of equal panels over epochs.

    Args:
        rows: of panels.
        columns: 1 to 3.
        titles: one per panel, row by row.
        labels: of the vertical axes, likewise.

    Returns:
        The figure, and its axes row by row.

    Raises:
        ImportError: matplotlib is missing.

    Example:
        >>> figure, axes = grid(1, 2, ["left", "right"], ["loss", ""])
        >>> [axis.get_xlabel() for axis in axes]
        ['epoch', 'epoch']
    """
    with needs_extra("gradatim figure"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(WIDTHS[columns] * columns, 1.9 * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = []
    for number, (title, label) in enumerate(zip(titles, labels, strict=True)):
        axis = figure.add_subplot(rows, columns, number + 1)
        rename(axis, title)
        axis.set_ylabel(_plain(label), fontsize=9)
        axis.tick_params(labelsize=8)
        axis.set_axisbelow(True)
        axis.grid(color="#dddddd", linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.locator_params("x", integer=True)  # there are no half epochs
        if number >= (rows - 1) * columns:
            axis.set_xlabel("epoch", fontsize=9)
        axes.append(axis)
    return figure, axes


def rename(axis: Axes, title: str) -> None:
    """Set a panel's title."""
    axis.set_title(_plain(title), **TITLE)


def curve(
    axis: Axes,
    epochs: np.ndarray,
    mean: np.ndarray,
    deviation: np.ndarray | None,
    style: str,
    label: str,
    width: float = 1.4,
) -> None:
    """Draw a mean over epochs, with a band of one standard deviation if it is given."""
    axis.plot(epochs, mean, lw=width, label=label, **STYLES[style])
    if deviation is not None:
        colour = STYLES[style]["color"]
        axis.fill_between(
            epochs, mean - deviation, mean + deviation, color=colour, alpha=0.15, lw=0
        )


def ramp(share: float) -> Any:
    """A colour between dark blue (0) and yellow (1), of even lightness steps."""
    from matplotlib import colormaps

    return colormaps["cividis"](0.9 * share)


def wide_range(axis: Axes, values: np.ndarray) -> None:
    """Take a logarithmic axis where values of one panel differ a hundredfold."""
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > 100 * known.min():
        axis.set_yscale("log")


def legend(figure: Figure, axes: Sequence[Axes], columns: int | None = None) -> Figure:
    """Name each line once, below all panels; ``columns`` of names are chosen if None."""
    found = {}
    for axis in axes:
        for line, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, line)
    if columns is None:
        columns = 2 if figure.get_figwidth() < 4 else 3 if len(found) in (3, 6) else 4
    figure.legend(
        list(found.values()),
        [_plain(name) for name in found],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=8,
    )
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG for print, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DOTS_PER_INCH)
    replace_file(Path(path), picture.getvalue())
