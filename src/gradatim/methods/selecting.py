"""What methods that choose within batches share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from gradatim.method import Batch, Method, Run
from gradatim.validation import check_choice

__all__ = ["Scoring", "Selecting"]

Scoring = Literal["eval", "train"]


class Selecting(Method):
    """A method that answers `select`, and remembers until the call what it chose, and why.

    Args:
        scoring: the mode in which `scoring_pass` puts the model, ``"eval"`` or ``"train"``.

    Attributes:
        needs_select: whether it does nothing in a loop that never calls `Curriculum.select`.
        candidates: how many rows its paper scores for each one that is trained on; what
            `gradatim compare` does.
    """

    needs_select = True
    candidates = 1

    def __init__(self, scoring: Scoring) -> None:
        self.scoring: Scoring = check_choice("scoring", scoring, ("eval", "train"))
        self._model: torch.nn.Module | None = None
        self._chosen: tuple[Any, int, Any] | None = None  # step, rows, what to remember
        self._selected = self._called = False  # in this epoch

    def attach(self, model: torch.nn.Module | None, optimizer: Any | None) -> None:
        self._model = model

    def detach(self) -> None:
        self._model = None

    @contextmanager
    def scoring_pass(self, model: torch.nn.Module | None = None) -> Iterator[None]:
        """Score candidates inside ``with``: no graph, and the model in the mode of ``scoring``.

        Every module has its own mode back afterwards. In evaluation mode no buffer moves; in
        training mode BatchNorm learns from the candidates, too, and dropout draws.

        Args:
            model: None is the one handed to `Curriculum.attach`.

        Raises:
            RuntimeError: neither is there.
        """
        model = self._model if model is None else model
        if model is None:
            raise RuntimeError(
                "scoring_pass needs a model: call curriculum.attach(model=model), or "
                "scoring_pass(model)."
            )
        modes = [(module, module.training) for module in model.modules()]
        try:
            model.train(self.scoring == "train")
            with torch.no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training

    def _choose(self, batch: Batch, positions: torch.Tensor, note: Any = None) -> torch.Tensor:
        """Remember ``note`` until the call about ``positions``, ascending, which are returned."""
        self._chosen = (batch.step, positions.numel(), note)
        self._selected = True
        return positions

    def _note(self, batch: Batch) -> Any:
        """What `_choose` was told about this batch; None where nothing was chosen from it.

        The step tells batches apart: comparing their rows would wait for the device.
        """
        if not batch.size:
            return None
        self._called = True
        if self._chosen is None or self._chosen[:2] != (batch.step, batch.size):
            return None
        return self._chosen[2]

    def start_epoch(self, run: Run) -> None:
        self._chosen = None
        self._selected = self._called = False

    def end_epoch(self, run: Run) -> None:
        if self.needs_select and self._called and not self._selected:
            warnings.warn(
                f"{type(self).__name__} chose nothing: an epoch trained on whole "
                "batches. Score each batch and call curriculum.select(losses, k) before the call.",
                stacklevel=2,
            )
