"""Methods that break what the contract says of randomness, bad values and copies."""

from __future__ import annotations

import copy
import os
import random
from typing import ClassVar

import numpy as np
import torch

import gradatim as gr
from contract.sound_method import Sound
from gradatim.selection import prefix_size

# ----------------------------------------------------------------------------------- randomness


class DrawsFromTorch(Sound):
    def start_epoch(self, run):
        torch.rand(1)


class DrawsFromNumpy(Sound):
    def start_epoch(self, run):
        np.random.rand()  # noqa: NPY002


class DrawsFromPython(Sound):
    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        super().__init__(score, keep=keep, warmup_epochs=warmup_epochs)
        random.random()


class Reseeds(Sound):
    def weigh(self, batch, run):
        torch.manual_seed(run.epoch)
        return super().weigh(batch, run)


class ReadsTheGlobalSeed(Sound):
    """Moves nothing, and yet follows the user's torch.manual_seed."""

    def plan(self, pool, run):
        source = torch.Generator().manual_seed(torch.initial_seed())
        return pool.keep(
            torch.randperm(pool.index.numel(), generator=source)[: 1 + len(pool.index) // 2]
        )


class ReadsPythonsState(ReadsTheGlobalSeed):
    def plan(self, pool, run):
        source = torch.Generator().manual_seed(random.getstate()[1][1])
        return pool.keep(torch.randperm(pool.index.numel(), generator=source)[:30])


class ReadsNumpysState(ReadsTheGlobalSeed):
    def plan(self, pool, run):
        seed = int(np.random.get_state()[1][0])  # noqa: NPY002
        source = torch.Generator().manual_seed(seed)
        return pool.keep(torch.randperm(pool.index.numel(), generator=source)[:30])


class DrawsBySeed(Sound):
    """Keeps the contract where its example says that it draws."""

    def plan(self, pool, run):
        if not self.chooses(run.epoch):
            return pool
        order = torch.randperm(pool.index.numel(), generator=run.generator("draw"))
        return pool.keep(order[: prefix_size(self.keep, order.numel())])


class DrawsByEpochAlone(DrawsBySeed):
    def plan(self, pool, run):
        return super().plan(pool, gr.Run(size=run.size, seed=0, epoch=run.epoch))


class DrawsFromTheSystem(DrawsBySeed):
    def plan(self, pool, run):
        seed = int.from_bytes(os.urandom(4), "little")
        return super().plan(pool, gr.Run(size=run.size, seed=seed, epoch=run.epoch))


class WeighsFromTheSystem(Sound):
    def plan(self, pool, run):
        return pool

    def weigh(self, batch, run):
        return torch.full_like(batch.losses, 1 + int.from_bytes(os.urandom(4), "little") / 2**32)


class OrdersWithoutSeed(Sound):
    def plan(self, pool, run):
        plan = super().plan(pool, run)
        plan.ordered = True
        return plan


# ------------------------------------------------------------------------- bad values and copies


class ClampsParameters(Sound):
    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        super().__init__(score, keep=min(keep, 1.0), warmup_epochs=warmup_epochs)


class RefusesWithoutAName(Sound):
    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        try:
            super().__init__(score, keep=keep, warmup_epochs=warmup_epochs)
        except (ValueError, TypeError):
            raise ValueError("invalid argument") from None


class RefusesWithAnotherError(Sound):
    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        assert isinstance(keep, float), "keep must be a float"
        super().__init__(score, keep=keep, warmup_epochs=warmup_epochs)


class HoldsALambda(Sound):
    def setup(self, run):
        super().setup(run)
        self.curve = lambda loss: 1 / (1 + loss)


class ForgetsInPickle(Sound):
    def __getstate__(self):
        return {**vars(self), "ended": 0}


class KnowsItself(Sound):
    """Its memory lies outside, under its own identity, so that no copy has it."""

    memory: ClassVar[dict[int, int]] = {}

    def end_epoch(self, run):
        super().end_epoch(run)
        self.memory[id(self)] = self.ended

    def weigh(self, batch, run):
        return torch.full_like(batch.losses, 1 + self.memory.get(id(self), 0))


class CopiesShallowly(Sound):
    def __deepcopy__(self, memo):
        return copy.copy(self)
