"""Losses per sample: of coarse models, of texts without targets, and of methods themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import gradatim as gr
from gradatim.integrations.trainer_losses import sample_losses
from integrations.trainer_toy import (
    SIZE,
    CurriculumTrainer,
    Rows,
    Visits,
    arguments,
    network,
    padded,
    parameters,
    rows,
    table,
)


def trainer(folder: Path, *methods: gr.Method, task: str = "label", **given: Any) -> Any:
    options = given.pop("options", {})
    length = None if task in ("tokens", "next token") else 8
    plain = {
        "model": network(task),
        "args": arguments(folder, **{"num_train_epochs": 1, **options}),
        "train_dataset": table(task, length=length),
        "curriculum": gr.Curriculum(*methods, seed=0),
    }
    if length is None:
        plain["data_collator"] = padded
    return CurriculumTrainer(**{**plain, **given})


@pytest.mark.parametrize("task", ["label", "labels", "number", "tokens", "span", "next token"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision_train(task: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = network(task).to(dtype)
    ours = trainer(tmp_path, visits := Visits(), task=task, model=model)
    ours.train()
    assert ours.state.global_step == 11
    assert bool((visits.loss.values > 0).all())


def test_half_precision_is_no_excuse_for_another_loss(tmp_path: Path) -> None:
    """4 eps of bfloat16 are 0.031; the model's loss is a tenth too large."""

    class Penalised(transformers.BertForSequenceClassification):
        def forward(self, input_ids: Any = None, labels: Any = None) -> Any:
            outputs = super().forward(input_ids, labels=labels)
            if outputs.loss is not None:
                outputs.loss = outputs.loss * 1.1
            return outputs

    model = Penalised(network().config).to(torch.bfloat16)
    with pytest.raises(ValueError, match="losses per sample must be what the model trains on"):
        trainer(tmp_path, gr.Uniform(), model=model).train()


def test_losses_are_finer_than_the_logits_they_come_from() -> None:
    """(1 - 1.003)^2, where bfloat16 takes 1.003 for 1."""
    outputs = {"logits": torch.ones(1, 1, dtype=torch.bfloat16)}
    found = sample_losses(None, outputs, torch.tensor([1.003]))
    assert found.losses.dtype == torch.float32
    assert float(found.losses) == pytest.approx(0.003**2, rel=1e-3)


# The Trainer leaves it out where the model names the problem, and says so.
@pytest.mark.filterwarnings("ignore:Label smoothing is not compatible")
@pytest.mark.parametrize(
    ("task", "where"), [("labels", "several labels"), ("number", "regression")]
)
def test_smoothing_that_would_not_be_applied(task: str, where: str, tmp_path: Path) -> None:
    ours = trainer(tmp_path, task=task, options={"label_smoothing_factor": 0.1})
    with pytest.raises(ValueError, match=rf"label_smoothing_factor must be 0 .*{where}"):
        ours.train()
    assert ours.curriculum.step == 0


# ---------------------------------------------------------------------------- texts without targets


def half_labelled(task: str) -> list[dict[str, Any]]:
    """Every other text has no target; under a causal loss the first token is none either."""
    found = [{name: row[name] for name in row if name != "number"} for row in rows(task)]
    for number in range(1, SIZE, 2):
        first = 1 if task == "next token" else -100
        found[number]["labels"] = [first] + [-100] * (len(found[number]["labels"]) - 1)
    return found


@pytest.mark.parametrize("task", ["tokens", "next token"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_texts_without_a_target_are_not_observed(
    task: str, accumulate: int, tmp_path: Path
) -> None:
    ours = trainer(
        tmp_path,
        visits := Visits(),
        task=task,
        train_dataset=Rows(half_labelled(task)),
        options={"gradient_accumulation_steps": accumulate},
    )
    ours.train()
    assert bool((visits.loss.values[::2] > 0).all())
    assert visits.visits.values.tolist() == [1, 0] * (SIZE // 2)


def test_texts_without_a_target_do_not_count_in_training(tmp_path: Path) -> None:
    """One step over all: equal to one over the texts that have targets."""
    found = half_labelled("next token")
    options = {"per_device_train_batch_size": SIZE, "optim": "sgd", "learning_rate": 0.1}
    both = [
        trainer(
            tmp_path,
            Visits(),
            task="next token",
            train_dataset=Rows(samples),
            options=options,
        )
        for samples in (found, found[::2])
    ]
    for each in both:
        each.train()
    some, none = (parameters(each) for each in both)
    for name, value in some.items():
        torch.testing.assert_close(value, none[name], rtol=0, atol=1e-6)


def test_texts_without_a_target_are_not_surveyed(tmp_path: Path) -> None:
    visits = Visits()
    ours = trainer(
        tmp_path,
        gr.SPDCL(shares=2),
        visits,
        task="next token",
        train_dataset=Rows(half_labelled("next token")),
    )
    ours.get_train_dataloader()
    ours._survey()
    assert visits.visits.values.tolist() == [1, 0] * (SIZE // 2)


# ---------------------------------------------------------------------------- methods' own losses


@pytest.mark.parametrize("level", ["instance", "both"])
def test_data_parameters_equal_a_plain_loop(level: Any, tmp_path: Path) -> None:
    """Sizes of 44 and batches of 8: the last batch is short."""
    options = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "optim": "sgd",
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
    }
    ours = trainer(tmp_path, gr.DataParameters(level, instance_rate=0.5), options=options)
    ours.train()

    model = network().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    curriculum = gr.Curriculum(gr.DataParameters(level, instance_rate=0.5), seed=0)
    data = [{name: row[name] for name in ("input_ids", "labels")} for row in rows()]
    collate: Any = transformers.default_data_collator
    loader = curriculum.loader(data, 8, collate_fn=collate)
    for _ in range(2):
        for batch in loader:
            logits, targets = model(batch["input_ids"]).logits, batch["labels"]
            losses = curriculum.criterion(logits, targets)
            loss = curriculum(losses, logits=logits, targets=targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    expected = model.state_dict()
    for name, value in parameters(ours).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    learned = ours.curriculum.scores()["DataParameters.log_sigma"]
    assert bool((learned != 0).all())
    torch.testing.assert_close(
        learned, curriculum.scores()["DataParameters.log_sigma"], rtol=0, atol=1e-6
    )


def test_a_loss_of_the_method_leaves_no_room_for_smoothing(tmp_path: Path) -> None:
    ours = trainer(tmp_path, gr.DataParameters(), options={"label_smoothing_factor": 0.1})
    with pytest.raises(ValueError, match="label_smoothing_factor must be 0 where the curriculum"):
        ours.train()
    assert ours.curriculum.step == 0


def test_features_of_texts_of_several_lengths_are_refused_by_name(tmp_path: Path) -> None:
    method = gr.MCL(start_fraction=0.4, inner_epochs=1)
    ours = trainer(tmp_path, method, task="tokens", options={"num_train_epochs": 3})
    with pytest.raises(ValueError, match=r"features must be of \d+ values per sample, .*MCL.*Pad"):
        ours.train()
