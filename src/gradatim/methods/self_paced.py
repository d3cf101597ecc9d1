"""What the self-paced methods share: the losses seen last, and the pace that reads them."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradatim.method import Batch, Method, Pool, Run
from gradatim.pacing import Linear, Pace
from gradatim.table import Table
from gradatim.validation import check_count, check_number, refusal

__all__ = ["SelfPaced", "weighted"]


class SelfPaced(Method):
    """A method that reads each sample's last loss, at a pace; see `SPL` for the arguments."""

    def __init__(
        self, pace: Pace | None, warmup_epochs: int, survey_every_epochs: int | None
    ) -> None:
        pace = Linear(start_fraction=0.5, epochs=10) if pace is None else pace
        if not callable(pace):
            raise TypeError(str(refusal("pace", "callable, as in gradatim.pacing", repr(pace))))
        self.pace: Pace | None = pace
        self.warmup_epochs = check_count("warmup_epochs", warmup_epochs)
        if survey_every_epochs is not None:
            check_count("survey_every_epochs", survey_every_epochs, at_least=1)
        elif warmup_epochs == 0:
            cause = "Without a warm-up the first losses must come from a survey."
            raise refusal("warmup_epochs", "at least 1 unless survey_every_epochs is set", 0, cause)
        self.survey_every_epochs = survey_every_epochs
        self._surveyed_epoch = -1

    def setup(self, run: Run) -> None:
        self.losses = Table("loss", fill=math.nan)

    def observe(self, batch: Batch, run: Run) -> None:
        self.losses.write(batch.index, batch.losses)
        if batch.surveyed:
            self._surveyed_epoch = run.epoch

    def survey_due(self, run: Run) -> bool:
        paced = run.epoch - self.warmup_epochs
        return (
            self.survey_every_epochs is not None
            and paced >= 0
            and paced % self.survey_every_epochs == 0
            and self._surveyed_epoch != run.epoch
            and self._fraction(run.epoch) < 1
        )

    def _fraction(self, epoch: int) -> float:
        if epoch < self.warmup_epochs:
            return 1.0
        t = float(epoch - self.warmup_epochs)
        assert self.pace is not None, "a method without a pace calculates its own fraction"
        return check_number("pace(t)", float(self.pace(t)), above=0, at_most=1)

    def _losses(self, pool: Pool, run: Run) -> torch.Tensor:
        """Losses of the pool's samples, on the CPU; those never seen count as easiest."""
        if self.survey_due(run):
            raise RuntimeError(
                f"survey must run before epoch {run.epoch}: {self!r} asks for the losses of all "
                "samples. Call curriculum.survey(dataset, forward)."
            )
        losses = self.losses.values[pool.index.to(self.losses.values.device)].cpu()
        seen = ~losses.isnan()
        if not bool(seen.all()):
            floor = losses[seen].min() if bool(seen.any()) else torch.zeros(())
            losses = torch.where(seen, losses, floor)
        return losses

    def state_dict(self) -> dict[str, Any]:
        return {"surveyed_epoch": self._surveyed_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._surveyed_epoch = state["surveyed_epoch"]


def weighted(pool: Pool, weights: torch.Tensor) -> Pool:
    """Leave out weight 0, and weigh the rest where it does not all count fully."""
    kept = (weights > 0).nonzero().squeeze(1)
    weights = weights[kept]
    pool = pool.keep(kept)
    return pool if bool((weights == 1).all()) else pool.weigh(weights)
