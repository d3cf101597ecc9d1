"""Learning dynamics: how fast outputs move, and whether they move towards their targets.

DoCL's score of a sample is ``a = <residual, df/dt>``: large where much is left to learn and
training on the whole data moves the output that way. The gradient flow behind ``df/dt`` is that of
`squared_error`, which for classification is taken on the probabilities and not on the logits.
"""

from __future__ import annotations

from typing import Literal

import torch

from gradatim.validation import check_choice, check_number, refusal

__all__ = ["alignment", "movement", "residuals", "running_score", "speed", "squared_error"]

Task = Literal["classification", "regression"]

TINY = 1e-12  # a summed learning rate up to it is none: nothing can be divided by it


def residuals(
    outputs: torch.Tensor, targets: torch.Tensor, *, task: Task = "classification"
) -> torch.Tensor:
    """Subtract what a model says from what it should say: ``onehot(y) - p``, or ``y - f``.

    Args:
        outputs: f. For ``"classification"`` logits (B, C), whose softmax is p; for
            ``"regression"`` (B, ...), any floating dtype.
        targets: y. For ``"classification"`` labels (B,) in [0, C), whole numbers, or probabilities
            (B, C); for ``"regression"`` of the outputs' shape.
        task: which of the two.

    Returns:
        Of the outputs' shape, float32 or float64, with the outputs' gradient. For classification
        every row sums to 0.

    Raises:
        ValueError: shapes that do not fit; on the CPU also labels outside [0, C).

    Example:
        >>> residuals(torch.zeros(1, 4), torch.tensor([1]))
        tensor([[-0.2500,  0.7500, -0.2500, -0.2500]])
        >>> residuals(torch.tensor([0.5]), torch.tensor([2.0]), task="regression")
        tensor([1.5000])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        Eqs. 7 and 12 [zhou2021docl].
    """
    check_choice("task", task, ("classification", "regression"))
    _check_outputs("outputs", outputs)
    f = _wide(outputs)
    if task == "regression":
        if targets.shape != outputs.shape:
            raise refusal("targets", f"of the shape of outputs, {tuple(outputs.shape)}", targets)
        return targets.to(f) - f
    if outputs.ndim != 2:
        raise refusal("outputs", "logits of shape (B, C)", outputs)
    p = f.softmax(1)
    if targets.is_floating_point():
        if targets.shape != outputs.shape:
            rule = f"labels of shape ({len(outputs)},), or of shape {tuple(outputs.shape)}"
            raise refusal("targets", rule, targets)
        return targets.to(f) - p
    if targets.shape != outputs.shape[:1]:
        raise refusal("targets", f"labels of shape ({len(outputs)},)", targets)
    if targets.is_cpu:
        check_labels(targets, outputs.shape[1])
    labels = targets.to(p.device, torch.int64).unsqueeze(1)
    if not p.requires_grad:
        # The same numbers without two more matrices, whose memory costs more than the sums.
        return p.neg_().scatter_add_(1, labels, p.new_ones(1, 1).expand(len(labels), 1))
    one_hot = torch.zeros_like(p, requires_grad=False)
    one_hot.scatter_(1, labels, 1.0)
    return one_hot - p


def check_labels(targets: torch.Tensor, classes: int) -> None:
    """Refuse labels outside [0, C); this waits for the device they are on.

    Args:
        targets: whole numbers, (B,).
        classes: C.

    Raises:
        ValueError: a label outside the range.

    Example:
        >>> check_labels(torch.tensor([0, 3]), 3)
        Traceback (most recent call last):
        ValueError: targets must be labels in [0, 3). Got 3. Are they labels of other classes ...
    """
    if not targets.numel():
        return
    low, high = (int(bound) for bound in targets.aminmax())
    if low < 0 or high >= classes:
        cause = "Are they labels of other classes than the model's?"
        raise refusal("targets", f"labels in [0, {classes})", low if low < 0 else high, cause)


def squared_error(
    outputs: torch.Tensor, targets: torch.Tensor, *, task: Task = "classification"
) -> torch.Tensor:
    """Half the squared length of the `residuals`: the loss whose gradient flow DoCL observes.

    For classification ``1/2 ||onehot(y) - softmax(f)||^2``: the derivation of Eq. 11 requires the
    squared error of the probabilities. That of the logits, and the cross-entropy, have other flows.

    Args:
        outputs: as of `residuals`.
        targets: as of `residuals`.
        task: as of `residuals`.

    Returns:
        (B,), at least 0 (at most 1 for labels), with gradient, float32 or float64.

    Raises:
        ValueError: as `residuals`.

    Example:
        >>> squared_error(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.2500, 0.2500])
        >>> squared_error(torch.tensor([0.5]), torch.tensor([2.5]), task="regression")
        tensor([2.])

    Differences from the paper:
        It names the L2 loss without saying of what; Eq. 11 holds for this one alone.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        Eqs. 2 and 11 [zhou2021docl].
    """
    left = residuals(outputs, targets, task=task)
    return 0.5 * (left * left).flatten(1).sum(1) if left.ndim > 1 else 0.5 * left * left


def movement(
    outputs: torch.Tensor, before: torch.Tensor, elapsed: torch.Tensor | float
) -> torch.Tensor:
    """Estimate linear dynamics from two observations: ``df/dt = (f - g) / rho``.

    Args:
        outputs: f, (B, ...), now; floating.
        before: g, of the same shape, when the sample was observed last; NaN where it never was.
        elapsed: rho, summed learning rate of the optimizer steps in between, (B,) or one for all;
            NaN where there was no observation before.

    Returns:
        Of the outputs' shape, float32 or float64, no gradient; a row is NaN where g or rho is, or
        where rho is 1e-12 or less: there is no observation then.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> f, g = torch.tensor([[2.0, 0.5], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
        >>> movement(f, g, torch.tensor([0.5, 0.0]))
        tensor([[ 2., -1.],
                [nan, nan]])

    Differences from the paper:
        As printed, lines 14 and 15 of Algorithm 1 would let rho hold one rate only; its text wants
        the sum over all steps since the last observation.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        Algorithm 1, lines 14 and 15 [zhou2021docl].
    """
    _check_outputs("outputs", outputs)
    if before.shape != outputs.shape:
        raise refusal("before", f"of the shape of outputs, {tuple(outputs.shape)}", before)
    f = _wide(outputs.detach())
    given = isinstance(elapsed, torch.Tensor)
    rho = elapsed.detach() if given else torch.tensor(elapsed, dtype=torch.float64)
    if rho.ndim and rho.shape != outputs.shape[:1]:
        raise refusal("elapsed", f"one number, or of shape ({len(outputs)},)", rho)
    # Compared before it is narrowed: the rates may be summed in float64.
    rho = torch.where(rho > TINY, rho, torch.nan).to(f)
    if rho.ndim:
        rho = rho.reshape(-1, *[1] * (f.ndim - 1))
    return (f - before.detach().to(f)).div_(rho)


def alignment(residual: torch.Tensor, dynamics: torch.Tensor) -> torch.Tensor:
    """Score samples by how fast they move towards their targets: ``a = <residual, df/dt>``.

    Eq. 7 (regression) and Eq. 12 (classification): positive where training on the whole data brings
    the output nearer to its target, largest for hard samples that it moves fast, negative where it
    drives the output away.

    Args:
        residual: (B, ...), from `residuals`.
        dynamics: of the same shape, from `movement`.

    Returns:
        (B,), no gradient, float32 or float64; NaN where ``dynamics`` is.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> alignment(torch.tensor([[0.5, -0.5]]), torch.tensor([[2.0, -1.0]]))
        tensor([1.5000])

    Caveats:
        A constant added to all logits of a sample changes nothing: classification residuals sum
        to 0.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        Eqs. 7 and 12 [zhou2021docl].
    """
    _check_outputs("residual", residual)
    if dynamics.shape != residual.shape:
        raise refusal("dynamics", f"of the shape of residual, {tuple(residual.shape)}", dynamics)
    product = _wide(residual.detach())
    product = product * dynamics.detach().to(product)
    return product.flatten(1).sum(1) if product.ndim > 1 else product


def speed(dynamics: torch.Tensor) -> torch.Tensor:
    """Score samples by how fast their outputs move, wherever to: ``a = ||df/dt||``.

    The score of DoCL-NR, which takes no residual.

    Args:
        dynamics: (B, ...), from `movement`.

    Returns:
        (B,), at least 0, no gradient, float32 or float64; NaN where ``dynamics`` is.

    Raises:
        ValueError: ``dynamics`` has no dimensions or is not floating.

    Example:
        >>> speed(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
        tensor([5., 0.])

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        section 5 [zhou2021docl].
    """
    _check_outputs("dynamics", dynamics)
    rates = _wide(dynamics.detach())
    return torch.linalg.vector_norm(rates.flatten(1), dim=1) if rates.ndim > 1 else rates.abs()


def running_score(scores: torch.Tensor, observed: torch.Tensor, gamma: float = 0.9) -> torch.Tensor:
    """Average an observation into a running score: ``s <- gamma s + (1 - gamma) a`` (Eq. 8).

    Here gamma weighs the history. (Eq. 1 of DIHCL has it on the new value; see
    `gradatim.dynamics.running_hardness`.)

    Args:
        scores: s, (B,), before; NaN where there was none: the first observation starts it.
        observed: a, (B,); NaN and infinities leave s as it is.
        gamma: in [0, 1].

    Returns:
        (B,), in the dtype of ``scores``.

    Raises:
        ValueError: gamma outside [0, 1]; shapes that do not fit.

    Example:
        >>> nan = float("nan")
        >>> running_score(torch.tensor([2.0, nan, 2.0]), torch.tensor([1.0, 1.0, nan]), 0.5)
        tensor([1.5000, 1.0000, 2.0000])

    Differences from the paper:
        It gives no first value.

    References:
        Zhou, Wang and Bilmes, Curriculum Learning by Optimizing Learning Dynamics, AISTATS 2021,
        Eq. 8 [zhou2021docl].
    """
    gamma = check_number("gamma", gamma, at_least=0, at_most=1)
    _check_outputs("scores", scores)
    if observed.shape != scores.shape:
        raise refusal("observed", f"of the shape of scores, {tuple(scores.shape)}", observed)
    a, history = observed.detach().to(scores), scores.detach()
    updated = torch.where(history.isnan(), a, gamma * history + (1 - gamma) * a)
    return torch.where(a.isfinite(), updated, history)


def _check_outputs(name: str, values: torch.Tensor) -> None:
    if not isinstance(values, torch.Tensor):
        raise TypeError(str(refusal(name, "a tensor, a row per sample", repr(values))))
    if not values.is_floating_point() or not values.ndim:
        raise refusal(name, "floating, a row per sample", values)


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
