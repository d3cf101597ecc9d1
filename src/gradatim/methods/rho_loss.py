"""RHO-Loss: train on what is worth learning, can be learnt, and is not learnt yet."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradatim.method import Batch, Run
from gradatim.methods.selecting import Scoring, Selecting
from gradatim.selection.candidates import hardest
from gradatim.validation import as_vector, refusal

__all__ = ["RHOLoss"]


class RHOLoss(Selecting):
    """RHO-Loss: of a large batch, train on the samples with the highest reducible holdout loss.

    ``rho_i = l_i - IL_i``: the current loss minus the loss of a model that was trained on other
    data, computed once (Mindermann et al. 2022, Eq. 3). Noise has a high loss under both models,
    what is learnt already a low one now; neither is chosen::

        il = gr.scores.irreducible_loss(n, fit, losses, generator=generator)
        curriculum = gr.Curriculum(method := gr.RHOLoss(il), seed=0).attach(model=model)
        loader = curriculum.loader(train_set, batch_size=320)
        for x, y in loader:
            with method.scoring_pass():
                losses = F.cross_entropy(model(x), y, reduction="none")
            kept = curriculum.select(losses, 32)
            loss = curriculum(F.cross_entropy(model(x[kept]), y[kept], reduction="none"))

    Args:
        irreducible: (N,), finite, the irreducible losses IL; see
            `gradatim.scores.irreducible_loss`. May be negative, as any loss; kept in float32. A
            constant changes nothing: with zeros the largest losses are chosen.
        scoring: the model's mode within `scoring_pass`: ``"eval"``, or ``"train"`` as in the
            authors' code.

    Raises:
        ValueError: a sample has no irreducible loss: NaN, or another length than the data.

    Example:
        >>> import torch, gradatim as gr
        >>> method = gr.RHOLoss([0.1, 0.4, 2.9, 1.5])
        >>> losses = torch.tensor([2.0, 0.5, 3.0, 1.2])
        >>> method.select(gr.Batch(torch.arange(4), losses), 1, gr.Run(size=4, seed=0))
        tensor([0])

    Differences from the paper:
        The paper selects 32 of 320; both numbers are given to the loader and to
        `Curriculum.select` here. Their code scores in training mode, in which the candidates that
        are not chosen move BatchNorm's statistics; the paper does not say. Equal scores go to the
        row that comes first.

    Caveats:
        The irreducible losses must come from a model that never saw the sample, on inputs as in
        training: another augmentation shifts them. Negative scores are legal; nothing is clipped.
        Each rank chooses from its own candidates. Compare at equal time or sample gradients:
        scoring costs a forward pass of the whole batch, the irreducible losses a training.

    References:
        Mindermann, Brauner, Razzak, Sharma, Kirsch, Xu, Hoeltgen, Gomez, Morisot, Farquhar and Gal,
        Prioritized training on points that are learnable, worth learning, and not yet learnt, ICML
        2022 [mindermann2022rho].
    """

    knows_samples = True
    references = ("mindermann2022rho",)
    candidates = 10

    def __init__(
        self, irreducible: torch.Tensor | Sequence[float], *, scoring: Scoring = "eval"
    ) -> None:
        super().__init__(scoring)
        vector = as_vector("irreducible", irreducible, finite=False)
        missing = (~vector.isfinite()).nonzero().squeeze(1)
        if missing.numel():
            named = missing[:10].tolist()
            shown = f"{named}"[:-1] + (", ...]" if missing.numel() > 10 else "]")
            cause = "Those of a holdout have none: train on the others, irreducible[others]."
            got = f"{missing.numel()} that is not, at index {shown}"
            raise refusal("irreducible", "finite for every sample", got, cause)
        self.irreducible = vector.cpu().to(torch.float32)

    def setup(self, run: Run) -> None:
        if self.irreducible.numel() != run.size:
            rule = f"one value per sample: {run.size} of them"
            raise refusal("irreducible", rule, self.irreducible.numel())

    def scores(self, batch: Batch) -> torch.Tensor:
        """(B,): reducible losses ``l - IL``, in float32 or wider; NaN where the loss is."""
        losses = batch.losses
        known = self.irreducible.index_select(0, batch.index.cpu())
        if losses.dtype == torch.float32 and losses.is_cpu:  # what `to` would leave as it is
            return losses - known
        wide = losses.to(torch.promote_types(losses.dtype, torch.float32))
        return wide - known.to(losses.device, wide.dtype, non_blocking=True)

    def select(self, batch: Batch, k: int, run: Run) -> torch.Tensor:
        return self._choose(batch, hardest(self.scores(batch), k), True)

    def weigh(self, batch: Batch, run: Run) -> None:
        self._note(batch)
