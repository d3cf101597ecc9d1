"""Selective backprop: the higher a loss is among the last ones, the likelier its sample trains."""

from __future__ import annotations

import math
from typing import Literal

import torch

from gradatim.method import Batch, Run
from gradatim.methods.selecting import Scoring, Selecting
from gradatim.selection.candidates import keep_chances, rank_weights, uniform_numbers
from gradatim.table import Table
from gradatim.validation import check_choice, check_count, check_flag, check_number

__all__ = ["SelectiveBackprop"]


class SelectiveBackprop(Selecting):
    """Selective backprop: low-loss samples skip the backward pass, most of the time.

    A sample of loss l is kept with chance ``P(l) = CDF_R(l)^beta``, CDF_R the share of the last R
    losses that are at most l (Jiang et al. 2019, Section 3.1). While losses are stationary that
    keeps 1 / (beta + 1) of all. Nothing is reweighed::

        with method.scoring_pass(model):
            losses = F.cross_entropy(model(x), y, reduction="none")
        kept = curriculum.select(losses, k)
        loss = curriculum(F.cross_entropy(model(x[kept]), y[kept], reduction="none"))

    Args:
        beta: at least 0; 1 in the paper's first experiments (keeps 1/2), 2 keeps 1/3, 0 draws
            uniformly.
        history: R, at least 1; 1024.
        exactly: True takes exactly k of the candidates by the same chances (see below). False
            keeps each one by its own toss, at least 1 and at most k: then the number varies as in
            the paper, and choosing waits for the device.
        draw: ``"cdf"``, as above; ``"rank"``: by the rank within the batch, as libraries do it:
            k of N without replacement, of weight ``((rank - 1/2) / N)^(N/k - 1)``; neither beta
            nor history count.
        stale_epochs: m, at least 0: after an epoch that scores its candidates the next m may use
            the same losses again, without a forward pass; see `stored`.
        scoring: the model's mode within `scoring_pass`.

    State:
        recent: float32 (1, R), the last R losses that this rank scored, oldest first; NaN where
        there are none yet. At the end of an epoch the highest rank's hold for all.
        loss: float32 (N,), each sample's last loss; with ``stale_epochs`` only.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.SelectiveBackprop(beta=8.0, history=4)
        >>> run = gr.Run(size=4, seed=0)
        >>> method.setup(run)
        >>> method.recent.storage[0] = torch.tensor([0.1, 0.5, 1.0, 2.0])
        >>> batch = gr.Batch(torch.arange(4), torch.tensor([0.05, 3.0, 0.2, 2.5]))
        >>> method.select(batch, 2, run), method.chances(batch)
        (tensor([1, 3]), tensor([0.0000e+00, 1.0000e+00, 1.5259e-05, 1.0000e+00]))

    Differences from the paper:
        The paper collects kept samples over several batches until there are enough for an update.
        A curriculum chooses within a batch of candidates and cannot hold samples back. In place
        of the queue, ``exactly=True`` takes the k smallest of ``u_i (1 - P_i) / (P_i (1 - u_i))``,
        u_i uniform: those that pass their toss come first, then those that missed it by least.
        With k near B / (beta + 1), the paper's share, chances are P but for a hundredth; no sample
        is scored in vain, and nothing is left over at an epoch's end. A batch is compared with the
        losses before it; the first keeps all alike.

    Caveats:
        The gradient is biased towards high losses, and wrong labels have them. A sample below all
        of the history has chance 0. Compare at equal time or sample gradients. Each rank has its
        own candidates and history.

    References:
        Jiang, Wong, Zhou, Andersen, Dean, Ganger, Joshi, Kaminsky, Kozuch, Lipton and Pillai,
        Accelerating deep learning by focusing on the biggest losers, 2019 [jiang2019selective];
        Rosen, On sampling with probability proportional to size, Journal of Statistical Planning
        and Inference 1997.
    """

    references = ("jiang2019selective",)

    def __init__(
        self,
        beta: float = 1.0,
        *,
        history: int = 1024,
        exactly: bool = True,
        draw: Literal["cdf", "rank"] = "cdf",
        stale_epochs: int = 0,
        scoring: Scoring = "eval",
    ) -> None:
        super().__init__(scoring)
        self.beta = check_number("beta", beta, at_least=0)
        self.history = check_count("history", history, at_least=1)
        self.exactly = check_flag("exactly", exactly)
        self.draw: Literal["cdf", "rank"] = check_choice("draw", draw, ("cdf", "rank"))
        self.stale_epochs = check_count("stale_epochs", stale_epochs)
        self.candidates = 1 + math.ceil(self.beta)  # of equal chances 1 / (1 + beta) are kept
        self._epoch = 0

    def setup(self, run: Run) -> None:
        self.recent = Table("recent", shape=(self.history,), fill=math.nan).allocate(1)
        self.recent.per_sample = False
        if self.stale_epochs:
            self.loss = Table("loss", fill=math.nan)

    def start_epoch(self, run: Run) -> None:
        super().start_epoch(run)
        self._epoch = run.epoch

    def stored(self, index: torch.Tensor) -> torch.Tensor | None:
        """Losses to choose by without a forward pass; None in epochs that score anew.

        ``losses = method.stored(curriculum.index)``, and where that is None the scoring pass.

        Args:
            index: int64 (B,), the candidates.

        Returns:
            float32 (B,), or None. A sample that was never scored gets the largest stored loss, or
            0 where nothing is stored.
        """
        if self._epoch % (self.stale_epochs + 1) == 0:
            return None
        known = self.loss.values
        most = known.nan_to_num(-math.inf).amax()
        rows = self.loss[index]
        return torch.where(rows.isnan(), torch.where(most.isfinite(), most, 0), rows)

    def chances(self, batch: Batch) -> torch.Tensor:
        """(B,) in [0, 1]: P, by the losses before this batch."""
        recent = self.recent.values[0].to(batch.losses.device)
        return keep_chances(batch.losses, recent, beta=self.beta)

    def select(self, batch: Batch, k: int, run: Run) -> torch.Tensor:
        losses = batch.losses.to(torch.float32)
        u = uniform_numbers(batch.size, run.generator("selective", run.step, run.rank), losses)
        if self.draw == "rank":
            # Arrival times, as in `gradatim.selection.weighted_draw`.
            keys = -u.log() / rank_weights(losses, k / batch.size).to(u)
            positions = keys.argsort()[:k]
        else:
            chances = self.chances(batch).to(u)
            # Below 1 if the toss is passed. Those of chance 0 or 1 come last or first, in random
            # order among themselves.
            odds = chances.clamp(1e-30, 1 - 1e-6)
            keys = u / (1 - u) * (1 - odds) / odds
            passed = k if self.exactly else min(k, max(1, int((u < chances).sum())))
            positions = keys.argsort()[:passed]
        seen = torch.where(losses.isfinite(), losses, math.nan)
        recent = self.recent.values[0].to(losses.device)
        positions = positions.sort().values
        return self._choose(batch, positions, torch.cat([recent, seen])[-self.history :])

    def weigh(self, batch: Batch, run: Run) -> None:
        recent = self._note(batch)
        if recent is not None and not batch.repeated:
            # Not in `select`: a batch that is skipped counts nothing.
            self.recent.write(torch.zeros(1, dtype=torch.int64), recent.unsqueeze(0), step=run.step)

    def observe(self, batch: Batch, run: Run) -> None:
        if self.stale_epochs:
            self.loss.write(batch.index, batch.losses)
