"""Interleaved timing: machines drift, so opponents take turns within one run.

Other work on the machine only ever adds time, so the best turn of each is compared.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def interleaved(
    contestants: dict[str, Callable[[], None]], *, rounds: int, repeats: int
) -> dict[str, float]:
    """Best turn of each contestant, in seconds per call; they take turns of ``repeats`` calls."""
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
    return {name: min(times) for name, times in taken.items()}
