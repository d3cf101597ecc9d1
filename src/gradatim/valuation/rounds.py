"""Permutations one after the other or in parallel, with one result whatever the number of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch

from gradatim.validation import check_count, check_number, refusal
from gradatim.valuation.result import RunningMean, Valuation

__all__ = ["Marginals", "average", "check_rounds"]


class Marginals(NamedTuple):
    """What one permutation found.

    Args:
        gains: float64 (n,), by sample.
        empty: v before the first sample.
        evaluations: utilities asked for.
    """

    gains: torch.Tensor
    empty: float
    evaluations: int


def check_rounds(
    size: Any, permutations: Any, change: Any, window: Any, seed: Any, jobs: Any
) -> tuple[int, int, float, int, int, int]:
    """Check what all estimates by permutations share."""
    size = check_count("size", size, at_least=1)
    permutations = check_count("permutations", permutations, at_least=1)
    change = check_number("change", change, at_least=0)
    window = check_count("window", window, at_least=1)
    seed = check_count("seed", seed)
    if isinstance(jobs, bool) or not isinstance(jobs, int):
        raise TypeError(str(refusal("jobs", "a whole number", repr(jobs))))
    if jobs == 0:
        raise refusal("jobs", "at least 1, or negative as in joblib", jobs)
    return size, permutations, change, window, seed, jobs


def average(
    one: Callable[[int], Marginals],
    *,
    size: int,
    permutations: int,
    change: float,
    window: int,
    jobs: int,
    whole: float,
) -> Valuation:
    """Average permutations in the order of their numbers until the values have settled.

    With several jobs a few permutations beyond the end are computed; they are thrown away, so
    that the result does not depend on how many run at once.
    """
    mean = RunningMean(size, window)
    empty, evaluations, now = 0.0, 0, float("inf")
    for found in _results(one, permutations, jobs):
        mean.add(found.gains)
        empty += (found.empty - empty) / mean.count
        evaluations += found.evaluations
        now = mean.change()
        if now < change:
            break
    return Valuation(
        values=mean.mean,
        standard_errors=mean.standard_errors(),
        permutations=mean.count,
        converged=now < change,
        reason="converged" if now < change else "permutations",
        change=now,
        whole=whole,
        empty=empty,
        evaluations=evaluations,
        truncated=1 - evaluations / (mean.count * size),
    )


def _results(one: Callable[[int], Marginals], permutations: int, jobs: int) -> Iterator[Marginals]:
    """Yield results in the order of their numbers."""
    if jobs == 1:
        yield from map(one, range(permutations))
        return
    import joblib

    with joblib.Parallel(n_jobs=jobs) as opened:
        parallel = cast("Callable[..., list[Marginals]]", opened)  # its own type may be a generator
        each = 2 * joblib.effective_n_jobs(jobs)
        for start in range(0, permutations, each):
            numbers = range(start, min(start + each, permutations))
            yield from parallel(joblib.delayed(one)(number) for number in numbers)
