"""The tests' own tools: a pool that hid a failure would make every rank test worth nothing."""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from ranks import RankError, Ranks


def gather(rank: int, world: int, offset: torch.Tensor) -> tuple[int, torch.Tensor, float]:
    values = offset + rank
    dist.all_reduce(values)
    return os.getpid(), values, float(torch.rand(()))


def raise_on_one(rank: int, world: int) -> None:
    if rank == 1:
        raise ValueError("this rank alone")
    dist.barrier()  # waits for the rank that failed


def die_on_one(rank: int, world: int) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def warn(rank: int, world: int) -> None:
    warnings.warn("a warning is an error here too", UserWarning, stacklevel=1)


def sleep_on_one(rank: int, world: int) -> None:
    time.sleep(60 * rank)


def test_results_come_by_rank_from_one_group(run_ranks: Any) -> None:
    results = run_ranks(gather, 2, torch.tensor([10.0]))
    assert [values.tolist() for _, values, _ in results] == [[21.0], [21.0]]  # 10 + 0 + 10 + 1


def test_ranks_are_lent_again_and_start_alike(run_ranks: Any) -> None:
    first = run_ranks(gather, 2, torch.tensor([0.0]))
    again = run_ranks(gather, 2, torch.tensor([0.0]))
    alone = run_ranks(gather, 1, torch.tensor([0.0]))
    assert [pid for pid, _, _ in first] == [pid for pid, _, _ in again]
    assert [draw for _, _, draw in first] == [draw for _, _, draw in again]
    assert first[0][2] != first[1][2], "ranks must not agree by sharing a global seed"
    assert alone[0][1].tolist() == [0.0]


def test_failure_names_the_rank_that_failed_first(run_ranks: Any) -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1 raised.*raise_on_one.*this rank alone"):
        run_ranks(raise_on_one, 2)


def test_death_and_warning_are_failures(run_ranks: Any) -> None:
    with pytest.raises(RankError, match="rank 1 died with exit code -9"):
        run_ranks(die_on_one, 2)
    with pytest.raises(RankError, match="a warning is an error here too"):
        run_ranks(warn, 1)
    assert run_ranks(gather, 1, torch.tensor([3.0]))[0][1].tolist() == [3.0]  # a fresh pool


def test_silence_ends_at_the_timeout(run_ranks: Any) -> None:
    run_ranks(gather, 2, torch.tensor([0.0]))
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer from ranks \[1\]"):
        run_ranks(sleep_on_one, 2, timeout=1.0)
    assert time.monotonic() - start < 30


def test_close_leaves_no_process(tmp_path: Any) -> None:
    ranks = Ranks(tmp_path)
    [(pid, _, _)] = ranks.run(gather, 1, torch.tensor([0.0]))
    ranks.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


DRAWS = {
    "Python": random.random,
    "NumPy": np.random.rand,
    "torch": lambda: torch.rand(()),
}


@pytest.mark.parametrize("library", DRAWS)
def test_a_draw_from_a_global_generator_is_noticed(library: str, watch_global_rng: Any) -> None:
    moved = watch_global_rng()
    assert moved() == []
    DRAWS[library]()
    assert moved() == [library]


@pytest.mark.parametrize("time_round", [1, 2])
def test_every_test_starts_alike(time_round: int) -> None:
    # Twice the same test: the second finds what the first found, although both draw.
    # The values are what the seeds of the fixture give, drawn here from fresh generators.
    assert random.random() == random.Random(0).random()
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))
    assert np.random.rand() == np.random.RandomState(0).rand()  # noqa: NPY002


def test_small_data_is_as_described(dataset: Any, digits: Any, generator: torch.Generator) -> None:
    features, labels = dataset.tensors
    assert features.shape == (64, 4)
    assert set(labels.tolist()) == {0, 1, 2}
    assert len(digits) == 1797
    assert digits.tensors[0].max() == 1
    assert generator.initial_seed() == 0
    assert torch.get_num_threads() == 1
