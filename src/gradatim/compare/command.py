"""`gradatim compare` from a plan to files and tables."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradatim import plots
from gradatim.compare import terminal
from gradatim.compare.cells import run_cell
from gradatim.compare.defaults import resolve
from gradatim.compare.extras import check_installed, needs_extra
from gradatim.compare.folds import fold_count, trainings
from gradatim.compare.lock import locked
from gradatim.compare.loggers import check_loggers
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.plan_file import as_toml
from gradatim.compare.report import write_report
from gradatim.compare.results import summarise, write_results
from gradatim.compare.runner import (
    check_backend,
    finished_cells,
    holds_other_files,
    open_folder,
    run_cells,
)
from gradatim.validation import check_count

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["compare", "rehearse"]


def compare(
    plan: Plan,
    out: Path,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    loggers: Sequence[str] = (),
    command: str = "",
) -> list[str]:
    """Run what is left of a comparison, write its results and show them.

    Args:
        plan: what to compare.
        out: the results folder: new, or of the same plan.
        jobs: processes; None is one per processor that may be used, over the devices of a run.
        backend: of joblib: ``"loky"``, ``"ray"`` or ``"dask"``.
        loggers: that follow each run.
        command: as it was typed, for the record.

    Returns:
        The cells that failed, in words; empty if all is well.

    Raises:
        ValueError: data, plan or ``out`` cannot be used, another comparison works in ``out``, or
            ``jobs`` is below 1.
        ImportError: a package is missing.
        OSError: results cannot be written.

    Example:
        >>> import contextlib, io, tempfile
        >>> plan = Plan(curricula="uniform", label_noise=0, seeds=2, epochs=1)
        >>> folder = Path(tempfile.mkdtemp())
        >>> shown = io.StringIO()
        >>> with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        ...     failed = compare(plan, folder, jobs=1)
        >>> failed, (folder / "results.json").exists(), (folder / "report.html").exists()
        ([], True, True)
    """
    check_installed()  # now, and not after a minute of training
    check_backend(backend)
    check_loggers(loggers, out)
    jobs = _processes(jobs, plan.devices)
    plan, facts = resolve(plan)
    # A folder that will be refused is left as it is.
    with contextlib.nullcontext() if holds_other_files(out) else locked(out):
        open_folder(plan, out)
        return _compare(plan, facts, out, jobs, backend, loggers, command)


def _compare(
    plan: Plan,
    facts: Mapping[str, Any],
    out: Path,
    jobs: int,
    backend: str,
    loggers: Sequence[str],
    command: str,
) -> list[str]:
    screen, side = terminal.console(), terminal.console(stderr=True)
    before = len(finished_cells(plan, out)) + len(finished_cells(plan, out, trials=True))
    terminal.show_plan(plan, screen, finished=before)
    failures = []
    for trials in (True, False):
        total = len(plan.trials() if trials else plan.cells())
        done = len(finished_cells(plan, out, trials=trials))
        if done == total:
            continue
        title = "tuning" if trials else "training"
        with terminal.progress(side, total=total, finished=done, title=title) as advance:
            processes = min(jobs, total - done)
            for failure in run_cells(
                plan, out, jobs=processes, backend=backend, loggers=loggers, trials=trials
            ):
                advance()
                if failure is not None:
                    failures.append(str(failure))
                    side.print(f"failed: {failure}", style="red", markup=False)
    cells = finished_cells(plan, out)
    summary = summarise(plan, cells)
    content = write_results(
        plan,
        cells,
        summary,
        out,
        command=command,
        facts=facts,
        failures=failures,
        trials=finished_cells(plan, out, trials=True),
    )
    _draw(plan, cells, out)
    write_report(content, out)
    terminal.show_results(plan, summary, screen)
    screen.print(f"Report, curves and every run: {out / 'report.html'}", markup=False)
    if failures:
        runs = len(plan.cells()) + len(plan.trials())
        side.print(f"{len(failures)} of {runs} runs failed; the same command tries them again.")
    return failures


def rehearse(plan: Plan, *, jobs: int | None = None, screen: Console | None = None) -> float:
    """Print the resolved plan and how long it will take, from one short run of plain training.

    Args:
        plan: what would be compared.
        jobs: as in `compare`.
        screen: where to print; None is the terminal.

    Returns:
        The estimate in seconds. Curricula that survey or cluster take longer than plain training.

    Example:
        >>> from rich.console import Console
        >>> plan = Plan(curricula="spl", label_noise=0, seeds=2, epochs=2)
        >>> rehearse(plan, jobs=1, screen=Console(quiet=True)) > 0
        True
    """
    check_installed()
    jobs = _processes(jobs, plan.devices)
    plan, facts = resolve(plan)
    screen = screen or terminal.console()
    terminal.show_plan(plan, screen, finished=0)
    screen.print(as_toml(plan), markup=False, highlight=False)
    for setting, known in facts.items():
        words = ", ".join(f"{name}: {value}" for name, value in known.items())
        screen.print(f"{setting}: {words}", markup=False, style="dim")
    folds = fold_count(plan)
    cell = replace(plan.cells()[0], fold=None if folds is None else 1)
    size = next(iter(facts.values()))["sizes"]["training"]
    budget = plan.allowance(size)
    runs = len(plan.cells()) + len(plan.trials())
    if budget.kind == "seconds":
        each = budget.amount
    else:
        share = min(1.0, max(0.02, 20 / budget.amount if budget.kind == "steps" else 0.02))
        amount = max(1.0, budget.amount * share)
        if budget.kind in ("steps", "samples"):
            amount = math.ceil(amount)  # they are counted
        short = plan.with_values(amount=amount, evaluations=1)
        run_cell(short, cell)  # imports and caches are not what a run costs
        begun = time.perf_counter()
        found = run_cell(short, cell)
        whole = time.perf_counter() - begun
        training = sum(found["seconds"].get(name, 0.0) for name in ("data", "forward", "backward"))
        used = short.amount or 1.0
        each = whole - training + training * budget.amount / used
        each += (plan.evaluations - 1) * found["seconds"].get("evaluation", 0.0)
    each *= folds or 1
    seconds = each * runs / min(jobs, runs)
    screen.print(
        f"About {_duration(seconds)}: {runs} runs of {_duration(each)} on {jobs} "
        f"{'process' if jobs == 1 else 'processes'}, if all cost what plain training does.",
        markup=False,
    )
    return seconds


def _processes(jobs: int | None, devices: int) -> int:
    if jobs is not None:
        return check_count("jobs", jobs, at_least=1)
    with needs_extra("gradatim compare"):
        import joblib
    return max(1, joblib.cpu_count() // devices)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _draw(plan: Plan, cells: Mapping[Cell, dict[str, Any]], out: Path) -> None:
    score: dict[str, dict[str, plots.Curve]] = {}
    sizes: dict[str, dict[str, plots.Curve]] = {}
    metric = plan.score
    for setting, stress in plan.settings.items():
        title = stress.title
        score[title], sizes[title] = {}, {}
        for spec in plan.specs:
            runs = [
                result
                for cell, result in cells.items()
                if (cell.setting, cell.curriculum) == (setting, spec.label)
            ]
            shortest = min((len(run["curve"]["steps"]) for run in runs), default=0)
            if not shortest:
                continue
            steps = np.mean([run["curve"]["steps"][:shortest] for run in runs], axis=0)
            values = [run["curve"]["validation_score"][:shortest] for run in runs]
            score[title][spec.label] = (steps, metric.scale * np.asarray(values))
            each = [training for run in runs for training in trainings(run)]
            last = min(run["steps"] for run in each)
            rows = [_sizes_by_step(run["epochs"], run["steps"])[:last] for run in each]
            sizes[title][spec.label] = (np.arange(last), np.stack(rows))
    unit = ", %" if metric.scale == 100 else ""
    figure = plots.learning_curves(
        score,
        ylabel=f"validation {metric.title}{unit}",
        lower_is_better=not metric.higher_is_better,
    )
    plots.save(figure, out / "learning_curves.png")
    plots.save(plots.subset_sizes(sizes), out / "subset_sizes.png")


def _sizes_by_step(epochs: Iterable[Mapping[str, int]], steps: int) -> np.ndarray:
    """Spell out the subset size at every step."""
    first = [epoch["first_step"] for epoch in epochs]
    size = [epoch["samples"] for epoch in epochs]
    return np.repeat(size, np.diff([*first, steps]))
