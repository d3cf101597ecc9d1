"""Which of a batch's candidates to train on. Nothing here waits for a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gradatim.selection.partial import check_generator
from gradatim.validation import as_vector, check_count, check_number

__all__ = [
    "draw_with_replacement",
    "hardest",
    "keep_chances",
    "rank_weights",
    "systematic_draw",
    "uniform_numbers",
]


def uniform_numbers(size: int, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """(size,) uniform in (0, 1), drawn where the generator is and sent to the device of ``like``.

    Example:
        >>> drawn = uniform_numbers(3, torch.Generator().manual_seed(0), torch.zeros(1))
        >>> drawn.dtype, bool((drawn > 0).all())
        (torch.float64, True)
    """
    drawn = torch.rand(size, generator=generator, dtype=torch.float64, device=generator.device)
    drawn = drawn.clamp_(min=2.0**-54)
    if like.device.type == "mps":
        drawn = drawn.to(torch.float32)
    return drawn.to(like.device, non_blocking=True)


def hardest(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Positions of the k largest scores, ascending; of equal ones the first, NaN comes last.

    Args:
        scores: (B,).
        k: in [0, B].

    Returns:
        int64 (k,), on the device of ``scores``.

    Example:
        >>> hardest(torch.tensor([0.5, 2.0, float("nan"), 2.0]), 2)
        tensor([1, 3])
    """
    if scores.is_cpu and 0 < k <= scores.numel():
        # All that reach the k-th largest, in a quarter of the sorts' time below, unless there are
        # ties or NaN, which NumPy takes for the largest; elsewhere to count them would wait.
        known = scores.detach()
        wide = (known.float() if known.dtype in (torch.float16, torch.bfloat16) else known).numpy()
        (reaching,) = (wide >= np.partition(wide, wide.size - k)[wide.size - k]).nonzero()
        if reaching.size == k:
            return torch.from_numpy(reaching)
    known = torch.where(scores.isnan(), -torch.inf, scores)
    return known.argsort(descending=True, stable=True)[:k].sort().values


def draw_with_replacement(
    probabilities: torch.Tensor, k: int, *, generator: torch.Generator
) -> torch.Tensor:
    """Draw k positions, each in proportion to the probabilities, whatever was drawn before.

    Args:
        probabilities: (B,), at least 0, one of them above 0; their scale does not matter.
        k: at least 0.
        generator: on the CPU it serves any device.

    Returns:
        int64 (k,), ascending, a position as often as it was drawn.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> draw_with_replacement(torch.tensor([0.0, 1.0, 0.0]), 2, generator=generator)
        tensor([1, 1])
    """
    sums = probabilities.cumsum(0)
    drawn = uniform_numbers(k, check_generator(generator), sums).to(sums.dtype) * sums[-1]
    # Rounding must not reach the end: the last position may have no chance.
    drawn = torch.minimum(drawn, torch.nextafter(sums[-1], torch.zeros_like(sums[-1])))
    return torch.searchsorted(sums, drawn, right=True).sort().values


def keep_chances(
    losses: torch.Tensor | Sequence[float],
    history: torch.Tensor | Sequence[float],
    *,
    beta: float = 1.0,
) -> torch.Tensor:
    """The chance of each sample to be trained on: a power of the share of losses it is above.

    ``P(l) = CDF(l)^beta``, CDF the share of the history that is at most l (Jiang et al. 2019).

    Args:
        losses: (B,); NaN has chance 0.
        history: (R,), losses seen before, in any order; NaN where there is none yet.
        beta: at least 0; 0 keeps all.

    Returns:
        (B,) in [0, 1], in float32 or wider; 1 where the history is empty.

    Raises:
        ValueError: beta below 0.

    Example:
        >>> keep_chances(torch.tensor([1.0]), torch.tensor([0.1, 0.5, 1.0, 2.0]), beta=2.0)
        tensor([0.5625])
    """
    beta = check_number("beta", beta, at_least=0)
    losses = as_vector("losses", losses, finite=False)
    history = as_vector("history", history, finite=False).to(losses.device)
    wide = losses.to(torch.promote_types(losses.dtype, torch.float32))
    known = ~history.isnan()
    ordered = torch.where(known, history, torch.inf).to(wide.dtype).sort().values
    count = known.sum()
    below = torch.searchsorted(ordered, wide.contiguous(), right=True).minimum(count)
    share = torch.where(count > 0, below / count.clamp(min=1), 1.0).to(wide.dtype)
    return torch.where(wide.isnan(), 0.0, share**beta)


def rank_weights(losses: torch.Tensor | Sequence[float], keep: float) -> torch.Tensor:
    """Weights of a draw without replacement that grow with the rank of the loss.

    ``((rank - 1/2) / N)^(1/keep - 1)``, rank 1 for the smallest loss, normalised to sum 1; equal
    losses are ranked by position, NaN first.

    Args:
        losses: (N,).
        keep: the fraction that is drawn, in (0, 1]; 1 weighs all alike.

    Returns:
        (N,), above 0, in float32 or wider.

    Raises:
        ValueError: keep outside (0, 1].

    Example:
        >>> rank_weights(torch.tensor([0.4, 0.1, 0.9, 0.2]), keep=0.5)
        tensor([0.3125, 0.0625, 0.4375, 0.1875])
    """
    keep = check_number("keep", keep, above=0, at_most=1)
    losses = as_vector("losses", losses, finite=False)
    wide = losses.to(torch.promote_types(losses.dtype, torch.float32))
    wide = torch.where(wide.isnan(), -torch.inf, wide)
    size = wide.numel()
    ranks = torch.empty_like(wide)
    places = torch.arange(size, device=wide.device, dtype=wide.dtype)
    ranks = ranks.scatter(0, wide.argsort(stable=True), (places + 0.5) / max(1, size))
    weights = ranks ** (1 / keep - 1)
    return weights / weights.sum()


def systematic_draw(
    weights: torch.Tensor | Sequence[float], k: int, *, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw k different samples so that each one's chance is exactly in proportion to its weight.

    The chances are ``pi_i = min(1, c w_i)`` with c such that they sum to k. Laid end to end in
    random order they make a line of length k, and whoever lies at u, u + 1, u + 2, ... is drawn,
    u uniform in (0, 1). With `weighted_draw`, which takes one sample after the other, chances are
    not proportional and known only approximately.

    Args:
        weights: (N,), above 0, finite; their scale does not matter.
        k: samples to draw, in [1, N].
        generator: the only source of randomness.

    Returns:
        int64 (k,), ascending positions, and the chances pi (N,) in float64; both on the CPU.

    Raises:
        TypeError: ``generator`` is no `torch.Generator`.
        ValueError: a weight that is not above 0 and finite; k outside its range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> positions, chances = systematic_draw([1.0, 1.0, 8.0], 2, generator=generator)
        >>> positions.numel(), chances
        (2, tensor([0.5000, 0.5000, 1.0000], dtype=torch.float64))

    References:
        Madow, On the theory of systematic sampling, II, Annals of Mathematical Statistics 1949.
    """
    check_generator(generator)
    vector = as_vector("weights", weights, above=0).double().cpu()
    size = vector.numel()
    k = check_count("k", k, at_least=1, at_most=size)
    chances = _capped(vector, k)
    certain = chances >= 1
    positions = certain.nonzero().squeeze(1)
    left = k - positions.numel()
    if left:
        others = (~certain).nonzero().squeeze(1)
        order = others[torch.randperm(others.numel(), generator=generator)]
        start = torch.rand((), generator=generator, dtype=torch.float64)
        line = chances[order].cumsum(0)
        line[-1] = left  # rounding must not cost a sample
        reached = (line - start).floor()
        before = torch.cat([(-start).floor().reshape(1), reached[:-1]])
        positions = torch.cat([positions, order[reached > before]]).sort().values
    return positions, chances


def _capped(weights: torch.Tensor, k: int) -> torch.Tensor:
    """``min(1, c w)`` with sum k."""
    ordered = weights.sort(descending=True).values
    rest = ordered.flip(0).cumsum(0).flip(0)  # of each weight and the smaller ones
    # With the m largest at 1, c = (k - m) / (sum of the rest); the first m for which no other
    # exceeds 1 is the one.
    factors = (k - torch.arange(weights.numel(), dtype=torch.float64)) / rest
    fits = (factors * ordered <= 1) & (factors > 0)
    if k >= weights.numel() or not bool(fits.any()):
        return torch.ones_like(weights)
    factor = factors[int(fits.to(torch.uint8).argmax())]
    return (factor * weights).clamp(max=1.0)
