"""What the figures about norms of texts show, as arrays: epochs, and lengths (SPDCL)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from gradatim.analysis.hardness_figures import _record
from gradatim.validation import check_choice, check_count, refusal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["LengthBins", "NormsAt", "first_norms", "length_and_norm", "norms_by_epoch"]


class NormsAt(NamedTuple):
    """Norms that were measured at one moment.

    Attributes:
        epochs: trained by then: whole before an epoch, and a half more for an epoch's own passes.
        norms: float64 (n,), of the texts that were measured then.
    """

    epochs: float
    norms: np.ndarray


class LengthBins(NamedTuple):
    """Texts in bins of equal size, and how long and how large those of each are.

    Attributes:
        texts: int64 (bins,), how many.
        length: float64 (bins,), mean length.
        norm: float64 (bins,), mean norm.
        correlation: Spearman's, of all lengths and norms; NaN where either is constant.
    """

    texts: np.ndarray
    length: np.ndarray
    norm: np.ndarray
    correlation: float


def norms_by_epoch(norm: ArrayLike, seen: ArrayLike, before: ArrayLike) -> list[NormsAt]:
    """Take the norms of each moment from a recording of `gradatim.SPDCL` (figures 2 and 3).

    Each row has the norms seen last, which may be old: what is not new in a row is left out.

    Args:
        norm: (T, N), ``recording["SPDCL.norm"]``.
        seen: (T, N), ``recording["SPDCL.seen"]``.
        before: (T, N), ``recording["SPDCL.before"]``.

    Returns:
        The moments in order, those of the pretrained model first where it was surveyed.

    Raises:
        ValueError: other shapes.

    Example:
        >>> norm = [[5.0, 3.0], [4.0, 3.5], [4.0, 3.5]]
        >>> found = norms_by_epoch(norm, [[0, 0], [2, 2], [2, 2]], [[np.nan] * 2] + 2 * [[5, 3]])
        >>> [(moment.epochs, moment.norms.tolist()) for moment in found]
        [(0.0, [5.0, 3.0]), (1.0, [4.0, 3.5])]
    """
    norms, times, earlier = _alike(norm, seen, before)
    found, last = [], -1
    for number, (row, when) in enumerate(zip(norms, times, strict=True)):
        newest = int(when.max())
        if number == 0 and newest == 1:
            first = first_norms(row, when, earlier[0])
            found.append(NormsAt(0.0, first[np.isfinite(first)]))
        if newest > last:
            members = (when == newest) & np.isfinite(row)
            found.append(NormsAt(newest / 2, row[members]))
            last = newest
    return [moment for moment in found if len(moment.norms)]


def first_norms(norm: ArrayLike, seen: ArrayLike, before: ArrayLike) -> np.ndarray:
    """Norms d_1 under the model that training began with.

    Args:
        norm: (N,), after the first epoch: ``recording["SPDCL.norm"][0]``.
        seen: (N,), likewise.
        before: (N,), likewise.

    Returns:
        float64 (N,), NaN where it is not known any more.

    Raises:
        ValueError: other shapes.

    Example:
        >>> first_norms([7.0, 4.0, 9.0], [0, 1, 2], [np.nan, 5.0, 6.0])
        array([ 7.,  5., nan])
    """
    given = (np.asarray(values, float)[None] for values in (norm, seen, before))
    norms, times, earlier = (row[0] for row in _alike(*given))
    return np.select([times == 0, times == 1], [norms, earlier], np.nan)


def length_and_norm(
    lengths: ArrayLike,
    norms: ArrayLike,
    bins: int = 6,
    *,
    by: Literal["norm", "length"] = "norm",
) -> LengthBins:
    """Sort texts into bins and compare lengths with norms (SPDCL, Table I).

    Args:
        lengths: (N,), in tokens, words or characters, finite.
        norms: (N,), finite.
        bins: how many, in [1, N]; the first N mod ``bins`` have one text more.
        by: what the texts are sorted by, smallest first: ``"norm"``, as in the paper, whose bins
            are by difficulty, or ``"length"``. Ties are by the other.

    Raises:
        ValueError: other shapes, values that are not finite, or more bins than texts.

    Example:
        >>> found = length_and_norm([10, 40, 20, 30], [1.0, 9.0, 3.0, 2.0], bins=2)
        >>> found.length, found.norm, round(found.correlation, 6)
        (array([20., 30.]), array([1.5, 6. ]), 0.8)
    """
    check_choice("by", by, ("norm", "length"))
    given = {"lengths": np.asarray(lengths, float), "norms": np.asarray(norms, float)}
    for name, values in given.items():
        if values.ndim != 1 or not values.size or len(values) != len(given["lengths"]):
            raise refusal(name, "of shape (N,), as lengths and norms both", values.shape)
        if not np.isfinite(values).all():
            raise refusal(name, "finite", values[~np.isfinite(values)][:10].tolist())
    long, large = given.values()
    check_count("bins", bins, at_least=1, at_most=len(long))
    keys = (long, large) if by == "norm" else (large, long)  # the last one counts first
    parts = np.array_split(np.lexsort(keys), bins)
    return LengthBins(
        np.array([len(part) for part in parts]),
        np.array([long[part].mean() for part in parts]),
        np.array([large[part].mean() for part in parts]),
        _correlation(_ranks(long), _ranks(large)),
    )


def _alike(*records: ArrayLike) -> list[np.ndarray]:
    names = ("norm", "seen", "before")
    rows = [_record(name, values) for name, values in zip(names, records, strict=True)]
    for name, row in zip(names, rows, strict=True):
        if row.shape != rows[0].shape:
            raise refusal(name, f"of shape {rows[0].shape}, as norm", row.shape)
    return rows


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, the mean of theirs for ties."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size > 0 else float("nan")
