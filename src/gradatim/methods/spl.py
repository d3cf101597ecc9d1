"""Self-paced learning: the model's own losses decide what is easy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

from gradatim import weighting
from gradatim.method import Pool, Run
from gradatim.methods.self_paced import SelfPaced, weighted
from gradatim.pacing import Pace
from gradatim.selection import lowest, prefix_size
from gradatim.validation import check_choice, check_count, check_number, refusal
from gradatim.weighting import loss_scale, threshold_for

__all__ = ["SPL"]

Form = Literal["hard", "linear", "logarithmic", "polynomial", "logistic", "mixture", "root_mixture"]
_FORMS = ("hard", "linear", "logarithmic", "polynomial", "logistic", "mixture", "root_mixture")


class SPL(SelfPaced):
    """Self-paced learning: train on what the model finds easy now, and widen that.

    Training alternates between the weights v of all samples, in closed form, and SGD on
    ``sum_i v_i l_i + f(v_i; lambda)`` (Kumar et al. 2010, Eq. 4, for the hard form). Each epoch
    the threshold lambda follows from the losses seen last: by fraction, so that the pace c(t) of
    the samples has ``l <= lambda``; or by value, ``lambda <- growth lambda``. Samples of weight 0
    are not visited. Once everything is included, every form is plain training, exactly.

    Args:
        form: ``"hard"`` (0 or 1), or one of the soft weightings of `gradatim.weighting`.
        pace: by fraction: maps epochs since the warm-up to the included fraction.
        growth: by value: mu, above 1; lambda starts where ``start_fraction`` of the samples are
            included and is multiplied by mu each epoch. None paces by fraction.
        start_fraction: of the pace by value, in (0, 1]; default .5 (Kumar et al.).
        warmup_epochs: epochs of plain training first, which also give the first losses.
        survey_every_epochs: ask for a `Curriculum.survey` every so many epochs, so that the losses
            of left-out samples are fresh (the paper's exact form, at the cost of a forward pass);
            None uses the losses of each sample's last visit.
        power: of ``"polynomial"``, above 1.
        ratio: of ``"mixture"``: lower threshold over upper one, in (0, 1).
        gamma: of ``"root_mixture"``, above 0.
        min_count: included at least, the easiest ones.

    State:
        loss: float32 (N,), last seen; the later observation wins between ranks.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.SPL(pace=gr.pacing.Linear(start_fraction=0.4, epochs=5))
        >>> run = gr.Run(size=5, seed=0, epoch=1)
        >>> method.setup(run)
        >>> method.losses = gr.Table("loss").allocate(5)
        >>> method.losses.write(torch.arange(5), torch.tensor([0.4, 0.1, 0.9, 0.2, 0.3]))
        >>> method.plan(gr.Pool(torch.arange(5)), run).index.tolist()
        [1, 3]

    Differences from the paper:
        Samples at l = lambda are included (the paper is strict; both minimise). The logarithmic
        form divides losses by 1.01 times their 99th percentile after the warm-up, since it is
        defined for lambda < 1 only. Losses of the last visit stand in for a full pass unless
        ``survey_every_epochs`` is set: left-out samples keep a stale, high loss.

    Caveats:
        Under label noise it keeps clean samples early on; on clean data it loses to plain training
        in most published comparisons.

    References:
        Kumar, Packer and Koller, Self-paced learning for latent variable models, NIPS 2010,
        Eq. 4 [kumar2010]; soft forms: Jiang et al., ACM MM 2014 [jiang2014mm].
    """

    references = ("kumar2010",)

    def __init__(
        self,
        form: Form = "hard",
        *,
        pace: Pace | None = None,
        growth: float | None = None,
        start_fraction: float = 0.5,
        warmup_epochs: int = 1,
        survey_every_epochs: int | None = None,
        power: float = 2.0,
        ratio: float = 0.5,
        gamma: float = 1.0,
        min_count: int = 1,
    ) -> None:
        check_choice("form", form, _FORMS)
        super().__init__(pace, warmup_epochs, survey_every_epochs)
        if growth is not None and pace is not None:
            raise refusal("growth", "None where a pace is given", growth, "Pace by one of them.")
        self.form: Form = form
        self.growth = None if growth is None else check_number("growth", growth, above=1)
        if growth is not None:
            self.pace = None  # or the repr would show the default, which growth excludes
        self.start_fraction = check_number("start_fraction", start_fraction, above=0, at_most=1)
        self.power = check_number("power", power, above=1)
        self.ratio = check_number("ratio", ratio, above=0, below=1)
        self.gamma = check_number("gamma", gamma, above=0)
        self.min_count = check_count("min_count", min_count, at_least=1)
        self._first_threshold: float | None = None
        self._scale: float | None = None
        self._included = 0.0  # fraction included in the last epoch
        self._stalled_epochs = 0

    def _fraction(self, epoch: int) -> float:
        # By value the included fraction is not known before the losses are.
        return 0.5 if self.growth is not None else super()._fraction(epoch)

    def plan(self, pool: Pool, run: Run) -> Pool:
        if run.epoch < self.warmup_epochs:
            return pool
        fraction = self._fraction(run.epoch)
        if fraction >= 1:
            return pool
        losses = self._losses(pool, run)
        if self.growth is None and self.form == "hard":
            k = max(self.min_count, prefix_size(fraction, losses.numel()))
            generator = run.generator("spl", "ties")
            return pool.keep(lowest(losses, min(k, losses.numel()), generator=generator))
        threshold = self._threshold(losses, run, fraction)
        weights = self._weights(losses, threshold)
        if int((weights > 0).sum()) < self.min_count:
            k = min(self.min_count, losses.numel())
            return pool.keep(lowest(losses, k, generator=run.generator("spl", "ties")))
        return weighted(pool, weights)

    def _threshold(self, losses: torch.Tensor, run: Run, fraction: float) -> float:
        if self.growth is None:
            return float(threshold_for(losses, fraction))
        first = self._first_threshold
        if first is None:
            first = float(threshold_for(losses, self.start_fraction))
        return first * self.growth ** (run.epoch - self.warmup_epochs)

    def _weights(self, losses: torch.Tensor, threshold: float) -> torch.Tensor:
        if self.growth is not None and threshold >= float(losses.max()):
            return torch.ones_like(losses)
        if self.form == "logarithmic":
            scale = self._scale or float(loss_scale(losses))
            if threshold >= scale:
                # Below 1 no threshold admits the largest losses: everybody counts from here on.
                return torch.ones_like(losses)
            return weighting.logarithmic(losses / scale, threshold / scale)
        if self.form == "polynomial":
            return weighting.polynomial(losses, threshold, power=self.power)
        if self.form == "mixture":
            return weighting.mixture(losses, upper=threshold, lower=self.ratio * threshold)
        if self.form == "root_mixture":
            # This form's threshold is a root: it leaves out losses above its square.
            root = math.sqrt(threshold)
            return weighting.root_mixture(losses, threshold=root, gamma=self.gamma)
        weigh: Callable[..., torch.Tensor] = getattr(weighting, self.form)
        return weigh(losses, threshold)

    def start_epoch(self, run: Run) -> None:
        if run.epoch < self.warmup_epochs:
            return
        values = self.losses.values
        losses = values[~values.isnan()].cpu()
        if not losses.numel():
            return
        if self.growth is not None and self._first_threshold is None:
            self._first_threshold = float(threshold_for(losses, self.start_fraction))
        if self.form == "logarithmic" and self._scale is None:
            self._scale = float(loss_scale(losses))

    def end_epoch(self, run: Run) -> None:
        if self.growth is None or run.epoch < self.warmup_epochs:
            return
        threshold = self._threshold(self.losses.values, run, 1.0)
        included = float((self.losses.values <= threshold).double().mean())
        grown = included > self._included or included >= 1
        self._stalled_epochs = 0 if grown else self._stalled_epochs + 1
        self._included = included
        if self._stalled_epochs == 5:
            warnings.warn(
                f"the included fraction stands at {included:.2f} for 5 epochs: left-out samples "
                "never improve. Raise growth, or pace by fraction.",
                stacklevel=2,
            )

    def planned_size(self, size: int, epoch: int) -> int | None:
        if epoch < self.warmup_epochs:
            return size
        fraction = self._fraction(epoch)
        if fraction >= 1:
            return size
        if self.growth is not None or self.form != "hard":
            return None
        return min(size, max(self.min_count, prefix_size(fraction, size)))

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "first_threshold": self._first_threshold,
            "scale": self._scale,
            "included": self._included,
            "stalled_epochs": self._stalled_epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._first_threshold = state["first_threshold"]
        self._scale = state["scale"]
        self._included = state["included"]
        self._stalled_epochs = state["stalled_epochs"]
