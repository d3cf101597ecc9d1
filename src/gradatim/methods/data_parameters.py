"""Data parameters: each sample learns a temperature of its own, and so how much it counts."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from gradatim import distributed
from gradatim.method import Batch, Method, Run
from gradatim.table import Table
from gradatim.validation import check_choice, check_number, refusal

__all__ = ["DataParameters"]

Level = Literal["instance", "class", "both"]
NO_CLASS = -(2**62)  # torch ignores the class -100 without a word
_EXACT = (torch.float32, torch.float64)
WAITING_BYTES = 2**20  # of log-probabilities whose slopes are not calculated yet


class _Seen(NamedTuple):
    """What `DataParameters.criterion` calculated, for the call about the same rows.

    The logits' memory stays, so that no other tensor can be where they were, but not their graph.
    """

    logits: torch.Tensor
    version: int
    targets: torch.Tensor
    targets_version: int
    samples: torch.Tensor  # a tuple has a method `index`
    own: torch.Tensor | None
    shared: torch.Tensor | None
    sigma: torch.Tensor
    log_p: torch.Tensor
    losses: torch.Tensor

    def of(self, batch: Batch) -> bool:
        """Whether these are a batch's rows, and nobody has written to its signals since."""
        logits, targets = batch.signals["logits"], batch.signals["targets"]
        return (
            batch.index is self.samples
            and targets is self.targets
            and targets._version == self.targets_version
            and isinstance(logits, torch.Tensor)
            and logits.data_ptr() == self.logits.data_ptr()
            and logits._version == self.version
            and logits.shape == self.logits.shape
            and logits.dtype == self.logits.dtype
        )


class _Visit(NamedTuple):
    """What moves the parameters of a batch's samples, once it is calculated."""

    samples: torch.Tensor
    own: torch.Tensor
    log_p: torch.Tensor
    losses: torch.Tensor
    step: int


class DataParameters(Method):
    """Data parameters: a learnt temperature per sample, per class or both.

    Logits z are divided by a temperature before the cross-entropy. It is learnt together with the
    model: mistakes that stay raise it, so that mislabelled and hard samples count less, and what
    is right already lowers it. Of z = (2, 0) with sigma = 1, a label 0 has the slope .238, a
    label 1 the slope -1.762::

        l_i = -log softmax(z_i / sigma_i)[y_i],      sigma_i = exp(s_i)
        dl_i/ds_i = u_y - sum_j p_j u_j,             u = z_i / sigma_i,  p = softmax(u)
        s_i <- clamp(s_i - rate (dl_i/ds_i + decay s_i), -log limit, log limit)

    (Saxena et al. 2019, Eqs. 2 to 6.) Only the rows of the batch are read and written, whatever
    the size of the data set. Take losses from ``curriculum.criterion(logits, targets)`` and pass
    ``logits=logits, targets=targets`` to the call, undivided.

    Args:
        level: ``"instance"`` one parameter per sample; ``"class"`` one per class; ``"both"`` has
            sigma_i = exp(s_i) + exp(c_y).
        instance_rate: learning rate of s, at least 0, per visit of a sample. 0 is plain training,
            exactly, at the level ``"instance"``. The default is ours: a rate of the paper, for the
            mean over a batch of B, is one of rate/B here, or with momentum .9 of 10 rate/B.
        class_rate: learning rate of c, at least 0, per step, for the mean over the batch.
        decay: weight decay of s, at least 0.
        class_decay: of c.
        limit: above 1: temperatures stay in [1/limit, limit]; 20 in the paper.

    State:
        log_sigma: float32 (N,), s; 0 at first. Merged by the last visit. High where the model
        and the label disagree.
        class_log_sigma: float32 (C,), the same on all ranks: its slope is a mean over the global
        batch, one all-reduce of C + 1 numbers per step. Not at the level ``"instance"``.

    Raises:
        ValueError: a parameter outside its range; with the criterion, logits or targets that are
            not (B, C) and (B,) class numbers.
        RuntimeError: losses that do not come from `Curriculum.criterion`.

    Example:
        >>> import torch, gradatim as gr
        >>> data = torch.utils.data.TensorDataset(torch.tensor([[2.0, 0.0]] * 2), torch.arange(2))
        >>> curriculum = gr.Curriculum(gr.DataParameters(instance_rate=0.5), seed=0)
        >>> for logits, targets in curriculum.loader(data, batch_size=2):
        ...     losses = curriculum.criterion(logits, targets)
        ...     loss = curriculum(losses, logits=logits, targets=targets)
        >>> curriculum.scores()["DataParameters.log_sigma"]
        tensor([-0.1192,  0.8808])

    Differences from the paper:
        Plain gradient steps, where the authors' have momentum. A slope is not divided by the size
        of the batch, so s does not depend on it, nor on how many ranks share a batch, nor on
        weights that other methods give.

    Caveats:
        At the level ``"both"`` training begins at sigma = 2, as published: no setting of it is
        plain training. Losses that other methods see are those at the temperature. A criterion
        given to `Curriculum` is not used. Evaluation has no temperature; the model's confidence is
        that of training divided by it. Labels must be hard: no mix-up. A sample that two ranks
        meet in one epoch (``steps_per_epoch``) keeps the later slope only.

    References:
        Saxena, Tuzel and DeCoste, Data parameters: a new family of parameters for learning a
        differentiable curriculum, NeurIPS 2019 [saxena2019].
    """

    wants = ("logits", "targets")
    criterion_by_index = True
    asks_distinct = True
    references = ("saxena2019",)

    def __init__(
        self,
        level: Level = "instance",
        *,
        instance_rate: float = 0.1,
        class_rate: float = 0.1,
        decay: float = 0.0,
        class_decay: float = 0.0,
        limit: float = 20.0,
    ) -> None:
        self.level: Level = check_choice("level", level, ("instance", "class", "both"))
        self.instance_rate = check_number("instance_rate", instance_rate, at_least=0)
        self.class_rate = check_number("class_rate", class_rate, at_least=0)
        self.decay = check_number("decay", decay, at_least=0)
        self.class_decay = check_number("class_decay", class_decay, at_least=0)
        self.limit = check_number("limit", limit, above=1)
        self._classes: torch.Tensor | None = None
        self._seen: _Seen | None = None
        self._waiting: list[_Visit] = []  # of samples that do not come again before they are moved
        self._waiting_bytes = 0
        self._waiting_layout: tuple[Any, ...] = ()

    def setup(self, run: Run) -> None:
        self._classes = self._seen = None
        self._forget_visits()
        if self.level != "class":
            self.log_sigma = Table("log_sigma")

    @property
    def class_log_sigma(self) -> torch.Tensor | None:
        """Copy of c, float32 (C,); None before the first batch and at the level ``"instance"``."""
        return None if self._classes is None else self._classes.clone()

    # ------------------------------------------------------------------ the loss

    def criterion(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        run: Run,
        *,
        index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        _check(logits, targets)
        assert index is not None, "the engine knows the samples"
        try:
            own, shared = self._rows(index, targets, logits, run)
            sigma = _temperature(own, shared)
            divisor = sigma if sigma.dtype is logits.dtype else sigma.to(logits.dtype)
            tempered = logits / divisor.unsqueeze(1)
            # The two halves of cross_entropy: the first is needed again, and autograd keeps it.
            log_p = tempered.log_softmax(1)
            losses = F.nll_loss(log_p, targets, reduction="none", ignore_index=NO_CLASS)
        except IndexError:
            _check_classes(targets, logits.shape[1])
            raise
        self._seen = None
        # Where autocast widens the logits, what they were is not what was divided.
        dtype = tempered.dtype
        if logits.requires_grad and log_p.dtype is dtype and dtype in _EXACT:
            self._seen = _Seen(
                logits.data,  # half the time of `detach`; it is only read
                logits._version,
                targets,
                targets._version,
                index,
                own,
                shared,
                sigma,
                log_p.data,
                losses.data.clone(),  # the caller may change them in place
            )
        return losses

    def _rows(
        self, index: torch.Tensor, targets: torch.Tensor, logits: torch.Tensor, run: Run
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The parameters s and c of the rows, (B,), where they exist."""
        own = shared = None
        if self.level != "class":
            # Where no sample comes twice, none of these waits to be moved.
            own = self.log_sigma.untouched(index) if run.distinct else self.log_sigma[index]
            if not (own.is_cpu and logits.is_cpu):
                own = own.to(logits.device)
        if self.level != "instance":
            if self._classes is None:
                self._classes = torch.zeros(logits.shape[1], device=logits.device)
            elif self._classes.numel() != logits.shape[1]:
                rule = f"of {self._classes.numel()} classes, as before"
                raise refusal("logits", rule, logits.shape[1])
            self._classes = self._classes.to(logits.device)  # from a checkpoint
            shared = self._classes.index_select(0, targets)
        return own, shared

    # ------------------------------------------------------------------ learning

    def weigh(self, batch: Batch, run: Run) -> None:
        """Move the parameters of the batch's samples; every weight is 1."""
        if batch.repeated:
            return
        logits, targets = batch.signals["logits"], batch.signals["targets"]
        seen, self._seen = self._seen, None
        if seen is not None and seen.of(batch):
            own, shared, sigma = seen.own, seen.shared, seen.sigma
            if shared is None and run.distinct:
                assert own is not None
                self._wait(_Visit(batch.index, own, seen.log_p, seen.losses, run.step))
                return
            slope = _slope_of(seen.log_p, seen.losses)
        else:
            _check(logits, targets)
            own, shared = self._rows(batch.index, targets, logits, run)
            sigma = _temperature(own, shared)
            slope = _slope(logits, targets, sigma)
        if shared is not None:
            self._move_classes(slope * (shared.exp() / sigma), targets)
        if own is not None:
            slope = slope if shared is None else slope * (own.exp() / sigma)
            self._move_instances(own, slope, batch.index, run)

    def _move_instances(
        self, old: torch.Tensor, slope: torch.Tensor, index: torch.Tensor, run: Run
    ) -> None:
        # On the CPU, where the index lives; NumPy takes half of torch's time for a batch.
        ordered = None if run.distinct else np.sort(index.cpu().numpy())
        if ordered is not None and (ordered[1:] == ordered[:-1]).any():
            index, inverse = index.unique(return_inverse=True)
            inverse = inverse.to(slope.device)
            sums = slope.new_zeros(index.numel()).index_add_(0, inverse, slope)
            counts = torch.zeros_like(sums).index_add_(0, inverse, torch.ones_like(slope))
            slope = sums / counts
            old = self.log_sigma[index].to(slope.device)
        new = self._moved(old, slope, self.instance_rate, self.decay)
        self.log_sigma.write(index, new, step=int(run.step))

    def _wait(self, visit: _Visit) -> None:
        """Move the samples later, many at once: in each step it would cost ten small operations."""
        log_p = visit.log_p
        layout = (log_p.shape[1], log_p.dtype, log_p.device)  # alike in all that wait
        if layout != self._waiting_layout:
            self.log_sigma.settle()
            self._waiting_layout = layout
        if not self._waiting:
            self.log_sigma.put_off(self._move_visits)
        self._waiting.append(visit)
        self._waiting_bytes += log_p.numel() * log_p.element_size()
        if self._waiting_bytes >= WAITING_BYTES:
            self.log_sigma.settle()

    def _move_visits(self) -> None:
        """Move the parameters of all samples that wait for it."""
        visits = self._waiting
        self._forget_visits()
        if not visits:
            return
        index, own, log_p, losses, steps = zip(*visits, strict=True)
        slope = _slope_of(torch.cat(log_p), torch.cat(losses))
        new = self._moved(torch.cat(own), slope, self.instance_rate, self.decay)
        lengths = torch.tensor([each.numel() for each in index])
        step = torch.tensor(steps).repeat_interleave(lengths)
        self.log_sigma.write(torch.cat(index), new, step=step)

    def _forget_visits(self) -> None:
        self._waiting, self._waiting_bytes = [], 0

    def _move_classes(self, slope: torch.Tensor, targets: torch.Tensor) -> None:
        old = self._classes
        assert old is not None
        known = torch.isfinite(slope)
        sums = slope.new_zeros(old.numel() + 1)  # the last one counts samples
        sums.index_add_(0, targets, torch.where(known, slope, 0))
        sums[-1] = known.sum()
        sums = distributed.global_sum(sums)
        mean = sums[:-1] / sums[-1].clamp(min=1)
        self._classes = self._moved(old, mean, self.class_rate, self.class_decay).to(old.dtype)

    def _moved(
        self, old: torch.Tensor, slope: torch.Tensor, rate: float, decay: float
    ) -> torch.Tensor:
        bound = math.log(self.limit)
        # What is not finite is refused later, or skipped: it must not stay in the state.
        if not decay:
            known = slope.nan_to_num(0.0, 0.0, 0.0)
            return torch.sub(old, known, alpha=rate).clamp_(-bound, bound)
        new = (old - rate * (slope + decay * old)).clamp(-bound, bound)
        return torch.where(slope.isfinite(), new, old)

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        held = self._classes
        return {"class_log_sigma": None if held is None else held.detach().cpu().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        held = state["class_log_sigma"]
        self._seen = None
        self._forget_visits()
        self._classes = None if held is None else held.clone()


def _check(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Refuse what is not (B, C) logits with (B,) class numbers."""
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise refusal("logits", "of shape (B, C) for DataParameters", logits)
    rule = "class numbers of shape (B,) for DataParameters"
    if not isinstance(targets, torch.Tensor) or targets.shape != logits.shape[:1]:
        raise refusal("targets", rule, targets, "Mixed labels have no single temperature.")
    if targets.dtype != torch.int64:
        raise refusal("targets", f"{rule} and dtype int64", targets)


def _check_classes(targets: torch.Tensor, classes: int) -> None:
    """Refuse class numbers outside [0, C)."""
    low, high = (bound.item() for bound in targets.aminmax())
    if low < 0 or high >= classes:
        raise refusal("targets", f"class numbers in [0, {classes})", low if low < 0 else high)


def _temperature(own: torch.Tensor | None, shared: torch.Tensor | None) -> torch.Tensor:
    if shared is None:
        assert own is not None
        return own.exp()
    return shared.exp() if own is None else own.exp() + shared.exp()


def _slope_of(log_p: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """As `_slope`: the entropy of p less the loss, without another softmax."""
    finite = log_p.clamp(min=torch.finfo(log_p.dtype).min)  # 0 times -inf is NaN
    return torch.linalg.vecdot(log_p.exp(), finite).add_(losses).neg_()


def _slope(logits: torch.Tensor, targets: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Derivative (B,) of each cross-entropy with respect to log sigma, in float32 or wider."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)) / sigma.unsqueeze(1)
    # A masked class has p = 0 at a logit of -inf, and 0 times that is not a number.
    finite = wide.clamp(min=torch.finfo(wide.dtype).min)
    mean = torch.linalg.vecdot(wide.softmax(1), finite)
    return wide.gather(1, targets.unsqueeze(1)).squeeze(1) - mean
