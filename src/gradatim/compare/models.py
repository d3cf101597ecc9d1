"""Small models with initial weights that depend on a seed and on nothing else."""

from __future__ import annotations

import math

import torch
from torch import nn

from gradatim.validation import check_count

__all__ = ["perceptron"]


def perceptron(features: int, classes: int, *, seed: int, hidden: int = 128) -> nn.Sequential:
    """Build a perceptron with one hidden layer of rectified units.

    Weights and biases are uniform in +-1 / sqrt(inputs), torch's own default, drawn from the seed:
    every curriculum of one seed starts from the same point.

    Args:
        features: number of inputs.
        classes: number of outputs.
        seed: at least 0.
        hidden: width of the hidden layer.

    Returns:
        A module from (B, features) to logits (B, classes).

    Raises:
        ValueError: a width below 1.

    Example:
        >>> perceptron(64, 10, seed=0)(torch.zeros(2, 64)).shape
        torch.Size([2, 10])
    """
    check_count("features", features, at_least=1)
    check_count("classes", classes, at_least=1)
    check_count("hidden", hidden, at_least=1)
    generator = torch.Generator().manual_seed(check_count("seed", seed))
    # skip_init: the usual constructor would draw from the process-wide generator.
    layers = [
        nn.utils.skip_init(nn.Linear, features, hidden),
        nn.ReLU(),
        nn.utils.skip_init(nn.Linear, hidden, classes),
    ]
    for layer in layers[::2]:
        bound = 1 / math.sqrt(layer.in_features)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return nn.Sequential(*layers)
