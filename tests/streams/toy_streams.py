"""Streams for the tests: one without a state, one with, and Hugging Face's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info


class Plain(IterableDataset):
    """Gives these samples, pass after pass; counts what is read in this process."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples
        self.given = 0

    def __iter__(self) -> Iterator[Any]:
        for sample in self.samples:
            self.given += 1
            yield sample


class Stateful(Plain):
    """Knows where it stands."""

    def __init__(self, samples: list[Any]) -> None:
        super().__init__(samples)
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        start, self.at = self.at, 0
        for place in range(start, len(self.samples)):
            self.at = place + 1
            self.given += 1
            yield self.samples[place]
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class Sharded(Plain):
    """Divides itself among workers, as its user wrote it."""

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        count, number = (worker.num_workers, worker.id) if worker else (1, 0)
        return iter(self.samples[number::count])


def numbers(size: int, seed: int = 0) -> list[int]:
    """0 to size - 1, shuffled."""
    found = list(range(size))
    random.Random(seed).shuffle(found)
    return found


def hugging_face(values: list[int], *, shards: int = 4, shuffled: bool = False) -> Any:
    """Dicts {"x": value}, from Hugging Face's data sets."""
    import datasets

    table = datasets.Dataset.from_dict({"x": values})
    stream = table.to_iterable_dataset(num_shards=shards)
    return stream.shuffle(seed=1, buffer_size=8) if shuffled else stream


def x_of(sample: dict[str, int]) -> int:
    """Their score."""
    return sample["x"]
