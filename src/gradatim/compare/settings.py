"""How every run of a comparison is trained: budget, batches, optimizer, regime."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from gradatim.compare.budget import Budget
from gradatim.validation import check_choice, check_count, check_number

__all__ = ["OPTIMIZERS", "REGIMES", "Training"]

OPTIMIZERS = ("sgd", "adamw")
REGIMES = ("cosine", "exponential", "constant", "plateau")


@dataclass(frozen=True)
class Training:
    """How everybody is trained.

    Attributes:
        budget: what each run may spend.
        batch_size: samples per optimizer step, over all devices; an epoch's last batch is dropped
            if it is short, so that equal steps are equal numbers of samples.
        optimizer: ``"sgd"`` with Nesterov momentum 0.9, or ``"adamw"``.
        learning_rate: at the start.
        weight_decay: of the optimizer.
        regime: ``"cosine"`` falls to 0 over the budget, ``"exponential"`` to a hundredth of the
            rate at the start, ``"constant"`` stays; ``"plateau"`` divides by ten when validation
            has not improved for ``patience`` evaluations, twice, and then stops early.
        patience: in evaluations.
        evaluations: on the validation part, at equal intervals of the budget.

    Raises:
        ValueError: an unknown name or a number outside its range.

    Example:
        >>> Training(Budget("steps", 100), learning_rate=0.1).regime
        'cosine'
    """

    budget: Budget
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    regime: str = "cosine"
    patience: int = 3
    evaluations: int = 20

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("regime", self.regime, REGIMES)
        for name in ("batch_size", "patience", "evaluations"):
            check_count(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("weight_decay", self.weight_decay, at_least=0)

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer of a model's parameters."""
        rate, decay = self.learning_rate, self.weight_decay
        if self.optimizer == "adamw":
            # A transformer's steps wait for memory: one pass over it instead of ten.
            fused = True if getattr(model, "dynamic_padding", False) else None
            return torch.optim.AdamW(model.parameters(), rate, weight_decay=decay, fused=fused)
        return torch.optim.SGD(
            model.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=decay
        )
