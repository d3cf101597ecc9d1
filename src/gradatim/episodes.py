"""Episodes: stretches of epochs, each at least a cycle of the learning rate, in which k stands."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

from gradatim.validation import check_count, refusal

__all__ = ["PAPER_EPISODES", "check_episodes", "episode_of"]

PAPER_EPISODES = (5, 10, 15, 20, 30, 40, 60, 90, 140, 210, 300)
"""Where the episodes of the DIHCL and DoCL papers end on CIFAR, in epochs."""


def check_episodes(name: str, ends: Any) -> tuple[int, ...]:
    """Return the epochs at which episodes end as a tuple, or refuse them.

    Raises:
        TypeError: not a sequence of whole numbers.
        ValueError: empty, not above 0, or not increasing.

    Example:
        >>> check_episodes("episodes", [2, 4, 8])
        (2, 4, 8)
    """
    rule = "epochs above 0, each later than the one before"
    if not isinstance(ends, Sequence) or isinstance(ends, str):
        raise TypeError(str(refusal(name, rule, repr(ends))))
    found = tuple(check_count(f"{name}[{place}]", end) for place, end in enumerate(ends))
    if not found or any(end <= before for before, end in itertools.pairwise((0, *found))):
        cause = "Are these the episodes' lengths? Their sums are meant." if found else ""
        raise refusal(name, rule, list(found), cause)
    return found


def episode_of(epoch: int, ends: Sequence[int]) -> tuple[int, int]:
    """The episode, counted from 0, that an epoch (from 0) lies in, and the epoch it ends before.

    After the last end given, episodes of the last length follow.

    Example:
        >>> [episode_of(epoch, (2, 5)) for epoch in (0, 1, 2, 4, 5, 8)]
        [(0, 2), (0, 2), (1, 5), (1, 5), (2, 8), (3, 11)]
    """
    if epoch < ends[-1]:
        episode = bisect.bisect_right(ends, epoch)
        return episode, ends[episode]
    length = ends[-1] - (ends[-2] if len(ends) > 1 else 0)
    beyond = (epoch - ends[-1]) // length
    return len(ends) + beyond, ends[-1] + (beyond + 1) * length
