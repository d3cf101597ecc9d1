"""Weighted draws without replacement, and the chance with which each sample is in one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gradatim.selection.partial import check_generator, permutation, smallest
from gradatim.validation import as_vector, check_count, check_finite, refusal

__all__ = ["inclusion_probabilities", "weighted_draw"]

# Random numbers are made in float64 and in pieces: N of them at once would double the memory.
_CHUNK = 2**20

# Weights within these bounds divide an exponential number in float32 without over- or underflow.
_ORDINARY = (1e-18, 1e18)


def weighted_draw(
    weights: torch.Tensor | Sequence[float],
    k: int,
    *,
    generator: torch.Generator,
    log: bool = False,
    ordered: bool = False,
) -> torch.Tensor:
    """Draw k different samples, each next one in proportion to the weights that remain.

    Large data sets need it: `torch.multinomial` refuses more than 2^24 samples and can return
    samples of weight zero, NumPy's ``choice`` takes minutes where this takes seconds.
    Each sample gets an exponential arrival time, E_i / w_i with E_i = -log(u_i), and the k
    earliest are taken: in logarithms, the Gumbel-top-k trick with the sign turned. It equals
    drawing one after the other without replacement. Zero weights never arrive: only when
    fewer than k weights are positive do they fill the rest, uniformly.

    Args:
        weights: (N,), any number dtype, at least 0, finite; their scale does not matter. With
            ``log=True`` their logarithms: any finite value, or -inf for a weight of zero.
        k: samples to draw, in [0, N].
        generator: the only source of randomness; keys are computed on its device, and one on the
            CPU serves weights anywhere.
        log: ``weights`` are logarithms.
        ordered: return the samples in the order in which they were drawn, which sorts k keys and
            takes several times as long; the default is increasing positions.

    Returns:
        int64 (k,), distinct positions in [0, N), on the device of ``weights``.

    Raises:
        TypeError: ``k`` is not a whole number, ``generator`` not a `torch.Generator`.
        ValueError: a weight is negative, NaN or infinite (with ``log``: NaN or +inf); k > N.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> weighted_draw([0.0, 1.0, 0.0, 2.0], 2, generator=generator)
        tensor([1, 3])
        >>> weighted_draw([0.0, -1000.0, -math.inf], 2, generator=generator, log=True)
        tensor([0, 1])

    Differences from the paper: arrival times are float32, or float64 for float64 weights. A few
    of 10^8 can tie for the last place; the tie is broken at random.

    Caveats: a set in increasing order is no sequence of draws: do not take a part of it. Besides
    the weights, memory peaks at 2.3 arrays of N (k = N / 2).

    References:
        Efraimidis and Spirakis, Weighted random sampling with a reservoir, Information Processing
        Letters 2006 [efraimidis2006]; Kool, van Hoof and Welling, Stochastic beams and where to
        find them, ICML 2019 [kool2019].
    """
    check_generator(generator)
    vector = as_vector("weights", weights, finite=False)
    k = check_count("k", k, at_most=vector.numel())
    low, high = _check_weights(vector, log)
    keys = _keys(vector.to(generator.device), low, high, generator, log)
    positions = smallest(keys, k, generator)
    if ordered:
        # Shuffled first, so that equal keys, as those of weight zero, come in random order.
        positions = positions[permutation(k, generator)]
        positions = positions[keys[positions].argsort(stable=True)]
    return positions.to(vector.device)


def _check_weights(weights: torch.Tensor, log: bool) -> tuple[float, float]:
    """Return the smallest and the largest weight, after refusing those that are no weights."""
    if not weights.numel():
        return 0.0, 0.0
    low, high = (float(bound) for bound in weights.aminmax())  # NaN if any is
    if math.isnan(low) or high == math.inf:
        check_finite("weights", weights.where(weights != -math.inf, 0) if log else weights)
    if not log and low < 0:
        cause = "Are they log-weights? Pass log=True."
        raise refusal("weights", "at least 0 everywhere", low, cause)
    return low, high


def _keys(
    weights: torch.Tensor, low: float, high: float, generator: torch.Generator, log: bool
) -> torch.Tensor:
    """Return the arrival times or their logarithms; infinity for a weight of zero."""
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    keys = torch.empty_like(weights)
    for piece in keys.split(_CHUNK):
        # Uniform in float64: its 2^53 steps leave neither zeros nor ties. torch.rand in float32
        # has both; exponential_ has neither but takes twice as long, on one thread.
        race = torch.empty(piece.shape, dtype=torch.float64, device=piece.device)
        piece.copy_(race.uniform_(generator=generator).log_().neg_())
    if not log:
        ordinary = low > _ORDINARY[0] and high < _ORDINARY[1]
        return keys.div_(weights) if ordinary else keys.log_().sub_(weights.log())
    # Relative to the largest, so that a common offset costs no digits.
    return keys.log_().sub_(weights - high if high > -math.inf else weights)


def inclusion_probabilities(weights: torch.Tensor | Sequence[float], k: int) -> torch.Tensor:
    """Return the chance of each sample to be among k drawn by `weighted_draw`.

    For weights that undo the selection (1 / pi_i), and for reports. Solves
    sum_i (1 - exp(-c p_i)) = k for c, p_i = w_i / sum w, and gives pi_i = 1 - exp(-c p_i): the
    race of `weighted_draw`, stopped at a fixed time instead of at the k-th arrival. For 40 of 200
    samples with exponential weights it is off by at most 0.008, the naive min(1, k p_i) by 0.27.

    Args:
        weights: (N,), at least 0, finite; their scale does not matter.
        k: samples drawn, at least 0; N or more gives 1 everywhere.

    Returns:
        float64 (N,) in [0, 1], summing to min(k, N); on the device of ``weights``. Weight zero
        gives 0 unless fewer than k weights are positive; then it gets its share of the fill.

    Raises:
        TypeError: ``k`` is not a whole number.
        ValueError: a weight is negative, NaN or infinite; k is negative.

    Example:
        With y = exp(-c / 4): 2 (1 - y) + (1 - y^2) = 1, so y is the root of 3, less 1.

        >>> [round(chance, 3) for chance in inclusion_probabilities([1.0, 1.0, 2.0], 1).tolist()]
        [0.268, 0.268, 0.464]
        >>> inclusion_probabilities([5.0, 0.0, 0.0], 2).tolist()
        [1.0, 0.5, 0.5]

    Differences from the paper: solved by Newton's method, which converges from the left without
    overshooting.

    Caveats: an approximation, good for many samples (the exact value is a sum over subsets). For
    a handful it can be off by a few hundredths: the chances above are 0.25, 0.25 and 0.5.

    References:
        Rosen, Asymptotic theory for order sampling, Journal of Statistical Planning and Inference
        1997 [rosen1997].
    """
    vector = as_vector("weights", weights, finite=False)
    k = check_count("k", k)
    _, top = _check_weights(vector, log=False)
    size = vector.numel()
    positive = vector > 0
    count = int(torch.count_nonzero(positive))
    chances = torch.zeros(size, dtype=torch.float64, device=vector.device)
    if k >= count:
        chances[~positive] = min(1.0, (k - count) / max(size - count, 1))
        chances[positive] = 1.0
    elif k > 0:
        # The floor is far below what matters and keeps every quotient below finite.
        rates = (vector[positive].double() / top).clamp_(min=1e-300)
        rates /= rates.sum()
        chances[positive] = -torch.expm1(-_stopping_time(rates, k) * rates)
    return chances


def _stopping_time(rates: torch.Tensor, k: int) -> float:
    """Solve sum exp(-c p) = N - k for c, given rates p with sum 1 and 0 < k < N."""
    # Counting who is left, at least one, loses no digits when k is close to N. The sum is convex
    # and falls, and the first c lies left of the solution: Newton's steps only ever go right.
    time, left = float(k), rates.numel() - k
    while True:
        waiting = torch.exp(-time * rates)
        step = (float(waiting.sum()) - left) / float((rates * waiting).sum())
        if not step > 1e-15 * time:
            return time
        time += step
