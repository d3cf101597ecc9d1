"""What was seen in an epoch: kept until it is applied to tables and merged over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradatim.clock import Moment
from gradatim.log import LIMIT_BYTES, Log, rounds
from gradatim.method import Batch, Method, Run, overrides
from gradatim.table import Table
from gradatim.validation import check_finite, refusal

__all__ = ["Observations"]


_NONE: dict[str, torch.Tensor] = {}  # the columns of most methods, shared by all steps
_NO_RATES = Moment()


class Observations:
    """The methods' tables, and the log of what they have not observed yet.

    Args:
        methods: the curriculum's methods, in order.
        run: where training stands.
        device: where tables live; None is where the losses are.
        nonfinite: what becomes of observations that are not finite, ``"raise"`` or ``"skip"``.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        run: Run,
        *,
        device: torch.device | None,
        nonfinite: str,
    ) -> None:
        self.methods = methods
        self.run = run
        self.device = device
        self.nonfinite = nonfinite
        self.log = Log()
        self.log_limit_bytes = LIMIT_BYTES
        self._observing = [method for method in methods if overrides(method, "observe")]
        # What is to be skipped because of its loss, or looked at later, must be kept.
        self._needs_losses = nonfinite == "skip" or any(
            method.reads_losses for method in self._observing
        )
        self._recording: list[tuple[str, Method]] = []
        self._recording_epoch = -1
        self.placed = device is not None  # whether tables are where they stay
        self._observed_at: torch.Tensor | None = None  # step in which each sample was seen last

    def tables(self) -> list[Table]:
        """All tables of all methods."""
        return [table for method in self.methods for table in method.tables().values()]

    def place(self, device: torch.device) -> None:
        """Move tables to where the losses are, once."""
        if not self.placed and device != self.device:
            for table in self.tables():
                table.to(device)
            self.log.to(device)  # of a checkpoint that was loaded before the first losses came
        self.placed = True
        self.device = self.device or device

    @property
    def recording(self) -> list[tuple[str, Method]]:
        """Methods that remember more of this epoch's batches than losses, with their prefixes."""
        if self._recording_epoch != self.run.epoch:
            self._recording_epoch = self.run.epoch
            self._recording = [
                (f"{number}.", method)
                for number, method in enumerate(self._observing)
                if method.records(self.run.epoch)
            ]
        return self._recording

    def remember_losses(
        self, index: torch.Tensor, losses: torch.Tensor, step: int, now: Moment | None
    ) -> None:
        """As `remember`, without a batch around them, where no method records anything else."""
        kept = losses if self._needs_losses or not losses.is_cpu else None
        self.log.append(index, kept, _NONE, step=step, now=_NO_RATES if now is None else now)

    def remember(
        self, batch: Batch, rows: torch.Tensor | None = None, now: Moment | None = None
    ) -> None:
        """Log what methods will observe (of these rows); nothing waits for the device."""
        index: torch.Tensor = batch.index
        if not self._observing or not index.numel():
            return
        columns: dict[str, torch.Tensor] = _NONE
        if recording := self.recording:
            columns = {}
            for prefix, method in recording:
                for name, column in method.record(batch, self.run).items():
                    columns[prefix + name] = column if name in method.fresh else _kept(column)
        # Those on the CPU were looked at in the call.
        losses = batch.losses if self._needs_losses or not batch.losses.is_cpu else None
        if rows is not None:
            rows = rows[rows < batch.size]  # the others only pad
            if not rows.numel():
                return
            index = _rows(index, rows)
            losses = None if losses is None else _rows(losses, rows)
            columns = {name: _rows(column, rows) for name, column in columns.items()}
        step, moment = int(batch.step), _NO_RATES if now is None else now
        self.log.append(index, losses, columns, step=step, now=moment, copied=True)

    def apply_log(self, *, surveyed: bool = False) -> None:
        """Hand the logged rows to the methods, which write their tables."""
        if not len(self.log):
            return
        rows = self.log.rows()
        if self.nonfinite == "raise":
            check_finite("losses", rows["losses"], rows["index"])
        else:
            finite = torch.isfinite(rows["losses"])
            for column in rows["columns"].values():
                if column.is_floating_point():
                    finite &= column.isfinite().reshape(len(column), -1).all(1).to(finite.device)
            if not bool(finite.all()):
                rows = _part(rows, finite.nonzero().squeeze(1))
        self.log.clear()
        if not rows["index"].numel():
            return
        if not self._needs_losses:
            rows["losses"] = torch.full_like(rows["losses"], torch.nan)
        for part in rounds(rows):
            if self.run.world > 1:
                self._last_observed()[part["index"]] = part["step"]
            for number, method in enumerate(self._observing):
                prefix = f"{number}."
                own = {
                    name.removeprefix(prefix): column
                    for name, column in part["columns"].items()
                    if name.startswith(prefix)
                }
                batch = Batch(
                    part["index"].to(part["losses"].device),
                    part["losses"],
                    own,
                    self.run.epoch,
                    part["step"],
                    part["learning_rate"],
                    part["clock"],
                    surveyed,
                    previous_rate=part["previous_rate"],
                )
                method.observe(batch, self.run)

    def _last_observed(self) -> torch.Tensor:
        if self._observed_at is None:
            self._observed_at = torch.full((self.run.size,), -1, dtype=torch.int64)
        return self._observed_at

    def track(self) -> None:
        """Let tables remember what this rank writes, where there are other ranks to tell."""
        tables = self.tables()
        if tables and self.run.world > 1:
            steps = self._last_observed()
            for table in tables:
                table.track(steps)

    def reset_tracking(self) -> None:
        """Forget what this rank wrote since the last merge: it is merged, or loaded over."""
        self._observed_at = None
        for table in self.tables():
            table.track(None)

    def merge(self, *, surveyed: bool = False) -> None:
        """Apply the log and bring all ranks to the same tables (collective)."""
        self.track()
        self.apply_log(surveyed=surveyed)
        if self.run.world > 1:
            for table in self.tables():
                table.merge_ranks()
            # What methods write between epochs they write alike on all ranks: nothing to merge.
            self.reset_tracking()


def check_rows(rows: Any, size: int) -> None:
    """Refuse what are no positions in a batch of this size."""
    if not isinstance(rows, torch.Tensor) or rows.dtype != torch.int64 or rows.ndim != 1:
        raise refusal("observed rows", "a tensor, int64 and one-dimensional", rows)
    if not rows.is_cpu:
        raise refusal("observed rows", "on the CPU", rows)
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < size:
        raise refusal("observed rows", f"positions in [0, {size})", rows)


def _kept(values: torch.Tensor) -> torch.Tensor:
    """A copy: the user may change the tensors of a call in place afterwards."""
    return (values.detach() if values.requires_grad else values).clone()


def _rows(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return values[rows.to(values.device)]


def _part(rows: dict[str, Any], keep: torch.Tensor) -> dict[str, Any]:
    def cut(values: torch.Tensor) -> torch.Tensor:
        return values[keep.to(values.device)]

    parts: dict[str, Any] = {
        name: cut(values) for name, values in rows.items() if name != "columns"
    }
    parts["columns"] = {name: cut(column) for name, column in rows["columns"].items()}
    return parts
