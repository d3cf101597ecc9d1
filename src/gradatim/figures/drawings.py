"""The drawings themselves, one function per figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradatim.analysis import hardness_figures as data
from gradatim.analysis.selection_figures import SelectionDynamics, selection_dynamics
from gradatim.figures.panels import STYLES, curve, grid, legend, ramp, rename, wide_range
from gradatim.figures.request import Request
from gradatim.validation import refusal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "dihcl_1",
    "dihcl_2",
    "dihcl_3",
    "dihcl_4",
    "dihcl_5",
    "docl_2",
    "docl_3",
    "forgetting",
    "noisy_labels",
]

KINDS = {
    "Dynamics.dih_loss": "loss",
    "Dynamics.dih_change": "loss change",
    "Dynamics.dih_flip": "prediction flip",
}
GROUPS = {"hard": ("first", "hardest fifth"), "easy": ("second", "easiest fifth")}
SPLIT = {"largest": ("first", "largest objective"), "smallest": ("second", "smallest objective")}
DOCL_TABLES = ("score", "objective", "true_probability")
DOCL_TITLES = ("Score, selected", "Objective, unselected", "True-class probability, unselected")
DOCL_LABELS = ("score", "objective", "probability")


def dihcl_1(request: Request) -> Figure:
    """Hardness as a running mean beside the loss it is made of."""
    hardness, loss = request.dih("Dynamics.dih_loss"), request.table("Dynamics.loss")
    used = data.observed_samples(hardness, loss)
    chosen = np.random.default_rng(0).permutation(used)[:50]
    order = chosen[np.argsort(hardness[:, chosen].mean(0))]
    titles = ["DIH: running mean of the loss", f"Loss of the same {len(order)} samples"]
    figure, axes = grid(2, 1, titles, ["hardness", "loss"])
    for axis, record in zip(axes, (hardness, loss), strict=True):
        for rank, sample in enumerate(order):
            colour = ramp(rank / max(1, len(order) - 1))
            axis.plot(request.runs[0].epochs, record[:, sample], color=colour, lw=0.7, alpha=0.8)
        wide_range(axis, record[:, order])
    return figure


def dihcl_2(request: Request) -> Figure:
    """Flips and losses of the hardest, the easiest and the other samples."""
    hardness, loss = request.dih("Dynamics.dih_flip"), request.table("Dynamics.loss")
    flips = data.flips(request.table("Dynamics.correct"))
    epochs = request.runs[0].epochs
    rows = request.rows((10, 40, 210), first=1)
    titles = []
    for row in rows:
        titles += [f"Groups of epoch {epochs[row]}: flips", "Their losses, mean and deviation"]
    figure, axes = grid(len(rows), 2, titles, ["share that flipped", "loss"] * len(rows))
    for number, row in enumerate(rows):
        for axis, record in zip(axes[2 * number : 2 * number + 2], (flips, loss), strict=True):
            found = data.groups_from(hardness, record, row=row)
            for group, mean in found.mean.items():
                style, label = GROUPS.get(group, ("rest", "all others"))
                deviation = found.deviation[group] if record is loss else None
                curve(axis, epochs[found.moments], mean, deviation, style, label)
            axis.set_ylim(bottom=0)
    return legend(figure, axes)


def dihcl_3(request: Request) -> Figure:
    """Overlap of the hardest and of the easiest samples between epochs."""
    hardness = request.dih("Dynamics.dih_flip")
    found = data.overlaps(hardness, every=max(1, len(hardness) // 20))
    titles = [
        name + (f", {100 * tied:.0f} % tie" if tied > found.chance else "")
        for name, tied in zip(("Hardest fifth", "Easiest fifth"), found.tied, strict=True)
    ]
    figure, axes = grid(1, 2, titles, ["epoch", "epoch"])
    epochs = request.runs[0].epochs[found.rows]
    image = None
    for axis, shares in zip(axes, (found.top, found.bottom), strict=True):
        image = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        ticks = np.unique(np.linspace(0, len(epochs) - 1, min(5, len(epochs))).round().astype(int))
        axis.set_xticks(ticks, [str(epochs[tick]) for tick in ticks])
        axis.set_yticks(ticks, [str(epochs[tick]) for tick in ticks])
        axis.grid(visible=False)
    assert image is not None
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label(f"shared samples (chance {found.chance:.2f})", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.axhline(found.chance, color="white", linewidth=1)
    return figure


def dihcl_4(request: Request) -> Figure:
    """Three kinds of hardness, of a few hard and easy samples."""
    kinds = KINDS if request.hardness is None else {request.hardness: request.hardness}
    titles = [f"DIH of the {kind}" if kind in KINDS.values() else kind for kind in kinds.values()]
    figure, axes = grid(1, len(kinds), titles, ["hardness", "", ""][: len(kinds)])
    epochs, row = request.runs[0].epochs, request.rows([40])[0]
    for axis, key in zip(axes, kinds, strict=True):
        record = request.table(key)
        found = data.extremes(record[row])
        for style, word, samples in (("first", "hard", found.hard), ("second", "easy", found.easy)):
            label = f"{len(samples)} {word} samples at epoch {epochs[row]}"
            for sample in samples:
                curve(axis, epochs, record[:, sample], None, style, label, width=0.8)
        axis.axvline(epochs[row], color="#999999", linewidth=0.8)
        wide_range(axis, record[:, np.concatenate(found)])
    return legend(figure, axes)


def dihcl_5(request: Request) -> Figure:
    """Agreement of the hardness in two runs."""
    both = np.intersect1d(request.runs[0].epochs, request.runs[1].epochs)
    if not both.size:
        raise refusal("recordings", "with epochs in common", "none")
    labels, others = (run.labels for run in request.runs)
    if labels is not None and others is not None and not np.array_equal(labels, others):
        raise refusal("recordings", "of the same samples", "different labels")
    first, second = (
        request.dih("Dynamics.dih_flip", run)[np.isin(request.runs[run].epochs, both)]
        for run in (0, 1)
    )
    found = data.agreement_curves(first, second)
    figure, axes = grid(1, 1, ["Agreement of hardness in two runs"], ["agreement"])
    curves = {
        "Kendall's tau": ("first", found.tau),
        "overlap, hardest fifth": ("second", found.top),
        "overlap, easiest fifth": ("third", found.bottom),
        "p-value of tau": ("fourth", found.p_value),
    }
    for label, (style, values) in curves.items():
        curve(axes[0], both, values, None, style, label)
    axes[0].axhline(found.chance, color="#999999", linewidth=0.8, label="overlap by chance")
    axes[0].set_ylim(min(-0.03, float(np.nanmin(found.tau, initial=0.0)) - 0.03), 1.03)
    return legend(figure, axes)


def noisy_labels(request: Request) -> Figure:
    """Wrong labels against right ones, and how well hardness tells them."""
    run = request.runs[0]
    corrupted = _corrupted(request)
    loss, flips = request.table("Dynamics.loss"), data.flips(request.table("Dynamics.correct"))
    titles = ["Loss, mean and deviation", "Prediction flips", "How well hardness finds them"]
    figure, axes = grid(1, 3, titles, ["loss", "share that flipped", "AUROC"])
    for style, label, chosen in (
        ("first", "wrong labels", corrupted),
        ("second", "right labels", ~corrupted),
    ):
        curve(axes[0], run.epochs, *data.band(loss, chosen), style, label)
        curve(axes[1], run.epochs, data.band(flips, chosen).mean, None, style, label)
    kinds = KINDS if request.hardness is None else {request.hardness: request.hardness}
    for style, (key, kind) in zip(("third", "fourth", "fifth"), kinds.items(), strict=False):
        values = data.separation_curve(request.table(key), corrupted)
        curve(axes[2], run.epochs, values, None, style, f"DIH of the {kind}")
    values = data.separation_curve(loss, corrupted)
    axes[2].plot(run.epochs, values, color="#e69f00", lw=1.5, label="the loss itself")
    axes[2].axhline(0.5, color="#999999", linewidth=0.8, label="chance")
    for axis in axes[:2]:
        axis.set_ylim(bottom=0)
    return legend(figure, axes)


def forgetting(request: Request) -> Figure:
    """How often samples were forgotten."""
    correct = request.table("Dynamics.correct")
    corrupted = request.runs[0].corrupted
    groups = {"all samples": None}
    if corrupted is not None:
        groups = {"right labels": ~corrupted, "wrong labels": corrupted}
    counts = {name: data.event_counts(correct, chosen) for name, chosen in groups.items()}
    most = max(len(events) for events, _ in counts.values())
    figure, axes = grid(1, 1, ["Forgetting events per sample"], ["samples, %"])
    wide = 0.8 / len(counts)
    for number, (name, (events, never)) in enumerate(counts.items()):
        bars = np.zeros(most + 1)
        bars[: len(events)], bars[-1] = events, never
        places = np.append(np.arange(most), most + 0.7) + (number - (len(counts) - 1) / 2) * wide
        style = STYLES["second" if number == 0 else "first"]
        total = max(1.0, bars.sum())
        axes[0].bar(places, 100 * bars / total, wide, color=style["color"], label=name)
    step = max(1, most // 8)
    ticks = list(range(0, most, step))
    axes[0].set_xticks([*ticks, most + 0.7], [*map(str, ticks), "never\nright"])
    axes[0].set_xlabel("times a right prediction turned wrong", fontsize=9)
    return legend(figure, axes)


def docl_2(request: Request) -> Figure:
    """Score, objective and true-class probability under one DoCL baseline."""
    rounds, found = _selection(request, 0)
    figure, axes = grid(3, 1, DOCL_TITLES, DOCL_LABELS)
    curve(axes[0], rounds, *found.selected_score, "third", "selected")
    for axis, groups in zip(axes[1:], (found.objective, found.probability), strict=True):
        for group, (style, label) in SPLIT.items():
            curve(axis, rounds, *groups[group], style, label)
    axes[2].set_ylim(0, 1)
    axes[-1].set_xlabel("round", fontsize=9)
    return legend(figure, axes)


def docl_3(request: Request) -> Figure:
    """The same under two baselines."""
    figure, axes = grid(3, 1, DOCL_TITLES, DOCL_LABELS)
    for run, style in enumerate(("first", "second")):
        rounds, found = _selection(request, run)
        shown = (found.selected_score, found.objective["largest"], found.probability["largest"])
        for axis, values in zip(axes, shown, strict=True):
            curve(axis, rounds, *values, style, request.names[run])
    rename(axes[1], "Objective, the largest of unselected")
    rename(axes[2], "True-class probability of these")
    axes[2].set_ylim(0, 1)
    axes[-1].set_xlabel("round", fontsize=9)
    return legend(figure, axes)


def _selection(request: Request, run: int) -> tuple[np.ndarray, SelectionDynamics]:
    """Rounds, and what happened in each: `DoCLBaseline`'s epochs by twos, flow and training."""
    recording, name = request.runs[run], request.names[run]
    tables = [request.table(f"DoCLBaseline.{key}", run) for key in DOCL_TABLES]
    rows = np.flatnonzero(recording.epochs % 2 == 0)
    if not rows.size:
        raise refusal(f"recording {name!r}", "of a whole round: two epochs", len(recording))
    if recording.survey_due[rows].any():
        cause = "There the objective is that of the round before."
        raise refusal(f"recording {name!r}", "taken after each survey", "rows from before", cause)
    score, objective, probability = (table[rows] for table in tables)
    found = selection_dynamics(score, objective, probability, recording.members[rows])
    return recording.epochs[rows] // 2, found


def _corrupted(request: Request) -> np.ndarray:
    found = request.runs[0].corrupted
    if found is None:
        cause = "Pass Recording(corrupted=...)."
        raise refusal("recording", "one that knows which labels are wrong", "none", cause)
    return found
