"""Interleaved timing: machines drift, so opponents take turns within one run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable


def interleaved(
    contestants: dict[str, Callable[[], None]], *, rounds: int, repeats: int
) -> dict[str, float]:
    """Median seconds per call of each contestant; they take turns, ``repeats`` calls a turn."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()
    gc.collect()
    for _ in range(rounds):
        for name, call in contestants.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            taken[name].append((time.perf_counter() - start) / repeats)
    return {name: statistics.median(times) for name, times in taken.items()}
