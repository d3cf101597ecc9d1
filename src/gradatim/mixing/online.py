"""Online data mixing: the proportions of sources follow their losses while training runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from gradatim.mixing.policy import Policy, draw_source, read_weights
from gradatim.validation import as_vector, check_choice, check_count, check_number, refusal

__all__ = ["OnlineDataMixing"]


class OnlineDataMixing(Policy):
    """Draw sources by their training losses alone (ODM), at no cost beside.

    The reward of one of K sources is the loss of its batch; R = 0 at first, t counts steps::

        eps_t = min(1/K, sqrt(ln K / (K t)))
        pi_t  = (1 - K eps_t) softmax(eps_(t-1) R) + eps_t
        R_i  <- alpha R_i + (1 - alpha) L_i / pi_i        for each source of the step

    Args:
        sources: K, at least 2.
        alpha: share of the old estimate, in [0, 1).
        reward: ``"importance"`` as above; ``"exp_linear"``, the authors' code: weights linear in
            R, and R <- alpha R + (1 - alpha) exp(L).
        warmup_steps: that many steps draw by fixed weights; 1 % of all steps in the paper.
        weights: (K,), of the warm-up, any scale; default: all alike.
        seed: of `draw`.

    State:
        ``estimates`` R, float64 (K,); ``steps`` done; ``draws`` so far.

    Raises:
        TypeError: an argument of another kind.
        ValueError: an argument outside its range; fewer than two sources.

    Example:
        >>> mix = OnlineDataMixing(3)
        >>> for step in range(10):
        ...     source = step % 3
        ...     mix.update(source, [3.0, 2.0, 1.0][source])
        >>> mix.probabilities()
        tensor([0.3683, 0.3260, 0.3057], dtype=torch.float64)

    Differences from the paper:
        None known.

    Caveats:
        R is an average and eps falls to 0, so pi drifts to uniform as t grows: the mix adapts
        early and less and less. 1 / pi makes rarely drawn sources jump.

    References:
        Albalak et al., Efficient online data mixing for language model pre-training, 2023
        [albalak2023odm].
    """

    references: ClassVar[tuple[str, ...]] = ("albalak2023odm",)
    kept: ClassVar[tuple[str, ...]] = ("estimates", "steps", "draws")

    def __init__(
        self,
        sources: int,
        *,
        alpha: float = 0.9,
        reward: Literal["importance", "exp_linear"] = "importance",
        warmup_steps: int = 0,
        weights: torch.Tensor | Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        self.sources = check_count("sources", sources, at_least=2)
        self.alpha = check_number("alpha", alpha, at_least=0, below=1)
        self.reward = check_choice("reward", reward, ("importance", "exp_linear"))
        self.warmup_steps = check_count("warmup_steps", warmup_steps)
        self.weights = None if weights is None else read_weights("weights", weights, self.sources)
        self.seed = check_count("seed", seed)
        self.estimates = torch.zeros(self.sources, dtype=torch.float64)
        self.steps = 0
        self.draws = 0

    def exploration(self, t: int) -> float:
        """The least probability of a source at step t, eps_t; 1/K at t = 0."""
        least = 1 / self.sources
        return min(least, math.sqrt(math.log(self.sources) / (self.sources * t))) if t else least

    def probabilities(self) -> torch.Tensor:
        """The mix of the coming step, pi_t: float64 (K,)."""
        if self.steps < self.warmup_steps:
            if self.weights is not None:
                return self.weights.clone()
            return torch.full_like(self.estimates, 1 / self.sources)
        t = self.steps + 1
        least = self.exploration(t)
        if self.reward == "importance":
            wanted = torch.softmax(self.exploration(t - 1) * self.estimates, 0)
        else:
            total = self.estimates.sum()
            even = torch.full_like(self.estimates, 1 / self.sources)
            wanted = self.estimates / total if float(total) > 0 else even
        return max(0.0, 1 - self.sources * least) * wanted + least

    def draw(self) -> int:
        """Draw a source; which one depends on (seed, number of draws) and the mix alone."""
        source = draw_source(self.probabilities(), self.seed, "odm", self.draws)
        self.draws += 1
        return source

    def update(
        self,
        source: int | torch.Tensor | Sequence[int],
        loss: float | torch.Tensor | Sequence[float],
    ) -> None:
        """Learn from the losses of one step.

        Args:
            source: whose batch it was, in [0, K); several where a step mixes sources. Losses of
                one source given twice are averaged.
            loss: the mean training loss of each.

        Raises:
            ValueError: a loss that is not finite; a source outside [0, K), or one that the mix
                never draws. Nothing changes.
        """
        index = torch.as_tensor(source).reshape(-1).cpu()
        if index.dtype.is_floating_point or index.dtype == torch.bool:
            raise refusal("source", f"whole numbers in [0, {self.sources})", index)
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= self.sources):
            raise refusal("source", f"in [0, {self.sources})", index.tolist())
        many = loss.reshape(-1) if isinstance(loss, torch.Tensor) else loss
        given = [many] if isinstance(many, (int, float)) else many
        losses = as_vector("loss", given, size=index.numel(), dtype=torch.float64).cpu()
        index = index.long()
        count = torch.bincount(index, minlength=self.sources)
        mean = torch.zeros_like(self.estimates).index_add_(0, index, losses) / count.clamp(min=1)
        chances = self.probabilities()
        if bool((chances[index] <= 0).any()):
            raise refusal("source", "one that the warm-up weights draw", index.tolist())
        earned = mean / chances if self.reward == "importance" else mean.exp()
        changed = self.alpha * self.estimates + (1 - self.alpha) * earned
        estimates = torch.where(count > 0, changed, self.estimates)
        if not bool(torch.isfinite(estimates).all()):
            raise refusal("loss", "small enough for exp(loss)", losses.tolist())
        self.estimates = estimates
        self.steps += 1
