"""Runs the cells of a plan, in parallel, each once: what is finished on disk is never run again."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradatim.compare.cells import run_cell
from gradatim.compare.extras import needs_extra
from gradatim.compare.files import as_json, remove_partial_files, replace_file
from gradatim.compare.plan import Cell, Plan
from gradatim.validation import check_count, refusal

__all__ = ["Failure", "finished_cells", "open_folder", "run_cells"]

PLAN, RESULT, ERROR = "plan.json", "result.json", "error.txt"


@dataclass(frozen=True)
class Failure:
    """A cell that raised.

    Attributes:
        cell: which one.
        reason: the exception in one line; the traceback lies in the cell's ``error.txt``.

    Example:
        >>> print(Failure(Cell("clean", "spl", 0), "ValueError: losses must be finite."))
        spl, clean, seed 0: ValueError: losses must be finite.
    """

    cell: Cell
    reason: str

    def __str__(self) -> str:
        """Name the cell and the reason."""
        return f"{self.cell}: {self.reason}"


def open_folder(plan: Plan, out: Path) -> None:
    """Make the results folder, or take up the one of a comparison that was stopped.

    Args:
        plan: the comparison to run.
        out: a folder that is missing, empty, or of the same plan.

    Raises:
        ValueError: the folder holds another plan's results, or something else.
        OSError: it cannot be made or read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "results"
        >>> open_folder(Plan(seeds=4), folder)
        >>> open_folder(Plan(seeds=8), folder)
        Traceback (most recent call last):
        ValueError: out must be a new folder or one of the same plan. Got .../results, which has ...
    """
    rule = "a new folder or one of the same plan"
    if out.exists() and not out.is_dir():
        raise refusal("out", rule, f"{out}, which is a file")
    path = out / PLAN
    if path.exists():
        try:
            differences = plan.differences(json.loads(path.read_text()))
        except (json.JSONDecodeError, AttributeError) as error:
            raise refusal("out", rule, f"{out}, whose {PLAN} cannot be read: {error}") from error
        if differences:
            got = f"{out}, which has {'; '.join(differences)}"
            raise refusal("out", rule, got, "Choose another --out, or repeat that plan.")
    elif out.exists() and any(out.iterdir()):
        raise refusal("out", rule, f"{out}, which holds other files")
    else:
        replace_file(path, as_json(plan.as_dict(), depth=1) + "\n")
    remove_partial_files(out)


def finished_cells(plan: Plan, out: Path) -> dict[Cell, dict[str, Any]]:
    """Read the results that are there.

    Args:
        plan: whose cells to look for.
        out: the results folder.

    Returns:
        Results by cell, in the plan's order.

    Raises:
        ValueError: a result is not what was written.

    Example:
        >>> finished_cells(Plan(), Path("a folder that is missing"))
        {}
    """
    paths = {cell: out / cell.folder / RESULT for cell in plan.cells()}
    return {cell: _read(path) for cell, path in paths.items() if path.exists()}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        cause = "Was it edited? Remove it, and that cell runs again."
        raise refusal("result", "JSON as it was written", path, cause) from error


def run_cells(plan: Plan, out: Path, *, jobs: int) -> Iterator[Failure | None]:
    """Run the cells that are not finished, yielding as each ends.

    Args:
        plan: the comparison.
        out: its folder, opened by `open_folder`.
        jobs: processes; 1 stays in this one.

    Yields:
        None for a cell that finished, else what went wrong; the others go on.

    Raises:
        ValueError: ``jobs`` is below 1.

    Example:
        >>> import tempfile
        >>> plan, folder = Plan(curricula=["uniform"], settings=["clean"], seeds=2, epochs=1), Path(
        ...     tempfile.mkdtemp())
        >>> list(run_cells(plan, folder, jobs=1))
        [None, None, None, None]
        >>> list(run_cells(plan, folder, jobs=1))
        []
    """
    check_count("jobs", jobs, at_least=1)
    done = finished_cells(plan, out)
    left = [cell for cell in plan.cells() if cell not in done]
    if not left:
        return
    if jobs == 1:
        yield from (_run_and_keep(plan, cell, out) for cell in left)
        return
    with needs_extra("gradatim compare"):
        import joblib
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    yield from parallel(joblib.delayed(_run_and_keep)(plan, cell, out) for cell in left)


def _run_and_keep(plan: Plan, cell: Cell, out: Path) -> Failure | None:
    """Run one cell and write its result, or its error: never half of either."""
    folder = out / cell.folder
    try:
        replace_file(folder / RESULT, as_json(run_cell(plan, cell), depth=1) + "\n")
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        try:
            replace_file(folder / ERROR, traceback.format_exc())
        except OSError:
            reason += f" (and {folder / ERROR} could not be written)"
        return Failure(cell, reason)
    (folder / ERROR).unlink(missing_ok=True)
    return None
