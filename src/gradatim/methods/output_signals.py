"""The outputs and targets that DoCL and its baselines are handed with each batch."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch

from gradatim.dynamics.outputs import Task, check_labels
from gradatim.method import Batch
from gradatim.table import Table
from gradatim.validation import check_finite, refusal

__all__ = ["OutputSignals"]

WARN_BYTES = 2_000_000_000  # of stored outputs: beyond it a user should know what they pay


class OutputSignals:
    """Checks outputs and targets before they are kept, and again where a look may wait.

    Args:
        task: ``"classification"`` or ``"regression"``.

    Example:
        >>> signals = {"logits": torch.zeros(1, 3), "targets": torch.tensor([3])}
        >>> batch = Batch(torch.tensor([0]), torch.zeros(1), signals)
        >>> OutputSignals("classification").columns(batch, size=8, dtype=torch.float32)
        Traceback (most recent call last):
        ValueError: targets must be labels in [0, 3). Got 3. Are they labels of other classes ...
    """

    def __init__(self, task: Task) -> None:
        self.task: Task = task
        self.name = "logits" if task == "classification" else "outputs"
        self._width: int | None = None
        self._looked_at = False
        self._before: tuple[Any, ...] = ()  # dtypes and shapes of the call before, if as most are

    def columns(
        self, batch: Batch, size: int, dtype: torch.dtype, table: Table | None = None
    ) -> dict[str, torch.Tensor]:
        """The batch's outputs (B, D), float32, and targets; refused before they are kept.

        Labels are looked at in the first call (on an accelerator nothing may wait for that), and
        those of every call in `check`, before a table changes.

        Args:
            batch: with both signals.
            size: N, for the memory that ``table`` will take.
            dtype: of the rows kept.
            table: where outputs of earlier epochs are, if anywhere.
        """
        signals = batch.signals
        outputs, targets = signals[self.name], signals["targets"]
        known_table = table is None or table.shape is None or table.shape[0] == self._width
        if known_table and self._before and self._before == _kinds(outputs, targets):
            return {self.name: outputs, "targets": targets}
        for name, value in ((self.name, outputs), ("targets", targets)):
            if not isinstance(value, torch.Tensor):
                raise TypeError(str(refusal(name, "a tensor, a row per sample", repr(value))))
        if not outputs.is_floating_point() or not outputs.ndim:
            raise refusal(self.name, "floating, a row per sample", outputs)
        if self.task == "classification":
            if outputs.ndim != 2 or outputs.shape[1] < 2:
                raise refusal("logits", "of shape (B, C) with C at least 2", outputs)
            shape = outputs.shape if targets.is_floating_point() else outputs.shape[:1]
            if targets.shape != shape:
                raise refusal("targets", f"labels of shape ({len(outputs)},)", targets)
        elif targets.shape != outputs.shape:
            raise refusal("targets", f"of the shape of outputs, {tuple(outputs.shape)}", targets)
        width = math.prod(outputs.shape[1:])
        known = table.shape[0] if table is not None and table.shape else self._width
        if known is not None and width != known:
            cause = "Did the model's head change?"
            rule = f"of {known} values per sample, as before"
            raise refusal(self.name, rule, outputs, cause)
        if self._width is None:
            if targets.is_cpu and not targets.is_floating_point():
                check_labels(targets, width)
            self._width = width
            self._warn_of_size(size * width * dtype.itemsize)
        rows = outputs.detach().reshape(len(outputs), width).float()
        if rows.is_cpu:
            self._warn_of_probabilities(rows)
        if self.task == "regression":
            targets = targets.detach().reshape(len(outputs), width).float()
        elif self._looked_at and outputs.dtype == torch.float32 and targets.ndim == 1:
            # The next call needs no more than a look at these.
            self._before = _kinds(outputs, targets)
        return {self.name: rows, "targets": targets}

    def check(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs and targets as `columns` gave them, after checks that may wait."""
        rows, targets = batch.signals[self.name], batch.signals["targets"]
        check_finite(self.name, rows, batch.index)
        if not targets.is_floating_point():
            check_labels(targets, rows.shape[1])
        if self.task == "classification" and targets.is_floating_point():
            sums = targets.sum(1)
            if bool(((sums - 1).abs() > 1e-2).any()):
                cause = "Samples with several labels have no residual of this kind."
                raise refusal("targets", "labels, or rows that sum to 1", float(sums.max()), cause)
        if not rows.is_cpu:
            self._warn_of_probabilities(rows)
        return rows, targets

    @staticmethod
    def _warn_of_size(size: int) -> None:
        if size > WARN_BYTES:
            warnings.warn(
                f"outputs of all samples take {size / 1e9:.1f} GB. dtype='float16' halves that.",
                stacklevel=2,
            )

    def _warn_of_probabilities(self, rows: torch.Tensor) -> None:
        if self._looked_at or self.task == "regression" or not len(rows):
            return
        self._looked_at = True
        if bool(((rows >= 0).all(1) & ((rows.sum(1) - 1).abs() < 1e-3)).all()):
            warnings.warn(
                "logits look like probabilities: every row is non-negative and sums to 1. The "
                "scores need the outputs before the softmax.",
                stacklevel=2,
            )


def _kinds(outputs: Any, targets: Any) -> tuple[Any, ...]:
    """What tells the kind of two signals; nothing where one is no tensor."""
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return ()
    return outputs.dtype, outputs.shape, targets.dtype, targets.shape
