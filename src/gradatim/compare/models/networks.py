"""Small networks that learn something within minutes on one core."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gradatim.validation import check_count

__all__ = ["ConvNet", "TextNet", "perceptron"]


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


def _convolution(inputs: int, outputs: int, stride: tuple[int, int]) -> nn.Sequential:
    # Odd, and neighbours overlap.
    high, wide = (max(3, step + 1 - step % 2) for step in stride)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (high, wide), stride, (high // 2, wide // 2), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ConvNet(nn.Module):
    """Four convolutions with batch normalisation, then a mean over all places.

    The first convolution brings any size to about ``grid`` places, so that large images cost little
    more than small ones; two more halve it. Constructed from the process-wide generator, as
    modules of torch are; `build_model` seeds it.

    Args:
        channels: C of the inputs.
        height: H, at least 8 for images of use.
        width: W.
        outputs: numbers per sample.
        grid: places after the first convolution, about, in height and width.

    Example:
        >>> from gradatim.compare.models.build import seeded
        >>> with seeded(0):
        ...     network = ConvNet(1, 28, 28, 10)
        >>> network(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        outputs: int,
        *,
        grid: tuple[int, int] = (14, 14),
    ) -> None:
        super().__init__()
        stride = (max(1, height // grid[0]), max(1, width // grid[1]))
        self.features = nn.Sequential(
            _convolution(channels, 24, stride),
            _convolution(24, 48, (2, 2)),
            _convolution(48, 96, (2, 2)),
            _convolution(96, 96, (1, 1)),
        )
        self.head = nn.Linear(96, outputs)
        # A third faster on processors, and as fast elsewhere.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, C, H, W), or floats in [0, 1], to (B, outputs)."""
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        scaled = (images.to(self.head.weight.dtype) / scale - 0.5) * 4
        places = self.features(scaled.contiguous(memory_format=torch.channels_last))
        return self.head(places.mean((2, 3)))


class TextNet(nn.Module):
    """Word vectors, seen one by one and in threes; the mean and the strongest of each decide.

    Args:
        tokens: number of token ids, padding (0) included.
        outputs: numbers per sample.
        width: of the word vectors.
        filters: patterns of three words.

    Example:
        >>> from gradatim.compare.models.build import seeded
        >>> with seeded(0):
        ...     network = TextNet(100, 2)
        >>> network(torch.tensor([[5, 6, 7, 0], [5, 0, 0, 0]])).shape
        torch.Size([2, 2])
    """

    def __init__(self, tokens: int, outputs: int, *, width: int = 64, filters: int = 96) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width, padding_idx=0)
        with torch.no_grad():
            # Small vectors are soon what training made of them; at torch's scale of 1 the random
            # start outweighs it, and costs about 8 points of accuracy on sentiments.
            self.embedding.weight.mul_(0.1)
        self.convolution = nn.Conv1d(width, filters, 3, padding=1)
        self.head = nn.Linear(width + filters, outputs)

    def forward(self, ids: torch.Tensor, *, hidden: bool = False) -> Any:
        """Map token ids int64 (B, L), 0 where there is no word, to (B, outputs).

        With ``hidden`` to three: (B, outputs), what the head reads of each word, its vector and
        the patterns around it, (B, L, width + filters), and their mask int64 (B, L).
        """
        real = (ids != 0).unsqueeze(2)
        vectors = self.embedding(ids)  # 0 where there is no word
        mean = vectors.sum(1) / real.sum(1).clamp(min=1)
        patterns = F.relu(self.convolution(vectors.transpose(1, 2))).transpose(1, 2)
        strongest = (patterns * real).amax(1)
        outputs = self.head(torch.cat([mean, strongest], 1))
        if not hidden:
            return outputs
        return outputs, torch.cat([vectors, patterns], 2), real.squeeze(2).long()
