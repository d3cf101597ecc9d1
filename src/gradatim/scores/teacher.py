"""Score a whole data set by a model, and leave the model exactly as it was."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from gradatim.scores.checks import check_callable
from gradatim.scores.outputs import loss
from gradatim.undisturbed import undisturbed
from gradatim.validation import as_vector, check_count, check_finite, refusal

__all__ = ["from_model"]

_OURS = ("shuffle", "sampler", "batch_sampler", "drop_last", "generator")


def from_model(
    model: torch.nn.Module,
    dataset: Dataset[Any],
    *,
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = loss,
    forward: Callable[[Any], tuple[torch.Tensor, torch.Tensor]] | None = None,
    batch_size: int = 256,
    **dataloader_arguments: Any,
) -> torch.Tensor:
    """Score every sample of a data set by a trained model, the teacher, in one pass.

    Evaluation mode, no gradient, samples in the data set's order. Afterwards the model is what it
    was to the bit: the train flag of each module, buffers (BatchNorm's statistics too), and the
    random states of Python, NumPy, the CPU and the model's CUDA devices.

    Args:
        model: the teacher.
        dataset: anything with a length that yields ``(input, target)`` pairs, or what ``forward``
            understands. Give it without random augmentation, or the scores are noisy.
        score: maps outputs and targets of a batch to difficulties (B,); `loss` by default.
        forward: maps a batch to ``(outputs, targets)``; None moves the input of a pair to the
            model's device and calls the model.
        batch_size: samples per forward pass; changes the speed, not the scores.
        dataloader_arguments: for the `torch.utils.data.DataLoader`, such as ``num_workers`` and
            ``collate_fn``.

    Returns:
        (n,) difficulties, dtype and device as ``score`` returns them, no gradient.

    Raises:
        TypeError: the model is none, the data set has no length.
        ValueError: an empty data set, batches that are no pairs, scores that are not one finite
            number per sample, or an argument that would change the order.

    Example:
        A model that passes its input on as logits: an even guess costs log 2.

        >>> data = torch.utils.data.TensorDataset(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
        >>> from_model(torch.nn.Identity(), data)
        tensor([0.6931, 0.6931, 0.6931])
        >>> def withheld(logits, targets):
        ...     return 1 - logits.softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
        >>> from_model(torch.nn.Identity(), data, score=withheld)
        tensor([0.5000, 0.5000, 0.5000])

    Differences from the paper:
        The teacher is yours: Hacohen and Weinshall also train a classifier on a pretrained
        network's features, or the student itself beforehand.

    Caveats:
        A teacher trained on the same samples has memorised them: see `out_of_fold`.

    References:
        Hacohen, Weinshall, On The Power of Curriculum Learning in Training Deep Networks, ICML
        2019, section 2 (`hacohen2019`).
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(str(refusal("model", "a torch.nn.Module", type(model).__name__)))
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        rule = "a data set with a length and items"
        raise TypeError(str(refusal("dataset", rule, type(dataset).__name__)))
    check_callable("score", score)
    if forward is not None:
        check_callable("forward", forward)
    size = len(dataset)
    if size == 0:
        raise refusal("dataset", "not empty", "a length of 0")
    check_count("batch_size", batch_size, at_least=1)
    for name in _OURS:
        if name in dataloader_arguments:
            cause = "Scores follow the data set's order, one per sample."
            raise refusal(name, "left out", repr(dataloader_arguments[name]), cause)
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        generator=torch.Generator(),  # or its iterator would draw from the global generator
        **dataloader_arguments,
    )
    with undisturbed(model):
        parts = [
            as_vector(
                "score(outputs, targets)", score(*_outputs(model, batch, forward)), finite=False
            )
            for batch in loader
        ]
    scores = torch.cat(parts)
    if scores.numel() != size:
        raise refusal("score(outputs, targets)", f"one per sample: {size}", scores.numel())
    check_finite("score(outputs, targets)", scores)
    return scores


def _outputs(
    model: torch.nn.Module,
    batch: Any,
    forward: Callable[[Any], tuple[torch.Tensor, torch.Tensor]] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if forward is not None:
        return forward(batch)
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        got = f"batches of type {type(batch).__name__}"
        cause = "Say by forward= how a batch becomes outputs and targets."
        raise refusal("dataset", "one of (input, target) pairs", got, cause)
    inputs, targets = batch
    device = next((p.device for p in model.parameters()), None)
    return model(inputs if device is None else inputs.to(device)), targets
