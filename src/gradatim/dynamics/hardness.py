"""Dynamic instance hardness: a running mean of how hard a sample is, from what training sees.

An observation of sample i at step t belongs to the weights that the steps before t left; tau is the
step at which i was observed last. Rates sum from tau to t - 1: the updates between the two looks.
"""

from __future__ import annotations

from typing import Literal

import torch

from gradatim.validation import as_vector, check_choice, check_number, refusal

__all__ = ["change_hardness", "flip_hardness", "loss_hardness", "running_hardness"]

TINY = 1e-12  # a summed rate below it is none


def loss_hardness(losses: torch.Tensor, rate: torch.Tensor | float) -> torch.Tensor:
    """Divide losses by the learning rate of the step before: ``a = l_i(w_{t-1}) / eta_{t-1}``.

    Args:
        losses: (B,), at least 0, finite.
        rate: eta, (B,) or one for all, at least 0; 1 leaves the losses as they are.

    Returns:
        (B,), in float32 or wider; NaN where the rate is 0: there is no observation then.

    Raises:
        ValueError: a negative loss or rate.

    Example:
        >>> loss_hardness(torch.tensor([2.0, 1.0]), 0.5)
        tensor([4., 2.])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020, (A).
    """
    return _divided(_wide(as_vector("losses", losses, at_least=0)), rate, "rate")


def change_hardness(
    losses: torch.Tensor,
    before: torch.Tensor,
    elapsed: torch.Tensor | float = 1.0,
    *,
    clip: float | None = None,
) -> torch.Tensor:
    """Divide changes of the loss by the rates summed in between: ``a = |l_i - l_i'| / E``.

    Args:
        losses: (B,), now.
        before: (B,), at the last observation; NaN where there was none.
        elapsed: E, summed learning rate since then, (B,) or one for all; 1 does not normalise.
        clip: largest change, above 0; None is no bound.

    Returns:
        (B,), at least 0, in float32 or wider; NaN where there was no observation before, or E is 0.

    Raises:
        ValueError: ``clip`` or ``elapsed`` outside its range.

    Example:
        >>> change_hardness(torch.tensor([1.0, 0.4]), torch.tensor([2.0, float("nan")]), 0.1)
        tensor([10., nan])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020, (B)
        and Eq. 2.
    """
    now = _wide(as_vector("losses", losses, finite=False))
    change = (now - as_vector("before", before, finite=False).to(now)).abs()
    if clip is not None:
        change = change.clamp(max=check_number("clip", clip, above=0))
    return _divided(change, elapsed, "elapsed")


def flip_hardness(
    correct: torch.Tensor, before: torch.Tensor, elapsed: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """Divide flips between right and wrong by the rates summed in between: ``a = |c - c'| / E``.

    Args:
        correct: bool or 0 and 1, (B,): whether the prediction is right now.
        before: 0 or 1, (B,), at the last observation; negative where there was none.
        elapsed: E, as of `change_hardness`.

    Returns:
        float32 or wider (B,); NaN where there was no observation before, or E is 0.

    Raises:
        ValueError: ``elapsed`` outside its range.

    Example:
        >>> flip_hardness(torch.tensor([True, True]), torch.tensor([0, -1]), 0.1)
        tensor([10., nan])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020, (C)
        and Eq. 2.
    """
    now = as_vector("correct", correct, dtype=torch.float32, finite=False)
    last = as_vector("before", before, finite=False).to(now)
    flips = torch.where(last < 0, torch.nan, (now - last).abs())
    return _divided(flips, elapsed, "elapsed")


def running_hardness(
    hardness: torch.Tensor,
    observed: torch.Tensor,
    gamma: float | torch.Tensor,
    *,
    gamma_on: Literal["history", "new"] = "history",
) -> torch.Tensor:
    """Average an observation into a running hardness: ``r <- gamma r + (1 - gamma) a`` (Eq. 1).

    Args:
        hardness: r, (B,), before.
        observed: a, (B,); NaN leaves r as it is.
        gamma: in [0, 1], or (B,) of them.
        gamma_on: ``"history"``: gamma is the discount of r, as the paper's text says and its
            authors ran; ``"new"``: gamma weighs a, as Eq. 1 prints it.

    Returns:
        (B,), between r and a.

    Raises:
        ValueError: gamma outside [0, 1].

    Example:
        >>> running_hardness(torch.tensor([1.0]), torch.tensor([3.0]), 0.75)
        tensor([1.5000])
        >>> running_hardness(torch.tensor([1.0]), torch.tensor([3.0]), 0.75, gamma_on="new")
        tensor([2.5000])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Dynamic Instance Hardness, NeurIPS 2020,
        Eq. 1.
    """
    check_choice("gamma_on", gamma_on, ("history", "new"))
    if not isinstance(gamma, torch.Tensor):
        check_number("gamma", gamma, at_least=0, at_most=1)
    old = as_vector("hardness", hardness, finite=False)
    now = as_vector("observed", observed, finite=False).to(old)
    new = 1 - gamma if gamma_on == "history" else gamma
    return torch.where(now.isnan(), old, (1 - new) * old + new * now)


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _divided(values: torch.Tensor, by: torch.Tensor | float, name: str) -> torch.Tensor:
    """Divide, in float64, by a summed rate; NaN where it is none."""
    if not isinstance(by, torch.Tensor):
        by = torch.tensor(check_number(name, by, at_least=0), dtype=torch.float64)
    elif bool((by < 0).any()):
        raise refusal(name, "at least 0", float(by.min()))
    # Rates are float64 on the CPU; where the device has no float64 the quotient loses digits.
    by = by.to(values.device, torch.float32 if values.device.type == "mps" else torch.float64)
    quotient = torch.where(by > TINY, values / by.clamp(min=TINY), torch.nan)
    return quotient.to(values.dtype)
