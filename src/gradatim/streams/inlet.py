"""The stream that a stream is made from: this worker's share of it, counted and resumable."""

from __future__ import annotations

from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from gradatim import distributed
from gradatim.mixing.sources import Streamed, Turns, turns
from gradatim.validation import check_flag, refusal

__all__ = ["Inlet", "check_keys", "check_stream", "is_stream"]


def is_stream(dataset: Any) -> bool:
    """Whether something is to be iterated anew for each pass, and has no positions."""
    if isinstance(dataset, IterableDataset):
        return True
    positions = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    batches = hasattr(dataset, "batch_size")  # a loader gives no samples
    once = hasattr(dataset, "__next__")
    return hasattr(dataset, "__iter__") and not (positions or batches or once)


def check_stream(stream: Any) -> Any:
    """Return ``stream``, or refuse what is none.

    Raises:
        TypeError: an iterator, which ends for good; a data set with positions; anything else.
    """
    if is_stream(stream):
        return stream
    rule = "an iterable data set, to be iterated anew for each pass"
    cause = ""
    if hasattr(stream, "__next__"):
        cause = "An iterator ends for good: pass what makes it."
    elif hasattr(stream, "batch_size"):
        cause = "A loader gives batches: pass its data set."
    elif hasattr(stream, "__getitem__"):
        cause = (
            "It has positions: gradatim.Predefined ranks it as a whole. If it must be a stream, "
            "use gradatim.mixing.interleave([dataset], [1]) or Hugging Face's to_iterable_dataset."
        )
    raise TypeError(str(refusal("stream", rule, type(stream).__name__, cause)))


class Inlet(Streamed):
    """Reads a stream pass after pass, and keeps this process's share of each.

    Args:
        stream: an iterable data set.
        sharded: it gives each worker and rank a share of its own already.
        reread: read it again on resuming, even if it has a state.

    State:
        ``read``, samples that the stream gave, over all passes; ``over``, whether this pass gives
        no more; and that of a `Streamed`.
    """

    def __init__(self, stream: Any, *, sharded: bool = False, reread: bool = False) -> None:
        check_stream(stream)
        super().__init__(stream, 0, max_epochs=None, seed=0, reread=check_flag("reread", reread))
        self.sharded = check_flag("sharded", sharded)
        self._turns: tuple[Any, Turns] | None = None
        self.read = 0
        self.over = False  # what a stream says of its state after its end may be its beginning

    def turns(self) -> Turns:
        """How the stream is divided; looked up each time, since workers and ranks start late."""
        info = get_worker_info()
        here = (info and (info.num_workers, info.id), distributed.world_and_rank())
        if self._turns is None or self._turns[0] != here:
            self._turns = here, turns([self.dataset], sharded=self.sharded)
        return self._turns[1]

    def items(self) -> int:
        """How many samples of the whole stream are read: counted here, times the shares."""
        return self.read * self.turns().divided

    def pull(self, count: int) -> list[tuple[int, int, Any]]:
        """Up to ``count`` samples of this process; fewer where the pass ends.

        Returns:
            (samples of the whole stream before this one, its place in this pass, sample).

        Raises:
            ValueError: the stream gave nothing in its first pass.
        """
        parts, part, divided = self.turns()
        found: list[tuple[int, int, Any]] = []
        while len(found) < count and not self.over:
            next_one = self.next_of_pass(1)
            self.over = not next_one
            if self.over:
                # A later pass may be empty: of what runs out for good. So may one share of several.
                if self.used == self.epoch == self.read == 0 and divided == 1:
                    kind = type(self.dataset).__name__
                    raise refusal("stream", "non-empty", f"no sample in a first pass over {kind}")
                break
            if self.used % parts == part:
                found.append((self.read * divided, self.used, next_one[0]))
            self.used += 1
            self.read += 1
        return found

    def new_pass(self) -> None:
        """End the current pass."""
        super().new_pass()
        self.over = False

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, and the stream's own state where it has one."""
        return {**super().state_dict(), "read": self.read, "over": self.over}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: the state of something else; nothing has changed then.
        """
        check_keys("state['inlet']", state, {"epoch", "used", "dry", "stream", "read", "over"})
        super().load_state_dict(state)
        self.read, self.over = state["read"], state["over"]


def check_keys(name: str, state: Any, keys: set[str]) -> None:
    """Refuse a state of other keys.

    Raises:
        ValueError: it is no dict of these keys.
    """
    if not isinstance(state, dict) or set(state) != keys:
        got = sorted(state) if isinstance(state, dict) else type(state).__name__
        raise refusal(name, f"of the keys {sorted(keys)}", got)
