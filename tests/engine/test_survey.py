"""The survey: one pass over every sample that leaves no trace but in the methods' tables."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import gradatim as gr
from engine.probes import Average, Diary, LastLoss, Samples, train


def own_number(batch: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"losses": batch}


class Counting(torch.nn.Module):
    """Puts a new tensor in its buffer's place at every forward pass, as some layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count = self.count + 1
        return x


def touchy_model() -> torch.nn.Sequential:
    """Batch normalisation, dropout, a frozen part in eval mode: all that a pass may disturb."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6),
        torch.nn.BatchNorm1d(6),
        torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(6)),
        Counting(),
        torch.nn.Linear(6, 3),
    )
    model.train()
    model[2][1].eval()  # type: ignore[index]
    return model


def test_d10_a_survey_leaves_the_model_and_all_randomness_bit_identical(
    watch_global_rng: Any,
) -> None:
    """A peer scores in train mode: its batch statistics move, and dropout scores."""
    data = TensorDataset(torch.randn(20, 4), torch.arange(20) % 3)
    model = touchy_model()
    curriculum = gr.Curriculum(method := LastLoss())
    curriculum.loader(data, batch_size=4)
    curriculum.attach(model=model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = dict(model.named_buffers())
    modes = [module.training for module in model.modules()]
    seen_modes: list[bool] = []

    def forward(batch: Any) -> dict[str, torch.Tensor]:
        seen_modes.extend(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(3)
        x, y = batch
        return {"losses": torch.nn.functional.cross_entropy(model(x), y, reduction="none")}

    moved = watch_global_rng()
    curriculum.survey(data, forward, batch_size=7)
    assert moved() == []
    assert not any(seen_modes)
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name], name
    assert all(parameter.grad is None for parameter in model.parameters())
    # Dropout did not score: a second survey says the same.
    first = method.loss.values.clone()
    assert not first.isnan().any()
    curriculum.survey(data, forward, batch_size=20)
    torch.testing.assert_close(method.loss.values, first)


def test_d10_the_model_is_restored_when_the_forward_pass_raises() -> None:
    model = touchy_model()
    data = TensorDataset(torch.randn(8, 4))
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(data, batch_size=4)
    curriculum.attach(model=model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    calls = []

    def forward(batch: Any) -> dict[str, torch.Tensor]:
        model(batch[0])
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("broken")
        return {"losses": torch.full((len(batch[0]),), 99.0)}

    torch.manual_seed(1)
    before = torch.get_rng_state()
    with pytest.raises(KeyError, match="broken"):
        curriculum.survey(data, forward, batch_size=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    # And what the first batch gave is forgotten.
    for (x,) in loader:
        curriculum(x[:, 0] * 0)
    assert method.loss.values.tolist() == [0.0] * 8


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_is_observed_once_and_as_surveyed(workers: int) -> None:
    curriculum = gr.Curriculum(diary := Diary(), method := LastLoss())
    data = Samples(10)
    loader = curriculum.loader(data, batch_size=4)
    curriculum.survey(data, own_number, batch_size=3, num_workers=workers)
    assert sorted(zip(diary.column("index"), diary.column("loss"), strict=True)) == [
        (k, float(k)) for k in range(10)
    ]
    assert all(diary.column("surveyed"))
    assert (curriculum.epoch, curriculum.step) == (0, 0)
    train(curriculum, loader)
    assert not any(diary.column("surveyed")[10:])
    assert method.loss.values.tolist() == list(range(10))


def test_a_survey_takes_the_users_collate_function_and_signals() -> None:
    class Wanting(Diary):
        def record(self, batch: gr.Batch, run: gr.Run) -> dict[str, torch.Tensor]:
            return {"best": batch.signals["logits"].argmax(1)}

    diary = Wanting(wants=("logits",))
    curriculum = gr.Curriculum(diary)
    data = Samples(6)
    curriculum.loader(data, batch_size=2)

    def forward(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        numbers = torch.stack(batch)
        logits = torch.nn.functional.one_hot(numbers.long() % 3, 3).float()
        return {"losses": numbers, "logits": logits, "unused": numbers}

    curriculum.survey(data, forward, batch_size=6, collate_fn=list)
    assert diary.signals[0]["best"].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_survey_changes_the_coming_plan() -> None:
    """Also one that was made already, because somebody asked for its length."""
    pace = gr.pacing.Linear(start_fraction=0.5, epochs=9)
    curriculum = gr.Curriculum(gr.SPL(pace=pace, warmup_epochs=0, survey_every_epochs=1))
    data = Samples(8)
    loader = curriculum.loader(data, batch_size=2)
    assert curriculum.survey_due
    with pytest.raises(RuntimeError, match=r"survey must run before epoch 0"):
        len(loader)
    curriculum.survey(data, lambda batch: {"losses": 10 - batch})
    assert not curriculum.survey_due
    assert len(loader) == 2
    curriculum.survey(data, lambda batch: {"losses": batch})  # they think better of it
    assert sorted(train(curriculum, loader)[0]) == [0, 1, 2, 3]
    assert curriculum.survey_due


def test_an_iterator_begun_before_a_survey_is_stale() -> None:
    """It follows a plan that the survey may have changed."""
    curriculum = gr.Curriculum(LastLoss())
    data = Samples(8)
    loader = curriculum.loader(data, batch_size=4)
    stream = iter(loader)
    next(stream)
    curriculum.survey(data, own_number)
    with pytest.raises(RuntimeError, match="stale"):
        next(stream)
    train(curriculum, loader)
    assert curriculum.epoch == 1


def test_a_small_log_limit_changes_nothing() -> None:
    found = []
    for limit in (0, 10**9):
        curriculum = gr.Curriculum(method := Average())
        data = Samples(10)
        curriculum.loader(data, batch_size=4)
        curriculum.epochs.log_limit_bytes = limit
        curriculum.survey(data, own_number, batch_size=3)
        found.append(method.average.values.clone())
    assert torch.equal(found[0], found[1])
    assert found[0].tolist() == [0.25 * k for k in range(10)]


def test_nonfinite_losses_are_refused_or_skipped_as_the_curriculum_says() -> None:
    def poisoned(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"losses": torch.where(batch == 3, math.nan, batch)}

    data = Samples(6)
    strict = gr.Curriculum(method := LastLoss())
    strict.loader(data, batch_size=2)
    with pytest.raises(ValueError, match=r"losses must be finite. Got 1 .* \[3\]"):
        strict.survey(data, poisoned, batch_size=2)
    assert bool(method.loss.values.isnan().all())
    lenient = gr.Curriculum(method := LastLoss(), nonfinite="skip")
    lenient.loader(data, batch_size=2)
    lenient.survey(data, poisoned, batch_size=2)
    assert method.loss.values.isnan().tolist() == [False, False, False, True, False, False]


def test_the_model_need_not_be_attached() -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    data = Samples(4)
    curriculum.loader(data, batch_size=2)
    curriculum.survey(data, own_number)
    assert method.loss.values.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_misused_survey_is_refused() -> None:
    data = Samples(8)
    curriculum = gr.Curriculum(Diary(wants=("logits",)))
    with pytest.raises(RuntimeError, match=r"must have a loader before a survey: call loader"):
        curriculum.survey(data, own_number)
    loader = curriculum.loader(data, batch_size=4)
    with pytest.raises(ValueError, match=r"dataset must be of 8 samples.* Got 7"):
        curriculum.survey(Samples(7), own_number)
    with pytest.raises(ValueError, match=r"batch_size must be a whole number, at least 1. Got 0"):
        curriculum.survey(data, own_number, batch_size=0)
    with pytest.raises(ValueError, match=r"forward\(batch\) must return 'logits': Diary\(.*needs"):
        curriculum.survey(data, own_number)
    for wrong in (
        lambda batch: batch,
        lambda batch: {"loss": batch},
        lambda batch: {"losses": batch.mean()},
        lambda batch: {"losses": batch[1:]},
    ):
        rule = r'forward\(batch\) must be a dict with "losses" of shape \(8,\)'
        with pytest.raises(ValueError, match=rule):
            curriculum.survey(data, wrong)
    assert len(curriculum.epochs.log) == 0
    batch = next(iter(loader))
    curriculum(batch, logits=torch.zeros(4, 2))
    with pytest.raises(RuntimeError, match=r"survey must run between epochs. This epoch has begun"):
        curriculum.survey(data, own_number)
