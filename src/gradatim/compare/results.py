"""From finished cells to a table with verdicts, and the files that keep it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gradatim.compare.cells import ARRAYS
from gradatim.compare.curricula import BASELINE
from gradatim.compare.efficiency import area_under_curve, to_reach
from gradatim.compare.files import as_json, replace_file
from gradatim.compare.folds import trainings
from gradatim.compare.intervals import bootstrap_interval
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.plan_file import as_table
from gradatim.compare.power import smallest_sign_flip_p
from gradatim.compare.statistics import McNemarTest, mcnemar
from gradatim.compare.verdicts import Comparison, judge

__all__ = ["Row", "summarise", "write_results"]

GROUPS = "by_label_group"

Result: TypeAlias = "dict[str, Any]"
Runs: TypeAlias = "dict[int, Result]"
Cells: TypeAlias = "Mapping[Cell, Result]"


@dataclass(frozen=True)
class Row:
    """One curriculum in one setting.

    Attributes:
        curriculum: its label.
        seeds: those that finished.
        scores: of the judged metric on the test part, per seed.
        mean: of ``scores``.
        deviation: their standard deviation; NaN for one seed.
        samples: mean number of rows per run, by kind: forward, backward, survey, evaluation.
        seconds: mean per run, by section.
        area: mean area under the validation curve over steps, in the metric's unit.
        reach: median steps, samples and seconds to plain training's final validation score;
            infinite where half of the runs never reach it.
        comparison: with plain training over the seeds both finished; None for plain training
            itself and for fewer than two such seeds.
        mcnemar: per seed both finished, from the two runs' predictions on their test set; empty
            where predictions are no classes.

    Example:
        >>> Row("spl", [0], [0.9], 0.9, math.nan, {}, {}, 0.8, {}, None, {}).mean
        0.9
    """

    curriculum: str
    seeds: list[int]
    scores: list[float]
    mean: float
    deviation: float
    samples: dict[str, float]
    seconds: dict[str, float]
    area: float
    reach: dict[str, float]
    comparison: Comparison | None
    mcnemar: dict[int, McNemarTest]


def summarise(plan: Plan, cells: Cells) -> dict[str, list[Row]]:
    """Judge every curriculum against plain training, one family per setting.

    Pairs are formed by seed: the same split, noise and initial weights. A cell that failed takes
    its pair out and no other. Differences are gains: positive is better, whatever the metric.

    Args:
        plan: level, margin and order.
        cells: results by cell.

    Returns:
        Rows by setting, in the plan's order; curricula without any result are left out.

    Example:
        >>> def cell(score):
        ...     curve = {"steps": [1, 2], "validation_score": [0.4, score]}
        ...     return {"scores": {"accuracy": score}, "samples": {"forward": 8}, "items": [0, 1],
        ...             "seconds": {"forward": 0.1}, "curve": curve}
        >>> plan = Plan(curricula="spl", label_noise=0, seeds=2, metric="accuracy", margin=0.01)
        >>> cells = {entry: cell(0.5 + 0.1 * entry.seed) for entry in plan.cells()}
        >>> [row.curriculum for row in summarise(plan, cells)["clean"]]
        ['uniform', 'paced_random', 'spl']
    """
    summary = {}
    for setting in plan.settings:
        results = {
            spec.label: {
                cell.seed: result
                for cell, result in cells.items()
                if (cell.setting, cell.curriculum) == (setting, spec.label)
            }
            for spec in plan.specs
        }
        shared = {
            name: [seed for seed in runs if seed in results[BASELINE]]
            for name, runs in results.items()
            if name != BASELINE
        }
        comparisons = _judged(plan, results, shared)
        summary[setting] = [
            _row(plan, name, runs, comparisons.get(name), results[BASELINE], shared.get(name, []))
            for name, runs in results.items()
            if runs
        ]
    return summary


def _judged(
    plan: Plan, results: Mapping[str, Runs], shared: Mapping[str, list[int]]
) -> dict[str, Comparison]:
    """Compare each curriculum with plain training over the seeds that both finished."""
    assert plan.metric is not None
    assert plan.margin is not None
    sign = 1.0 if plan.score.higher_is_better else -1.0
    baseline = results[BASELINE]
    pairs, intervals = {}, {}
    for name, seeds in shared.items():
        if len(seeds) < 2:
            continue
        runs = results[name]
        pairs[name] = (
            [sign * runs[seed]["scores"][plan.metric] for seed in seeds],
            [sign * baseline[seed]["scores"][plan.metric] for seed in seeds],
        )
        found = (_item_gains(runs[seed], baseline[seed], sign) for seed in seeds)
        items = [each for each in found if each is not None and len(each) > 1]
        if len(items) == len(seeds) and all(runs[seed].get("shared_test") for seed in seeds):
            # Every seed is judged on the same items, whose choice is chance as well.
            intervals[name] = bootstrap_interval(np.stack(items), shared_items=True).interval
    return judge(
        pairs,
        alpha=plan.alpha,
        margin=plan.margin,
        intervals=intervals,
        family=len(plan.specs) - 1,
    )


def _item_gains(run: Result, baseline: Result, sign: float) -> np.ndarray | None:
    if run.get("items") is None or baseline.get("items") is None:
        return None
    return sign * (np.asarray(run["items"], float) - np.asarray(baseline["items"], float))


def _row(
    plan: Plan,
    name: str,
    runs: Runs,
    comparison: Comparison | None,
    baseline: Runs,
    shared: Sequence[int],
) -> Row:
    scores = [run["scores"][plan.metric] for run in runs.values()]
    curves = {seed: run["curve"] for seed, run in runs.items()}
    areas = [area_under_curve(c["steps"], c["validation_score"]) for c in curves.values()]
    better = plan.score.higher_is_better
    reached = [
        to_reach({name: curves[seed]}, baseline[seed]["curve"], higher_is_better=better)[name]
        for seed in runs
        if seed in baseline
    ]
    binary = plan.metric in ("accuracy", "subset_accuracy")
    return Row(
        name,
        list(runs),
        scores,
        float(np.mean(scores)),
        float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
        _means([run["samples"] for run in runs.values()]),
        _means([run["seconds"] for run in runs.values()]),
        float(np.mean(areas)),
        {unit: float(np.median([each[unit] for each in reached])) for unit in (reached or [{}])[0]},
        comparison,
        {seed: mcnemar(_correct(runs[seed]), _correct(baseline[seed])) for seed in shared}
        if binary
        else {},
    )


def _means(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: float(np.mean([part.get(name, 0.0) for part in parts])) for name in names}


def _correct(result: Result) -> np.ndarray:
    return np.asarray(result["items"]) > 0.5


def write_results(
    plan: Plan,
    cells: Cells,
    summary: Mapping[str, Sequence[Row]],
    out: Path,
    *,
    command: str,
    facts: Mapping[str, Any] | None = None,
    failures: Sequence[str] = (),
    trials: Cells | None = None,
) -> dict[str, Any]:
    """Write ``results.json`` with everything but single predictions, and ``results.csv``.

    Predictions stay in the cells' own files. Both files are replaced in one step each.

    Args:
        plan: the comparison.
        cells: results by cell.
        summary: what `summarise` made of them.
        out: the results folder.
        command: as it was typed.
        facts: about the task, by setting.
        failures: cells that did not finish, in words.
        trials: results of tuning trials by cell.

    Returns:
        What ``results.json`` holds.

    Raises:
        OSError: a file cannot be written.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> plan = Plan(seeds=2, metric="accuracy")
        >>> _ = write_results(plan, {}, {}, folder, command="gradatim compare --seeds 2")
        >>> json.loads((folder / "results.json").read_text())["command"]
        'gradatim compare --seeds 2'
    """
    metric = plan.score
    content: dict[str, Any] = {
        "command": command,
        "versions": dict(plan.versions),
        "plan": {name: value for name, value in as_table(plan).items() if name != "versions"},
        "settings": {slug: stress.title for slug, stress in plan.settings.items()},
        "metric": {
            "name": metric.name,
            "title": metric.title,
            "unit": metric.unit,
            "scale": metric.scale,
            "higher_is_better": metric.higher_is_better,
        },
        "task": dict(facts or {}),
        "baseline": BASELINE,
        "smallest_sign_flip_p": smallest_sign_flip_p(len(plan.seed_list)),
        "statistics": {
            setting: {metric.name: {row.curriculum: asdict(row) for row in rows}}
            for setting, rows in summary.items()
        },
        "failures": list(failures),
        "tuning": [_kept(result) for result in (trials or {}).values()],
        "cells": [_kept(result) for result in cells.values()],
    }
    replace_file(out / "results.json", as_json(content, depth=5) + "\n")
    replace_file(out / "results.csv", _csv(plan, cells))
    return content


def _kept(result: Result) -> Result:
    return {name: value for name, value in result.items() if name not in ARRAYS}


def _csv(plan: Plan, cells: Cells) -> str:
    """One line per cell, for spreadsheets."""
    # A folder may hold runs from before a metric was known.
    metrics = list(dict.fromkeys(name for cell in cells.values() for name in cell["scores"]))
    metrics = metrics or [plan.metric]
    groups = list(dict.fromkeys(n for cell in cells.values() for n in cell.get(GROUPS, {})))
    columns = ("validation_score", "learning_rate", "checkpoint_step", "steps", "corrupted_labels")
    kinds = ("forward", "backward", "survey", "evaluation")
    sections = list(dict.fromkeys(name for cell in cells.values() for name in cell["seconds"]))
    header = ["setting", "curriculum", "seed", *(f"test_{name}" for name in metrics)]
    header += [*(f"test_macro_f1_labels_{name}" for name in groups), *columns]
    header += ["epochs", *(f"{kind}_samples" for kind in kinds)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *(f"{name}_seconds" for name in sections)])
    for cell, result in cells.items():
        row: list[Any] = [cell.setting, cell.curriculum, cell.seed]
        row += [result["scores"].get(name) for name in metrics]
        row += [result.get(GROUPS, {}).get(name) for name in groups]
        row += [result[name] for name in columns]
        epochs = [len(each["epochs"]) for each in trainings(result)]
        row += [epochs[0] if len(set(epochs)) == 1 else float(np.mean(epochs))]
        row += [*(result["samples"][kind] for kind in kinds)]
        writer.writerow([*row, *(result["seconds"].get(name, 0) for name in sections)])
    return text.getvalue()
