"""Weights from the batch's own losses: nothing is left out, some count less."""

from __future__ import annotations

import math
from typing import Literal

import torch

from gradatim import distributed, weighting
from gradatim.method import Batch, Method, Run
from gradatim.table import Scalar
from gradatim.validation import check_choice, check_number

__all__ = ["Focal", "SuperLoss"]


def _finite(losses: torch.Tensor) -> torch.Tensor:
    """0 for losses that are not finite, which have weight 0 under ``nonfinite="skip"``."""
    return torch.where(torch.isfinite(losses), losses, 0)


class Focal(Method):
    """Focal loss: down-weights what the model is sure of; an inverse curriculum by design.

    ``FL = (1 - p_t)^gamma * (-log p_t)``, computed from a cross-entropy ``l = -log p_t`` alone;
    the gradient goes through the weight as well (Lin et al. 2017, Eq. 4).

    Args:
        gamma: at least 0; default 2 (Lin et al.). 0 is plain training, exactly.

    Example:
        >>> import torch, gradatim as gr
        >>> batch = gr.Batch(torch.tensor([0]), torch.tensor([0.6931472]))  # p_t = 1/2
        >>> gr.Focal(gamma=2.0).weigh(batch, gr.Run(size=1, seed=0))
        tensor([0.2500])

    Differences from the paper:
        The class factor alpha is left to the loss that is given; `gradatim.weighting.focal_loss`
        has it.

    Caveats:
        Losses must be cross-entropies. Label noise is emphasised.

    References:
        Lin, Goyal, Girshick, He and Dollar, Focal loss for dense object detection, ICCV 2017,
        Eq. 4 [lin2017focal].
    """

    differentiable = True
    references = ("lin2017focal",)

    def __init__(self, gamma: float = 2.0) -> None:
        self.gamma = check_number("gamma", gamma, at_least=0)

    def weigh(self, batch: Batch, run: Run) -> torch.Tensor | None:
        return None if self.gamma == 0 else weighting.focal(_finite(batch.losses), self.gamma)


class SuperLoss(Method):
    """SuperLoss: each sample's confidence, in closed form; hard samples count less.

    ``SL = min_s (l - tau) s + lam (log s)^2`` has the minimiser
    ``s* = exp(-W(max(-2/e, (l - tau)/lam) / 2))`` (Castells et al. 2020, Eqs. 1-3). s* is the
    weight; it is not differentiated, and the gradient is the super loss's own.

    Args:
        tau: the loss at which a sample counts fully: ``"ema"``, an exponential average of the
            batches' mean losses; ``"mean"``, their plain average; ``"log_classes"``, log C, which
            needs ``logits``; or a number.
        lam: lambda, above 0: 1 for CIFAR-10, .25 for CIFAR-100 in the paper. Large values come
            near plain training; none equals it exactly.
        momentum: f of the exponential average, tau <- f tau + (1 - f) mean; in [0, 1); default .9.

    State:
        tau: float64 scalar, the same on all ranks: the mean is taken over the global batch, which
        costs one all-reduce of two numbers per step. batches: how many went into ``"mean"``.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> import torch, gradatim as gr
        >>> batch = gr.Batch(torch.arange(2), torch.tensor([0.0, 2.0]))
        >>> gr.SuperLoss(tau=0.0).weigh(batch, gr.Run(size=2, seed=0))
        tensor([1.0000, 0.5671])

    Differences from the paper:
        Two public versions weigh the average's old and new value differently; ours is above, and
        starts at the first batch's mean.

    Differences from the authors' code:
        W is computed in torch, in float64, on the losses' device; nothing goes over the host.

    References:
        Castells, Weinzaepfel and Revaud, SuperLoss: a generic loss for robust curriculum learning,
        NeurIPS 2020 [castells2020superloss].
    """

    references = ("castells2020superloss",)

    def __init__(
        self,
        tau: float | Literal["ema", "mean", "log_classes"] = "ema",
        *,
        lam: float = 1.0,
        momentum: float = 0.9,
    ) -> None:
        if isinstance(tau, str):
            check_choice("tau", tau, ("ema", "mean", "log_classes"))
        else:
            tau = check_number("tau", tau)
        self.tau: float | Literal["ema", "mean", "log_classes"] = tau
        self.lam = check_number("lam", lam, above=0)
        self.momentum = check_number("momentum", momentum, at_least=0, below=1)
        self.wants = ("logits",) if tau == "log_classes" else ()

    def setup(self, run: Run) -> None:
        if self.tau in ("ema", "mean"):
            self.average = Scalar("tau", fill=math.nan)
            self.batches = Scalar("batches")

    def weigh(self, batch: Batch, run: Run) -> torch.Tensor:
        if self.tau in ("ema", "mean"):
            tau = self.average.value if batch.repeated else self._updated(batch, run)
        elif self.tau == "log_classes":
            tau = math.log(batch.signals["logits"].shape[1])
        else:
            tau = float(self.tau)
        return weighting.super_loss(_finite(batch.losses), tau=tau, lam=self.lam)

    def _updated(self, batch: Batch, run: Run) -> torch.Tensor:
        """The average with this batch in it; nothing waits for the device."""
        old = self.average.value
        finite = torch.isfinite(batch.losses)
        wide = _finite(batch.losses).to(torch.promote_types(batch.losses.dtype, torch.float32))
        total = distributed.global_sum(torch.stack([wide.sum(), finite.sum().to(wide)]))
        new = (total[0] / total[1]).to(old)  # NaN where no loss is finite
        known = torch.isfinite(new)
        count = self.batches.value + known
        share = 1 / count.clamp(min=1) if self.tau == "mean" else 1 - self.momentum
        tau = torch.where(old.isnan(), new, old + share * (new - old))
        tau = torch.where(known, tau, old)
        self.average.write(tau)
        self.batches.write(count)
        return tau
