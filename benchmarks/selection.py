"""Weighted draws of half of N without replacement, against NumPy's choice, in one run."""

from __future__ import annotations

import resource
import time

import numpy as np
import torch

from gradatim.selection import weighted_draw


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(*, sizes: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000)) -> list[dict]:
    """Seconds of ours and of NumPy's, their ratio, and peak memory in arrays of N float32."""
    rows = []
    for size in sizes:
        weights = torch.rand(size, generator=torch.Generator().manual_seed(0)) + 0.01
        before = _peak_mib()
        best = float("inf")
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            start = time.perf_counter()
            positions = weighted_draw(weights, size // 2, generator=generator)
            best = min(best, time.perf_counter() - start)
        arrays = (_peak_mib() - before) * 2**20 / (4 * size)
        del positions
        probabilities = weights.double().numpy()
        probabilities /= probabilities.sum()
        start = time.perf_counter()
        np.random.default_rng(0).choice(size, size // 2, replace=False, p=probabilities)
        choice = time.perf_counter() - start
        del probabilities
        rows.append(
            {
                "N": size,
                "k": size // 2,
                "ours_s": best,
                "choice_s": choice,
                "ratio": choice / best,
                "arrays_of_N": arrays,
            }
        )
    return rows


if __name__ == "__main__":
    for row in run(sizes=(1_000_000, 10_000_000)):
        print(row)
