"""InfoBatch: skip some of the easy samples of each epoch, and let the others stand for them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from gradatim.method import Batch, Method, Pool, Run
from gradatim.table import Table
from gradatim.validation import check_choice, check_count, check_number, refusal

__all__ = ["InfoBatch"]


class InfoBatch(Method):
    """InfoBatch: prune easy samples at random, anew in each epoch, and reweigh the rest.

    Samples below the mean of the last losses H are skipped with chance r; those kept count
    1/(1-r) times, so that in expectation an epoch's summed gradient is that of the full data::

        low = {i : H_i < mean H};  P(i kept) = 1 - r, weight 1 / (1 - r)  for i in low, else 1, 1

    The last epochs of the plan are complete, to take out the variance that this adds (Qin et al.
    2024, Eqs. 3 and 4, Section 2.4).

    Args:
        planned_epochs: E, length of the training that you plan, at least 1; None prunes to the
            end.
        ratio: r, in [0, 1): chance of a low sample to be skipped; the paper takes .5. 0 is plain
            training, exactly.
        delta: in [0, 1]: epochs from ``delta * planned_epochs`` on are complete; .875 in the
            paper. 0 is plain training too.
        unbiased: what is that of the full data. ``"epoch"``: the sum of an epoch's gradients, as
            in the paper: fewer steps, which are longer where m of N samples are kept, by N/m on
            average. ``"step"``: each step's own expected gradient: fewer steps of the usual
            length, by weights times m/N.
        threshold: below which a score is low: ``"mean"``, as in the paper, or a share q, in
            (0, 1), for the q-quantile of the scores (the lower of two), which a few huge losses
            do not move.
        mode: ``"bernoulli"`` tosses for each low sample; ``"fixed"`` keeps ``floor((1 - r) n)``
            (at least 1) of the n low ones, of weight n over that number. Both are unbiased; with
            ``"fixed"`` low samples also count as much as if all were there.

    State:
        score: float32 (N,), H, the last loss, unweighted; NaN before the first. Merged by the
        last observation.

    Raises:
        ValueError: a parameter outside its range.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.InfoBatch(planned_epochs=8, mode="fixed")
        >>> run = gr.Run(size=4, seed=0, epoch=1)
        >>> method.setup(run)
        >>> method.score.allocate(4).write(torch.arange(4), torch.tensor([0.1, 0.2, 0.3, 1.0]))
        >>> pool = method.plan(gr.Pool(torch.arange(4)), run)  # keeps one of 0, 1 and 2
        >>> pool.index.numel(), pool.index[-1].item(), pool.weights
        (2, 3, tensor([3., 1.]))
        >>> [method.planned_size(4, epoch) for epoch in (0, 1, 6, 7)]
        [4, None, None, 4]

    Differences from the paper:
        The mean is over samples that were seen, in float64, where the authors' code begins with a
        constant that counts as everybody's score. Nothing is skipped in the first epoch, nor a
        sample before it was seen. Their code keeps a fixed number and weighs it by 1/(1-r), which
        is biased by rounding; see ``mode``.

    Caveats:
        The number of steps depends on the losses: `Curriculum.planned_steps` says None while
        epochs to come may be pruned. Build schedulers by epochs, or fix ``steps_per_epoch``.
        Where H is skewed most samples are below its mean, else about half.
        Compare at equal sample gradients, not at equal epochs.

    References:
        Qin, Wang, Zheng, Gu, Peng, Xu, Zhou, Shang, Sun, Xie and You, InfoBatch: Lossless Training
        Speed Up by Unbiased Dynamic Data Pruning, ICLR 2024 [qin2024infobatch].
    """

    references = ("qin2024infobatch",)

    def __init__(
        self,
        planned_epochs: int | None,
        *,
        ratio: float = 0.5,
        delta: float = 0.875,
        unbiased: Literal["epoch", "step"] = "epoch",
        threshold: Literal["mean"] | float = "mean",
        mode: Literal["bernoulli", "fixed"] = "bernoulli",
    ) -> None:
        if planned_epochs is not None:
            check_count("planned_epochs", planned_epochs, at_least=1)
        self.planned_epochs = planned_epochs
        self.ratio = check_number("ratio", ratio, at_least=0, below=1)
        self.delta = check_number("delta", delta, at_least=0, at_most=1)
        self.unbiased: Literal["epoch", "step"] = check_choice(
            "unbiased", unbiased, ("epoch", "step")
        )
        if threshold != "mean":
            if isinstance(threshold, str):
                raise refusal("threshold", "'mean' or a share in (0, 1)", repr(threshold))
            threshold = check_number("threshold", threshold, above=0, below=1)
        self.threshold: Literal["mean"] | float = threshold
        self.mode: Literal["bernoulli", "fixed"] = check_choice(
            "mode", mode, ("bernoulli", "fixed")
        )

    def setup(self, run: Run) -> None:
        self.score = Table("score", fill=math.nan)

    def prunes(self, epoch: int) -> bool:
        """Whether ``epoch`` (from 0) may leave out samples: neither the first nor one of the last.

        Example:
            >>> [epoch for epoch in range(8) if InfoBatch(8, delta=0.5).prunes(epoch)]
            [1, 2, 3]
        """
        if epoch == 0 or self.ratio == 0:
            return False
        if self.planned_epochs is None:
            return True
        # A product like 0.7 * 10 must not end an epoch late.
        return epoch < self.delta * self.planned_epochs - 1e-9

    def low(self, index: torch.Tensor) -> torch.Tensor:
        """Which samples are below the mean, or the quantile, of those seen.

        Args:
            index: int64 (M,).

        Returns:
            Bool (M,), on the CPU.
        """
        # Equal scores must be at their mean, which in float32 may come out above them. In float64
        # the sum of up to 2^29 equal float32 values, and so their mean, is exact.
        scores = self.score[index].double().cpu()
        known = scores[~scores.isnan()]
        if self.threshold == "mean" or not known.numel():
            return scores < known.mean()  # NaN, where nobody was seen, is above nothing
        # One of the scores, so that equal ones are not below it.
        return scores < float(np.quantile(known.numpy(), self.threshold, method="lower"))

    def plan(self, pool: Pool, run: Run) -> Pool:
        if not self.prunes(run.epoch):
            return pool
        low = self.low(pool.index)
        positions = low.nonzero().squeeze(1)
        count = positions.numel()
        if not count:
            return pool
        generator = run.generator("infobatch")
        if self.mode == "bernoulli":
            drawn = torch.rand(count, generator=generator, dtype=torch.float64)
            kept, weight = drawn >= self.ratio, 1 / (1 - self.ratio)
        else:
            number = max(1, math.floor((1 - self.ratio) * count + 1e-9))
            kept = torch.zeros(count, dtype=torch.bool)
            kept[torch.randperm(count, generator=generator)[:number]] = True
            weight = count / number
        remain = ~low
        remain[positions[kept]] = True
        # A step's mean is over the samples kept: m / N of them undoes that.
        factor = 1.0 if self.unbiased == "epoch" else int(remain.sum()) / remain.numel()
        weights = torch.where(low, weight * factor, factor).to(torch.float32)
        return pool.weigh(weights).keep(remain)

    def planned_size(self, size: int, epoch: int) -> int | None:
        return None if self.prunes(epoch) else size

    def observe(self, batch: Batch, run: Run) -> None:
        if not batch.surveyed:
            self.score.write(batch.index, batch.losses)
