"""What every curriculum may spend: steps, samples, epochs or seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from gradatim.validation import check_choice, check_number

__all__ = ["BUDGETS", "Budget", "Spent"]

Kind: TypeAlias = Literal["steps", "samples", "epochs", "seconds"]
BUDGETS: tuple[str, ...] = get_args(Kind)


@dataclass
class Spent:
    """What a run has used so far.

    Attributes:
        steps: of the optimizer.
        forward: rows through the model in training.
        survey: rows through the model without gradient, for a method that asked for them.
        epochs: the curriculum's own, with the fraction of the current one.
        seconds: of training, surveys and decisions; evaluation is not counted.

    Example:
        >>> Spent(steps=3).survey
        0
    """

    steps: int = 0
    forward: int = 0
    survey: int = 0
    epochs: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Budget:
    """The same amount of one thing for everybody.

    ``"steps"`` are optimizer steps; ``"samples"`` rows through the model, surveys included;
    ``"seconds"`` the time of training, surveys and decisions; ``"epochs"`` the curriculum's own:
    what published tables use, although a curriculum that leaves samples out then trains less.

    Attributes:
        kind: what is counted.
        amount: how much of it, above 0.

    Raises:
        ValueError: an unknown kind, or an amount that is not above 0.

    Example:
        >>> Budget("samples", 1000).progress(Spent(forward=300, survey=200))
        0.5
    """

    kind: str
    amount: float

    def __post_init__(self) -> None:
        check_choice("budget", self.kind, BUDGETS)
        check_number("amount", self.amount, above=0)

    def progress(self, spent: Spent) -> float:
        """Tell how much of the budget is used up, in [0, 1].

        Args:
            spent: what the run has used.

        Returns:
            A fraction; exactly 1 from the end of the budget on.

        Example:
            >>> Budget("steps", 4).progress(Spent(steps=5))
            1.0
        """
        used = {
            "steps": spent.steps,
            "samples": spent.forward + spent.survey,
            "epochs": spent.epochs,
            "seconds": spent.seconds,
        }[self.kind]
        return min(1.0, used / self.amount)

    def __str__(self) -> str:
        """Say how much of what."""
        return f"{self.amount:,g} {self.kind}"


def cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine.

    Args:
        progress: of the budget, in [0, 1].

    Returns:
        The factor of the learning rate.

    Example:
        >>> cosine(0.0), round(cosine(0.5), 12), cosine(1.0)
        (1.0, 0.5, 0.0)
    """
    return 0.5 * (1 + math.cos(math.pi * progress))
