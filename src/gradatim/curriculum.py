"""The engine's public side: `Curriculum`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F

from gradatim import checkpoint, distributed, survey
from gradatim.clock import Clock
from gradatim.epochs import Epochs, Taken
from gradatim.loader import CurriculumLoader
from gradatim.method import Batch, Method, Run, overrides
from gradatim.validation import check_choice, check_count, check_finite, refusal

__all__ = ["Curriculum"]


def _unwrapped(model: Any) -> Any:
    """The user's module under DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__.endswith("DataParallel"):
            inner = getattr(model, "module", None)
        if inner is None:
            return model
        model = inner


def _mixed(targets: Any) -> bool:
    """Whether targets are distributions (rows that sum to 1) between one-hot ones."""
    if not isinstance(targets, torch.Tensor) or targets.ndim != 2:
        return False
    if not targets.is_floating_point():
        return False
    soft = ((targets > 0) & (targets < 1)).any()
    # Rounding of half precision; regression and several labels at once do not sum to 1.
    close = ((targets >= 0).all(1) & ((targets.sum(1) - 1).abs() < 0.02)).all()
    return bool(soft & close)


class Curriculum:
    """Decides what a model trains on next and how much each example counts, in any loop.

    Three lines of a training loop change: the loader comes from `loader`, losses are kept per
    sample, and the curriculum is called where ``.mean()`` stood. It owns epochs, batches, ranks
    and checkpoints; the methods it is made of own the decisions.

    Args:
        methods: `gradatim.Method` objects, each used in this curriculum only. Plans form a
            pipeline in this order, weights multiply; at most one may select within batches, at
            most one may replace the criterion. None at all is plain shuffling.
        seed: of every draw, with the epoch and the draw's purpose. The global random state is
            neither read nor written.
        criterion: ``(logits, targets) -> losses (B,)`` for `criterion`; None is cross-entropy.
        learning_rate: callable that gives the current rate, for methods that need it; None reads
            the attached optimizer's first group.
        nonfinite: ``"raise"`` refuses losses that are not finite (on an accelerator when they are
            applied, before tables change); ``"skip"`` gives them weight 0 and forgets them.
        device: where per-sample state lives; None is where the losses are.

    Raises:
        TypeError: an argument of the wrong kind, or two methods that cannot go together.
        ValueError: an argument outside its range.

    Example:
        >>> import torch, gradatim as gr
        >>> data = torch.utils.data.TensorDataset(torch.arange(6.0))
        >>> curriculum = gr.Curriculum(gr.Uniform(), seed=0)
        >>> loader = curriculum.loader(data, batch_size=4)
        >>> weight = torch.zeros((), requires_grad=True)
        >>> for (x,) in loader:
        ...     losses = (weight - x) ** 2
        ...     loss = curriculum(losses)
        >>> bool(loss == losses.mean()), curriculum.epoch, curriculum.step
        (True, 1, 2)
    """

    def __init__(
        self,
        *methods: Method,
        seed: int = 0,
        criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        learning_rate: Callable[..., Any] | None = None,
        nonfinite: Literal["raise", "skip"] = "raise",
        device: torch.device | str | None = None,
    ) -> None:
        for method in methods:
            if not isinstance(method, Method):
                cause = "Did you pass the class?" if isinstance(method, type) else ""
                raise TypeError(str(refusal("methods", "gradatim.Method objects", method, cause)))
        if len({id(method) for method in methods}) < len(methods):
            raise refusal("methods", "different objects", list(methods))
        for hook, what in (("select", "select within batches"), ("criterion", "set the criterion")):
            found = [repr(method) for method in methods if overrides(method, hook)]
            if len(found) > 1:
                raise TypeError(f"at most one method may {what}. Got {' and '.join(found)}.")
        if criterion is not None and not callable(criterion):
            raise TypeError(f"criterion must be callable or None. Got {criterion!r}.")
        check_choice("nonfinite", nonfinite, ("raise", "skip"))
        self.methods = methods
        self.seed = check_count("seed", seed)
        self.clock = Clock(learning_rate)
        self.epochs = Epochs(
            methods,
            seed=self.seed,
            device=None if device is None else torch.device(device),
            nonfinite=nonfinite,
        )
        self._nonfinite = nonfinite
        self._criterion = criterion
        self._criterion_used = False
        self._weighing = [method for method in methods if overrides(method, "weigh")]
        self._observing = any(overrides(method, "observe") for method in methods)
        self._replacing = [method for method in methods if overrides(method, "criterion")]
        self._wanted = {
            name: method for method in methods for name in method.wants if name != "learning_rate"
        }
        self._accepted = set(self._wanted).union(*(method.accepts for method in methods))
        self._paced = [method for method in methods if "learning_rate" in method.wants]
        self._weighted_mean = any(method.reduction == "weighted_mean" for method in methods)
        self._model: torch.nn.Module | None = None
        self._attached = False
        self._restore: dict[str, Any] | None = None
        self._collected: tuple[int, int, dict[str, Any]] | None = None
        self._warned_mixed = False

    def __repr__(self) -> str:
        parts = [repr(method) for method in self.methods]
        return f"Curriculum({', '.join([*parts, f'seed={self.seed}'])})"

    # ------------------------------------------------------------------ where training stands

    @property
    def run(self) -> Run:
        """Size, seed, world, rank, epoch and step, as methods see them."""
        return self.epochs.run

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.epochs.run.epoch

    @property
    def step(self) -> int:
        """Batches trained on or skipped so far, over all epochs."""
        return self.epochs.run.step

    @property
    def index(self) -> torch.Tensor:
        """int64 (B,): data set positions of the batch that waits for its call."""
        return self.epochs.pending_index

    # ------------------------------------------------------------------ setting up

    def loader(self, dataset: Any, batch_size: int, **options: Any) -> CurriculumLoader:
        """A DataLoader whose batches follow the curriculum and are exactly what they were.

        Args:
            dataset: map-style; its size must not change.
            batch_size: samples per batch and process.
            **options: every argument of `torch.utils.data.DataLoader` but ``shuffle``, ``sampler``
                and ``batch_sampler``, and these of ours:
                ``steps_per_epoch`` (int): epochs of fixed length; small plans repeat, reshuffled.
                ``seed_augmentation`` (bool): random augmentation becomes a function of seed, epoch
                and sample, independent of workers, ranks and resume.
                ``read_ahead`` (bool): something fetches batches before their turn.
                ``carry`` (``"hidden"`` or ``"key"``): with ``"key"`` dict batches hold their index
                under ``"_gradatim_index"``; pass it as ``index=`` to the call.

        Raises:
            TypeError: ``shuffle``, ``sampler`` or ``batch_sampler`` is given, or a stream.
            ValueError: empty data, or options outside their range.
            RuntimeError: the curriculum has a loader already.
        """
        loader = CurriculumLoader(self, dataset, batch_size, **options)
        if self._restore is not None:
            state, self._restore = self._restore, None
            checkpoint.load(self, state)
        return loader

    def attach(self, model: Any = None, optimizer: Any = None) -> Curriculum:
        """Hand over the model and optimizer, where a method needs them; returns the curriculum.

        Args:
            model: a module, also wrapped by DistributedDataParallel or torch.compile.
            optimizer: a `torch.optim.Optimizer`, also wrapped (``.optimizer``).

        Raises:
            RuntimeError: something is attached already.
            TypeError: neither a module nor an optimizer.
        """
        if self._attached:
            raise RuntimeError("a curriculum attaches once: call detach() before attaching again.")
        module = _unwrapped(model)
        if module is not None and not isinstance(module, torch.nn.Module):
            raise TypeError(str(refusal("model", "a torch.nn.Module", repr(model))))
        inner = getattr(optimizer, "optimizer", optimizer)
        if inner is not None and not isinstance(inner, torch.optim.Optimizer):
            raise TypeError(str(refusal("optimizer", "a torch.optim.Optimizer", repr(optimizer))))
        self._model = module
        if inner is not None:
            self.clock.attach(inner)
        done: list[Method] = []
        try:
            for method in self.methods:
                method.attach(module, inner)
                done.append(method)
        except BaseException:
            for method in reversed(done):
                method.detach()
            self.clock.detach()
            self._model = None
            raise
        self._attached = True
        return self

    def detach(self) -> None:
        """Restore model and optimizer exactly as they were before `attach`."""
        for method in reversed(self.methods):
            method.detach()
        self.clock.detach()
        self._model = None
        self._attached = False

    # ------------------------------------------------------------------ a step

    def __call__(
        self,
        losses: torch.Tensor,
        *,
        index: torch.Tensor | None = None,
        observed: dict[str, torch.Tensor] | Literal[False] | None = None,
        **signals: Any,
    ) -> torch.Tensor:
        """Observe, weigh and reduce: stands where ``losses.mean()`` stood.

        Args:
            losses: (B,), one per sample, any floating dtype; never changed in place.
            index: int64 (B,), the samples these losses belong to; None is the loader's last batch.
                With the same index again (a closure) nothing is observed or counted twice.
            observed: values of the unmixed batch under mix-up or CutMix: ``dict(losses=...,
                logits=...)``; False observes nothing.
            **signals: what methods want (``logits``, ``targets``, ...); others are ignored.

        Returns:
            0-d loss: ``losses.mean()`` to the bit where nothing weighs, else reduced in float32 or
            wider. Averaged over ranks its gradient is the single-process one.

        Raises:
            ValueError: wrong shape, a missing signal, losses that are not finite.
            RuntimeError: no batch, more than one batch, or an unused criterion.
        """
        weights, scale, kept, plain = self._step(losses, index, observed, signals)
        if plain:
            return (losses if kept is None else torch.where(kept, losses, 0)).mean()
        wide = torch.promote_types(losses.dtype, torch.float32)
        used = losses.to(wide)
        if kept is not None:
            used = torch.where(kept, used, 0)
        return (used if weights is None else used * weights).sum() * scale

    def weigh(
        self,
        losses: torch.Tensor,
        *,
        index: torch.Tensor | None = None,
        observed: dict[str, torch.Tensor] | Literal[False] | None = None,
        **signals: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """As the call, without the reduction: loss = (weights * losses).sum() * scale.

        Returns:
            weights (B,) in float32 or wider, and the scale. Under ``nonfinite="skip"`` mask the
            losses too, since 0 times NaN is NaN.
        """
        weights, scale, _, _ = self._step(losses, index, observed, signals)
        wide = torch.promote_types(losses.dtype, torch.float32)
        if weights is None:
            weights = torch.ones_like(losses, dtype=wide, requires_grad=False)
        return weights, scale

    def _step(
        self,
        losses: torch.Tensor,
        index: torch.Tensor | None,
        observed: dict[str, torch.Tensor] | Literal[False] | None,
        signals: dict[str, Any],
    ) -> tuple[torch.Tensor | None, torch.Tensor | float, torch.Tensor | None, bool]:
        """Weights (None is 1), scale, mask of kept losses, and whether this is a plain mean."""
        epochs = self.epochs
        taken = epochs.peek(index)
        run = epochs.run_of(taken)
        detached = losses.detach() if isinstance(losses, torch.Tensor) else losses
        kept = self._check(detached, taken, signals)
        seen = self._observed(losses, observed, signals, taken)
        epochs.place(losses.device)

        rate = clock = None
        if self._paced:
            rate, clock = self.clock.rate(run.step), self.clock.time
        batch = None
        if self._weighing or (seen is not None and self._observing):
            batch = self._batch(detached, signals, taken, rate, clock)
        weights = None
        if self._weighing or taken.plan_weights is not None:
            weights = self._weights(losses, batch, taken)
        weighed = weights is not None  # alike on all ranks; padding, which follows, is not
        padding = taken.index.numel() - taken.real
        if padding:
            if weights is None:
                wide = torch.promote_types(losses.dtype, torch.float32)
                weights = torch.ones(taken.real, dtype=wide, device=losses.device)
            weights = torch.cat([weights, weights.new_zeros(padding)])
        if kept is not None:
            wide = torch.promote_types(losses.dtype, torch.float32)
            ones = torch.ones_like(losses, dtype=wide, requires_grad=False)
            weights = torch.where(kept, ones if weights is None else weights, 0)
        if seen is not None and self._observing and batch is not None and not taken.repeated:
            values, known = seen
            same = values is losses
            row = batch if same else self._batch(values.detach(), known, taken, rate, clock)
            epochs.remember(row)

        if self._weighted_mean and weights is not None and weighed:
            world = run.world
            total = distributed.global_sum(weights.detach().sum())
            # All weights zero: the loss is zero, not 0 / 0.
            scale = torch.where(total > 0, world / total, torch.zeros_like(total))
        else:
            scale = run.world / max(1, taken.count)
        alone = taken.count == taken.real * run.world == losses.shape[0] * run.world
        plain = alone and not weighed
        step = run.step  # the run moves on in commit
        epochs.commit(taken, index)
        self._criterion_used = False
        if taken.advances:
            self.clock.after_call(step)
        return weights, scale, kept, plain

    def _check(
        self, losses: torch.Tensor, taken: Taken, signals: dict[str, Any]
    ) -> torch.Tensor | None:
        """Refuse bad input before anything changes; the mask of kept losses under ``"skip"``."""
        size = taken.index.numel()
        if not isinstance(losses, torch.Tensor):
            raise TypeError(f"losses must be a tensor of shape ({size},). Got {losses!r}.")
        if losses.ndim != 1 or losses.shape[0] != size:
            cause = (
                "Did you forget reduction='none'?"
                if losses.ndim == 0
                else "Does collate_fn drop samples, or is this another batch?"
            )
            raise refusal("losses", f"one per sample, of shape ({size},)", losses, cause)
        if not losses.is_floating_point():
            raise refusal("losses", "of a floating dtype", losses)
        for name, method in self._wanted.items():
            value = signals.get(name)
            if value is None:
                raise ValueError(
                    f"{name} must be given: {method!r} needs it. "
                    f"Call curriculum(losses, {name}={name})."
                )
            if isinstance(value, torch.Tensor) and (value.ndim == 0 or value.shape[0] != size):
                raise refusal(name, f"one row per sample: {size} of them", value)
        if self._paced and not self.clock.known:
            raise ValueError(
                f"learning rate must be known: {self._paced[0]!r} needs it. Call "
                "curriculum.attach(optimizer=optimizer) or pass Curriculum(learning_rate=...)."
            )
        if self._replacing and not self._criterion_used and not taken.repeated:
            method = self._replacing[0]
            if method.replaces_criterion(self.run):
                raise RuntimeError(
                    f"losses must come from curriculum.criterion(logits, targets) in epoch "
                    f"{self.epoch}: {method!r} trains on another loss in it."
                )
        if self._nonfinite == "skip":
            return torch.isfinite(losses)
        if losses.device.type == "cpu":
            # One sum finds every NaN and infinity; an overflowing sum is looked at closely.
            total = float(losses.sum())
            if total - total != 0.0:
                check_finite("losses", losses, taken.index)
        return None

    def _observed(
        self,
        losses: torch.Tensor,
        observed: dict[str, torch.Tensor] | Literal[False] | None,
        signals: dict[str, Any],
        taken: Taken,
    ) -> tuple[torch.Tensor, dict[str, Any]] | None:
        """What the methods shall remember of this batch, or None for nothing."""
        if taken.narrowed:
            return None
        if isinstance(observed, dict):
            rest = dict(observed)
            values = rest.pop("losses", None)
            if not isinstance(values, torch.Tensor) or values.shape != losses.shape:
                rule = f'a dict with "losses" of shape ({losses.shape[0]},)'
                raise refusal("observed", rule, values if "losses" in observed else observed)
            if self._nonfinite == "raise" and values.device.type == "cpu":
                check_finite("observed losses", values.detach(), taken.index)
            return values, {**signals, **rest}
        if observed is not None and observed is not False:
            raise refusal("observed", "a dict, False or None", observed)
        mixed = observed is False or (self._observing and _mixed(signals.get("targets")))
        if not mixed:
            return losses, signals
        if self._observing and not self._warned_mixed and observed is None:
            self._warned_mixed = True
            warnings.warn(
                "targets look mixed (mix-up or CutMix), so such batches are not observed: pass "
                "observed=dict(losses=..., ...) of the unmixed batch.",
                stacklevel=4,
            )
        return None

    def _batch(
        self,
        losses: torch.Tensor,
        signals: dict[str, Any],
        taken: Taken,
        rate: Any,
        clock: Any,
    ) -> Batch:
        known: dict[str, Any] = {}
        for name in self._accepted:
            if name in signals:
                value = signals[name]
                known[name] = value.detach() if isinstance(value, torch.Tensor) else value
        index, real = taken.index, taken.real
        if real < index.numel():
            index, losses = index[:real], losses[:real]
            known = {
                name: value[:real] if isinstance(value, torch.Tensor) else value
                for name, value in known.items()
            }
        run = self.epochs.run_of(taken)
        repeated = taken.repeated
        return Batch(index, losses, known, run.epoch, run.step, rate, clock, repeated=repeated)

    def _weights(
        self, losses: torch.Tensor, batch: Batch | None, taken: Taken
    ) -> torch.Tensor | None:
        """Product of the plan's and the methods' weights (real,); None where all are 1."""
        run = self.epochs.run_of(taken)
        real = taken.real
        wide = torch.promote_types(losses.dtype, torch.float32)
        weights = None
        if taken.plan_weights is not None:
            weights = taken.plan_weights[:real].to(losses.device, wide, non_blocking=True)
        for method in self._weighing:
            assert batch is not None
            given = batch
            if method.differentiable:
                given = Batch(**{**vars(batch), "losses": losses[:real]})
            factor = method.weigh(given, run)
            if factor is None:
                continue
            if factor.shape != (real,):
                raise refusal(f"weights of {method!r}", f"of shape ({real},)", factor)
            factor = factor.to(losses.device, wide)
            weights = factor if weights is None else weights * factor
        return weights

    def criterion(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses (B,) to train on: a method's in the epochs that need it, else the usual ones.

        Args:
            logits: (B, C), or what the criterion given to the constructor takes.
            targets: (B,), likewise.
        """
        self._criterion_used = True
        for method in self._replacing:
            losses = method.criterion(logits, targets, self.run)
            if losses is not None:
                return losses
        if self._criterion is not None:
            return self._criterion(logits, targets)
        return F.cross_entropy(logits, targets, reduction="none")

    def select(
        self, losses: torch.Tensor, k: int, *, index: torch.Tensor | None = None, **signals: Any
    ) -> torch.Tensor:
        """Positions (k,) of the candidate batch to train on, ascending; narrows that batch.

        Score a large batch without gradient, train on the part: the next call is about these
        samples alone. All candidates are observed, by these losses.

        Args:
            losses: (B,), of all candidates.
            k: how many to keep, on each rank; fewer where the batch is smaller.
            index: as in the call.
            **signals: as in the call.

        Raises:
            TypeError: no method of this curriculum selects.
        """
        selecting = [method for method in self.methods if overrides(method, "select")]
        if not selecting:
            raise TypeError("select needs a selecting method; this curriculum has none.")
        check_count("k", k, at_least=1)
        taken = self.epochs.peek(index)
        losses = losses.detach() if isinstance(losses, torch.Tensor) else losses
        self._check(losses, taken, signals)
        self.epochs.place(losses.device)
        rate = clock = None
        if self._paced:
            rate, clock = self.clock.rate(self.run.step), self.clock.time
        batch = self._batch(losses, signals, taken, rate, clock)
        positions = selecting[0].select(batch, min(k, max(1, taken.real)), self.run)
        positions = positions.sort().values
        self.epochs.remember(batch)
        self.epochs.narrow(positions)
        return positions

    def skip(self) -> None:
        """Drop the batch that waits for its call: it counts as done and is not observed."""
        self.epochs.skip()

    # ------------------------------------------------------------------ between epochs

    @property
    def survey_due(self) -> bool:
        """Whether a method wants `survey` before the coming epoch."""
        return any(method.survey_due(self.run) for method in self.methods)

    def survey(
        self,
        dataset: Any,
        forward: Callable[[Any], dict[str, torch.Tensor]],
        *,
        batch_size: int = 256,
        **dataloader_arguments: Any,
    ) -> None:
        """One pass over all samples without gradient, for methods that need it; see `gr.survey`.

        Args:
            dataset: the training set, of the loader's size.
            forward: ``forward(batch) -> {"losses": (B,), **signals}``.
            batch_size: samples per batch.
            **dataloader_arguments: as of DataLoader: ``num_workers``, ``collate_fn``, ...

        Raises:
            RuntimeError: within an epoch, or before the loader was made.
        """
        survey.survey(
            self, dataset, forward, batch_size=batch_size, model=self._model, **dataloader_arguments
        )

    def planned_steps(self, epochs: int) -> int | None:
        """Batches in the next ``epochs`` epochs, for schedulers; None where data decide."""
        check_count("epochs", epochs)
        if not self.epochs.bound:
            raise RuntimeError("curriculum must have a loader: call curriculum.loader(...) first.")
        self.epochs.look_up_world()
        layout, run = self.epochs.layout, self.run
        if layout.steps_per_epoch is not None:
            return epochs * layout.steps_per_epoch
        total = 0
        for epoch in range(run.epoch, run.epoch + epochs):
            size: int | None = run.size
            for method in self.methods:
                size = method.planned_size(size, epoch)
                if size is None:
                    return None
            if layout.drop_last:
                batch = layout.batch_size * run.world
                size = size // batch * batch
            total += layout.steps(size, run.world)
        return total

    def metrics(self) -> dict[str, float]:
        """Numbers for any logger: subset size, coverage, overlap, effective number of weights.

        Returns:
            ``epoch``; ``subset_size``: samples of the coming or current epoch; ``coverage``:
            fraction of the data set trained on so far; ``overlap``: fraction of this epoch's
            samples that the last one had (NaN in the first); ``effective_size``:
            ``(sum w)^2 / sum w^2`` over this epoch's samples.
        """
        epochs = self.epochs
        plan = epochs.plan()
        members = torch.zeros(epochs.run.size, dtype=torch.bool)
        members[plan.index] = True
        size = int(members.sum())
        effective = float(size)
        if plan.weights is not None:
            weights = plan.weights[members].double()
            effective = float(weights.sum() ** 2 / (weights**2).sum().clamp(min=1e-300))
        overlap = float("nan")
        if epochs.previous is not None:
            overlap = float((members & epochs.previous).sum()) / size
        seen = epochs.seen | epochs.members()
        return {
            "epoch": float(epochs.run.epoch),
            "subset_size": float(size),
            "coverage": float(seen.sum()) / epochs.run.size,
            "overlap": overlap,
            "effective_size": effective,
        }

    def scores(self) -> dict[str, torch.Tensor]:
        """Copies of every table of one value per sample, (N,), under ``"Method.table"``.

        Within an epoch they hold what earlier epochs saw. A second method of the same class is
        named ``"Method#2"``.
        """
        found: dict[str, torch.Tensor] = {}
        counts: dict[str, int] = {}
        for method in self.methods:
            name = type(method).__name__
            counts[name] = counts.get(name, 0) + 1
            owner = name if counts[name] == 1 else f"{name}#{counts[name]}"
            for key, table in method.tables().items():
                if table.per_sample and table.shape == ():
                    found[f"{owner}.{key}"] = table.values.clone()
        return found

    # ------------------------------------------------------------------ checkpoints

    def collect(self) -> Curriculum:
        """Bring all ranks' unmerged rows together before a checkpoint within an epoch.

        Collective: every rank calls it, then any rank may call `state_dict`. Changes nothing.
        """
        checkpoint.collect(self)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Everything that training depends on, exact at any step: CPU tensors and plain Python.

        Raises:
            RuntimeError: before the loader was made; or within an epoch with several ranks and
                without `collect` at this step.
        """
        return checkpoint.save(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, also with another number of processes.

        Args:
            state: what `state_dict` gave; before the loader is made it is kept until then.

        Raises:
            ValueError: the state is of another size, of other methods, or incomplete.
        """
        checkpoint.check(self, state)
        if self.epochs.bound:
            checkpoint.load(self, state)
        else:
            self._restore = state
