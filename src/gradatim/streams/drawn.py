"""A stream in the place of a data set, for methods that need no sample again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from gradatim.method import Method, Run, overrides
from gradatim.streams.inlet import Inlet
from gradatim.validation import refusal

__all__ = ["Drawn", "drawn"]

POSSIBLE = (
    "Possible on a stream: gradatim.streams.DifficultyGate and SortBuffer, mixtures by "
    "gradatim.mixing.interleave, and methods that decide within a batch or change the model: "
    "Focal, SuperLoss, OHEM, SelectiveBackprop, ImportanceSampling, LeRaC, CBS."
)


class Drawn(Dataset):
    """As many samples per epoch as asked for, whatever their positions: the stream's next ones.

    Where the stream ends its next pass begins.

    Args:
        stream: an iterable data set.
        size: samples per epoch, for the engine.
    """

    def __init__(self, stream: Any, size: int) -> None:
        self.stream = stream
        self.size = size
        self._inlet = Inlet(stream)

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, positions: list[int]) -> list[Any]:
        """The next ``len(positions)`` samples of this process.

        Raises:
            ValueError: the stream gives no more.
        """
        found: list[Any] = []
        while len(found) < len(positions):
            fresh = self._inlet.used == 0
            part = self._inlet.pull(len(positions) - len(found))
            found += [sample for _, _, sample in part]
            if len(found) < len(positions):
                if fresh and not part:
                    cause = "Does it repeat, and does each worker have a share of it?"
                    raise refusal("stream", "one that goes on", "an empty pass", cause)
                self._inlet.new_pass()
        return found


def drawn(
    methods: Sequence[Method],
    stream: Any,
    batch_size: int,
    steps_per_epoch: int | None,
    *,
    bound: bool,
) -> Drawn:
    """Put a stream in the place of a data set, or say what cannot work on it.

    Args:
        methods: of the curriculum.
        stream: an iterable data set.
        batch_size: samples per batch and process.
        steps_per_epoch: batches per epoch.
        bound: the methods were set up before.

    Raises:
        TypeError: a method ranks or remembers single samples.
        ValueError: ``steps_per_epoch`` is missing.
    """
    size = batch_size * (1 if steps_per_epoch is None else steps_per_epoch)
    for method in methods:
        by_sample = overrides(method, "plan") or method.knows_samples
        if not by_sample:
            if not bound:
                method.setup(Run(size=size, seed=0))  # it declares tables; the engine repeats it
            by_sample = any(table.per_sample for table in method.tables().values())
        if by_sample:
            raise TypeError(
                f"dataset must have __getitem__ and __len__. Got {type(stream).__name__}. Is it a "
                f"stream? {type(method).__name__} ranks or remembers single samples. {POSSIBLE}"
            )
    if steps_per_epoch is None:
        raise refusal("steps_per_epoch", "given for a stream, which has no length", None)
    return Drawn(stream, size)
