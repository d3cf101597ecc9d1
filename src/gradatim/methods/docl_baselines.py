"""The three curricula by which DoCL's authors studied its score, without anything around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from gradatim.dynamics import outputs as dynamics
from gradatim.episodes import PAPER_EPISODES, check_episodes, episode_of
from gradatim.method import Batch, Method, Pool, Run
from gradatim.methods.output_signals import OutputSignals
from gradatim.selection import highest, lowest, shrinking_size
from gradatim.table import Table
from gradatim.validation import check_count, check_number

__all__ = ["DoCLBaseline"]


class DoCLBaseline(Method):
    """Train on the samples of highest or lowest DoCL score alone, every sample's score kept fresh.

    An experiment about the score ``a = <onehot(y) - p, df/dt>`` (Eq. 12), not a way to train: each
    round estimates the gradient flow on a uniform draw D, looks at all samples, and trains on the
    fifth with the highest (or lowest) ahat (Eq. 8). A round is two epochs of the curriculum, with a
    `Curriculum.survey` before each. The even epoch (from 0) is the flow: D in one large batch, on
    ``1/2 ||onehot(y) - p||^2``, from `Curriculum.criterion`. Outputs before and after it give the
    score. The odd epoch trains on the chosen samples S; outputs before and after that give Eq. 10's
    ``<onehot(y) - p, dp/dt|_S>`` for every sample, whether chosen or not.

    Args:
        which: 1 takes the highest scores in odd episodes, counted from 1, and the lowest in even
            ones; 2 always the highest; 3 always the lowest.
        episodes: rounds at which episodes end, increasing; after the last, its length repeats.
        flow_size: |D|; all samples where there are fewer.
        batch_mul: batch size of the flow, in batches of the loader. With 128 samples per batch the
            defaults make one step of it.
        fraction: k / n, in (0, 1].
        gamma: of the history in Eq. 8, in [0, 1].

    State:
        score: float32 (N,), ahat; NaN before the first flow.
        objective: float32 (N,), ``<onehot(y) - p, dp/dt>`` over the last epoch that trained on S.
        true_probability: float32 (N,), p_y at the last survey.
        stamp: float64 (N,), summed learning rate at the last survey.
        outputs: float32 (N, C), at the last survey; not in `Curriculum.scores`.

    Raises:
        ValueError: a parameter outside its range; labels out of range.
        RuntimeError: an epoch is planned without its survey.

    Example:
        The curves of the paper's figures 2 and 3, from `Curriculum.scores` after each even epoch's
        survey: the score by which S was chosen, and what became of the others.

        >>> import torch, gradatim as gr
        >>> x, y = torch.eye(4), torch.tensor([0, 0, 1, 1])
        >>> model = torch.nn.Linear(4, 2)
        >>> curriculum = gr.Curriculum(DoCLBaseline(2), learning_rate=lambda: 0.5)
        >>> loader = curriculum.loader(range(4), batch_size=4)
        >>> def forward(index):
        ...     logits = model(x[index])
        ...     losses = torch.nn.functional.cross_entropy(logits, y[index], reduction="none")
        ...     return {"losses": losses, "logits": logits, "targets": y[index]}
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        >>> while curriculum.epoch < 3:
        ...     if curriculum.survey_due:
        ...         curriculum.survey(range(4), forward)
        ...     for index in loader:
        ...         optimizer.zero_grad()
        ...         losses = curriculum.criterion(model(x[index]), y[index])
        ...         curriculum(losses, logits=model(x[index]), targets=y[index]).backward()
        ...         optimizer.step()
        >>> scores = curriculum.scores()
        >>> chosen = scores["DoCLBaseline.score"].topk(1).indices
        >>> bool(scores["DoCLBaseline.objective"][chosen] > 0)
        True

    Differences from the paper:
        It gives this procedure in words and leaves open when outputs are taken; here they are
        taken on both sides of each flow, so that a score is about the flow alone. Means over a
        batch in place of sums over D scale all scores alike.

    Caveats:
        Two passes over all samples per round. The learning rate must not be 0 in the flow.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        section 3 and Algorithm 2 of the appendix [zhou2021docl].
    """

    references = ("zhou2021docl",)
    wants = ("logits", "targets", "learning_rate")

    def __init__(
        self,
        which: int = 1,
        *,
        episodes: Sequence[int] = PAPER_EPISODES,
        flow_size: int = 2048,
        batch_mul: int = 16,
        fraction: float = 0.2,
        gamma: float = 0.9,
    ) -> None:
        self.which = check_count("which", which, at_least=1, at_most=3)
        self.episodes = check_episodes("episodes", episodes)
        self.flow_size = check_count("flow_size", flow_size, at_least=1)
        self.batch_mul = check_count("batch_mul", batch_mul, at_least=1)
        self.fraction = check_number("fraction", fraction, above=0, at_most=1)
        self.gamma = check_number("gamma", gamma, at_least=0, at_most=1)
        self._signals = OutputSignals("classification")
        self._surveyed_epoch = -1

    def setup(self, run: Run) -> None:
        self.scores = Table("score", fill=math.nan)
        self.objective = Table("objective", fill=math.nan)
        self.true_probability = Table("true_probability", fill=math.nan)
        self.stamp = Table("stamp", dtype=torch.float64, fill=math.nan)
        self.outputs = Table("outputs", shape=None, fill=math.nan)

    # ------------------------------------------------------------------ rounds

    def flow_epoch(self, epoch: int) -> bool:
        """Whether ``epoch`` (from 0) follows the flow on D; otherwise it trains on S."""
        return epoch % 2 == 0

    def takes_highest(self, epoch: int) -> bool:
        """Whether the round of ``epoch`` trains on the highest scores; otherwise on the lowest."""
        episode, _ = episode_of(epoch // 2, self.episodes)
        return self.which == 2 or (self.which == 1 and episode % 2 == 0)

    def survey_due(self, run: Run) -> bool:
        return self._surveyed_epoch != run.epoch

    def replaces_criterion(self, run: Run) -> bool:
        return self.flow_epoch(run.epoch)

    def criterion(
        self, logits: torch.Tensor, targets: torch.Tensor, run: Run
    ) -> torch.Tensor | None:
        return dynamics.squared_error(logits, targets) if self.flow_epoch(run.epoch) else None

    def planned_scale(self, epoch: int) -> int:
        return self.batch_mul if self.flow_epoch(epoch) else 1

    def planned_size(self, size: int, epoch: int) -> int | None:
        if self.flow_epoch(epoch):
            return min(size, self.flow_size)
        return min(size, shrinking_size(self.fraction * size))

    def plan(self, pool: Pool, run: Run) -> Pool:
        if self.survey_due(run):
            raise RuntimeError(
                f"survey must run before epoch {run.epoch}: {self!r} looks at all samples before "
                "every epoch. Call curriculum.survey(dataset, forward)."
            )
        size = pool.index.numel() if pool.size is None else min(pool.size, pool.index.numel())
        k = self.planned_size(size, run.epoch)
        assert k is not None
        if self.flow_epoch(run.epoch):
            # Uniform, and by the engine, with the shuffling.
            return replace(pool, size=k, batch_scale=pool.batch_scale * self.batch_mul)
        scores = self.scores[pool.index].cpu().nan_to_num(nan=0.0)
        take = highest if self.takes_highest(run.epoch) else lowest
        chosen = take(scores, k, generator=run.generator("docl baseline", "ties"))
        return replace(pool.keep(chosen), log_weights=None, size=None)

    # ------------------------------------------------------------------ observation

    def record(self, batch: Batch, run: Run) -> dict[str, torch.Tensor]:
        return self._signals.columns(batch, run.size, self.outputs.dtype, self.outputs)

    def observe(self, batch: Batch, run: Run) -> None:
        if not batch.surveyed or not batch.size:
            return
        logits, targets = self._signals.check(batch)
        index, clock = batch.index, batch.clock
        assert isinstance(clock, torch.Tensor)
        residual = dynamics.residuals(logits, targets)
        p = logits.softmax(1)
        if self.outputs.allocated:
            before, stamp = self.outputs[index].to(logits), self.stamp[index]
            # Of a second survey before one epoch nothing comes: no rate is between the two.
            elapsed = clock.to(stamp.device) - stamp
            if self.flow_epoch(run.epoch):
                moved = dynamics.movement(p, before.softmax(1), elapsed)
                self._average(self.objective, index, dynamics.alignment(residual, moved), 0.0)
            else:
                moved = dynamics.movement(logits, before, elapsed)
                self._average(self.scores, index, dynamics.alignment(residual, moved), self.gamma)
        self.outputs.write(index, logits)
        self.stamp.write(index, clock)
        share = residual + p  # the targets, as probabilities
        self.true_probability.write(index, (share * p).sum(1))
        self._surveyed_epoch = run.epoch

    @staticmethod
    def _average(table: Table, index: torch.Tensor, values: torch.Tensor, gamma: float) -> None:
        table.write(index, dynamics.running_score(table[index], values, gamma))

    # ------------------------------------------------------------------ state in no table

    def state_dict(self) -> dict[str, Any]:
        return {"surveyed_epoch": self._surveyed_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._surveyed_epoch = state["surveyed_epoch"]
