"""A gate in a stream: samples pass when they are easy enough for now."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, Literal

from torch.utils.data import get_worker_info

from gradatim import distributed
from gradatim.pacing import Pace
from gradatim.selection.sizes import prefix_size
from gradatim.streams.derived import Derived, Score, read_score
from gradatim.streams.ranks import ScoreReservoir
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["DifficultyGate"]

Threshold = float | tuple[float, float] | Callable[[int], float]


class DifficultyGate(Derived):
    """Let a sample of a stream pass when its score is at most what is allowed by now.

    Each sample is scored as it comes; the others are dropped, not kept for later. With n samples of
    the stream read before this one, and score s, it passes if ::

        s <= threshold(n)                 threshold(n) = a + (b - a) min(1, n / items)
        #{kept < s} < ceil(c(n) (m + 1))  for a pace c

    The first line is a schedule of scores whose scale you know. The second needs none: the quantile
    of the whole stream is not known, so it is estimated from the m kept scores, a uniform sample of
    all scores so far (`ScoreReservoir`, algorithm R); c(n) of the samples pass in the long run, all
    of them when c(n) = 1.

    Args:
        stream: an iterable data set: torch's, Hugging Face's, one of `gradatim.streams` or of
            `gradatim.mixing.interleave`. Samples are passed on as they are.
        score: difficulty of one sample, a finite number, higher is harder. It is called in the
            workers: `operator.itemgetter("length")` reaches all of them, a lambda not where they
            are spawned.
        threshold: a number; (a, b), from a to b over ``items``; or a function of n.
        pace: of `gradatim.pacing`, built with counts of samples: ``Linear(epochs=100_000)`` rises
            over the first 100,000 samples of the stream. One with ``window(n)`` hides the easiest,
            too. Give either this or a threshold.
        items: samples of the stream over which a pair of thresholds is crossed, at least 1.
        order: ``"curriculum"``; ``"anti"`` lets the hard ones pass: scores of at least the
            threshold, or the hardest fraction.
        memory: m, at least 1: scores kept for a pace. The estimated fraction has a standard
            deviation of at most 0.5 / sqrt(m).
        sharded: the stream gives each worker and rank a share of its own already. Known of Hugging
            Face's and of ours; of any other each takes its turns.
        reread: as of `gradatim.mixing.MixtureLoader`: for a stream behind Hugging Face's
            ``shuffle(buffer_size=...)``.
        seed: of the reservoir.

    Attributes:
        items_read: samples of the stream read so far, in this process, over all passes.
        passed: samples that passed.

    Raises:
        TypeError: what is no stream; a score, threshold or pace of a wrong kind.
        ValueError: neither or both of threshold and pace; an argument out of range; when iterated,
            a score that is not finite, an empty stream, a first pass in which nothing passed.

    Example:
        >>> import torch
        >>> class Numbers(torch.utils.data.IterableDataset):
        ...     def __iter__(self):
        ...         return iter([5, 1, 4, 2, 9, 3, 8, 7])
        >>> list(DifficultyGate(Numbers(), float, threshold=(2, 9), items=7))
        [1, 4, 2, 3, 8, 7]
        >>> list(DifficultyGate(Numbers(), float, pace=lambda n: 0.5))
        [5, 1, 4, 2, 3]

    Differences from the paper:
        No paper. Platanios et al. 2019 let the same samples pass, by ranks in the whole data set.

    Caveats:
        Progress is counted where samples are read: in each worker. Where the stream is divided
        before (Hugging Face's shards, ``sharded``) the count is multiplied by the shares. Without
        ``persistent_workers=True`` a DataLoader starts new workers in each epoch, and they start
        anew. The first scores rank among few: until 1 / c samples are read only those pass that are
        easier than all before. A stream without a state of its own is read again on resuming, and
        skipped up to where it stood: scores are not computed again, but samples are. Ranks let
        different numbers pass: end their epochs after equal numbers of batches, as
        ``curriculum.loader(gate, ..., steps_per_epoch=...)`` does.

    References:
        Platanios et al., Competence-based curriculum learning for neural machine translation,
        NAACL 2019 [platanios2019]. Vitter, Random sampling with a reservoir, ACM TOMS 1985.
    """

    def __init__(
        self,
        stream: Any,
        score: Score,
        *,
        threshold: Threshold | None = None,
        pace: Pace | None = None,
        items: int | None = None,
        order: Literal["curriculum", "anti"] = "curriculum",
        memory: int = 1024,
        sharded: bool = False,
        reread: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(stream, score, sharded=sharded, reread=reread)
        if (threshold is None) == (pace is None):
            got = "neither" if pace is None else "both"
            raise refusal("threshold or pace", "given, one of them", got)
        if pace is not None and not callable(pace):
            raise TypeError(str(refusal("pace", "callable, as in gradatim.pacing", repr(pace))))
        self.order = check_choice("order", order, ("curriculum", "anti"))
        self.items = None if items is None else check_count("items", items, at_least=1)
        self.threshold = self._read_threshold(threshold)
        self.pace = pace
        self.memory = check_count("memory", memory, at_least=1)
        self.seed = check_count("seed", seed)
        self.passed = 0
        self._scores = ScoreReservoir(self.memory, seed=self.seed)

    def _read_threshold(self, threshold: Any) -> Any:
        pair = isinstance(threshold, (tuple, list))
        if pair and len(threshold) != 2:
            raise refusal(
                "threshold", "a number, a pair or a function", f"{len(threshold)} of them"
            )
        if pair and self.items is None:
            raise refusal("items", "given for a pair of thresholds", None)
        if not pair and self.items is not None:
            raise refusal("items", "left out without a pair of thresholds", self.items)
        if pair:
            first, last = threshold
            return check_number("threshold[0]", first), check_number("threshold[1]", last)
        if threshold is None or callable(threshold):
            return threshold
        return check_number("threshold", threshold)

    @property
    def items_read(self) -> int:
        """Samples of the stream read so far, in this process, over all passes."""
        return self._inlet.items()

    def allowed(self, n: int) -> float:
        """The threshold, or the fraction allowed by the pace, after ``n`` samples of the stream."""
        if self.pace is not None:
            return check_number("pace(n)", float(self.pace(float(n))), above=0, at_most=1)
        if isinstance(self.threshold, tuple):
            assert self.items is not None
            first, last = self.threshold
            return last if n >= self.items else first + (last - first) * (n / self.items)
        value: Any = self.threshold(n) if callable(self.threshold) else self.threshold
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
            raise refusal("threshold(n)", "a number", repr(value))
        return float(value)

    def _next(self) -> list[Any]:
        while found := self._inlet.pull(1):
            n, place, sample = found[0]
            if self._passes(read_score(self.score, sample, place), n):
                self.passed += 1
                return [sample]
        self._check_something_passed()
        return []

    def _passes(self, score: float, n: int) -> bool:
        anti = self.order == "anti"
        if self.pace is None:
            limit = self.allowed(n)
            return score >= limit if anti else score <= limit
        easier = self._scores.above(score) if anti else self._scores.below(score)
        first, last = self._visible(n, self._scores.count + 1)
        self._scores.add(score)
        return first <= easier < last

    def _visible(self, n: int, count: int) -> tuple[int, int]:
        """Which ranks among ``count`` scores pass: from the first up to before the last."""
        window: Any = getattr(self.pace, "window", None)
        if window is None:
            return 0, prefix_size(self.allowed(n), count)
        low, high = window(float(n))
        last = prefix_size(high, count)
        return (0 if low * count < 1e-9 else min(prefix_size(low, count), last - 1)), last

    def _check_something_passed(self) -> None:
        # A share may hold nothing easy; only who reads all of the stream can tell.
        alone = get_worker_info() is None and distributed.world_and_rank()[0] == 1
        if alone and self._inlet.used and not self.passed:
            rule = "such that something passes in the first pass"
            got = f"none of {self._inlet.used} samples"
            raise refusal("threshold" if self.pace is None else "pace", rule, got)

    def _position(self) -> dict[str, Any]:
        return {
            "inlet": self._inlet.state_dict(),
            "scores": self._scores.state_dict(),
            "passed": self.passed,
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._scores.check_state(state["scores"])
        self._inlet.load_state_dict(state["inlet"])
        self._scores.load_state_dict(state["scores"])
        self.passed = state["passed"]
