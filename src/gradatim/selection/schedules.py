"""The definition of a curriculum, as a check."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradatim.validation import refusal

__all__ = ["check_curriculum"]

# Entropies of equal rows differ by a few 1e-16; a sample more or less in 10^9 by 1e-9.
_SLACK = 1e-12


def check_curriculum(weights: torch.Tensor | Sequence[Sequence[float]]) -> None:
    """Check that a schedule of weights is a curriculum in the sense of Bengio et al.

    With the training distribution P uniform over n samples, weights W_t in [0, 1] train on
    Q_t = W_t / sum W_t. A curriculum (i) never takes weight away, W_{t+1} >= W_t; (ii) adds
    diversity, the entropy of Q_t strictly increases until Q_t = P; (iii) ends with Q_T = P.
    For tests of one's own pace or method; a method may break it on purpose (one-pass does).

    Args:
        weights: W, (T, n), one row per epoch, in [0, 1], with a positive sum in each row.

    Raises:
        TypeError: ``weights`` cannot be read as numbers.
        ValueError: a condition fails: the message names it and the first epoch, counted from 0,
            at which it does; or ``weights`` is no such schedule.

    Example:
        >>> check_curriculum([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
        >>> check_curriculum([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
        Traceback (most recent call last):
        ValueError: weights must be never smaller than an epoch before (condition i). Got a smaller
        weight in epoch 1.

    Differences from the paper: P is uniform, the samples at hand; "until W_t = 1" is read as
    "until Q_t = P", which also accepts a constant last row below 1.

    References:
        Bengio, Louradour, Collobert and Weston, Curriculum learning, ICML 2009, section 3
        [bengio2009].
    """
    rule = "of shape (epochs, samples)"
    try:
        schedule = torch.as_tensor(weights, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(str(refusal("weights", rule, type(weights).__name__))) from error
    if schedule.ndim != 2 or not schedule.numel():
        raise refusal("weights", rule, schedule)
    low, high = (float(bound) for bound in schedule.aminmax())
    if not (low >= 0 and high <= 1):
        raise refusal("weights", "in [0, 1] everywhere", f"values from {low} to {high}")
    _require(schedule.sum(1) > 0, 0, "positive for some sample", "no weight")
    rises = (schedule[1:] >= schedule[:-1]).all(1)
    _require(rises, 1, "never smaller than an epoch before (condition i)", "a smaller weight")
    shares = schedule / schedule.sum(1, keepdim=True)
    entropies = torch.special.entr(shares).sum(1)
    whole = schedule.amin(1) == schedule.amax(1)
    spreads = (entropies[1:] > entropies[:-1] + _SLACK) | (whole[1:] & whole[:-1])
    rule = "of strictly increasing entropy until all are equal (condition ii)"
    _require(spreads, 1, rule, "an entropy that does not increase")
    _require(whole[-1:], len(schedule) - 1, "equal at the end (condition iii)", "unequal weights")


def _require(holds: torch.Tensor, first: int, rule: str, got: str) -> None:
    """Refuse the schedule at the first entry that does not hold, counted from epoch ``first``."""
    if not bool(holds.all()):
        raise refusal("weights", rule, f"{got} in epoch {first + int((~holds).nonzero()[0])}")
