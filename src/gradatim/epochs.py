"""Where training stands: the plan of the epoch, the position in it, the rows of each call.

The user's side is `gradatim.Curriculum`; the loader and the checkpoint work on this.
"""

from __future__ import annotations

import collections
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradatim import distributed
from gradatim.log import distinct
from gradatim.method import Method, Run
from gradatim.observations import Observations
from gradatim.plan import Layout, Plan, make_plan
from gradatim.validation import check_index, refusal

__all__ = ["Epochs", "Taken"]


@dataclass(slots=True)
class Taken:
    """The rows one call is about.

    Args:
        index: int64 (B,), on the CPU, padding decoded.
        real: the first ``real`` rows count; the rest only pad ranks to equal length.
        count: rows that count over all ranks.
        plan_weights: (B,) factors from the plan, or None.
        pending: the rows are the oldest batch handed out.
        advances: the call moves the position in the epoch.
        repeated: the same rows as in the call before (closures): nothing to observe or count.
        narrowed: `Curriculum.select` chose and observed them.
        epoch: in which the call was made; a closure may repeat it after the epoch's end.
        step: of that call.
    """

    index: torch.Tensor
    real: int
    count: int
    plan_weights: torch.Tensor | None = None
    pending: bool = False
    advances: bool = True
    repeated: bool = False
    narrowed: bool = False
    epoch: int = 0
    step: int = 0


class Epochs(Observations):
    """Plans epochs, hands out batches, keeps observations and merges them when an epoch ends.

    Args:
        methods: the curriculum's methods, in order.
        seed: seed of every draw.
        device: where tables live; None is where the losses are.
        nonfinite: what becomes of observations that are not finite, ``"raise"`` or ``"skip"``.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        *,
        seed: int,
        device: torch.device | None,
        nonfinite: str,
    ) -> None:
        run = Run(size=0, seed=seed)
        super().__init__(methods, run, device=device, nonfinite=nonfinite)
        self.seed = seed
        self.bound = False
        self.layout = Layout(1)
        self.plan_cached: Plan | None = None
        self.running = False
        self.start = 0  # samples of the plan that were consumed before the resume
        self.resumed_at = 0  # batches consumed before the resume
        self.batch_in_epoch = 0
        self._last_batch: int | None = None  # `steps` of this epoch, once a call has asked
        self.seen = torch.zeros(0, dtype=torch.bool)
        self.previous: torch.Tensor | None = None  # members of the last epoch
        self._loader: weakref.ref[Any] | None = None
        self.token = 0
        self._pending: collections.deque[torch.Tensor] = collections.deque()
        self._front: Taken | None = None  # the oldest batch handed out, once it was asked for
        self._last: tuple[torch.Tensor | None, Taken] | None = None
        # Trainers take an iterator, to know its length, before model and optimizer are attached.
        self.begins_late = False  # a pass begins with its first batch, not with ``iter``
        self._read_ahead = False
        self._coded_epochs = False
        self._keyed = False

    # ------------------------------------------------------------------ binding

    def bind(
        self,
        loader: Any,
        *,
        size: int,
        batch_size: int,
        drop_last: bool,
        steps_per_epoch: int | None,
        read_ahead: bool,
        coded_epochs: bool,
    ) -> None:
        """Take the loader; the first one also fixes the number of samples."""
        if self.loader is not None:
            raise RuntimeError(
                "a curriculum drives one loader, and this one has its own already: "
                "make another Curriculum for another loader."
            )
        if self.bound and size != self.run.size:
            raise refusal("dataset", f"of {self.run.size} samples, as before", size)
        if not self.bound:
            run = Run(size=size, seed=self.seed)
            run.world, run.rank = distributed.world_and_rank()
            for method in self.methods:
                method.setup(run)
            self.run = run
            for table in self.tables():
                if table.per_sample:
                    table.allocate(size, self.device or "cpu")
            self.seen = torch.zeros(size, dtype=torch.bool)
            self.bound = True
        self.layout = Layout(batch_size, drop_last, steps_per_epoch)
        self.forget_plan()  # an earlier loader may have cut it otherwise
        self._read_ahead = read_ahead
        self._coded_epochs = coded_epochs
        self._keyed = loader.carry == "key"
        self._loader = weakref.ref(loader)  # a strong one would keep workers alive for ever

    @property
    def loader(self) -> Any:
        """The loader, or None if there is none any longer."""
        return None if self._loader is None else self._loader()

    # ------------------------------------------------------------------ plan

    @property
    def begun(self) -> bool:
        """Whether some of the current epoch's batches lie behind."""
        return bool(self.batch_in_epoch or self.start)

    def look_up_world(self) -> None:
        """Processes may be started after the curriculum was built, even after a plan was made."""
        found = distributed.world_and_rank()
        if found != (self.run.world, self.run.rank) and not self.begun:
            self.run.world, self.run.rank = found
            self.forget_plan()

    def plan(self) -> Plan:
        """The coming or current epoch's plan; made once, from merged state."""
        if not self.bound:
            raise RuntimeError("curriculum must have a loader: call curriculum.loader(...) first.")
        if self.plan_cached is None:
            self.look_up_world()
            self.plan_cached = make_plan(self.methods, self.run, self.layout)
        return self.plan_cached

    @property
    def batch_size(self) -> int:
        """Samples per batch and rank in the current epoch."""
        return self.layout.batch_size * self.plan().batch_scale

    def steps(self) -> int:
        """Batches of the current epoch, also after a resume within it."""
        plan = self.plan()
        rest = plan.index.numel() - self.start
        return self.resumed_at + self.layout.steps(rest, self.run.world, plan.batch_scale)

    def samples_per_rank(self) -> int:
        """Rows this rank will be given in the rest of the epoch, padding included."""
        return -(-(self.plan().index.numel() - self.start) // self.run.world)

    def rank_codes(self) -> Iterator[int]:
        """Index codes of this rank's share, from the current position on."""
        shift = self.run.epoch * self.run.size if self._coded_epochs else 0
        for index in self.plan().share(self.start, self.run.world, self.run.rank):
            yield index + shift if index >= 0 else index - shift

    def consumed(self) -> int:
        """Samples of the global plan that were trained on or skipped so far."""
        if self.plan_cached is None:
            return 0
        batches = self.batch_in_epoch - self.resumed_at
        done = self.start + batches * self.batch_size * self.run.world
        return min(done, self.plan_cached.index.numel())

    # ------------------------------------------------------------------ the stream of batches

    def begin(self) -> int:
        """A new pass over the loader; an epoch that was broken out of ends here."""
        if self.running and self.batch_in_epoch > self.resumed_at:
            self.end()
        elif self.running:
            # Nothing was trained on since: the same epoch, from where it was resumed.
            self.running = False
        if self.begun and self.batch_in_epoch >= self.steps():
            self.end()  # a checkpoint taken after the end had failed: no batch is left
        self.token += 1
        self._pending.clear()
        self._front = None
        self._last = None
        self._last_batch = None
        self.look_up_world()
        if distributed.world_and_rank() != (self.run.world, self.run.rank):
            raise RuntimeError(
                "the number of processes must not change within an epoch. Was a checkpoint loaded "
                "before the process group was started? Load it afterwards."
            )
        plan = self.plan()
        if self.run.world > 1:
            position = (self.run.epoch, self.run.step, self.start, self.batch_size)
            distributed.agree(
                "the plan of the epoch",
                hash((plan.checksum(), *position)),
                "Do all ranks use the same seed, data, batch size and checkpoint?",
            )
        self.run.first_step = self.run.step - self.batch_in_epoch
        self.run.epoch_steps = self.steps()
        asked = any(method.asks_distinct for method in self.methods)
        self.run.distinct = asked and distinct(plan.index)
        for method in self.methods:
            method.start_epoch(self.run)
        self.track()
        self.running = True
        return self.token

    def check_current(self, token: int) -> None:
        """Refuse an iterator that a newer one has replaced."""
        if token != self.token:
            raise RuntimeError("this iterator is stale: a newer one over the same loader exists.")

    def hand_out(self, index: torch.Tensor) -> None:
        """A batch with these index codes goes to the training loop."""
        self._pending.append(index)

    def skip(self) -> None:
        """Drop the oldest batch handed out: it counts as done, and nothing is observed."""
        if not self._pending:
            raise RuntimeError("there is no batch to skip: iterate over curriculum.loader(...).")
        self._pending.popleft()
        self._front = None
        self._advance()

    def peek(self, index: torch.Tensor | None) -> Taken:
        """The rows a call is about; changes nothing."""
        if index is None:
            return self._from_pending()
        if not self.bound:
            raise RuntimeError("curriculum must have a loader: call curriculum.loader(...) first.")
        if not isinstance(index, torch.Tensor) or index.dtype != torch.int64 or index.ndim != 1:
            raise refusal("index", "a tensor, int64 and one-dimensional", index)
        # A copy: the caller may use one buffer for the index of every batch.
        given, index = index, index.detach().to("cpu", copy=True)
        taken = self._from_pending() if self._pending else None
        if taken is not None and torch.equal(index, taken.index):
            return taken
        # A closure repeats a batch before the next is drawn, unless something reads ahead.
        if self._last is not None and (taken is None or self._read_ahead):
            before, last = self._last
            # Under a key two batches may hold the same samples; only the same tensor is a repeat.
            if torch.equal(index, last.index) and (given is before or not self._keyed):
                return replace(last, pending=False, advances=False, repeated=True)
        if taken is not None:
            return replace(self._described(index, pending=False, advances=True), pending=True)
        return self._described(index, pending=False, advances=self._keyed)

    def run_of(self, taken: Taken) -> Run:
        """Where training stood at the first call about these rows."""
        if not taken.repeated:
            return self.run
        return replace(self.run, epoch=taken.epoch, step=taken.step, distinct=False)

    def _from_pending(self) -> Taken:
        if not self._pending:
            raise RuntimeError(
                "there is no batch to weigh: iterate over curriculum.loader(...) and call the "
                "curriculum once per batch, or pass index=."
            )
        if len(self._pending) > 1 and not self._read_ahead:
            raise RuntimeError(
                f"{len(self._pending)} batches were drawn since the last call. Does something read "
                "the loader ahead? Pass read_ahead=True to curriculum.loader. Was a batch left "
                "out? Call curriculum.skip()."
            )
        if self._front is None:
            self._front = self._described(self._pending[0], pending=True, advances=True)
        return self._front

    def oldest_alone(self) -> Taken | None:
        """The only batch handed out, where there are no other processes; else None."""
        return self._from_pending() if len(self._pending) == 1 and self.run.world == 1 else None

    def _described(self, codes: torch.Tensor, *, pending: bool, advances: bool) -> Taken:
        real = codes.numel()
        index = codes
        if self.run.world > 1 or not pending:
            padding = codes < 0
            real -= int(padding.sum())
            if real < codes.numel():
                index = torch.where(padding, ~codes, codes)
        if not pending:
            check_index("index", index, self.run.size)
            self.run.distinct = False  # they may be any samples, and come again
        count = real
        if self.run.world > 1:
            left = self.plan().index.numel() - self.consumed()
            full = self.batch_size * self.run.world
            count = min(full, left) if advances else real * self.run.world
        return Taken(index, real, count, self._plan_weights(index), pending, advances)

    def _plan_weights(self, index: torch.Tensor) -> torch.Tensor | None:
        weights = None if self.plan_cached is None else self.plan_cached.weights
        return None if weights is None else weights[index]

    @property
    def waiting(self) -> bool:
        """Whether a batch waits for its call."""
        return bool(self._pending)

    @property
    def pending_index(self) -> torch.Tensor:
        """int64 (B,): the samples of the batch that waits for its call; a copy."""
        return self._from_pending().index.clone()

    def narrow(self, positions: torch.Tensor, k: int) -> None:
        """Keep only some rows of the pending batch, of which k were asked for on each rank."""
        taken, positions = self._from_pending(), positions.cpu()
        index, real = taken.index.index_select(0, positions), positions.numel()
        if taken.real < taken.index.numel():
            real = int((positions < taken.real).sum())
        world, rank = self.run.world, self.run.rank
        # They ascend; a method may draw with replacement.
        if self.run.distinct and bool((positions[1:] == positions[:-1]).any()):
            self.run.distinct = False
        # The last batch may leave ranks uneven numbers, and every chosen sample counts alike. What
        # ranks choose is known without asking them, unless a method chooses fewer than it may.
        few, more = divmod(taken.count, world)  # candidates of most ranks; so many have one more
        if real == min(k, few + (rank < more)):
            count = min(k, few) * (world - more) + min(k, few + 1) * more
        else:
            count = real * world
        weights = self._plan_weights(index)
        self._front = Taken(index, real, count, weights, pending=True, narrowed=True)

    def commit(self, taken: Taken, given: torch.Tensor | None) -> None:
        """The call about ``taken`` (with the index it was given) succeeded: move on."""
        if taken.repeated:
            return
        run = self.run
        taken.epoch, taken.step = run.epoch, run.step
        self._last = (given, taken)
        if taken.pending:
            self._pending.popleft()
            self._front = None
        if taken.advances:
            self._advance()

    def _advance(self) -> None:
        self.batch_in_epoch += 1
        self.run.step += 1
        if self.log.bytes >= self.log_limit_bytes:
            self.apply_log()
        if self._last_batch is None:
            self._last_batch = self.steps()
        if self.batch_in_epoch >= self._last_batch:
            self.end()

    def end(self) -> None:
        """Finish the epoch: merge, let methods react, move to the next."""
        for table in self.tables():
            table.settle()
        self.merge()
        members = self.members()
        self.seen |= members
        self.previous = members
        self.running = False
        for method in self.methods:
            method.end_epoch(self.run)
        self.run.epoch += 1
        self.batch_in_epoch = self.resumed_at = self.start = 0
        self.plan_cached = self._last_batch = None

    def members(self) -> torch.Tensor:
        """Bool (N,): samples of this epoch's plan consumed so far."""
        members = torch.zeros(self.run.size, dtype=torch.bool)
        if self.plan_cached is not None:
            members[self.plan_cached.index[: self.consumed()]] = True
        return members

    def forget_plan(self) -> None:
        """Plan anew: what methods know has changed between epochs."""
        if not self.begun:
            self.plan_cached = None

    def forget_stream(self) -> None:
        """Make every iterator stale, after a checkpoint was loaded."""
        self.token += 1
        self._pending.clear()
        self._front = None
        self._last = None
        self._last_batch = None
        self.running = False
