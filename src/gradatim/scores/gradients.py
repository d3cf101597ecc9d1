"""Difficulty by how much a sample would move the model: its gradient's norm, exact or bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.func import functional_call, grad, vmap

from gradatim.scores.checks import as_labels, as_matrix, check_callable
from gradatim.undisturbed import undisturbed
from gradatim.validation import check_count, check_finite, refusal

__all__ = ["el2n", "gradient_norm"]


def el2n(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Score each sample by the norm of its error vector: EL2N.

    The gradient of the cross-entropy with respect to the logits, so a cheap stand-in for
    `gradient_norm`: one forward pass. Samples that score low early in training can be left out
    with little harm; the very highest are often mislabelled (Paul et al. 2021, Definition 2.2)::

        d = ||p - onehot(y)||_2,    p = softmax(z)

    Args:
        logits: (n, C) finite, unnormalised log-probabilities z; half precision is raised to
            float32.
        targets: (n,) whole class numbers y in [0, C).

    Returns:
        (n,) in [0, sqrt(2)], no gradient, float32 or float64 as ``logits``, on their device.

    Raises:
        ValueError: wrong shapes, labels out of range, non-finite logits.

    Example:
        >>> p = torch.tensor([[0.7, 0.2, 0.1]])
        >>> el2n(p.log(), torch.tensor([0]))
        tensor([0.3742])

        Average over models of other seeds, or of some early epochs:

        >>> models = [torch.nn.Identity(), torch.nn.Softmax(1)]
        >>> x, y = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
        >>> torch.stack([el2n(model(x), y) for model in models]).mean(0)
        tensor([1.1049])

    Differences from the paper:
        None known. The mean over seeds (10 in the paper, after 10 or 20 epochs) is yours to take,
        as above: one model's scores are noisy.

    References:
        Paul, Ganguli, Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021 (`paul2021`).
    """
    matrix = as_matrix("logits", logits)
    size, classes = matrix.shape
    labels = as_labels("targets", targets, size=size, classes=classes, device=matrix.device)
    error = matrix.softmax(1)
    # What the others have, rather than p_y - 1, which loses digits where p_y is almost 1.
    rivals = error.scatter(1, labels.unsqueeze(1), 0.0)
    return (rivals.square().sum(1) + rivals.sum(1).square()).sqrt().clamp(max=2**0.5)


def gradient_norm(
    model: torch.nn.Module,
    loss: Callable[[Any, torch.Tensor], torch.Tensor],
    batch: tuple[Any, torch.Tensor],
    *,
    chunk_size: int = 32,
) -> torch.Tensor:
    """Score each sample of a batch by the exact norm of its own gradient: GraNd.

    How far a step on this sample alone would move the parameters (Paul et al. 2021, Definition
    2.1)::

        d_i = || grad_theta l(f_theta(x_i), y_i) ||_2

    In evaluation mode; afterwards the model is what it was to the bit: train flags, gradients,
    buffers and the random states.

    Args:
        model: its parameters that require a gradient are theta.
        loss: maps outputs and targets of a batch of one to its loss, a scalar or (1,), such as
            ``torch.nn.functional.cross_entropy``.
        batch: ``(inputs, targets)`` with n rows each, on the model's device; inputs are a tensor,
            or a dict of tensors that the model takes by name.
        chunk_size: samples whose gradients are held at once, as many times the parameters; changes
            memory and speed, not the scores.

    Returns:
        (n,) at least 0, no gradient, float32 or wider, on the device of the losses.

    Raises:
        TypeError: the model is none, the loss cannot be called.
        ValueError: no parameter requires a gradient, rows that do not match, a loss that is not
            one number per sample, norms that are not finite.

    Example:
        ``l = -log p_y`` of a linear model has the gradient ``(p - onehot(y)) x``, here of norm
        ``sqrt(.5) * 5`` and its double.

        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> batch = torch.tensor([[3.0, 4.0], [6.0, 8.0]]), torch.tensor([0, 1])
        >>> gradient_norm(model, torch.nn.functional.cross_entropy, batch)
        tensor([3.5355, 7.0711])

    Differences from the paper:
        Evaluation mode: under batch statistics a sample has no gradient of its own. As published,
        scores are means over initialisations: stack the scores of several models and average, as
        in `el2n`. One model's scores are noisy.

    Caveats:
        Costs several forward and backward passes. A model whose operations `torch.func.vmap` does
        not know, or that looks at its values to decide, cannot be scored; `el2n` can.

    References:
        Paul, Ganguli, Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021 (`paul2021`).
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(str(refusal("model", "a torch.nn.Module", type(model).__name__)))
    check_callable("loss", loss)
    inputs, targets = _pair(batch)
    check_count("chunk_size", chunk_size, at_least=1)
    names = _names_by_parameter(model)
    learnt = {p: p.detach() for p in names if p.requires_grad}
    if not learnt:
        raise refusal("model", "one with parameters that require a gradient", "none of them")
    size = targets.shape[0]
    if not size:
        first = next(iter(learnt.values()))
        return torch.zeros(0, dtype=_wide(first.dtype), device=first.device)

    def own_loss(values: list[torch.Tensor], row: Any, target: torch.Tensor) -> Any:
        given = {
            name: value
            for parameter, value in zip(learnt, values, strict=True)
            for name in names[parameter]
        }
        by_name = isinstance(row, Mapping)
        one = {name: part.unsqueeze(0) for name, part in row.items()} if by_name else None
        arguments = () if by_name else (row.unsqueeze(0),)
        outputs = functional_call(model, given, arguments, one, tie_weights=False)
        value = loss(outputs, target.unsqueeze(0))
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise refusal("loss(outputs, targets)", "one number for one sample", value)
        return value.reshape(())

    def squared_norm(row: Any, target: torch.Tensor) -> torch.Tensor:
        gradients = grad(own_loss)([*learnt.values()], row, target)
        squares = [g.to(_wide(g.dtype)).square().sum() for g in gradients]
        return torch.stack(squares).sum()

    with undisturbed(model):
        squared = vmap(squared_norm, chunk_size=chunk_size, randomness="different")
        norms = squared(inputs, targets).sqrt()
    check_finite("norms of the gradients", norms)
    return norms


def _names_by_parameter(model: torch.nn.Module) -> dict[torch.nn.Parameter, list[str]]:
    """Every name of every parameter, but one per module that holds it.

    A module that stands in two places has two names for one slot. `functional_call` would fill it
    twice, take back the second filling, and leave the first in the model.
    """
    names: dict[torch.nn.Parameter, list[str]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            names.setdefault(parameter, []).append(name)
    return names


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _pair(batch: Any) -> tuple[Any, torch.Tensor]:
    """Inputs and targets with the same number of rows, or a refusal."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise refusal("batch", "a pair (inputs, targets)", f"a {type(batch).__name__}")
    inputs, targets = batch
    rule = "tensors with one row per sample"
    parts = [*inputs.values()] if isinstance(inputs, Mapping) else [inputs]
    for part in (*parts, targets):
        if not isinstance(part, torch.Tensor) or part.ndim == 0:
            got = part if isinstance(part, torch.Tensor) else type(part).__name__
            raise refusal("batch", rule, got)
    if not parts or any(part.shape[0] != targets.shape[0] for part in parts):
        found = [part.shape[0] for part in (*parts, targets)]
        raise refusal("batch", "inputs and targets with as many rows", found)
    return dict(inputs) if isinstance(inputs, Mapping) else inputs, targets
