"""What becomes of samples that were hard, easy or mislabelled at one moment of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gradatim.analysis.agreement import Values, _end, _rows
from gradatim.validation import check_count, refusal

__all__ = ["GroupDynamics", "group_dynamics", "separation"]


@dataclass(frozen=True)
class GroupDynamics:
    """Means and deviations over the members of a group, from a moment on.

    Attributes:
        moments: int64 (K,), which rows of the record.
        mean: by group, (K,).
        deviation: by group, (K,); over members.
        members: by group, int64 positions.
    """

    moments: np.ndarray
    mean: dict[str, np.ndarray]
    deviation: dict[str, np.ndarray]
    members: dict[str, np.ndarray]


def group_dynamics(
    hardness: Values, record: Values, *, moment: int, m: int | None = None
) -> GroupDynamics:
    """Split the samples by their hardness at one moment, and follow the groups afterwards.

    Args:
        hardness: (N,), at ``moment``; higher is harder.
        record: (T, N): losses, flips or anything else, at T moments.
        moment: in [0, T): from which row on the groups are followed.
        m: size of the hardest and of the easiest group, at most N / 2; None is a fifth of N.

    Returns:
        Means and deviations of ``"hard"``, ``"rest"`` and ``"easy"``; a group without members is
        left out.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.

    Example:
        >>> found = group_dynamics([0.1, 0.9, 0.5], [[1, 5, 3], [0, 4, 2]], moment=0, m=1)
        >>> {name: values.tolist() for name, values in found.mean.items()}
        {'hard': [5.0, 4.0], 'rest': [3.0, 2.0], 'easy': [1.0, 0.0]}

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020,
        figures 3 and 4.
    """
    scores, rows = _rows("hardness", hardness, 1), _rows("record", record, 2)
    if rows.shape[1] != len(scores):
        raise refusal("record", f"of {len(scores)} samples, as hardness", rows.shape)
    check_count("moment", moment, at_most=len(rows) - 1)
    m = _end(m, len(scores))
    if 2 * m > len(scores):
        raise refusal("m", f"at most half of {len(scores)} samples", m)
    order = np.argsort(-scores, kind="stable")
    groups = {"hard": order[:m], "rest": order[m : len(order) - m], "easy": order[len(order) - m :]}
    groups = {name: np.sort(members) for name, members in groups.items() if len(members)}
    after = rows[moment:]
    return GroupDynamics(
        np.arange(moment, len(rows)),
        {name: after[:, members].mean(1) for name, members in groups.items()},
        {name: after[:, members].std(1) for name, members in groups.items()},
        groups,
    )


def separation(scores: Values, corrupted: torch.Tensor | np.ndarray | list[bool]) -> float:
    """Tell how well a score finds wrong labels: the area under its ROC curve.

    Args:
        scores: (N,), finite; higher should mean wrong.
        corrupted: bool (N,), which labels are wrong; some, and not all.

    Returns:
        The chance that a wrong sample scores higher than a right one, ties counting half: .5 is no
        better than chance.

    Raises:
        ValueError: shapes that do not fit, or only one kind of sample.

    Example:
        >>> separation([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
        0.75
    """
    values = _rows("scores", scores, 1)
    given = corrupted.cpu().numpy() if isinstance(corrupted, torch.Tensor) else corrupted
    wrong = np.asarray(given, dtype=bool)
    if wrong.shape != values.shape:
        raise refusal("corrupted", f"one per sample: {len(values)}", wrong.shape)
    count = int(wrong.sum())
    if count in (0, len(wrong)):
        raise refusal("corrupted", "true for some samples and not for all", count)
    # The rank-sum statistic (Mann and Whitney), with mean ranks for ties.
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = ranks[wrong].sum() - count * (count + 1) / 2
    return float(above / (count * (len(wrong) - count)))
