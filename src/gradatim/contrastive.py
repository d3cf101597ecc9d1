"""Losses of two views of each sample, for representations learnt without labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from gradatim.validation import check_finite, check_flag, check_number, refusal

__all__ = ["hard_negative_loss"]


def hard_negative_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    temperature: float = 0.5,
    beta: float = 1.0,
    tau_plus: float = 0.1,
    detach: bool = False,
) -> torch.Tensor:
    """Calculate a contrastive loss in which negatives near the anchor count more.

    An inverse curriculum over negatives: those that the embedding confuses with the anchor teach
    most. Since some of them are of the anchor's own, unknown class, their expected share is
    subtracted (Robinson et al. 2021, Eqs. 3 to 5). Of the 2N embeddings, at unit length, each is
    an anchor once; its own pair is the positive, the M = 2N - 2 others are negatives, s their
    similarity::

        e_j = exp(s_j / t),  pos = exp(s+ / t),  q_j = e_j^beta
        R   = M sum_j q_j e_j / sum_j q_j
        Ng  = max((R - tau+ M pos) / (1 - tau+), M exp(-1/t))
        l   = -log(pos / (pos + Ng))

    Everything is calculated in log-space, so low temperatures neither overflow nor vanish.
    ``beta=0`` debiases only; with ``tau_plus=0`` too it is NT-Xent, the loss of SimCLR.

    Args:
        first: (N, d) embeddings of one view, N at least 2; any length above 0, not normalised.
        second: (N, d), the other view, row by row.
        temperature: t, above 0.
        beta: at least 0: how much more near negatives count.
        tau_plus: tau+, in [0, 1): the chance that a random sample is of the anchor's class; one
            over the number of classes where they are equally frequent.
        detach: treat q as constants: no gradient through the importance weights.

    Returns:
        Losses (2N,), of the rows of ``first`` as anchors and then of ``second``; unreduced,
        differentiable, in the embeddings' dtype. ``losses.view(2, -1).mean(0)`` is one per sample,
        as a curriculum takes it.

    Raises:
        TypeError: embeddings that are no tensors.
        ValueError: wrong or different shapes, fewer than 2 rows, a parameter outside its range;
            on the CPU, rows that are all zero or not finite.

    Example:
        >>> first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> second = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        >>> hard_negative_loss(first, second)
        tensor([0.4792, 0.2041, 0.4792, 0.8186])
        >>> hard_negative_loss(first, second, beta=0, tau_plus=0).mean()  # NT-Xent
        tensor(0.5276)

    Differences from the paper:
        Its appendix multiplies by beta where its equation and code take the power; so do we.

    Caveats:
        N^2 d operations. Negatives are those of this process: gather the embeddings of other ranks
        first, if they are to count. On an accelerator a row of zeros is at right angles to all.

    References:
        Robinson, Chuang, Sra, Jegelka, Contrastive Learning with Hard Negative Samples, ICLR 2021
        [robinson2021].
    """
    temperature = check_number("temperature", temperature, above=0)
    beta = check_number("beta", beta, at_least=0)
    tau_plus = check_number("tau_plus", tau_plus, at_least=0, below=1)
    check_flag("detach", detach)
    _check_views(first, second)
    dtype = torch.promote_types(first.dtype, second.dtype)
    wide = torch.promote_types(dtype, torch.float32)
    unit = torch.cat([_unit(view.to(wide)) for view in (first, second)])
    count = unit.shape[0]
    negatives = count - 2
    similar = unit @ unit.T / temperature  # log e
    anchors = torch.arange(count, device=unit.device)
    pairs = anchors.roll(count // 2)
    positive = similar[anchors, pairs]
    left_out = torch.zeros(count, count, dtype=torch.bool, device=unit.device)
    left_out[anchors, anchors] = left_out[anchors, pairs] = True

    # Filled after the product: 0 times -inf is not a number.
    importance = (beta * similar).masked_fill(left_out, -math.inf).log_softmax(1)
    if detach:
        importance = importance.detach()
    mass = math.log(negatives) + (importance + similar).logsumexp(1)  # log R
    if tau_plus > 0:
        mass = _debiased(mass, positive, negatives, temperature, tau_plus)
    return F.softplus(mass - positive, threshold=40).to(dtype)


def _debiased(
    mass: torch.Tensor, positive: torch.Tensor, negatives: int, temperature: float, tau_plus: float
) -> torch.Tensor:
    """Log Ng of log R, with M exp(-1/t) where less than that would be left."""
    floor = math.log(negatives) - 1 / temperature
    share = math.log(tau_plus * negatives) + positive - mass  # log of what is subtracted, over R
    with torch.no_grad():
        rest = mass + torch.log(-torch.expm1(share.clamp(max=0))) - math.log1p(-tau_plus)
        enough = rest > floor
    # The gradient of a branch that is not taken must be finite, too.
    share = torch.where(enough, share, -1.0)
    rest = mass + torch.log(-torch.expm1(share)) - math.log1p(-tau_plus)
    return torch.where(enough, rest, floor)


def _unit(view: torch.Tensor) -> torch.Tensor:
    """Rows at length 1, also where squares of their entries would over- or underflow."""
    largest = view.detach().abs().amax(1, keepdim=True)
    return F.normalize(view / largest.clamp(min=torch.finfo(view.dtype).tiny), dim=1)


def _check_views(first: torch.Tensor, second: torch.Tensor) -> None:
    for name, view in (("first", first), ("second", second)):
        if not isinstance(view, torch.Tensor):
            rule = "a floating tensor of shape (N, d)"
            raise TypeError(str(refusal(name, rule, type(view).__name__)))
        if view.ndim != 2 or not view.is_floating_point():
            raise refusal(name, "a floating tensor of shape (N, d)", view)
        if view.shape[0] < 2 or not view.shape[1]:
            cause = "One sample has no negatives." if view.shape[0] == 1 else ""
            raise refusal(name, "of at least 2 rows and 1 column", view, cause)
    if first.shape != second.shape:
        raise refusal("second", f"of shape {tuple(first.shape)}, as first", second)
    for name, view in (("first", first), ("second", second)):
        if not view.is_cpu:
            continue
        check_finite(name, view.detach())
        zero = view.detach().eq(0).all(1).nonzero().flatten()
        if zero.numel():
            raise refusal(name, "of rows that are not all zero", f"zeros in row {int(zero[0])}")
