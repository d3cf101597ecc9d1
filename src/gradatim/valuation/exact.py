"""Shapley values of few samples, from the utility of every subset."""

from __future__ import annotations

import math

import torch

from gradatim.validation import check_count, refusal
from gradatim.valuation.utilities import Utility, as_utility, check_utility, named

__all__ = ["exact_shapley"]

LARGEST = 12


def exact_shapley(utility: Utility, size: int) -> torch.Tensor:
    """Value n samples exactly: the mean of what each adds, over all orders of arrival.

    For few samples, or few groups of samples (sources, annotators, clients)::

        phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))

    Each of the 2^n subsets is asked for once. The values share out v(all) - v(none).

    Args:
        utility: v, given a frozenset of positions in [0, n), the empty one included; returns the
            performance of a model trained on these: a finite number, higher is better.
        size: n, in [1, 12].

    Returns:
        float64 (n,), on the CPU.

    Raises:
        TypeError: ``utility`` is not callable or returns no number, ``size`` is not whole.
        ValueError: a utility is NaN or infinite; ``size`` is outside its range.

    Example:
        >>> v = {(): 0, (0,): 0.5, (1,): 0.4, (2,): 0,
        ...      (0, 1): 0.7, (0, 2): 0.6, (1, 2): 0.4, (0, 1, 2): 0.8}
        >>> exact_shapley(lambda subset: v[tuple(sorted(subset))], 3)
        tensor([0.4500, 0.3000, 0.0500], dtype=torch.float64)

    Differences from the paper:
        None known.

    Caveats:
        A utility that trains a model should fix its seeds: it is asked for each subset once, and
        noise in it is noise in every value.

    References:
        Ghorbani and Zou, Data Shapley, ICML 2019, Eq. 1 [ghorbani2019].
    """
    check_utility(utility)
    size = check_count("size", size, at_least=1)
    if size > LARGEST:
        cause = f"2^{size} utilities would be needed: use tmc_shapley."
        raise refusal("size", f"at most {LARGEST}", size, cause)
    worth = torch.empty(2**size, dtype=torch.float64)
    for mask in range(2**size):
        subset = frozenset(i for i in range(size) if mask >> i & 1)
        worth[mask] = as_utility(utility(subset), named(subset))
    masks = torch.arange(2**size)
    members = sum((masks >> i & 1) for i in range(size))
    # 1 / (n C(n-1, s)) is |S|! (n - |S| - 1)! / n!
    weights = torch.tensor(
        [1 / (size * math.comb(size - 1, count)) for count in range(size)], dtype=torch.float64
    )
    values = torch.empty(size, dtype=torch.float64)
    for i in range(size):
        without = masks[(masks >> i & 1) == 0]
        gains = worth[without | (1 << i)] - worth[without]
        values[i] = (weights[torch.as_tensor(members)[without]] * gains).sum()
    return values
