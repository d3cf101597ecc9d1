"""Self-paced weights: the model's own loss decides how much a sample counts.

Self-paced learning minimises ``sum_i v_i l_i + f(v_i; lambda)`` over the model and over weights
``v_i`` in [0, 1]. With the model held fixed the best weights have a closed form, which depends on
the regulariser f; each function here is one such form. ``lambda``, our ``threshold``, is the pace:
raising it admits harder samples.

All of them take losses (B,) and return new weights (B,) in [0, 1], non-increasing in the loss, 1
at a loss of 0, detached, in the losses' floating dtype (half precision is calculated in float32;
whole-number losses give float64). A threshold may be a number or a 0-d tensor; the value of a
tensor is used unread, so that nothing waits for a device.
"""

from __future__ import annotations

import torch

from gradatim.validation import check_number, refusal
from gradatim.weighting import closed_forms
from gradatim.weighting.inputs import read_losses, read_scalar

__all__ = ["hard", "linear", "logarithmic", "logistic", "mixture", "polynomial", "root_mixture"]


def hard(losses: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
    """Take the samples that the model already handles, and leave the others out.

    The original self-paced weighting: a sample counts fully or not at all. ``f(v) = -lambda v``
    gives the minimiser (Kumar et al. 2010, Eq. 4)::

        v(l) = 1 if l <= lambda, else 0

    and the objective ``sum_i min(l_i, lambda) - n lambda``.

    Args:
        losses: (B,), any real values.
        threshold: lambda > 0, in units of the loss; Kumar et al. write 1/K. ``math.inf`` includes
            every sample: plain training.

    Returns:
        Zeros and ones, (B,), new, in the losses' floating dtype.

    Raises:
        ValueError: threshold not above 0, losses of a wrong shape or not finite.

    Example:
        >>> hard(torch.tensor([0.1, 0.3, 0.5, 0.9]), 0.5)
        tensor([1., 1., 1., 0.])

    Differences from the paper:
        A loss equal to lambda is included (both answers are minimisers; the paper has l < 1/K).

    Caveats:
        Samples left out do not improve, so a threshold that stalls leaves them out for good.

    References:
        Kumar, Packer, Koller, "Self-Paced Learning for Latent Variable Models", NeurIPS 2010,
        Eq. 4 [kumar2010].
    """
    wide, dtype = read_losses(losses)
    limit = read_scalar("threshold", threshold, wide, above=0, infinite=True)
    return closed_forms.hard(wide, limit).to(dtype)


def linear(losses: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
    """Let the weight fall in a straight line from 1 at a loss of 0 to 0 at the threshold.

    A soft form: samples near the threshold enter gradually instead of in one jump.
    ``f(v) = lambda (v^2 / 2 - v)`` gives the minimiser::

        v(l) = max(0, 1 - l / lambda)

    Args:
        losses: (B,). Negative losses weigh 1, the minimiser on [0, 1].
        threshold: lambda > 0, in units of the loss. ``math.inf`` gives weight 1 to every sample:
            plain training, to the bit.

    Returns:
        Weights in [0, 1], (B,), new, in the losses' floating dtype.

    Raises:
        ValueError: threshold not above 0, losses of a wrong shape or not finite.

    Example:
        >>> linear(torch.tensor([0.1, 0.3, 0.5, 0.9]), 0.5)
        tensor([0.8000, 0.4000, 0.0000, 0.0000])

    Differences from the paper:
        None known.

    Caveats:
        The hardest sample that a threshold admits has a weight near 0, and at a threshold just
        above the largest loss the weights still average well below 1. End a pace at ``math.inf``.

    References:
        Jiang, Meng, Mitamura, Hauptmann, "Easy Samples First: Self-paced Reranking for
        Zero-Example Multimedia Search", ACM MM 2014, linear soft weighting [jiang2014reranking].
    """
    wide, dtype = read_losses(losses)
    limit = read_scalar("threshold", threshold, wide, above=0, infinite=True)
    return closed_forms.linear(wide, limit).to(dtype)


def logarithmic(losses: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
    """Let the weight fall fast among easy samples and slowly among hard ones.

    A soft form that is stricter than the linear one at equal threshold. With
    ``zeta = 1 - lambda`` and ``f(v) = zeta v - zeta^v / log(zeta)``, stationarity reads
    ``zeta^v = l + zeta``, and the minimiser is::

        v(l) = log(l + zeta) / log(zeta) if l < lambda, else 0

    It exists only for 0 < lambda < 1: divide the losses by one fixed
    `gradatim.weighting.loss_scale` first.

    Args:
        losses: (B,), at least 0, rescaled so that a threshold below 1 suits them.
        threshold: lambda in (0, 1).

    Returns:
        Weights in [0, 1], (B,), new, in the losses' floating dtype.

    Raises:
        ValueError: threshold outside (0, 1), where the formula has no value; negative losses.

    Example:
        >>> logarithmic(torch.tensor([0.1, 0.3, 0.5, 0.9]), 0.5)
        tensor([0.7370, 0.3219, 0.0000, 0.0000])

    Differences from the paper:
        The formula is a reconstruction, checked by its stationarity condition.

    Caveats:
        The weight is not monotone in the threshold: a loss of .3 weighs .322 at .5 and .254 at
        .99. No threshold below 1 admits a rescaled loss of 1 or more, so a pace that has reached
        the whole data set must switch to weights of 1.

    References:
        Jiang, Meng, Mitamura, Hauptmann, "Easy Samples First: Self-paced Reranking for
        Zero-Example Multimedia Search", ACM MM 2014, logarithmic soft weighting
        [jiang2014reranking].
    """
    wide, dtype = read_losses(losses, at_least=0)
    return closed_forms.logarithmic(wide, read_unit_threshold(threshold, wide)).to(dtype)


def polynomial(
    losses: torch.Tensor, threshold: float | torch.Tensor, *, power: float = 2.0
) -> torch.Tensor:
    """Bend the linear weight: ``power`` above 2 keeps more samples, below 2 fewer.

    One parameter leads from weights that drop at once (power near 1) over linear (power 2) to
    nearly hard ones (large power). ``f(v) = lambda (v^t / t - v)`` with t = ``power`` gives::

        v(l) = (1 - l / lambda)^(1 / (t - 1)) if l < lambda, else 0

    Args:
        losses: (B,), at least 0.
        threshold: lambda > 0, in units of the loss. ``math.inf`` gives weight 1 to every sample:
            plain training, to the bit.
        power: t > 1; 2, the default, is `linear`.

    Returns:
        Weights in [0, 1], (B,), new, in the losses' floating dtype.

    Raises:
        ValueError: threshold not above 0, power not above 1, negative losses.

    Example:
        >>> polynomial(torch.tensor([0.1, 0.3, 0.5, 0.9]), 0.5, power=3)
        tensor([0.8944, 0.6325, 0.0000, 0.0000])

    Differences from the paper:
        None known.

    References:
        Gong, Li, Meng, Miao, Liu, "Decomposition-Based Evolutionary Multiobjective Optimization
        to Self-Paced Learning", IEEE Transactions on Evolutionary Computation 2019, polynomial
        soft weighting.
    """
    power = check_number("power", power, above=1)
    wide, dtype = read_losses(losses, at_least=0)
    limit = read_scalar("threshold", threshold, wide, above=0, infinite=True)
    return closed_forms.polynomial(wide, limit, power=power).to(dtype)


def logistic(losses: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
    """Weigh by a smooth curve that never reaches 0, so that no sample is ever shut out.

    The regulariser is implicit; what is given is the weight::

        v(l) = (1 + exp(-lambda)) / (1 + exp(l - lambda))

    Args:
        losses: (B,). Negative losses weigh 1.
        threshold: lambda > 0, in units of the loss. ``math.inf`` gives weight 1 to every sample.

    Returns:
        Weights in [0, 1], (B,), new, in the losses' floating dtype.

    Raises:
        ValueError: threshold not above 0, losses of a wrong shape or not finite.

    Example:
        >>> logistic(torch.tensor([0.1, 0.3, 0.5, 0.9]), 0.5)
        tensor([0.9618, 0.8833, 0.8033, 0.6447])

    Differences from the paper:
        Cut to 1 for negative losses, for which the formula exceeds 1.

    Caveats:
        The curve has a fixed width of about one unit of loss: it does not follow a rescaling of
        the losses as the other forms do.

    References:
        Xu, Tao, Xu, "Multi-View Self-Paced Learning for Clustering", IJCAI 2015, smoothed
        weighting.
    """
    wide, dtype = read_losses(losses)
    limit = read_scalar("threshold", threshold, wide, above=0, infinite=True)
    return closed_forms.logistic(wide, limit).to(dtype)


def mixture(
    losses: torch.Tensor, *, upper: float | torch.Tensor, lower: float | torch.Tensor
) -> torch.Tensor:
    """Take easy samples fully, leave hard ones out, and grade what lies between.

    Hard and soft weighting in one, with two thresholds that both have the unit of the loss. With
    ``zeta = l1 l2 / (l1 - l2)`` and ``f(v) = -zeta log(v + zeta / l1)`` the minimiser is::

        v(l) = 1                      if l <= l2
               zeta / l - zeta / l1   if l2 < l < l1
               0                      if l >= l1

    Args:
        losses: (B,), at least 0.
        upper: l1, the loss from which samples are left out; above ``lower``.
        lower: l2 > 0, the loss up to which samples count fully.

    Returns:
        Weights in [0, 1], (B,), new, in the losses' floating dtype.

    Raises:
        ValueError: lower not above 0, upper not above lower, negative losses.

    Example:
        >>> mixture(torch.tensor([0.1, 0.3, 0.5, 0.9]), upper=0.8, lower=0.2)
        tensor([1.0000, 0.5556, 0.2000, 0.0000])

    Differences from the paper:
        None known.

    References:
        Jiang, Meng, Zhao, Shan, Hauptmann, "Self-Paced Curriculum Learning", AAAI 2015, mixture
        weighting [jiang2015spcl].
    """
    wide, dtype = read_losses(losses, at_least=0)
    high = read_scalar("upper", upper, wide, above=0)
    low = read_scalar("lower", lower, wide, above=0)
    numbers = not isinstance(upper, torch.Tensor) and not isinstance(lower, torch.Tensor)
    if numbers and upper <= lower:
        raise refusal("upper", f"above lower, which is {lower}", upper, "Swapped the two?")
    return closed_forms.mixture(wide, high, low).to(dtype)


def root_mixture(
    losses: torch.Tensor, *, threshold: float | torch.Tensor, gamma: float | torch.Tensor
) -> torch.Tensor:
    """Grade by the inverse root of the loss, between full inclusion and exclusion.

    For squared errors the root of the loss is the residual, which is what this form was made for.
    ``f(v) = gamma^2 / (v + gamma / lambda)`` gives the minimiser::

        v(l) = 1                                  if l <= (lambda gamma / (lambda + gamma))^2
               gamma (1 / sqrt(l) - 1 / lambda)   between
               0                                  if l >= lambda^2

    Args:
        losses: (B,), at least 0.
        threshold: lambda > 0, in units of the *root* of the loss. ``math.inf`` excludes nobody.
        gamma: > 0, same unit; the larger, the wider the zone of full inclusion.

    Returns:
        Weights in [0, 1], (B,), new, in the losses' floating dtype.

    Raises:
        ValueError: threshold or gamma not above 0, negative losses.

    Example:
        >>> root_mixture(torch.tensor([0.1, 0.3, 0.5, 0.9]), threshold=0.8, gamma=0.5)
        tensor([0.9561, 0.2879, 0.0821, 0.0000])

    Differences from the paper:
        None known; the formula was not checked against the paper's text.

    References:
        Zhao, Meng, Jiang, Xie, Xu, Hauptmann, "Self-Paced Learning for Matrix Factorization",
        AAAI 2015, soft weighting [zhao2015].
    """
    wide, dtype = read_losses(losses, at_least=0)
    limit = read_scalar("threshold", threshold, wide, above=0, infinite=True)
    width = read_scalar("gamma", gamma, wide, above=0)
    return closed_forms.root_mixture(wide, limit, width).to(dtype)


def read_unit_threshold(threshold: float | torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """Return a threshold in (0, 1) as a 0-d tensor that is still inside after rounding.

    Raises:
        ValueError: a number outside (0, 1).

    Example:
        >>> read_unit_threshold(2.3, torch.zeros(3))
        Traceback (most recent call last):
        ValueError: threshold must be above 0 and below 1 for the logarithmic form. Got 2.3. ...
    """
    if isinstance(threshold, torch.Tensor):
        return read_scalar("threshold", threshold, losses)
    number = check_number("threshold", threshold)
    if not 0 < number < 1:
        rule = "above 0 and below 1 for the logarithmic form"
        cause = "Divide losses and threshold by loss_scale(losses) first?"
        raise refusal("threshold", rule, threshold, cause)
    # 1 - 1e-9 is 1 in float32, where the formula breaks down; stay on this side.
    limits = torch.finfo(losses.dtype)
    return losses.new_full((), min(max(number, limits.tiny), 1 - limits.eps))
