"""Staged mixes: weights of sources that follow a plan, with ramps, annealing and thresholds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from gradatim.mixing.allocation import RunningAllocation, multinomial_at
from gradatim.mixing.policy import Policy, read_weights
from gradatim.validation import as_vector, check_choice, check_count, check_number, refusal

__all__ = ["Stage", "StagedMix"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a `StagedMix`.

    Args:
        start: where it begins, in tokens or steps; the first one at 0.
        weights: (K,), at least 0, not all 0, any scale.
        ramp: how long the weights move from the stage before to these.
        shape: of the ramp, ``"linear"`` or ``"cosine"``.
        quality: only samples whose score is at least this; None takes all.
        learning_rate: multiplier at the stage's start, above 0.
        final_learning_rate: multiplier at its end, reached in a straight line; at least 0. Default:
            it does not change.

    Example:
        >>> Stage(0, [0.6, 0.3, 0.1]).weights
        [0.6, 0.3, 0.1]

    Differences from the paper:
        No paper.
    """

    start: float
    weights: Sequence[float]
    ramp: float = 0.0
    shape: Literal["linear", "cosine"] = "linear"
    quality: float | None = None
    learning_rate: float = 1.0
    final_learning_rate: float | None = None


class StagedMix(Policy):
    """Draw K sources by a plan of stages, as in pretraining: broad first, small and good last.

    Within the ramp after a boundary the weights go from the old ones to the new ones, x being the
    share of the ramp that is done::

        linear   w = (1 - x) old + x new
        cosine   the same with (1 - cos(pi x)) / 2 for x

    `allocate` splits each batch, `advance` moves along the plan.

    Args:
        stages: in the order of their starts.
        unit: of starts and ramps: ``"tokens"``, reported by `advance`, or ``"steps"``, one per
            `allocate`.
        allocation: ``"largest_remainder"``, which carries what was rounded from batch to batch
            (see `RunningAllocation`), or ``"multinomial"``.
        sizes: (K,), samples of each source; only ``max_epochs`` needs them.
        max_epochs: passes over a source; then its share goes to the others. Default: no end.
        scores: K tensors (n_k,), quality of each sample, higher is better; needed for thresholds.
            They give the sizes as well.
        end: where the last stage ends; needed if its learning rate changes.
        seed: of ``"multinomial"``.

    State:
        ``position``, ``steps``, ``stage``, float64 (K,) ``drawn``, ``drawn_before`` (when the
        threshold last changed) and ``owed``.

    Raises:
        TypeError: an argument of another kind.
        ValueError: boundaries that are not increasing or ramps that overlap the next stage;
            weights that are negative or all zero; a threshold without scores or above them all.

    Example:
        >>> mix = StagedMix([Stage(0, [0.6, 0.3, 0.1]), Stage(100, [0.2, 0.3, 0.5], ramp=40)])
        >>> mix.allocate(10).tolist()
        [6, 3, 1]
        >>> mix.advance(110)
        >>> mix.probabilities()
        tensor([0.5000, 0.3000, 0.2000], dtype=torch.float64)

    Differences from the paper:
        No paper: a common form of what pretraining reports describe.

    Caveats:
        A stage's threshold acts from its start, not along its ramp; a source's passes are then
        counted anew.
    """

    kept: ClassVar[tuple[str, ...]] = (
        "position", "steps", "stage", "drawn", "drawn_before", "owed",
    )  # fmt: skip

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        unit: Literal["tokens", "steps"] = "tokens",
        allocation: Literal["largest_remainder", "multinomial"] = "largest_remainder",
        sizes: torch.Tensor | Sequence[int] | None = None,
        max_epochs: float | None = None,
        scores: Sequence[torch.Tensor] | None = None,
        end: float | None = None,
        seed: int = 0,
    ) -> None:
        self.stages = list(stages)
        self.unit = check_choice("unit", unit, ("tokens", "steps"))
        self.allocation = check_choice(
            "allocation", allocation, ("largest_remainder", "multinomial")
        )
        self.seed = check_count("seed", seed)
        self.end = None if end is None else check_number("end", end, above=0)
        self._weights = _check_stages(self.stages, self.end)
        self.sources = self._weights[0].numel()
        self.scores = None if scores is None else [as_vector("scores", given) for given in scores]
        self.sizes = sizes
        self.max_epochs = max_epochs
        if max_epochs is not None:
            self.max_epochs = check_number("max_epochs", max_epochs, above=0)
        self._members = self._check_members()
        self._sizes = self._check_sizes()
        self.position = 0.0
        self.steps = 0
        self.stage = 0
        self.drawn = torch.zeros(self.sources, dtype=torch.float64)
        self.drawn_before = self.drawn.clone()
        self._shares = RunningAllocation(self.sources)

    def _check_members(self) -> list[list[torch.Tensor]] | None:
        """Positions of each source's samples that pass, by stage."""
        if self.scores is None:
            for number, stage in enumerate(self.stages):
                if stage.quality is not None:
                    cause = "A threshold needs one score per sample."
                    raise refusal("scores", f"given for stage {number}'s quality", None, cause)
            return None
        if len(self.scores) != self.sources:
            raise refusal("scores", f"one tensor per source: {self.sources}", len(self.scores))
        found = []
        for number, stage in enumerate(self.stages):
            row = []
            for source, scores in enumerate(self.scores):
                passes = torch.ones_like(scores, dtype=torch.bool)
                if stage.quality is not None:
                    passes = scores >= check_number("quality", stage.quality)
                row.append(passes.nonzero().squeeze(1))
                if not row[-1].numel() and float(self._weights[number][source]) > 0:
                    rule = f"passed by a sample of source {source} in stage {number}"
                    raise refusal("quality", rule, stage.quality)
            found.append(row)
        return found

    def _check_sizes(self) -> torch.Tensor | None:
        """Samples that pass, float64 (stages, K)."""
        if self.sizes is not None and self._members is None:
            sizes = as_vector(
                "sizes", self.sizes, size=self.sources, dtype=torch.float64, at_least=0
            ).cpu()
            return sizes.expand(len(self.stages), -1)
        if self._members is not None:
            counts = [[part.numel() for part in row] for row in self._members]
            return torch.tensor(counts, dtype=torch.float64)
        if self.max_epochs is not None:
            raise refusal("sizes", "given with max_epochs", None)
        return None

    @property
    def owed(self) -> torch.Tensor:
        """What rounding owes to each source, float64 (K,)."""
        return self._shares.owed

    @owed.setter
    def owed(self, owed: torch.Tensor) -> None:
        self._shares.owed = owed

    def stage_at(self, position: float) -> int:
        """Number of the stage at a position."""
        return max(i for i, stage in enumerate(self.stages) if stage.start <= position)

    def weights_at(self, position: float) -> torch.Tensor:
        """The plan's weights at a position, whatever is used up: float64 (K,), summing to 1."""
        position = check_number("position", position, at_least=0)
        number = self.stage_at(position)
        stage, new = self.stages[number], self._weights[number]
        if number == 0 or position >= stage.start + stage.ramp:
            return new.clone()
        done = (position - stage.start) / stage.ramp
        if stage.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return (1 - done) * self._weights[number - 1] + done * new

    def learning_rate_at(self, position: float) -> float:
        """The multiplier of the learning rate at a position."""
        position = check_number("position", position, at_least=0)
        number = self.stage_at(position)
        stage = self.stages[number]
        if stage.final_learning_rate is None:
            return float(stage.learning_rate)
        end = self.end if number + 1 == len(self.stages) else self.stages[number + 1].start
        assert end is not None
        done = min(1.0, (position - stage.start) / (end - stage.start))
        return (1 - done) * stage.learning_rate + done * stage.final_learning_rate

    def members(self, source: int) -> torch.Tensor | None:
        """Positions of a source's samples that pass the current threshold; None: all of them."""
        number = self.stage_at(self.position)
        if self._members is None or self.stages[number].quality is None:
            return None
        return self._members[number][source]

    def _left(self) -> torch.Tensor:
        """Samples each source has left: float64 (K,), infinity without an end."""
        if self.max_epochs is None or self._sizes is None:
            return torch.full((self.sources,), math.inf, dtype=torch.float64)
        number = self.stage_at(self.position)
        passed = self.drawn - self._drawn_before(number)
        return ((self.max_epochs * self._sizes[number] + 1e-9).floor() - passed).clamp(min=0)

    def _drawn_before(self, number: int) -> torch.Tensor:
        changed = self.stages[number].quality != self.stages[self.stage].quality
        return self.drawn if changed else self.drawn_before

    def probabilities(self) -> torch.Tensor:
        """The weights of the coming batch, over sources that are not used up: float64 (K,).

        All of them are 0 once every source of positive weight is used up.
        """
        weights = torch.where(self._left() > 0, self.weights_at(self.position), 0.0)
        total = weights.sum()
        return weights / total if float(total) > 0 else weights

    def allocate(self, size: int) -> torch.Tensor:
        """Split the coming batch, and count what is drawn.

        Args:
            size: samples in the batch, over all ranks; at least 0.

        Returns:
            int64 (K,), summing to ``size``, or to less once the sources are used up.
        """
        size = check_count("size", size)
        weights, left = self.probabilities(), self._left()
        counts = torch.zeros(self.sources, dtype=torch.int64)
        if float(weights.sum()) > 0:
            if self.allocation == "multinomial":
                counts = multinomial_at(weights, size, self.seed, "staged", self.steps)
                counts = counts.minimum(left).long()
                room = torch.where(left - counts > 0, weights, 0.0)
                while int(counts.sum()) < size and float(room.sum()) > 0:
                    key = (self.seed, "staged more", self.steps, int(counts.sum()))
                    more = multinomial_at(room, size - int(counts.sum()), *key)
                    counts = (counts + more).minimum(left).long()
                    room = torch.where(left - counts > 0, weights, 0.0)
            else:
                counts = self._shares(weights, size, limits=left.tolist())
        number = self.stage_at(self.position)
        self.drawn_before = self._drawn_before(number).clone()
        self.stage = number
        self.drawn = self.drawn + counts
        self.steps += 1
        if self.unit == "steps":
            self.position += 1.0
        return counts

    def advance(self, tokens: float) -> None:
        """Move along a plan in tokens, after a batch of that many over all ranks.

        Raises:
            ValueError: the plan counts steps, which `allocate` does itself.
        """
        if self.unit != "tokens":
            raise refusal("unit", "'tokens' to be advanced", repr(self.unit))
        self.position += check_number("tokens", tokens, at_least=0)


def _check_stages(stages: list[Stage], end: float | None) -> list[torch.Tensor]:
    """Return the weights of all stages, each summing to 1."""
    if not stages:
        raise refusal("stages", "one at least", "none")
    found: list[torch.Tensor] = []
    for number, stage in enumerate(stages):
        if not isinstance(stage, Stage):
            raise TypeError(str(refusal(f"stages[{number}]", "a Stage", repr(stage))))
        name = f"stages[{number}]"
        size = found[0].numel() if found else None
        found.append(read_weights(f"{name}.weights", stage.weights, size))
        start = check_number(f"{name}.start", stage.start, at_least=0)
        if number == 0 and start != 0:
            raise refusal(f"{name}.start", "0", start)
        if number and start <= stages[number - 1].start:
            rule = f"after the stage before, which starts at {stages[number - 1].start}"
            raise refusal(f"{name}.start", rule, start)
        ramp = check_number(f"{name}.ramp", stage.ramp, at_least=0)
        after = stages[number + 1].start if number + 1 < len(stages) else end
        if after is not None and ramp and start + ramp > after:
            raise refusal(f"{name}.ramp", f"over before {after}", ramp)
        check_choice(f"{name}.shape", stage.shape, ("linear", "cosine"))
        check_number(f"{name}.learning_rate", stage.learning_rate, above=0)
        if stage.final_learning_rate is not None:
            check_number(f"{name}.final_learning_rate", stage.final_learning_rate, at_least=0)
            if after is None:
                raise refusal("end", "given, as the last learning rate changes until then", None)
    if end is not None and end <= stages[-1].start:
        raise refusal("end", "after the start of the last stage", end)
    return found
