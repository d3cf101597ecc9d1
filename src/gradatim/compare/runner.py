"""Runs the cells of a plan, in parallel, each once: what is finished on disk is never run again."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import tomllib
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from gradatim.compare.cells import FOLD_ARRAYS, run_cell
from gradatim.compare.data import load
from gradatim.compare.extras import needs_extra
from gradatim.compare.files import as_json, partial_files, remove_partial_files, replace_file
from gradatim.compare.folds import fold_count, pooled
from gradatim.compare.lock import LOCK
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.plan_file import as_toml, differences
from gradatim.validation import check_choice, check_count, refusal

__all__ = [
    "BACKENDS",
    "Failure",
    "check_backend",
    "finished_cells",
    "holds_other_files",
    "open_folder",
    "run_cells",
    "tuned_rates",
]

PLAN, RESULT, ERROR = "plan.toml", "result.json", "error.txt"
PREDICTIONS = "predictions.npz"
BACKENDS = ("loky", "ray", "dask")


@dataclass(frozen=True)
class Failure:
    """A cell that raised.

    Attributes:
        cell: which one; with folds, at which of them.
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


def check_backend(backend: str) -> None:
    """Refuse a backend that is unknown or not installed, before anything runs.

    Args:
        backend: of joblib.

    Raises:
        ValueError: an unknown name.
        ImportError: its packages are missing.

    Example:
        >>> check_backend("loky")
    """
    check_choice("backend", backend, BACKENDS)
    module, words = {
        "loky": ("joblib", ""),
        "ray": ("ray", "ray"),
        "dask": ("distributed", '"dask[distributed]"'),
    }[backend]
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"backend {backend} needs more packages: python -m pip install {words}")


def open_folder(plan: Plan, out: Path) -> None:
    """Make the results folder, or take up the one of a comparison that was stopped.

    Args:
        plan: the comparison to run, resolved.
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
    if out.exists():
        remove_partial_files(out)
    if path.exists():
        try:
            found = differences(plan, tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise refusal("out", rule, f"{out}, whose {PLAN} cannot be read: {error}") from error
        if found:
            got = f"{out}, which has {'; '.join(found)}"
            raise refusal("out", rule, got, "Choose another --out, or repeat that plan.")
    elif holds_other_files(out):
        raise refusal("out", rule, f"{out}, which holds other files")
    else:
        replace_file(path, as_toml(plan))


def holds_other_files(out: Path) -> bool:
    """Tell whether a folder, or file, is that of something else than a comparison.

    Args:
        out: a folder that may be missing.

    Returns:
        False for one that is missing, empty, or has a plan.

    Example:
        >>> holds_other_files(Path("a folder that is missing"))
        False
    """
    if not out.is_dir():
        return out.exists()
    ours = (LOCK, *(path.name for path in partial_files(out)))
    return not (out / PLAN).exists() and any(entry.name not in ours for entry in out.iterdir())


def finished_cells(plan: Plan, out: Path, *, trials: bool = False) -> dict[Cell, dict[str, Any]]:
    """Read the results that are there.

    Args:
        plan: whose cells to look for.
        out: the results folder.
        trials: those that tune, instead of those that are judged.

    Returns:
        Results by cell, in the plan's order.

    Raises:
        ValueError: a result is not what was written.

    Example:
        >>> finished_cells(Plan(), Path("a folder that is missing"))
        {}
    """
    cells = plan.trials() if trials else plan.cells()
    paths = {cell: out / cell.folder / RESULT for cell in cells}
    return {cell: _read(path) for cell, path in paths.items() if path.exists()}


def _read(path: Path) -> dict[str, Any]:
    cause = "Was it edited? Remove it, and that cell runs again."
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise refusal("result", "JSON as it was written", path, cause) from error
    if not isinstance(result, dict) or "learning_rate" not in result:
        raise refusal("result", "a table as it was written", path, cause)
    if "scores" in result:
        beside = path.with_name(PREDICTIONS)
        try:
            with np.load(beside) as arrays:
                result |= dict(arrays)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise refusal("predictions", "arrays as they were written", beside, cause) from error
    return result


def tuned_rates(plan: Plan, out: Path) -> dict[tuple[str, str], float]:
    """Choose each curriculum's learning rate by its trials' validation scores.

    Args:
        plan: the comparison.
        out: its folder.

    Returns:
        Learning rates by (setting, curriculum), of those with a finished trial; the earlier trial
        wins a tie. Where a judged run is there already, its rate stands: all seeds share one.

    Example:
        >>> tuned_rates(Plan(tune=0), Path("results"))
        {}
    """
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for cell, result in finished_cells(plan, out, trials=True).items():
        if result["validation_score"] is None:  # it diverged
            continue
        score = result["validation_score"] * (1 if plan.score.higher_is_better else -1)
        key = (cell.setting, cell.curriculum)
        if key not in best or score > best[key][0]:
            best[key] = (score, result["learning_rate"])
    rates = {key: rate for key, (_, rate) in best.items()}
    if rates:
        for cell in plan.cells():
            for path in (out / cell.folder).rglob(RESULT):  # of the run, and of its folds
                rates[cell.setting, cell.curriculum] = _read(path)["learning_rate"]
    return rates


def run_cells(
    plan: Plan,
    out: Path,
    *,
    jobs: int,
    backend: str = "loky",
    loggers: Sequence[str] = (),
    trials: bool = False,
) -> Iterator[Failure | None]:
    """Run the cells that are not finished, yielding as each ends.

    Args:
        plan: the comparison, resolved.
        out: its folder, opened by `open_folder`; on a cluster, one that all machines share.
        jobs: processes; 1 with the loky backend stays in this one.
        backend: of joblib: ``"loky"``, ``"ray"`` or ``"dask"``.
        loggers: that follow each run.
        trials: run those that tune, instead of those that are judged.

    Yields:
        None for a cell that finished, else what went wrong; the others go on.

    Raises:
        ValueError: ``jobs`` is below 1, or an unknown backend.
        ImportError: the backend is not installed.

    Example:
        >>> import tempfile
        >>> from gradatim.compare.defaults import resolve
        >>> plan, _ = resolve(Plan(curricula="uniform", label_noise=0, seeds=2, epochs=1))
        >>> folder = Path(tempfile.mkdtemp())
        >>> list(run_cells(plan, folder, jobs=1))
        [None, None, None, None]
        >>> list(run_cells(plan, folder, jobs=1))
        []
    """
    check_count("jobs", jobs, at_least=1)
    check_backend(backend)
    done = finished_cells(plan, out, trials=trials)
    left = [cell for cell in (plan.trials() if trials else plan.cells()) if cell not in done]
    rates = {} if trials else tuned_rates(plan, out)

    def rate(cell: Cell) -> float | None:
        if cell.trial is not None:
            return plan.trial_rate(cell.trial)
        return rates.get((cell.setting, cell.curriculum))

    calls = [(plan, cell, out.absolute(), rate(cell), tuple(loggers)) for cell in left]
    if not calls:
        return
    if jobs == 1 and backend == "loky":
        yield from (_run_and_keep(*call) for call in calls)
        return
    ended = False
    try:
        with _parallel(backend, jobs) as run:
            yield from run(calls)
        ended = True
    finally:
        if not ended and backend == "loky":
            _end_workers()
            remove_partial_files(out)


def _end_workers() -> None:
    """Wait until killed workers are gone, so that none of them still writes."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def _parallel(backend: str, jobs: int) -> Iterator[Callable[[Iterable[Any]], Iterable[Any]]]:
    """A function that runs `_run_and_keep` on many calls, and yields results as they come."""
    with needs_extra("gradatim compare"):
        import joblib
    with contextlib.ExitStack() as stack:
        if backend == "ray":
            stack.enter_context(_ray(jobs))
        elif backend == "dask":
            stack.enter_context(_dask(jobs))
        stack.enter_context(joblib.parallel_config(backend=backend))
        # Ray's backend cannot hand results out one by one: it gets a few at a time instead.
        whole = backend == "ray"
        parallel = joblib.Parallel(
            n_jobs=jobs,
            return_as="list" if whole else "generator_unordered",
            batch_size=cast("Any", 1),  # its type says str
        )

        def run(calls: Iterable[Any]) -> Iterator[Any]:
            tasks = [joblib.delayed(_run_and_keep)(*call) for call in calls]
            size = 4 * jobs if whole else len(tasks)
            for start in range(0, len(tasks), size):
                yield from parallel(tasks[start : start + size])

        yield run


@contextlib.contextmanager
def _ray(jobs: int) -> Iterator[None]:
    ray = importlib.import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False)
    importlib.import_module("ray.util.joblib").register_ray()
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


@contextlib.contextmanager
def _dask(jobs: int) -> Iterator[None]:
    distributed = importlib.import_module("distributed")

    try:
        distributed.get_client()
    except ValueError:
        # No cluster of the user's: one on this machine, without its web page.
        with distributed.Client(
            n_workers=jobs, threads_per_worker=1, dashboard_address=None, processes=True
        ):
            yield
    else:
        yield


def _run_and_keep(
    plan: Plan, cell: Cell, out: Path, learning_rate: float | None, loggers: Sequence[str]
) -> Failure | None:
    """Run one cell and write its result, or its error: never half of either."""
    folder, at = out / cell.folder, cell
    options = {"learning_rate": learning_rate, "loggers": loggers, "log_folder": str(out)}
    try:
        if plan.folds is None:
            result = run_cell(plan, cell, **options)
        else:
            parts = []
            for fold in range(1, (fold_count(plan) or 0) + 1):
                at = replace(cell, fold=fold)
                path = out / at.folder / RESULT
                if not path.exists():
                    _keep(run_cell(plan, at, **options), out / at.folder)
                parts.append(_read(path))
            at = cell
            task = load(plan.source)
            result = pooled(plan, parts, kind=task.kind, names=task.label_names)
        _keep(result, folder)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        try:
            replace_file(folder / ERROR, traceback.format_exc())
        except OSError:
            reason += f" (and {folder / ERROR} could not be written)"
        return Failure(at, reason)
    (folder / ERROR).unlink(missing_ok=True)
    return None


def _keep(result: dict[str, Any], folder: Path) -> None:
    """Write a result: its arrays first, since a cell with a result is finished."""
    arrays = {name: result.pop(name) for name in FOLD_ARRAYS if result.get(name) is not None}
    if arrays:
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        replace_file(folder / PREDICTIONS, packed.getvalue())
    replace_file(folder / RESULT, as_json(result, depth=1) + "\n")
