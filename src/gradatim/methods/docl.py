"""DoCL: train on the samples that move fastest towards their targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from gradatim.dynamics import outputs as dynamics
from gradatim.episodes import PAPER_EPISODES, check_episodes, episode_of
from gradatim.method import Batch, Pool, Run
from gradatim.methods.output_signals import OutputSignals
from gradatim.methods.pruning import Pruned
from gradatim.selection import highest, inclusion_probabilities, shrinking_size, weighted_draw
from gradatim.selection.facility import Greedy
from gradatim.table import Table
from gradatim.validation import (
    check_choice,
    check_count,
    check_flag,
    check_number,
    refusal,
)

__all__ = ["DoCL"]

SMALLEST_CHANCE = 0.01  # below it, dividing by a chance would let one score drown all others
SMALLEST_SHARE = 1e-6  # weight of the lowest score, of the range of all, in "proportional"


class DoCL(Pruned):
    """Dynamics-optimised curriculum learning: train on what moves fastest towards its target.

    The score of a sample, ``a = <onehot(y) - p, df/dt>`` (Eq. 12), is large where much is left to
    learn and training on all the data brings it nearer: hard, but like others. It is a by-product
    of training, with f the logits, g those of the sample's last visit and rho the learning rate
    summed since: ``df/dt = (f - g) / rho``, averaged as ``ahat <- gamma ahat + (1 - gamma) a``
    (Eq. 8). In every large-batch epoch the loss is ``1/2 ||onehot(y) - p||^2``, whose flow the
    derivation asks for; `Curriculum.criterion` supplies it. Between them, mini-batches of the
    task's loss train on k samples drawn by score, fewer in each episode.

    Args:
        episodes: epochs at which episodes end, counted from 1 and increasing. The first ends the
            warm start (T_0), large-batch epochs on everybody; the last epoch of each later episode
            is one, too. After the last, its length repeats.
        batch_mul: batch size of the large-batch epochs, in batches of the loader.
        sampling: ``"boltzmann"`` draws by ``exp(ahat / temperature)``, ``"proportional"`` by
            ``ahat - min ahat``, ``"topk"`` takes the k largest. Samples without a score count as
            the largest.
        temperature: tau, above 0.
        gamma: of the history in Eq. 8, in [0, 1].
        gamma_k: in (0, 1]: ``k <- max(k_min, gamma_k k)`` after each episode, the warm start
            included.
        k_min: smallest subset, as a fraction of the data, in (0, 1].
        score: ``"residual"``; or ``"norm"`` for DoCL-NR, ``a = ||df/dt||``, whose subset grows:
            it starts at k_min.
        growth: at least 1; with ``"norm"``, ``k <- min(n, growth k)`` after each later episode.
        exp3: divide a by the chance with which the epoch's draw takes the sample (at least .01),
            before any pruning; 1 in large-batch epochs.
        lr_sum: ``"elapsed"`` sums the rates of the steps between two observations;
            ``"inclusive"`` adds that of the second one's step, as printed.
        task: ``"classification"`` wants ``logits`` and ``targets``; ``"regression"`` (also
            distillation: targets are the teacher's logits) wants ``outputs`` and ``targets`` of
            one shape, scores by ``<y - f, df/dt>`` (Eq. 7), and has one loss throughout:
            ``1/2 ||y - f||^2`` from `Curriculum.criterion`, or a multiple of it of your own.
        dtype: of the outputs kept, ``"float32"`` or ``"float16"``.
        prune: gamma_k' of Eq. 15, in (0, 1]: the share of the drawn samples that is kept, by score
            and diversity; 1 is off. The paper does not state its value.
        diversity: lambda_1.
        diversity_decay: gamma_lambda, in (0, 1], at each epoch of pruning.
        rescale: divide scores by their mean over the drawn samples before that.
        greedy: as of `gradatim.selection.facility_location`.
        features: (N, D) for the diversity; None takes the inputs of the model's last linear layer,
            from the last epoch of each episode.
        layer: name of that layer, where it is another one.

    State:
        score: float32 (N,), ahat; NaN before the second visit.
        outputs: (N, C) in ``dtype``, g; not in `Curriculum.scores`.
        stamp: float64 (N,), summed learning rate at the last visit; NaN before the first.
        And the chances of the current draw, with ``exp3``.

    Raises:
        ValueError: a parameter outside its range; with the call, labels out of range, outputs of
            another width than before.

    Example:
        >>> import torch, gradatim as gr
        >>> method = DoCL(episodes=(1, 3), sampling="topk", gamma_k=0.5)
        >>> run = gr.Run(size=4, seed=0, epoch=1)
        >>> method.setup(run)
        >>> method.scores.allocate(4).write(torch.arange(4), torch.tensor([0.1, 0.4, -0.2, 0.3]))
        >>> method.plan(gr.Pool(torch.arange(4)), run).index
        tensor([1, 3])
        >>> method.replaces_criterion(run), method.replaces_criterion(gr.Run(4, seed=0, epoch=2))
        (False, True)

    Differences from the paper:
        Printed, Algorithm 1 sums one rate into rho, shares epochs between episodes and draws by
        scores that may be negative; here rho is the sum over all steps since the last visit,
        episodes are half-open and the draw is Boltzmann's. g is not initialised by an extra pass:
        the first visit only stores it. The authors' code multiplies by the temperature, has
        gamma = .5 and grows the subset; for their EMA teacher pass its logits. The paper states
        neither gamma_k' nor lambda_1, nor what follows the last episode.

    Caveats:
        Scores from the task's loss on chosen samples are biased, and stale where not drawn; the
        paper uses them all the same. Augmentation and mix-up noise enter f - g. float16 outputs add
        rounding of about |f| / (1000 rho) to the dynamics. Surveys are not observed: evaluation
        mode moves outputs, too. With a method before it that narrows the pool, ``exp3`` knows the
        chances of a draw from all data only.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        Algorithm 1, Eqs. 7, 8, 12 and 15 [zhou2021docl].
    """

    references = ("zhou2021docl",)
    reads_losses = False

    def __init__(
        self,
        *,
        episodes: Sequence[int] = PAPER_EPISODES,
        batch_mul: int = 4,
        sampling: Literal["boltzmann", "proportional", "topk"] = "boltzmann",
        temperature: float = 0.1,
        gamma: float = 0.9,
        gamma_k: float = 0.9,
        k_min: float = 0.2,
        score: Literal["residual", "norm"] = "residual",
        growth: float = 1.1,
        exp3: bool = False,
        lr_sum: Literal["elapsed", "inclusive"] = "elapsed",
        task: dynamics.Task = "classification",
        dtype: Literal["float32", "float16"] = "float32",
        prune: float = 1.0,
        diversity: float = 1.0,
        diversity_decay: float = 0.9,
        rescale: bool = False,
        greedy: Greedy = "stochastic",
        features: torch.Tensor | None = None,
        layer: str | None = None,
    ) -> None:
        super().__init__(
            prune=prune,
            diversity=diversity,
            diversity_decay=diversity_decay,
            rescale=rescale,
            greedy=greedy,
            features=features,
            layer=layer,
        )
        self.episodes = check_episodes("episodes", episodes)
        self.batch_mul = check_count("batch_mul", batch_mul, at_least=1)
        self.sampling = check_choice("sampling", sampling, ("boltzmann", "proportional", "topk"))
        self.temperature = check_number("temperature", temperature, above=0)
        self.gamma = check_number("gamma", gamma, at_least=0, at_most=1)
        self.gamma_k = check_number("gamma_k", gamma_k, above=0, at_most=1)
        self.k_min = check_number("k_min", k_min, above=0, at_most=1)
        self.score = check_choice("score", score, ("residual", "norm"))
        self.growth = check_number("growth", growth, at_least=1)
        self.exp3 = check_flag("exp3", exp3)
        if exp3 and sampling == "topk":
            cause = "The k largest are taken with certainty."
            raise refusal("exp3", "False where sampling is 'topk'", exp3, cause)
        self.lr_sum = check_choice("lr_sum", lr_sum, ("elapsed", "inclusive"))
        check_choice("task", task, ("classification", "regression"))
        self.task: dynamics.Task = task
        self.dtype = check_choice("dtype", dtype, ("float32", "float16"))
        self._signals = OutputSignals(task)
        self.wants = (self._signals.name, "targets", "learning_rate")
        self._chances: torch.Tensor | None = None  # of the epoch's draw; None is 1 everywhere
        self._chances_epoch = -1

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._signals = OutputSignals(self.task)
        self._chances, self._chances_epoch = None, -1
        self.scores = Table("score", fill=math.nan)
        kept = torch.float16 if self.dtype == "float16" else torch.float32
        self.outputs = Table("outputs", shape=None, dtype=kept, fill=math.nan)
        self.stamp = Table("stamp", dtype=torch.float64, fill=math.nan)

    # ------------------------------------------------------------------ the schedule

    def large_batch(self, epoch: int) -> bool:
        """Whether ``epoch`` (from 0) trains on everybody, in large batches, on the L2 loss."""
        episode, end = episode_of(epoch, self.episodes)
        return episode == 0 or epoch + 1 == end

    def collects(self, epoch: int) -> bool:
        return self.prune < 1 and epoch + 1 == episode_of(epoch, self.episodes)[1]

    def _drawn(self, size: int, epoch: int) -> int:
        """How many of ``size`` samples a selecting epoch draws, before it prunes."""
        episode, _ = episode_of(epoch, self.episodes)
        floor = self.k_min * size
        k, factor = (floor, self.growth) if self.score == "norm" else (size, self.gamma_k)
        for _ in range(episode - (self.score == "norm")):
            before, k = k, min(max(floor, factor * k), float(size))
            if k == before:
                break
        return min(size, shrinking_size(k))

    def _pruning_steps(self, epoch: int) -> int:
        """Selecting epochs before ``epoch``."""
        episode, _ = episode_of(epoch, self.episodes)
        return max(0, epoch - self.episodes[0] - max(0, episode - 1))

    def planned_scale(self, epoch: int) -> int:
        return self.batch_mul if self.large_batch(epoch) else 1

    def planned_size(self, size: int, epoch: int) -> int | None:
        if self.large_batch(epoch):
            return size
        return self._pruned_size(self._drawn(size, epoch))

    def replaces_criterion(self, run: Run) -> bool:
        return self.task == "classification" and self.large_batch(run.epoch)

    def criterion(
        self, logits: torch.Tensor, targets: torch.Tensor, run: Run
    ) -> torch.Tensor | None:
        if self.task == "regression":
            # One loss throughout. What has no target of its shape is trained on as it always was.
            fits = targets.shape == logits.shape
            return dynamics.squared_error(logits, targets, task="regression") if fits else None
        return dynamics.squared_error(logits, targets) if self.large_batch(run.epoch) else None

    # ------------------------------------------------------------------ selection

    def log_weights(self, index: torch.Tensor) -> torch.Tensor:
        """By what samples are drawn: sampling log-weights (M,); scores where the k largest are.

        Args:
            index: int64 (M,), the samples to draw from.

        Returns:
            float32 (M,), on the CPU. Samples without a score count as the largest of these.
        """
        scores = self._known_scores(index)
        if self.sampling == "boltzmann":
            return scores / self.temperature
        if self.sampling == "topk" or not scores.numel():
            return scores
        above = scores - scores.min()
        return above.clamp(min=max(SMALLEST_SHARE * float(above.max()), 1e-30)).log()

    def _known_scores(self, index: torch.Tensor) -> torch.Tensor:
        scores = self.scores[index].cpu()
        missing = scores.isnan()
        known = scores[~missing]
        return scores.masked_fill(missing, float(known.max()) if known.numel() else 0.0)

    def plan(self, pool: Pool, run: Run) -> Pool:
        if self.large_batch(run.epoch):
            return replace(pool, batch_scale=pool.batch_scale * self.batch_mul)
        size = pool.index.numel() if pool.size is None else min(pool.size, pool.index.numel())
        k = self._drawn(size, run.epoch)
        weights = self.log_weights(pool.index)
        generator = run.generator("docl", "draw")
        given = None if pool.log_weights is None else pool.log_weights.detach().cpu()
        if self.sampling == "topk":
            if given is not None:  # an order by scores has no use for weights but "never"
                weights = weights.masked_fill(given == -math.inf, -math.inf)
            chosen = highest(weights, k, generator=generator)
        else:
            weights = weights if given is None else weights + given
            chosen = weighted_draw(weights, k, generator=generator, log=True)
        if self.prune < 1:
            scores = self._known_scores(pool.index)
            scores = scores - scores[chosen].min()
            steps = self._pruning_steps(run.epoch)
            chosen = self._pruned(pool.index, chosen, scores, run, steps)
        # The draw that was asked for is made: nobody is to draw by the same weights again.
        return replace(pool.keep(chosen), log_weights=None, size=None)

    def start_epoch(self, run: Run) -> None:
        # Keyed by epoch: after a resume within it the scores may have moved on.
        if not self.exp3 or self._chances_epoch == run.epoch:
            return
        self._chances_epoch = run.epoch
        self._chances = None
        if not self.large_batch(run.epoch):
            weights = self.log_weights(torch.arange(run.size)).double()
            k = self._drawn(run.size, run.epoch)
            chances = inclusion_probabilities((weights - weights.max()).exp(), k)
            self._chances = chances.clamp(min=SMALLEST_CHANCE).float()

    # ------------------------------------------------------------------ observation

    def record(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        kept = self._signals.columns(batch, run.size, self.outputs.dtype, self.outputs)
        return {**kept, **self.feature_column(batch, run)} if self.prune < 1 else kept

    def observe(self, batch: Batch, run: Run) -> None:
        if batch.surveyed or not batch.size:
            return
        outputs, targets = self._signals.check(batch)
        super().observe(batch, run)
        index, clock, rate = batch.index, batch.clock, batch.learning_rate
        assert isinstance(clock, torch.Tensor)
        assert isinstance(rate, torch.Tensor)
        if self.outputs.allocated:
            moved = self._movement(index, outputs, clock, rate)
            observed = self._score(outputs, targets, moved)
            if self._chances is not None:
                observed = observed / self._chances[index.cpu()].to(observed)
            before = self.scores[index]
            self.scores.write(index, dynamics.running_score(before, observed, self.gamma))
        if self.outputs.dtype == torch.float16:
            limit = torch.finfo(torch.float16).max
            outputs = outputs.clamp(-limit, limit)
        self.outputs.write(index, outputs)
        self.stamp.write(index, clock)

    def _movement(
        self, index: torch.Tensor, outputs: torch.Tensor, clock: torch.Tensor, rate: torch.Tensor
    ) -> torch.Tensor:
        now = clock + rate if self.lr_sum == "inclusive" else clock
        stamp = self.stamp[index]
        elapsed = now.to(stamp.device) - stamp
        return dynamics.movement(outputs, self.outputs[index].to(outputs), elapsed)

    def _score(
        self, outputs: torch.Tensor, targets: torch.Tensor, moved: torch.Tensor
    ) -> torch.Tensor:
        if self.score == "norm":
            return dynamics.speed(moved)
        return dynamics.alignment(dynamics.residuals(outputs, targets, task=self.task), moved)

    # ------------------------------------------------------------------ state in no table

    def state_dict(self) -> dict[str, Any]:
        chances = None if self._chances is None else self._chances.clone()
        return {"chances": chances, "chances_epoch": self._chances_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._chances = state["chances"]
        self._chances_epoch = state["chances_epoch"]
