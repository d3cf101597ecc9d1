"""Losses that weigh themselves: focal loss turns to hard samples, SuperLoss to easy ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from gradatim.validation import check_number, refusal
from gradatim.weighting.inputs import precise_dtype, read_losses, read_scalar, readable
from gradatim.weighting.lambert import lambert_w

__all__ = ["focal", "focal_loss", "super_loss", "super_loss_value"]


def focal(losses: torch.Tensor, gamma: float) -> torch.Tensor:
    """Weigh a cross-entropy by how wrong the model is: certain samples fade out.

    The opposite of a curriculum from easy to hard: a sample predicted with p_t = .9 counts a
    hundredth at gamma = 2. A cross-entropy ``l = -log p_t`` gives p_t back, so the loss is all
    that is needed::

        w(l) = (1 - p_t)^gamma = (1 - exp(-l))^gamma          FL = w(l) l

    The weights carry gradient: ``(focal(losses, gamma) * losses).mean()`` has the gradient of the
    focal loss, ``(1 - p)^gamma (gamma p log p - (1 - p))`` for the logit of the true class of a
    binary problem. Detach them to weigh without it.

    Args:
        losses: (B,), at least 0: cross-entropies (negative log-likelihoods), unreduced.
        gamma: at least 0; the paper uses 2. 0 gives exactly 1: plain training.

    Returns:
        Weights in [0, 1], (B,), new, differentiable in ``losses``, in their floating dtype.

    Raises:
        ValueError: gamma < 0, negative losses, losses of a wrong shape or not finite.

    Example:
        >>> losses = -torch.log(torch.tensor([0.9, 0.5, 0.1]))
        >>> focal(losses, 2.0)
        tensor([0.0100, 0.2500, 0.8100])

    Differences from the paper:
        No balancing factor alpha here; see `focal_loss`. For 0 < gamma < 1 the derivative
        of the weight is infinite at a loss of 0; there the weight is treated as constant.

    Caveats:
        Only for cross-entropies of hard labels: with label smoothing ``exp(-l)`` is not p_t.

    References:
        Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017,
        Eq. 4 [lin2017focal].
    """
    gamma = check_number("gamma", gamma, at_least=0)
    wide, dtype = read_losses(losses, at_least=0, attached=True)
    wrong = -torch.expm1(-wide)
    if gamma < 1:
        # Below the smallest normal number the slope gamma x^(gamma - 1) overflows.
        wrong = torch.where(wrong > torch.finfo(wide.dtype).tiny, wrong, wrong.detach())
    return wrong.pow(gamma).to(dtype)


def focal_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> torch.Tensor:
    """Calculate the focal loss of each sample from logits.

    Use it where the loss itself is ours to choose; `focal` reweighs a loss that is given.
    With p_t the probability of the true class (Eq. 5)::

        FL = -alpha_t (1 - p_t)^gamma log(p_t)

    Everything follows from one margin m, the logit of the true class against the others (the
    signed logit, or the logit minus the log-sum-exp of the rest): ``log p_t = logsigmoid(m)`` and
    ``log(1 - p_t) = logsigmoid(-m)``. So value and gradient are finite for logits of any size.

    Args:
        logits: (B,) for a binary problem, (B, C) with C >= 2 for C classes.
        targets: (B,); 0 or 1 for a binary problem, class numbers in [0, C) otherwise.
        gamma: at least 0; 2 in the paper. 0 is cross-entropy.
        alpha: binary only: the weight of positives, in [0, 1]; negatives weigh 1 - alpha. The
            paper uses .25 for detection. None weighs all alike.

    Returns:
        Losses (B,), unreduced, differentiable in ``logits``, in their dtype.

    Raises:
        TypeError: logits or targets of a wrong kind.
        ValueError: wrong shapes; gamma < 0; alpha outside [0, 1] or given for C classes; on the
            CPU, a target that is no class.

    Example:
        >>> logits = torch.tensor([0.5, 0.1]).logit()
        >>> focal_loss(logits, torch.ones(2), alpha=0.25)
        tensor([0.0433, 0.4663])

    Differences from the paper:
        Several classes, by softmax, without alpha; the paper has sigmoids only.

    Caveats:
        In detection divide the sum by the number of positives, elsewhere by the batch. Drop
        ignored labels before the call.

    References:
        Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017,
        Eq. 5 [lin2017focal].
    """
    gamma = check_number("gamma", gamma, at_least=0)
    if alpha is not None:
        alpha = check_number("alpha", alpha, at_least=0, at_most=1)
    _check_classification(logits, targets, alpha)
    wide = logits.float() if logits.dtype.itemsize < 4 else logits
    if logits.ndim == 1:
        sign = 2 * targets.to(wide.dtype) - 1
        margin = sign * wide
    else:
        true = targets.to(torch.int64).unsqueeze(1)
        others = wide.scatter(1, true, -math.inf).logsumexp(1)
        margin = wide.gather(1, true).squeeze(1) - others
    losses = -F.logsigmoid(margin) * torch.exp(gamma * F.logsigmoid(-margin))
    if alpha is not None:
        losses = torch.where(targets == 1, alpha, 1 - alpha) * losses
    return losses.to(logits.dtype)


def super_loss(losses: torch.Tensor, *, tau: float | torch.Tensor, lam: float) -> torch.Tensor:
    """Trust samples whose loss is below a reference, and doubt those above it.

    Each loss gets its own confidence s, chosen as well as possible: SuperLoss is ::

        SL(l) = min_s (l - tau) s + lambda (log s)^2
        s*    = exp(-W(max(-2/e, beta) / 2)),   beta = (l - tau) / lambda

    with W the principal branch of the Lambert function. s* is 1 at l = tau, e for very easy
    samples, and falls slowly for hard ones. Because s* is a minimiser, the gradient of SL is
    ``s* dl``: multiplying losses by these weights trains on SuperLoss.

    Args:
        losses: (B,), any real values.
        tau: the loss that divides easy from hard, in units of the loss: log C for C classes, or
            a running mean. 0 is a value like any other.
        lam: lambda > 0, in units of the loss: the larger, the closer to plain training. The
            paper uses 1 for CIFAR-10 and .25 for CIFAR-100.

    Returns:
        s* in (0, e], (B,), new, detached, in the losses' floating dtype.

    Raises:
        ValueError: lam not above 0, losses of a wrong shape or not finite.

    Example:
        >>> super_loss(torch.tensor([0.0, 1.0, 2.0, 10.0]), tau=0.0, lam=1.0)
        tensor([1.0000, 0.7035, 0.5671, 0.2653])

    Differences from the paper:
        None known.

    Differences from the authors' code:
        Not compared. Public versions calculate W with SciPy on the host and return float64; at
        beta = -2/e, where SciPy gives NaN, ours is exactly e.

    Caveats:
        lam has the unit of the loss: rescaling the losses changes the weights.

    References:
        Castells, Weinzaepfel, Revaud, "SuperLoss: A Generic Loss for Robust Curriculum Learning",
        NeurIPS 2020 [castells2020superloss].
    """
    wide, dtype = read_losses(losses)
    confidence, _ = _confidence(wide, tau, check_number("lam", lam, above=0))
    return confidence.to(dtype)


def super_loss_value(
    losses: torch.Tensor, *, tau: float | torch.Tensor, lam: float
) -> torch.Tensor:
    """Calculate the SuperLoss itself, for logging or as a loss to train on.

    With s* from `super_loss`::

        SL(l) = (l - tau) s* + lambda (log s*)^2

    Its gradient is ``s* dl``, so a step on the mean of these values equals a step on the mean of
    ``super_loss(losses) * losses``.

    Args:
        losses: (B,), any real values.
        tau: the loss that divides easy from hard, in units of the loss.
        lam: lambda > 0, in units of the loss.

    Returns:
        SL values, (B,), new, differentiable in ``losses``, in their floating dtype; negative for
        samples easier than tau.

    Raises:
        ValueError: lam not above 0, losses of a wrong shape or not finite.

    Example:
        >>> super_loss_value(torch.tensor([0.0, 1.0, 2.0, 10.0]), tau=0.0, lam=1.0)
        tensor([0.0000, 0.8272, 1.4559, 4.4136])

    Differences from the paper:
        None known.

    References:
        Castells, Weinzaepfel, Revaud, "SuperLoss: A Generic Loss for Robust Curriculum Learning",
        NeurIPS 2020 [castells2020superloss].
    """
    wide, dtype = read_losses(losses, attached=True)
    lam = check_number("lam", lam, above=0)
    confidence, log_confidence = _confidence(wide, tau, lam)
    exact = wide.to(confidence.dtype)
    gain = exact - read_scalar("tau", tau, exact)
    return (gain * confidence + lam * log_confidence.square()).to(dtype)


def _confidence(
    losses: torch.Tensor, tau: float | torch.Tensor, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return s* and log s*, (B,), detached, in the widest dtype of the device."""
    exact = losses.to(precise_dtype(losses.device))
    beta = (exact - read_scalar("tau", tau, exact)) / lam
    floor = -2 / math.e
    clamped = beta <= floor
    # At the floor, W's branch point, rounding would decide; from there down s is e by definition.
    log_confidence = torch.where(clamped, 1, -lambert_w(beta / 2))
    return torch.where(clamped, math.e, log_confidence.exp()), log_confidence


def _check_classification(logits: torch.Tensor, targets: torch.Tensor, alpha: float | None) -> None:
    """Refuse logits and targets that do not belong together."""
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        raise TypeError(str(refusal("logits", "a floating tensor", _shown(logits))))
    if not isinstance(targets, torch.Tensor) or targets.is_complex():
        raise TypeError(str(refusal("targets", "a tensor of labels", _shown(targets))))
    binary = logits.ndim == 1
    if not binary and (logits.ndim != 2 or logits.shape[1] < 2):
        rule = "of shape (B,) for two classes or (B, C) with C at least 2"
        cause = "Squeeze the last dimension?" if logits.shape[-1:] == (1,) else ""
        raise refusal("logits", rule, logits, cause)
    if targets.shape != logits.shape[:1]:
        raise refusal("targets", f"of shape ({logits.shape[0]},)", targets)
    if binary:
        rule = "0 or 1"
        valid = (targets == 0) | (targets == 1)
    else:
        if alpha is not None:
            cause = "Multiply the losses by class weights instead?"
            raise refusal("alpha", "None for more than one logit per sample", alpha, cause)
        if targets.is_floating_point():
            raise refusal("targets", "class numbers, int64", targets)
        rule = f"class numbers in [0, {logits.shape[1]})"
        valid = (targets >= 0) & (targets < logits.shape[1])
    if readable(targets) and not bool(valid.all()):
        wrong = targets[~valid][0].item()
        raise refusal("targets", rule, wrong, "Drop ignored labels before the call?")


def _shown(value: object) -> object:
    return value if isinstance(value, torch.Tensor) else type(value).__name__
