"""Orders by difficulty, and the easiest or hardest part of the data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch

from gradatim.selection.partial import check_generator, permutation, smallest
from gradatim.selection.sizes import prefix_size
from gradatim.validation import (
    as_vector,
    check_choice,
    check_count,
    check_finite,
    check_index,
    refusal,
)

__all__ = ["balanced_prefix", "highest", "lowest", "order_by"]

Tie = Literal["random", "index"]


def order_by(
    scores: torch.Tensor | Sequence[float],
    *,
    order: Literal["curriculum", "anti", "random"] = "curriculum",
    generator: torch.Generator | None = None,
    tie: Tie = "random",
) -> torch.Tensor:
    """Order samples for a curriculum: the first ones are shown first.

    "curriculum" shows the easiest first, "anti" the hardest, and "random" a fixed permutation
    that ignores the scores: under the same pace it is the control that tells the effect of the
    order from the effect of a growing data set. Anti-curriculum sorts the negated scores; an
    ascending order read backwards would turn ties around as well.

    Args:
        scores: d, (N,), higher is harder; infinities are allowed, NaN is not.
        order: which samples come first.
        generator: breaks ties, and makes the permutation of "random"; needed for both.
        tie: "random" (default), because data sets are often stored class by class and ties
            broken by position then select one class; "index" keeps positions increasing.

    Returns:
        int64 (N,), a permutation of the positions, on the device of ``scores``.

    Raises:
        TypeError: ``generator`` is missing where it is needed.
        ValueError: a score is NaN; ``order`` or ``tie`` is unknown.

    Example:
        >>> order_by([3.0, 1.0, 1.0, 5.0], tie="index")
        tensor([1, 2, 0, 3])
        >>> order_by([3.0, 1.0, 1.0, 5.0], order="anti", tie="index")
        tensor([3, 0, 1, 2])

    Caveats: warns if all scores are equal, which makes the order random (or the stored one).

    References:
        Wu, Dyer and Neyshabur, When do curricula work?, ICLR 2021 [wu2021].
    """
    vector = _scores(scores)
    check_choice("order", order, ("curriculum", "anti", "random"))
    generator = _tie_breaker(tie, generator, always=order == "random")
    if order == "random":
        return _shuffled(vector, generator)
    if vector.numel() > 1 and bool((vector == vector[0]).all()):
        warnings.warn(
            "All scores are equal: the curriculum has nothing to order by. "
            "Are they the scores you meant?",
            stacklevel=2,
        )
    if order == "anti":
        vector = -vector
    if generator is None:
        return vector.argsort(stable=True)
    shuffled = _shuffled(vector, generator)
    return shuffled[vector[shuffled].argsort(stable=True)]


def lowest(
    scores: torch.Tensor | Sequence[float],
    k: int,
    *,
    generator: torch.Generator | None = None,
    tie: Tie = "random",
) -> torch.Tensor:
    """Select the k samples of lowest score, in linear time and exactly k even if scores tie.

    Args:
        scores: (N,); infinities are allowed, NaN is not.
        k: samples to select, in [0, N].
        generator: breaks ties for the last place; needed for ``tie="random"``.
        tie: "random" (default) or "index", which prefers the first positions.

    Returns:
        int64 (k,), increasing positions, on the device of ``scores``.

    Raises:
        TypeError: ``k`` is not a whole number; ``generator`` is missing.
        ValueError: a score is NaN; k > N; ``tie`` is unknown.

    Example:
        >>> lowest([3.0, 1.0, 2.0, 1.0], 2, tie="index")
        tensor([1, 3])
    """
    vector = _scores(scores)
    k = check_count("k", k, at_most=vector.numel())
    return smallest(vector, k, _tie_breaker(tie, generator))


def highest(
    scores: torch.Tensor | Sequence[float],
    k: int,
    *,
    generator: torch.Generator | None = None,
    tie: Tie = "random",
) -> torch.Tensor:
    """Select the k samples of highest score: `lowest` of the negated scores.

    Args:
        scores: (N,); infinities are allowed, NaN is not.
        k: samples to select, in [0, N].
        generator: breaks ties for the last place; needed for ``tie="random"``.
        tie: "random" (default) or "index", which prefers the first positions.

    Returns:
        int64 (k,), increasing positions, on the device of ``scores``.

    Raises:
        TypeError: ``k`` is not a whole number; ``generator`` is missing.
        ValueError: a score is NaN; k > N; ``tie`` is unknown.

    Example:
        >>> highest([3.0, 1.0, 2.0, 3.0], 1, tie="index")
        tensor([0])
    """
    vector = _scores(scores)
    k = check_count("k", k, at_most=vector.numel())
    return smallest(-vector, k, _tie_breaker(tie, generator))


def balanced_prefix(
    order: torch.Tensor, labels: torch.Tensor | Sequence[int], fraction: float
) -> torch.Tensor:
    """Take the visible fraction within each class, so that no class waits for the others.

    A plain prefix of an order by difficulty can start with the easy classes alone. A class of n
    samples in ``order`` contributes its first `prefix_size` (fraction, n), at least one.

    Args:
        order: int64 (M,), distinct positions in [0, N), as `order_by` gives them.
        labels: (N,), whole numbers, the class of each position; numbers may be missing.
        fraction: in [0, 1].

    Returns:
        int64, the visible part of ``order`` in the same order.

    Raises:
        TypeError: ``fraction`` is not a real number, ``order`` no tensor, ``labels`` no numbers.
        ValueError: ``order`` is not int64 positions into ``labels``, ``labels`` are not whole
            numbers, or ``fraction`` is outside its range.

    Example:
        >>> order = torch.tensor([4, 2, 0, 1, 3, 5])
        >>> balanced_prefix(order, [7, 7, 0, 7, 0, 7], 0.5)
        tensor([4, 0, 1])
    """
    if not isinstance(order, torch.Tensor):
        kind = type(order).__name__
        raise TypeError(str(refusal("order", "an int64 tensor of positions", kind)))
    rule = "whole numbers, one per sample"
    try:
        groups = torch.as_tensor(labels, device=order.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(str(refusal("labels", rule, type(labels).__name__))) from error
    if groups.ndim != 1 or groups.is_floating_point() or groups.is_complex():
        raise refusal("labels", rule, groups)
    check_index("order", order, groups.numel())
    prefix_size(fraction, 1)  # refuses a bad fraction even where there is nothing to take
    _, classes, sizes = groups[order].unique(return_inverse=True, return_counts=True)
    visible = torch.tensor([prefix_size(fraction, n) for n in sizes.tolist()], dtype=torch.int64)
    # Sorted by class and stably, each class is a run in order; ranks count from its start.
    by_class = classes.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    ranks = torch.arange(order.numel(), device=order.device) - starts[classes[by_class]]
    kept = by_class[ranks < visible.to(order.device)[classes[by_class]]]
    return order[kept.sort().values]


def _scores(scores: torch.Tensor | Sequence[float]) -> torch.Tensor:
    """Return the scores as float32 or float64, without NaN."""
    vector = as_vector("scores", scores, finite=False)
    if bool(vector.isnan().any()):
        check_finite("scores", vector.nan_to_num(nan=float("nan"), posinf=0, neginf=0))
    return vector.to(torch.promote_types(vector.dtype, torch.float32))


def _tie_breaker(
    tie: str, generator: torch.Generator | None, always: bool = False
) -> torch.Generator | None:
    """Return the generator that breaks ties, None for the order of positions."""
    check_choice("tie", tie, ("random", "index"))
    return check_generator(generator) if always or tie == "random" else None


def _shuffled(vector: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    return permutation(vector.numel(), check_generator(generator)).to(vector.device)
