"""The DataLoader of a curriculum: every sample travels with its index.

A wrapper of the data set returns the index, a wrapper of the collate function keeps it, the loader
takes it off: the batch a training loop sees is exactly what it was. Nothing is counted beside the
data, so workers, their order, and readers ahead cannot put an observation on another sample.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    default_collate,
    get_worker_info,
)
from torch.utils.data._utils.pin_memory import pin_memory

from gradatim.streams.drawn import Drawn, drawn
from gradatim.streams.inlet import is_stream
from gradatim.undisturbed import RandomStates, seed_numpy
from gradatim.validation import check_choice, check_count, refusal

if TYPE_CHECKING:
    from gradatim.curriculum import Curriculum

__all__ = ["INDEX_KEY", "CurriculumLoader"]

INDEX_KEY = "_gradatim_index"
"""Key under which dict batches carry their index with ``carry="key"``."""


class Fetched:
    """Samples with their index codes, between data set and collate function."""

    __slots__ = ("codes", "items")

    def __init__(self, codes: list[int], items: Any) -> None:
        self.codes = codes
        self.items = items


class Carried:
    """A collated batch with its index, between collate function and loader."""

    __slots__ = ("batch", "index")

    def __init__(self, batch: Any, index: bytes) -> None:
        self.batch = batch
        # Bytes, not a tensor: each tensor from a worker costs a shared-memory descriptor.
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return Carried, (self.batch, self.index)

    def pin_memory(self) -> Carried:
        """Pin the batch; without this method DataLoader would leave it unpinned, silently."""
        return Carried(pin_memory(self.batch), self.index)

    def index_tensor(self) -> torch.Tensor:
        """int64 (B,); negative entries ``~index`` mark rows that only pad ranks."""
        return torch.frombuffer(bytearray(self.index), dtype=torch.int64)


def _mixed(*numbers: int) -> int:
    """Mix small ints into 64 well-spread bits (the finaliser of splitmix64)."""
    mask = 2**64 - 1
    state = 0
    for number in numbers:
        state = (state + (number & mask) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state


class IndexedDataset(Dataset):
    """The user's data set, answering with samples and their index codes.

    A code is ``epoch * size + index`` with seeded augmentation, else the index; ``~code`` marks
    padding. The epoch travels in the code because persistent workers hold an old copy of this.
    """

    def __init__(self, dataset: Any, *, augmentation_seed: int | None = None) -> None:
        self.dataset = dataset
        self.augmentation_seed = augmentation_seed
        self.size = len(dataset)

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, codes: list[int]) -> Fetched:
        plain = [code if code >= 0 else ~code for code in codes]
        if self.augmentation_seed is not None:
            return self._seeded(codes, plain)
        fetch = getattr(self.dataset, "__getitems__", None)
        items = fetch(plain) if callable(fetch) else [self.dataset[index] for index in plain]
        return Fetched(codes, items)

    def _seeded(self, codes: list[int], plain: list[int]) -> Fetched:
        """Fetch each sample under random states that depend on (seed, epoch, index) alone."""
        in_worker = get_worker_info() is not None
        saved = None if in_worker else RandomStates()
        items, index = [], []
        assert self.augmentation_seed is not None
        try:
            for code, number in zip(codes, plain, strict=True):
                position = number % self.size
                seed = _mixed(self.augmentation_seed, number)
                # The default generator's own method is ten times faster than torch's function.
                torch.default_generator.manual_seed(seed >> 1)
                random.seed(seed)
                seed_numpy(seed)  # what augmentations read
                items.append(self.dataset[position])
                index.append(position if code >= 0 else ~position)
        finally:
            if saved is not None:
                saved.restore()
        return Fetched(index, items)


class IndexedCollate:
    """The user's collate function, keeping the index beside the batch or under `INDEX_KEY`."""

    def __init__(self, collate_fn: Callable[[Any], Any], *, keyed: bool = False) -> None:
        self.collate_fn = collate_fn
        self.keyed = keyed

    def __call__(self, fetched: Fetched) -> Any:
        batch = self.collate_fn(fetched.items)
        index = array("q", fetched.codes).tobytes()
        if not self.keyed:
            return Carried(batch, index)
        if not isinstance(batch, Mapping):
            raise TypeError(
                'carry must be "hidden" for batches that are not dicts. Got "key" and a batch of '
                f"type {type(batch).__name__}."
            )
        if INDEX_KEY in batch:
            raise refusal("dataset", f"free of the reserved key {INDEX_KEY!r}", "a sample with it")
        tensor = torch.frombuffer(bytearray(index), dtype=torch.int64)
        cast("MutableMapping[str, Any]", batch)[INDEX_KEY] = tensor
        return batch


class WorkerStart:
    """The user's worker_init_fn, which finds the user's own data set in the worker's info."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self.worker_init_fn = worker_init_fn

    def __call__(self, worker: int) -> None:
        info = get_worker_info()
        if info is not None and isinstance(info.dataset, IndexedDataset):
            # The object of this worker alone; its class refuses assignment.
            inner = info.dataset.dataset
            own = inner.stream if isinstance(inner, Drawn) else inner
            object.__setattr__(info, "dataset", own)
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker)


class PlanSampler(DistributedSampler):
    """This rank's share of the plan.

    It is a `DistributedSampler` because trainers shard any other sampler once more; nothing of
    that class is used. Each ``iter`` is fresh and lazy: DataLoader calls it twice per epoch.
    """

    def __init__(self, curriculum: Curriculum) -> None:
        self.curriculum = curriculum
        self.drop_last = False  # the plan is already cut
        self.shuffle = False

    @property
    def num_replicas(self) -> int:
        """Number of processes."""
        return self.curriculum.epochs.run.world

    @property
    def rank(self) -> int:
        """This process."""
        return self.curriculum.epochs.run.rank

    @property
    def epoch(self) -> int:
        """Epochs completed; the curriculum counts them."""
        return self.curriculum.epoch

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the curriculum owns the epoch."""

    def __len__(self) -> int:
        self.curriculum.epochs.look_up_world()
        return self.curriculum.epochs.samples_per_rank()

    def __iter__(self) -> Iterator[int]:
        return self.curriculum.epochs.rank_codes()


class PlanBatchSampler(BatchSampler):
    """Batches of the plan; the batch size is read anew, since a method may scale it per epoch."""

    def __init__(self, sampler: PlanSampler) -> None:
        self.sampler = sampler
        self.curriculum = sampler.curriculum
        self.drop_last = False

    @property
    def batch_size(self) -> int:
        """Samples per batch and rank in the current epoch."""
        return self.curriculum.epochs.batch_size

    def __len__(self) -> int:
        return self.curriculum.epochs.steps()

    def __iter__(self) -> Iterator[list[int]]:
        codes = iter(self.sampler)
        size = self.batch_size
        while batch := list(islice(codes, size)):
            yield batch


class CurriculumLoader(DataLoader):
    """A DataLoader whose batches follow a curriculum; made by `Curriculum.loader`.

    `len` is the coming epoch's number of batches. ``loader.dataset`` and ``loader.collate_fn`` are
    the user's own objects. See `Curriculum.loader` for the arguments.

    Example:
        >>> import gradatim as gr
        >>> data = torch.utils.data.TensorDataset(torch.arange(6.0))
        >>> curriculum = gr.Curriculum(gr.Uniform(), seed=0)
        >>> loader = curriculum.loader(data, batch_size=4)
        >>> len(loader), loader.dataset is data
        (2, True)
        >>> for (x,) in loader:  # the batch is what it would be without a curriculum
        ...     print(x.shape, float(curriculum(torch.ones_like(x))))
        torch.Size([4]) 1.0
        torch.Size([2]) 1.0
    """

    def __init__(
        self,
        curriculum: Curriculum,
        dataset: Any,
        batch_size: int,
        *,
        steps_per_epoch: int | None = None,
        seed_augmentation: bool = False,
        read_ahead: bool = False,
        carry: str = "hidden",
        **dataloader_arguments: Any,
    ) -> None:
        for name in ("shuffle", "sampler", "batch_sampler"):
            if dataloader_arguments.pop(name, None) not in (None, False):
                raise TypeError(
                    f"{name} must be left to the curriculum, which decides the order. "
                    "Use gradatim.Predefined for an order of your own."
                )
        stream = is_stream(dataset)
        if not stream and not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            kind = type(dataset).__name__
            raise TypeError(f"dataset must have __getitem__ and __len__. Got {kind}.")
        check_count("batch_size", batch_size, at_least=1)
        if steps_per_epoch is not None:
            check_count("steps_per_epoch", steps_per_epoch, at_least=1)
        check_choice("carry", carry, ("hidden", "key"))
        given = dataset
        if stream:
            bound = curriculum.epochs.bound
            dataset = drawn(curriculum.methods, given, batch_size, steps_per_epoch, bound=bound)
            if seed_augmentation:
                raise refusal("seed_augmentation", "False for a stream", True)
        if len(dataset) == 0:
            raise refusal("dataset", "non-empty", "0 samples")

        drop_last = bool(dataloader_arguments.get("drop_last", False))
        own_generator = None
        if dataloader_arguments.get("generator") is None:
            # iter(DataLoader) would draw the workers' seed from the global generator.
            dataloader_arguments["generator"] = own_generator = torch.Generator()
        collate_fn = dataloader_arguments.pop("collate_fn", None) or default_collate
        sampler = PlanSampler(curriculum)
        super().__init__(
            dataset, batch_size, sampler=sampler, collate_fn=collate_fn, **dataloader_arguments
        )
        # DataLoader builds a batch sampler of fixed size and then forbids to set another.
        vars(self)["batch_sampler"] = PlanBatchSampler(sampler)
        vars(self)["dataset"] = given
        self.curriculum = curriculum
        self.carry = carry
        self._own_generator = own_generator
        self._seed_augmentation = seed_augmentation
        self._indexed = IndexedDataset(dataset)
        self._collate = IndexedCollate(collate_fn, keyed=carry == "key")
        curriculum.epochs.bind(
            self,
            size=len(dataset),
            batch_size=batch_size,
            drop_last=drop_last,
            steps_per_epoch=steps_per_epoch,
            read_ahead=read_ahead,
            coded_epochs=seed_augmentation,
        )

    def __len__(self) -> int:
        self.curriculum.epochs.look_up_world()
        return self.curriculum.epochs.steps()

    @property
    def _is_accelerate_prepared(self) -> bool:
        # `Accelerator.prepare` asks before anything else. It would build another loader, without
        # the index; said to be prepared already, this one would keep from it when an epoch ends.
        raise TypeError(
            "loader must not go to accelerator.prepare, which would rebuild it: write "
            "loader = gradatim.integrations.accelerated(curriculum.loader(...), accelerator)."
        )

    def _get_iterator(self) -> Any:
        # Iterators and workers take these from here, once: give them ours, and leave the user's
        # own in the attributes.
        plain = {name: vars(self)[name] for name in ("dataset", "collate_fn", "worker_init_fn")}
        if self._seed_augmentation:  # a checkpoint may have brought another seed
            self._indexed.augmentation_seed = _mixed(self.curriculum.seed)
        vars(self).update(
            dataset=self._indexed,
            collate_fn=self._collate,
            worker_init_fn=WorkerStart(plain["worker_init_fn"]),
        )
        try:
            return super()._get_iterator()
        finally:
            vars(self).update(plain)

    def __iter__(self) -> Any:
        stream = Stream(self)
        if not self.curriculum.epochs.begins_late:
            stream.begin()
        return stream

    def _begin(self) -> tuple[int, Any]:
        """Begin a pass: its token, and the iterator over carried batches."""
        epochs = self.curriculum.epochs
        token = epochs.begin()
        if self._own_generator is not None:
            seed = epochs.run.generator("workers").initial_seed()
            self._own_generator.manual_seed(seed)
        return token, super().__iter__()


class Stream:
    """One pass over a `CurriculumLoader`; tells the engine which samples it hands out."""

    def __init__(self, loader: CurriculumLoader) -> None:
        self._loader: CurriculumLoader | None = loader
        self._epochs = loader.curriculum.epochs
        self._hidden = loader.carry == "hidden"
        self._token = -1
        self._batches: Any = None

    def begin(self) -> None:
        """Begin the pass: with the first batch, or before."""
        assert self._loader is not None
        self._token, self._batches = self._loader._begin()
        self._loader = None  # an iterator that is left lying about keeps no loader alive

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        if self._loader is not None:
            self.begin()
        self._epochs.check_current(self._token)
        carried = next(self._batches)
        if not self._hidden:
            return carried
        self._epochs.hand_out(carried.index_tensor())
        return carried.batch
