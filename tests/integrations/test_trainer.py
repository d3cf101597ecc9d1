"""The Trainer with a curriculum: equal to the stock one where nothing is chosen, else exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

import gradatim as gr
from gradatim.loader import CurriculumLoader
from integrations.trainer_toy import (
    SIZE,
    CurriculumTrainer,
    Ordered,
    Rows,
    Visits,
    arguments,
    logged,
    losses,
    network,
    padded,
    parameters,
    rows,
    shuffles,
    table,
)


def both(folder: Path, task: str, *, scaled: bool | None = None, size: int = SIZE, **options: Any):
    """The stock Trainer and ours, trained over the same order."""
    options = {"num_train_epochs": 2 if task == "label" else 1, **options}
    length = None if task in ("tokens", "next token") else 8
    given = {"data_collator": padded} if length is None else {}
    stock = Ordered(
        network(task),
        arguments(folder, **options),
        train_dataset=table(task, size, length=length),
        **given,
    )
    stock.orders = shuffles(size=size)
    stock.loss_is_scaled_for_ga = scaled
    stock.train()
    ours = CurriculumTrainer(
        network(task),
        arguments(folder, **options),
        train_dataset=table(task, size, length=length),
        curriculum=gr.Curriculum(gr.Uniform(), seed=0),
        **given,
    )
    ours.train()
    return stock, ours


def assert_alike(stock: Trainer, ours: Trainer, *, exact: bool = False) -> None:
    assert len(losses(ours)) == len(losses(stock)) == stock.state.max_steps == ours.state.max_steps
    assert losses(ours) == pytest.approx(losses(stock), abs=1e-6)
    assert logged(ours, "learning_rate") == logged(stock, "learning_rate")
    assert logged(ours, "epoch") == logged(stock, "epoch")
    expected = parameters(stock)
    for name, value in parameters(ours).items():
        torch.testing.assert_close(
            value, expected[name], rtol=0, atol=0.0 if exact else 2e-6, msg=name
        )


@pytest.mark.parametrize("task", ["label", "labels", "number", "tokens", "span", "next token"])
def test_uniform_equals_the_stock_trainer(task: str, tmp_path: Path) -> None:
    stock, ours = both(tmp_path, task)
    assert_alike(stock, ours)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_uniform_equals_a_stock_trainer_that_divides(
    accumulate: int, tmp_path: Path
) -> None:
    """44 samples are 11 batches of 4, so the last step has fewer batches."""
    stock, ours = both(tmp_path, "label", scaled=False, gradient_accumulation_steps=accumulate)
    assert_alike(stock, ours)


def test_accumulated_tokens_equal_the_stock_trainer(tmp_path: Path) -> None:
    stock, ours = both(tmp_path, "next token", gradient_accumulation_steps=3, size=42)
    assert_alike(stock, ours)


def test_smoothed_labels_equal_the_stock_trainer(tmp_path: Path) -> None:
    stock, ours = both(tmp_path, "label", label_smoothing_factor=0.2)
    assert_alike(stock, ours)


def test_smoothed_tokens_equal_the_stock_trainer(tmp_path: Path) -> None:
    stock, ours = both(tmp_path, "next token", label_smoothing_factor=0.2)
    assert_alike(stock, ours)


def trainer(
    folder: Path,
    *methods: gr.Method,
    task: str = "label",
    data: Any = None,
    model: Any = None,
    extra: dict[str, Any] | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> CurriculumTrainer:
    return CurriculumTrainer(
        network(task, dropout=dropout) if model is None else model,
        arguments(folder, **options),
        train_dataset=table(task) if data is None else data,
        curriculum=gr.Curriculum(*methods, seed=0),
        **(extra or {}),
    )


def squared(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """The loss of a sample is its label, whatever the model says."""
    return labels + 0 * outputs["logits"].mean(1)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_scores_land_on_the_right_sample(workers: int, accumulate: int, tmp_path: Path) -> None:
    """The loss of sample k is k, through `datasets` columns that are dropped and shuffling."""
    samples = [{**row, "labels": float(row["number"])} for row in rows()]
    visits = Visits()
    ours = trainer(
        tmp_path,
        gr.PacedRandom(pace=gr.pacing.Linear(start_fraction=0.4, epochs=2)),
        visits,
        data=Rows(samples),
        extra={"compute_loss_func": squared},
        dataloader_num_workers=workers,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=3,
    )
    ours.train()
    assert torch.equal(visits.loss.values, torch.arange(SIZE).float())
    assert int(visits.visits.values.sum()) == len(visits.order) > 2 * SIZE


def test_epochs_of_every_length_are_trained_to_their_end(tmp_path: Path) -> None:
    """Growing: 18, 31, 44 samples; 3 batches of 4 per step make ceil(ceil(n / 4) / 3) steps."""
    pace = gr.pacing.Linear(start_fraction=0.4, epochs=2)
    visits = Visits()
    ours = trainer(
        tmp_path,
        gr.PacedRandom(pace=pace),
        visits,
        num_train_epochs=4,
        gradient_accumulation_steps=3,
        eval_strategy="epoch",
        extra={"eval_dataset": table(size=8)},
    )
    ours.train()
    sizes = logged(ours, "curriculum_subset_size")
    assert sizes == [18.0] * 2 + [31.0] * 3 + [44.0] * 4 + [44.0] * 4
    assert ours.state.global_step == ours.state.max_steps == 13
    assert len(visits.order) == 18 + 31 + 44 + 44
    assert ours.lr_scheduler.get_last_lr() == [0.0, 0.0]
    assert [entry["epoch"] for entry in ours.state.log_history if "eval_loss" in entry] == [
        1,
        2,
        3,
        4,
    ]


class Shrinking(gr.Method):
    """All samples, then half of them, then a quarter."""

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        return pool.keep(torch.arange(self.planned_size(pool.index.numel(), run.epoch)))

    def planned_size(self, size: int, epoch: int) -> int:
        return size // 2**epoch


def test_shrinking_epochs_neither_end_early_nor_leave_learning_rate_over(tmp_path: Path) -> None:
    ours = trainer(tmp_path, Shrinking(), num_train_epochs=2.5)
    ours.train()
    assert ours.state.max_steps == ours.state.global_step == 11 + 6 + 2  # ceil(0.5 * 3) of the last
    assert ours.lr_scheduler.get_last_lr() == [0.0, 0.0]


def test_max_steps_end_training_within_an_epoch(tmp_path: Path) -> None:
    ours = trainer(tmp_path, Shrinking(), max_steps=14)
    ours.train()
    assert ours.state.global_step == 14
    assert ours.state.num_train_epochs == 2
    assert (ours.curriculum.epoch, ours.curriculum.step) == (1, 14)


def test_lengths_that_depend_on_the_data_are_made_equal_with_a_warning(tmp_path: Path) -> None:
    method = gr.SPL("linear", pace=gr.pacing.Linear(start_fraction=0.4, epochs=2))
    ours = trainer(tmp_path, method, num_train_epochs=3)
    with pytest.warns(UserWarning, match="each gets 11 batches"):
        ours.train()
    assert ours.state.global_step == ours.state.max_steps == 33
    # With the number of steps given, epochs keep their own lengths.
    method = gr.SPL("linear", pace=gr.pacing.Linear(start_fraction=0.4, epochs=2))
    ours = trainer(tmp_path, method, max_steps=30)
    ours.train()
    assert ours.state.global_step == 30
    assert ours.curriculum.epoch >= 3


def test_steps_per_epoch_fix_the_length(tmp_path: Path) -> None:
    ours = trainer(tmp_path, gr.Uniform(), extra={"steps_per_epoch": 5})
    ours.train()
    assert (ours.state.global_step, ours.curriculum.epoch) == (10, 2)


def test_surveys_use_the_trainers_model_and_collator_and_leave_no_trace(tmp_path: Path) -> None:
    """SPDCL is given hidden states and masks before an epoch; nothing else moves."""
    spdcl = gr.SPDCL(shares=3)
    ours = trainer(
        tmp_path,
        spdcl,
        data=table(length=None),
        extra={"data_collator": padded},
        num_train_epochs=3,
        dropout=0.1,
    )
    before = parameters(ours)
    seen: list[Any] = []
    forward = ours._surveyed

    def watched(batch: Any) -> Any:
        seen.append((ours.model.training, len(batch["labels"])))
        return forward(batch)

    ours._surveyed = watched
    ours.get_train_dataloader()
    ours.curriculum.attach(model=ours.model)
    state = torch.get_rng_state()
    ours._survey()
    assert seen == [(False, 16), (False, 16), (False, 12)]
    assert ours.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in parameters(ours).items())
    with torch.no_grad():
        row = rows(length=None)[7]
        hidden = ours.model.eval()(
            torch.tensor([row["input_ids"]]), output_hidden_states=True
        ).hidden_states[-1]
    expected = gr.scores.nuclear_norm(hidden, torch.ones(hidden.shape[:2]))
    norms = ours.curriculum.scores()["SPDCL.norm"]
    torch.testing.assert_close(norms[7:8], expected.float(), atol=1e-4, rtol=1e-4)
    ours.train()
    assert ours.state.global_step == ours.state.max_steps == 4 + 8 + 11


def test_hidden_states_are_asked_for_where_training_measures_them(tmp_path: Path) -> None:
    spdcl = gr.SPDCL(shares=3, measure="training")
    ours = trainer(tmp_path, spdcl, num_train_epochs=3)
    ours.train()
    assert int((spdcl.seen.values >= 1).sum()) >= 15  # seen in training, not in the survey alone


@pytest.mark.parametrize(
    "method",
    [
        lambda: gr.DIHCL("loss_change", "rand", warmup_epochs=2, gamma_k=0.7),
        lambda: gr.DoCL(episodes=(1, 3), batch_mul=2, gamma_k=0.6),
        lambda: gr.LeRaC(2, last=0.05, layers=["bert.e*", "bert.pooler", "classifier"]),
        lambda: gr.SuperLoss(),
        lambda: gr.Predefined(torch.arange(float(SIZE)), pace=gr.pacing.Linear(epochs=2)),
    ],
    ids=["DIHCL", "DoCL", "LeRaC", "SuperLoss", "Predefined"],
)
def test_three_lines_train_with_any_curriculum(method: Any, tmp_path: Path) -> None:
    ours = trainer(tmp_path, method(), num_train_epochs=3)
    rates = [group["lr"] for group in ours.create_optimizer().param_groups]
    ours.train()
    assert ours.state.global_step == ours.state.max_steps
    assert ours.curriculum.epoch == 3
    assert not ours.curriculum._attached
    assert len(rates) == len(ours.optimizer.param_groups)


def test_evaluation_and_prediction_are_the_stock_trainers(tmp_path: Path) -> None:
    given = {"eval_dataset": table(size=21), "train_dataset": table()}
    ours = CurriculumTrainer(
        network(), arguments(tmp_path), curriculum=gr.Curriculum(gr.SuperLoss(), seed=0), **given
    )
    stock = Trainer(network(), arguments(tmp_path), **given)
    assert ours.evaluate()["eval_loss"] == stock.evaluate()["eval_loss"]
    theirs, mine = stock.predict(table(size=21)), ours.predict(table(size=21))
    assert (mine.predictions == theirs.predictions).all()
    assert mine.metrics["test_loss"] == theirs.metrics["test_loss"]


def test_losses_of_a_users_own_function_count_alike_in_evaluation(tmp_path: Path) -> None:
    def focal(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="none") ** 2

    ours = trainer(tmp_path, extra={"compute_loss_func": focal, "eval_dataset": table(size=16)})
    with torch.no_grad():
        ids = torch.tensor(table(size=16)["input_ids"])
        labels = torch.tensor(table(size=16)["labels"])
        expected = float(focal(ours.model.eval()(ids), labels).mean())
    assert ours.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-6)


def test_the_loader_is_ours_from_beginning_to_end(tmp_path: Path) -> None:
    """The Trainer hands its own to accelerate, which would rebuild this one."""
    ours = trainer(tmp_path, gr.Uniform())
    loader = ours.get_train_dataloader()
    assert isinstance(loader, CurriculumLoader)
    assert loader.dataset.column_names == ["input_ids", "attention_mask", "labels"]
    ours.train()
    assert ours.callback_handler.train_dataloader is loader is ours.get_train_dataloader()


def test_a_second_training_goes_on_with_the_curriculum(tmp_path: Path) -> None:
    visits = Visits()
    ours = trainer(tmp_path, visits, max_steps=13)
    ours.train()
    ours.train()
    assert ours.state.global_step == 13
    # 13 steps are an epoch of 11 and two more; the broken one ends where training did.
    assert (ours.curriculum.epoch, ours.curriculum.step) == (3, 26)
    assert len(visits.order) == 26 * 4


def test_a_batch_size_found_by_trial_begins_the_curriculum_anew(tmp_path: Path) -> None:
    ours = trainer(tmp_path, visits := Visits(), auto_find_batch_size=True, num_train_epochs=1)
    step = ours.training_step

    def small(model: Any, inputs: Any, *args: Any) -> Any:
        if len(inputs["labels"]) == 4 and ours.state.global_step == 2:
            raise RuntimeError("CUDA out of memory.")
        return step(model, inputs, *args)

    ours.training_step = small
    ours.train()
    size = ours._train_batch_size
    assert size < 4
    assert ours.curriculum.step == ours.state.global_step == -(-SIZE // size)
    assert sorted(visits.order) == list(range(SIZE))


def test_reduced_precision_trains_and_scores_in_full(tmp_path: Path) -> None:
    ours = trainer(tmp_path, gr.SuperLoss(), visits := Visits(), bf16=True, num_train_epochs=1)
    ours.train()
    assert ours.state.global_step == 11
    assert bool((visits.loss.values > 0).all())
