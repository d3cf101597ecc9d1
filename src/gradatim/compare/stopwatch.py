"""Where the seconds of a run go, without waiting for the device."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up seconds by section. On CUDA it measures the device's own time by events.

    Args:
        device: where the work is done.

    Example:
        >>> watch = Stopwatch(torch.device("cpu"))
        >>> with watch("forward"):
        ...     pass
        >>> list(watch.read()), watch.read()["forward"] < 1
        (['forward'], True)
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, section: str) -> Iterator[None]:
        """Measure what is inside ``with``; sections must not nest."""
        if self._cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((section, start, end))
            return
        begun = time.perf_counter()
        yield
        self._seconds[section] += time.perf_counter() - begun

    def move(self, origin: str, section: str, seconds: float) -> None:
        """Count seconds for another section: a part that was measured within a whole.

        Args:
            origin: where they were counted.
            section: what they belong to.
            seconds: at least 0.
        """
        self._seconds[origin] -= seconds
        self._seconds[section] += seconds

    def read(self) -> dict[str, float]:
        """Seconds by section so far. On CUDA it waits for the work that was measured."""
        if self._events:
            self._events[-1][2].synchronize()
            for section, start, end in self._events:
                self._seconds[section] += start.elapsed_time(end) / 1000
            self._events.clear()
        return dict(self._seconds)
