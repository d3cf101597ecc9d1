"""What the figures about hardness and dynamics show, as arrays: no drawing here.

Records are (T, N): one row per epoch, one column per sample, NaN where a sample was not observed
yet. `gradatim.figures` draws them; `gradatim.analysis.Recording` has them. Hardness has many ties
(samples that never flipped): they are broken at random, alike at each call and differently in each
row and run, so that groups do not follow the order of storage and chance remains chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradatim.analysis.agreement import _end, agreement, overlap, overlap_matrix
from gradatim.analysis.forgetting import forgetting_events
from gradatim.analysis.groups import GroupDynamics, group_dynamics, separation
from gradatim.validation import check_count, refusal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "AgreementCurves",
    "Band",
    "Extremes",
    "Overlaps",
    "agreement_curves",
    "band",
    "event_counts",
    "extremes",
    "flips",
    "groups_from",
    "observed_samples",
    "overlaps",
    "separation_curve",
]


class Band(NamedTuple):
    """A mean with its spread, over epochs.

    Attributes:
        mean: float64 (T,); NaN where there is no sample.
        deviation: float64 (T,), standard deviation over samples.
    """

    mean: np.ndarray
    deviation: np.ndarray


class Overlaps(NamedTuple):
    """Which share of their extremes every two epochs have in common.

    Attributes:
        rows: int64 (K,), which rows of the record.
        top: float64 (K, K), of the m hardest; NaN below the diagonal.
        bottom: float64 (K, K), of the m easiest.
        chance: m / N, what unrelated scores would share.
        tied: share of all samples that tie at the border of the top, and of the bottom, in the last
            row; above ``chance`` the border cuts mostly by lot.
    """

    rows: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    chance: float
    tied: tuple[float, float]


class Extremes(NamedTuple):
    """Some samples from both ends of a score.

    Attributes:
        hard: int64 (count,), positions drawn from the m highest.
        easy: int64 (count,), positions drawn from the m lowest.
    """

    hard: np.ndarray
    easy: np.ndarray


class AgreementCurves(NamedTuple):
    """How two runs agree about the same samples, epoch by epoch.

    Attributes:
        tau: float64 (T,), Kendall's tau-b; all are NaN where a score is constant.
        p_value: float64 (T,), of tau.
        top: float64 (T,), shared part of the m hardest.
        bottom: float64 (T,), shared part of the m easiest.
        chance: m / N.
    """

    tau: np.ndarray
    p_value: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    chance: float


def observed_samples(*records: ArrayLike) -> np.ndarray:
    """Find the samples that have a value in every row of every record.

    Args:
        records: (T, N) each, or (N,).

    Returns:
        int64 (M,), positions.

    Raises:
        ValueError: there is none.

    Example:
        >>> observed_samples([[1.0, np.nan, 2.0]], [3.0, 4.0, 5.0])
        array([0, 2])
    """
    finite = [np.isfinite(np.atleast_2d(np.asarray(record, float))).all(0) for record in records]
    found = np.flatnonzero(np.logical_and.reduce(finite))
    if not found.size:
        raise refusal("records", "of samples that were observed in every epoch shown", "none")
    return found


def flips(correct: ArrayLike) -> np.ndarray:
    """Mark where a prediction turned from right to wrong or back since the row before.

    Args:
        correct: (T, N), 1 where right, 0 where wrong.

    Returns:
        float64 (T, N), 0 or 1; NaN in the first row and where a value is missing.

    Example:
        >>> flips([[1, 0], [0, 0], [1, 1]])
        array([[nan, nan],
               [ 1.,  0.],
               [ 1.,  1.]])
    """
    rows = _record("correct", correct)
    return np.concatenate([np.full_like(rows[:1], np.nan), np.abs(np.diff(rows, axis=0))])


def band(record: ArrayLike, chosen: ArrayLike | None = None) -> Band:
    """Average each row over some samples, leaving out those without a value.

    Args:
        record: (T, N).
        chosen: bool (N,) or (T, N), the samples; None is all.

    Returns:
        Mean and standard deviation per row.

    Example:
        >>> band([[1.0, 3.0, np.nan], [2.0, 2.0, 8.0]], [True, True, False]).mean
        array([2., 2.])
    """
    rows = _record("record", record)
    used = np.isfinite(rows)
    if chosen is not None:
        used &= np.asarray(chosen, dtype=bool)
    count = used.sum(1).astype(float)
    count[count == 0] = np.nan
    mean = np.where(used, rows, 0).sum(1) / count
    spread = np.where(used, rows - mean[:, None], 0)
    return Band(mean, np.sqrt((spread**2).sum(1) / count))


def groups_from(
    hardness: ArrayLike, record: ArrayLike, *, row: int, m: int | None = None
) -> GroupDynamics:
    """Split by the hardness at one epoch, and follow a record from there on (DIHCL, figure 2).

    As `group_dynamics`, of the samples with a value in all epochs that are followed.

    Args:
        hardness: (T, N), higher is harder.
        record: (T, N): losses or flips.
        row: from which row on.
        m: size of the hardest and of the easiest group; None is a fifth.

    Returns:
        Moments, means and deviations; ``members`` are positions in the record.

    Example:
        >>> hardness = [[0.1, 0.9, 0.5], [0.2, 0.8, 0.4]]
        >>> found = groups_from(hardness, [[1, 5, 3], [0, 4, 2]], row=1, m=1)
        >>> found.moments, found.mean["hard"]
        (array([1]), array([4.]))
    """
    scores, rows = _record("hardness", hardness), _record("record", record)
    if scores.shape != rows.shape:
        raise refusal("record", f"of shape {scores.shape}, as hardness", rows.shape)
    check_count("row", row, at_most=len(rows) - 1)
    used = observed_samples(scores[row], rows[row:])
    found = group_dynamics(_places(scores[row, used], row), rows[row:, used], moment=0, m=m)
    return GroupDynamics(
        found.moments + row,
        found.mean,
        found.deviation,
        {name: used[members] for name, members in found.members.items()},
    )


def overlaps(hardness: ArrayLike, *, every: int, m: int | None = None) -> Overlaps:
    """Compare the hardest and the easiest samples of every two epochs (DIHCL, figure 3).

    Args:
        hardness: (T, N).
        every: take the rows every - 1, 2 every - 1, ...: the ends of each ``every`` epochs.
        m: size of the ends; None is a fifth.

    Example:
        >>> found = overlaps([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]], every=1, m=2)
        >>> float(found.top[0, 1]), float(found.bottom[0, 1])
        (0.5, 1.0)
    """
    rows = _record("hardness", hardness)
    check_count("every", every, at_least=1, at_most=len(rows))
    chosen = np.arange(every - 1, len(rows), every)
    used = observed_samples(rows[chosen])
    values = np.stack([_places(rows[row, used], int(row)) for row in chosen])
    m = _end(m, len(used))
    top, bottom = (overlap_matrix(values, m=m, end=end) for end in ("top", "bottom"))
    last = np.sort(rows[chosen[-1], used])
    tied = (float(np.mean(last == last[-m])), float(np.mean(last == last[m - 1])))
    return Overlaps(chosen, top, bottom, m / len(used), tied)


def extremes(hardness: ArrayLike, *, count: int = 10, m: int | None = None) -> Extremes:
    """Draw a few of the hardest and of the easiest samples (DIHCL, figure 4); the same each time.

    Args:
        hardness: (N,), NaN where a sample was not observed.
        count: how many of each.
        m: size of the ends they are drawn from; None is a fifth.

    Example:
        >>> extremes([5.0, 1.0, 4.0, 2.0, 3.0], count=1, m=1)
        Extremes(hard=array([0]), easy=array([1]))
    """
    values = np.asarray(hardness, dtype=float)
    if values.ndim != 1:
        raise refusal("hardness", "of shape (N,)", values.shape)
    used = observed_samples(values)
    m = _end(m, len(used))
    order = used[np.argsort(-_places(values[used], 0))]
    draw = np.random.default_rng(0)
    count = check_count("count", count, at_least=1)
    ends = (order[:m], order[len(order) - m :])
    return Extremes(*(np.sort(draw.permutation(end)[:count]) for end in ends))


def agreement_curves(
    first: ArrayLike, second: ArrayLike, *, m: int | None = None
) -> AgreementCurves:
    """Compare the hardness that two runs found, epoch by epoch (DIHCL, figure 5).

    Args:
        first: (T, N).
        second: (T, N), of the same samples and epochs.
        m: size of the ends; None is a fifth.

    Raises:
        ValueError: other shapes.
        ImportError: SciPy is missing.

    Example:
        >>> found = agreement_curves([[1, 2, 3, 4, 5]], [[2, 1, 4, 3, 5]], m=2)
        >>> found.tau.round(3), found.top, found.bottom
        (array([0.6]), array([0.5]), array([1.]))
    """
    rows, others = _record("first", first), _record("second", second)
    if rows.shape != others.shape:
        raise refusal("second", f"of shape {rows.shape}, as first", others.shape)
    used = observed_samples(rows, others)
    m = _end(m, len(used))
    table = np.full((len(rows), 4), np.nan)
    for number, (row, other) in enumerate(zip(rows[:, used], others[:, used], strict=True)):
        if np.ptp(row) and np.ptp(other):
            whole = agreement(row, other, m=m)
            places = _places(row, 2 * number), _places(other, 2 * number + 1)
            ends = (overlap(*places, m=m, end=end) for end in ("top", "bottom"))
            table[number] = whole.tau, whole.p_value, *ends
    return AgreementCurves(*table.T, chance=m / len(used))


def separation_curve(hardness: ArrayLike, corrupted: ArrayLike) -> np.ndarray:
    """Tell how well the hardness of each epoch finds wrong labels.

    Args:
        hardness: (T, N).
        corrupted: bool (N,), some and not all true.

    Returns:
        float64 (T,): area under the ROC curve over the samples with a value; NaN where these are
        all of one kind.

    Example:
        >>> separation_curve([[0.1, 0.4, 0.35, 0.8]], [False, False, True, True])
        array([0.75])
    """
    rows, wrong = _record("hardness", hardness), np.asarray(corrupted, dtype=bool)
    if wrong.shape != rows.shape[1:]:
        raise refusal("corrupted", f"one per sample: {rows.shape[1]}", wrong.shape)
    result = np.full(len(rows), np.nan)
    for number, row in enumerate(rows):
        used = np.isfinite(row)
        if 0 < wrong[used].sum() < used.sum():
            result[number] = separation(row[used], wrong[used])
    return result


def event_counts(correct: ArrayLike, chosen: ArrayLike | None = None) -> tuple[np.ndarray, int]:
    """Count the samples with 0, 1, 2, ... forgetting events.

    Args:
        correct: (T, N): 1 where right, 0 where wrong, NaN where not observed.
        chosen: bool (N,), the samples; None is all.

    Returns:
        int64 (E,), samples by number of events, and how many were never right.

    Example:
        >>> event_counts([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
        (array([1, 1]), 1)
    """
    rows = _record("correct", correct)
    events = forgetting_events(rows)
    events = events if chosen is None else events[np.asarray(chosen, dtype=bool)]
    return np.bincount(events[np.isfinite(events)].astype(int)), int(np.isinf(events).sum())


def _places(values: np.ndarray, seed: int) -> np.ndarray:
    """Ranks (N,) from 0 up, ties in random order."""
    mixed = np.random.default_rng(seed).permutation(len(values))
    places = np.empty(len(values))
    places[mixed[np.argsort(values[mixed], kind="stable")]] = np.arange(len(values))
    return places


def _record(name: str, values: ArrayLike) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or not found.size:
        raise refusal(name, "of shape (T, N), not empty", found.shape)
    return found
