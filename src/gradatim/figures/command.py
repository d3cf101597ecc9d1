"""The command `gradatim figure`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gradatim.figures.catalogue import FIGURES, draw
from gradatim.figures.panels import save
from gradatim.validation import refusal

__all__ = ["add_figure_options", "listing", "run_figure"]

EXAMPLE = """examples:
  gradatim figure noise run.npz
  gradatim figure dihcl-5 seed0.npz seed1.npz --out agreement.png"""


def listing() -> str:
    """Every figure's name and what it shows, one a line."""
    wide = max(map(len, FIGURES))
    lines = (
        f"{name:{wide}}  {kind.shows}" + (" (two recordings)" if kind.runs == 2 else "")
        for name, kind in FIGURES.items()
    )
    return "\n".join(lines)


def add_figure_options(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `gradatim figure`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="none lists all figures")
    parser.add_argument("runs", nargs="*", metavar="RUN.npz", help="what Recording.save wrote")
    parser.add_argument(
        "--epoch",
        type=int,
        action="append",
        metavar="E",
        help="form the groups at this epoch; may be given several times (dihcl-2, dihcl-4); for "
        "spdcl-groups, show this one",
    )
    parser.add_argument(
        "--hardness", metavar="TABLE", help="use this table instead of the hardness of gr.Dynamics"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.png", help="where to write it (default: NAME.png)"
    )


def run_figure(options: argparse.Namespace) -> int:
    """Run `gradatim figure`; the exit code."""
    if options.name is None:
        print(listing())
        return 0
    path = options.out or Path(f"{options.name}.png")
    if path.suffix.lower() != ".png":
        raise refusal("--out", "the name of a .png file", str(path))
    figure = draw(options.name, *options.runs, epochs=options.epoch, hardness=options.hardness)
    save(figure, path)
    print(path)
    return 0
