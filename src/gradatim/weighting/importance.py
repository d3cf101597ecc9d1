"""Importance sampling: how likely a sample is drawn, and the weight that undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from gradatim.validation import as_vector, check_choice, check_count, check_number, refusal
from gradatim.weighting.inputs import precise_dtype, readable

__all__ = [
    "importance_weights",
    "last_layer_bound",
    "sampling_probabilities",
    "variance_reduction",
    "worthwhile_reduction",
]


def last_layer_bound(
    outputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy",
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Norm of each loss's gradient with respect to the model's last outputs.

    Times a constant of the layers below it bounds the norm of the whole gradient from above, and
    one forward pass gives it (Katharopoulos and Fleuret 2018, Eq. 20)::

        cross-entropy   s_i = || softmax(z_i) - y_i ||,  y_i one-hot, or as smoothed or mixed
        squared error   s_i = || f_i - y_i ||

    Args:
        outputs: (B, C) logits, or for the squared error (B,) or (B, ...) predictions; any floating
            dtype. With ``mask`` one more dimension, of tokens: (B, T, C).
        targets: int64 (B,) class numbers or (B, C) distributions; for the squared error as many
            values as ``outputs``. With ``mask`` likewise (B, T) or (B, T, C).
        loss: ``"cross_entropy"`` or ``"squared_error"``, of which a constant factor is left out.
        mask: (B, T), bool or 0 and 1: the tokens that count. The loss of a sample is then the
            mean over them. Class numbers elsewhere (such as -100) are not looked at.

    Returns:
        (B,), at least 0, in float32 or wider, detached, on the device of ``outputs``.

    Raises:
        TypeError: outputs, targets or the mask are no tensors.
        ValueError: shapes that do not fit; tokens without a mask.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        >>> last_layer_bound(logits, torch.tensor([0, 2]))
        tensor([0.4243, 0.8165])

    Caveats:
        On an accelerator class numbers are not checked, which would wait for it.

    References:
        Katharopoulos and Fleuret, Not all samples are created equal: deep learning with importance
        sampling, ICML 2018 [katharopoulos2018].
    """
    check_choice("loss", loss, ("cross_entropy", "squared_error"))
    for name, value in (("outputs", outputs), ("targets", targets)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(str(refusal(name, "a tensor", repr(value))))
    if not outputs.is_floating_point() or outputs.ndim == 0:
        raise refusal("outputs", "floating, with one row per sample", outputs)
    if mask is not None and not isinstance(mask, torch.Tensor):
        raise TypeError(str(refusal("mask", "a tensor or None", repr(mask))))
    outputs = outputs.detach()
    wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    targets = targets.detach().to(outputs.device)
    if loss == "squared_error":
        wanted = wide.numel()
        if targets.numel() != wanted or targets.shape[:1] != wide.shape[:1]:
            raise refusal("targets", f"of shape {tuple(wide.shape)}, as the outputs", targets)
        error = wide - targets.reshape(wide.shape).to(wide.dtype)
    else:
        error = _classification_error(wide, targets, mask)
    if mask is not None:
        return _over_tokens(error, mask)
    return torch.linalg.vector_norm(error.flatten(1) if error.ndim > 1 else error[:, None], dim=1)


def _classification_error(
    logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """``softmax(logits) - target``, in the logits' shape."""
    if logits.ndim != (2 if mask is None else 3):
        rule = "of shape (B, C)" if mask is None else "of shape (B, T, C) with a mask"
        cause = "Several tokens per sample need a mask=(B, T)." if mask is None else ""
        raise refusal("outputs", rule, logits, cause)
    error = logits.softmax(-1)
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            raise refusal("targets", f"of shape {tuple(logits.shape)}, if floating", targets)
        return error - targets.to(error.dtype)
    if targets.shape != logits.shape[:-1]:
        raise refusal("targets", f"class numbers of shape {tuple(logits.shape[:-1])}", targets)
    classes = targets.long()
    if mask is not None and mask.shape == classes.shape:
        classes = torch.where(mask.to(classes.device) != 0, classes, 0)
    if readable(classes) and classes.numel():
        low, high = (int(bound) for bound in classes.aminmax())
        if low < 0 or high >= logits.shape[-1]:
            rule = f"class numbers in [0, {logits.shape[-1]})"
            raise refusal("targets", rule, low if low < 0 else high)
    # What the others have, rather than p_y - 1, which loses digits where p_y is almost 1.
    place = classes.unsqueeze(-1)
    rivals = error.scatter(-1, place, 0.0)
    return rivals.scatter(-1, place, -rivals.sum(-1, keepdim=True))


def _over_tokens(error: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Norm of the gradient of the mean over the tokens that count."""
    if mask.shape != error.shape[:2]:
        raise refusal("mask", f"of shape {tuple(error.shape[:2])}", mask)
    counted = (mask.to(error.device) != 0).to(error.dtype)
    squares = error.flatten(2).square().sum(2) if error.ndim > 2 else error.square()
    # A token that does not count may hold anything, NaN included.
    squares = torch.where(counted > 0, squares, 0)
    return squares.sum(1).sqrt() / counted.sum(1).clamp(min=1)


def sampling_probabilities(
    scores: torch.Tensor | Sequence[float], *, alpha: float = 1.0, smooth: float = 0.0
) -> torch.Tensor:
    """Probabilities in proportion to a power of the scores.

    ``p_i ~ s_i^alpha + smooth * mean(s^alpha)``. With ``smooth`` above 0 no sample has probability
    0, and none can weigh more than ``(1 + smooth) / smooth``.

    Args:
        scores: (n,), at least 0, finite: bounds of gradients, or losses.
        alpha: at least 0; 0 is uniform.
        smooth: at least 0, relative to the mean.

    Returns:
        (n,), summing to 1, in float64 where the device has it; uniform where all scores are 0.

    Raises:
        ValueError: on the CPU a negative or non-finite score; a parameter outside its range.

    Example:
        >>> sampling_probabilities([1.0, 2.0, 3.0, 4.0])
        tensor([0.1000, 0.2000, 0.3000, 0.4000], dtype=torch.float64)
    """
    alpha = check_number("alpha", alpha, at_least=0)
    smooth = check_number("smooth", smooth, at_least=0)
    values, _ = _read("scores", scores)
    values = values.to(precise_dtype(values.device))
    # Relative to the largest, so that no power overflows.
    top = values.amax(0, keepdim=True) if values.numel() else values
    relative = torch.where(top > 0, values / top, 1.0) ** alpha
    raised = relative + smooth * relative.sum() / max(1, relative.numel())
    return raised / raised.sum()


def _read(name: str, values: torch.Tensor | Sequence[float]) -> tuple[torch.Tensor, torch.dtype]:
    """Values at least 0, wide enough to calculate with, and the dtype to return in."""
    check = readable(values)  # reading them would wait for an accelerator
    vector = as_vector(name, values, at_least=0 if check else None, finite=check)
    return vector.to(torch.promote_types(vector.dtype, torch.float32)), vector.dtype


def importance_weights(
    probabilities: torch.Tensor | Sequence[float], *, power: float = 1.0
) -> torch.Tensor:
    """The weights that make a mean over drawn samples an estimate of the mean over all.

    ``w_i = (1 / (n p_i))^power``, times the constant for which ``sum_i w_i p_i = 1``. Power 1 is
    unbiased, 0 leaves the drawn samples as they are and so emphasises the likely ones.

    Args:
        probabilities: (n,), above 0 wherever the sample may be drawn, summing to 1.
        power: in [0, 1].

    Returns:
        (n,), in the dtype of ``probabilities``; 0 where the probability is 0.

    Raises:
        ValueError: on the CPU a negative or non-finite probability; power outside [0, 1].

    Example:
        >>> importance_weights([0.1, 0.2, 0.3, 0.4])
        tensor([2.5000, 1.2500, 0.8333, 0.6250], dtype=torch.float64)
        >>> importance_weights([0.1, 0.2, 0.3, 0.4], power=0.5)
        tensor([1.6270, 1.1505, 0.9394, 0.8135], dtype=torch.float64)
    """
    power = check_number("power", power, at_least=0, at_most=1)
    p, dtype = _read("probabilities", probabilities)
    count = max(1, p.numel())
    if power == 0:
        return torch.ones_like(p).to(dtype)
    possible = p > 0
    raw = torch.where(possible, 1 / (count * torch.where(possible, p, 1)), 0)
    if power < 1:
        raw = raw**power
        raw = raw / (raw * p).sum()
    return raw.to(dtype)


def variance_reduction(probabilities: torch.Tensor | Sequence[float]) -> torch.Tensor:
    """How many times larger a uniform batch must be for the same variance, at most: tau.

    ``tau = (1 - ||p - 1/n||^2 / sum p^2)^(-1/2) = sqrt(n sum p^2)`` (Katharopoulos and Fleuret
    2018, Eq. 26): 1 for equal probabilities, sqrt(n) where one sample has them all.

    Args:
        probabilities: (n,), summing to 1.

    Returns:
        0-d, at least 1 but for rounding, on the device of ``probabilities``.

    Raises:
        ValueError: on the CPU a negative or non-finite probability.

    Example:
        >>> variance_reduction([1 / 6, 1 / 6, 1 / 6, 1 / 2])
        tensor(1.1547, dtype=torch.float64)
    """
    p, _ = _read("probabilities", probabilities)
    return (p.numel() * p.square().sum()).sqrt()


def worthwhile_reduction(candidates: int, k: int) -> float:
    """The tau from which scoring ``candidates`` to train on ``k`` saves time for certain.

    ``(B + 3 b) / (3 b)``, if a backward pass costs two forward passes.

    Args:
        candidates: B, at least 1.
        k: b, at least 1.

    Example:
        >>> worthwhile_reduction(384, 128), round(worthwhile_reduction(640, 128), 3)
        (2.0, 2.667)
    """
    candidates = check_count("candidates", candidates, at_least=1)
    k = check_count("k", k, at_least=1)
    return (candidates + 3 * k) / (3 * k)
