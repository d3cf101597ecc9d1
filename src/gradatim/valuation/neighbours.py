"""Exact Shapley values for nearest neighbours, in one sort per test point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from gradatim.keyed import keyed_generator
from gradatim.validation import as_vector, check_choice, check_count, check_finite, refusal

__all__ = ["knn_shapley"]

# Distances held at once: 2^21 of them, with their sort and ranks, are about 80 MB.
_AT_ONCE = 2**21


def knn_shapley(
    features: torch.Tensor | Sequence[Sequence[float]],
    labels: torch.Tensor | Sequence[int],
    test_features: torch.Tensor | Sequence[Sequence[float]],
    test_labels: torch.Tensor | Sequence[int],
    *,
    k: int = 5,
    tie: Literal["random", "index"] = "random",
    seed: int = 0,
) -> torch.Tensor:
    """Value samples exactly for a K-nearest-neighbour classifier, without training anything.

    On features of a network it is the cheapest way to find wrong labels. The utility of a set is
    the mean, over test points, of the share of its K nearest members that have the test point's
    label (each counts 1/K, also where the set has fewer than K). For one test point let a_1..a_N
    be the training points by increasing distance and m_i = 1[label of a_i is right]::

        s_N = m_N min(K, N) / (K N);   s_i = s_(i+1) + (m_i - m_(i+1)) / K * min(K, i) / i

    The value is the mean of s over test points.

    Args:
        features: (N, D), finite; for images and texts, those of a trained network. Distances are
            Euclidean: scale features that are not alike.
        labels: (N,), classes.
        test_features: (T, D), of held-out data.
        test_labels: (T,), classes.
        k: K, at least 1; it may exceed N.
        tie: equal distances, by ``"random"`` (anew for each test point) or by ``"index"``.
        seed: of the random ties.

    Returns:
        float64 (N,), on the device of ``features`` (on the CPU where that has no float64). Their
        sum is the utility of the whole.

    Raises:
        TypeError: no numbers; ``k`` is not whole.
        ValueError: no training or no test point, lengths that differ, values that are not finite,
            k < 1.

    Example:
        >>> knn_shapley([[1.0], [2.0], [3.0], [4.0]], [1, 0, 1, 0], [[0.0]], [1], k=2)
        tensor([ 0.3333, -0.1667,  0.3333,  0.0000], dtype=torch.float64)

    Differences from the paper:
        K > N is right as well: s_N has min(K, N) / (K N), where the paper prints 1 / N.

    Caveats:
        Distances are made in blocks, in float64, without the matrix product that loses digits:
        T N D operations and T sorts of N. Memory does not grow with T.

    References:
        Jia et al., Efficient task-specific data valuation for nearest neighbor algorithms,
        PVLDB 2019, Theorem 1 [jia2019knn].
    """
    k = check_count("k", k, at_least=1)
    tie = check_choice("tie", tie, ("random", "index"))
    seed = check_count("seed", seed)
    train = _matrix("features", features)
    test = _matrix("test_features", test_features)
    if train.shape[1] != test.shape[1]:
        rule = f"as wide as features: {train.shape[1]} columns"
        raise refusal("test_features", rule, test.shape[1])
    device = train.device if train.device.type != "mps" else torch.device("cpu")
    classes = as_vector("labels", labels, size=len(train), dtype=torch.float64).to(device)
    wanted = as_vector("test_labels", test_labels, size=len(test), dtype=torch.float64).to(device)
    train, test = train.to(device), test.to(device)

    size = len(train)
    place = torch.arange(1, size + 1, dtype=torch.float64, device=device)
    factor = place.clamp(max=k) / place / k
    values = torch.zeros(size, dtype=torch.float64, device=device)
    rows = max(1, _AT_ONCE // size)
    for start in range(0, len(test), rows):
        block = slice(start, start + rows)
        order = _nearest_first(_distances(test[block], train), tie, seed, start)
        right = (classes[order] == wanted[block, None]).to(torch.float64)
        # s_i - s_(i+1) for i < N, and s_N itself at the end; summed from the far end.
        steps = right * factor
        steps[:, :-1] -= right[:, 1:] * factor[:-1]
        shares = steps.flip(1).cumsum_(1).flip(1)
        values.index_add_(0, order.reshape(-1), shares.reshape(-1))
    return values / len(test)


def _matrix(name: str, given: Any) -> torch.Tensor:
    try:
        known = given if isinstance(given, torch.Tensor) else np.asarray(given)
        matrix = torch.as_tensor(known).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(given).__name__
        raise TypeError(f"{name} must be numbers, one row per sample. Got {kind}.") from error
    if matrix.ndim != 2 or matrix.is_complex():
        raise refusal(name, "real numbers of shape (samples, features)", matrix)
    if not matrix.shape[0]:
        raise refusal(name, "of one sample at least", "none")
    if not matrix.is_floating_point():
        matrix = matrix.to(torch.float64)
    check_finite(name, matrix)
    return matrix


def _distances(test: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """Distances (rows, N) in float64, the training points in blocks that are cast one by one."""
    found = torch.empty(len(test), len(train), dtype=torch.float64, device=train.device)
    wide = test.double()
    each = max(1, _AT_ONCE // max(1, train.shape[1]))
    for start in range(0, len(train), each):
        part = train[start : start + each].double()
        # The matrix product gives equal rows unequal distances, by rounding.
        found[:, start : start + each] = torch.cdist(
            wide, part, compute_mode="donot_use_mm_for_euclid_dist"
        )
    return found


def _nearest_first(distances: torch.Tensor, tie: str, seed: int, start: int) -> torch.Tensor:
    """Training points by distance, per row; ties by position, or by (seed, test point)."""
    ordered, order = distances.sort(dim=1, stable=True)
    if tie == "index":
        return order
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(1).nonzero().squeeze(1).tolist()
    for row in tied:
        generator = keyed_generator(seed, "knn ties", start + row)
        shuffled = torch.randperm(distances.shape[1], generator=generator).to(distances.device)
        order[row] = shuffled[distances[row, shuffled].argsort(stable=True)]
    return order
