"""Methods that break what the contract says of neutrality, resume, state, labels and inputs."""

from __future__ import annotations

import numpy as np
import torch

import gradatim as gr
from contract.sound_method import Sound
from gradatim.selection import lowest, prefix_size

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
