"""What methods need of a call, and cannot take; refused by name before anything changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gradatim.clock import Clock
from gradatim.epochs import Epochs, Taken
from gradatim.method import Method, overrides
from gradatim.validation import refusal

__all__ = ["Demands"]


class Demands:
    """The signals, the learning rate and the criterion that a curriculum's methods ask for.

    Args:
        methods: the curriculum's methods, in order.
        epochs: where training stands.
        clock: knows the learning rate, or does not.

    Attributes:
        wanted: by the name of each signal that must be given, a method that wants it.
        accepted: names of all signals that some method uses.
        paced: methods that want the learning rate.
        replacing: methods that have a criterion of their own.
        by_index: whether one of them depends on the sample.
        nonnegative: a method that cannot take losses below 0, or None.
        criterion_used: whether the losses of the coming call come from `Curriculum.criterion`.
    """

    def __init__(self, methods: Sequence[Method], epochs: Epochs, clock: Clock) -> None:
        self._epochs = epochs
        self._clock = clock
        self.wanted = {
            name: method for method in methods for name in method.wants if name != "learning_rate"
        }
        accepted = set(self.wanted).union(*(method.accepts for method in methods))
        self.accepted = tuple(sorted(accepted))
        self.paced = [method for method in methods if "learning_rate" in method.wants]
        self.replacing = [method for method in methods if overrides(method, "criterion")]
        self.by_index = any(method.criterion_by_index for method in self.replacing)
        self.nonnegative = next((method for method in methods if method.nonnegative), None)
        self.criterion_used = False
        self._replaces = False  # whether the criterion must be used ...
        self._replaces_in = (-1, -1)  # ... in this pass over the loader and this epoch

    def check(self, taken: Taken, signals: dict[str, Any]) -> None:
        """Refuse a call without what methods need: signals, a learning rate, their criterion."""
        size = taken.index.numel()
        for name, method in self.wanted.items():
            value = signals.get(name)
            if value is None:
                raise ValueError(
                    f"{name} must be given: {method} needs it. "
                    f"Call curriculum(losses, {name}={name})."
                )
            if isinstance(value, torch.Tensor) and (value.ndim == 0 or value.shape[0] != size):
                raise refusal(name, f"one row per sample: {size} of them", value)
        if self.paced and not self._clock.known:
            raise ValueError(
                f"learning rate must be known: {self.paced[0]} needs it. Call "
                "curriculum.attach(optimizer=optimizer) or pass Curriculum(learning_rate=...)."
            )
        self.check_criterion(taken)

    def check_criterion(self, taken: Taken) -> None:
        """Refuse losses that come from elsewhere, where a method has a criterion of its own."""
        if not self.replacing or self.criterion_used or (taken.repeated and not self.by_index):
            return
        method, run = self.replacing[0], self._epochs.run
        now = (self._epochs.token, run.epoch)
        if self._replaces_in != now:
            self._replaces, self._replaces_in = method.replaces_criterion(run), now
        if self._replaces:
            cause = " Where the call is given index=, give it there, too."
            raise RuntimeError(
                f"losses must come from curriculum.criterion(logits, targets) in epoch "
                f"{run.epoch}: {method} trains on another loss in it."
                f"{cause if self.by_index else ''}"
            )

    def check_sign(self, name: str, losses: torch.Tensor) -> None:
        """Refuse negative losses on the CPU, where a method cannot take them."""
        if self.nonnegative is None or not losses.is_cpu or not losses.numel():
            return
        low = losses.min().item()
        if low == -math.inf or math.isnan(low):  # those to be skipped hide the others
            low = losses.where(losses.isfinite(), 0).min().item()
        if low < 0:
            raise refusal(name, f"at least 0 for {self.nonnegative}", low)
