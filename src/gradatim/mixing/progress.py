r"""Signals of learning progress, rewards for `Exp3S` once `RewardScale` has scaled them.

With parameters theta before and theta' after the update on a batch x of task k:

| signal | what it is | on which data |
|---|---|---|
| PG, SPG, TPG, MPG | `prediction_gain`, L(theta) - L(theta') | see `evaluated_task` |
| GPG | `gradient_prediction_gain`, ||grad L||^2 | x |
| VCG | `complexity_gain`, KL(P'||Q') - KL(P||Q) | a variational posterior |
| GVCG | `gradient_complexity_gain`, its first-order form | x |
| L2G | `norm_gain`, ||theta'||^2 - ||theta||^2 | no data |
| GL2G | `gradient_norm_gain`, its first-order form | x |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch

from gradatim.mixing.policy import draw_source
from gradatim.validation import check_choice, check_count, check_flag, refusal

__all__ = [
    "complexity_gain",
    "evaluated_task",
    "gaussian_kl",
    "gradient_complexity_gain",
    "gradient_norm_gain",
    "gradient_prediction_gain",
    "norm_gain",
    "prediction_gain",
]

Tensors = torch.Tensor | Iterable[torch.Tensor | None]


def prediction_gain(before: float | torch.Tensor, after: float | torch.Tensor) -> float:
    """Progress as the fall of a loss: PG, SPG, TPG or MPG, by the data of the two losses.

    L(x, theta) - L(x, theta'). `evaluated_task` says from which task x comes; both losses must be
    of the same x, under the same dropout mask or without dropout.

    Args:
        before: mean loss with the parameters before the update.
        after: mean loss with those after it.

    Returns:
        The gain, in the loss's unit; NaN or infinite where a loss is.

    Example:
        L = (theta - 2)^2 / 2 from 0, one step at rate 0.1: theta' = 0.2.

        >>> round(prediction_gain(2.0, 1.62), 2)
        0.38

    Differences from the paper:
        None known.

    Caveats:
        Costs one more forward pass (PG) or two (SPG, TPG, MPG).

    References:
        Graves et al., ICML 2017, section 3.1 [graves2017].
    """
    return _number("before", before) - _number("after", after)


def evaluated_task(
    signal: Literal["PG", "SPG", "TPG", "MPG"],
    task: int,
    tasks: int,
    *,
    target: int | None = None,
    seed: int = 0,
    step: int = 0,
) -> tuple[int, bool]:
    """Say on which task the two losses of `prediction_gain` are measured.

    Args:
        signal: ``"PG"`` on the batch that was trained on, ``"SPG"`` on a fresh one of the same
            task, ``"TPG"`` on the target task, ``"MPG"`` on a task drawn uniformly.
        task: that was trained on, in [0, tasks).
        tasks: how many there are.
        target: the target task of ``"TPG"``.
        seed: of the draw of ``"MPG"``, which depends on (seed, step) alone.
        step: of training.

    Returns:
        The task, and whether a fresh batch of it is needed.

    Raises:
        ValueError: an argument outside its range, or no target for ``"TPG"``.

    Example:
        >>> evaluated_task("SPG", 1, 4), evaluated_task("TPG", 1, 4, target=3)
        ((1, True), (3, True))

    Differences from the paper:
        None known.

    References:
        Graves et al., ICML 2017, section 3.1 [graves2017].
    """
    check_choice("signal", signal, ("PG", "SPG", "TPG", "MPG"))
    tasks = check_count("tasks", tasks, at_least=1)
    task = check_count("task", task, at_most=tasks - 1)
    if signal == "TPG":
        if target is None:
            raise refusal("target", "given for the signal 'TPG'", None)
        return check_count("target", target, at_most=tasks - 1), True
    if signal == "MPG":
        key = (check_count("seed", seed), "MPG", check_count("step", step))
        return draw_source(torch.ones(tasks), *key), True
    return task, signal == "SPG"


def gradient_prediction_gain(gradients: Tensors) -> float:
    """Progress as the squared length of the gradient (GPG): PG to first order, at no cost.

    ||grad L(x, theta)||^2; PG is about the learning rate times it.

    Args:
        gradients: one tensor or several of any shapes; None stands for no gradient.

    Returns:
        The squared length, at least 0.

    Raises:
        ValueError: there is no gradient.

    Example:
        >>> gradient_prediction_gain(torch.tensor([-2.0]))
        4.0

    Differences from the paper:
        None known.

    References:
        Graves et al., ICML 2017, section 3.1 [graves2017].
    """
    return sum(float(part.double().square().sum()) for part in _parts("gradients", gradients))


def norm_gain(before: Tensors, after: Tensors) -> float:
    """Complexity gain of a model without a posterior (L2G): how its squared length grew.

    ||theta'||^2 - ||theta||^2.

    Args:
        before: parameters before the update (copies), one tensor or several.
        after: those after it, in the same order.

    Returns:
        The gain.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> round(norm_gain(torch.tensor([1.0, 2.0]), torch.tensor([1.1, 1.9])), 2)
        -0.18

    Differences from the paper:
        None known.

    References:
        Graves et al., ICML 2017, section 3.2 [graves2017].
    """
    pairs = _pairs("after", before, after)
    return sum(float((new.double() ** 2 - old.double() ** 2).sum()) for old, new in pairs)


def gradient_norm_gain(
    parameters: Tensors, gradients: Tensors, *, paper_sign: bool = False
) -> float:
    """L2G to first order and per unit of learning rate (GL2G): -2 <theta, grad L>.

    Args:
        parameters: theta, one tensor or several.
        gradients: of the loss, in the same order; None where there is none.
        paper_sign: <theta, grad L> as printed. Under descent the length changes the other way.

    Returns:
        The gain per unit of learning rate.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> parameters, gradients = torch.tensor([1.0, 2.0]), torch.tensor([0.3, -0.5])
        >>> round(gradient_norm_gain(parameters, gradients), 6)
        1.4

    Differences from the paper:
        The sign is that of the change under gradient descent, unless ``paper_sign``.

    References:
        Graves et al., ICML 2017, section 3.2 [graves2017].
    """
    product = _product(parameters, gradients)
    return product if check_flag("paper_sign", paper_sign) else -2 * product


def gaussian_kl(
    mean: torch.Tensor,
    std: torch.Tensor,
    prior_mean: torch.Tensor | float = 0.0,
    prior_std: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """KL divergence of diagonal Gaussians, for `complexity_gain`.

    KL(P||Q) = sum log(s_q / s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2.

    Args:
        mean: m_p, any shape.
        std: s_p, above 0, of that shape.
        prior_mean: m_q.
        prior_std: s_q, above 0.

    Returns:
        A scalar with gradient, of the arguments' dtype.

    Raises:
        ValueError: a standard deviation that is not above 0.

    Example:
        >>> mean, std = torch.tensor([1.0]), torch.tensor([0.5])
        >>> round(float(gaussian_kl(mean, std)), 6)
        0.818147

    Differences from the paper:
        None known.

    References:
        Graves et al., ICML 2017, section 3.2 [graves2017].
    """
    prior_mean = torch.as_tensor(prior_mean, dtype=mean.dtype, device=mean.device)
    prior_std = torch.as_tensor(prior_std, dtype=mean.dtype, device=mean.device)
    for name, given in (("std", std), ("prior_std", prior_std)):
        if not bool((given > 0).all()):
            raise refusal(name, "above 0 everywhere", float(given.detach().min()))
    square = std.square() + (mean - prior_mean).square()
    terms = torch.log(prior_std) - torch.log(std) + square / (2 * prior_std.square()) - 0.5
    return terms.sum()


def complexity_gain(before: float | torch.Tensor, after: float | torch.Tensor) -> float:
    """Progress as what the posterior learnt (VCG): KL(P'||Q') - KL(P||Q).

    Args:
        before: divergence of posterior and prior before the update, see `gaussian_kl`.
        after: that after it.

    Returns:
        The gain, in nats.

    Example:
        >>> complexity_gain(0.5, 0.75)
        0.25

    Differences from the paper:
        None known.

    References:
        Graves et al., ICML 2017, section 3.2 [graves2017].
    """
    return _number("after", after) - _number("before", before)


def gradient_complexity_gain(
    divergence_gradients: Tensors, loss_gradients: Tensors, *, paper_sign: bool = False
) -> float:
    """VCG to first order and per unit of learning rate (GVCG): -<grad KL, grad E[L]>.

    Args:
        divergence_gradients: of KL(P||Q) with respect to the posterior's parameters.
        loss_gradients: of the expected loss, in the same order; None where there is none.
        paper_sign: the inner product as printed. Descent changes the divergence the other way.

    Returns:
        The gain per unit of learning rate.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> gradient_complexity_gain(torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0]))
        1.5

    Differences from the paper:
        The sign is that of the change under gradient descent, unless ``paper_sign``.

    References:
        Graves et al., ICML 2017, section 3.2 [graves2017].
    """
    product = _product(divergence_gradients, loss_gradients)
    return product if check_flag("paper_sign", paper_sign) else -product


def _number(name: str, value: float | torch.Tensor) -> float:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise refusal(name, "one number", value, "Forgot to take the mean of the losses?")
        return float(value.detach())
    return float(value)


def _listed(given: Tensors) -> list[torch.Tensor | None]:
    return [given] if isinstance(given, torch.Tensor) else list(given)


def _parts(name: str, given: Tensors) -> list[torch.Tensor]:
    parts = [part.detach() for part in _listed(given) if part is not None]
    if not parts:
        raise refusal(name, "one tensor at least", "none")
    return parts


def _pairs(name: str, one: Tensors, two: Tensors) -> list[tuple[torch.Tensor, torch.Tensor]]:
    first, second = _listed(one), _listed(two)
    if len(first) != len(second):
        raise refusal(name, f"{len(first)} tensors", len(second))
    pairs = []
    for left, right in zip(first, second, strict=True):
        if left is None or right is None:
            continue
        if left.shape != right.shape:
            raise refusal(name, f"of shape {tuple(left.shape)}", right)
        pairs.append((left.detach(), right.detach()))
    return pairs


def _product(one: Tensors, two: Tensors) -> float:
    pairs = _pairs("gradients", one, two)
    return sum(float((left.double() * right.double()).sum()) for left, right in pairs)
