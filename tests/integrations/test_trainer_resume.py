"""A Trainer that is stopped within an epoch goes on as if it had not been, on one rank and two."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gradatim as gr
from gradatim.integrations.trainer_callback import STATE_FILE
from integrations.trainer_toy import (
    CurriculumTrainer,
    Visits,
    arguments,
    logged,
    losses,
    network,
    padded,
    parameters,
    table,
)

METHODS: dict[str, Callable[[], list[gr.Method]]] = {
    "SuperLoss": lambda: [gr.SuperLoss()],
    "SPL": lambda: [gr.SPL(pace=gr.pacing.Linear(start_fraction=0.4, epochs=3))],
    "SPDCL": lambda: [gr.SPDCL(shares=3)],
    "LeRaC": lambda: [
        gr.LeRaC(2, last=0.05, layers=["bert.embeddings", "bert.encoder", "bert.pooler", "class*"])
    ],
    "DoCL": lambda: [gr.DoCL(episodes=(1, 3), batch_mul=2, gamma_k=0.6)],
}


def trainer(folder: Path, name: str, *, task: str = "label", **options: Any) -> CurriculumTrainer:
    length = None if task == "next token" else 8
    return CurriculumTrainer(
        network(task, dropout=0.1),
        arguments(folder, **{"num_train_epochs": 3, "save_strategy": "steps", **options}),
        train_dataset=table(task, length=length),
        data_collator=padded,
        curriculum=gr.Curriculum(*METHODS[name](), Visits(), seed=0),
    )


def same(whole: CurriculumTrainer, parts: CurriculumTrainer) -> bool:
    assert losses(parts) == losses(whole)
    assert logged(parts, "epoch") == logged(whole, "epoch")
    assert logged(parts, "learning_rate") == logged(whole, "learning_rate")
    assert parts.curriculum.methods[-1].order == whole.curriculum.methods[-1].order
    expected = parameters(whole)
    assert all(torch.equal(value, expected[name]) for name, value in parameters(parts).items())
    scores = whole.curriculum.scores()
    for name, values in parts.curriculum.scores().items():
        assert torch.equal(values.nan_to_num(-9.0), scores[name].nan_to_num(-9.0)), name
    return True


def keep_only(folder: Path, step: int) -> None:
    """As if training had been killed after this checkpoint."""
    for found in folder.glob("checkpoint-*"):
        if int(found.name.split("-")[1]) > step:
            shutil.rmtree(found)


@pytest.mark.parametrize(("name", "accumulate"), [*((name, 1) for name in METHODS), ("SPL", 2)])
def test_resumed_within_an_epoch_equals_uninterrupted(
    name: str, accumulate: int, tmp_path: Path
) -> None:
    options = {"gradient_accumulation_steps": accumulate, "save_steps": 3}
    whole = trainer(tmp_path, name, **options)
    whole.train()
    keep_only(tmp_path, 15 if accumulate == 1 else 12)
    parts = trainer(tmp_path, name, ignore_data_skip=accumulate == 2, **options)
    parts.train(resume_from_checkpoint=True)
    assert same(whole, parts)


def test_resumed_at_the_end_of_an_epoch_equals_uninterrupted(tmp_path: Path) -> None:
    whole = trainer(tmp_path, "SPL", save_strategy="epoch")
    whole.train()
    first, *_ = sorted(tmp_path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    parts = trainer(tmp_path, "SPL", save_strategy="epoch")
    parts.train(resume_from_checkpoint=str(first))
    assert same(whole, parts)


def test_a_trainer_that_failed_resumes_in_the_same_process(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", "SuperLoss", save_steps=4)
    whole.train()
    parts = trainer(tmp_path / "parts", "SuperLoss", save_steps=4)
    ours = parts.compute_loss

    def failing(*args: Any, **kwargs: Any) -> Any:
        if parts.state.global_step == 14:
            raise KeyboardInterrupt
        return ours(*args, **kwargs)

    parts.compute_loss = failing
    with pytest.raises(KeyboardInterrupt):
        parts.train()
    assert not parts.curriculum._attached  # the model is as it was, whatever happened
    parts.compute_loss = ours
    parts.train(resume_from_checkpoint=True)
    assert same(whole, parts)


def test_training_for_longer_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    short = trainer(tmp_path, "SPL", save_strategy="epoch", num_train_epochs=2)
    short.train()
    longer = trainer(tmp_path, "SPL", save_strategy="no", num_train_epochs=4)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == longer.state.max_steps > short.state.global_step
    assert longer.curriculum.epoch == 4


# 44 samples, 2 epochs. Step 4 of accumulation 1 is batch 4 of 11: 7 more are 2 of 4, then 3 of 4.
@pytest.mark.parametrize(
    ("before", "after", "total", "epoch"),
    [
        ((4, 1), (4, 4), 4 + 2 + 3, 8 / 11),
        ((4, 2), (4, 1), 4 + 3 + 11, 9 / 11),
        ((4, 1), (2, 1), 4 + 14 + 22, 9 / 22),
        ((2, 1), (4, 1), 4 + 9 + 11, 3 / 11),
        ((4, 1), (8, 3), 4 + 2 + 2, None),
    ],
)
def test_another_batch_size_or_accumulation_after_a_resume(
    before: Any, after: Any, total: int, epoch: float | None, tmp_path: Path
) -> None:
    """The rest of the epoch and the next ones are trained whole, down to a rate of 0."""

    def ours(size: int, accumulate: int, **options: Any) -> CurriculumTrainer:
        options["per_device_train_batch_size"] = size
        options["gradient_accumulation_steps"] = accumulate
        return trainer(tmp_path, "SuperLoss", num_train_epochs=2, **options)

    ours(*before, save_steps=2).train()
    keep_only(tmp_path, 4)
    longer = ours(*after, save_steps=2)
    longer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert longer.state.global_step == longer.state.max_steps == total
    assert longer.curriculum.epoch == 2
    assert len(longer.curriculum.methods[-1].order) == 2 * 44
    assert longer.lr_scheduler.get_last_lr() == [0.0, 0.0]
    if epoch is not None:
        assert logged(longer, "epoch")[4] == pytest.approx(epoch, abs=1e-4)
    assert logged(longer, "epoch") == sorted(logged(longer, "epoch"))
    # And again as it is: a checkpoint behind the change continues what came of it.
    last = total - 2 - total % 2
    again = ours(*after)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{last}"))
    assert again.state.max_steps == total
    assert same(longer, again)


@pytest.mark.parametrize(("epochs", "total"), [(1.5, 4 + 2 + 2), (0.75, 4 + 2), (0.3, 4)])
def test_a_part_of_an_epoch_at_another_accumulation(
    epochs: float, total: int, tmp_path: Path
) -> None:
    """Of 11 steps 0.75 are 8.25: 4.25 of the 7 to come, which 4 batches a step make in 2 steps."""
    trainer(tmp_path, "SuperLoss", save_steps=4, num_train_epochs=2).train()
    ours = trainer(
        tmp_path, "SuperLoss", num_train_epochs=epochs, gradient_accumulation_steps=4, save_steps=50
    )
    checkpoint = str(tmp_path / "checkpoint-4")
    ours.get_train_dataloader()
    callback = ours._curriculum_callback
    callback.load(checkpoint)
    found = ours.set_initial_training_values(ours.args, ours.get_train_dataloader())
    assert found[-1] == total


def test_the_state_is_whole_before_the_rest_of_the_checkpoint_is_written(tmp_path: Path) -> None:
    ours = trainer(tmp_path, "SuperLoss", save_steps=4, max_steps=4)
    seen: list[list[str]] = []
    save_model = ours.save_model

    def watched(folder: Any, **kwargs: Any) -> None:
        seen.append(sorted(path.name for path in Path(folder).iterdir()))
        save_model(folder, **kwargs)

    ours.save_model = watched
    ours.train()
    assert seen == [[STATE_FILE]]
    state = torch.load(tmp_path / "checkpoint-4" / STATE_FILE, weights_only=True)
    assert state["curriculum"]["step"] == 4


def test_a_checkpoint_without_a_curriculum_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, "SuperLoss", save_steps=4, max_steps=4).train()
    (tmp_path / "checkpoint-4" / STATE_FILE).unlink()
    ours = trainer(tmp_path, "SuperLoss")
    with pytest.raises(ValueError, match=r"resume_from_checkpoint must be a folder with gradatim"):
        ours.train(resume_from_checkpoint=True)
    assert ours.curriculum.step == 0


def test_an_epoch_that_a_callback_stopped_is_over_in_the_checkpoint_too(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_epoch_stop = state.global_step == 5

    def stopped() -> CurriculumTrainer:
        ours = trainer(tmp_path, "SuperLoss", save_strategy="epoch")
        ours.add_callback(Stop())
        return ours

    whole = stopped()
    whole.train()
    assert (whole.curriculum.epoch, whole.curriculum.step) == (3, 5 + 11 + 11)
    parts = stopped()
    parts.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert parts.state.max_steps == whole.state.max_steps == 33
    assert parts.curriculum.methods[-1].order == whole.curriculum.methods[-1].order
    expected = parameters(whole)
    assert all(torch.equal(value, expected[name]) for name, value in parameters(parts).items())


# ---------------------------------------------------------------------------- two processes


def ranked(rank: int, world: int, folder: str, task: str, resume: bool, **options: Any) -> Any:
    """One rank's training; batches of 4 in all, 43 samples, so that rows pad."""
    import os

    from accelerate.state import AcceleratorState, GradientState, PartialState

    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}  # asked for, not used
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ["ACCELERATE_USE_CPU"] = "true"
    for shared in (PartialState, AcceleratorState, GradientState):
        shared._reset_state()
    length = None if task == "next token" else 8
    visits = Visits()
    ours = CurriculumTrainer(
        network(task),
        arguments(
            folder,
            num_train_epochs=3,
            per_device_train_batch_size=4 // world,
            save_strategy="steps",
            save_steps=3,
            **options,
        ),
        train_dataset=table(task, 43, length=length),
        data_collator=padded,
        curriculum=gr.Curriculum(
            gr.SPL(pace=gr.pacing.Linear(start_fraction=0.4, epochs=3)), visits, seed=0
        ),
    )
    try:
        ours.train(resume_from_checkpoint=resume)
        return {
            "losses": losses(ours),
            "rates": logged(ours, "learning_rate"),
            "parameters": parameters(ours),
            "scores": ours.curriculum.scores(),
            "order": visits.order,
            "world": ours.args.world_size,
        }
    finally:
        for name in names:
            del os.environ[name]
        for shared in (PartialState, AcceleratorState, GradientState):
            shared._reset_state()


@pytest.mark.parametrize("task", ["label", "next token", "number"])
def test_two_processes_equal_one(task: str, run_ranks: Any, tmp_path: Path) -> None:
    """43 samples in batches of 4: the last rows only pad, and must not count, as tokens either."""
    (one,) = run_ranks(ranked, 1, str(tmp_path / "one"), task, False)
    two = run_ranks(ranked, 2, str(tmp_path / "two"), task, False)
    assert [each["world"] for each in two] == [2, 2]
    assert two[0]["losses"] == pytest.approx(one["losses"], abs=1e-6)
    for each in two:
        for name, value in each["parameters"].items():
            torch.testing.assert_close(value, one["parameters"][name], rtol=0, atol=3e-6)
        for name, values in each["scores"].items():
            torch.testing.assert_close(values, one["scores"][name], rtol=1e-5, atol=1e-6)


def test_two_processes_resume_within_an_epoch(run_ranks: Any, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    whole = run_ranks(ranked, 2, str(folder), "label", False)
    keep_only(folder, 9)
    parts = run_ranks(ranked, 2, str(folder), "label", True)
    for rank in range(2):
        assert parts[rank]["losses"] == whole[rank]["losses"]
        assert parts[rank]["rates"] == whole[rank]["rates"]
        expected = whole[rank]["parameters"]
        found = parts[rank]["parameters"]
        assert all(torch.equal(value, expected[name]) for name, value in found.items())
    # The method's list of this test is saved by the first rank alone.
    assert parts[0]["order"] == whole[0]["order"]
