"""The engine's public side: `Curriculum`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from gradatim import checkpoint, reports, survey
from gradatim.clock import Clock
from gradatim.epochs import Epochs
from gradatim.loader import CurriculumLoader
from gradatim.method import Method, Run, overrides
from gradatim.steps import Steps
from gradatim.validation import check_choice, check_count, refusal

__all__ = ["Curriculum"]

# A compiled step may call the curriculum: its graph breaks there once, instead of tracing (and at
# every step retracing) the engine. This is torch's own decorator: `torch.compiler.disable` would
# import the compiler together with gradatim; optimizers import it like this, when they are built.
# It costs several microseconds, so the call takes this way only where a compiler asks.
_outside_graphs: Any = getattr(torch, "_disable_dynamo", lambda function: function)


def _unwrapped(model: Any) -> Any:
    """The user's module under DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__.endswith("DataParallel"):
            inner = getattr(model, "module", None)
        if inner is None:
            return model
        model = inner


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
        self._steps = Steps(methods, self.epochs, self.clock, criterion)
        self._model: torch.nn.Module | None = None
        self._attached = False
        self._restore: dict[str, Any] | None = None
        self._collected: tuple[int, int, dict[str, Any]] | None = None

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
            dataset: map-style; its size must not change. Or a stream, with ``steps_per_epoch=``,
                for methods without a plan or memory of samples: the index of a sample is then
                without meaning, and every epoch takes the next samples.
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
            TypeError: ``shuffle``, ``sampler`` or ``batch_sampler`` is given, or a stream to a
                method that ranks or remembers samples.
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
        # Otherwise nobody asks what the clock's hooks would tell.
        if inner is not None and self._steps.demands.paced:
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
        """Restore model and optimizer exactly as they were before `attach`.

        Raises:
            RuntimeError: nothing is attached.
        """
        if not self._attached:
            raise RuntimeError("there is nothing to detach: call attach(model=model) first.")
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
                logits=...)``; with ``rows=`` (int64 positions, on the CPU) only these rows of it;
                False observes nothing.
            **signals: what methods want (``logits``, ``targets``, ...); others are ignored.

        Returns:
            0-d loss: ``losses.mean()`` to the bit where nothing weighs, else reduced in float32 or
            wider. Averaged over ranks its gradient is the single-process one.

        Raises:
            ValueError: wrong shape, a missing signal, losses that are not finite.
            RuntimeError: no batch, more than one batch, or an unused criterion.
        """
        if torch.compiler.is_compiling():
            return self._call_outside_graphs(losses, index=index, observed=observed, **signals)
        if index is None and observed is None:
            loss = self._steps.usual(losses, signals)
            if loss is not None:
                return loss
        weights, scale, kept, plain = self._steps.take(losses, index, observed, signals)
        if plain:
            return (losses if kept is None else torch.where(kept, losses, 0)).mean()
        wide = torch.promote_types(losses.dtype, torch.float32)
        used = losses.to(wide)
        if kept is not None:
            used = torch.where(kept, used, 0)
        return (used if weights is None else used * weights).sum() * scale

    @_outside_graphs
    def _call_outside_graphs(self, losses: torch.Tensor, **arguments: Any) -> torch.Tensor:
        return self(losses, **arguments)

    @_outside_graphs
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
        weights, scale, _, _ = self._steps.take(losses, index, observed, signals)
        wide = torch.promote_types(losses.dtype, torch.float32)
        if weights is None:
            weights = torch.ones_like(losses, dtype=wide, requires_grad=False)
        return weights, scale

    def criterion(
        self, logits: torch.Tensor, targets: torch.Tensor, *, index: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Losses (B,) to train on: a method's in the epochs that need it, else the usual ones.

        Args:
            logits: (B, C), or what the criterion given to the constructor takes.
            targets: (B,), likewise.
            index: as in the call, for methods whose loss depends on the sample (`DataParameters`);
                without it and without a batch that waits for its call these are the usual losses.
        """
        if self._steps.demands.by_index and torch.compiler.is_compiling():
            return self._criterion_outside_graphs(logits, targets, index)
        return self._steps.criterion(logits, targets, index)

    @_outside_graphs
    def _criterion_outside_graphs(
        self, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor | None
    ) -> torch.Tensor:
        return self._steps.criterion(logits, targets, index)

    @_outside_graphs
    def select(
        self, losses: torch.Tensor, k: int, *, index: torch.Tensor | None = None, **signals: Any
    ) -> torch.Tensor:
        """Positions (k,) of the candidate batch to train on, ascending; narrows that batch.

        Score a large batch without gradient, train on the part: the next call is about these
        samples alone. All candidates are observed, by these losses. A method that draws with
        replacement (`gradatim.ImportanceSampling`) gives a position as often as it was drawn.

        Args:
            losses: (B,), of all candidates.
            k: how many to keep, on each rank; fewer where the batch is smaller. Over all ranks
                each chosen sample counts alike, also where the last batch is shared unevenly.
            index: as in the call.
            **signals: as in the call.

        Raises:
            TypeError: no method of this curriculum selects.
            RuntimeError: no batch waits for its call, or it was narrowed before.
        """
        return self._steps.select(losses, k, index, signals)

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
        return reports.planned_steps(self.epochs, epochs)

    def metrics(self) -> dict[str, float]:
        """Numbers for any logger: subset size, coverage, overlap, effective number of weights.

        Returns:
            ``epoch``; ``subset_size``: samples of the coming or current epoch; ``coverage``:
            fraction of the data set trained on so far; ``overlap``: fraction of this epoch's
            samples that the last one had (NaN in the first); ``effective_size``:
            ``(sum w)^2 / sum w^2`` over this epoch's samples.
        """
        return reports.metrics(self.epochs)

    def scores(self) -> dict[str, torch.Tensor]:
        """Copies of every table of one value per sample, (N,), under ``"Method.table"``.

        Within an epoch they hold what earlier epochs saw. A second method of the same class is
        named ``"Method#2"``.
        """
        return reports.scores(self.epochs)

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
