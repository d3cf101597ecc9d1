"""A sound method, and for every check of the contract some that break just what it watches."""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch

import gradatim as gr
from gradatim.selection import lowest, prefix_size
from gradatim.testing import (
    Bad,
    Example,
    Problem,
    bad_counts,
    bad_numbers,
    bad_vectors,
)
from gradatim.validation import as_vector, check_count, check_number


class Sound(gr.Method):
    """Every second epoch trains on the samples of lowest loss and score; keeps the contract."""

    wants = ("targets",)
    references = ("kumar2010",)

    def __init__(self, score: Any, *, keep: float = 0.5, warmup_epochs: int = 1) -> None:
        self.score = as_vector("score", score)
        self.keep = check_number("keep", keep, above=0, at_most=1)
        self.warmup_epochs = check_count("warmup_epochs", warmup_epochs)
        self.ended = 0

    def setup(self, run: gr.Run) -> None:
        as_vector("score", self.score, size=run.size)
        self.losses = gr.Table("loss", fill=0.0)
        self.average = gr.Scalar("average", fill=1.0)

    def chooses(self, epoch: int) -> bool:
        return self.keep < 1 and epoch >= self.warmup_epochs and epoch % 2 == 1

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        if not self.chooses(run.epoch):
            return pool
        hardness = self.losses.values[pool.index] + self.score[pool.index]
        k = prefix_size(self.keep, pool.index.numel())
        return pool.keep(lowest(hardness, k, generator=run.generator("ties")))

    def planned_size(self, size: int, epoch: int) -> int | None:
        return prefix_size(self.keep, size) if self.chooses(epoch) else size

    def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor | None:
        return None if self.keep == 1 else 1 / (1 + batch.losses)

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.losses.write(batch.index, batch.losses)
        if batch.size:
            self.average.write(batch.losses.double().mean())

    def end_epoch(self, run: gr.Run) -> None:
        self.ended += 1

    def state_dict(self) -> dict[str, Any]:
        return {"ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ended = state["ended"]


def example(kind: type[Sound] = Sound, **facts: Any) -> Example:
    usual: dict[str, Any] = {
        "build": lambda problem: kind(problem.scores),
        "neutral": lambda problem: kind(problem.scores, keep=1.0),
        "bad": {
            "score": bad_vectors(60),
            "keep": bad_numbers(above=0, at_most=1),
            "warmup_epochs": bad_counts(),
        },
    }
    return Example(**{**usual, **facts})


# ------------------------------------------------------------------------- neutral, resume, state


class NearlyNeutral(Sound):
    def weigh(self, batch, run):
        return torch.full_like(batch.losses, 1.001)


class ReordersAll(Sound):
    def plan(self, pool, run):
        return pool.keep(torch.arange(pool.index.numel()).flip(0))


class ForgetsItsCounter(Sound):
    """What it chooses depends on a number that no checkpoint holds."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def weigh(self, batch, run):
        return torch.full_like(batch.losses, 1 + self.ended)


class OwnGenerator(Sound):
    """Draws from a generator that it keeps, so that the past decides what comes next."""

    def setup(self, run):
        super().setup(run)
        self.source = torch.Generator().manual_seed(run.seed)

    def start_epoch(self, run):
        self.factor = 1 + torch.rand((), generator=self.source)

    def weigh(self, batch, run):
        return self.factor.expand(batch.size)


class CachesTheSeed(Sound):
    """Resumed under another seed it keeps to what it saw first."""

    def setup(self, run):
        super().setup(run)
        self.factor = torch.rand((), generator=run.generator("factor", epoch=0))

    def weigh(self, batch, run):
        return (1 + self.factor).expand(batch.size)


class LiveState(Sound):
    """Hands over its live list; sound, since the engine copies what it saves."""

    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        super().__init__(score, keep=keep, warmup_epochs=warmup_epochs)
        self.history = []

    def end_epoch(self, run):
        super().end_epoch(run)
        self.history.append(run.epoch)

    def state_dict(self):
        return {**super().state_dict(), "history": self.history}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.history = list(state["history"])


class TakesStateAlive(LiveState):
    """Lives on in what it was loaded from; sound, since the engine hands over a copy."""

    def state_dict(self):
        return {**Sound.state_dict(self), "history": list(self.history)}

    def load_state_dict(self, state):
        Sound.load_state_dict(self, state)
        self.history = state["history"]


class NumpyState(Sound):
    def state_dict(self):
        return {"ended": np.float64(self.ended)}


class LosesState(Sound):
    def load_state_dict(self, state):
        pass


# ------------------------------------------------------------------------------ scores, returning


class NormalisesInPlace(Sound):
    """`probability = hardness`, and then it is divided: the score itself."""

    def plan(self, pool, run):
        plan = super().plan(pool, run)
        self.losses.values.div_(2)
        return plan


class NormalisesOnce(Sound):
    """Divided by the largest, so that dividing again changes nothing."""

    def plan(self, pool, run):
        plan = super().plan(pool, run)
        values = self.losses.values
        values.div_(values.max().clamp(min=1e-6))
        return plan


class CountsPlans(Sound):
    def plan(self, pool, run):
        self.ended += 1
        return super().plan(pool, run)


class PlansDifferently(Sound):
    asked = 0

    def plan(self, pool, run):
        self.asked += 1
        return pool.keep(torch.arange(self.asked % 2, pool.index.numel(), 2))


class PlansForTheLatest(Sound):
    """Once asked about a later epoch, it answers for that one."""

    latest = 0

    def plan(self, pool, run):
        self.latest = max(self.latest, run.epoch)
        return super().plan(pool, gr.Run(size=run.size, seed=run.seed, epoch=self.latest))


class DecaysEverybody(Sound):
    def observe(self, batch, run):
        self.losses.values.mul_(0.9)
        super().observe(batch, run)


class SelectingMarks(Sound):
    def select(self, batch, k, run):
        self.losses.write(batch.index, batch.losses * 0)
        return torch.arange(k)


class NeverReturns(Sound):
    def plan(self, pool, run):
        return pool.keep(lowest(self.score[pool.index], pool.index.numel() // 2, tie="index"))


class LeavesInTheEnd(Sound):
    def plan(self, pool, run):
        keep = 1.0 if run.epoch < 5 else 0.5
        k = prefix_size(keep, pool.index.numel())
        return pool.keep(lowest(self.score[pool.index], k, tie="index"))


# ----------------------------------------------------------------- construction, labels, inputs


class HidesAnArgument(Sound):
    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        super().__init__(score, keep=keep, warmup_epochs=warmup_epochs)
        self.start = self.warmup_epochs
        del self.warmup_epochs

    def chooses(self, epoch):
        return self.keep < 1 and epoch >= self.start and epoch % 2 == 1


class StoresAnotherValue(Sound):
    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        super().__init__(score, keep=keep / 2, warmup_epochs=warmup_epochs)


class ShowsWhatCannotBeRead(Sound):
    def __repr__(self):
        return f"<{type(self).__name__} of {self.keep}>"


class TakesTheFirst(Sound):
    def plan(self, pool, run):
        return pool.keep(torch.arange(prefix_size(self.keep, pool.index.numel())))


class WeighsByPosition(Sound):
    def weigh(self, batch, run):
        return 1 / (1 + batch.index)


class CountsRows(Sound):
    """Writes by a counter instead of the batch's own indices."""

    def observe(self, batch, run):
        self.losses.write(torch.arange(batch.size), batch.losses)


class ClampsLosses(Sound):
    def weigh(self, batch, run):
        return 1 / (1 + batch.losses.clamp_(max=0.5))


class ClampsObservedLosses(Sound):
    def observe(self, batch, run):
        super().observe(batch, run)
        batch.losses.clamp_(max=0.5)


class ChangesTargets(Sound):
    def weigh(self, batch, run):
        batch.signals["targets"].add_(1)
        return super().weigh(batch, run)


class ChangesThePool(Sound):
    def plan(self, pool, run):
        pool.index = pool.index[::2]
        return pool


class ChangesTheRun(Sound):
    def end_epoch(self, run):
        run.step += 1


class NormalisesTheScore(Sound):
    def __init__(self, score, *, keep=0.5, warmup_epochs=1):
        super().__init__(score, keep=keep, warmup_epochs=warmup_epochs)
        self.score.sub_(self.score.mean())


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


Build = Callable[[Problem], gr.Method]

BROKEN: Mapping[str, list[Example]] = {
    "neutral": [
        example(NearlyNeutral),
        example(ReordersAll),
        example(neutral=lambda problem: Sound(problem.scores, keep=0.9)),
        example(neutral=" "),
    ],
    "resume": [example(ForgetsItsCounter), example(OwnGenerator), example(CachesTheSeed)],
    "saved_state": [example(NumpyState), example(LosesState)],
    "scores_stand": [
        example(NormalisesInPlace),
        example(NormalisesOnce),
        example(CountsPlans),
        example(PlansDifferently),
        example(PlansForTheLatest),
        example(DecaysEverybody),
        example(SelectingMarks),
    ],
    "return": [example(NeverReturns), example(LeavesInTheEnd), example(returns_within=1)],
    "repr": [
        example(HidesAnArgument),
        example(StoresAnotherValue),
        example(ShowsWhatCannotBeRead),
    ],
    "relabelling": [example(TakesTheFirst), example(WeighsByPosition), example(CountsRows)],
    "inputs": [
        example(ClampsLosses),
        example(ClampsObservedLosses),
        example(ChangesTargets),
        example(ChangesThePool),
        example(ChangesTheRun),
        example(NormalisesTheScore),
    ],
    "global_random_state": [
        example(DrawsFromTorch),
        example(DrawsFromNumpy),
        example(DrawsFromPython),
        example(Reseeds),
        example(ReadsTheGlobalSeed),
        example(ReadsPythonsState),
        example(ReadsNumpysState),
    ],
    "seeds": [
        example(DrawsBySeed),
        example(draws=True),
        example(DrawsByEpochAlone, draws=True),
        example(DrawsFromTheSystem, draws=True),
        example(WeighsFromTheSystem, draws=True),
        example(OrdersWithoutSeed),
    ],
    "bad_values": [
        example(ClampsParameters),
        example(RefusesWithoutAName),
        example(RefusesWithAnotherError),
        example(bad={"score": bad_vectors(60), "keep": bad_numbers(above=0, at_most=1)}),
        example(bad={**example().bad, "warmup_epochs": " "}),
        example(bad={**example().bad, "kept": Bad((0,))}),
        example(bad={**example().bad, "keep": Bad((0.3,))}),
    ],
    "copies": [
        example(HoldsALambda),
        example(ForgetsInPickle),
        example(CopiesShallowly),
        example(KnowsItself),
    ],
    "half_precision": [
        example(WantsFloat32),
        example(Overflows),
        example(RoundsInHalf),
        example(InfiniteSlope),
    ],
    "empty_batch": [
        example(DividesByTheLargest),
        example(PoisonedByNothing),
        example(OneRowTooMany),
        example(CountsEveryBatch),
    ],
    "single_sample": [
        example(LeavesNone),
        example(NeedsADeviation),
        example(NeedsADeviation, epochs=1),
    ],
    "zero_weight": [example(WeighsAgainstTheBatch)],
    "decisions": [
        example(NegativeWeights),
        example(InfiniteWeights),
        example(WholeWeights),
        example(OneWeightForAll),
        example(PlansInInt32),
        example(PlansInColumns),
        example(PlansNothing),
        example(PlansOnePreference),
        example(PlansTwice),
        example(PlansStrangers),
        example(PlansNegativeWeights),
        example(PlansTooManyWeights),
        example(PlansPreferenceForNaN),
        example(PlansMoreThanThereIs),
        example(SelectsTwice),
    ],
    "planned_size": [example(PromisesAll), example(PromisesOfTheWhole), example(TiesTakeAll)],
    "references": [example(UnknownPaper), example(OnePaperAsText)],
}
