"""A bounded re-ordering of a stream: block by block, easiest first."""

from __future__ import annotations

from typing import Any, Literal

from gradatim.streams.derived import Derived, Score, read_score
from gradatim.validation import check_choice, check_count, refusal

__all__ = ["SortBuffer"]


class SortBuffer(Derived):
    """Sort a stream in blocks: read ``size`` samples, give them by score, read the next.

    Within a block the order is that of the scores, ties as they came. Each block is a curriculum of
    its own, from easy to hard; nothing is delayed by more than ``size`` - 1 samples, and nothing
    dropped. A sliding buffer (give the easiest of ``size``, read one more) was left out on purpose:
    the hardest samples pile up in it, and soon it re-orders nothing.

    Args:
        stream: as of `DifficultyGate`.
        score: as of `DifficultyGate`.
        size: samples per block, at least 1; as many are held in memory, in each worker.
        order: ``"curriculum"``, easy first; ``"anti"``, hard first.
        sharded: as of `DifficultyGate`.
        reread: as of `DifficultyGate`.

    Raises:
        TypeError: what is no stream; a score that is no function, or gives no number.
        ValueError: size below 1; when iterated, a score that is not finite, or an empty stream.

    Example:
        >>> import torch
        >>> class Numbers(torch.utils.data.IterableDataset):
        ...     def __iter__(self):
        ...         return iter([5, 1, 4, 2, 9, 3, 8])
        >>> list(SortBuffer(Numbers(), float, size=4))
        [1, 2, 4, 5, 3, 8, 9]

    Differences from the paper:
        No paper.

    Caveats:
        It is no global ranking. A state within a block holds the block's order and where the stream
        stood before it: on resuming the block is read again, not scored again.
    """

    def __init__(
        self,
        stream: Any,
        score: Score,
        *,
        size: int,
        order: Literal["curriculum", "anti"] = "curriculum",
        sharded: bool = False,
        reread: bool = False,
    ) -> None:
        super().__init__(stream, score, sharded=sharded, reread=reread)
        self.size = check_count("size", size, at_least=1)
        self.order = check_choice("order", order, ("curriculum", "anti"))
        self._before: dict[str, Any] | None = None  # where the stream stood before this block
        self._held: list[Any] = []
        self._order: list[int] = []  # of this block, by score
        self._given = 0  # of this block

    def _next(self) -> list[Any]:
        if self._given == len(self._order):
            self._read()
        elif not self._held:
            self._read_again()
        if not self._held:
            return []
        place = self._order[self._given]
        self._given += 1
        sample, self._held[place] = self._held[place], None  # it need not wait for the others
        if self._given == len(self._order):
            self._before, self._held, self._order, self._given = None, [], [], 0
        return [sample]

    def _read(self) -> None:
        before = self._inlet.state_dict()
        found = self._inlet.pull(self.size)
        scores = [read_score(self.score, sample, place) for _, place, sample in found]
        sign = 1 if self.order == "curriculum" else -1
        self._order = sorted(range(len(found)), key=lambda place: sign * scores[place])
        self._held = [sample for _, _, sample in found]
        self._before, self._given = (before if found else None), 0

    def _read_again(self) -> None:
        """The block in which a loaded state was taken."""
        before = self._inlet.state_dict()
        found = self._inlet.pull(len(self._order))
        if len(found) < len(self._order):
            rule = f"the one of the state, with {len(self._order)} more samples"
            raise refusal("stream", rule, len(found))
        self._held = [sample for _, _, sample in found]
        self._before = before

    def _position(self) -> dict[str, Any]:
        before = self._inlet.state_dict() if self._before is None else self._before
        return {"inlet": before, "order": list(self._order), "given": self._given}

    def _load(self, state: dict[str, Any]) -> None:
        self._inlet.load_state_dict(state["inlet"])
        self._before, self._held = None, []
        self._order, self._given = list(state["order"]), state["given"]
