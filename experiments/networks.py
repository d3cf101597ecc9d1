"""Networks of the experiments that are in the manner of the papers', small enough for two cores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A pre-activation residual block of two 3 x 3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        activated = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.conv2(F.relu(self.norm2(self.conv1(activated))))


class WideResNet(nn.Module):
    """A WideResNet-10 with a stem of stride 2: three groups of one block, 8, 16 and 32 channels."""

    def __init__(self, channels: int, outputs: int, widths: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, 2, 1, bias=False)
        ends = (widths[0], *widths)
        self.blocks = nn.Sequential(
            *(
                Block(inputs, width, 1 if group == 0 else 2)
                for group, (inputs, width) in enumerate(zip(ends, widths, strict=False))
            )
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], outputs)
        # A third faster on processors, and as fast elsewhere.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, C, H, W), or floats in [0, 1], to logits (B, outputs)."""
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        x = (images.to(self.head.weight.dtype) / scale - 0.5) * 4
        x = self.blocks(self.stem(x.contiguous(memory_format=torch.channels_last)))
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


def wide_resnet(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network that the DIHCL and DoCL papers used most, in small."""
    return WideResNet(shape[0], outputs)


def wider_resnet(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A teacher for distillation: the same with three times the channels."""
    return WideResNet(shape[0], outputs, (24, 48, 96))
