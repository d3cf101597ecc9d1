"""Whether two rankings of the samples agree: rank correlation, and overlap at both ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
import torch

from gradatim.validation import check_choice, check_count, refusal

__all__ = ["Agreement", "agreement", "overlap", "overlap_matrix"]

Values: TypeAlias = "torch.Tensor | np.ndarray | list[float]"
End: TypeAlias = Literal["top", "bottom"]


@dataclass(frozen=True)
class Agreement:
    """How far two scores of the same samples agree.

    Attributes:
        tau: Kendall's tau-b, in [-1, 1].
        p_value: of tau, two-sided; small if the agreement is no chance.
        top: share of the m highest that both have.
        bottom: share of the m lowest that both have.
        chance: what the shares are between unrelated scores, m / N.
    """

    tau: float
    p_value: float
    top: float
    bottom: float
    chance: float


def agreement(first: Values, second: Values, *, m: int | None = None) -> Agreement:
    """Compare two scores, of two runs or of two moments of one.

    Args:
        first: (N,), finite.
        second: (N,), finite.
        m: size of the ends, in [1, N]; None is a fifth of N, as in the paper's figures.

    Returns:
        Rank correlation and overlaps.

    Raises:
        ValueError: values that are not finite, or of another number.
        ImportError: SciPy is missing.

    Example:
        >>> found = agreement([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], m=2)
        >>> round(found.tau, 3), found.top, found.bottom
        (0.6, 0.5, 1.0)

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020,
        figure 2; Kendall, The treatment of ties in ranking problems, Biometrika 1945.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise ImportError("agreement must have SciPy: pip install scipy") from error
    a, b = _rows("first", first, 1), _rows("second", second, 1)
    if a.shape != b.shape:
        raise refusal("second", f"of {len(a)} samples, as first", len(b))
    m = _end(m, len(a))
    tau, p_value = cast("tuple[float, float]", tuple(stats.kendalltau(a, b)))
    return Agreement(
        float(tau),
        float(p_value),
        overlap(a, b, m=m, end="top"),
        overlap(a, b, m=m, end="bottom"),
        m / len(a),
    )


def overlap(first: Values, second: Values, *, m: int | None = None, end: End = "top") -> float:
    """Compute which share of the m highest (or lowest) samples two scores have in common.

    Of samples that tie at the border the first ones count.

    Args:
        first: (N,), finite.
        second: (N,), finite.
        m: in [1, N]; None is a fifth of N.
        end: ``"top"`` or ``"bottom"``.

    Returns:
        In [0, 1]; m / N is chance.

    Raises:
        ValueError: values that are not finite, or of another number.

    Example:
        >>> round(overlap([9, 8, 7, 1, 2, 3], [9, 1, 8, 2, 7, 3], m=3), 4)
        0.6667
    """
    a, b = _rows("first", first, 1), _rows("second", second, 1)
    if a.shape != b.shape:
        raise refusal("second", f"of {len(a)} samples, as first", len(b))
    return float(overlap_matrix(np.stack([a, b]), m=m, end=end)[0, 1])


def overlap_matrix(snapshots: Values, *, m: int | None = None, end: End = "top") -> np.ndarray:
    """Compare the m highest (or lowest) samples of every two moments.

    Args:
        snapshots: (T, N), finite: a score of N samples at T moments.
        m: in [1, N]; None is a fifth of N.
        end: ``"top"`` or ``"bottom"``.

    Returns:
        float64 (T, T): the share that moments i < j have in common; 1 on the diagonal, NaN below.

    Raises:
        ValueError: no such array, or values that are not finite.

    Example:
        >>> overlap_matrix([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]], m=2)
        array([[1. , 0.5],
               [nan, 1. ]])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020,
        figure 1.
    """
    rows = _rows("snapshots", snapshots, 2)
    check_choice("end", end, ("top", "bottom"))
    moments, size = rows.shape
    m = _end(m, size)
    order = np.argsort(-rows if end == "top" else rows, axis=1, kind="stable")[:, :m]
    members = np.zeros((moments, size), dtype=bool)
    np.put_along_axis(members, order, True, axis=1)
    result = np.full((moments, moments), np.nan)
    for moment in range(moments):
        common = np.count_nonzero(members[moment] & members[moment:], axis=1)
        result[moment, moment:] = common / m
    return result


def _end(m: int | None, size: int) -> int:
    if m is None:
        return max(1, size // 5)
    return check_count("m", m, at_least=1, at_most=size)


def _rows(name: str, values: Values, dimensions: int) -> np.ndarray:
    given = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    found = np.asarray(given, dtype=np.float64)
    if found.ndim != dimensions or found.size == 0:
        rule = (
            "of shape (N,) with N at least 1" if dimensions == 1 else "of shape (T, N), not empty"
        )
        raise refusal(name, rule, found.shape)
    if not np.isfinite(found).all():
        raise refusal(name, "finite", f"{int((~np.isfinite(found)).sum())} values that are not")
    return found
