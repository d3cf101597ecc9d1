"""The protocol: what a method is given, and the hooks it may answer.

A method decides; the engine (`gradatim.Curriculum`) owns epochs, batches, ranks and checkpoints.
Every hook is optional.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch

from gradatim import distributed
from gradatim.table import Table, declared

__all__ = ["Batch", "Method", "Pool", "Run", "fingerprint"]


@dataclass
class Pool:
    """The samples an epoch may use; each method's `plan` receives what the one before left.

    Args:
        index: int64 (M,), candidate samples, in order.
        log_weights: (M,), sampling log-weights of a draw without replacement; None is uniform.
        weights: (M,), factors of the samples' losses; None is 1 everywhere.
        size: how many candidates to draw; None is all of them.
        ordered: keep the order of ``index`` instead of shuffling.
        batch_scale: this epoch's batch size as a multiple of the loader's.

    Example:
        >>> pool = Pool(torch.arange(4)).keep(torch.tensor([3, 0]))
        >>> pool.index
        tensor([3, 0])
    """

    index: torch.Tensor
    log_weights: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    size: int | None = None
    ordered: bool = False
    batch_scale: int = 1

    def keep(self, positions: torch.Tensor) -> Pool:
        """The pool of the candidates at ``positions`` (int64, or a bool mask of (M,))."""

        def part(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[positions.to(values.device)]

        index = self.index[positions.to(self.index.device)]
        size = None if self.size is None else min(self.size, index.numel())
        return replace(
            self,
            index=index,
            log_weights=part(self.log_weights),
            weights=part(self.weights),
            size=size,
        )

    def prefer(self, log_weights: torch.Tensor) -> Pool:
        """The pool with ``log_weights`` (M,) added to the sampling log-weights."""
        log_weights = log_weights.to(self.index.device)
        old = self.log_weights
        return replace(self, log_weights=log_weights if old is None else old + log_weights)

    def weigh(self, weights: torch.Tensor) -> Pool:
        """The pool with the factors of the losses multiplied by ``weights`` (M,)."""
        weights = weights.to(self.index.device)
        return replace(self, weights=weights if self.weights is None else self.weights * weights)


@dataclass
class Batch:
    """Rows a method sees: one batch in `weigh` and `select`, rows of several steps in `observe`.

    Args:
        index: int64 (B,), data set positions; distinct in `observe`.
        losses: (B,), detached unless the method is ``differentiable``; to be read, not written to.
        signals: what the method wants, each with first dimension B; likewise.
        epoch: the epoch in which the rows were seen.
        step: the engine's step; in `observe` int64 (B,), one per row.
        learning_rate: the rate at that step, where a method wants it; in `observe` float64 (B,).
        clock: summed learning rate of the optimizer steps before that step, where a method wants
            the rate; in `observe` float64 (B,).
        previous_rate: the rate of the last of those steps, or the current one if there was none;
            in `observe` float64 (B,).
        surveyed: the rows come from `Curriculum.survey`, not from training.
        repeated: these rows were weighed before (a closure): count nothing twice.

    Example:
        >>> Batch(torch.tensor([5]), torch.tensor([0.1])).size
        1
    """

    index: torch.Tensor
    losses: torch.Tensor
    signals: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    step: int | torch.Tensor = 0
    learning_rate: float | torch.Tensor | None = None
    clock: float | torch.Tensor | None = None
    surveyed: bool = False
    repeated: bool = False
    previous_rate: float | torch.Tensor | None = None

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.index.numel()


@dataclass
class Run:
    """Where training stands; the same on every rank but for ``rank``.

    Args:
        size: N, samples in the data set.
        seed: the curriculum's seed.
        world: number of processes.
        rank: this process, in [0, world).
        epoch: epochs completed.
        step: batches trained on so far, over all epochs.
        first_step: ``step`` where the epoch that was begun last started; a resume keeps it.
        epoch_steps: batches of that epoch; 0 before the first.
        distinct: whether no sample comes twice in that epoch, as far as the engine knows; looked
            at only for a method that asks (`Method.asks_distinct`), and False from the first
            batch that a call was given by ``index=`` alone.

    Example:
        >>> run = Run(size=10, seed=0)
        >>> draw = torch.rand(2, generator=run.generator("plan"))
        >>> bool((draw == torch.rand(2, generator=run.generator("plan"))).all())
        True
    """

    size: int
    seed: int
    world: int = 1
    rank: int = 0
    epoch: int = 0
    step: int = 0
    first_step: int = 0
    epoch_steps: int = 0
    distinct: bool = False

    def generator(self, *purpose: object, epoch: int | None = None) -> torch.Generator:
        """A generator that depends on (seed, epoch, purpose) alone, alike on every rank.

        Args:
            purpose: strings and ints that name what is drawn.
            epoch: another epoch than the current one, for draws made once in a run.
        """
        key = (self.seed, self.epoch if epoch is None else epoch, purpose)
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the rows of all ranks, 0-d; one all-reduce, so every rank must call it."""
        return distributed.global_mean(values)


def fingerprint(tensor: torch.Tensor) -> str:
    """A short name of a tensor's content: equal tensors have equal names.

    Example:
        >>> fingerprint(torch.tensor([1.0, 2.0])) == fingerprint(torch.tensor([1.0, 2.0]))
        True
    """
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    head = f"{tuple(tensor.shape)}{tensor.dtype}".encode()
    return hashlib.blake2b(head + raw, digest_size=6).hexdigest()


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"<{tuple(value.shape)} tensor {fingerprint(value)}>"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


class Method:
    """One way to decide what a model trains on next. Subclass it and answer the hooks you need.

    Assign a `Table` or a `Scalar` to an attribute to declare state: the engine allocates it, merges
    it over ranks at the end of each epoch and saves it. Keep each constructor argument in an
    attribute of the same name, so that ``repr`` can show it.

    Attributes:
        wants: names of the signals that the call must be given besides losses; the engine itself
            supplies ``"learning_rate"``.
        accepts: names of signals that the method uses where they are given.
        differentiable: `weigh` sees losses with their graph, so that its weights have a gradient.
        nonnegative: losses below 0 are refused, in the call on the CPU.
        reads_losses: `observe` reads the rows' losses. Where no method does they are not kept, and
            NaN stands for them.
        criterion_by_index: `criterion` is also given ``index=``, int64 (B,), the samples that the
            rows belong to, and is not asked where no sample is known, as in evaluation.
        knows_samples: hooks look samples up by their index, in other places than tables: such a
            method is refused on a stream, as one with a `plan` or with tables of samples is.
        asks_distinct: `Run.distinct` is of use to it.
        shapes_model: the attached model's outputs depend on this method's state, too: a checkpoint
            of the model is worth what it was under the state of that moment.
        fresh: columns of `record` that are new tensors, which nobody else holds: they are kept as
            they are. All others are copied, since the call's tensors may change afterwards.
        reduction: ``"mean"``: weighted losses are divided by the number of samples;
            ``"weighted_mean"``: by the sum of the weights.
        references: keys of the papers, for `gradatim.cite`.

    Example:
        >>> class Halve(Method):
        ...     def weigh(self, batch, run):
        ...         return torch.full_like(batch.losses, 0.5)
        >>> Halve()
        Halve()
    """

    wants: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    differentiable: ClassVar[bool] = False
    nonnegative: bool = False
    reads_losses: bool = True
    criterion_by_index: ClassVar[bool] = False
    knows_samples: ClassVar[bool] = False
    asks_distinct: ClassVar[bool] = False
    shapes_model: ClassVar[bool] = False
    fresh: ClassVar[tuple[str, ...]] = ()
    reduction: Literal["mean", "weighted_mean"] = "mean"
    references: ClassVar[tuple[str, ...]] = ()

    def setup(self, run: Run) -> None:
        """Called once, when the number of samples is known: check it, declare tables."""

    def attach(self, model: torch.nn.Module | None, optimizer: Any | None) -> None:
        """The user handed over the (unwrapped) model and optimizer."""

    def detach(self) -> None:
        """Restore model and optimizer exactly."""

    def start_epoch(self, run: Run) -> None:
        """The first batch of an epoch is about to be drawn; called on all ranks.

        Called again where the same epoch is begun again (after a resume, or when a pass over the
        loader trained on nothing), so it must give the same result twice.
        """

    def end_epoch(self, run: Run) -> None:
        """An epoch is over and tables are merged; called on all ranks."""

    def plan(self, pool: Pool, run: Run) -> Pool:
        """Narrow, order or weigh the epoch's pool. A pure function of merged state and ``run``."""
        return pool

    def planned_size(self, size: int, epoch: int) -> int | None:
        """How many of ``size`` samples `plan` will leave in ``epoch``; None if data decide."""
        return size if type(self).plan is Method.plan else None

    def planned_scale(self, epoch: int) -> int:
        """The batch scale that `plan` will give in ``epoch``."""
        return 1

    def survey_due(self, run: Run) -> bool:
        """Whether this method wants `Curriculum.survey` before the coming epoch."""
        return False

    def select(self, batch: Batch, k: int, run: Run) -> torch.Tensor:
        """Positions (k,) of a candidate batch to train on; `weigh` then gets these rows."""
        raise TypeError(f"{type(self).__name__} does not select.")

    def weigh(self, batch: Batch, run: Run) -> torch.Tensor | None:
        """Factors (B,) of the losses, or None for 1; None on all ranks or on none."""
        return None

    def criterion(
        self, logits: torch.Tensor, targets: torch.Tensor, run: Run
    ) -> torch.Tensor | None:
        """Losses (B,) to train on in this epoch, or None for the usual ones."""
        return None

    def replaces_criterion(self, run: Run) -> bool:
        """Whether `criterion` must be used in this epoch."""
        return type(self).criterion is not Method.criterion

    def records(self, epoch: int) -> bool:
        """Whether `record` is asked in this epoch; what it gives besides losses costs time.

        By default where a method answers it itself, or wants signals.
        """
        return overrides(self, "record") or bool(set(self.wants) - {"learning_rate"})

    def record(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        """What to remember of a batch until `observe`, besides losses; keep it small.

        Returns:
            Columns with first dimension B. By default the wanted signals as they are.
        """
        return {name: batch.signals[name] for name in self.wants if name != "learning_rate"}

    def observe(self, batch: Batch, run: Run) -> None:
        """Write what was seen into tables; ``batch.signals`` holds what `record` gave."""

    def state_dict(self) -> dict[str, Any]:
        """State that is in no table: CPU tensors and plain Python, always under the same keys."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def tables(self) -> dict[str, Table]:
        """The declared tables by name; scalars by the one-row table underneath."""
        return declared(self)

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as they stand in the attributes of the same names."""
        names = inspect.signature(type(self).__init__).parameters
        return {
            name: getattr(self, name) for name in names if name != "self" and name in vars(self)
        }

    def __str__(self) -> str:
        """As ``repr``, without the arguments that stand at their defaults."""
        defaults = inspect.signature(type(self).__init__).parameters
        shown = (
            f"{name}={_shown(value)}"
            for name, value in self.settings().items()
            if _shown(value) != _shown(defaults[name].default)
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in self.settings().items())
        return f"{type(self).__name__}({shown})"


def overrides(method: Method, hook: str) -> bool:
    """Whether a method answers a hook itself."""
    return getattr(type(method), hook) is not getattr(Method, hook)
