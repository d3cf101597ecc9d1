"""Several processes train as one does with a batch as large as all of theirs together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ddp.toy import BY_RANK, METHODS, assert_equal_one, differences, train, train_all

BATCH = 4  # per rank; two ranks make batches of 8

SKIP = {"nonfinite": "skip"}
RUNS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in METHODS if name not in BY_RANK},
    # What is left for the last batch: none, one (fewer than ranks), an odd and an even number.
    **{
        f"Everything {size}": {"name": "Everything", "size": size}
        for size in (1, 2, 5, 32, 33, 35, 38, 39)
    },
    "WeightedMean of one": {"name": "WeightedMean", "size": 1},
    "SuperLoss of 33": {"name": "SuperLoss", "size": 33},
    "pipeline of 33": {"name": "pipeline", "size": 33},
    "drop_last": {"name": "Everything", "drop_last": True},
    "fewer steps": {"name": "Everything", "size": 40, "steps_per_epoch": 3},
    # Each pass over 16 samples is two global batches, so both ranks meet each sample in an epoch.
    "more steps": {"name": "Visits", "size": 16, "steps_per_epoch": 5},
    "more steps, applied": {
        "name": "Visits",
        "size": 16,
        "steps_per_epoch": 5,
        "log_limit_bytes": 1,
    },
    "applied within the epoch": {"name": "Everything", "log_limit_bytes": 100},
    "surveyed in parts": {"name": "SPL surveyed", "log_limit_bytes": 1},
    "norms in parts": {"name": "SPDCL from training", "log_limit_bytes": 1, "epochs": 5},
    "SPDCL of one": {"name": "SPDCL", "size": 1},
    "SPDCL of three": {"name": "SPDCL", "size": 3},
    "skip": {"name": "Everything", "poison": (3, 17), "curriculum_options": SKIP},
    "skip in a weighted mean": {
        "name": "WeightedMean",
        "poison": (3, 17),
        "curriculum_options": SKIP,
    },
    "skip while quiet": {
        "name": "WeightedMean quiet",
        "poison": (3, 17),
        "curriculum_options": SKIP,
    },
    "broken epochs": {"name": "Everything", "break_at": (2, 6)},
    "key": {"name": "Everything", "carry": "key"},
    "augmented": {"name": "Everything", "noise": 0.5, "seed_augmentation": True},
}


def at(world: int, run: dict[str, Any]) -> dict[str, Any]:
    """The run on each of `world` ranks."""
    return {**run, "batch_size": 2 * BATCH // world}


def test_two_processes_equal_one(run_ranks: Any) -> None:
    ranks = run_ranks(train_all, 2, [at(2, run) for run in RUNS.values()])
    for number, (case, run) in enumerate(RUNS.items()):
        one = train(**at(1, run))
        both = [traces[number] for traces in ranks]
        try:
            assert_equal_one(both, one)
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error
        if case == "augmented":
            for step, features in enumerate(one.features):
                for rank, trace in enumerate(both):
                    real = len(trace.real()[step])
                    assert torch.equal(trace.features[step][:real], features[rank::2])


def test_every_sample_comes_once_per_epoch(run_ranks: Any) -> None:
    sizes = (1, 5, 8, 9, 15, 33)
    ranks = run_ranks(
        train_all, 2, [{"name": "Visits", "size": size, "batch_size": BATCH} for size in sizes]
    )
    for number, size in enumerate(sizes):
        both = [traces[number] for traces in ranks]
        steps = -(-size // (2 * BATCH))
        for epoch in range(3):
            rows = [
                row
                for trace in both
                for codes in trace.real()[epoch * steps : (epoch + 1) * steps]
                for row in codes
            ]
            assert sorted(rows) == list(range(size))
        for trace in both:
            assert trace.scores["Visits.visits"].tolist() == [3] * size, "padding is not observed"
            assert trace.lengths == [steps] * (3 * steps)


def test_the_call_reduces_as_weigh_says(run_ranks: Any) -> None:
    names = ("Uniform", "SPL linear", "WeightedMean", "WeightedMean quiet", "SuperLoss")
    runs = [{"name": name, "batch_size": BATCH, "call": True} for name in names]
    ranks = run_ranks(train_all, 2, runs)
    for number, name in enumerate(names):
        one = train(name, call=True)
        both = [traces[number] for traces in ranks]
        for found, expected in zip(both[0].parameters, one.parameters, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        # The mean of the ranks' losses is the loss of one process.
        for step, (loss,) in enumerate(one.weights):
            mean = sum(trace.weights[step][0] for trace in both) / 2
            assert mean == pytest.approx(loss, rel=1e-9)


def test_three_processes_equal_one(run_ranks: Any) -> None:
    runs = [
        {"name": name, "size": size, "batch_size": 3}
        for name in ("Everything", "pipeline", "WeightedMean quiet")
        for size in (2, 35)
    ]
    ranks = run_ranks(train_all, 3, runs)
    for number, run in enumerate(runs):
        one = train(**{**run, "batch_size": 9})
        assert_equal_one([traces[number] for traces in ranks], one)


def test_another_seed_is_another_run_on_every_rank(run_ranks: Any) -> None:
    ranks = run_ranks(
        train_all, 2, [{"name": "Visits", "batch_size": BATCH, "seed": seed} for seed in (0, 0, 1)]
    )
    for same, again, other in ranks:
        assert same.codes == again.codes
        assert differences(same.final, again.final) == []
        assert same.codes != other.codes
