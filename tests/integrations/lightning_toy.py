"""A Lightning training small enough to do many times: stopped, saved, resumed, on any rank."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

import gradatim as gr
from ddp import toy
from gradatim.integrations.lightning import CurriculumCallback

# What Lightning says of a machine with few cores, of few steps, and of a folder that is not empty.
CHATTER = (
    "ignore:.*does not have many workers",
    "ignore:.*is smaller than the logging interval",
    "ignore:.*exists and is not empty",
    "ignore:You defined a `validation_step` but have no",
    "ignore:.isinstance.treespec, LeafSpec.. is deprecated",  # Lightning's use of torch
)


def quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for line in CHATTER:
        warnings.filterwarnings("ignore", message=line.removeprefix("ignore:"))


class Easiest(gr.Method):
    """Keeps the samples whose last loss was lowest: as many as `share` of the epoch says."""

    def __init__(self, shares: tuple[float, ...]) -> None:
        self.shares = shares

    def setup(self, run: gr.Run) -> None:
        self.loss = gr.Table("loss")
        self.visits = gr.Table("visits", dtype=torch.int64, merge="sum")

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        share = self.shares[min(run.epoch, len(self.shares) - 1)]
        count = max(1, round(share * pool.index.numel()))
        return pool.keep(torch.argsort(self.loss.values[pool.index], stable=True)[:count])

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.loss.write(batch.index, batch.losses)
        self.visits.add(batch.index, torch.ones_like(batch.index))


METHODS: dict[str, Callable[[int], list[gr.Method]]] = {
    **toy.METHODS,
    "Uniform": lambda size: [gr.Uniform()],
    "growing": lambda size: [Easiest((0.4, 0.6, 0.8, 1.0)), gr.SuperLoss()],
    "shrinking": lambda size: [Easiest((1.0, 0.7, 0.5, 0.3)), gr.SuperLoss()],
    "zigzag": lambda size: [Easiest((0.5, 1.0, 0.4, 0.7))],
}


@dataclass
class Trace:
    """What two equal runs have in common."""

    codes: list[list[int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)  # of each epoch, as the trainer has it
    validated: list[int] = field(default_factory=list)  # after how many steps
    parameters: list[torch.Tensor] = field(default_factory=list)
    scores: dict[str, torch.Tensor] = field(default_factory=dict)
    curriculum: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    epochs: int = 0


class Model(pl.LightningModule):
    """The network of `ddp.toy`, trained as there, that writes down what it is given."""

    def __init__(self, name: str, curriculum: gr.Curriculum, interval: str = "step") -> None:
        super().__init__()
        self.net = toy.network(name)
        start = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=start))
        self.curriculum = curriculum
        self.interval = interval
        self.trace = Trace()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.3, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        return [optimizer], [{"scheduler": scheduler, "interval": self.interval}]

    def loss(self, batch: Any) -> torch.Tensor:
        self.trace.codes.append(self.curriculum.epochs._pending[0].tolist())
        x, y = batch
        logits = self.net(x)
        losses = self.curriculum.criterion(logits, y)
        states = toy.states_of(x, logits)
        loss = self.curriculum(losses, logits=logits, targets=y, **states)
        self.trace.losses.append(float(loss.detach()))
        self.trace.rates.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.loss(batch)

    def survey(self, batch: Any) -> dict[str, torch.Tensor]:
        x, y = batch
        logits = self.net(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        return {"losses": losses, "logits": logits, "targets": y, **toy.states_of(x, logits)}

    def on_train_epoch_start(self) -> None:
        self.trace.lengths.append(self.trainer.num_training_batches)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking and batch_idx == 0:
            self.trace.validated.append(self.trainer.global_step)


class Environment(LightningEnvironment):
    """The processes that are there already."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return dist.get_world_size()

    def global_rank(self) -> int:
        return dist.get_rank()

    def local_rank(self) -> int:
        return dist.get_rank()

    def set_world_size(self, size: int) -> None: ...

    def set_global_rank(self, rank: int) -> None: ...


def trainer_options(**options: Any) -> dict[str, Any]:
    world = dist.get_world_size() if dist.is_initialized() else 1
    plain = {
        "accelerator": "cpu",
        "devices": world,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "max_epochs": 4,
    }
    if world > 1:
        plain["strategy"] = DDPStrategy(cluster_environment=Environment())
    return plain | options


def train(
    name: str,
    folder: Path | None = None,
    *,
    size: int = 35,
    batch_size: int = 8,
    save: dict[str, Any] | None = None,
    resume: str | None = None,
    validate: bool = True,
    interval: str = "step",
    module: type[Model] = Model,
    callback: dict[str, Any] | None = None,
    loader_options: dict[str, Any] | None = None,
    survey: bool = False,
    callbacks: Sequence[Any] = (),
    **options: Any,
) -> Trace:
    """Train and record what happened.

    Args:
        name: key of `METHODS`.
        folder: for checkpoints.
        size: N.
        batch_size: per rank.
        save: options of `ModelCheckpoint`.
        resume: path of a checkpoint.
        validate: with a validation set.
        interval: of the learning-rate scheduler.
        module: the class to train.
        callback: options of `CurriculumCallback`.
        loader_options: of `Curriculum.loader`.
        survey: hand over the module's.
        callbacks: more of them.
        options: of `Trainer`.
    """
    quiet()
    curriculum = gr.Curriculum(*METHODS[name](size), seed=0)
    loader = curriculum.loader(toy.Toy(size), batch_size, **(loader_options or {}))
    model = module(name, curriculum, interval)
    ours = {"survey": model.survey if survey else None, **(callback or {})}
    every: list[Any] = [CurriculumCallback(curriculum, **ours), *callbacks]
    if save is not None:
        every.append(ModelCheckpoint(folder, **save))
        options["enable_checkpointing"] = True
    trainer = pl.Trainer(callbacks=every, **trainer_options(**options))
    validation = DataLoader(toy.Toy(8), 4) if validate else None
    trainer.fit(model, loader, validation, ckpt_path=resume)
    trace = model.trace
    trace.parameters = [parameter.detach().clone() for parameter in model.parameters()]
    trace.curriculum = copy.deepcopy(curriculum.collect().state_dict())
    trace.scores = curriculum.scores()
    trace.steps, trace.epochs = curriculum.step, curriculum.epoch
    return trace


def train_ranks(rank: int, world: int, *runs: dict[str, Any]) -> list[Trace]:
    """One trace per run, for `run_ranks`."""
    return [train(**run) for run in runs]
