"""What is remembered of each sample to tell how hard it is to learn; and a method that only looks.

`Dynamics` and `DIHCL` share the three instantaneous hardnesses of Zhou, Wang and Bilmes (2020).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from gradatim.dynamics import change_hardness, flip_hardness, loss_hardness, running_hardness
from gradatim.method import Batch, Method, Run
from gradatim.table import Table
from gradatim.validation import check_choice, check_flag, check_number, refusal

__all__ = ["Dynamics", "correctness", "instant_hardness"]

Kind = Literal["loss", "loss_change", "flip"]
LrSum = Literal["elapsed", "inclusive"]


def correctness(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Tell which predictions are right, without waiting for the device.

    Args:
        logits: (B, C), the largest is the prediction; (B, 1), where above 0 is class 1; or (B, L),
            one per label.
        targets: int64 (B,) classes; or of the logits' shape: probabilities of classes, where all
            rows sum to 1, whose largest is the class; else labels of 0 and 1, all to be right.

    Returns:
        bool (B,).

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> correctness(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        tensor([ True, False])
    """
    if logits.ndim != 2:
        raise refusal("logits", "of shape (B, C)", logits)
    if targets.ndim == 1 and logits.shape[1] > 1 and not targets.is_floating_point():
        return logits.argmax(1) == targets  # most calls
    single = logits.shape[1] == 1
    if targets.shape == logits.shape:
        each = ((logits > 0) == (targets > 0.5)).all(1)
        if single or not targets.is_floating_point():
            return each
        distributions = ((targets.sum(1) - 1).abs() < 0.02).all()
        return torch.where(distributions, logits.argmax(1) == targets.argmax(1), each)
    if targets.ndim != 1 or (targets.is_floating_point() and not single):
        raise refusal("targets", "classes (B,), or of the logits' shape", targets)
    return (logits[:, 0] > 0) == (targets > 0.5) if single else logits.argmax(1) == targets


def instant_hardness(
    kind: Kind,
    batch: Batch,
    *,
    loss: torch.Tensor | None = None,
    correct: torch.Tensor | None = None,
    stamp: torch.Tensor | None = None,
    normalize: bool = True,
    lr_sum: LrSum = "elapsed",
    clip: float | None = None,
) -> torch.Tensor:
    """Compute one of the three instantaneous hardnesses of observed rows (B,).

    Args:
        kind: ``"loss"``, ``"loss_change"`` or ``"flip"``.
        batch: the rows, as `Method.observe` gets them.
        loss: of these samples at their last observation, NaN where there was none.
        correct: likewise, negative where there was none.
        stamp: the clock at that observation, float64.
        normalize: divide by the learning rates, as the paper does.
        lr_sum: which rates are summed: those of the updates between both observations
            (``"elapsed"``), or also that of the step to come (``"inclusive"``, as Eq. 2 prints).
        clip: of the change of the loss.

    Returns:
        (B,), NaN where there is nothing to compare with.
    """
    elapsed: torch.Tensor | float = 1.0
    if normalize and kind == "loss":
        assert isinstance(batch.previous_rate, torch.Tensor)
        elapsed = batch.previous_rate
    elif normalize:
        assert isinstance(batch.clock, torch.Tensor)
        assert stamp is not None
        elapsed = batch.clock - stamp.cpu()
        if lr_sum == "inclusive":
            assert isinstance(batch.learning_rate, torch.Tensor)
            elapsed = elapsed + batch.learning_rate
    if kind == "loss":
        return loss_hardness(batch.losses, elapsed)
    if kind == "loss_change":
        assert loss is not None
        return change_hardness(batch.losses, loss, elapsed, clip=clip)
    assert correct is not None
    return flip_hardness(batch.signals["correct"], correct, elapsed)


class Dynamics(Method):
    """Decide nothing, and remember how each sample is learnt: loss, correctness, three hardnesses.

    For looking at a data set, beside any other method or alone: with it a recorded run
    (`gradatim.analysis.Recording`) has what the figures of the DIHCL paper show.

    Args:
        gamma: discount of the running means' history, in [0, 1].
        normalize: divide by learning rates, as the paper does; False needs no optimizer.

    State:
        loss: float32 (N,), last seen; NaN before.
        correct: float32 (N,), 1 where the last prediction was right, 0 where not; NaN before.
        dih_loss, dih_change, dih_flip: float32 (N,), running means (Eq. 1); 1 before.
        stamp: float64 (N,), the clock at the last observation; NaN before.

    Raises:
        ValueError: gamma outside [0, 1].

    Example:
        >>> import torch, gradatim as gr
        >>> data = torch.utils.data.TensorDataset(torch.eye(2), torch.tensor([0, 1]))
        >>> watch = gr.Dynamics(normalize=False)
        >>> curriculum = gr.Curriculum(watch)
        >>> for x, y in curriculum.loader(data, batch_size=2):
        ...     losses = torch.nn.functional.cross_entropy(x, y, reduction="none")
        ...     loss = curriculum(losses, logits=x, targets=y)
        >>> curriculum.scores()["Dynamics.correct"]
        tensor([1., 1.])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020
        [zhou2020dihcl].
    """

    references = ("zhou2020dihcl",)
    fresh = ("correct",)
    nonnegative = True

    def __init__(self, *, gamma: float = 0.95, normalize: bool = True) -> None:
        self.gamma = check_number("gamma", gamma, at_least=0, at_most=1)
        self.normalize = check_flag("normalize", normalize)
        self.wants = ("logits", "targets", *(("learning_rate",) if normalize else ()))

    def setup(self, run: Run) -> None:
        self.loss = Table("loss", fill=math.nan)
        self.correct = Table("correct", fill=math.nan)
        self.stamp = Table("stamp", dtype=torch.float64, fill=math.nan)
        self.dih_loss = Table("dih_loss", fill=1.0)
        self.dih_change = Table("dih_change", fill=1.0)
        self.dih_flip = Table("dih_flip", fill=1.0)

    def record(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        return {"correct": correctness(batch.signals["logits"], batch.signals["targets"])}

    def observe(self, batch: Batch, run: Run) -> None:
        index = batch.index
        before: dict[str, Any] = {
            "loss": self.loss[index],
            "correct": self.correct[index].nan_to_num(-1.0),
            "stamp": self.stamp[index],
        }
        kinds: tuple[tuple[Kind, Table], ...] = (
            ("loss", self.dih_loss),
            ("loss_change", self.dih_change),
            ("flip", self.dih_flip),
        )
        for kind, table in kinds:
            now = instant_hardness(kind, batch, normalize=self.normalize, **before)
            table.write(index, running_hardness(table[index], now, self.gamma))
        self.loss.write(index, batch.losses)
        self.correct.write(index, batch.signals["correct"])
        assert isinstance(batch.clock, torch.Tensor)
        self.stamp.write(index, batch.clock)


def check_kind(hardness: str) -> Kind:
    """Refuse a hardness that does not exist."""
    return check_choice("hardness", hardness, ("loss", "loss_change", "flip"))
