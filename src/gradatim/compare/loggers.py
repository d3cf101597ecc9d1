"""TensorBoard, MLflow and Weights & Biases, through the loggers that Lightning has for them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradatim.compare.plan import Cell, Plan
from gradatim.validation import check_choice

__all__ = ["LOGGERS", "check_loggers", "report_to"]

Report = Callable[[dict[str, float], int], None]

LOGGERS = {
    "csv": ("lightning_fabric.loggers", "CSVLogger", "lightning-fabric"),
    "tensorboard": ("lightning_fabric.loggers", "TensorBoardLogger", "tensorboard"),
    "mlflow": ("lightning.pytorch.loggers", "MLFlowLogger", "lightning mlflow"),
    "wandb": ("lightning.pytorch.loggers", "WandbLogger", "lightning wandb"),
}


def check_loggers(names: Sequence[str], folder: Path) -> None:
    """Refuse unknown loggers, and those that cannot be used, before anything runs.

    Args:
        names: of loggers.
        folder: where they will write.

    Raises:
        ValueError: an unknown name.
        ImportError: its package is missing.

    Example:
        >>> check_loggers(["tensorbord"], Path("."))
        Traceback (most recent call last):
        ValueError: logger must be one of ... Got 'tensorbord'. Did you mean 'tensorboard'?
    """
    for name in names:
        check_choice("logger", name, LOGGERS)
        try:
            _make(name, folder, "check", "check")
        except (ImportError, ModuleNotFoundError) as error:
            packages = LOGGERS[name][2]
            raise ImportError(
                f"logger {name} needs more packages: python -m pip install {packages}"
            ) from error


def _make(name: str, folder: Path, group: str, run: str) -> Any:
    module, kind, _ = LOGGERS[name]
    build = getattr(importlib.import_module(module), kind)
    if name in ("csv", "tensorboard"):
        return build(str(folder / "logs" / name), name=group, version=run)
    if name == "mlflow":
        uri = (folder / "logs" / "mlflow").absolute().as_uri()
        return build(experiment_name="gradatim", run_name=f"{group}/{run}", tracking_uri=uri)
    return build(project="gradatim", group=group, name=f"{group}/{run}", save_dir=str(folder))


@contextmanager
def report_to(names: Sequence[str], folder: str, plan: Plan, cell: Cell) -> Iterator[Report | None]:
    """Follow a run with loggers.

    Args:
        names: of loggers; none of them is no report.
        folder: the results folder.
        plan: the comparison, whose entries are logged once.
        cell: the run.

    Yields:
        A function of numbers and step, or None.

    Example:
        >>> with report_to([], "", Plan(), Cell("clean", "uniform", 0)) as report:
        ...     report is None
        True
    """
    if not names:
        yield None
        return
    group = f"{cell.setting}/{cell.slug or cell.curriculum}"
    run = "-".join(cell.folder.parts[3:])
    made = [_make(name, Path(folder), group, run) for name in names]

    def report(numbers: dict[str, float], step: int) -> None:
        for logger in made:
            logger.log_metrics(numbers, step)

    status = "failed"
    try:
        yield report
        status = "success"
    finally:
        for logger in made:
            logger.finalize(status)
