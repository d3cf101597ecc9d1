"""What the streams of this package share: passes, scores, and a state within a pass."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from gradatim.streams.inlet import Inlet, check_keys
from gradatim.validation import check_number, refusal

__all__ = ["Derived", "read_score"]

Score = Callable[[Any], float]


def read_score(score: Score, sample: Any, place: int) -> float:
    """The score of one sample, or a refusal that names its place in the pass.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite.
    """
    value: Any = score(sample)
    if isinstance(value, (torch.Tensor, np.ndarray)) and math.prod(value.shape) == 1:
        value = value.item()
    return check_number(f"score of sample {place} of the stream", value)


class Derived(IterableDataset):
    """A stream made from another: its samples, unchanged, fewer or in another order.

    A pass ends when the stream's does. Iterating goes on where it was left, also over passes; after
    a pass, it begins the next.
    """

    carries_on = True  # it divides itself among workers and ranks, and goes on where it was left

    def __init__(self, stream: Any, score: Score, *, sharded: bool, reread: bool) -> None:
        self._inlet = Inlet(stream, sharded=sharded, reread=reread)
        if not callable(score):
            rule = "a function of one sample that gives a number"
            cause = "Did you mean operator.itemgetter(...)?" if isinstance(score, str) else ""
            raise TypeError(str(refusal("score", rule, repr(score), cause)))
        self.stream = stream
        self.score = score
        self.sharded = self._inlet.sharded
        self.reread = reread
        self._ended = False
        self._resumed = False  # a state was loaded, and its pass, though over, is not left yet

    def __iter__(self) -> Iterator[Any]:
        # Here, not with the first sample: loaders make iterators that they never read.
        if self._ended and not self._resumed:
            self._ended = False
        self._resumed = False
        return self._samples()

    def _samples(self) -> Iterator[Any]:
        while not self._ended:
            found = self._next()
            if not found:
                self._inlet.new_pass()
                self._ended = True
                return
            yield found[0]

    @abstractmethod
    def _next(self) -> list[Any]:
        """The next sample, in a list; an empty one where the pass is over."""

    @abstractmethod
    def _position(self) -> dict[str, Any]:
        """What `state_dict` holds besides ``ended``."""

    @abstractmethod
    def _load(self, state: dict[str, Any]) -> None:
        """Take it back; what may be refused comes first."""

    def forget_resume(self) -> None:
        """Treat a pass that was over in a loaded state as left; for streams made from this one."""
        self._resumed = False

    def state_dict(self) -> dict[str, Any]:
        """Where this stream stands, and the one it is made from: exact between any two samples."""
        return {**self._position(), "ended": self._ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; a pass that was over in it gives nothing more, once.

        Raises:
            ValueError: the state of another kind of stream; nothing has changed then.
        """
        check_keys("state", state, set(self.state_dict()))
        self._load(state)
        self._ended = state["ended"]
        self._resumed = True
