"""What the Trainer cannot train with a curriculum is refused by name, before anything changes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, Trainer

import gradatim as gr
from gradatim.integrations import CurriculumTrainerCallback, CurriculumTrainerMixin
from gradatim.integrations.trainer_losses import mean_of, sample_losses
from integrations.trainer_toy import (
    VOCABULARY,
    CurriculumTrainer,
    Rows,
    arguments,
    network,
    rows,
    table,
)


def trainer(folder: Path, *, kind: Any = CurriculumTrainer, **given: Any) -> Any:
    plain: dict[str, Any] = {
        "model": network(),
        "train_dataset": table(),
        "curriculum": gr.Curriculum(gr.Uniform(), seed=0),
        "args": arguments(folder, max_steps=2),
    }
    return kind(**{**plain, **given})


@pytest.mark.parametrize("curriculum", [None, gr.Uniform(), "spl"])
def test_no_curriculum(curriculum: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"curriculum must be a gradatim\.Curriculum"):
        trainer(tmp_path, curriculum=curriculum)


def test_the_callback_may_bring_the_curriculum(tmp_path: Path) -> None:
    curriculum = gr.Curriculum(gr.Uniform(), seed=0)
    callbacks = [CurriculumTrainerCallback(curriculum)]
    ours = trainer(tmp_path, curriculum=None, callbacks=callbacks)
    assert ours.curriculum is curriculum
    found = [type(callback) for callback in ours.callback_handler.callbacks]
    assert found.count(CurriculumTrainerCallback) == 1
    with pytest.raises(ValueError, match="that of the callback"):
        trainer(tmp_path, callbacks=callbacks)


def test_a_mixin_behind_the_trainer(tmp_path: Path) -> None:
    class Wrong(Trainer, CurriculumTrainerMixin):
        pass

    class Bare(CurriculumTrainerMixin):
        pass

    with pytest.raises(TypeError):
        trainer(tmp_path, kind=Wrong)
    with pytest.raises(TypeError, match="must list the mixin before its trainer"):
        trainer(tmp_path, kind=Bare)


@pytest.mark.parametrize(
    "name", ["compute_loss", "get_train_dataloader", "_get_train_sampler", "_run_epoch"]
)
def test_a_trainer_whose_own_part_would_not_be_used(name: str, tmp_path: Path) -> None:
    base = type("Base", (Trainer,), {name: lambda self, *args: None})
    kind = type("Ours", (CurriculumTrainerMixin, base), {})
    with pytest.raises(TypeError, match=f"{name} must be left to the curriculum. Base has its own"):
        trainer(tmp_path, kind=kind)


def test_a_sampler_below_the_mixin(tmp_path: Path) -> None:
    kind = type("Ours", (CurriculumTrainer,), {"_get_train_sampler": lambda self, *args: None})
    with pytest.raises(TypeError, match=r"_get_train_sampler must be left to the curriculum. Ours"):
        trainer(tmp_path, kind=kind)


def test_a_loader_below_the_mixin(tmp_path: Path) -> None:
    class Looks(CurriculumTrainer):
        def get_train_dataloader(self) -> Any:
            loader = super().get_train_dataloader()
            assert len(loader) == 11
            return loader

    class Replaces(CurriculumTrainer):
        def get_train_dataloader(self) -> Any:
            return Trainer.get_train_dataloader(self)

    looks = trainer(tmp_path, kind=Looks)
    looks.train()
    assert looks.curriculum.step == 2
    replaces = trainer(tmp_path, kind=Replaces)
    with pytest.raises(TypeError, match=r"get_train_dataloader must be .* That of Replaces"):
        replaces.train()


@pytest.mark.parametrize("looped", [False, True])
def test_the_callback_without_the_mixin(looped: bool, tmp_path: Path) -> None:
    """Also where the curriculum has a loader that the Trainer does not read."""
    curriculum = gr.Curriculum(gr.Uniform(), seed=0)
    loader = curriculum.loader(rows(), 4) if looped else None
    stock = Trainer(
        network(),
        arguments(tmp_path),
        train_dataset=table(),
        callbacks=[CurriculumTrainerCallback(curriculum)],
    )
    with pytest.raises(RuntimeError, match="curriculum was not" if looped else "Use the mixin"):
        stock.train()
    assert stock.state.global_step == (11 if looped else 0)
    assert not curriculum._attached
    assert (loader is None) != looped


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"train_sampling_strategy": "group_by_length"},
            "strategy must be 'random'",
        ),
        ({"train_sampling_strategy": "sequential"}, "strategy must be 'random'"),
        ({"data_seed": 3}, "data_seed must be None. Got 3"),
        ({"accelerator_config.dispatch_batches": True}, "dispatch_batches must be off"),
        ({"accelerator_config.split_batches": True}, "split_batches must be off"),
        ({"use_liger_kernel": True}, "use_liger_kernel must be False"),
    ],
)
def test_arguments_without_effect(options: Any, message: str, tmp_path: Path) -> None:
    args = arguments(tmp_path)
    for name, value in options.items():
        *path, last = name.split(".")
        setattr(functools.reduce(getattr, path, args), last, value)
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, args=args)


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(rows())


@pytest.mark.parametrize("data", [Stream(), table().to_iterable_dataset()])
def test_streams(data: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="train_dataset must have __getitem__ and __len__"):
        trainer(tmp_path, train_dataset=data)


def test_empty_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_dataset must be non-empty"):
        trainer(tmp_path, train_dataset=Rows([]))
    with pytest.raises(ValueError, match="train_dataset must be non-empty"):
        trainer(tmp_path, train_dataset=table().select([]))


def test_a_column_of_the_reserved_name(tmp_path: Path) -> None:
    data = table().add_column("_gradatim_index", [0] * 44)
    with pytest.raises(ValueError, match="free of the reserved column '_gradatim_index'"):
        trainer(tmp_path, train_dataset=data)
    torch_data = Rows([{**row, "_gradatim_index": 0} for row in rows()])
    with pytest.raises(ValueError, match="free of the reserved column '_gradatim_index'"):
        trainer(tmp_path, train_dataset=torch_data).train()


def test_a_collator_that_makes_no_dict(tmp_path: Path) -> None:
    ours = trainer(tmp_path, data_collator=lambda items: [item["labels"] for item in items])
    with pytest.raises(TypeError, match=r"data_collator must return a dict\. Got list"):
        ours.train()


def test_labels_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels must be a tensor in every batch"):
        trainer(tmp_path, train_dataset=table().remove_columns("labels")).train()


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("label", [0, 1], r"labels must be one per sample, of shape \(4,\)"),
        ("labels", [0.0, 1.0], r"labels must be of the logits' shape \(4, 3\)"),
        ("labels", [0, 1, 1], "labels must be of a floating dtype"),
        ("tokens", [0, 1], r"labels must be one per token, of shape \(4, 8\)"),
        ("tokens", 1, r"labels must be one per token, of shape \(4, 8\)"),
    ],
)
def test_labels_of_a_wrong_shape(task: str, labels: Any, message: str, tmp_path: Path) -> None:
    outputs = {"logits": torch.zeros(4, 8, 3) if task == "tokens" else torch.zeros(4, 3)}
    wanted = torch.tensor([labels] * 4)
    with pytest.raises(ValueError, match=message):
        sample_losses(network(task), outputs, wanted)


def test_a_model_without_logits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"logits must be in the model's outputs. Got \['poo"):
        sample_losses(None, {"pooled": torch.zeros(4, 3)}, torch.zeros(4))


def test_a_function_of_losses_that_reduces(tmp_path: Path) -> None:
    def mean(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs.logits, labels)

    with pytest.raises(ValueError, match=r"compute_loss_func must be a function that returns one"):
        trainer(tmp_path, compute_loss_func=mean).train()


class Penalised(BertForSequenceClassification):
    """Adds to its labels' loss what per-sample losses do not see."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None) -> Any:
        outputs = super().forward(input_ids, attention_mask, labels=labels)
        if outputs.loss is not None:
            outputs.loss = outputs.loss + 0.1
        return outputs


def test_a_model_that_trains_on_more_than_its_labels_loss(tmp_path: Path) -> None:
    model = Penalised(network().config)
    ours = trainer(tmp_path, model=model)
    with pytest.raises(ValueError, match="losses per sample must be what the model trains on"):
        ours.train()
    assert ours.curriculum.step == 0


class Headless(BertForSequenceClassification):
    """Returns no hidden states, whatever it is asked for."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None) -> Any:
        return {"logits": super().forward(input_ids, attention_mask).logits}


def test_hidden_states_missing(tmp_path: Path) -> None:
    curriculum = gr.Curriculum(gr.SPDCL(shares=2), seed=0)
    ours = trainer(tmp_path, model=Headless(network().config), curriculum=curriculum)
    with pytest.raises(ValueError, match=r"hidden.*output_hidden_states"):
        ours.train()


def test_a_curriculum_with_a_loader_of_its_own(tmp_path: Path) -> None:
    curriculum = gr.Curriculum(gr.Uniform(), seed=0)
    loader = curriculum.loader(rows(), 4)
    with pytest.raises(RuntimeError, match="drives one loader"):
        trainer(tmp_path, curriculum=curriculum).train()
    assert len(loader) == 11


def test_a_method_that_selects_within_batches(tmp_path: Path) -> None:
    class Best(gr.Method):
        def select(self, batch: gr.Batch, k: int, run: gr.Run) -> torch.Tensor:
            return batch.losses.topk(k).indices

    with pytest.raises(TypeError, match="must not select within batches: Best"):
        trainer(tmp_path, curriculum=gr.Curriculum(Best()))


def test_a_loss_that_bypasses_the_curriculum(tmp_path: Path) -> None:
    class Bypassing(CurriculumTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return model(input_ids=inputs["input_ids"], labels=inputs["labels"]).loss

    with pytest.raises(RuntimeError, match="curriculum was not called in this epoch"):
        trainer(tmp_path, kind=Bypassing).train()


def test_models_whose_type_transformers_does_not_know_shift_as_it_does(tmp_path: Path) -> None:
    """GPT2LMHeadModel has no loss type; transformers falls back to the causal loss."""
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    config.bos_token_id = config.eos_token_id = 1
    model = GPT2LMHeadModel(config).eval()
    ids = torch.tensor(table("next token")["input_ids"][:4])
    labels = ids.clone()
    labels[0, 5:] = -100
    outputs = model(input_ids=ids, labels=labels)
    found = sample_losses(model, outputs, labels)
    assert found.tokens is not None
    assert found.tokens.tolist() == [4, 7, 7, 7]
    torch.testing.assert_close(mean_of(found), outputs.loss)


def test_the_lazy_package_names_what_it_has() -> None:
    import gradatim.integrations as integrations

    assert "CurriculumTrainerMixin" in dir(integrations)
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        integrations.Trainer  # noqa: B018
