"""The learning rate and the clock of completed optimizer steps."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from gradatim.layers.scaled_steps import own_groups
from gradatim.validation import check_number

__all__ = ["Clock", "Moment"]

Rate = float | torch.Tensor


class Moment(NamedTuple):
    """The rates around one step.

    Attributes:
        rate: of the optimizer step that follows.
        previous: of the last optimizer step; ``rate`` before the first.
        time: the clock, summed rates of all optimizer steps before.
    """

    rate: Rate = 0.0
    previous: Rate = 0.0
    time: Rate = 0.0


def _detached(rate: Any) -> Rate:
    """A float, or a copy on the device where reading a float would wait for it."""
    if isinstance(rate, torch.Tensor):
        return float(rate) if rate.device.type == "cpu" else rate.detach().clone()
    return float(rate)


class Clock:
    """Summed learning rate of the optimizer steps completed so far.

    With an attached optimizer the clock ticks in its post-step hook, by the first group's rate as
    it stood before any method scaled it: accumulation and steps that a GradScaler skips count
    right. With a callable alone it ticks once per call of the curriculum.

    Args:
        learning_rate: callable that returns the current rate, given the curriculum's step or
            nothing; None reads the attached optimizer.

    Example:
        >>> clock = Clock(lambda: 0.1)
        >>> clock.after_call(0)
        >>> clock.time
        0.1
    """

    def __init__(self, learning_rate: Callable[..., Any] | None = None) -> None:
        if learning_rate is not None and not callable(learning_rate):
            raise TypeError(f"learning_rate must be callable or None. Got {learning_rate!r}.")
        self.learning_rate = learning_rate
        self._takes_step = learning_rate is not None and bool(
            inspect.signature(learning_rate).parameters
        )
        self.time: Rate = 0.0
        self.previous: Rate | None = None  # rate of the last completed step
        self._optimizer: weakref.ref[Any] | None = None
        self._hooks: list[Any] = []
        self._before_step: Rate = 0.0
        self._step = 0

    @property
    def known(self) -> bool:
        """Whether there is a learning rate to read."""
        return self.learning_rate is not None or self._optimizer is not None

    def rate(self, step: int) -> Rate:
        """The current learning rate; a tensor only where a float would wait for the device."""
        if self.learning_rate is not None:
            rate = self.learning_rate(step) if self._takes_step else self.learning_rate()
            if not isinstance(rate, torch.Tensor):
                return check_number("learning_rate()", rate, at_least=0)
            return _detached(rate)
        optimizer = None if self._optimizer is None else self._optimizer()
        if optimizer is None:
            raise RuntimeError("learning rate must be known: attach an optimizer first.")
        # A closure asks within a step, where the groups may be scaled.
        rate = own_groups(optimizer)[0]["lr"]
        return rate if type(rate) is float else _detached(rate)

    def now(self, step: int) -> Moment:
        """What stands at a step that is about to happen."""
        rate = self.rate(step)
        return Moment(rate, rate if self.previous is None else self.previous, self.time)

    def attach(self, optimizer: Any) -> None:
        """Tick with this optimizer's steps from now on. Call it before methods scale its rates."""
        self.detach()
        self._optimizer = weakref.ref(optimizer)
        self._hooks = [
            optimizer.register_step_pre_hook(_Hook(self, Clock._remember)),
            optimizer.register_step_post_hook(_Hook(self, Clock._tick)),
        ]

    def detach(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._optimizer = None

    def after_call(self, step: int) -> None:
        """Tick once for a call of the curriculum, where no optimizer ticks."""
        self._step = step
        if self._optimizer is None and self.learning_rate is not None:
            self.previous = self.rate(step)
            self.time = self.time + self.previous

    def _remember(self, optimizer: Any) -> None:
        self._before_step = self.rate(self._step)

    def _tick(self, optimizer: Any) -> None:
        rate = self._before_step
        # A fused optimizer is called for a step that GradScaler skips, too, and told so here.
        skipped = getattr(optimizer, "found_inf", None)
        if skipped is None:
            self.previous = rate
        else:
            done = _detached(skipped == 0)
            before = rate if self.previous is None else self.previous
            self.previous = done * rate + (1 - done) * before
            rate = rate * done
        self.time = self.time + rate


class _Hook:
    """An optimizer hook that does not keep the clock alive and survives pickling."""

    def __init__(self, clock: Clock, action: Callable[[Clock, Any], None]) -> None:
        self._clock: weakref.ref[Clock] | None = weakref.ref(clock)
        self._action = action

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        clock = None if self._clock is None else self._clock()
        if clock is not None:
            self._action(clock, optimizer)

    def __getstate__(self) -> dict[str, Any]:
        # A copied optimizer does not drive the original's clock.
        return {"_clock": None, "_action": self._action}
