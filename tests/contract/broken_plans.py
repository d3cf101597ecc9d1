"""Methods that break what the contract says of batches and plans."""

from __future__ import annotations

import math

import torch

import gradatim as gr
from contract.sound_method import Sound
from gradatim.selection import prefix_size

# ------------------------------------------------------------------------------ batches and plans


class WantsFloat32(Sound):
    def weigh(self, batch, run):
        return torch.lerp(torch.ones(batch.size), 1 / (1 + batch.losses), 0.5)


class Overflows(Sound):
    def weigh(self, batch, run):
        return (batch.losses + 1) * 1e5


class RoundsInHalf(Sound):
    """float16 has no 1e-8: the same losses weigh otherwise."""

    def weigh(self, batch, run):
        return 1 + 1 / (1 + (batch.losses * 1e-8) * 1e8)


class DividesByTheLargest(Sound):
    def weigh(self, batch, run):
        return 1 - batch.losses / (1 + batch.losses.max())


class PoisonedByNothing(Sound):
    def observe(self, batch, run):
        self.losses.write(batch.index, batch.losses)
        self.average.write(batch.losses.double().mean())


class InfiniteSlope(Sound):
    """The root of 0 is 0, and its slope is not."""

    differentiable = True

    def weigh(self, batch, run):
        return (batch.losses - batch.losses.detach().min()).sqrt() if batch.size else None


class CountsBatches(Sound):
    def start_epoch(self, run):
        self.batches = 0

    def weigh(self, batch, run):
        self.batches = getattr(self, "batches", 0) + 1
        return torch.full_like(batch.losses, self.batches)


class CountsEveryBatch(CountsBatches):
    def start_epoch(self, run):
        pass


class OneRowTooMany(Sound):
    def weigh(self, batch, run):
        return torch.ones(max(1, batch.size))


class LeavesNone(Sound):
    def plan(self, pool, run):
        return pool.keep(torch.arange(0, pool.index.numel() - 1))


class NeedsADeviation(Sound):
    def weigh(self, batch, run):
        spread = (batch.losses - batch.losses.mean()).square().sum() / (batch.size - 1 or math.nan)
        return 1 / (1 + batch.losses / spread)


class WeighsAgainstTheBatch(Sound):
    def weigh(self, batch, run):
        return 1 + batch.losses / batch.losses.mean()


class NegativeWeights(Sound):
    def weigh(self, batch, run):
        return 1 - batch.losses


class InfiniteWeights(Sound):
    def weigh(self, batch, run):
        return 1 / batch.losses


class WholeWeights(Sound):
    def weigh(self, batch, run):
        return torch.ones(batch.size, dtype=torch.int64)


class OneWeightForAll(Sound):
    def weigh(self, batch, run):
        return torch.ones(1)


class PlansInInt32(Sound):
    def plan(self, pool, run):
        return gr.Pool(pool.index.int())


class PlansInColumns(Sound):
    def plan(self, pool, run):
        return gr.Pool(pool.index.unsqueeze(1))


class PlansNothing(Sound):
    def plan(self, pool, run):
        return gr.Pool(pool.index[:0])


class PlansOnePreference(Sound):
    def plan(self, pool, run):
        return gr.Pool(pool.index, log_weights=torch.zeros(1))


class PlansTwice(Sound):
    def plan(self, pool, run):
        return pool.keep(torch.arange(pool.index.numel()) // 2)


class PlansStrangers(Sound):
    """Forgets that an earlier method has narrowed the pool."""

    def plan(self, pool, run):
        return gr.Pool(torch.arange(run.size))


class PlansNegativeWeights(Sound):
    def plan(self, pool, run):
        return pool.weigh(-torch.ones(pool.index.numel()))


class PlansTooManyWeights(Sound):
    def plan(self, pool, run):
        pool = gr.Pool(pool.index[::2])
        pool.weights = torch.ones(run.size)
        return pool


class PlansPreferenceForNaN(Sound):
    def plan(self, pool, run):
        return pool.prefer(torch.full((pool.index.numel(),), math.nan))


class PlansMoreThanThereIs(Sound):
    def plan(self, pool, run):
        return gr.Pool(pool.index, size=pool.index.numel() + 1)


class SelectsTwice(Sound):
    def select(self, batch, k, run):
        return torch.zeros(k, dtype=torch.int64)


class SelectsOneMore(Sound):
    def select(self, batch, k, run):
        return torch.arange(min(k + 1, batch.size))


class PromisesAll(Sound):
    def planned_size(self, size, epoch):
        return size


class PromisesOfTheWhole(Sound):
    def planned_size(self, size, epoch):
        return super().planned_size(60, epoch)


class TiesTakeAll(Sound):
    """By threshold: with equal losses everybody is below it, and more come than were promised."""

    def plan(self, pool, run):
        if not self.chooses(run.epoch):
            return pool
        losses = self.losses.values[pool.index]
        bound = losses.kthvalue(prefix_size(self.keep, losses.numel())).values
        return pool.keep(losses <= bound)


class UnknownPaper(Sound):
    references = ("nobody1999",)


class OnePaperAsText(Sound):
    references = "kumar2010"
