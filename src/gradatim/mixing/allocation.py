"""From weights of sources to whole numbers of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch

from gradatim.keyed import keyed_generator
from gradatim.mixing.policy import Resumable, read_weights
from gradatim.validation import as_vector, check_count, check_number, refusal

__all__ = ["RunningAllocation", "largest_remainder", "multinomial", "temperature_weights"]

# 0.1 * 3 * 10 is 3.0000000000000004, and 0.29 * 100 lies below 29.
_SLACK = 1e-9

Weights = torch.Tensor | Sequence[float]


def temperature_weights(sizes: Weights, alpha: float) -> torch.Tensor:
    """Weights between proportional to size (alpha = 1) and uniform (alpha = 0).

    n_i^alpha / sum_j n_j^alpha.

    Args:
        sizes: n, (K,), at least 0, not all 0; a source of size 0 has weight 0.
        alpha: at least 0; above 1 favours the large ones.

    Returns:
        float64 (K,), summing to 1.

    Raises:
        ValueError: an argument outside its range.

    Example:
        >>> [round(w, 4) for w in temperature_weights([1000, 100, 10], 0.5).tolist()]
        [0.7061, 0.2233, 0.0706]

    Differences from the paper:
        No paper.
    """
    known = read_weights("sizes", sizes)
    alpha = check_number("alpha", alpha, at_least=0)
    logs = alpha * known.clamp(min=1e-300).log()
    return torch.softmax(torch.where(known > 0, logs, -math.inf), 0)


def largest_remainder(weights: Weights, size: int) -> torch.Tensor:
    """Split a batch by weights: whole shares first, the rest to the largest fractions.

    Args:
        weights: (K,), at least 0, not all 0, any scale.
        size: samples in the batch, at least 0.

    Returns:
        int64 (K,), summing to ``size``; equal fractions favour the first.

    Raises:
        ValueError: an argument outside its range.

    Example:
        >>> largest_remainder([0.5, 0.3, 0.2], 7).tolist(), largest_remainder([1, 1, 1], 8).tolist()
        ([4, 2, 1], [3, 3, 2])

    Differences from the paper:
        No paper.

    Caveats:
        Repeated on equal batches it repeats its rounding: a source of weight 0.01 never comes in
        batches of 8. `RunningAllocation` carries what was rounded.
    """
    quota = read_weights("weights", weights) * check_count("size", size)
    whole = (quota + _SLACK).floor()
    rest = size - int(whole.sum())
    first = (whole - quota).argsort(stable=True)[:rest]
    whole[first] += 1
    return whole.long()


def multinomial(weights: Weights, size: int, *, generator: torch.Generator) -> torch.Tensor:
    """Split a batch at random: each sample's source is drawn on its own.

    Args:
        weights: (K,), at least 0, not all 0, any scale; zeros are never drawn.
        size: samples in the batch, at least 0.
        generator: on the CPU.

    Returns:
        int64 (K,), summing to ``size``.

    Raises:
        ValueError: an argument outside its range.

    Example:
        >>> counts = multinomial([1, 0, 3], 8, generator=torch.Generator().manual_seed(0))
        >>> int(counts.sum()), int(counts[1])
        (8, 0)

    Differences from the paper:
        No paper.
    """
    known = read_weights("weights", weights)
    edges = known.cumsum(0)
    points = torch.rand(check_count("size", size), dtype=torch.float64, generator=generator)
    drawn = torch.searchsorted(edges, points * edges[-1], right=True)
    return torch.bincount(drawn, minlength=known.numel())


class RunningAllocation(Resumable):
    """Split batch after batch so that each source is right to one sample at any time.

    After every batch, at constant weights, each source has had floor or ceil of weight times
    samples. What a source must have by now comes first; the rest goes, among those not yet ahead,
    to the one that will fall behind first.

    Args:
        sources: K, at least 1.

    State:
        ``owed``, float64 (K,): weight times samples, minus samples; in (-1, 1).

    Example:
        >>> shares = RunningAllocation(3)
        >>> [shares([0.5, 0.3, 0.2], 2).tolist() for _ in range(3)]
        [[1, 1, 0], [1, 0, 1], [1, 1, 0]]

    Differences from the paper:
        No paper.

    Caveats:
        While weights move (ramps, policies that learn) no rule can keep within one sample at any
        time; this one then stays near it.
    """

    kept: ClassVar[tuple[str, ...]] = ("owed",)

    def __init__(self, sources: int) -> None:
        self.sources = check_count("sources", sources, at_least=1)
        self.owed = torch.zeros(self.sources, dtype=torch.float64)

    def __call__(
        self, weights: Weights, size: int, *, limits: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Split the next batch.

        Args:
            weights: (K,), at least 0, not all 0, any scale.
            size: samples in the batch, at least 0.
            limits: (K,), what each source has left at most; its share goes to the others.

        Returns:
            int64 (K,), summing to ``size``, or to less where the limits leave less.

        Raises:
            ValueError: an argument outside its range. Nothing changes.
        """
        shares = read_weights("weights", weights, self.sources)
        size = check_count("size", size)
        if limits is not None:
            left = as_vector("limits", limits, size=self.sources, finite=False, at_least=0).tolist()
            if any(map(math.isnan, left)):
                raise refusal("limits", "numbers", left)
        else:
            left = [math.inf] * self.sources
        target = (self.owed + shares * size).tolist()
        counts = [max(0, math.floor(value + _SLACK)) for value in target]
        known = shares.tolist()
        self._settle(counts, target, known, size)
        full = [i for i in range(self.sources) if counts[i] > left[i]]
        for i in full:
            counts[i] = int(left[i])
        if full:
            self._refill(counts, left, known, size)
        owed = torch.tensor(
            [value - count for value, count in zip(target, counts, strict=True)],
            dtype=torch.float64,
        )
        # A source that is used up is owed nothing, and those that stood in for it owe nothing.
        self.owed = torch.zeros_like(owed) if full else owed
        return torch.tensor(counts)

    def _settle(
        self, counts: list[int], target: list[float], shares: list[float], size: int
    ) -> None:
        """Bring the counts to their sum, by earliest deadline."""
        rest = size - sum(counts)
        behind = [
            i for i in range(self.sources) if shares[i] > 0 and target[i] - counts[i] > _SLACK
        ]
        behind.sort(key=lambda i: (1 - (target[i] - counts[i])) / shares[i])
        for i in behind[: max(rest, 0)]:
            counts[i] += 1
        rest = size - sum(counts)
        while rest:  # only where the weights have moved, or by rounding
            step = 1 if rest > 0 else -1
            able = [
                i for i in range(self.sources) if (shares[i] > 0 if rest > 0 else counts[i] > 0)
            ]
            chosen = max(able, key=lambda i: step * (target[i] - counts[i]))
            counts[chosen] += step
            rest -= step

    def _refill(self, counts: list[int], left: list[float], shares: list[float], size: int) -> None:
        """Give what limits took to the sources that have more, in proportion to their weights."""
        while rest := size - sum(counts):
            room = [shares[i] if counts[i] < left[i] else 0.0 for i in range(self.sources)]
            if not any(room):
                return
            for i, more in enumerate(largest_remainder(room, rest).tolist()):
                counts[i] = int(min(counts[i] + more, left[i]))


def multinomial_at(weights: Weights, size: int, *key: object) -> torch.Tensor:
    """`multinomial` by a generator that depends on the key alone."""
    return multinomial(weights, size, generator=keyed_generator(*key))
