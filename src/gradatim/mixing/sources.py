"""One data set of a mixture: its samples in the order of the current pass, resumable."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import get_worker_info

from gradatim import distributed
from gradatim.keyed import keyed_generator
from gradatim.validation import refusal

__all__ = ["Mapped", "Source", "Streamed", "Turns", "open_sources", "split_and_take", "turns"]


class Turns(NamedTuple):
    """Which samples of what streams give here belong to this process.

    Args:
        parts: how many processes take turns.
        part: whose turn is this process's.
        divided: into how many shares the streams divided themselves before.
    """

    parts: int
    part: int
    divided: int


def _divided_by(dataset: Any) -> tuple[bool, bool]:
    """Whether a stream divides itself among ranks, and among the workers of a DataLoader."""
    if getattr(dataset, "carries_on", False):
        return True, True
    kind = getattr(sys.modules.get("datasets"), "IterableDataset", None)
    hugging_face = kind is not None and isinstance(dataset, kind)
    return hugging_face and getattr(dataset, "_distributed", None) is not None, hugging_face


def turns(datasets: Sequence[Any], *, name: str = "streams", sharded: bool = False) -> Turns:
    """How samples are divided among ranks and workers, where the streams do not do it themselves.

    Args:
        datasets: read together.
        name: what the user calls them.
        sharded: they divide themselves among both, whatever they are.

    Raises:
        ValueError: some divide themselves, others do not.
    """
    info = get_worker_info()
    workers, worker = (info.num_workers, info.id) if info else (1, 0)
    world, rank = distributed.world_and_rank()
    parts, part, divided = 1, 0, 1
    by_ranks, by_workers = zip(*map(_divided_by, datasets), strict=True)
    for kind, count, own, known in (
        ("ranks", world, rank, by_ranks),
        ("workers", workers, worker, by_workers),
    ):
        if sharded or all(known):
            divided *= count
        elif any(known) and count > 1:
            number = known.index(True)
            rule = f"divided among {kind} like the others: all by themselves, or none"
            got = type(datasets[number]).__name__
            raise refusal(f"{name}[{number}]", rule, f"{got}, which divides itself")
        else:
            parts, part = parts * count, part * count + own
    return Turns(parts, part, divided)


class Source(ABC):
    """Hands out samples of one data set, pass after pass.

    Args:
        dataset: the user's.
        number: its position in the mixture.
        max_epochs: passes before it is dry; None repeats for ever.
        seed: of the order.

    State:
        ``epoch``, passes completed; ``used``, samples of the current pass handed out; ``dry``.
    """

    def __init__(self, dataset: Any, number: int, *, max_epochs: int | None, seed: int) -> None:
        self.dataset = dataset
        self.number = number
        self.max_epochs = max_epochs
        self.seed = seed
        self.epoch = 0
        self.used = 0
        self.dry = False

    def take(self, count: int) -> list[Any]:
        """The next samples, or what stands for them; fewer than asked for once it is dry."""
        taken: list[Any] = []
        while len(taken) < count and not self.dry:
            fresh = self.used == 0
            part = self.next_of_pass(count - len(taken))
            self.used += len(part)
            taken += part
            if len(taken) < count:
                if fresh and not part:
                    if turns([self.dataset]).divided > 1:  # others may have had something
                        self.dry = True
                        break
                    raise refusal(f"datasets[{self.number}]", "non-empty", "no sample in a pass")
                self.new_pass()
        return taken

    def new_pass(self) -> None:
        """End the current pass."""
        self.epoch += 1
        self.used = 0
        self.dry = self.max_epochs is not None and self.epoch >= self.max_epochs

    @abstractmethod
    def next_of_pass(self, count: int) -> list[Any]:
        """Up to ``count`` samples of the current pass, which stands at ``used``."""

    def fetch(self, taken: Any) -> Any:
        """The sample that ``take`` stands for."""
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, and the stream's own state where it has one."""
        return {"epoch": self.epoch, "used": self.used, "dry": self.dry}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch, self.used, self.dry = state["epoch"], state["used"], state["dry"]


class Mapped(Source):
    """A data set with ``__getitem__`` and ``__len__``, shuffled anew in every pass."""

    def __init__(
        self, dataset: Any, number: int, *, max_epochs: int | None, seed: int, shuffle: bool
    ) -> None:
        super().__init__(dataset, number, max_epochs=max_epochs, seed=seed)
        self.shuffle = shuffle
        self.members: torch.Tensor | None = None
        self.narrowed = 0  # how often the members changed
        self._order: tuple[tuple[int, int], torch.Tensor] | None = None

    def restrict(self, members: torch.Tensor | None) -> None:
        """Hand out only these positions from now on; a change begins a new pass."""
        same = members is self.members or (
            members is not None and self.members is not None and torch.equal(members, self.members)
        )
        if not same:
            self.members = members
            self.narrowed += 1
            self.used = 0
            self.epoch = 0
            self.dry = False

    def next_of_pass(self, count: int) -> list[int]:
        """Positions."""
        key = (self.narrowed, self.epoch)
        if self._order is None or self._order[0] != key:
            size = len(self.dataset) if self.members is None else len(self.members)
            order = torch.arange(size)
            if self.shuffle:
                generator = keyed_generator(self.seed, "mixture", self.number, *key)
                order = torch.randperm(size, generator=generator)
            self._order = (key, order if self.members is None else self.members[order])
        return self._order[1][self.used : self.used + count].tolist()

    def fetch(self, taken: int) -> Any:
        """The sample at a position."""
        return self.dataset[taken]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, and the positions it is restricted to."""
        members = None if self.members is None else self.members.clone()
        return {**super().state_dict(), "narrowed": self.narrowed, "members": members}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        super().load_state_dict(state)
        self.narrowed, self.members = state["narrowed"], state["members"]
        self._order = None


class Streamed(Source):
    """An iterable data set; one pass is one iterator.

    A stream that has ``state_dict`` and ``load_state_dict`` of its own goes on where it stood; any
    other, or any with ``reread``, is read again up to there. ``set_epoch`` is called before each
    pass where there is one. A stream of this library carries on by itself over passes, too, so its
    state goes with every state.
    """

    def __init__(
        self, dataset: Any, number: int, *, max_epochs: int | None, seed: int, reread: bool
    ) -> None:
        super().__init__(dataset, number, max_epochs=max_epochs, seed=seed)
        self._iterator: Iterator[Any] | None = None
        self._resumable = not reread and all(
            callable(getattr(dataset, name, None)) for name in ("state_dict", "load_state_dict")
        )
        self._stream_state: Any = None
        self._carries_on: bool = getattr(dataset, "carries_on", False)

    def _opened(self) -> Iterator[Any]:
        if self._iterator is None and self._carries_on:
            if not self.used:
                self.dataset.forget_resume()
            self._iterator = iter(self.dataset)
        elif self._iterator is None:
            set_epoch = getattr(self.dataset, "set_epoch", None)
            if callable(set_epoch):
                _own_epoch(self.dataset)
                set_epoch(self.epoch)
            resumed = self._resumable and self._stream_state is not None and self.used
            if resumed:
                self.dataset.load_state_dict(self._stream_state)
            self._iterator = iter(self.dataset)
            if self.used and not resumed:
                for _ in islice(self._iterator, self.used):
                    pass
            self._stream_state = None
        return self._iterator

    def next_of_pass(self, count: int) -> list[Any]:
        """Samples."""
        return list(islice(self._opened(), count))

    def new_pass(self) -> None:
        """End the current pass; the next one has an iterator of its own."""
        super().new_pass()
        self._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, and the stream's own state."""
        if self._carries_on:
            return {**super().state_dict(), "stream": self.dataset.state_dict()}
        stream = self._stream_state
        if self._resumable and self._iterator is not None and self.used:
            stream = self.dataset.state_dict()
        return {**super().state_dict(), "stream": stream}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        if self._carries_on:
            self.dataset.load_state_dict(state["stream"])
        super().load_state_dict(state)
        self._iterator = None
        self._stream_state = None if self._carries_on else state["stream"]

    def __getstate__(self) -> dict[str, Any]:
        # An open iterator cannot be sent to a worker that is spawned; where it stands can.
        stream = None if self._carries_on else self.state_dict()["stream"]
        return {**vars(self), "_iterator": None, "_stream_state": stream}


def _own_epoch(dataset: Any) -> None:
    """Give this process an epoch of its own, where Hugging Face's streams share one.

    It is in shared memory, and setting it is no single step: workers that begin a pass together
    would each add to it, and read shards in orders that do not fit together.
    """
    shared = getattr(dataset, "_epoch", None)
    alone = get_worker_info() is None and distributed.world_and_rank()[0] == 1
    if not alone and isinstance(shared, torch.Tensor) and shared.is_shared():
        dataset._epoch = shared.clone()


def open_sources(
    datasets: Sequence[Any], *, max_epochs: int | None, seed: int, shuffle: bool, reread: bool
) -> list[Source]:
    """Make a source of each data set, or refuse what is none.

    Raises:
        TypeError: neither ``__getitem__`` with ``__len__`` nor ``__iter__``.
        ValueError: no data set, or an empty one.
    """
    if not len(datasets):
        raise refusal("datasets", "one at least", "none")
    found: list[Source] = []
    for number, dataset in enumerate(datasets):
        iterable = isinstance(dataset, torch.utils.data.IterableDataset)
        if not iterable and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
            if len(dataset) == 0:
                raise refusal(f"datasets[{number}]", "non-empty", "0 samples")
            source = Mapped(dataset, number, max_epochs=max_epochs, seed=seed, shuffle=shuffle)
            found.append(source)
        elif hasattr(dataset, "__iter__") and not hasattr(dataset, "__next__"):
            stream = Streamed(dataset, number, max_epochs=max_epochs, seed=seed, reread=reread)
            found.append(stream)
        else:
            rule = "a data set with __getitem__ and __len__, or one to iterate anew for each pass"
            kind = type(dataset).__name__
            raise TypeError(str(refusal(f"datasets[{number}]", rule, kind)))
    return found


def split_and_take(
    sources: Sequence[Source], counts: torch.Tensor, refill: Any
) -> list[tuple[int, Any]]:
    """Take samples by counts; what a source lacks is split among the others by ``refill``.

    Args:
        sources: K.
        counts: int64 (K,).
        refill: given the sources that are left, bool (K,), how many samples are missing and how
            many there are; returns counts (K,), or None where no source may stand in.

    Returns:
        (source, sample or what stands for it), grouped by source.
    """
    taken: list[list[Any]] = [[] for _ in sources]
    asked = counts.tolist()
    while any(asked):
        for source, count, part in zip(sources, asked, taken, strict=True):
            part += source.take(count)
        there = sum(map(len, taken))
        missing = int(counts.sum()) - there
        live = torch.tensor([not source.dry for source in sources])
        more = refill(live, missing, there) if missing else None
        if more is None:
            break
        asked = more.tolist()
    return [(number, sample) for number, part in enumerate(taken) for sample in part]
