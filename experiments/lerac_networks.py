"""Networks of the experiments on LeRaC and CBS: the paper's kinds, small enough for two cores.

They stand apart from `networks.py` because results name the file that their network is in: where it
changes, finished comparisons would no longer be gone on with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence


class BasicBlock(nn.Module):
    """ResNet's residual block: norm and activation after each of two 3 x 3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        hidden = F.relu(self.norm1(self.conv1(x)))
        return F.relu(shortcut + self.norm2(self.conv2(hidden)))


class ResNet(nn.Module):
    """ResNet-18 for images of 32 x 32: a stem, four stages of two blocks, a head.

    The stem is a 3 x 3 convolution without pooling, as is usual at this size.
    """

    def __init__(
        self, channels: int, outputs: int, widths: tuple[int, int, int, int], stride: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        inputs = (widths[0], *widths[:3])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    BasicBlock(before, width, 1 if stage == 0 else 2), BasicBlock(width, width, 1)
                )
                for stage, (before, width) in enumerate(zip(inputs, widths, strict=True))
            )
        )
        self.head = nn.Linear(widths[-1], outputs)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, C, H, W), or floats in [0, 1], to logits (B, outputs)."""
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        x = (images.to(self.head.weight.dtype) / scale - 0.5) * 4
        x = x.contiguous(memory_format=torch.channels_last)
        return self.head(self.stages(F.relu(self.norm(self.conv(x)))).mean((2, 3)))


def small_resnet18(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """ResNet-18's layers with an eighth of its channels and a stem of stride 2, for two cores."""
    return ResNet(shape[0], outputs, (8, 16, 32, 64), 2)


def resnet18(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network of the LeRaC paper in full; wants a GPU."""
    return ResNet(shape[0], outputs, (64, 128, 256, 512), 1)


class SoundNet(nn.Module):
    """Five convolutions over a log-mel spectrogram, each with its norm, and a mean over places."""

    def __init__(self, outputs: int, widths: tuple[int, ...] = (16, 24, 32, 48, 64)) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(inputs, width, 3, 2 if layer < 4 else 1, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                )
                for layer, (inputs, width) in enumerate(zip((1, *widths), widths, strict=False))
            )
        )
        self.head = nn.Linear(widths[-1], outputs)
        self.to(memory_format=torch.channels_last)

    def forward(self, spectrograms: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, 1, bands, frames), or floats in [0, 1], to logits (B, outputs)."""
        scale = 255.0 if spectrograms.dtype == torch.uint8 else 1.0
        x = (spectrograms.to(self.head.weight.dtype) / scale - 0.5) * 4
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        return self.head(x.mean((2, 3)))


def sound_net(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A small convolutional network for ESC-10."""
    if shape[0] != 1:
        raise ValueError(f"shape must be (1, bands, frames). Got {shape}.")
    return SoundNet(outputs)


class LSTMClassifier(nn.Module):
    """The LeRaC paper's LSTM: embeddings of 128, two layers of 256, two fully connected layers."""

    def __init__(self, tokens: int, outputs: int, width: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width, padding_idx=0)
        self.lstm1 = nn.LSTM(width, hidden, batch_first=True)
        self.lstm2 = nn.LSTM(hidden, hidden, batch_first=True)
        self.hidden = nn.Linear(hidden, hidden // 2)
        self.head = nn.Linear(hidden // 2, outputs)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map token ids int64 (B, L), 0 where there is no word, to (B, outputs)."""
        lengths = (ids != 0).sum(1).clamp(min=1).cpu()
        words = self.embedding(ids)
        # Packed, padding costs nothing: half of the time on CoLA.
        states = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        states, _ = self.lstm1(states)
        _, (last, _) = self.lstm2(states)
        return self.head(F.relu(self.hidden(last[0])))


def lstm(shape: tuple[int, ...], outputs: int, tokens: int) -> nn.Module:
    """The LSTM of the LeRaC paper, for texts."""
    del shape
    return LSTMClassifier(tokens, outputs)


class Augmented(nn.Module):
    """Flips, turns and solarizes images while it trains, each with a chance of a half."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, C, H, W) to logits (B, outputs)."""
        return self.network(_augmented(images) if self.training else images)


def _augmented(images: torch.Tensor) -> torch.Tensor:
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    flip, turn, solarize = (torch.rand(3, len(x), device=x.device) < 0.5).unbind()
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    angle = (torch.rand(len(x), device=x.device) - 0.5) * math.pi / 6 * turn  # at most 15 degrees
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    matrix = torch.stack([cosine, -sine, zero, sine, cosine, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    bright = solarize[:, None, None, None] & (x > 0.5)
    return torch.where(bright, 1 - x, x)


def augmented_resnet18(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The small ResNet-18 behind random changes of its images."""
    return Augmented(small_resnet18(shape, outputs))
