"""The options of `gradatim compare`: one per entry of a plan, and those that only say how to run.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradatim.validation import refusal

if TYPE_CHECKING:
    from gradatim.compare.plan import Plan

__all__ = ["DESCRIPTION", "EXAMPLES", "add_compare_options", "plan_of"]

DEFAULT_OUT = Path("gradatim-results")

DESCRIPTION = """Train under several curricula and seeds, with the same budget each, and compare
each with plain training, paired by seed. Two controls always run: uniform (plain shuffling) and
paced_random (the same subset sizes, random members)."""

EXAMPLES = """examples:
  gradatim compare                                          scikit-learn's digits, in two minutes
  gradatim compare reviews.csv --text review --label stars  a CSV of texts
  gradatim compare photos/ --label-noise 0,0.4              a folder of images, one folder per class
  gradatim compare houses.csv --label price                 a CSV of numbers, regression
  gradatim compare data.csv --curricula "spl,super_loss(lam=0.5)" --seeds 12 --dry-run
  gradatim compare experiment.toml                          everything in one file; plan.toml in
                                                            each results folder is such a file

A stopped comparison goes on where it was: the same command never runs a finished run again.
`gradatim methods` lists the curricula. report.html in the results folder is for people."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number (or several)") from None


def _seeds(text: str) -> int | tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no count, nor a list of seeds") from None
    return found if "," in text else found[0]


def _folds(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


# Group, flag, type, placeholder, help. None of them has a default here: a plan has its own.
_Row = tuple[str, str, Callable[[str], Any], str, str]
_ROWS: tuple[_Row, ...] = (
    ("data", "--validation", str, "FILE", "validation part (default: drawn from the data)"),
    ("data", "--test", str, "FILE", "test part (default: drawn)"),
    ("data", "--label", _names, "COLUMN", "to predict; several with commas (default: guessed)"),
    ("data", "--label-separator", str, "TEXT", "between several labels in one cell, as in 3,17"),
    ("data", "--features", _names, "A,B,...", "columns of a table (default: all usable ones)"),
    ("data", "--text", str, "COLUMN", "column of texts"),
    ("data", "--text-pair", str, "COLUMN", "column of second texts"),
    ("data", "--image", str, "COLUMN", "column of image files"),
    ("data", "--audio", str, "COLUMN", "column of WAV files"),
    ("data", "--task", str, "KIND", "classification, multilabel or regression (default: guessed)"),
    ("data", "--split", _numbers, "A,B,C", "training, validation, test (default: 0.6,0.2,0.2)"),
    ("data", "--folds", _folds, "N", "cross-validate: how many folds, or the column (.npz: array) "
     "of each sample's fold"),
    ("data", "--limit", int, "N", "use at most N samples"),
    ("data", "--image-size", int, "PIXELS", "images are resized to it (default: 32)"),
    ("data", "--max-tokens", int, "N", "tokens kept of a text (default: 64)"),
    ("data", "--vocabulary", int, "N", "words known (default: 20000)"),
    ("settings", "--label-noise", _numbers, "SHARE,...", "wrong training labels, one setting each"),
    ("settings", "--noise", str, "KIND", "symmetric, or pair: always the next class"),
    ("settings", "--imbalance", _numbers, "RATIO,...", "long tail: largest over smallest class"),
    ("settings", "--train-fraction", _numbers, "SHARE,...", "train on a part of the training part"),
    ("what is compared", "--curricula", str, "A,B(x=1),...", "names as in `gradatim methods`, or "
     "package.module:Class, with parameters"),
    ("what is compared", "--seeds", _seeds, "N", "runs per curriculum, or a list (default: 8)"),
    ("what is compared", "--metric", str, "NAME", "that is judged (default: accuracy, micro_f1 or "
     "r2)"),
    ("what is compared", "--alpha", float, "P", "level of the verdicts (default: 0.05)"),
    ("what is compared", "--margin", float, "X", "difference that does not matter (default: 0.01)"),
    ("training", "--model", str, "MODEL", "package.module:function, or a transformers name or path "
     "(default: a small one that fits the data)"),
    ("training", "--budget", str, "KIND", "steps, samples, epochs or seconds, the same for all "
     "(default: steps)"),
    ("training", "--amount", float, "X", "of the budget (default: what --epochs take)"),
    ("training", "--epochs", int, "N", "of plain training"),
    ("training", "--regime", str, "NAME", "cosine, exponential, constant, or plateau: a tenth when "
     "validation stands still, then early stopping (default: cosine)"),
    ("training", "--patience", int, "N", "evaluations to wait, of the plateau (default: 3)"),
    ("training", "--batch-size", int, "N", "samples per step"),
    ("training", "--optimizer", str, "NAME", "sgd or adamw"),
    ("training", "--learning-rate", float, "X", "at the start"),
    ("training", "--weight-decay", float, "X", "of the optimizer"),
    ("training", "--evaluations", int, "N", "on validation data, per run (default: 20)"),
    ("training", "--tune", int, "N", "validation trials of the learning rate, for everybody alike"),
    ("training", "--precision", str, "BITS", "32, or mixed with 16 or bf16 (default: 32)"),
    ("training", "--device", str, "NAME", "auto, cpu, cuda or mps (default: auto)"),
    ("training", "--devices", int, "N", "processes per run, each with its device (default: 1)"),
)  # fmt: skip


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `gradatim compare`.

    Args:
        parser: of the command.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_compare_options(parser)
        >>> parser.parse_args(["--seeds", "3"]).seeds
        3
    """
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="a .csv, .tsv, .jsonl, .parquet or .npz file, a folder of images or WAV files, a "
        "scikit-learn set (digits, iris, wine, breast_cancer, diabetes, linnerud), a Hugging Face "
        "name, or a .toml with all of this (default: digits)",
    )
    groups: dict[str, Any] = {}
    for group, flag, kind, metavar, words in _ROWS:
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(
            flag, type=kind, metavar=metavar, help=words, default=argparse.SUPPRESS
        )
    run = parser.add_argument_group("how it runs")
    run.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="DIR",
        help=f"results folder (default: {DEFAULT_OUT})",
    )
    run.add_argument(
        "--dry-run", action="store_true", help="print the plan and how long it will take"
    )
    run.add_argument("--jobs", type=int, metavar="N", help="processes (default: one per processor)")
    run.add_argument(
        "--backend", default="loky", metavar="NAME", help="loky, ray or dask (default: loky)"
    )
    run.add_argument(
        "--logger",
        action="append",
        default=[],
        metavar="NAME",
        help="csv, tensorboard, mlflow or wandb; may be given several times",
    )


def plan_of(options: argparse.Namespace) -> Plan:
    """Make the plan that options and the file they name describe; options win over the file.

    Args:
        options: as parsed.

    Returns:
        A plan, not resolved.

    Raises:
        ValueError: the file cannot be read, or an entry cannot be used.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_compare_options(parser)
        >>> plan_of(parser.parse_args(["iris", "--label-noise", "0,0.2"])).label_noise
        (0.0, 0.2)
    """
    from gradatim.compare.plan_file import from_table

    names = [flag.removeprefix("--").replace("-", "_") for _, flag, _, _, _ in _ROWS]
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    if options.data is None:
        return from_table(given)
    if not options.data.endswith(".toml"):
        return from_table({"data": options.data, **given})
    return from_table(_read_toml(Path(options.data)) | given)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refusal("data", "a file that is there", str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refusal("data", "a TOML file", f"{path}: {error}") from error
    # Paths in a file are meant from where the file lies.
    for name in ("data", "validation", "test", "model"):
        value = table.get(name)
        if isinstance(value, str) and (path.parent / value).exists():
            table[name] = str(path.parent / value)
    return table
