"""Cutting samples into parts, and drawing some of them, with the classes' shares kept."""

from __future__ import annotations

import numpy as np

from gradatim.compare.extras import needs_extra
from gradatim.validation import check_count, refusal

__all__ = ["apportion", "cut", "draw_stratified", "strata", "stratified_split"]


def stratified_split(
    labels: np.ndarray, *, seed: int, split: tuple[float, float, float] = (0.6, 0.2, 0.2)
) -> dict[str, np.ndarray]:
    """Split into training, validation and test, each with the classes' shares.

    The split belongs to the seed: all curricula of one seed share it, and another seed draws
    another test set, so that the spread over seeds holds the test set's chance as well.

    Args:
        labels: int (N,).
        seed: at least 0.
        split: shares of the three parts.

    Returns:
        Disjoint positions that together cover the data set, int64, by name of the part.

    Raises:
        ValueError: there are too few samples for three parts.

    Example:
        >>> parts = stratified_split(np.repeat([0, 1], 10), seed=0)
        >>> {name: len(positions) for name, positions in parts.items()}
        {'training': 12, 'validation': 4, 'test': 4}
    """
    training, rest = cut(np.arange(len(labels)), labels, split[0], seed=seed, at_least=1)
    share = round(split[1] / (split[1] + split[2]), 9)
    validation, test = cut(rest, labels[rest], share, seed=seed)
    return {"training": training, "validation": validation, "test": test}


def cut(
    positions: np.ndarray, labels: np.ndarray, share: float, *, seed: int, at_least: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a share of the positions and return them and the rest.

    Args:
        positions: int64 (N,).
        labels: int (N,), the strata whose shares both keep.
        share: in (0, 1), of the first part.
        seed: at least 0.
        at_least: samples of each class that the first part gets, however rare the class.

    Returns:
        Two disjoint arrays that together hold all positions, neither empty.

    Raises:
        ValueError: fewer than two samples.

    Example:
        >>> first, second = cut(np.arange(10), np.zeros(10), 0.7, seed=0)
        >>> len(first), len(second)
        (7, 3)
    """
    check_count("seed", seed)
    if len(positions) < 2:
        raise refusal("the data", "enough for every part", f"{len(positions)} samples to split")
    with needs_extra("gradatim compare"):
        from sklearn.model_selection import train_test_split
    count = len(positions)
    known = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(known)
    first = min(max(int(share * count), 1), count - 1)
    if sizes.min() >= 2 and min(first, count - first - 1) >= len(sizes):
        stratify = None if len(sizes) == 1 else known
        one, two = train_test_split(
            positions, train_size=share, stratify=stratify, random_state=seed
        )
        return np.asarray(one), np.asarray(two)
    # scikit-learn refuses rare classes here.
    first = max(min(max(round(share * count), 1), count - 1), at_least * len(sizes))
    if first >= count:
        got = f"{count} samples of {len(sizes)} classes to split"
        raise refusal("the data", "enough for every part", got)
    wanted = apportion(sizes, first, at_least=at_least)
    chosen = draw_stratified(known, wanted, generator=np.random.default_rng([seed, 5]))
    others = np.ones(count, bool)
    others[chosen] = False
    return positions[chosen], positions[others]


def strata(targets: np.ndarray) -> np.ndarray | None:
    """Group a single numeric target into ten equally full bins, so that parts cover its range.

    Args:
        targets: float (N,) or (N, T).

    Returns:
        int64 (N,) bins, or None where there are several targets or fewer than 100 samples.

    Example:
        >>> np.bincount(strata(np.arange(200.0)))
        array([20, 20, 20, 20, 20, 20, 20, 20, 20, 20])
    """
    if targets.ndim != 1 or len(targets) < 100:
        return None
    ranks = np.empty(len(targets), np.int64)
    ranks[np.argsort(targets, kind="stable")] = np.arange(len(targets))
    return ranks * 10 // len(targets)


def apportion(sizes: np.ndarray, total: int, *, at_least: int = 1) -> np.ndarray:
    """Share a total among groups in proportion to their sizes, by largest remainders.

    Args:
        sizes: int (C,), what each group has.
        total: how many to hand out, at most the sum of sizes.
        at_least: what each group gets first, as far as it has so many.

    Returns:
        int64 (C,) that sums to ``total``, nowhere above ``sizes``.

    Raises:
        ValueError: ``total`` does not give every group its least.

    Example:
        >>> apportion(np.array([60, 30, 1]), 10)
        array([6, 3, 1])
    """
    least = np.minimum(sizes, at_least)
    if total < least.sum():
        rule = f"at least {int(least.sum())}, {at_least} for each of {len(sizes)} classes or parts"
        raise refusal("limit", rule, total)
    counts, free = np.array(least, dtype=np.int64), sizes > 0
    while free.any():
        rest = total - int(counts[~free].sum())
        exact = sizes * (rest / int(sizes[free].sum()))
        small = free & (exact < least)
        if not small.any():
            counts[free] = np.floor(exact[free] + 1e-9)
            order = np.argsort(np.where(free, counts - exact, np.inf), kind="stable")
            counts[order[: total - int(counts.sum())]] += 1
            break
        free &= ~small  # these get their least, the others share what remains
    return counts


def draw_stratified(
    labels: np.ndarray, counts: np.ndarray | int, *, generator: np.random.Generator
) -> np.ndarray:
    """Draw so many samples of each class, or so many in all with the classes' shares.

    Fewer samples from the same generator state are a subset of more.

    Args:
        labels: int64 (N,), in [0, C).
        counts: int (C,), or one number.
        generator: drawn from once per sample.

    Returns:
        int64 positions in ascending order.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> drawn = draw_stratified(labels, 3, generator=np.random.default_rng(0))
        >>> labels[drawn]
        array([0, 0, 1])
    """
    sizes = np.bincount(labels)
    if not isinstance(counts, np.ndarray):
        counts = apportion(sizes, counts)
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, shuffled within
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(labels)) - np.repeat(starts, sizes)
    return np.sort(order[place < np.repeat(counts, sizes)])
