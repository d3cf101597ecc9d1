"""Trainers small enough to run dozens of times: made data, models from configs, both CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any of it is imported

import datasets
import torch
import transformers
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

import gradatim as gr
from gradatim.integrations import CurriculumTrainerMixin

# Plain tensors, no logits of a module: the loss of sample k can be made to be k.
SIZE = 44
VOCABULARY = 30
_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}


class CurriculumTrainer(CurriculumTrainerMixin, Trainer):
    """What a user writes."""


def rows(task: str = "label", size: int = SIZE, *, length: int | None = 8) -> list[dict[str, Any]]:
    """Samples of a task; with `length` None of 3 to 9 tokens."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(size):
        long = length or 3 + int(torch.randint(0, 7, (), generator=generator))
        ids = torch.randint(1, VOCABULARY, (long,), generator=generator)
        noise = torch.rand(3, generator=generator)
        labels: Any = {
            "label": int(ids[0]) % 3,
            "labels": (noise > 0.5).float().tolist(),
            "number": float(noise[0]),
            "tokens": [-100, *(ids[1:] % 3).tolist()],
            "next token": ids.tolist(),
        }.get(task)
        row = {"input_ids": ids.tolist(), "attention_mask": [1] * long, "number": number}
        if task == "span":
            found.append({**row, "start_positions": int(ids[0]) % long, "end_positions": long - 1})
        else:
            found.append({**row, "labels": labels})
    return found


class Rows(Dataset):
    """A torch data set of dicts, of what models take alone."""

    def __init__(self, samples: list[dict[str, Any]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.samples[index])


def table(task: str = "label", size: int = SIZE, **options: Any) -> datasets.Dataset:
    """The samples as a `datasets.Dataset`, with a column that no model takes."""
    return datasets.Dataset.from_list(rows(task, size, **options))


def padded(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A collator with dynamic padding."""
    long = max(len(item["input_ids"]) for item in items)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor(
            [
                item[name] + [fill[name]] * (long - len(item[name]))
                if isinstance(item[name], list) and name in fill
                else item[name]
                for item in items
            ]
        )
        for name in items[0]
    }


def network(task: str = "label", *, dropout: float = 0.0) -> Any:
    """A model with random weights, always the same, for the task."""
    torch.manual_seed(5)
    drop = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = transformers.BertConfig(**_BERT, **drop)
    if task == "label":
        config.num_labels = 3
        return transformers.BertForSequenceClassification(config)
    if task == "labels":
        config.num_labels, config.problem_type = 3, "multi_label_classification"
        return transformers.BertForSequenceClassification(config)
    if task == "number":
        config.num_labels = 1
        return transformers.BertForSequenceClassification(config)
    if task == "tokens":
        config.num_labels = 3
        return transformers.BertForTokenClassification(config)
    if task == "span":
        return transformers.BertForQuestionAnswering(config)
    assert task == "next token"
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=16,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=1,
            eos_token_id=1,
            attention_dropout=dropout,
        )
    )


def arguments(folder: Any, **options: Any) -> TrainingArguments:
    """Quiet arguments for the CPU, with every step's loss in the log."""
    plain: dict[str, Any] = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 16,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "log_level": "error",
    }
    return TrainingArguments(str(folder), **{**plain, **options})


class Ordered(Trainer):
    """The stock Trainer over a given order of samples, epoch after epoch."""

    orders: Iterator[list[int]]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return _Sampler(self.orders)


class _Sampler:
    def __init__(self, orders: Iterator[list[int]]) -> None:
        self.orders = orders

    def __len__(self) -> int:
        return SIZE

    def __iter__(self) -> Iterator[int]:
        return iter(next(self.orders))


def shuffles(batch_size: int = 4, *, size: int = SIZE, seed: int = 0) -> Iterator[list[int]]:
    """The orders in which plain shuffling under `Curriculum(seed=0)` shows the samples."""
    curriculum = gr.Curriculum(gr.Uniform(), seed=seed)
    loader = curriculum.loader(range(size), batch_size)
    while True:
        order: list[int] = []
        for batch in loader:
            order += batch.tolist()
            curriculum(torch.zeros(len(batch)))
        yield order


def losses(trainer: Trainer) -> list[float]:
    """Every logged training loss."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def logged(trainer: Trainer, name: str) -> list[float]:
    """A logged number, in order."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The model's state, copied."""
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


class Visits(gr.Method):
    """Remembers the loss of each sample, and the order in which they came."""

    def setup(self, run: gr.Run) -> None:
        self.loss = gr.Table("loss", fill=-1.0)
        self.visits = gr.Table("visits", dtype=torch.int64, merge="sum")
        self.order: list[int] = []

    def weigh(self, batch: gr.Batch, run: gr.Run) -> None:
        self.order += batch.index.tolist()

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.loss.write(batch.index, batch.losses)
        self.visits.add(batch.index, torch.ones_like(batch.index))

    def state_dict(self) -> dict[str, Any]:
        return {"order": list(self.order)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order = list(state["order"])
