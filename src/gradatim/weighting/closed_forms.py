"""The minimisers of ``v l + f(v)`` on [0, 1], one line each, on tensors already checked.

The public functions check and cast around these; SPCL applies the same forms to shifted losses.
Every function takes ``losses`` (B,) and 0-d tensors, and returns weights (B,) of the same dtype.
"""

from __future__ import annotations

import torch

__all__ = ["hard", "linear", "logarithmic", "logistic", "mixture", "polynomial", "root_mixture"]


def hard(losses: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Return 1 where the loss is at most the threshold, else 0.

    Example:
        >>> hard(torch.tensor([0.4, 0.5, 0.6]), torch.tensor(0.5))
        tensor([1., 1., 0.])
    """
    return (losses <= threshold).to(losses.dtype)


def linear(losses: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Return ``1 - l / lambda``, cut to [0, 1].

    Example:
        >>> linear(torch.tensor([0.0, 0.25, 1.0]), torch.tensor(0.5))
        tensor([1.0000, 0.5000, 0.0000])
    """
    return (1 - losses / threshold).clamp(0, 1)


def logarithmic(losses: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Return ``log(l + zeta) / log(zeta)`` with ``zeta = 1 - lambda``, cut to [0, 1].

    Example:
        >>> logarithmic(torch.tensor([0.0, 0.25, 1.0]), torch.tensor(0.5))
        tensor([1.0000, 0.4150, 0.0000])
    """
    # log1p keeps the digits of a small threshold, which 1 - lambda would round away.
    ratio = torch.log1p(losses - threshold) / torch.log1p(-threshold)
    return torch.where(losses >= threshold, 0, ratio).clamp(max=1)


def polynomial(losses: torch.Tensor, threshold: torch.Tensor, *, power: float) -> torch.Tensor:
    """Return ``(1 - l / lambda) ** (1 / (power - 1))``, cut to [0, 1].

    Example:
        >>> polynomial(torch.tensor([0.0, 0.375, 1.0]), torch.tensor(0.5), power=3)
        tensor([1.0000, 0.5000, 0.0000])
    """
    return linear(losses, threshold).pow(1 / (power - 1))


def logistic(losses: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Return ``(1 + exp(-lambda)) / (1 + exp(l - lambda))``, at most 1.

    Example:
        >>> logistic(torch.tensor([0.0, 0.5]), torch.tensor(0.5))
        tensor([1.0000, 0.8033])
    """
    ratio = (1 + torch.exp(-threshold)) / (1 + torch.exp(losses - threshold))
    # A loss of zero must weigh exactly 1, whatever the two exponentials round to.
    return torch.where(losses <= 0, 1, ratio).clamp(max=1)


def mixture(losses: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """Return 1 up to ``lower``, 0 from ``upper``, and ``zeta / l - zeta / upper`` between.

    Example:
        >>> mixture(torch.tensor([0.2, 0.3, 0.8]), torch.tensor(0.8), torch.tensor(0.2))
        tensor([1.0000, 0.5556, 0.0000])
    """
    # zeta / l - zeta / upper with zeta = upper lower / (upper - lower), free of cancellation.
    between = (lower / losses) * ((upper - losses) / (upper - lower))
    return torch.where(losses <= lower, 1, between.clamp(0, 1))


def root_mixture(
    losses: torch.Tensor, threshold: torch.Tensor, gamma: torch.Tensor
) -> torch.Tensor:
    """Return ``gamma (1 / sqrt(l) - 1 / lambda)``, cut to [0, 1].

    Example:
        >>> root_mixture(torch.tensor([0.0, 0.25, 1.0]), torch.tensor(1.0), torch.tensor(0.5))
        tensor([1.0000, 0.5000, 0.0000])
    """
    return (gamma * (losses.rsqrt() - 1 / threshold)).clamp(0, 1)
