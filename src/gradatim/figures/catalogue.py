"""Every figure by name, and `draw`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradatim.analysis.recording import Recording
from gradatim.figures import drawings, layers, text
from gradatim.figures.request import Request
from gradatim.validation import check_choice, refusal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "Kind", "draw"]


@dataclass(frozen=True)
class Kind:
    """A figure that can be drawn.

    Attributes:
        shows: in one line.
        runs: how many recordings it needs.
        draw: from a request.
        takes: which options it has: ``"epochs"``, ``"hardness"``.
    """

    shows: str
    runs: int
    draw: Callable[[Request], Figure]
    takes: Sequence[str] = ("hardness",)


FIGURES: dict[str, Kind] = {
    "dihcl-1": Kind(
        "hardness as a running mean beside the loss, of 50 samples", 1, drawings.dihcl_1
    ),
    "dihcl-2": Kind(
        "flips and losses of the hardest, easiest and other samples",
        1,
        drawings.dihcl_2,
        ("epochs", "hardness"),
    ),
    "dihcl-3": Kind(
        "overlap of the hardest and easiest samples between epochs", 1, drawings.dihcl_3
    ),
    "dihcl-4": Kind(
        "three kinds of hardness, of 10 hard and 10 easy samples",
        1,
        drawings.dihcl_4,
        ("epochs", "hardness"),
    ),
    "dihcl-5": Kind("agreement of the hardness in two runs, by epoch", 2, drawings.dihcl_5),
    "docl-2": Kind(
        "DoCL baseline: score, objective, true-class probability", 1, drawings.docl_2, ()
    ),
    "docl-3": Kind("the same for two baselines", 2, drawings.docl_3, ()),
    "noise": Kind(
        "wrong labels against right ones, and how well hardness tells them",
        1,
        drawings.noisy_labels,
    ),
    "forgetting": Kind("how often samples were forgotten", 1, drawings.forgetting, ()),
    "lerac-entropy": Kind(
        "activation entropy of the first and last convolution in two runs",
        2,
        layers.lerac_entropy,
        (),
    ),
    "spdcl-norms": Kind(
        "norms of texts, epoch by epoch, and the scores beside them", 1, text.spdcl_norms, ()
    ),
    "spdcl-lengths": Kind(
        "length of texts against their norm before training", 1, text.spdcl_lengths, ()
    ),
    "spdcl-labels": Kind("how frequent each label is, in four groups", 1, text.spdcl_labels, ()),
    "spdcl-groups": Kind(
        "macro-F1 of two runs in four groups of labels", 2, text.spdcl_groups, ("epochs",)
    ),
}


def draw(
    name: str,
    *runs: Recording | str | Path,
    epochs: Sequence[int] | None = None,
    hardness: str | None = None,
) -> Figure:
    """Draw a figure from one recorded run or from two.

    Args:
        name: a key of `FIGURES`.
        *runs: recordings, or paths of saved ones.
        epochs: at which groups are formed (dihcl-2, dihcl-4); None takes those that lie where the
            paper's lie: 10, 40 and 210 of 300, and 40. Of spdcl-groups, the one that is shown; None
            takes the last.
        hardness: a table to use instead of `gradatim.Dynamics`' own hardness.

    Returns:
        A matplotlib figure; `gradatim.figures.save` writes it.

    Raises:
        ValueError: no such figure, a wrong number of runs, a table or epoch that was not recorded.
        OSError: a file cannot be read.
        ImportError: matplotlib is missing.

    Example:
        >>> import numpy as np
        >>> recording = Recording()
        >>> for epoch, correct in enumerate([[1, 0], [0, 0], [1, 1]], start=1):
        ...     recording.append({"Dynamics.correct": np.array(correct)}, epoch=epoch)
        >>> figure = draw("forgetting", recording)
        >>> [round(bar.get_height()) for bar in figure.axes[0].patches]
        [50, 50, 0]
    """
    kind = FIGURES[check_choice("figure", name, FIGURES)]
    if len(runs) != kind.runs:
        rule = "one recording" if kind.runs == 1 else "two recordings"
        raise refusal(f"figure {name}", f"drawn from {rule}", len(runs))
    for option, given in (("epochs", epochs), ("hardness", hardness)):
        if given is not None and option not in kind.takes:
            able = [known for known, other in FIGURES.items() if option in other.takes]
            raise refusal(option, f"left out for {name}", given, f"For {', '.join(able)}.")
    loaded = [run if isinstance(run, Recording) else Recording.load(run) for run in runs]
    names = ["recording" if isinstance(run, Recording) else Path(run).stem for run in runs]
    if len(set(names)) < len(names):
        names = [
            str(Path(run).with_suffix("")) if isinstance(run, str | Path) else f"{name} {n}"
            for n, (run, name) in enumerate(zip(runs, names, strict=True), start=1)
        ]
    for run, name in zip(loaded, names, strict=True):
        if not len(run):
            raise refusal(f"recording {name!r}", "of at least one epoch", "none")
    return kind.draw(Request(loaded, names, epochs, hardness))
