"""Online hard example mining: the backward pass is for the largest losses of the batch."""

from __future__ import annotations

import math

import torch

from gradatim.method import Batch, Run
from gradatim.methods.selecting import Selecting
from gradatim.selection.candidates import hardest
from gradatim.validation import check_number

__all__ = ["OHEM"]


class OHEM(Selecting):
    """Online hard example mining: of each batch the k largest losses, and their plain mean.

    With one forward pass, in any loop: the call returns the mean of the ``ceil(keep * B)`` largest
    losses of the batch, and the others have weight 0. With two, as in the paper (Shrivastava et
    al. 2016, Section 4.2): score without gradient, `Curriculum.select` the k largest, and train
    on them alone; then k is given there, and ``keep`` does not count.

    Args:
        keep: fraction of a batch that is kept where nothing was selected, in (0, 1]; .25 is ours.
            1 is plain training, exactly.

    Raises:
        ValueError: keep outside (0, 1].

    Example:
        >>> import torch, gradatim as gr
        >>> batch = gr.Batch(torch.arange(4), torch.tensor([0.1, 0.7, 0.2, 0.5]))
        >>> gr.OHEM(keep=0.5).weigh(batch, gr.Run(size=4, seed=0))
        tensor([0., 2., 0., 2.])
        >>> gr.OHEM().select(batch, 1, gr.Run(size=4, seed=0))
        tensor([1])

    Differences from the paper:
        There the examples are regions of two images, and overlapping ones are suppressed first.
        Of equal losses the first rows are kept.

    Caveats:
        Wrong labels have large losses: nothing here tells noise from what is hard. The largest
        losses are taken on each rank: k of each, not of all together. The weights are B / k, so
        that the mean over the batch is the mean over those kept.

    References:
        Shrivastava, Gupta and Girshick, Training region-based object detectors with online hard
        example mining, CVPR 2016 [shrivastava2016].
    """

    references = ("shrivastava2016",)
    needs_select = False

    def __init__(self, keep: float = 0.25) -> None:
        super().__init__("eval")
        self.keep = check_number("keep", keep, above=0, at_most=1)

    def select(self, batch: Batch, k: int, run: Run) -> torch.Tensor:
        return self._choose(batch, hardest(batch.losses, k), True)

    def weigh(self, batch: Batch, run: Run) -> torch.Tensor | None:
        if self._note(batch) or self.keep == 1:
            return None
        size = batch.size
        k = min(size, math.ceil(self.keep * size - 1e-9))
        losses = batch.losses
        weights = losses.new_zeros(size, dtype=torch.promote_types(losses.dtype, torch.float32))
        if size:
            weights = weights.index_fill(0, hardest(losses, k), size / k)
        return weights
