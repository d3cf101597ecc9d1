"""What a curriculum tells of itself: metrics by hand, and scores that are copies."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import gradatim as gr
from engine.probes import Average, LastLoss, Planned, Prefix, Samples, Visits, train


def bound(*methods: gr.Method, size: int = 10, batch: int = 4, **options: Any) -> Any:
    curriculum = gr.Curriculum(*methods)
    return curriculum, curriculum.loader(Samples(size), batch_size=batch, **options)


def test_metrics_of_a_growing_plan_by_hand() -> None:
    curriculum, loader = bound(Prefix(2, 4, 10))
    start = curriculum.metrics()
    assert math.isnan(start.pop("overlap"))
    assert start == {"epoch": 0, "subset_size": 2, "coverage": 0, "effective_size": 2}
    train(curriculum, loader)
    assert curriculum.metrics() == {
        "epoch": 1,
        "subset_size": 4,  # of the coming epoch
        "coverage": 0.2,
        "overlap": 0.5,  # two of its four were in the last
        "effective_size": 4,
    }
    train(curriculum, loader, epochs=2)
    assert curriculum.metrics() == {
        "epoch": 3,
        "subset_size": 10,
        "coverage": 1.0,
        "overlap": 1.0,
        "effective_size": 10,
    }


def test_metrics_within_an_epoch_count_what_was_trained_on() -> None:
    curriculum, loader = bound()
    found = []
    for batch in loader:
        curriculum(batch)
        found.append(curriculum.metrics()["coverage"])
    assert found == [0.4, 0.8, 1.0]


def test_coverage_counts_a_broken_epoch_by_its_batches() -> None:
    curriculum, loader = bound(Prefix(10, 2))
    for batch in loader:
        curriculum(batch)
        break
    trained = set(batch.tolist())
    len(loader)
    assert curriculum.metrics()["coverage"] == 0.4
    train(curriculum, loader)
    assert curriculum.epoch == 2
    assert curriculum.metrics()["coverage"] == len(trained | {0.0, 1.0}) / 10


def test_overlap_of_disjoint_halves_is_nothing() -> None:
    low, high = (lambda pool: pool.keep(pool.index < 5)), (lambda pool: pool.keep(pool.index >= 5))
    curriculum, loader = bound(Planned(low, high))
    train(curriculum, loader)
    metrics = curriculum.metrics()
    assert (metrics["overlap"], metrics["subset_size"], metrics["coverage"]) == (0, 5, 0.5)


def test_effective_size_of_weights_by_hand() -> None:
    """(1 + 3)^2 / (1^2 + 3^2) = 1.6 of two; equal weights of any size count fully."""
    first = lambda pool: pool.keep(torch.tensor([2, 5])).weigh(torch.tensor([1.0, 3.0]))  # noqa: E731
    equal = lambda pool: pool.weigh(torch.full((10,), 0.125))  # noqa: E731
    curriculum, loader = bound(Planned(first, equal))
    assert curriculum.metrics()["effective_size"] == pytest.approx(1.6)
    train(curriculum, loader)
    assert curriculum.metrics()["effective_size"] == pytest.approx(10)


def test_repeated_samples_count_once() -> None:
    curriculum, loader = bound(size=3, batch=2, steps_per_epoch=4)
    assert curriculum.metrics()["subset_size"] == 3
    train(curriculum, loader)
    assert curriculum.metrics()["coverage"] == 1.0


def test_metrics_are_plain_numbers_and_change_nothing(watch_global_rng: Any) -> None:
    plain, watched = bound(Prefix(4, 8, 10)), bound(Prefix(4, 8, 10))
    expected = train(*plain, epochs=3)
    curriculum, loader = watched
    found = []
    moved = watch_global_rng()
    for _ in range(3):
        assert all(type(value) is float for value in curriculum.metrics().values())
        order = []
        for batch in loader:
            curriculum.metrics()
            order += batch.long().tolist()
            curriculum(batch)
            curriculum.metrics()
        found.append(order)
    assert moved() == []
    assert found == expected


def test_scores_are_copies_of_the_merged_tables() -> None:
    curriculum, loader = bound(method := LastLoss())
    train(curriculum, loader)
    scores = curriculum.scores()
    assert list(scores) == ["LastLoss.loss"]
    assert scores["LastLoss.loss"].tolist() == list(range(10))
    scores["LastLoss.loss"].fill_(-1)
    assert method.loss.values.tolist() == list(range(10))
    assert curriculum.scores()["LastLoss.loss"].tolist() == list(range(10))
    train(curriculum, loader)  # and what was handed out does not move with the tables
    assert scores["LastLoss.loss"].tolist() == [-1] * 10


def test_within_an_epoch_scores_hold_what_earlier_epochs_saw() -> None:
    curriculum, loader = bound(LastLoss())
    for batch in loader:
        assert bool(curriculum.scores()["LastLoss.loss"].isnan().all())
        curriculum(batch)
    assert not bool(curriculum.scores()["LastLoss.loss"].isnan().any())


def test_scores_name_methods_and_hold_one_value_per_sample_only() -> None:
    class Rows(gr.Method):
        def setup(self, run: gr.Run) -> None:
            self.rows = gr.Table("rows", shape=(2,))
            self.single = gr.Table("single")
            self.shared = gr.Scalar("shared")

    curriculum, _ = bound(LastLoss(), Rows(), Average(), LastLoss(), Visits(), LastLoss())
    assert {name: tuple(values.shape) for name, values in curriculum.scores().items()} == {
        "LastLoss.loss": (10,),
        "Rows.single": (10,),
        "Average.average": (10,),
        "LastLoss#2.loss": (10,),
        "Visits.visits": (10,),
        "LastLoss#3.loss": (10,),
    }


def test_where_training_stands() -> None:
    curriculum, loader = bound(gr.Uniform())
    run = curriculum.run
    assert (run.size, run.seed, run.world, run.rank) == (10, 0, 1, 0)
    found = []
    for batch in loader:
        found.append((curriculum.epoch, curriculum.step))
        curriculum(batch)
    found.append((curriculum.epoch, curriculum.step))
    assert found == [(0, 0), (0, 1), (0, 2), (1, 3)]


def test_repr_names_the_composition() -> None:
    methods = (gr.SPL(warmup_epochs=2), gr.Focal(gamma=1.5))
    shown = repr(gr.Curriculum(*methods, seed=7))
    assert shown == f"Curriculum({methods[0]!r}, Focal(gamma=1.5), seed=7)"
    assert repr(gr.Curriculum()) == "Curriculum(seed=0)"


@pytest.mark.parametrize("drop_last", [False, True])
def test_planned_steps_know_of_larger_batches(drop_last: bool) -> None:
    """DoCL's large-batch epochs have a batch_mul-th of the steps, and drop that much more."""
    data = torch.utils.data.TensorDataset(torch.randn(35, 2), torch.arange(35) % 2)
    curriculum = gr.Curriculum(
        gr.DoCL(episodes=(1, 3), batch_mul=3), learning_rate=lambda: 0.1, seed=1
    )
    loader = curriculum.loader(data, batch_size=4, drop_last=drop_last)
    planned = [curriculum.planned_steps(epochs) for epochs in range(5)]
    done = [0]
    for _ in range(4):
        for x, y in loader:
            losses = curriculum.criterion(x, y)
            curriculum(losses, logits=x, targets=y)
        done.append(curriculum.step)
    assert planned == done
    assert done[1] == (2 if drop_last else 3)  # 35 samples in batches of 12
