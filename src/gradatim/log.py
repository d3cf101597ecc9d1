"""Observations of an epoch, kept where the losses are until they are applied in one pass.

Writing tables at every step costs hundreds of microseconds; appending costs a few. What methods
see is the same as with one update per batch: rows arrive in rounds in which no sample repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from gradatim.clock import Moment

__all__ = ["LIMIT_BYTES", "Log", "distinct", "rounds"]

_RATES = ("learning_rate", "previous_rate", "clock")  # in the order of Moment
_NO_RATES = Moment()

LIMIT_BYTES = 256 * 2**20

_Entry = tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor], int, Moment]


class Log:
    """Rows (index, losses, columns) with their steps, learning rates and clocks.

    Example:
        >>> log = Log()
        >>> log.append(torch.tensor([3, 1]), torch.tensor([0.5, 0.2]), {}, step=0)
        >>> log.rows()["index"]
        tensor([3, 1])
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        # One entry per call, (index, losses, columns, step, rates): a list per
        # column would cost each step five times the appends.
        self._entries: list[_Entry] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def append(
        self,
        index: torch.Tensor,
        losses: torch.Tensor | None,
        columns: dict[str, torch.Tensor],
        *,
        step: int,
        now: Moment = _NO_RATES,
        copied: bool = False,
    ) -> None:
        """Keep one batch. Values are copied: the caller may change them in place afterwards.

        Args:
            index: int64 (B,), kept as it is.
            losses: (B,), detached; None where nobody reads them: zeros stand for them.
            columns: what else is kept, each with first dimension B.
            step: the engine's step.
            now: the rates around it.
            copied: the columns are nobody else's: they are kept as they are.
        """
        kept = losses
        if losses is not None:
            # clone() takes half the time of to(copy=True).
            kept = losses.clone() if losses.dtype == torch.float32 else losses.float()
        if columns and not copied:
            columns = {name: column.detach().clone() for name, column in columns.items()}
        size = 12 * index.numel()
        for column in columns.values():
            size += column.numel() * column.element_size()  # nbytes takes a microsecond
        self.bytes += size
        self._entries.append((index, kept, columns, step, now))

    def rows(self) -> dict[str, Any]:
        """All rows: index, losses, step, rates and clock (R,) and the dict columns."""
        index, losses, columns, step, moments = zip(*self._entries, strict=True)
        names = columns[0].keys()
        if any(part.keys() != names for part in columns):
            raise RuntimeError("a method's record must give the same columns in every call.")
        rates, previous, times = ([*map(float, each)] for each in zip(*moments, strict=True))
        lengths = torch.tensor(list(map(torch.Tensor.numel, index)))
        count = int(lengths.sum())

        def spread(values: Sequence[Any], dtype: torch.dtype) -> torch.Tensor:
            if values.count(values[0]) == len(values):  # a constant rate, or none that is wanted
                return torch.full((count,), values[0], dtype=dtype)
            each = torch.tensor(values, dtype=dtype)
            return each.repeat_interleave(lengths, output_size=count)

        return {
            "index": torch.cat(index),
            "losses": torch.cat([*map(_losses, index, losses)])
            if any(part is not None for part in losses)
            else torch.zeros(count),
            "step": spread(step, torch.int64),
            "learning_rate": spread(rates, torch.float64),
            "previous_rate": spread(previous, torch.float64),
            "clock": spread(times, torch.float64),
            "columns": {name: torch.cat([part[name] for part in columns]) for name in columns[0]},
        }

    def to(self, device: torch.device) -> None:
        """Move losses and columns; the index stays on the CPU."""
        moved: list[_Entry] = []
        for index, losses, columns, step, now in self._entries:
            columns = {name: column.to(device) for name, column in columns.items()}
            moved.append((index, _losses(index, losses).to(device), columns, step, now))
        self._entries = moved

    def restore(self, rows: dict[str, Any], device: torch.device) -> None:
        """Take back what `rows` gave, one entry per step."""
        self.clear()
        index = rows["index"]
        if not index.numel():
            return
        steps, lengths = torch.unique_consecutive(rows["step"], return_counts=True)
        first = lengths.cumsum(0) - lengths
        parts = {
            name: column.to(device).split(lengths.tolist())
            for name, column in rows["columns"].items()
        }
        losses = rows["losses"].to(device).split(lengths.tolist())
        for number, own in enumerate(index.split(lengths.tolist())):
            self.append(
                own,
                losses[number],
                {name: part[number] for name, part in parts.items()},
                step=int(steps[number]),
                now=Moment(*(float(rows[name][first[number]]) for name in _RATES)),
            )


def _losses(index: torch.Tensor, losses: torch.Tensor | None) -> torch.Tensor:
    return torch.zeros(index.numel()) if losses is None else losses


def _averaged(rows: dict[str, Any]) -> dict[str, Any]:
    """Average what one step saw of one sample; a batch drawn with replacement repeats samples."""
    span = int(rows["index"].max()) + 1
    start = rows["step"].min()
    key = (rows["step"] - start) * span + rows["index"]
    known, group = torch.unique(key, return_inverse=True)
    if known.numel() == key.numel():
        return rows
    count = known.numel()
    first = torch.full((count,), key.numel(), dtype=torch.int64)
    first.scatter_reduce_(0, group, torch.arange(key.numel()), "amin")

    def mean(values: torch.Tensor) -> torch.Tensor:
        where = group.to(values.device)
        if not values.is_floating_point():
            return values[first.to(values.device)]
        total = values.new_zeros((count, *values.shape[1:]))
        total.index_add_(0, where, values)
        repeats = torch.bincount(where, minlength=count).to(values.dtype)
        return total / repeats.reshape(-1, *[1] * (values.ndim - 1))

    return {
        "index": known % span,
        "losses": mean(rows["losses"]),
        "step": known // span + start,
        **{name: rows[name][first] for name in _RATES},
        "columns": {name: mean(column) for name, column in rows["columns"].items()},
    }


def distinct(index: torch.Tensor) -> bool:
    """Whether no sample repeats; without a sort where the indices are dense enough.

    Args:
        index: int64 (R,), at least 0.

    Example:
        >>> distinct(torch.tensor([4, 0, 2])), distinct(torch.tensor([4, 0, 4]))
        (True, False)
    """
    if not index.numel():
        return True
    span = int(index.max()) + 1
    if span > 64 * index.numel():
        return torch.unique(index).numel() == index.numel()
    met = torch.zeros(span, dtype=torch.bool)
    met[index] = True
    # NumPy counts set bits of a mask a hundred times faster than torch.
    return int(np.count_nonzero(met.numpy())) == index.numel()


def rounds(rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Split rows so that no sample repeats within a round and its own order is kept.

    Args:
        rows: what `Log.rows` gives.

    Yields:
        The same columns; together they hold every row once, repeats within a step averaged.

    Example:
        >>> log = Log()
        >>> log.append(torch.tensor([3, 1]), torch.tensor([0.5, 0.2]), {}, step=0)
        >>> log.append(torch.tensor([3, 2]), torch.tensor([0.4, 0.1]), {}, step=1)
        >>> [part["index"].tolist() for part in rounds(log.rows())]
        [[3, 1, 2], [3]]
    """
    if distinct(rows["index"]):
        yield rows
        return
    rows = _averaged(rows)
    ordered, order = torch.sort(rows["index"], stable=True)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    place = torch.arange(ordered.numel())
    visit = torch.empty_like(place)
    visit[order] = place - torch.where(fresh, place, 0).cummax(0).values
    order = torch.argsort(visit, stable=True)
    for own in order.split(torch.bincount(visit).tolist()):
        yield {
            name: (
                {key: column[own.to(column.device)] for key, column in values.items()}
                if name == "columns"
                else values[own.to(values.device)]
            )
            for name, values in rows.items()
        }
