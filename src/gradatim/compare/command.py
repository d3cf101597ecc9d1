"""`gradatim compare` from a plan to files and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gradatim import plots
from gradatim.compare import terminal
from gradatim.compare.data import SETTINGS
from gradatim.compare.extras import check_installed, needs_extra
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.results import summarise, write_results
from gradatim.compare.runner import finished_cells, open_folder, run_cells
from gradatim.validation import check_count

__all__ = ["compare"]


def compare(plan: Plan, out: Path, *, jobs: int | None = None, command: str = "") -> list[str]:
    """Run what is left of a comparison, write its results and show them.

    Args:
        plan: what to compare.
        out: the results folder: new, or of the same plan.
        jobs: processes; None is one per processor that may be used.
        command: as it was typed, for the record.

    Returns:
        The cells that failed, in words; empty if all is well.

    Raises:
        ValueError: ``out`` belongs to another plan, or ``jobs`` is below 1.
        ImportError: a package of the extra is missing.
        OSError: results cannot be written.

    Example:
        >>> import contextlib, io, tempfile
        >>> plan = Plan(curricula=["uniform"], settings=["clean"], seeds=2, epochs=1)
        >>> folder = Path(tempfile.mkdtemp())
        >>> shown = io.StringIO()
        >>> with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        ...     failed = compare(plan, folder, jobs=1)
        >>> failed, (folder / "results.json").exists()
        ([], True)
    """
    check_installed()  # now, and not after a minute of training
    with needs_extra("gradatim compare"):
        import joblib
    jobs = joblib.cpu_count() if jobs is None else check_count("jobs", jobs, at_least=1)
    open_folder(plan, out)
    before = len(finished_cells(plan, out))
    screen, side = terminal.console(), terminal.console(stderr=True)
    terminal.show_plan(plan, screen, finished=before)
    failures = []
    total = len(plan.cells())
    if before < total:
        with terminal.progress(side, total=total, finished=before) as advance:
            for failure in run_cells(plan, out, jobs=min(jobs, total - before)):
                advance()
                if failure is not None:
                    failures.append(str(failure))
                    side.print(f"failed: {failure}", style="red", markup=False)
    cells = finished_cells(plan, out)
    summary = summarise(plan, cells)
    write_results(plan, cells, summary, out, command=command, failures=failures)
    _draw(plan, cells, out)
    terminal.show_results(plan, summary, screen)
    screen.print(f"Results, curves and every run: {out}", markup=False)
    if failures:
        side.print(f"{len(failures)} of {total} runs failed; the same command tries them again.")
    return failures


def _draw(plan: Plan, cells: Mapping[Cell, dict[str, Any]], out: Path) -> None:
    accuracy: dict[str, dict[str, plots.Curve]] = {}
    sizes: dict[str, dict[str, plots.Curve]] = {}
    for setting in plan.settings:
        title = SETTINGS[setting].title
        accuracy[title], sizes[title] = {}, {}
        for name in plan.curricula:
            runs = [
                cells[cell] for cell in cells if (cell.setting, cell.curriculum) == (setting, name)
            ]
            if not runs:
                continue
            curves = [run["curve"]["validation_accuracy"] for run in runs]
            accuracy[title][name] = (runs[0]["curve"]["steps"], 100 * np.asarray(curves))
            steps = runs[0]["steps"]
            rows = [_sizes_by_step(run["epochs"], steps) for run in runs]
            sizes[title][name] = (np.arange(steps), np.stack(rows))
    plots.save(plots.learning_curves(accuracy), out / "learning_curves.png")
    plots.save(plots.subset_sizes(sizes), out / "subset_sizes.png")


def _sizes_by_step(epochs: Iterable[Mapping[str, int]], steps: int) -> np.ndarray:
    """Spell out the subset size at every step."""
    first = [epoch["first_step"] for epoch in epochs]
    size = [epoch["samples"] for epoch in epochs]
    return np.repeat(size, np.diff([*first, steps]))
