"""Forgetting events: how often a sample that was right became wrong."""

from __future__ import annotations

import numpy as np
import torch

from gradatim.validation import refusal

__all__ = ["forgetting_events"]


def forgetting_events(correct: torch.Tensor | np.ndarray | list[list[float]]) -> np.ndarray:
    """Count, for each sample, the observations at which it was wrong and right the time before.

    Args:
        correct: (T, N): 1 where the sample was right at that observation, 0 where it was wrong,
            NaN where it was not observed; truth values are 1 and 0.

    Returns:
        float64 (N,): events; infinity for samples that were never right, which are the hardest;
        NaN for samples that were never observed.

    Raises:
        ValueError: no such array, or other values.

    Example:
        >>> history = [[1, 0, 1], [0, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1], [1, 0, 1]]
        >>> forgetting_events(history)
        array([ 2., inf,  0.])

    References:
        Toneva et al., An Empirical Study of Example Forgetting during Deep Neural Network Learning,
        ICLR 2019.
    """
    given = correct.detach().cpu().numpy() if isinstance(correct, torch.Tensor) else correct
    history = np.asarray(given, dtype=np.float64)
    if history.ndim != 2:
        raise refusal("correct", "of shape (T, N)", history.shape)
    seen = ~np.isnan(history)
    if not np.isin(history[seen], (0.0, 1.0)).all():
        raise refusal("correct", "1, 0 or NaN", "other values")
    last = np.full(history.shape[1], np.nan)
    events = np.zeros(history.shape[1])
    learnt = np.zeros(history.shape[1], dtype=bool)
    for now in history:
        events += (last == 1) & (now == 0)
        learnt |= now == 1
        last = np.where(np.isnan(now), last, now)
    events[~learnt] = np.inf
    events[~seen.any(0)] = np.nan
    return events
