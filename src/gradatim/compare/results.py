"""From finished cells to a table with verdicts, and the files that keep it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradatim.compare.curricula import BASELINE
from gradatim.compare.files import as_json, replace_file
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.power import smallest_sign_flip_p
from gradatim.compare.statistics import McNemarTest, mcnemar
from gradatim.compare.verdicts import Comparison, judge

__all__ = ["Row", "summarise", "write_results"]

Cells = Mapping[Cell, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One curriculum in one setting.

    Attributes:
        curriculum: its name.
        seeds: those that finished.
        scores: test accuracy per seed, in [0, 1].
        mean: of ``scores``.
        deviation: their standard deviation; NaN for one seed.
        samples: mean number of rows per run, by kind: forward, backward, survey, evaluation.
        comparison: with plain training over the seeds both finished; None for plain training
            itself and for fewer than two such seeds.
        mcnemar: per seed both finished, from the two runs' predictions on their test set.

    Example:
        >>> Row("spl", [0], [0.9], 0.9, math.nan, {}, None, {}).mean
        0.9
    """

    curriculum: str
    seeds: list[int]
    scores: list[float]
    mean: float
    deviation: float
    samples: dict[str, float]
    comparison: Comparison | None
    mcnemar: dict[int, McNemarTest]


def summarise(plan: Plan, cells: Cells) -> dict[str, list[Row]]:
    """Judge every curriculum against plain training, one family per setting.

    Pairs are formed by seed: the same split, noise and initial weights. A cell that failed takes
    its pair out and no other.

    Args:
        plan: level, margin and order.
        cells: results by cell.

    Returns:
        Rows by setting, in the plan's order; curricula without any result are left out.

    Example:
        >>> def cell(score):
        ...     return {"test_accuracy": score, "samples": {"forward": 8}, "test_labels": [0, 0],
        ...             "test_predictions": [0, 1]}
        >>> plan = Plan(curricula=["spl"], settings=["clean"], seeds=2)
        >>> cells = {entry: cell(0.5 + 0.1 * entry.seed) for entry in plan.cells()}
        >>> [row.curriculum for row in summarise(plan, cells)["clean"]]
        ['uniform', 'paced_random', 'spl']
    """
    summary = {}
    for setting in plan.settings:
        results = {
            name: {
                cell.seed: result
                for cell, result in cells.items()
                if (cell.setting, cell.curriculum) == (setting, name)
            }
            for name in plan.curricula
        }
        baseline = results[BASELINE]
        shared = {
            name: [seed for seed in runs if seed in baseline]
            for name, runs in results.items()
            if name != BASELINE
        }
        pairs = {
            name: (
                [results[name][seed]["test_accuracy"] for seed in seeds],
                [baseline[seed]["test_accuracy"] for seed in seeds],
            )
            for name, seeds in shared.items()
            if len(seeds) >= 2
        }
        comparisons = judge(pairs, alpha=plan.alpha, margin=plan.margin)
        summary[setting] = [
            _row(name, runs, comparisons.get(name), baseline, shared.get(name, []))
            for name, runs in results.items()
            if runs
        ]
    return summary


def _row(
    name: str,
    runs: dict[int, dict[str, Any]],
    comparison: Comparison | None,
    baseline: dict[int, dict[str, Any]],
    shared: Sequence[int],
) -> Row:
    scores = [run["test_accuracy"] for run in runs.values()]
    kinds = next(iter(runs.values()))["samples"]
    return Row(
        name,
        list(runs),
        scores,
        float(np.mean(scores)),
        float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
        {kind: float(np.mean([run["samples"][kind] for run in runs.values()])) for kind in kinds},
        comparison,
        {seed: mcnemar(_correct(runs[seed]), _correct(baseline[seed])) for seed in shared},
    )


def _correct(result: dict[str, Any]) -> np.ndarray:
    return np.asarray(result["test_predictions"]) == np.asarray(result["test_labels"])


def write_results(
    plan: Plan,
    cells: Cells,
    summary: Mapping[str, Sequence[Row]],
    out: Path,
    *,
    command: str,
    failures: Sequence[str] = (),
) -> None:
    """Write ``results.json`` with everything but single predictions, and ``results.csv``.

    Predictions stay in the cells' own files. Both files are replaced in one step each.

    Args:
        plan: the comparison.
        cells: results by cell.
        summary: what `summarise` made of them.
        out: the results folder.
        command: as it was typed.
        failures: cells that did not finish, in words.

    Raises:
        OSError: a file cannot be written.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_results(Plan(seeds=2), {}, {}, folder, command="gradatim compare --seeds 2")
        >>> json.loads((folder / "results.json").read_text())["command"]
        'gradatim compare --seeds 2'
    """
    hidden = ("test_labels", "test_predictions")
    kept = [{k: v for k, v in result.items() if k not in hidden} for result in cells.values()]
    content = {
        "command": command,
        "versions": plan.versions,
        "plan": {name: value for name, value in plan.as_dict().items() if name != "versions"},
        "baseline": BASELINE,
        "smallest_sign_flip_p": smallest_sign_flip_p(plan.seeds),
        "statistics": {
            setting: {"test_accuracy": {row.curriculum: asdict(row) for row in rows}}
            for setting, rows in summary.items()
        },
        "failures": list(failures),
        "cells": kept,
    }
    replace_file(out / "results.json", as_json(content, depth=5) + "\n")
    replace_file(out / "results.csv", _csv(cells))


def _csv(cells: Cells) -> str:
    """One line per cell, for spreadsheets."""
    columns = ("test_accuracy", "validation_accuracy", "checkpoint_step", "steps", "flipped_labels")
    kinds = ("forward", "backward", "survey", "evaluation")
    header = ["setting", "curriculum", "seed", *columns, "epochs"]
    header += [f"{kind}_samples" for kind in kinds] + ["preparation_seconds", "training_seconds"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for cell, result in cells.items():
        row = [cell.setting, cell.curriculum, cell.seed, *(result[name] for name in columns)]
        row += [len(result["epochs"]), *(result["samples"][kind] for kind in kinds)]
        seconds = result["seconds"]
        writer.writerow([*row, seconds["preparation"], seconds["training"]])
    return text.getvalue()
