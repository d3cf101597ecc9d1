"""How a score ranks among those before it, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Any

from gradatim.keyed import keyed_seed
from gradatim.validation import check_count, refusal

__all__ = ["ScoreReservoir"]


class ScoreReservoir:
    """A uniform sample of all scores so far, kept in order (algorithm R of Vitter 1985).

    The n-th score is kept while there is room, n <= m; after that it takes the place of one of the
    m kept with probability m / n. Which one depends on (seed, n) alone.

    Args:
        size: m, at least 1.
        seed: of the draws.

    Example:
        >>> scores = ScoreReservoir(4)
        >>> for score in (3.0, 1.0, 2.0):
        ...     scores.add(score)
        >>> scores.count, scores.below(2.0), scores.above(2.0)
        (3, 1, 1)
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self.size = check_count("memory", size, at_least=1)
        self.seed = check_count("seed", seed)
        self.seen = 0
        self._slots: list[float] = []
        self._sorted: list[float] = []

    @property
    def count(self) -> int:
        """How many scores are kept."""
        return len(self._slots)

    def below(self, score: float) -> int:
        """How many of those kept are smaller."""
        return bisect_left(self._sorted, score)

    def above(self, score: float) -> int:
        """How many of those kept are larger."""
        return self.count - bisect_right(self._sorted, score)

    def add(self, score: float) -> None:
        """Keep a score, perhaps in the place of another."""
        self.seen += 1
        if self.count < self.size:
            self._slots.append(score)
            insort(self._sorted, score)
            return
        slot = keyed_seed(self.seed, "stream scores", self.seen) % self.seen
        if slot < self.size:
            old, self._slots[slot] = self._slots[slot], score
            del self._sorted[bisect_left(self._sorted, old)]
            insort(self._sorted, score)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"seen": self.seen, "scores": list(self._slots)}

    def check_state(self, state: dict[str, Any]) -> None:
        """Refuse the state of a reservoir of another size.

        Raises:
            ValueError: it holds more or fewer scores than this one would.
        """
        if len(state["scores"]) != min(self.size, state["seen"]):
            rule = f"of memory={self.size}, as here"
            raise refusal("state", rule, f"{len(state['scores'])} scores of {state['seen']}")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.seen = state["seen"]
        self._slots = list(state["scores"])
        self._sorted = sorted(self._slots)
