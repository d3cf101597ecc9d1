"""From a fraction or a count to a threshold: how a pace sets lambda.

A threshold in units of the loss has to follow the losses as they shrink. Setting it by the
fraction of samples to include does that by itself and does not change under a rescaling.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from gradatim.selection.sizes import prefix_size
from gradatim.validation import check_number, refusal
from gradatim.weighting.inputs import read_losses, readable

__all__ = ["loss_scale", "threshold_for"]


def threshold_for(losses: torch.Tensor, keep: float) -> torch.Tensor:
    """Find the threshold that includes a given fraction of the samples.

    With sorted losses ``s_1 <= ... <= s_n`` and ``m = ceil(keep n)``, lambda lies half-way between
    the last sample to include and the first to leave out::

        lambda = (s_m + s_(m+1)) / 2          m < n
        lambda = s_n (1 + 1e-6) + 1e-12       m = n

    Half-way, because at ``lambda = s_m`` every soft form would give the sample m weight 0.

    Args:
        losses: (N,), finite.
        keep: the fraction to include, in (0, 1].

    Returns:
        lambda as a 0-d tensor on the losses' device, at least float32; nothing waits for it.

    Raises:
        ValueError: keep outside (0, 1], no losses.

    Example:
        >>> threshold_for(torch.tensor([0.4, 0.1, 0.9, 0.2, 0.3]), 0.4)
        tensor(0.2500)

    Differences from the paper:
        Kumar et al. (2010) multiply lambda by a constant in each round; setting it by fraction
        is later practice.

    Caveats:
        Losses equal to ``s_m`` are all included, so ties can include more than m;
        `gradatim.selection.lowest` takes exactly m. At ``keep=1`` soft weights stay below 1: a pace
        that has reached everybody should use ``math.inf``.

    References:
        Kumar, Packer, Koller, "Self-Paced Learning for Latent Variable Models", NeurIPS 2010
        [kumar2010].
    """
    keep = check_number("keep", keep, above=0, at_most=1)
    wide, _ = read_losses(losses)
    size = wide.numel()
    if size == 0:
        raise refusal("losses", "at least one value", wide)
    count = prefix_size(keep, size)
    if count == size:
        (last,) = _sorted_values_at(wide, size - 1)
        return last + last.abs() * 1e-6 + 1e-12
    last, following = _sorted_values_at(wide, count - 1, count)
    middle = last + (following - last) / 2
    # Between neighbouring floats the middle rounds to one of them; it must not admit the next.
    middle = torch.where(middle < following, middle, last)
    # Many losses of exactly 0 would make lambda 0, and l / lambda 0/0.
    return torch.where(middle == 0, torch.finfo(wide.dtype).tiny, middle)


def loss_scale(losses: torch.Tensor) -> torch.Tensor:
    """Find the one number by which to divide losses for the logarithmic form.

    `gradatim.weighting.logarithmic` needs thresholds below 1. Dividing by 1.01 times the
    99th percentile of a first full pass puts nearly all losses there, and one wild loss does not
    flatten the rest. Calculate it once and keep it: a scale that moves would move the pace.

    Args:
        losses: (N,), at least 0, of a full pass over the data.

    Returns:
        0-d tensor > 0 on the losses' device, at least float32. It is 1 where the percentile is 0.

    Raises:
        ValueError: negative losses, no losses.

    Example:
        >>> loss_scale(torch.arange(101.0))
        tensor(99.9900)

    Differences from the paper:
        The rule is ours; the paper takes losses that fit.

    References:
        Jiang, Meng, Mitamura, Hauptmann, "Easy Samples First: Self-paced Reranking for
        Zero-Example Multimedia Search", ACM MM 2014 [jiang2014reranking].
    """
    wide, _ = read_losses(losses, at_least=0)
    size = wide.numel()
    if size == 0:
        raise refusal("losses", "at least one value", wide)
    # torch.quantile would refuse more than 2^24 values.
    rank = 0.99 * (size - 1)
    below = math.floor(rank)
    low, high = _sorted_values_at(wide, below, min(below + 1, size - 1))
    scale = 1.01 * (low + (high - low) * (rank - below))
    return torch.where(scale > 0, scale, 1)


def _sorted_values_at(values: torch.Tensor, *places: int) -> list[torch.Tensor]:
    """Return the values that would stand at these places, from 0, if the vector were sorted."""
    if readable(values):
        # NumPy finds all places in one partition, several times faster than kthvalue.
        array = np.partition(values.numpy(), places)
        return [torch.as_tensor(array[place]) for place in places]
    return [values.kthvalue(place + 1).values for place in places]
