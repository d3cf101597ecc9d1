"""Figures: learning curves with bands, how much each curriculum showed when, rates of layers.

Figures are built as objects: no window system and no global setting of matplotlib is touched.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gradatim.compare.extras import needs_extra
from gradatim.compare.files import replace_file
from gradatim.validation import refusal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["layer_rates", "learning_curves", "save", "subset_sizes"]

Curve: TypeAlias = "tuple[Sequence[float] | np.ndarray, Sequence[Sequence[float]] | np.ndarray]"
Panels: TypeAlias = Mapping[str, Mapping[str, Curve]]

# Okabe and Ito's colours, told apart by colour-blind readers; the baseline is black.
COLOURS = ("#000000", "#999999", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def learning_curves(
    panels: Panels,
    *,
    ylabel: str = "validation accuracy, %",
    xlabel: str = "optimizer steps",
    lower_is_better: bool = False,
) -> Figure:
    """Draw the mean over seeds with a band of one standard deviation, a panel per setting.

    Args:
        panels: by panel title and curriculum, in the order of drawing: steps or seconds (E,) and
            values (seeds, E). One seed has no band.
        ylabel: what the values are.
        xlabel: what they are drawn over.
        lower_is_better: whether it is at the top that early values may leave the panel.

    Returns:
        A matplotlib figure; `save` writes it.

    Raises:
        ImportError: matplotlib is missing.

    Example:
        >>> figure = learning_curves({"clean": {"uniform": ([1, 2], [[50, 60], [54, 64]])}})
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [52.0, 62.0]
    """
    figure, axes = _panels(panels, ylabel, xlabel)
    for axis, curves in zip(axes, panels.values(), strict=True):
        ends = []
        for number, (name, (steps, values)) in enumerate(curves.items()):
            runs = np.asarray(values, dtype=float)
            mean, colour = runs.mean(0), COLOURS[number % len(COLOURS)]
            spread = runs.std(0, ddof=1) if len(runs) > 1 else np.zeros_like(mean)
            label = _plain(name)
            axis.plot(steps, mean, color=colour, label=label, linewidth=1.6, zorder=10 - number)
            axis.fill_between(
                steps, mean - spread, mean + spread, color=colour, alpha=0.1, linewidth=0
            )
            # Early evaluations lie far off: shown in full, they would flatten what differs.
            late = slice(len(mean) // 2, None)
            ends.append((mean - 2 * spread)[late].min())
            if lower_is_better:
                ends[-1] = (mean + 2 * spread)[late].max()
        if ends and lower_is_better:
            axis.set_ylim(top=max(ends))
        elif ends:
            axis.set_ylim(bottom=min(ends))
    return _with_legend(figure, axes)


def subset_sizes(
    panels: Panels, *, ylabel: str = "samples in the epoch", xlabel: str = "optimizer steps"
) -> Figure:
    """Draw how many samples an epoch had, over steps; equal curves share one line and label.

    Args:
        panels: by panel title and curriculum, in the order of drawing: steps (E,) and sizes
            (seeds, E).
        ylabel: what the sizes are.
        xlabel: what they are drawn over.

    Returns:
        A matplotlib figure; `save` writes it.

    Raises:
        ImportError: matplotlib is missing.

    Example:
        >>> curve = ([0, 1, 2], [[4, 4, 8]])
        >>> figure = subset_sizes({"clean": {"spl": curve, "anti": curve}})
        >>> figure.axes[0].lines[0].get_label()
        'spl, anti'
    """
    figure, axes = _panels(panels, ylabel, xlabel)
    for axis, curves in zip(axes, panels.values(), strict=True):
        drawn: list[tuple[np.ndarray, np.ndarray, list[str], str]] = []
        for number, (name, (steps, values)) in enumerate(curves.items()):
            mean = np.asarray(values, dtype=float).mean(0)
            same = [names for _, known, names, _ in drawn if np.array_equal(known, mean)]
            if same:
                same[0].append(name)
            else:
                drawn.append((np.asarray(steps), mean, [name], COLOURS[number % len(COLOURS)]))
        for steps, mean, names, colour in drawn:
            axis.step(steps, mean, where="post", color=colour, label=_plain(", ".join(names)))
        axis.set_ylim(bottom=0)
    return _with_legend(figure, axes)


def layer_rates(
    rates: Sequence[Sequence[float]] | np.ndarray,
    *,
    names: Sequence[str] = (),
    epochs: Sequence[float] | np.ndarray = (),
    ylabel: str = "learning rate / eta",
) -> Figure:
    """Draw the learning rate of each layer over epochs, from the input (dark) to the output.

    Args:
        rates: (epochs, layers), above 0, as of `gradatim.LeRaC.rates` at one epoch after another.
        names: of the layers, by which they are told apart; empty numbers them.
        epochs: when; empty counts from 0.
        ylabel: what the rates are.

    Returns:
        A matplotlib figure with a logarithmic axis; `save` writes it.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: ``rates`` of another shape, or not above 0.

    Example:
        >>> import gradatim as gr
        >>> method = gr.LeRaC(epochs=2, last=1e-4)
        >>> figure = layer_rates([method.rates(epoch, layers=3) for epoch in range(4)])
        >>> len(figure.axes[0].lines), figure.axes[0].get_yscale()
        (3, 'log')
    """
    values = np.asarray(rates, dtype=float)
    if values.ndim != 2 or not values.size:
        raise refusal("rates", "of shape (epochs, layers)", values.shape)
    if not (values > 0).all():
        raise refusal("rates", "above 0", float(values.min()))
    when = np.arange(len(values)) if len(epochs) == 0 else np.asarray(epochs, dtype=float)
    labels = names or [str(number + 1) for number in range(values.shape[1])]
    for name, given, size in (("epochs", when, len(values)), ("names", labels, values.shape[1])):
        if len(given) != size:
            raise refusal(name, f"{size}, as rates have", len(given))
    figure, axes = _panels({"": {}}, ylabel, "epoch")
    for number, (label, curve) in enumerate(zip(labels, values.T, strict=True)):
        shade = number / max(1, values.shape[1] - 1)
        colour = (0.1 + 0.75 * shade, 0.2 + 0.5 * shade, 0.55 + 0.1 * shade)
        axes[0].plot(when, curve, color=colour, label=_plain(label), linewidth=1.4, marker=".")
    axes[0].set_yscale("log")
    return _with_legend(figure, axes)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Args:
        figure: from this module.
        path: where to; an old file is replaced.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "curves.png"
        >>> save(learning_curves({"clean": {"uniform": ([1, 2], [[50, 60]])}}), path)
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    replace_file(path, picture.getvalue())


def _plain(name: str) -> str:
    """Keep matplotlib from reading a name: dollars start a formula, underscores hide a label."""
    name = name.replace("$", r"\$")
    return f"\u200b{name}" if name.startswith("_") else name


def _panels(panels: Panels, ylabel: str, xlabel: str) -> tuple[Figure, list[Axes]]:
    with needs_extra("gradatim.plots"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    count = max(1, len(panels))
    figure = Figure(figsize=(1.5 + 4.5 * count, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, count, number + 1) for number in range(len(panels))]
    for axis, title in zip(axes, panels, strict=True):
        axis.set_title(_plain(title), loc="left", fontsize=10)
        axis.set_xlabel(_plain(xlabel))
        axis.grid(color="#dddddd", linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    if axes:
        axes[0].set_ylabel(_plain(ylabel))
    return figure, axes


def _with_legend(figure: Figure, axes: list[Axes]) -> Figure:
    """Name each line once, below all panels."""
    found = {}
    for axis in axes:
        for line, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, line)
    if found:
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=9,
        )
    return figure
