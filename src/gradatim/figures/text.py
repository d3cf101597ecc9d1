"""Drawings of what SPDCL measures of texts, and of how rare labels fare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradatim.analysis.recording import Recording
from gradatim.analysis.text_labels import group_means, label_frequencies, label_groups
from gradatim.analysis.text_norms import first_norms, length_and_norm, norms_by_epoch
from gradatim.figures.panels import STYLES, curve, grid, legend, ramp
from gradatim.figures.request import Request
from gradatim.validation import check_count, refusal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["spdcl_groups", "spdcl_labels", "spdcl_lengths", "spdcl_norms"]

LABEL_F1 = "label F1"
TABLES = ("SPDCL.norm", "SPDCL.seen", "SPDCL.before")
DOTS = 2000  # texts that are drawn one by one; bins and correlation are of all
LONGEST = 36  # letters of a run's name that fit into a legend
LINES = ("first", "second", "third", "fourth", "fifth")


def spdcl_norms(request: Request) -> Figure:
    """Norms of texts as box plots, moment by moment, with the scores of the run below."""
    moments = norms_by_epoch(*(request.table(key) for key in TABLES))
    if not moments:
        raise refusal(f"recording {request.names[0]!r}", "one with norms", "NaN in all epochs")
    run = request.runs[0]
    scores = {name: values for name, values in run.measured.items() if values.ndim == 1}
    counts = sorted({len(moment.norms) for moment in moments})
    of = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    titles = [f"Norm of {of} texts", "Score after each epoch"]
    rows = 2 if scores else 1
    figure, axes = grid(rows, 1, titles[:rows], ["quartiles, 5 and 95 %", "score"][:rows])
    _boxes(axes[0], [moment.epochs for moment in moments], [moment.norms for moment in moments])
    last = max(moments[-1].epochs, float(run.epochs[-1]))
    for axis in axes:
        axis.set_xlim(-0.6, last + 0.6)
    axes[-1].set_xlabel("epochs trained", fontsize=9)
    if not scores:
        return figure
    for number, (name, values) in enumerate(scores.items()):
        style = LINES[number % len(LINES)]
        curve(axes[1], run.epochs, values, None, style, name)
        axes[1].lines[-1].set(marker="o", markersize=3)  # one epoch alone is no line
    return legend(figure, axes)


def spdcl_lengths(request: Request) -> Figure:
    """Length of texts against their norm under the model that training began with."""
    run, name = request.runs[0], request.names[0]
    norms = first_norms(*(request.table(key)[0] for key in TABLES))
    if "length" in run.extra:
        lengths, unit = run.extra["length"], "length"
        if lengths.ndim != 1:
            raise refusal("length", "of shape (N,)", lengths.shape)
    else:
        lengths, unit = request.table("SPDCL.tokens")[0], "length, tokens"
    used = np.flatnonzero(np.isfinite(norms) & np.isfinite(lengths.astype(float)))
    if len(used) < 2:
        cause = "Record from the first epoch on, before the survey that follows it."
        raise refusal(f"recording {name!r}", "one with norms before training", "none", cause)
    lengths, norms = lengths[used].astype(float), norms[used]
    found = length_and_norm(lengths, norms, min(6, len(used)))
    some = f"{DOTS:,} of " if len(used) > DOTS else ""
    titles = [
        f"{some}{len(used):,} texts",
        f"Bins by norm; rank correlation {found.correlation:.2f}",
    ]
    figure, axes = grid(1, 2, titles, ["norm before training", f"mean {unit}"])
    shown = np.random.default_rng(0).permutation(len(used))[:DOTS]
    axes[0].scatter(lengths[shown], norms[shown], s=5, alpha=0.4, lw=0, color=_colour("second"))
    axes[0].set_xlabel(unit, fontsize=9)
    places = np.arange(1, len(found.texts) + 1)
    bars = axes[1].bar(places, found.length, color=_colour("second"), width=0.7)
    axes[1].bar_label(
        bars,
        [f"{mean:.{0 if mean >= 100 else 1}f}" for mean in found.length],
        fontsize=8,
        padding=1,
    )
    axes[1].set_xticks(places)
    axes[1].set_xlabel("bin, smallest norms first", fontsize=9)
    axes[1].margins(y=0.12)
    return figure


def spdcl_labels(request: Request) -> Figure:
    """How many texts have each label, most frequent first, in four groups."""
    counts = _counts(request.runs[0], request.names[0])
    groups = label_groups(counts, min(4, len(counts)))
    texts = request.runs[0].size or 0
    title = f"{len(counts)} labels of {texts:,} texts"
    figure, axes = grid(1, 1, [title], ["texts with the label"])
    start = 1
    for number, group in enumerate(groups):
        places = np.arange(start, start + len(group))
        start += len(group)
        name = f"group {number + 1}: {len(group)} label{'s' if len(group) > 1 else ''}"
        shade = ramp(number / max(1, len(groups) - 1))
        axes[0].bar(places, counts[group], color=shade, width=0.9, label=name)
    if counts.min() > 0 and counts.max() > 30 * counts.min():
        axes[0].set_yscale("log")  # or rare labels could not be seen
        axes[0].set_ylim(bottom=counts.min() / 2)
    axes[0].set_xlabel("label, most frequent first", fontsize=9)
    return legend(figure, axes)


def spdcl_groups(request: Request) -> Figure:
    """Macro-F1 of two runs in each group of labels of like frequency."""
    counts = _counts(request.runs[0], request.names[0])
    groups = label_groups(counts, min(4, len(counts)))
    figure, axes = grid(1, 1, ["Macro-F1 by label frequency"], ["macro-F1"])
    names = []
    places = np.arange(len(groups))
    for run, (style, hatch) in enumerate((("first", ""), ("second", "///"))):
        epoch, values = _label_f1(request, run, len(counts))
        name = request.names[run]
        short = name if len(name) <= LONGEST else f"{name[:9]}\u2026{name[10 - LONGEST :]}"
        names.append(f"{short}, epoch {epoch}")
        bars = axes[0].bar(
            places + 0.4 * (run - 0.5),
            group_means(values, groups),
            width=0.36,
            label=names[-1],
            color=_colour(style),
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
        )
        axes[0].bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    ticks = [
        f"group {number + 1}\n{len(group)} label{'s' if len(group) > 1 else ''}"
        for number, group in enumerate(groups)
    ]
    axes[0].set_xticks(places, ticks)
    axes[0].set_ylim(0, 1.12)  # a number stands above each bar
    axes[0].set_yticks(np.linspace(0, 1, 6))
    axes[0].set_xlabel("labels, most frequent first", fontsize=9)
    return legend(figure, axes, columns=1 if max(map(len, names)) > 20 else None)


def _boxes(axis: Axes, places: list[float], values: list[np.ndarray]) -> None:
    """Box plots without outliers: among thousands of texts there are always some."""
    line = {"color": _colour("second"), "linewidth": 1.0}
    gap = min(np.diff(places), default=1.0)
    axis.boxplot(
        values,
        positions=places,
        widths=0.6 * gap,
        whis=(5, 95),
        showfliers=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={**line, "facecolor": "#cce3f2"},
        whiskerprops=line,
        capprops=line,
        medianprops={"color": _colour("first"), "linewidth": 1.6},
    )


def _colour(style: str) -> str:
    return STYLES[style]["color"]


def _counts(run: Recording, name: str) -> np.ndarray:
    if run.labels is None:
        cause = "Pass Recording(labels=...)."
        raise refusal(f"recording {name!r}", "one that knows its labels", "none", cause)
    return label_frequencies(run.labels)


def _label_f1(request: Request, run: int, labels: int) -> tuple[int, np.ndarray]:
    """An epoch and the F1 of each label after it: the epoch asked for, or the last one measured."""
    recording, name = request.runs[run], request.names[run]
    found = recording.measured.get(LABEL_F1)
    if found is None or found.ndim != 2:
        cause = f"Pass measured={{{LABEL_F1!r}: label_f1(targets, predictions)}} to take."
        got = ", ".join(map(repr, recording.measured)) or "nothing"
        raise refusal(f"recording {name!r}", "one that measured the F1 of each label", got, cause)
    if found.shape[1] != labels:
        raise refusal(f"{LABEL_F1} of {name!r}", f"of {labels} labels", found.shape[1])
    known = np.isfinite(found).all(1)
    measured = recording.epochs[known].tolist()
    if not measured:
        raise refusal(f"{LABEL_F1} of {name!r}", "finite in some epoch", "NaN")
    epoch = measured[-1]
    if request.epochs is not None:
        check_count("number of epochs", len(request.epochs), at_least=1, at_most=1)
        epoch = request.epochs[0]
        if epoch not in measured:
            raise refusal("epoch", f"measured in {name!r}: one of {measured}", epoch)
    return epoch, found[recording.epochs.tolist().index(epoch)]
