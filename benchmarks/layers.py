"""Model-level methods: a ResNet-18 step at CIFAR's size, against the plain loop in the same run."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import interleaved
from torch import nn

import gradatim as gr

BATCH = 32


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride > 1 or width != out:
            projection = nn.Conv2d(width, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet18(width: int = 64) -> nn.Module:
    """ResNet-18 for 32 x 32 images: a 3 x 3 stem and no pooling in front."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)]
    layers.append(nn.ReLU())
    before = width
    for stage in range(4):
        out = width * 2**stage
        for number in range(2):
            layers.append(Block(before, out, 2 if stage and not number else 1))
            before = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


Variant = Callable[[], list[gr.Method]]

VARIANTS: dict[str, Variant] = {
    "CBS": lambda: [gr.CBS(90)],
    "CBS size 5": lambda: [gr.CBS(90, size=5)],
    "CBS reflect": lambda: [gr.CBS(90, padding="reflect")],
    "LeRaC": lambda: [gr.LeRaC(5)],
    "LeRaC by step": lambda: [gr.LeRaC(5, unit="step")],
    "LeRaC when over": lambda: [gr.LeRaC(0)],
    "engine alone": lambda: [gr.Uniform()],
}


def step(methods: list[gr.Method] | None, *, channels_last: bool) -> Callable[[], None]:
    """One training step with these methods attached; None is the loop without gradatim."""
    torch.manual_seed(0)
    model = resnet18()
    images, targets = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % 10
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    if methods is None:

        def plain() -> None:
            F.cross_entropy(model(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()

        return plain
    curriculum = gr.Curriculum(*methods, seed=0)
    # One epoch that is longer than the measurement.
    loader = curriculum.loader(range(BATCH * 1000), batch_size=BATCH)
    curriculum.attach(model=model, optimizer=optimizer)
    batches = iter(loader)

    def with_curriculum() -> None:
        next(batches)
        losses = F.cross_entropy(model(images), targets, reduction="none")
        curriculum(losses).backward()
        optimizer.step()
        optimizer.zero_grad()

    with_curriculum.loader = loader  # type: ignore[attr-defined] # the curriculum holds it weakly
    return with_curriculum


def run(
    *, names: tuple[str, ...] = tuple(VARIANTS), rounds: int = 3, channels_last: bool = False
) -> list[dict[str, float | str]]:
    """Milliseconds per step of each variant, and its ratio to the plain step."""
    contestants = {"plain": step(None, channels_last=channels_last)}
    for name in names:
        contestants[name] = step(VARIANTS[name](), channels_last=channels_last)
    best = interleaved(contestants, rounds=rounds, repeats=1)
    return [
        {"variant": name, "ms": seconds * 1e3, "ratio": seconds / best["plain"]}
        for name, seconds in best.items()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--channels-last", action="store_true")
    arguments = parser.parse_args()
    for row in run(
        names=tuple(arguments.names),
        rounds=arguments.rounds,
        channels_last=arguments.channels_last,
    ):
        print(row)
