"""Learning-rate schedules that follow a curriculum: cosine cycles whose epochs differ in length."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.optim.lr_scheduler import LRScheduler

from gradatim.curriculum import Curriculum
from gradatim.episodes import PAPER_EPISODES, check_episodes
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["CyclicCosine"]

# The authors' program raises the peak in this many episodes after the first, then lowers it.
CODE_RISES, CODE_PEAK, CODE_LOW = 4, 0.9, 0.8
SETTINGS = ("optimizer", "curriculum", "episodes", "low", "decay", "schedule", "steps_per_epoch")


class CyclicCosine(LRScheduler):
    """Cosine cycles of growing length whose peak and low shrink, over the batches really trained.

    In episode j = 0, 1, ... that lasts L batches, after s of them:
    ``eta = lo_j + (hi_j - lo_j) (1 + cos(pi s / L)) / 2``, ``hi_j = hi decay^j``,
    ``lo_j = lo decay^j``; hi is the group's initial rate. Step it after each optimizer step.

    Where training stands is read from the curriculum, not counted: accumulated gradients, skipped
    batches and a missed or repeated `step` do no harm. L is the sum of the sizes the methods plan.
    Where the data decide them, the coming epochs count as long as the current one. So the rate
    never jumps but at the end of an episode, by when it has come down to about its low.

    Args:
        optimizer: any torch optimizer; each group keeps its own peak.
        curriculum: whose epochs and batches are followed, with or without a loader yet; None
            follows the calls of `step`, with ``steps_per_epoch``.
        episodes: epochs at which episodes end, increasing. Later epochs stay at the last low. In
            the paper lengths do not shrink; here they may.
        low: lo, at least 0 and at most hi; one for all groups, or one per group.
        decay: in (0, 1]; unused by the authors' program's schedule.
        schedule: ``"paper"``; or ``"code"``, the authors' program: the first episode rises in a
            straight line from lo to hi, the next four peaks are each 1 / .9 of the one before,
            later ones .9, and from then on each low is .8 of the one before.
        steps_per_epoch: optimizer steps in every epoch, where there is no curriculum.
        last_epoch: as in torch: steps made so far, when resuming without a curriculum.

    Raises:
        TypeError: no torch optimizer, or numbers of the wrong kind.
        ValueError: a value outside its range.

    State:
        `state_dict` holds the position alone, plain numbers: how much of the episode is done. What
        is passed here comes from the constructor again, so longer ``episodes`` prolong a run.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = torch.optim.SGD([weight], lr=0.2)
        >>> scheduler = CyclicCosine(optimizer, None, episodes=(2, 4), steps_per_epoch=1)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 6))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.2, 0.10025, 0.17, 0.085213]

    Differences from the paper: none. Its "multiple epochs" are the episodes here. Defaults are
    those for CIFAR, with hi = .2; others were 5, 10, 15, 20, 30, 45, 75, 120, 200 (ImageNet), four
    times the default (STL-10) and up to 400 (fine-grained images).

    Caveats: the rate is set, not multiplied: in a chain of schedulers put this one first. A method
    that scales the rate within the optimizer step (LeRaC) goes with it.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020,
        section 4 [zhou2020dihcl]; Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with
        Warm Restarts, ICLR 2017.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        curriculum: Curriculum | None,
        episodes: Sequence[int] = PAPER_EPISODES,
        *,
        low: float | Sequence[float] = 5e-4,
        decay: float = 0.85,
        schedule: Literal["paper", "code"] = "paper",
        steps_per_epoch: int | None = None,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(str(refusal("optimizer", "a torch.optim.Optimizer", repr(optimizer))))
        if curriculum is None:
            if steps_per_epoch is None:
                cause = "Pass steps_per_epoch=len(loader), or the curriculum."
                raise refusal("steps_per_epoch", "given without a curriculum", None, cause)
            check_count("steps_per_epoch", steps_per_epoch, at_least=1)
        elif not isinstance(curriculum, Curriculum):
            raise TypeError(str(refusal("curriculum", "a gradatim.Curriculum", repr(curriculum))))
        elif steps_per_epoch is not None:
            cause = "The curriculum knows the lengths of its epochs."
            raise refusal("steps_per_epoch", "None with a curriculum", steps_per_epoch, cause)
        self.curriculum = curriculum
        self.steps_per_epoch = steps_per_epoch
        self.episodes = check_episodes("episodes", episodes)
        self.decay = check_number("decay", decay, above=0, at_most=1)
        self.schedule = check_choice("schedule", schedule, ("paper", "code"))
        self.low = _checked_low(low, optimizer)
        self.position: dict[str, Any] = {}
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rate of each group, where training stands now."""
        if self.curriculum is not None:
            epoch, share = self._followed(self.curriculum)
        else:
            assert self.steps_per_epoch is not None
            epoch, batch = divmod(self.last_epoch, self.steps_per_epoch)
            start, end = self._span(epoch)
            share = min((epoch - start + batch / self.steps_per_epoch) / (end - start), 1.0)
        episode = min(bisect_right(self.episodes, epoch), len(self.episodes) - 1)
        peak, low = self._factors(episode)
        rising = self.schedule == "code" and episode == 0
        # In this form a share of 0 and of 1 give the bounds themselves, without rounding.
        high = share if rising else (1 + math.cos(math.pi * share)) / 2
        return [
            peak * float(base) * high + low * floor * (1 - high)
            for base, floor in zip(self.base_lrs, self.low, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """The position and the groups' initial rates; without what the constructor is given."""
        return {name: value for name, value in vars(self).items() if name not in SETTINGS}

    def _factors(self, episode: int) -> tuple[float, float]:
        """How large peak and low of an episode are, as parts of the first one's."""
        if self.schedule == "paper":
            return self.decay**episode, self.decay**episode
        falls = max(0, episode - CODE_RISES)
        return CODE_PEAK ** (falls - min(episode, CODE_RISES)), CODE_LOW**falls

    def _span(self, epoch: int) -> tuple[int, int]:
        """First epoch of the episode, and the first after it; the last one is never left."""
        number = min(bisect_right(self.episodes, epoch), len(self.episodes) - 1)
        return (self.episodes[number - 1] if number else 0), self.episodes[number]

    def _followed(self, curriculum: Curriculum) -> tuple[int, float]:
        """The curriculum's epoch, and the share of its episode that is done.

        The batches since the last look are a part of those that were left in the episode then;
        the same part of what the share lacked is added. So it is continuous whatever happens to
        the lengths to come, and where these were foreseen it is s / L.
        """
        epochs = curriculum.epochs
        epoch, step, batch = epochs.run.epoch, epochs.run.step, epochs.batch_in_epoch
        start, end = self._span(epoch)
        if epoch >= end:
            return epoch, 1.0
        was = self.position
        # The share at step `since`, with `rest` batches of the episode left, if that is known.
        since, rest, after = step - batch, None, None
        if not was or was["span"] != [start, end] or was["step"] > step:
            share = (epoch - start) / (end - start)  # epochs not followed count as equally long
        elif was["epoch"] == epoch:
            share, since, rest, after = (was[name] for name in ("share", "step", "rest", "after"))
        else:
            passed = epoch - was["epoch"]
            part = passed / (end - was["epoch"])
            if was["rest"] and passed == 1:
                part = min(1.0, (since - was["step"]) / was["rest"])
            share = was["share"] + (1 - was["share"]) * part
        if batch:  # before the first one, planning would precede the survey a plan may rest on
            length = epochs.steps()
            if after is None:
                after = self._after(curriculum, end - epoch - 1, length)
            rest = length - batch + after
            moved = step - since
            share += (1 - share) * (moved / (moved + rest) if moved else 0.0)
        elif epochs.bound and rest is None:
            rest = curriculum.planned_steps(end - epoch)
        self.position = {
            "span": [start, end],
            "epoch": epoch,
            "step": step,
            "share": share,
            "rest": rest,
            "after": after,
        }
        return epoch, share

    @staticmethod
    def _after(curriculum: Curriculum, epochs: int, length: int) -> int:
        """Batches in the episode's epochs after the current one, which has ``length``."""
        whole, now = curriculum.planned_steps(epochs + 1), curriculum.planned_steps(1)
        return length * epochs if whole is None or now is None else whole - now


def _checked_low(low: float | Sequence[float], optimizer: torch.optim.Optimizer) -> list[float]:
    peaks = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    given = list(low) if isinstance(low, Sequence) and not isinstance(low, str) else None
    if given is not None and len(given) != len(peaks):
        raise refusal("low", f"one number, or one per group: {len(peaks)}", len(given))
    found = [
        check_number("low", value, at_least=0)
        for value in (given if given is not None else [low] * len(peaks))
    ]
    for value, peak in zip(found, peaks, strict=True):
        if value > peak:
            rule = f"at most the group's initial rate, {peak}"
            raise refusal("low", rule, value, "Give one low per group.")
    return found
