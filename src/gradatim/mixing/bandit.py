"""The automated curriculum: a bandit that draws the task on which learning progresses most."""

from __future__ import annotations

import math
import warnings
from typing import ClassVar

import torch

from gradatim.keyed import keyed_generator
from gradatim.mixing.policy import Policy, Resumable, draw_source
from gradatim.validation import check_count, check_number

__all__ = ["Exp3S", "RewardScale"]


class Exp3S(Policy):
    """Exp3.S: draws tasks by what they earned, and forgets, since what is learnt earns no more.

    N tasks with log-weights w = 0; a task a is drawn from the policy pi and earns a reward r::

        pi_i = (1 - epsilon) softmax(w)_i + epsilon / N
        r_i  = (r 1[i = a] + beta) / pi_i,   v = w + eta r_i
        w_i <- log((1 - alpha_t) e^{v_i} + alpha_t / (N - 1) sum_{j != i} e^{v_j}),
        alpha_t = 1 / t

    Args:
        arms: N, at least 1; with one task there is nothing to learn.
        eta: step size, above 0.
        epsilon: share of uniform draws, in (0, 1]: pi_i is at least epsilon / N.
        beta: added to every reward, at least 0.
        seed: of `draw`.

    State:
        ``log_weights`` float64 (N,), ``t`` of the coming update, ``draws`` so far.

    Raises:
        TypeError: an argument of another kind.
        ValueError: an argument outside its range.

    Example:
        >>> bandit = Exp3S(3, eta=0.1)
        >>> bandit.update(0, 1.0)
        >>> bandit.probabilities()
        tensor([0.3499, 0.3251, 0.3251], dtype=torch.float64)

    Differences from the paper:
        The first update has t = 2. With t = 1 all weight would go to the other tasks, and the task
        that was rewarded would become the less likely one.

    Caveats:
        Rewards should lie in [-1, 1]: `RewardScale` brings them there. A reward that is not
        finite is left out, with a warning.

    References:
        Graves et al., Automated curriculum learning for neural networks, ICML 2017, section 2.1
        [graves2017].
    """

    references: ClassVar[tuple[str, ...]] = ("graves2017",)
    kept: ClassVar[tuple[str, ...]] = ("log_weights", "t", "draws")

    def __init__(
        self,
        arms: int,
        eta: float = 1e-3,
        epsilon: float = 0.05,
        *,
        beta: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.arms = check_count("arms", arms, at_least=1)
        self.eta = check_number("eta", eta, above=0)
        self.epsilon = check_number("epsilon", epsilon, above=0, at_most=1)
        self.beta = check_number("beta", beta, at_least=0)
        self.seed = check_count("seed", seed)
        self.log_weights = torch.zeros(self.arms, dtype=torch.float64)
        self.t = 2
        self.draws = 0

    def probabilities(self) -> torch.Tensor:
        """The policy pi: float64 (N,)."""
        learnt = torch.softmax(self.log_weights, 0)
        return (1 - self.epsilon) * learnt + self.epsilon / self.arms

    def draw(self) -> int:
        """Draw a task; which one depends on (seed, number of draws) and the policy alone."""
        task = draw_source(self.probabilities(), self.seed, "exp3s", self.draws)
        self.draws += 1
        return task

    def update(self, arm: int, reward: float, *, probability: float | None = None) -> None:
        """Learn from the reward of a task that was drawn.

        Args:
            arm: a, in [0, N).
            reward: r, scaled; one that is not finite is left out, with a warning.
            probability: with which it was drawn, in (0, 1]; default: of the policy as it stands.

        Raises:
            TypeError: ``arm`` is not a whole number.
            ValueError: ``arm`` or ``probability`` outside its range.
        """
        arm = check_count("arm", arm, at_most=self.arms - 1)
        chances = self.probabilities()
        if probability is not None:
            chances[arm] = check_number("probability", probability, above=0, at_most=1)
        reward = float(reward)
        if not math.isfinite(reward):
            warnings.warn(f"a reward of {reward} for arm {arm} was left out.", stacklevel=2)
            return
        earned = torch.full_like(chances, self.beta)
        earned[arm] += reward
        raised = self.log_weights + self.eta * earned / chances
        alpha = 1 / self.t
        self.t += 1
        if self.arms == 1:
            return
        top = raised.max()
        powers = (raised - top).exp()
        others = powers.sum() - powers
        shared = (1 - alpha) * powers + alpha / (self.arms - 1) * others
        self.log_weights = shared.log() + top


class RewardScale(Resumable):
    """Bring progress to [-1, 1] by its own history, so that units and decay do not matter.

    Progress per unit of cost goes into a reservoir that is uniform over history; with its
    percentiles q_low and q_high::

        r = -1 below q_low, +1 above q_high, linear between; 0 where both are equal

    Args:
        capacity: of the reservoir, at least 1.
        low: lower percentile, in [0, 1].
        high: upper percentile, in [low, 1].
        seed: of what the reservoir keeps.

    State:
        ``history``, at most ``capacity`` values; ``seen``, how many there were.

    Raises:
        TypeError: an argument of another kind.
        ValueError: an argument outside its range.

    Example:
        >>> scale = RewardScale()
        >>> for progress in range(10):
        ...     _ = scale(progress)
        >>> scale(10.0), scale.scale(5.0), scale.scale(3.5)
        (1.0, 0.0, -0.5)

    Differences from the paper:
        The paper gives no size of the reservoir; 1000 is ours.

    Caveats:
        The percentiles of a few values mean little: the first reward is 0.

    References:
        Graves et al., Automated curriculum learning for neural networks, ICML 2017, section 2.2
        [graves2017].
    """

    references: ClassVar[tuple[str, ...]] = ("graves2017",)
    kept: ClassVar[tuple[str, ...]] = ("history", "seen")

    def __init__(
        self, capacity: int = 1000, *, low: float = 0.2, high: float = 0.8, seed: int = 0
    ) -> None:
        self.capacity = check_count("capacity", capacity, at_least=1)
        self.low = check_number("low", low, at_least=0, at_most=1)
        self.high = check_number("high", high, at_least=self.low, at_most=1)
        self.seed = check_count("seed", seed)
        self.history: list[float] = []
        self.seen = 0

    def __call__(self, progress: float, cost: float = 1.0) -> float:
        """Take progress into the history and scale it.

        Args:
            progress: any signal of `gradatim.mixing`; one that is not finite stays out of the
                history and comes back as NaN, which `Exp3S.update` leaves out.
            cost: seconds or tokens that the step took, above 0.

        Returns:
            The reward, in [-1, 1].
        """
        rate = float(progress) / check_number("cost", cost, above=0)
        if not math.isfinite(rate):
            return math.nan
        self.seen += 1
        if len(self.history) < self.capacity:
            self.history.append(rate)
        else:
            # Each of the values seen is in the reservoir with the same chance.
            generator = keyed_generator(self.seed, "reservoir", self.seen)
            place = int(torch.randint(self.seen, (), generator=generator))
            if place < self.capacity:
                self.history[place] = rate
        return self.scale(rate)

    def scale(self, rate: float) -> float:
        """Scale progress per cost by the history as it stands, in [-1, 1]; 0 without any."""
        if not self.history:
            return 0.0
        known = torch.tensor(self.history, dtype=torch.float64)
        bounds = torch.tensor([self.low, self.high], dtype=torch.float64)
        lower, upper = torch.quantile(known, bounds).tolist()
        if not upper > lower:
            return 0.0
        return min(1.0, max(-1.0, 2 * (rate - lower) / (upper - lower) - 1))
