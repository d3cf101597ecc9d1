"""What the figures about selected and unselected samples show, as arrays (DoCL)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradatim.analysis.agreement import _end
from gradatim.analysis.hardness_figures import Band, _record, band
from gradatim.validation import refusal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["SelectionDynamics", "selection_dynamics"]


class SelectionDynamics(NamedTuple):
    """What a selection does to the samples it trains on and to those it leaves out.

    Attributes:
        selected_score: score of the samples trained on.
        objective: of unselected samples, ``"largest"`` and ``"smallest"`` objective.
        probability: of the true class, in the same two groups.
    """

    selected_score: Band
    objective: dict[str, Band]
    probability: dict[str, Band]


def selection_dynamics(
    score: ArrayLike,
    objective: ArrayLike,
    probability: ArrayLike,
    members: ArrayLike,
    *,
    m: int | None = None,
) -> SelectionDynamics:
    """Follow selected and unselected samples (DoCL, figures 2 and 3).

    In every epoch the unselected samples are split anew: the m with the largest objective, and the
    m with the smallest.

    Args:
        score: (T, N), by which samples are selected.
        objective: (T, N), <onehot - p, dp/dt>.
        probability: (T, N), of the true class.
        members: bool (T, N), which samples each epoch trained on.
        m: size of both groups, at most half of the unselected; None is a fifth of N, or that half.

    Raises:
        ValueError: other shapes.

    Example:
        >>> one = [[1.0, 2.0, 3.0, 4.0]]
        >>> found = selection_dynamics(one, one, one, [[True, False, False, False]], m=1)
        >>> found.selected_score.mean, found.objective["largest"].mean
        (array([1.]), array([4.]))
    """
    rows = _record("score", score)
    chosen = np.asarray(members, dtype=bool)
    goals, chances = _record("objective", objective), _record("probability", probability)
    named = {"objective": goals, "probability": chances, "members": chosen}
    for name, values in named.items():
        if values.shape != rows.shape:
            raise refusal(name, f"of shape {rows.shape}, as score", values.shape)
    m = _end(m, rows.shape[1])
    groups = {name: np.zeros_like(chosen) for name in ("largest", "smallest")}
    for number, row in enumerate(goals):
        rest = np.flatnonzero(~chosen[number] & np.isfinite(row))
        order = rest[np.argsort(-row[rest], kind="stable")]
        size = min(m, len(order) // 2)
        groups["largest"][number, order[:size]] = True
        groups["smallest"][number, order[len(order) - size :]] = True
    return SelectionDynamics(
        band(rows, chosen),
        {name: band(goals, group) for name, group in groups.items()},
        {name: band(chances, group) for name, group in groups.items()},
    )
