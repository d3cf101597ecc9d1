"""Importance sampling: draw what moves the model most, and weigh it so that nothing is biased."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from gradatim.method import Batch, Method, Pool, Run
from gradatim.methods.selecting import Scoring, Selecting
from gradatim.selection.candidates import (
    draw_with_replacement,
    systematic_draw,
    uniform_numbers,
)
from gradatim.table import Scalar, Table
from gradatim.validation import check_choice, check_count, check_number
from gradatim.weighting.importance import (
    importance_weights,
    last_layer_bound,
    sampling_probabilities,
    variance_reduction,
    worthwhile_reduction,
)

__all__ = ["ImportanceSampling", "LossProportional"]

Score = Literal["cross_entropy", "squared_error", "loss"]


class ImportanceSampling(Selecting):
    """Draws a batch from candidates by the size of their gradients, with unbiased weights.

    Of B candidates, scored without gradient, k are drawn with replacement (Katharopoulos and
    Fleuret 2018, Algorithm 1)::

        g_i = s_i / sum s,    w_i = 1 / (B g_i),    loss (1/k) sum_drawn w_i l_i
        tau <- a tau + (1 - a) sqrt(B sum g^2);     drawn so only while tau > threshold

    s_i is the norm of the loss's gradient with respect to the last outputs, which bounds that of
    the whole gradient up to a constant; see `gradatim.weighting.last_layer_bound`. In expectation
    the gradient is that of all B, with less variance than k drawn uniformly give. tau says how
    much less; while it is at most the threshold, k different candidates are drawn uniformly::

        with method.scoring_pass(model):
            logits = model(x)
            losses = F.cross_entropy(logits, y, reduction="none")
        kept = curriculum.select(losses, k, logits=logits, targets=y)
        x, y = x[kept], y[kept]
        loss = curriculum(F.cross_entropy(model(x), y, reduction="none"))

    Args:
        score: ``"cross_entropy"`` or ``"squared_error"``: the norm, from ``logits`` and
            ``targets`` (and a ``mask`` of tokens) given to `Curriculum.select`; ``"loss"``: the
            loss itself, which needs neither.
        threshold: of tau, at least 0; None is ``(B + 3 k) / (3 k)``, from which a gain is certain
            if a backward pass costs two forward passes. The paper's experiments took 1.5 (B = 640,
            k = 128). 0 draws by score from the second batch on.
        momentum: a, in [0, 1); .9 in the paper.
        alpha: scores are raised to it, at least 0; 1 in the paper, 0 is uniform.
        smooth: at least 0: this multiple of the mean score (raised) is added to each. None is 0
            for the norms and .05 for ``"loss"``, ours.
        power: of the weights, in [0, 1]: 1 is unbiased, 0 leaves them out, which emphasises the
            hard; in between a part of the bias is undone. .5 occurs in practice.
        scoring: the model's mode within `scoring_pass`.

    State:
        tau: float64 scalar. Each rank scores its own candidates; at the end of an epoch the
        highest rank's holds for all.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.ImportanceSampling("loss", threshold=0, momentum=0, smooth=0)
        >>> run = gr.Run(size=4, seed=0)
        >>> method.setup(run)
        >>> batch = gr.Batch(torch.arange(4), torch.tensor([0.0, 0.0, 4.0, 0.0]))
        >>> for step in range(2):  # the first batch finds tau = 0 and is drawn uniformly
        ...     kept = method.select(batch, 2, run)
        ...     weights = method.weigh(gr.Batch(kept, batch.losses[kept]), run)
        >>> kept, weights, float(method.tau.value)
        (tensor([2, 2]), tensor([0.2500, 0.2500]), 2.0)

    Differences from the paper:
        While switched off the paper forwards k samples alone; here all B are scored already, and
        tau is updated from all of them. It decides by the tau before the batch, as theirs. The
        default threshold is the paper's bound for the B and k at hand, not a number.

    Caveats:
        A sample may be drawn several times, so it counts as several rows of the batch; BatchNorm
        sees them. Where the batch is no larger than k, all are kept with weight 1.
        Scores of 0 are never drawn: right for norms, whose gradient is 0 then. With `Focal` or
        `SuperLoss` beside it the weights multiply, and the score knows nothing of theirs.
        Scoring costs a forward pass of B. Compare at equal time or sample gradients.

    References:
        Katharopoulos and Fleuret, Not all samples are created equal: deep learning with importance
        sampling, ICML 2018 [katharopoulos2018].
    """

    references = ("katharopoulos2018",)
    candidates = 3

    def __init__(
        self,
        score: Score = "cross_entropy",
        *,
        threshold: float | None = None,
        momentum: float = 0.9,
        alpha: float = 1.0,
        smooth: float | None = None,
        power: float = 1.0,
        scoring: Scoring = "eval",
    ) -> None:
        super().__init__(scoring)
        self.score: Score = check_choice("score", score, ("cross_entropy", "squared_error", "loss"))
        if threshold is not None:
            threshold = check_number("threshold", threshold, at_least=0)
        self.threshold = threshold
        self.momentum = check_number("momentum", momentum, at_least=0, below=1)
        self.alpha = check_number("alpha", alpha, at_least=0)
        self.smooth = None if smooth is None else check_number("smooth", smooth, at_least=0)
        self.power = check_number("power", power, at_least=0, at_most=1)
        # Not wanted: the call that trains on the drawn samples needs none of them.
        self.nonnegative = score == "loss"
        self.accepts = () if score == "loss" else ("logits", "targets", "mask")

    def setup(self, run: Run) -> None:
        self.tau = Scalar("tau")

    def scores(self, batch: Batch) -> torch.Tensor:
        """(B,): what candidates are drawn by, before ``alpha`` and ``smooth``.

        Raises:
            ValueError: ``logits`` or ``targets`` are missing.
        """
        if self.score == "loss":
            return batch.losses
        given: list[Any] = []
        for name in ("logits", "targets"):
            if batch.signals.get(name) is None:
                raise ValueError(
                    f"{name} must be given: {self} needs it. "
                    "Call curriculum.select(losses, k, logits=logits, targets=targets)."
                )
            given.append(batch.signals[name])
        mask = batch.signals.get("mask")
        # Outputs of one vector per sample have no tokens that a mask could be about.
        mask = None if given[0].ndim < 3 else mask
        return last_layer_bound(*given, loss=self.score, mask=mask)

    def select(self, batch: Batch, k: int, run: Run) -> torch.Tensor:
        size = batch.size
        scores = self.scores(batch)
        scores = torch.where(scores.isfinite(), scores, 0)  # dropped under nonfinite="skip"
        smooth = self.smooth
        if smooth is None:
            smooth = 0.05 if self.score == "loss" else 0.0
        chances = sampling_probabilities(scores, alpha=self.alpha, smooth=smooth)
        old = self.tau.value
        found = variance_reduction(chances).to(old)
        tau = self.momentum * old + (1 - self.momentum) * found
        if k >= size:
            ones = torch.ones(size, dtype=chances.dtype, device=chances.device)
            return self._choose(batch, torch.arange(size, device=chances.device), (ones, tau))
        threshold = worthwhile_reduction(size, k) if self.threshold is None else self.threshold
        drawing = (old > threshold).to(chances.device)
        generator = run.generator("importance", run.step, run.rank)
        drawn = draw_with_replacement(chances, k, generator=generator)
        plain = uniform_numbers(size, generator, chances).argsort()[:k]
        positions = torch.where(drawing, drawn, plain.sort().values)
        weights = importance_weights(chances, power=self.power)
        weights = torch.where(drawing, weights, 1)[positions]
        return self._choose(batch, positions, (weights, tau))

    def weigh(self, batch: Batch, run: Run) -> torch.Tensor | None:
        note = self._note(batch)
        if note is None:
            return None
        weights, tau = note
        if not batch.repeated:
            self.tau.write(tau)  # not in `select`: a batch that is skipped counts nothing
        return weights.to(
            batch.losses.device, torch.promote_types(batch.losses.dtype, torch.float32)
        )


class LossProportional(Method):
    """Trains each epoch on a part of the data, drawn in proportion to last losses, unbiased.

    The epoch's m = keep n samples are drawn without replacement with chances exactly in
    proportion to ``l^alpha + smooth * mean(l^alpha)``, as far as none exceeds 1::

        pi_i = min(1, c (l_i^alpha + smooth mean(l^alpha))),  sum pi = m
        w_i = (m / (n pi_i))^power, times the constant for which sum w_i pi_i = m

    With p = pi / m these are the weights 1 / (n p) of importance sampling. The epoch's mean of
    w l is, in expectation over the draw, the mean of l over all n. For drawing within batches, by
    losses of the moment, see `ImportanceSampling` with ``score="loss"``.

    Args:
        keep: the fraction drawn, in (0, 1]; 1 is plain training, exactly.
        alpha: at least 0; 0 is uniform.
        smooth: at least 0, relative to the mean; .05 is ours. 0 never draws a sample whose loss
            is 0, which biases the epoch as soon as that loss is out of date.
        power: in [0, 1]: 1 unbiased; 0 no weights, which emphasises the hard; in between a part.
        warmup_epochs: complete epochs first, at least 1: losses must be known.

    State:
        loss: float32 (N,), each sample's last loss; NaN before the first. Merged by the last
        observation; a plan reads merged values alone.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.LossProportional(keep=0.5, smooth=0)
        >>> run = gr.Run(size=4, seed=0, epoch=1)
        >>> method.setup(run)
        >>> method.loss.allocate(4).write(torch.arange(4), torch.tensor([1.0, 1.0, 1.0, 3.0]))
        >>> pool = method.plan(gr.Pool(torch.arange(4)), run)  # chances 1/3, 1/3, 1/3, 1
        >>> pool.index.numel(), pool.index[-1].item(), pool.weights
        (2, 3, tensor([1.5000, 0.5000]))

    Differences from the paper:
        Katharopoulos and Fleuret draw within batches and discuss the loss as one of the scores
        that came before theirs; epochs, ``smooth`` and the exact chances are ours.

    Caveats:
        Losses of samples left out grow old; ``smooth`` brings them back in time. The loss says
        less about the gradient than the norm does. Label noise is drawn more often.
        An epoch is shorter than a full one: compare at equal steps.

    References:
        Katharopoulos and Fleuret, Not all samples are created equal: deep learning with importance
        sampling, ICML 2018 [katharopoulos2018].
    """

    references = ("katharopoulos2018",)
    nonnegative = True

    def __init__(
        self,
        keep: float = 0.5,
        *,
        alpha: float = 1.0,
        smooth: float = 0.05,
        power: float = 1.0,
        warmup_epochs: int = 1,
    ) -> None:
        self.keep = check_number("keep", keep, above=0, at_most=1)
        self.alpha = check_number("alpha", alpha, at_least=0)
        self.smooth = check_number("smooth", smooth, at_least=0)
        self.power = check_number("power", power, at_least=0, at_most=1)
        self.warmup_epochs = check_count("warmup_epochs", warmup_epochs, at_least=1)

    def setup(self, run: Run) -> None:
        self.loss = Table("loss", fill=math.nan)

    def planned_size(self, size: int, epoch: int) -> int:
        if epoch < self.warmup_epochs:
            return size
        return min(size, max(1, math.ceil(self.keep * size - 1e-9)))

    def plan(self, pool: Pool, run: Run) -> Pool:
        size = pool.index.numel()
        k = self.planned_size(size, run.epoch)
        if k == size:
            return pool
        losses = self.loss[pool.index].double().cpu()
        known = losses[~losses.isnan()]
        # A loss that nobody has seen counts as the mean of the others.
        mean = known.mean() if known.numel() else torch.ones((), dtype=torch.float64)
        losses = torch.where(losses.isnan(), mean, losses)
        weights = sampling_probabilities(losses, alpha=self.alpha, smooth=self.smooth)
        weights = weights.clamp(min=1e-12 / size)  # zeros are left to the end, not forbidden
        positions, chances = systematic_draw(weights, k, generator=run.generator("proportional"))
        factors = importance_weights(chances / k, power=self.power)[positions]
        return pool.keep(positions).weigh(factors.to(torch.float32))

    def observe(self, batch: Batch, run: Run) -> None:
        self.loss.write(batch.index, batch.losses)
