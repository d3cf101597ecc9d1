"""The network of the batch-selection experiments on Fashion-MNIST, where 16 seeds must fit."""

from __future__ import annotations

import math

import torch
from torch import nn

HIDDEN = 256


class Perceptron(nn.Module):
    """One hidden layer of rectified units on scaled pixels."""

    def __init__(self, pixels: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(pixels, HIDDEN)
        self.head = nn.Linear(HIDDEN, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, C, H, W) to (B, outputs)."""
        scaled = (images.flatten(1).to(self.head.weight.dtype) / 255 - 0.5) * 2
        return self.head(torch.relu(self.hidden(scaled)))


def perceptron(shape: tuple[int, int, int], outputs: int) -> Perceptron:
    """Build it for images of this shape."""
    return Perceptron(math.prod(shape), outputs)
