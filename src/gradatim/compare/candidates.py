"""Batches that a method chooses from larger ones, in the loop of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

import gradatim as gr
from gradatim.method import overrides

__all__ = ["Candidates"]

USUAL = 2
"""Rows scored for each one that is trained on, where a method does not say how many."""


class Candidates:
    """How many rows a curriculum scores for each row that is trained on, and which it takes.

    Args:
        methods: of one curriculum; one of them at most selects.

    Attributes:
        ratio: 1 where nothing is selected: batches are trained on as they come.

    Example:
        >>> Candidates([gr.RHOLoss(torch.zeros(4))]).ratio, Candidates([gr.SPL()]).ratio
        (10, 1)
    """

    def __init__(self, methods: Sequence[gr.Method]) -> None:
        self.method: Any = next((each for each in methods if overrides(each, "select")), None)
        self.ratio: int = 1 if self.method is None else getattr(self.method, "candidates", USUAL)

    def scoring(self, model: nn.Module) -> AbstractContextManager[None]:
        """Score within ``with``: without gradient, in the mode that the method asks for.

        Args:
            model: the one that is trained.
        """
        scoring_pass: Callable[..., AbstractContextManager[None]] | None
        scoring_pass = getattr(self.method, "scoring_pass", None)
        return torch.no_grad() if scoring_pass is None else scoring_pass(model)
