"""The plan of an epoch: which samples, in which order and with which weights, on all ranks.

A plan depends on merged state and on generators keyed by (seed, epoch, purpose), so there is
nothing to send between ranks and no random state to save.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gradatim.method import Method, Pool, Run
from gradatim.selection import weighted_draw
from gradatim.validation import refusal

__all__ = ["Layout", "Plan", "make_plan"]


@dataclass(frozen=True)
class Layout:
    """How the loader cuts a plan into batches.

    Args:
        batch_size: samples per batch and rank.
        drop_last: leave out the last global batch if it is short.
        steps_per_epoch: fixed number of batches per epoch, or None for what the plan holds.
    """

    batch_size: int
    drop_last: bool = False
    steps_per_epoch: int | None = None

    def steps(self, samples: int, world: int, scale: int = 1) -> int:
        """Number of batches of each rank for ``samples`` samples."""
        per_rank = -(-samples // world)
        return -(-per_rank // (self.batch_size * scale))


@dataclass(frozen=True)
class Plan:
    """An epoch's samples in the order of training.

    Args:
        index: int64 (M,), on the CPU.
        weights: float32 (N,), factors of the losses by sample; None is 1 everywhere.
        batch_scale: this epoch's batch size as a multiple of the loader's.
    """

    index: torch.Tensor
    weights: torch.Tensor | None = None
    batch_scale: int = 1

    def checksum(self) -> int:
        """An int64 that differs if index or order differ."""
        place = torch.arange(1, self.index.numel() + 1)
        mixed = (self.index + 1) * (place * 0x9E3779B1 + 0x85EBCA6B) * 0x3F58476D1CE4E5B9
        # Without this step the sum is linear, and many orders of a few samples share it.
        mixed ^= mixed >> 31
        return int((mixed * 0x14D049BB133111EB).sum())

    def share(self, start: int, world: int, rank: int) -> Iterator[int]:
        """This rank's samples from the plan's sample ``start`` on, in strides after selection.

        Ranks need equal lengths: rows that only pad are marked as ``~index`` (negative), so that
        they are fetched, given weight 0 and never observed.
        """
        rest = self.index[start:]
        missing = -rest.numel() % world
        if missing:
            rest = torch.cat([rest, ~self.index[:1].expand(missing)])
        # In chunks: a Python list of N ints costs eight times the tensor.
        for chunk in rest[rank::world].split(8192):
            yield from chunk.tolist()


def _order(pool: Pool, run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw and shuffle: the chosen positions of the pool, in the order of training."""
    generator = run.generator("plan")
    count = pool.index.numel()
    k = count if pool.size is None else min(pool.size, count)
    if pool.log_weights is None:
        if pool.ordered:
            return torch.arange(k), pool.index[:k]
        chosen = torch.randperm(count, generator=generator)[:k]
        return chosen, pool.index[chosen]
    log_weights = pool.log_weights.detach().cpu()
    chosen = weighted_draw(log_weights, k, generator=generator, log=True)
    if not pool.ordered:
        chosen = chosen[torch.randperm(k, generator=generator)]
    return chosen, pool.index[chosen]


def make_plan(methods: Sequence[Method], run: Run, layout: Layout) -> Plan:
    """Ask every method in turn, then draw, shuffle and cut to the loader's layout.

    Raises:
        RuntimeError: the methods left no sample, or fewer than one batch under ``drop_last``.
    """
    pool = Pool(torch.arange(run.size))
    for method in methods:
        pool = method.plan(pool, run)
        if not isinstance(pool, Pool):
            raise TypeError(f"plan of {method!r} must return a Pool. Got {pool!r}.")
        for name, values in (("log_weights", pool.log_weights), ("weights", pool.weights)):
            if values is not None and values.shape != pool.index.shape:
                rule = f"one per candidate: {pool.index.numel()} of them"
                raise refusal(f"pool.{name} of {method!r}", rule, values)
        if pool.index.numel() == 0 or pool.size == 0:
            raise RuntimeError(f"{method!r} left no sample for epoch {run.epoch}.")
    chosen, index = _order(pool, run)

    weights = None
    if pool.weights is not None:
        weights = torch.ones(run.size)
        drawn = pool.weights.detach().cpu()[chosen].to(torch.float32)
        weights[index] = drawn

    batch = layout.batch_size * pool.batch_scale * run.world
    if layout.steps_per_epoch is not None:
        index = _fill(index, layout.steps_per_epoch * batch, ordered=pool.ordered, run=run)
    elif layout.drop_last:
        index = index[: index.numel() // batch * batch]
        if index.numel() == 0:
            raise RuntimeError(
                f"drop_last leaves no batch: epoch {run.epoch} has fewer than {batch} samples."
            )
    return Plan(index, weights, pool.batch_scale)


def _fill(index: torch.Tensor, samples: int, *, ordered: bool, run: Run) -> torch.Tensor:
    """Repeat ``index``, shuffled anew in each pass, until there are ``samples`` of it."""
    passes = [index]
    for number in range(1, -(-samples // index.numel())):
        if ordered:
            passes.append(index)
        else:
            generator = run.generator("plan", "pass", number)
            passes.append(index[torch.randperm(index.numel(), generator=generator)])
    return torch.cat(passes)[:samples]
