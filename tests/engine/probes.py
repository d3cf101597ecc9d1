"""Data and methods whose right answers are known in advance, for the tests of the engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset

import gradatim as gr


class Samples(Dataset):
    """Sample k is the number k: a loss that is the batch itself says which samples it is about."""

    def __init__(self, size: int = 20) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, k: int) -> torch.Tensor:
        if not 0 <= k < self.size:
            raise IndexError(k)
        return torch.tensor(float(k))


class LastLoss(gr.Method):
    """Remembers the last loss of each sample in a table; NaN where there was none."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def setup(self, run: gr.Run) -> None:
        self.loss = gr.Table("loss", dtype=self.dtype, fill=math.nan)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.loss.write(batch.index, batch.losses)


class Average(gr.Method):
    """An exponential average of each sample's losses, from 0: every single update shows in it."""

    def setup(self, run: gr.Run) -> None:
        self.average = gr.Table("average", dtype=torch.float64)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        old = self.average[batch.index]
        self.average.write(batch.index, 0.75 * old + 0.25 * batch.losses.to(old))


class Visits(gr.Method):
    """Counts how often each sample was observed."""

    def setup(self, run: gr.Run) -> None:
        self.visits = gr.Table("visits", dtype=torch.int64, merge="sum")

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.visits.add(batch.index, torch.ones_like(batch.index))


class Diary(gr.Method):
    """Writes down every observed row: `COLUMNS`."""

    COLUMNS = ("index", "loss", "step", "learning_rate", "clock", "previous_rate", "surveyed")

    def __init__(self, wants: tuple[str, ...] = ()) -> None:
        self.wants = wants
        self.rows: list[tuple[Any, ...]] = []
        self.signals: list[dict[str, Any]] = []

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        rates = (batch.learning_rate, batch.clock, batch.previous_rate)
        columns = (batch.index, batch.losses, batch.step, *rates)
        listed = (column.tolist() for column in columns)  # type: ignore[union-attr]
        self.rows += [(*row, batch.surveyed) for row in zip(*listed, strict=True)]
        self.signals.append(batch.signals)

    def column(self, name: str) -> list[Any]:
        """One column of all rows, in the order of observation."""
        place = self.COLUMNS.index(name)
        return [row[place] for row in self.rows]


class Weighed(gr.Method):
    """Gives sample k the weight ``weights[k]``."""

    def __init__(self, weights: Any, reduction: str = "mean") -> None:
        self.weights = torch.as_tensor(weights)
        self.reduction = reduction  # type: ignore[assignment]

    def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor:
        return self.weights[batch.index]


class Planned(gr.Method):
    """Plans with the functions it is given, one per epoch; the last one holds from then on."""

    def __init__(self, *plans: Any) -> None:
        self.plans = plans

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        return self.plans[min(run.epoch, len(self.plans) - 1)](pool)


class Prefix(gr.Method):
    """Epoch e uses the first ``sizes[e]`` samples that are left; the last size holds after that."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def _size(self, epoch: int) -> int:
        return self.sizes[min(epoch, len(self.sizes) - 1)]

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        return pool.keep(torch.arange(min(self._size(run.epoch), pool.index.numel())))

    def planned_size(self, size: int, epoch: int) -> int:
        return min(size, self._size(epoch))


class Highest(gr.Method):
    """Selects the k candidates of the highest loss."""

    def select(self, batch: gr.Batch, k: int, run: gr.Run) -> torch.Tensor:
        return batch.losses.topk(k).indices


class Squared(gr.Method):
    """Trains on the squared error of the first logit in its epochs, and says so."""

    def __init__(self, epochs: tuple[int, ...] = (0,)) -> None:
        self.epochs = epochs

    def criterion(
        self, logits: torch.Tensor, targets: torch.Tensor, run: gr.Run
    ) -> torch.Tensor | None:
        return (logits[:, 0] - targets) ** 2 if run.epoch in self.epochs else None

    def replaces_criterion(self, run: gr.Run) -> bool:
        return run.epoch in self.epochs


def train(
    curriculum: gr.Curriculum, loader: gr.CurriculumLoader, epochs: int = 1
) -> list[list[int]]:
    """Run epochs over `Samples` with each sample's own number as its loss; the order of each."""
    orders = []
    for _ in range(epochs):
        order: list[int] = []
        for batch in loader:
            order += batch.long().tolist()
            curriculum(batch)
        orders.append(order)
    return orders


def batches(
    curriculum: gr.Curriculum, loader: gr.CurriculumLoader
) -> Iterator[tuple[torch.Tensor, list[int]]]:
    """One epoch, each batch with the samples the curriculum says are in it; call it yourself."""
    for batch in loader:
        yield batch, curriculum.index.tolist()


def same(ours: Any, theirs: Any) -> bool:
    """Whether two states are equal to the bit, whatever they are nested in; NaN equals NaN."""
    if isinstance(ours, torch.Tensor):
        return (
            isinstance(theirs, torch.Tensor)
            and (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            and bool(((ours == theirs) | ((ours != ours) & (theirs != theirs))).all())
        )
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and (ours == theirs or (ours != ours and theirs != theirs))
