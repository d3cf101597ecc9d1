"""Per-sample and shared state, declared with the way ranks merge it.

A method declares what it remembers by assigning a `Table` or a `Scalar` to an attribute; the engine
allocates it, moves it to where the losses are, merges it over ranks once per epoch and saves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from gradatim import distributed
from gradatim.validation import check_choice, refusal

__all__ = ["Scalar", "Table", "last_of_each"]

Merge = Literal["last", "sum"]


def last_of_each(index: torch.Tensor) -> torch.Tensor:
    """Positions of the last occurrence of every distinct value, in the values' ascending order.

    Writing rows with repeated indices leaves it open which row wins; these rows are the winners.

    Args:
        index: int64 (R,).

    Returns:
        int64 (U,), U the number of distinct values.

    Example:
        >>> last_of_each(torch.tensor([4, 2, 4, 2, 9]))
        tensor([3, 2, 4])
    """
    ordered, position = torch.sort(index, stable=True)
    final = torch.ones_like(ordered, dtype=torch.bool)
    final[:-1] = ordered[1:] != ordered[:-1]
    return position[final]


class Table:
    """State with one row per sample.

    Args:
        name: key in checkpoints and, for tables of one value per sample, in `Curriculum.scores`.
        shape: shape of one row; () for one value per sample; None takes it from the rows that are
            written first, for what only the model knows (classes, features).
        dtype: the values' dtype. Float64 stays on the CPU where the device has none.
        fill: initial value of every entry.
        merge: ``"last"``: the row written at the later step wins, ties by the higher rank.
            ``"sum"``: what ranks added since the last merge adds up.

    State:
        values: (N, *shape), merged as declared. With several ranks also a step of the last write
        (N,), or what was added since the last merge (N, *shape).

    Example:
        >>> table = Table("loss", fill=1.0).allocate(4)
        >>> table.write(torch.tensor([2, 0]), torch.tensor([0.5, 0.25]))
        >>> table.values
        tensor([0.2500, 1.0000, 0.5000, 1.0000])
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...] | None = (),
        dtype: torch.dtype = torch.float32,
        fill: float = 0,
        merge: Merge = "last",
    ) -> None:
        if not name or "." in name:
            raise refusal("name", "a non-empty string without dots", repr(name))
        self.name = name
        self.shape = None if shape is None else tuple(shape)
        self._open_shape = shape is None
        self.dtype = dtype
        self.fill = fill
        self.merge: Merge = check_choice("merge", merge, ("last", "sum"))
        if shape is None and merge == "sum":
            raise refusal("shape", 'given where merge is "sum"', None)
        self.per_sample = True
        self._size: int | None = None
        self._device = torch.device("cpu")
        self._values: torch.Tensor | None = None
        self._written: torch.Tensor | None = None  # "last": step of each row's last local write
        self._added: torch.Tensor | None = None  # "sum": what this rank added since the merge
        self._steps: torch.Tensor | None = None  # shared: step in which each row was last observed
        self._put_off: Callable[[], None] | None = None  # writes what waits to be written

    def __repr__(self) -> str:
        return (
            f"Table({self.name!r}, shape={None if self._open_shape else self.shape}, "
            f"dtype={self.dtype}, "
            f"fill={self.fill}, merge={self.merge!r})"
        )

    def allocate(self, size: int, device: torch.device | str = "cpu") -> Table:
        """Make the storage for ``size`` samples; the engine calls this after `Method.setup`."""
        self._size, self._device = size, self._place(torch.device(device))
        self._put_off = None
        if self.shape is not None:
            rows = (size, *self.shape)
            self._values = torch.full(rows, self.fill, dtype=self.dtype, device=self._device)
            if self._steps is not None:
                self.track(self._steps)
        return self

    @property
    def allocated(self) -> bool:
        """Whether there are rows; a table of open shape has none before the first is written."""
        self.settle()
        return self._values is not None

    def take_shape(self, shape: tuple[int, ...] | None) -> None:
        """Settle an open shape, for good or (None) until the next write; for the engine."""
        if not self._open_shape or shape == self.shape:
            return
        self.shape = shape
        self._values = self._written = None
        if shape is not None and self._size is not None:
            self.allocate(self._size, self._device)

    def _place(self, device: torch.device) -> torch.device:
        lacks_float64 = device.type == "mps" and self.dtype == torch.float64
        return torch.device("cpu") if lacks_float64 else device

    def to(self, device: torch.device) -> None:
        """Move the storage; float64 stays on the CPU where ``device`` has none."""
        self._device = place = self._place(device)
        for name in ("_values", "_written", "_added"):
            held = getattr(self, name)
            if held is not None:
                setattr(self, name, held.to(place))

    @property
    def storage(self) -> torch.Tensor:
        """The merged values themselves, (N, *shape); a view for the engine, not a copy."""
        if self._put_off is not None:
            self.settle()
        if self._values is None:
            missing = "rows yet: nothing was written" if self._size is not None else "size yet"
            cause = "" if self._size is not None else ": make the loader first"
            raise RuntimeError(f"table {self.name!r} has no {missing}{cause}.")
        return self._values

    @property
    def values(self) -> torch.Tensor:
        """(N, *shape): merged values plus what this rank wrote since; read it, do not write it."""
        return self.storage if self._added is None else self.storage + self._added

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        self.settle()
        return self.untouched(index)

    def put_off(self, write: Callable[[], None]) -> None:
        """Call ``write``, which writes rows, before anyone looks at this table next.

        The end of the epoch is such a look.

        For methods that touch rows in every step: many rows at once cost a fraction of their time.

        Args:
            write: takes the place of one that was put off before: it does that one's work, too.

        Example:
            >>> table = Table("loss").allocate(2)
            >>> table.put_off(lambda: table.write(torch.tensor([1]), torch.tensor([0.5])))
            >>> table.untouched(torch.tensor([0]))  # no row that waits, so none is written yet
            tensor([0.])
            >>> table.values
            tensor([0.0000, 0.5000])
        """
        self._put_off = write

    def settle(self) -> None:
        """Write what was put off, if anything was."""
        write, self._put_off = self._put_off, None
        if write is not None:
            write()

    def untouched(self, index: torch.Tensor) -> torch.Tensor:
        """The rows at ``index`` where none of them waits to be written; writes nothing if it can.

        A table of open shape has no rows before the first are written: then these are.

        Args:
            index: int64 (R,), on any device.
        """
        values = self.storage if self._values is None else self._values
        if not (values.is_cpu and index.is_cpu):
            index = index.to(values.device)
        # A third of the time of values[index].
        rows = values.index_select(0, index)
        return rows if self._added is None else rows + self._added.index_select(0, index)

    def write(
        self,
        index: torch.Tensor,
        values: torch.Tensor,
        step: int | torch.Tensor | None = None,
    ) -> None:
        """Replace the rows at ``index`` (int64, distinct) by ``values``.

        Args:
            index: int64 (R,), distinct.
            values: (R, *shape), converted to the table's dtype and device.
            step: the step these values belong to, or int64 (R,) of them, for the merge; None
                inside `Method.observe`, where the engine knows it.

        Raises:
            TypeError: the table merges by sum.
            ValueError: rows of another shape than those before.
        """
        if self.merge != "last":
            raise TypeError(f"table {self.name!r} merges by sum: use add instead of write.")
        if self.shape is None:
            self.take_shape(tuple(values.shape[1:]))
        elif self._open_shape and tuple(values.shape[1:]) != self.shape:
            rule = f"of rows of shape {self.shape}, as before"
            raise refusal(f"table {self.name!r}", rule, tuple(values.shape[1:]))
        index = index.to(self.storage.device)
        values = values.detach() if values.requires_grad else values
        values = values.to(self.storage.device, self.dtype)
        if self.storage.is_cpu and self.storage.ndim == 1 and values.shape == index.shape:
            self.storage.scatter_(
                0, index, values
            )  # a fifth of the time of storage[index] = values
        else:
            self.storage[index] = values
        if self._written is not None:
            assert self._steps is not None
            when = self._steps[index.cpu()] if step is None else torch.as_tensor(step)
            self._written[index] = when.to(self._written.device, torch.int64)

    def add(self, index: torch.Tensor, deltas: torch.Tensor) -> None:
        """Add ``deltas`` (R, *shape) to the rows at ``index``; repeated indices add up.

        Raises:
            TypeError: the table merges by the last write.
        """
        if self.merge != "sum":
            raise TypeError(f"table {self.name!r} merges by last: use write instead of add.")
        target = self.storage if self._added is None else self._added
        rows = deltas.detach().to(target.device, self.dtype)
        target.index_add_(0, index.to(target.device), rows)

    def track(self, steps: torch.Tensor | None) -> None:
        """Start (or stop, with None) to remember what this rank wrote; needed with several ranks.

        Args:
            steps: int64 (N,) on the CPU, shared by all tables: when each row was last observed.
        """
        self.settle()
        self._steps = steps
        if steps is None:
            self._written = self._added = None
        elif self._values is None:
            return
        elif self.merge == "sum":
            if self._added is None:
                self._added = torch.zeros_like(self.storage)
        elif self._written is None:
            size, device = self.storage.shape[0], self.storage.device
            self._written = torch.full((size,), -1, dtype=torch.int64, device=device)

    @property
    def expected(self) -> str:
        """What `restore` takes, in words."""
        if self._open_shape:
            return f"one row per sample and dtype {self.dtype}"
        return f"shape {(self._size, *(self.shape or ()))} and dtype {self.dtype}"

    def takes(self, values: torch.Tensor | None, size: int) -> bool:
        """Whether `restore` can take these values of a checkpoint."""
        if values is None:
            return self._open_shape
        fits = self._open_shape or tuple(values.shape[1:]) == self.shape
        return fits and values.shape[0] == size and values.dtype == self.dtype

    def restore(self, values: torch.Tensor | None) -> None:
        """Put back all rows of a checkpoint; None where there were none."""
        self.take_shape(None if values is None else tuple(values.shape[1:]))
        if values is not None:
            self.storage.copy_(values)

    def local_rows(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What this rank wrote since the last merge: index (R,), rows (R, *shape), steps (R,)."""
        self.settle()
        if self._added is not None:
            changed = self._added.reshape(self._added.shape[0], -1).ne(0).any(1)
            index = changed.nonzero().squeeze(1)
            return index, self._added[index], torch.zeros_like(index)
        if self._written is not None:
            index = (self._written >= 0).nonzero().squeeze(1)
            return index, self.storage[index], self._written[index]
        empty = torch.zeros(0, dtype=torch.int64, device=self._device)
        return empty, empty if self._values is None else self._values[:0], empty

    def restore_rows(self, index: torch.Tensor, rows: torch.Tensor, steps: torch.Tensor) -> None:
        """Put back what `local_rows` gave; the table must be tracked if any row is given."""
        index = index.to(self.storage.device)
        if self._added is not None:
            self._added.index_add_(0, index, rows.to(self._added.device, self.dtype))
        elif self.merge == "sum":
            self.storage.index_add_(0, index, rows.to(self.storage.device, self.dtype))
        else:
            self.storage[index] = rows.to(self.storage.device, self.dtype)
            if self._written is not None:
                self._written[index] = steps.to(self._written.device)

    def merge_ranks(self) -> None:
        """Bring all ranks to the same values (collective); without other ranks nothing happens."""
        self.agree_on_shape()
        if self._values is None:
            return
        index, rows, steps = distributed.gather_rows(self.local_rows())
        if self._added is not None:
            self.storage.index_add_(0, index, rows)
            self._added.zero_()
        elif self._written is not None:
            # gather_rows keeps rank order and the sort is stable: ties go to the higher rank.
            order = torch.argsort(steps, stable=True)
            order = order[last_of_each(index[order])]
            self.storage[index[order]] = rows[order]
            self._written.fill_(-1)

    def agree_on_shape(self) -> None:
        """Let ranks that wrote nothing know an open shape from those that did (collective)."""
        self.settle()
        if self._open_shape:
            known = (shape for shape in distributed.gather_objects(self.shape) if shape is not None)
            self.take_shape(next(known, None))


class Scalar:
    """One number that all ranks share: a running mean, a threshold.

    Args:
        name: key in checkpoints.
        fill: initial value.
        merge: ``"last"``: for values that every rank computes alike, or only rank by rank; the
            highest rank's wins. ``"sum"``: what ranks added since the last merge adds up.

    State:
        value: float64, 0-d, on the device of the losses (the CPU where it has no float64).

    Example:
        >>> tau = Scalar("tau", fill=2.0)
        >>> tau.write(torch.tensor(0.5))
        >>> float(tau.value)
        0.5
    """

    def __init__(self, name: str, merge: Merge = "last", fill: float = 0.0) -> None:
        self._table = Table(name, dtype=torch.float64, fill=fill, merge=merge).allocate(1)
        self._table.per_sample = False
        self.name = name
        self.fill = fill
        self.merge: Merge = self._table.merge

    def __repr__(self) -> str:
        return f"Scalar({self.name!r}, merge={self.merge!r}, fill={self.fill})"

    @property
    def table(self) -> Table:
        """The one-row table underneath; the engine saves and merges it like any other."""
        return self._table

    @property
    def value(self) -> torch.Tensor:
        """0-d float64: the merged value plus what this rank wrote since."""
        return self._table.values[0]

    def write(self, value: torch.Tensor | float) -> None:
        """Replace the value, without waiting for the device.

        Raises:
            TypeError: the scalar merges by sum.
        """
        table = self._table
        if table.merge != "last":
            raise TypeError(f"scalar {self.name!r} merges by sum: use add instead of write.")
        table.storage[0] = value.detach() if isinstance(value, torch.Tensor) else value
        if table._written is not None:
            table._written.fill_(0)

    def add(self, value: torch.Tensor | float) -> None:
        """Add to the value, without waiting for the device.

        Raises:
            TypeError: the scalar merges by the last write.
        """
        table = self._table
        if table.merge != "sum":
            raise TypeError(f"scalar {self.name!r} merges by last: use write instead of add.")
        target = table.storage if table._added is None else table._added
        target.add_(value.detach() if isinstance(value, torch.Tensor) else value)


def declared(owner: Any) -> dict[str, Table]:
    """Every table that ``owner`` declares by attribute, by name; scalars by the table underneath.

    Raises:
        ValueError: two of them share a name.
    """
    found: dict[str, Table] = {}
    for held in vars(owner).values():
        table = held.table if isinstance(held, Scalar) else held
        if isinstance(table, Table):
            if table.name in found and found[table.name] is not table:
                raise refusal("name", "different for each table of a method", repr(table.name))
            found[table.name] = table
    return found
