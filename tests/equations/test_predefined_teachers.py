"""The predefined teachers of the field, as compositions of a score and a pace."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import gradatim as gr

SIZE = 40


def data() -> TensorDataset:
    features = torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(features, (features[:, 0] > 0).long())


def linear(seed: int) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, 4, 2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(seed))
    return layer


def train(curriculum: gr.Curriculum, model: nn.Module, epochs: int) -> list[set[int]]:
    """Train; which samples each epoch showed."""
    features, labels = data().tensors
    loader = curriculum.loader(TensorDataset(features, labels, torch.arange(SIZE)), batch_size=7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    shown = []
    for _ in range(epochs):
        seen: set[int] = set()
        for x, y, index in loader:
            loss = curriculum(F.cross_entropy(model(x), y, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen |= set(index.tolist())
        shown.append(seen)
    return shown


def easiest(score: torch.Tensor, fraction: float) -> set[int]:
    return set(score.argsort()[: math.ceil(fraction * SIZE - 1e-9)].tolist())


def visible(method: gr.Method, epochs: int) -> list[set[int]]:
    return train(gr.Curriculum(method, seed=0), linear(9), epochs)


def test_hacohen2019_transfer_teacher_shows_what_another_model_finds_easy() -> None:
    teacher = linear(1)
    train(gr.Curriculum(seed=1), teacher, 4)
    score = gr.scores.from_model(teacher, data())
    pace = gr.pacing.FixedExponential(start_fraction=0.1, increase=2, every_epochs=1)
    shown = visible(gr.Predefined(score, pace=pace), 5)
    assert shown == [easiest(score, fraction) for fraction in (0.1, 0.2, 0.4, 0.8, 1.0)]


def test_hacohen2019_self_taught_scores_by_the_student_before_it_starts_anew() -> None:
    student, (features, labels) = linear(2), data().tensors
    fresh = [parameter.clone() for parameter in student.parameters()]
    train(gr.Curriculum(seed=1), student, 3)
    score = gr.scores.from_model(student, data())
    expected = F.cross_entropy(student(features), labels, reduction="none")
    torch.testing.assert_close(score, expected.detach())
    again = linear(2)
    for parameter, start in zip(again.parameters(), fresh, strict=True):
        assert torch.equal(parameter, start)
    pace = gr.pacing.FixedExponential(start_fraction=0.25, increase=2, every_epochs=2)
    shown = train(gr.Curriculum(gr.Predefined(score, pace=pace), seed=0), again, 4)
    assert shown == [easiest(score, fraction) for fraction in (0.25, 0.25, 0.5, 0.5)]


def test_spitkovsky2010_baby_steps_add_one_bucket_after_the_other() -> None:
    score = torch.randn(SIZE, generator=torch.Generator().manual_seed(3))
    pace = gr.pacing.BabySteps(buckets=4, epochs_per_bucket=2)
    shown = visible(gr.Predefined(score, pace=pace), 8)
    assert shown == [easiest(score, step / 4) for step in (1, 1, 2, 2, 3, 3, 4, 4)]
    one = visible(gr.Predefined(score, pace=gr.pacing.OnePass(buckets=4), mode="window"), 5)
    buckets = [easiest(score, (step + 1) / 4) - easiest(score, step / 4) for step in range(4)]
    assert one == [*buckets, set(range(SIZE))]


def test_platanios2019_competence_grows_as_a_root_over_the_distribution_of_length() -> None:
    """c(t) = sqrt(.01 + .99 t / 4): .1, .5074, .7106, .8646, 1 of the 40 shortest."""
    lengths = torch.randperm(SIZE, generator=torch.Generator().manual_seed(5)) + 1
    score = gr.scores.length([["word"] * int(count) for count in lengths])
    assert score.tolist() == lengths.tolist()
    pace = gr.pacing.Root(start_fraction=0.1, epochs=4, power=2)
    shown = visible(gr.Predefined(gr.scores.cdf(score), pace=pace), 5)
    assert [len(seen) for seen in shown] == [4, 21, 29, 35, 40]
    for seen in shown:
        assert seen == set(lengths.argsort()[: len(seen)].tolist())


@pytest.mark.parametrize("kind", ["el2n", "gradient_norm"])
def test_paul2021_means_over_early_models_are_a_score_like_any_other(kind: str) -> None:
    features, labels = data().tensors
    models: list[Any] = [linear(seed) for seed in range(3)]
    if kind == "el2n":
        each = [gr.scores.from_model(model, data(), score=gr.scores.el2n) for model in models]
    else:
        given = (features, labels)
        each = [gr.scores.gradient_norm(model, F.cross_entropy, given) for model in models]
    score = torch.stack(each).mean(0)
    shown = visible(gr.Predefined(score, pace=gr.pacing.Constant(0.5), order="anti"), 1)
    assert shown == [set((-score).argsort()[: SIZE // 2].tolist())]
