"""What is minimised and predicted, by kind of task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gradatim.validation import check_choice

__all__ = ["KINDS", "Objective"]

KINDS = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class Objective:
    """Per-sample losses of a kind of task, and the way back to the user's units.

    Classification: cross-entropy. Several labels: binary cross-entropy, averaged over labels.
    Regression: squared error of targets that are standardised by the training part, averaged over
    targets.

    Attributes:
        kind: of the task.
        center: mean of the training targets (T,), in regression.
        scale: their standard deviation (T,), 1 where they are constant.

    Raises:
        ValueError: an unknown kind.

    Example:
        >>> objective = Objective.of("regression", torch.tensor([1.0, 3.0]))
        >>> objective.losses(torch.tensor([[0.0]]), torch.tensor([3.4142])).round(decimals=3)
        tensor([1.])
        >>> objective.in_units(torch.tensor([[0.0]]))
        tensor([[2.]])
    """

    kind: str
    center: torch.Tensor | None = None
    scale: torch.Tensor | None = None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)

    @classmethod
    def of(cls, kind: str, targets: torch.Tensor) -> Objective:
        """Make the objective of a training part.

        Args:
            kind: of the task.
            targets: of the training part, (N,) or (N, T).
        """
        if kind != "regression":
            return cls(kind)
        rows = targets.reshape(len(targets), -1)
        scale = rows.std(0) if len(rows) > 1 else torch.ones_like(rows[0])
        return cls(kind, rows.mean(0), torch.where(scale > 0, scale, 1.0))

    def wanted(self, targets: torch.Tensor) -> torch.Tensor:
        """Targets as the model's outputs are compared with them: standardised in regression.

        Args:
            targets: classes (B,), labels (B, L) of 0 and 1, or values (B,) or (B, T).

        Returns:
            Classes and labels as they are; values float32 (B, T).
        """
        if self.kind != "regression":
            return targets
        rows = targets.reshape(len(targets), -1)
        assert self.center is not None
        assert self.scale is not None
        return (rows - self.center.to(rows)) / self.scale.to(rows)

    def errors(self, outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """One loss per sample, of targets as `wanted` gives them; see `losses`."""
        if self.kind == "classification":
            return F.cross_entropy(outputs, wanted, reduction="none")
        if self.kind == "multilabel":
            each = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
            return each.mean(1)
        return (outputs.reshape(wanted.shape) - wanted).square().mean(1)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One loss per sample.

        Args:
            outputs: of the model: (B, C) logits, or (B, T) standardised values.
            targets: classes (B,), labels (B, L) of 0 and 1, or values (B,) or (B, T).

        Returns:
            (B,), with a gradient to the outputs.
        """
        return self.errors(outputs, self.wanted(targets))

    def in_units(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs as metrics take them: logits as they are, values in the user's units."""
        if self.center is None or self.scale is None:
            return outputs
        return outputs.reshape(len(outputs), -1) * self.scale + self.center
