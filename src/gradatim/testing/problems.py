"""A classification problem small enough to train on hundreds of times in a test."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """What the checks train on, and where examples take values per sample from.

    Whatever a method or part is given per sample must come from here, row by row: relabelling the
    samples (`relabelled`) then permutes it as well, and `first` shortens it.

    Args:
        features: float32 (N, 4).
        targets: int64 (N,), classes 0, 1, 2, which a linear model can nearly learn; also groups.
        scores: float32 (N,), a difficulty; higher is harder, no two alike.
        noise: float32 (N, 3), what tells the losses of one epoch from those of another.

    Example:
        >>> problem = Problem.make()
        >>> problem.size, problem.scores.shape, problem.losses(epoch=0).shape
        (60, torch.Size([60]), torch.Size([60]))
    """

    features: torch.Tensor
    targets: torch.Tensor
    scores: torch.Tensor
    noise: torch.Tensor

    @classmethod
    def make(cls, size: int = 60, seed: int = 0) -> Problem:
        """The problem of ``size`` samples, the same on every machine for one ``seed``."""
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(size, 4, generator=generator)
        noise = torch.randn(size, 3, generator=generator)
        scores = torch.randn(size, generator=generator)
        return cls(features, (features[:, :3] + noise / 2).argmax(1), scores, noise)

    @property
    def size(self) -> int:
        """N, the number of samples."""
        return self.targets.numel()

    @property
    def dataset(self) -> range:
        """The positions themselves, as the samples of a data set: rows are looked up in a step."""
        return range(self.size)

    def logits(self, epoch: int) -> torch.Tensor:
        """(N, 3): outputs of a model that has learnt for ``epoch`` epochs, without training one."""
        return self.features[:, :3] * ((epoch + 1) / 2) + self.noise.roll(epoch, 1)

    def losses(self, epoch: int) -> torch.Tensor:
        """(N,): cross-entropies of `logits`, above 0, no two alike."""
        return F.cross_entropy(self.logits(epoch), self.targets, reduction="none")

    def relabelled(self, order: torch.Tensor) -> Problem:
        """The same samples under other positions: new sample j is sample ``order[j]``.

        Args:
            order: int64 (M,), positions.
        """
        return Problem(
            self.features[order], self.targets[order], self.scores[order], self.noise[order]
        )

    def first(self, size: int) -> Problem:
        """The problem of the first ``size`` samples."""
        return self.relabelled(torch.arange(size))

    def alike(self) -> Problem:
        """A problem in which all samples have the same loss; their scores still differ."""
        return replace(
            self,
            features=torch.zeros_like(self.features),
            noise=torch.zeros_like(self.noise),
        )
