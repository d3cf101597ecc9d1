"""What happens in one call of a curriculum: find the rows, check, weigh, remember, move on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F

from gradatim import distributed
from gradatim.clock import Clock, Moment
from gradatim.demands import Demands
from gradatim.epochs import Epochs, Taken
from gradatim.method import Batch, Method, Run, overrides
from gradatim.observations import check_rows
from gradatim.validation import check_count, check_finite, refusal

__all__ = ["Steps"]


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


def _ascending(positions: torch.Tensor) -> torch.Tensor:
    """The positions (k,) in order; NumPy takes half of torch's time for a batch."""
    if positions.is_cpu:
        ordered = positions.numpy().copy()
        ordered.sort()
        return torch.from_numpy(ordered)
    return positions.sort().values


class Steps:
    """The calls of one curriculum; see `gradatim.Curriculum` for what a user sees.

    Args:
        methods: the curriculum's methods, in order.
        epochs: where training stands.
        clock: the learning rate and the summed one.
        criterion: the usual per-sample losses; None is cross-entropy.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        epochs: Epochs,
        clock: Clock,
        criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None,
    ) -> None:
        self.methods = methods
        self.epochs = epochs
        self.clock = clock
        self.demands = Demands(methods, epochs, clock)
        self._criterion = criterion
        self._weighing = [method for method in methods if overrides(method, "weigh")]
        self._selecting = [method for method in methods if overrides(method, "select")]
        self._observing = any(overrides(method, "observe") for method in methods)
        self._weighted_mean = any(method.reduction == "weighted_mean" for method in methods)
        self._usual = epochs.nonfinite == "raise" and not self._weighted_mean
        self._warned_mixed = False
        self._was_plain = True  # whether the last usual call gave back the mean of its losses

    def usual(self, losses: torch.Tensor, signals: dict[str, Any]) -> torch.Tensor | None:
        """The loss, for the call that most steps make: of the batch as it is, in one process.

        What `take` does, in two thirds of its time, since less can be otherwise; the order of what
        happens is the same. None, and nothing has changed, wherever `take` must look closer.
        """
        epochs, demands = self.epochs, self.demands
        taken = epochs.oldest_alone() if self._usual and epochs.placed else None
        if (
            taken is None
            or not taken.count
            or type(losses) is not torch.Tensor
            or losses.dtype is not torch.float32
            or losses.shape != taken.index.shape
            or (demands.paced and not self.clock.known)
        ):
            return None
        known: dict[str, Any] = {}
        for name in demands.accepted:
            value = signals.get(name)
            if type(value) is torch.Tensor and value.ndim and value.shape[0] == taken.real:
                known[name] = value.detach() if value.requires_grad else value
            elif value is not None or name in demands.wanted:
                return None
            elif name in signals:
                known[name] = None
        if self._observing and _mixed(signals.get("targets")):
            return None
        if demands.replacing:
            demands.check_criterion(taken)
        mean = losses.mean() if self._was_plain else None
        if losses.is_cpu:
            # `data` is `detach` in half the time. Methods are shown what is detached, so that
            # autograd notices one that writes to it.
            found = (losses.data.sum() if mean is None else mean).item()
            if found - found != 0.0:
                return None
            if demands.nonnegative is not None and losses.data.min().item() < 0:
                return None

        run = epochs.run
        step = run.step
        weights = batch = now = None
        if demands.paced:
            now = self.clock.now(step)
        if self._weighing or epochs.recording:
            rate, previous, time = now or (None, None, None)
            batch = Batch(taken.index, losses.detach(), known, run.epoch, step, rate, time)
            batch.previous_rate = previous
        if self._weighing or taken.plan_weights is not None:
            weights = self._weights(losses, batch, taken, run)
        if self._observing and not taken.narrowed:
            if batch is None:
                epochs.remember_losses(taken.index, losses.data, step, now)
            else:
                epochs.remember(batch, None, now)
        self._was_plain = weights is None
        epochs.commit(taken, None)
        demands.criterion_used = False
        if self.clock.learning_rate is not None:
            self.clock.after_call(step)
        if weights is None:
            return losses.mean() if mean is None else mean
        return (losses * weights).sum() * (1 / taken.count)

    def take(
        self,
        losses: torch.Tensor,
        index: torch.Tensor | None,
        observed: dict[str, torch.Tensor] | Literal[False] | None,
        signals: dict[str, Any],
    ) -> tuple[torch.Tensor | None, torch.Tensor | float, torch.Tensor | None, bool]:
        """Weights (None is 1), scale, mask of kept losses, and whether this is a plain mean."""
        epochs = self.epochs
        taken = epochs.peek(index)
        run = epochs.run_of(taken) if taken.repeated else epochs.run
        detached = losses.detach() if isinstance(losses, torch.Tensor) else losses
        kept = self._check(detached, taken, signals)
        seen = None
        if self._observing or observed is not None:
            seen = self._observed(losses, observed, signals, taken)
        if not epochs.placed:
            epochs.place(losses.device)
        remembers = self._observing and seen is not None and not taken.repeated

        now = self.clock.now(run.step) if self.demands.paced else None
        batch = None
        if self._weighing or remembers:
            batch = self._batch(detached, signals, taken, run, now)
        weights = None
        if self._weighing or taken.plan_weights is not None:
            weights = self._weights(losses, batch, taken, run)
        weighed = weights is not None  # alike on all ranks; padding, which follows, is not
        size = taken.index.numel()
        padding = size - taken.real
        if padding:
            if weights is None:
                wide = torch.promote_types(losses.dtype, torch.float32)
                weights = torch.ones(taken.real, dtype=wide, device=losses.device)
            weights = torch.cat([weights, weights.new_zeros(padding)])
        if kept is not None:
            wide = torch.promote_types(losses.dtype, torch.float32)
            ones = torch.ones_like(losses, dtype=wide, requires_grad=False)
            weights = torch.where(kept, ones if weights is None else weights, 0)
        if remembers and seen is not None:
            values, known, rows = seen
            row = batch
            if row is None or values is not losses:
                row = self._batch(values.detach(), known, taken, run, now)
            epochs.remember(row, rows, now)

        if self._weighted_mean and weights is not None and weighed:
            world = run.world
            total = distributed.global_sum(weights.detach().sum())
            # All weights zero: the loss is zero, not 0 / 0.
            scale = torch.where(total > 0, world / total, torch.zeros_like(total))
        else:
            scale = run.world / max(1, taken.count)
        plain = not weighed and taken.count == taken.real * run.world == size * run.world
        step = run.step  # the run moves on in commit
        epochs.commit(taken, index)
        self.demands.criterion_used = False
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
        self.demands.check(taken, signals)
        if self.epochs.nonfinite == "skip":
            kept = torch.isfinite(losses)
            self.demands.check_sign("losses", losses)
            return kept
        if losses.is_cpu:
            # The sum finds every NaN and infinity; where it overflows they are looked for.
            found = losses.sum().item()
            if found - found != 0.0:
                check_finite("losses", losses, taken.index)
            self.demands.check_sign("losses", losses)
        return None

    def _observed(
        self,
        losses: torch.Tensor,
        observed: dict[str, torch.Tensor] | Literal[False] | None,
        signals: dict[str, Any],
        taken: Taken,
    ) -> tuple[torch.Tensor, dict[str, Any], torch.Tensor | None] | None:
        """What the methods shall remember of this batch (of which rows), or None for nothing."""
        if taken.narrowed:
            return None
        if isinstance(observed, dict):
            rest = dict(observed)
            values, rows = rest.pop("losses", None), rest.pop("rows", None)
            if not isinstance(values, torch.Tensor) or values.shape != losses.shape:
                rule = f'a dict with "losses" of shape ({losses.shape[0]},)'
                raise refusal("observed", rule, values if "losses" in observed else observed)
            if self.epochs.nonfinite == "raise" and values.device.type == "cpu":
                check_finite("observed losses", values.detach(), taken.index)
            self.demands.check_sign("observed losses", values.detach())
            if rows is not None:
                check_rows(rows, len(losses))
            return values, {**signals, **rest}, rows
        if observed is not None and observed is not False:
            raise refusal("observed", "a dict, False or None", observed)
        mixed = observed is False or (self._observing and _mixed(signals.get("targets")))
        if not mixed:
            return losses, signals, None
        if self._observing and not self._warned_mixed and observed is None:
            self._warned_mixed = True
            warnings.warn(
                "targets look mixed (mix-up or CutMix), so such batches are not observed: pass "
                "observed=dict(losses=..., ...) of the unmixed batch.",
                stacklevel=4,  # the user's line, above the call
            )
        return None

    def _batch(
        self,
        losses: torch.Tensor,
        signals: dict[str, Any],
        taken: Taken,
        run: Run,
        now: Moment | None,
    ) -> Batch:
        known: dict[str, Any] = {}
        for name in self.demands.accepted:
            if name in signals:
                value = signals[name]
                # Detaching takes time where there is nothing to detach from, too.
                attached = isinstance(value, torch.Tensor) and value.requires_grad
                known[name] = value.detach() if attached else value
        index, real = taken.index, taken.real
        if real < index.numel():
            index, losses = index[:real], losses[:real]
            known = {
                name: value[:real] if isinstance(value, torch.Tensor) else value
                for name, value in known.items()
            }
        rate, previous, time = now or (None, None, None)
        repeated, epoch, step = taken.repeated, run.epoch, run.step
        return Batch(index, losses, known, epoch, step, rate, time, False, repeated, previous)

    def _weights(
        self, losses: torch.Tensor, batch: Batch | None, taken: Taken, run: Run
    ) -> torch.Tensor | None:
        """Product of the plan's and the methods' weights (real,); None where all are 1."""
        real = taken.real
        wide = losses.dtype
        if wide != torch.float32:
            wide = torch.promote_types(wide, torch.float32)
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
            if not isinstance(factor, torch.Tensor) or factor.shape != (real,):
                raise refusal(f"weights of {method}", f"of shape ({real},)", factor)
            factor = factor.to(losses.device, wide)
            weights = factor if weights is None else weights * factor
        return weights

    def criterion(
        self, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See `Curriculum.criterion`."""
        run, demands, known = self.epochs.run, self.demands, {}
        if demands.by_index and (index is not None or self.epochs.waiting):
            taken = self.epochs.peek(index)
            size = taken.index.numel()
            if logits.ndim == 0 or logits.shape[0] != size:
                raise refusal("logits", f"one row per sample: {size} of them", logits)
            run, known = self.epochs.run_of(taken), {"index": taken.index}
        demands.criterion_used = bool(known) or not demands.by_index
        for method in demands.replacing if demands.criterion_used else ():
            ask: Any = method.criterion
            losses = ask(logits, targets, run, **known)
            if losses is not None:
                return losses
        if self._criterion is not None:
            return self._criterion(logits, targets)
        return F.cross_entropy(logits, targets, reduction="none")

    def select(
        self, losses: torch.Tensor, k: int, index: torch.Tensor | None, signals: dict[str, Any]
    ) -> torch.Tensor:
        """See `Curriculum.select`."""
        if not self._selecting:
            raise TypeError("select needs a selecting method; this curriculum has none.")
        check_count("k", k, at_least=1)
        taken = self.epochs.peek(index)
        if not taken.pending:
            raise RuntimeError(
                "select narrows the batch that the loader handed out last, and there is none "
                'with this index. Under carry="key" it has nothing to narrow.'
            )
        if taken.narrowed:
            raise RuntimeError("select was called on this batch before: call it once per batch.")
        losses = losses.detach() if isinstance(losses, torch.Tensor) else losses
        self._check(losses, taken, signals)
        self.epochs.place(losses.device)
        now = self.clock.now(self.epochs.run.step) if self.demands.paced else None
        batch = self._batch(losses, signals, taken, self.epochs.run_of(taken), now)
        if taken.real:
            positions = self._selecting[0].select(batch, min(k, taken.real), self.epochs.run)
            positions = _ascending(positions)
        else:
            # Only padding on this rank: one row of it, with weight 0, keeps the loss finite.
            positions = torch.zeros(1, dtype=torch.int64, device=losses.device)
        self.epochs.remember(batch, now=now)
        self.epochs.narrow(positions, k)
        return positions
