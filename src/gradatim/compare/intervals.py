"""Intervals for a paired difference that count two sources of chance: seeds and test items.

Eight seeds judged on the same 100 test items agree about those items. Their spread says how much a
new seed would change the difference, and nothing about what other items would have said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from gradatim.compare.extras import needs_extra
from gradatim.validation import check_count, check_number, refusal

__all__ = ["BootstrapInterval", "bootstrap_interval"]

Effects: TypeAlias = "tuple[np.ndarray, np.ndarray | None, list[np.ndarray]]"

CHUNK = 2**22  # drawn values held at a time: 32 MB


@dataclass(frozen=True)
class BootstrapInterval:
    """A mean paired difference and how far seeds and items could move it.

    Attributes:
        difference: mean over all seeds and items.
        interval: confidence interval.
        seed_share: part of the variance that is due to seeds, in [0, 1]; more test items would not
            reduce it.
        freedom: degrees of freedom behind the variance; few seeds that matter make it small and
            the interval wide.
        resamples: their number.

    Example:
        >>> bootstrap_interval(np.ones((3, 4)), shared_items=True).interval
        (1.0, 1.0)
    """

    difference: float
    interval: tuple[float, float]
    seed_share: float
    freedom: float
    resamples: int


def bootstrap_interval(
    differences: Sequence[Any] | np.ndarray,
    *,
    shared_items: bool,
    confidence: float = 0.95,
    resamples: int = 2000,
    generator: np.random.Generator | None = None,
) -> BootstrapInterval:
    """Resample seeds and test items together.

    With items shared by all seeds, seeds and items are crossed: both are drawn with replacement,
    and a resample holds the chosen items of the chosen seeds. Otherwise items are nested: seeds are
    drawn, then items within each.

    Drawn naively, both count chance twice, since the mean of a seed already varies with its items
    (and the other way round). So the data are split into the mean, effects of seeds, effects of
    items (if shared) and what remains; the effects are shrunk to the variances that an analysis of
    variance gives them, and the parts are resampled together. The spread of the resampled means
    is then an unbiased estimate of the true one, save that a negative part counts as 0.
    Percentiles of few seeds are too close together: all are drawn apart by the ratio of
    Student's to the normal quantile, with Satterthwaite's degrees of freedom.

    Args:
        differences: per seed, the curriculum's value minus the baseline's for each of its test
            items, (N,); for shared items in the same order and number. At least 2 seeds with at
            least 2 items each.
        shared_items: whether all seeds were judged on the same items.
        confidence: coverage, in (0, 1).
        resamples: at least 100.
        generator: source of the draws; None starts one from seed 0.

    Returns:
        The mean difference with its interval. For nested items every seed counts the same,
        whatever the number of its items.

    Raises:
        ValueError: too few seeds or items, unequal numbers of shared items, or values that are not
            finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> items = rng.normal(0.1, 1.0, size=50)
        >>> seeds = [items + rng.normal(0, 0.1, size=50) for _ in range(5)]
        >>> low, high = bootstrap_interval(seeds, shared_items=True).interval
        >>> bool(low < np.mean(seeds) < high)
        True

    References:
        Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 2007 (crossed resampling and its bias).
        Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8 (nested
        resampling and shrinkage).
        Satterthwaite, "An approximate distribution of estimates of variance components",
        Biometrics Bulletin 1946.
    """
    rows = _rows(differences, shared=shared_items)
    check_number("confidence", confidence, above=0, below=1)
    check_count("resamples", resamples, at_least=100)
    generator = np.random.default_rng(0) if generator is None else generator
    with needs_extra("gradatim.compare.bootstrap_interval"):
        from scipy import special
    center = float(np.mean([row.mean() for row in rows]))
    split = _crossed if shared_items else _nested
    effects, seed_share, freedom = split(rows, center)
    moved = _resampled(effects, resamples, generator)
    upper = (1 + confidence) / 2
    wider = float(special.stdtrit(freedom, upper) / special.ndtri(upper))
    low, high = np.quantile(moved, [1 - upper, upper]) * wider + center
    return BootstrapInterval(center, (float(low), float(high)), seed_share, freedom, resamples)


def _crossed(rows: list[np.ndarray], center: float) -> tuple[Effects, float, float]:
    """Two-way analysis of variance without replication, both factors random."""
    table = np.stack(rows)
    seeds, items = table.shape
    of_seed, of_item = table.mean(1) - center, table.mean(0) - center
    rest = table - center - of_seed[:, None] - of_item
    df_seed, df_item = seeds - 1, items - 1
    ms_seed = items * float((of_seed**2).sum()) / df_seed
    ms_item = seeds * float((of_item**2).sum()) / df_item
    ms_rest = float((rest**2).sum()) / (df_seed * df_item)
    # Variances of the mean that seeds, items and the rest are answerable for.
    size = seeds * items
    parts = (max(ms_seed - ms_rest, 0) / size, max(ms_item - ms_rest, 0) / size, ms_rest / size)
    effects = (
        _with_variance(of_seed, parts[0] * seeds),
        _with_variance(of_item, parts[1] * items),
        list(_with_variance(rest, ms_rest)),
    )
    spread = (ms_seed / size) ** 2 / df_seed + (ms_item / size) ** 2 / df_item
    spread += (ms_rest / size) ** 2 / (df_seed * df_item)
    freedom = sum(parts) ** 2 / spread if spread else df_seed
    return effects, _share(parts[0], sum(parts)), max(freedom, min(df_seed, df_item))


def _nested(rows: list[np.ndarray], center: float) -> tuple[Effects, float, float]:
    """One-way analysis of variance of the seeds' means; items vary within a seed."""
    means = np.array([row.mean() for row in rows])
    seeds = len(rows)
    total = float(means.var(ddof=1))  # holds the items' chance already
    within = float(np.mean([row.var(ddof=1) / len(row) for row in rows]))
    between = max(total - within, 0)
    rest = [_with_variance(row - row.mean(), float(row.var(ddof=1))) for row in rows]
    variance = (between + within) / seeds
    items = sum(len(row) - 1 for row in rows)
    spread = (total / seeds) ** 2 / (seeds - 1) if between else (within / seeds) ** 2 / items
    freedom = max(variance**2 / spread, seeds - 1) if spread else seeds - 1
    effects = (_with_variance(means - center, between), None, rest)
    return effects, _share(between, between + within), freedom


def _with_variance(effects: np.ndarray, variance: float) -> np.ndarray:
    """Stretch or shrink centred effects so that one drawn at random has this variance."""
    present = float((effects**2).mean())
    return effects * np.sqrt(variance / present) if present else effects


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _resampled(effects: Effects, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw seeds and items and add up the means of their effects, (resamples,)."""
    of_seed, of_item, rest = effects
    seeds = len(of_seed)
    moved, table = np.empty(resamples), np.stack(rest) if of_item is not None else rest[0]
    largest = max(map(len, rest))
    chunk = max(1, CHUNK // max(largest, seeds))
    for first in range(0, resamples, chunk):
        count = min(chunk, resamples - first)
        chosen = generator.integers(0, seeds, (count, seeds))
        result = of_seed[chosen].mean(1)
        times = (chosen[:, :, None] == np.arange(seeds)).sum(1)  # how often each seed was drawn
        if of_item is not None:
            # All seeds of a resample meet the same items, each as often as it was drawn.
            size = len(of_item)
            drawn = generator.integers(0, size, (count, size), dtype=np.int32)
            drawn += size * np.arange(count, dtype=np.int32)[:, None]
            often = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
            result += (often * (of_item + times @ table / seeds)).sum(1) / size
        else:
            # A seed drawn k times brings k draws of items: the mean of k sets, each its own.
            for place in range(seeds):
                result += _one_set_each(rest, chosen[:, place], generator) / seeds
        moved[first : first + count] = result
    return moved


def _one_set_each(
    rest: list[np.ndarray], chosen: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Draw a set of items from the seed named for each resample; its mean, (resamples,)."""
    result = np.empty(len(chosen))
    for seed, row in enumerate(rest):
        mine = np.flatnonzero(chosen == seed)
        drawn = row[generator.integers(0, len(row), (len(mine), len(row)))]
        result[mine] = drawn.mean(1)
    return result


def _rows(differences: Sequence[Any] | np.ndarray, *, shared: bool) -> list[np.ndarray]:
    rows = [np.asarray(row, dtype=np.float64) for row in differences]
    if len(rows) < 2:
        cause = "One run tells nothing about the spread: are there more seeds?"
        raise refusal("differences", "those of at least two seeds", len(rows), cause)
    sizes = [row.shape for row in rows]
    if any(row.ndim != 1 or len(row) < 2 for row in rows):
        raise refusal("differences", "one value per test item, at least two a seed", sizes)
    if shared and len(set(sizes)) > 1:
        cause = "Did every seed have its own test set? Then shared_items is False."
        raise refusal("differences", "of the same items for every seed", sizes, cause)
    if not all(np.isfinite(row).all() for row in rows):
        raise refusal("differences", "finite", "values that are not")
    return rows
