"""Self-paced curriculum learning: the model's losses and an expert's order, together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from gradatim.validation import check_choice, check_number
from gradatim.weighting import closed_forms
from gradatim.weighting.inputs import precise_dtype, read_losses, read_order, read_scalar
from gradatim.weighting.self_paced import read_unit_threshold

__all__ = ["spcl"]

Form = Literal["hard", "linear", "logarithmic", "polynomial", "logistic"]

_FORMS = ("hard", "linear", "logarithmic", "polynomial", "logistic")
_BISECTIONS = 100  # halve any bracket of float64 down to its last digit, and then some


def spcl(
    losses: torch.Tensor,
    order: torch.Tensor,
    *,
    budget: float | torch.Tensor,
    threshold: float | torch.Tensor,
    form: Form = "linear",
    power: float = 2.0,
) -> torch.Tensor:
    """Weigh by the model's losses, within a budget that an expert's order prices.

    The expert's difficulty a makes hard samples expensive; the budget c limits what can be bought.
    As c grows the curriculum opens up to plain self-paced learning. It minimises ::

        sum_i v_i l_i + f(v_i; lambda)   subject to   sum_i a_i v_i <= c,   0 <= v_i <= 1

    For the soft forms the solution is the unconstrained one of shifted losses,
    ``v_i = v*(l_i + nu a_i)``, with nu = 0 if that fits the budget, and otherwise the nu at which
    the budget is spent, found by bisection in float64. For the hard form it is the fractional
    knapsack: buy by value for money, ``(lambda - l_i) / a_i``, the last one in part.

    Args:
        losses: (B,); at least 0 for the logarithmic and the polynomial form.
        order: a, (B,), positive; larger is harder in the expert's eyes. Usual: ranks divided by
            their number, (1/n ... 1).
        budget: c > 0, in units of a. From ``sum(a)`` on (or ``math.inf``) it binds nothing.
        threshold: lambda, as the form needs it, finite.
        form: the regulariser, named as the functions of ``gradatim.weighting``.
        power: t > 1 of the polynomial form.

    Returns:
        Weights in [0, 1], (B,), new, in the losses' floating dtype.

    Raises:
        TypeError: order cannot be read as numbers.
        ValueError: order, budget or threshold not above 0, a wrong length, an unknown form.

    Example:
        >>> losses = torch.tensor([0.2, 0.1, 0.3])
        >>> order = torch.tensor([1.0, 2.0, 3.0])
        >>> spcl(losses, order, budget=2.0, threshold=1.0)
        tensor([0.6071, 0.5143, 0.1214])
        >>> spcl(losses, order, budget=2.0, threshold=1.0, form="hard")
        tensor([1.0000, 0.5000, 0.0000])

    Differences from the paper:
        The paper leaves the solver open; ours follows from the optimality conditions and is
        exact. The hard form takes a loss equal to lambda where the budget allows, as
        `gradatim.weighting.hard` does.

    Caveats:
        The order is a preference, not a rule: a sample that is hard for the expert and has a tiny
        loss may still outrank one that is easy for the expert. 100 passes over the losses: for
        once per epoch, not for every step.

    References:
        Jiang, Meng, Zhao, Shan, Hauptmann, "Self-Paced Curriculum Learning", AAAI 2015, linear
        curriculum region [jiang2015spcl].
    """
    check_choice("form", form, _FORMS)
    power = check_number("power", power, above=1)
    wide, dtype = read_losses(losses, at_least=0 if form in ("logarithmic", "polynomial") else None)
    costs = read_order(order, wide)
    exact = wide.to(precise_dtype(wide.device))
    limit = (
        read_unit_threshold(threshold, exact)
        if form == "logarithmic"
        else read_scalar("threshold", threshold, exact, above=0)
    )
    purse = read_scalar("budget", budget, exact, above=0, infinite=True)
    if wide.numel() == 0:
        return torch.empty_like(wide, dtype=dtype)
    if form == "hard":
        return _knapsack(exact, costs, purse, limit).to(dtype)
    forms: dict[str, Callable[..., torch.Tensor]] = {
        "linear": closed_forms.linear,
        "logarithmic": closed_forms.logarithmic,
        "polynomial": partial(closed_forms.polynomial, power=power),
        "logistic": closed_forms.logistic,
    }
    slack = 0.0 if form != "logistic" else _logistic_slack(costs, purse, limit)
    ceiling = ((limit + slack - exact) / costs).clamp(min=0).max()
    weigh = partial(forms[form], threshold=limit)
    return weigh(exact + _multiplier(exact, costs, purse, weigh, ceiling) * costs).to(dtype)


def _multiplier(
    losses: torch.Tensor,
    costs: torch.Tensor,
    budget: torch.Tensor,
    weigh: Callable[[torch.Tensor], torch.Tensor],
    ceiling: torch.Tensor,
) -> torch.Tensor:
    """Return the smallest nu >= 0 at which the budget holds, to the last digit.

    It holds at ``ceiling``. Where it holds everywhere, the lower end of the bracket never leaves 0.
    """

    def spends_too_much(nu: torch.Tensor) -> torch.Tensor:
        return (costs * weigh(losses + nu * costs)).sum() > budget

    low, high = torch.zeros_like(ceiling), ceiling
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        over = spends_too_much(middle)
        low = torch.where(over, middle, low)
        high = torch.where(over, high, middle)
    return low


def _logistic_slack(
    costs: torch.Tensor, budget: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    """Return how far above lambda a loss must lie to fit any budget: this form never reaches 0.

    ``v <= (1 + exp(-lambda)) exp(lambda - l)``, and ``v <= c / sum(a)`` everywhere is enough.
    """
    return (torch.log1p(torch.exp(-threshold)) + torch.log(costs.sum() / budget)).clamp(min=0)


def _knapsack(
    losses: torch.Tensor, costs: torch.Tensor, budget: torch.Tensor, threshold: torch.Tensor
) -> torch.Tensor:
    """Return the fractional knapsack's fill, (B,), best value for money first."""
    value = (threshold - losses) / costs
    best = value.argsort(descending=True, stable=True)
    price = costs[best]
    left = budget - (price.cumsum(0) - price)
    fill = torch.empty_like(value)
    fill[best] = (left / price).clamp(0, 1)
    return torch.where(value >= 0, fill, 0)
