"""Which samples train, validate and test, for a seed and, in cross-validation, a fold."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradatim.compare.data.loading import Loaded
from gradatim.compare.data.rows import PARTS
from gradatim.compare.data.splits import apportion, cut, draw_stratified, strata
from gradatim.validation import check_count, refusal

__all__ = ["fold_facts", "folds_of", "parts_of"]


def parts_of(loaded: Loaded, *, seed: int, fold: int | None = None) -> dict[str, np.ndarray]:
    """Say which samples train, validate and test, before any stress.

    Without folds, parts that the source lacks are drawn from its training part. With folds, the
    samples of one fold test, and validation is drawn from those of the others, in the proportion
    that ``split`` gives the two.

    Args:
        loaded: from `load`.
        seed: at least 0; of what is drawn.
        fold: which one tests, from 1; None where the source has no folds.

    Returns:
        int64 positions by part; disjoint.

    Raises:
        ValueError: too few samples, or ``fold`` is missing, unknown or not asked for.

    Example:
        >>> from gradatim.compare.data import Source, load
        >>> parts = parts_of(load(Source("iris", folds=5)), seed=0, fold=2)
        >>> {part: len(positions) for part, positions in parts.items()}
        {'training': 90, 'validation': 30, 'test': 30}
    """
    parts, folds = _limited(loaded, seed), folds_of(loaded)
    if folds is None:
        if fold is not None:
            raise refusal("fold", "left out for data without folds", fold)
    else:
        rule = f"one of 1 to {folds.max()}"
        if fold is None or not 1 <= check_count("fold", fold) <= folds.max():
            raise refusal("fold", rule, fold)
        known = parts["training"]
        parts["training"], parts["test"] = known[folds[known] != fold], known[folds[known] == fold]
    shares: dict[str, float] = dict(zip(PARTS, loaded.source.split, strict=True))
    training, rest = parts["training"], [part for part in shares if part not in parts]
    if rest:
        wanted = shares["training"] + sum(shares[part] for part in rest)
        share = round(shares["training"] / wanted, 9)  # 0.6 / 0.8 is three quarters
        groups = _groups(loaded, training)
        known = groups[training]
        training, held_out = cut(training, known, share, seed=seed, at_least=1)
        parts["training"] = training
        if len(rest) == 2:
            half = round(shares["validation"] / (shares["validation"] + shares["test"]), 9)
            drawn = cut(held_out, groups[held_out], half, seed=seed)
            parts["validation"], parts["test"] = drawn
        else:
            parts[rest[0]] = held_out
    return {part: parts[part] for part in shares}


def folds_of(loaded: Loaded) -> np.ndarray | None:
    """Number the fold of each sample; no seed changes it.

    A number of folds is drawn, with the classes' shares in each (a single regression target's ten
    equally full bins); a column is taken as it is.

    Args:
        loaded: from `load`.

    Returns:
        int64 (N,), from 1; 0 for samples that ``limit`` leaves out and for a validation part that
        the source itself gives. None where the source has no folds.

    Raises:
        ValueError: more folds than samples of a class, fewer than two that have samples, or a
            class that lies in one fold alone.

    Example:
        >>> from gradatim.compare.data import Source, load
        >>> folds = folds_of(load(Source("iris", folds=4)))
        >>> np.bincount(folds)
        array([ 0, 38, 38, 37, 37])
    """
    wanted = loaded.source.folds
    if wanted is None:
        return None
    known = _limited(loaded, 0)["training"]
    folds = np.zeros(len(loaded.targets), np.int64)
    if isinstance(wanted, int):
        folds[known] = _drawn(loaded, known, wanted)
        return folds
    assert loaded.folds is not None, "load numbers them"
    used, folds[known] = np.unique(loaded.folds[known], return_inverse=True)
    folds[known] += 1
    if len(used) < 2:
        raise refusal("folds", "at least two that have samples", len(used), "Is limit too low?")
    _check_classes(loaded, known, folds)
    return folds


def _drawn(loaded: Loaded, known: np.ndarray, count: int) -> np.ndarray:
    """Deal the samples out, class by class, each class in an order of its own."""
    groups = _groups(loaded, known)[known]
    smallest, words = len(known), "the number of samples"
    if loaded.kind == "classification":
        sizes = np.bincount(groups, minlength=len(loaded.label_names))
        rare = int(np.where(sizes > 0, sizes, len(known) + 1).argmin())
        smallest, words = int(sizes[rare]), f"the samples of {loaded.label_names[rare]!r}"
    if count > smallest:
        raise refusal("folds", f"at most {smallest}, {words}", count)
    order = np.random.default_rng([6]).permutation(len(known))
    order = order[np.argsort(groups[order], kind="stable")]
    folds = np.empty(len(known), np.int64)
    folds[order] = np.arange(len(known)) % count + 1
    return folds


def _check_classes(loaded: Loaded, known: np.ndarray, folds: np.ndarray) -> None:
    """Refuse a class or label that is in one fold alone: nothing could learn it for that fold."""
    if loaded.kind == "regression":
        return
    targets = loaded.targets
    if targets.ndim == 1:
        targets = np.eye(len(loaded.label_names), dtype=bool)[targets]
    counts = np.stack([targets[folds == k].sum(0) for k in range(1, int(folds.max()) + 1)])
    alone = np.flatnonzero((counts > 0).sum(0) == 1)
    if len(alone):
        names = ", ".join(repr(loaded.label_names[i]) for i in alone[:5])
        raise refusal("folds", "such that every class is in two or more", f"one alone for {names}")


def fold_facts(loaded: Loaded) -> dict[str, Any]:
    """Tell the folds' sizes by name, for the record.

    Args:
        loaded: from `load`.

    Returns:
        Sizes by the column's values, or by number; empty where the source has no folds.

    Example:
        >>> from gradatim.compare.data import Source, load
        >>> fold_facts(load(Source("iris", folds=4)))
        {'1': 38, '2': 38, '3': 37, '4': 37}
    """
    folds = folds_of(loaded)
    if folds is None:
        return {}
    numbers = range(1, int(folds.max()) + 1)
    names = [str(number) for number in numbers]
    if loaded.folds is not None:
        names = [loaded.fold_names[loaded.folds[folds == number][0]] for number in numbers]
    return {name: int((folds == k).sum()) for name, k in zip(names, numbers, strict=True)}


def _groups(loaded: Loaded, positions: np.ndarray) -> np.ndarray:
    """Number the groups whose shares the parts keep, for all samples; one group is no group."""
    if loaded.kind == "classification":
        return loaded.targets
    groups = np.zeros(len(loaded.targets), np.int64)
    bins = strata(loaded.targets[positions]) if loaded.kind == "regression" else None
    if bins is not None:
        groups[positions] = bins
    return groups


def _limited(loaded: Loaded, seed: int) -> dict[str, np.ndarray]:
    parts, limit = dict(loaded.parts), loaded.source.limit
    total = sum(map(len, parts.values()))
    if limit is None or limit >= total:
        return parts
    sizes = apportion(np.array([len(at) for at in parts.values()]), limit)
    for (part, positions), size in zip(parts.items(), sizes, strict=True):
        # What every seed is judged on stays one and the same: a given test part, and all folds.
        shared = part == "test" or loaded.source.folds is not None
        generator = np.random.default_rng([4] if shared else [seed, 4])
        groups = np.zeros(len(positions), np.int64)
        if loaded.kind == "classification":
            groups = loaded.targets[positions]
        least = 2 if part == "training" else 0
        counts = apportion(np.bincount(groups), int(size), at_least=least)
        parts[part] = positions[draw_stratified(groups, counts, generator=generator)]
    return parts
