"""The loss that remains when the sample itself was not learnt from: what RHO-Loss subtracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradatim.scores.checks import check_callable
from gradatim.selection.partial import check_generator, permutation
from gradatim.validation import as_vector, check_count, check_index, refusal

__all__ = ["irreducible_loss"]


def irreducible_loss(
    size: int,
    fit: Callable[[torch.Tensor], Any],
    losses: Callable[[Any, torch.Tensor], torch.Tensor],
    *,
    holdout: torch.Tensor | Sequence[int] | None = None,
    parts: int = 2,
    generator: torch.Generator,
) -> torch.Tensor:
    """Loss of each sample under a model that never saw it.

    ``IL_i = l(y_i | x_i; a model trained without i)`` (Mindermann et al. 2022). With ``holdout``
    one model is trained on those samples and scores all the others. Without, the samples are dealt
    into ``parts`` at random, and each part is scored by a model trained on the rest: for two parts
    each model scores the other one's half, and no sample is lost for training.

    Args:
        size: n, samples in the data set, at least 2.
        fit: ``fit(train_index) -> model``: trains a fresh model on these samples (int64, ascending,
            on the CPU). It may be much smaller than the model to be trained; keep the checkpoint of
            lowest validation *loss*.
        losses: ``losses(model, index) -> (len(index),)``, the losses of these samples, without
            augmentation and with the model in evaluation mode; gradients are dropped.
        holdout: positions to train on, distinct, neither none nor all; None crosses ``parts``.
        parts: at least 2 and at most ``size``; not used with ``holdout``.
        generator: deals the samples; not used with ``holdout``.

    Returns:
        float32 (n,), on the CPU. Samples of a holdout are NaN: the one model there is saw them.
        Train on the others: ``gr.RHOLoss(il[others])`` with ``Subset(data, others)``.

    Raises:
        TypeError: ``fit`` or ``losses`` cannot be called; ``generator`` is no `torch.Generator`.
        ValueError: positions outside the data set, not distinct, none or all; losses of a wrong
            length, or not finite.

    Example:
        A model that predicts the mean of what it was trained on.

        >>> y = torch.tensor([0.0, 0.0, 0.0, 4.0])
        >>> generator = torch.Generator().manual_seed(0)
        >>> irreducible_loss(
        ...     4,
        ...     lambda index: y[index].mean(),
        ...     lambda mean, index: (y[index] - mean) ** 2,
        ...     holdout=[0, 1],
        ...     generator=generator,
        ... )
        tensor([nan, nan,  0., 16.])

    Differences from the paper:
        The paper trains on a holdout, or on two halves as here; more parts are ours.

    Caveats:
        Near-duplicates of a sample in another part leak.

    References:
        Mindermann, Brauner, Razzak, Sharma, Kirsch, Xu, Hoeltgen, Gomez, Morisot, Farquhar and Gal,
        Prioritized training on points that are learnable, worth learning, and not yet learnt, ICML
        2022 (`mindermann2022rho`).
    """
    size = check_count("size", size, at_least=2)
    check_callable("fit", fit)
    check_callable("losses", losses)
    parts = check_count("parts", parts, at_least=2, at_most=size)
    check_generator(generator)
    everyone = torch.arange(size)
    if holdout is None:
        part = torch.empty(size, dtype=torch.int64)
        part[permutation(size, generator).cpu()] = everyone % parts
        pairs = [(everyone[part != number], everyone[part == number]) for number in range(parts)]
    else:
        seen = _holdout(holdout, size)
        pairs = [(everyone[seen], everyone[~seen])]
    result = torch.full((size,), torch.nan)
    for train, unseen in pairs:
        model = fit(train.clone())
        with torch.no_grad():
            values = torch.as_tensor(losses(model, unseen.clone()))
        if values.shape != (unseen.numel(),):
            rule = f"of shape ({unseen.numel()},), one loss per sample"
            cause = "Did you forget reduction='none'?" if values.ndim == 0 else ""
            raise refusal("losses(model, index)", rule, values, cause)
        result[unseen] = as_vector("losses(model, index)", values).cpu().to(torch.float32)
    return result


def _holdout(holdout: torch.Tensor | Sequence[int], size: int) -> torch.Tensor:
    """Bool (size,): the samples of the holdout."""
    try:
        index = torch.as_tensor(holdout).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(holdout).__name__
        raise TypeError(f"holdout must be int64 positions. Got {kind}.") from error
    check_index("holdout", index, size)
    seen = torch.zeros(size, dtype=torch.bool)
    seen[index] = True
    count = int(seen.sum())
    if count != index.numel():
        raise refusal("holdout", "distinct positions", f"{index.numel() - count} repeated")
    if not 0 < count < size:
        raise refusal("holdout", "some samples and not all", f"{count} of {size}")
    return seen
