"""A small training run under plain Accelerate, with what must not differ between two equal ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.utils.data import DataLoader

import gradatim as gr
from ddp.toy import CLASSES, METHODS, Toy
from gradatim.integrations.accelerate import accelerated

LOCAL = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", *LOCAL)


def forget() -> None:
    """Accelerate keeps its state in singletons; the next accelerator starts anew."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@contextmanager
def fresh(**options: Any) -> Iterator[Accelerator]:
    """An accelerator on the CPU for the processes there are, and no trace of it afterwards."""
    before = dict(os.environ)
    forget()
    if dist.is_initialized():
        world, rank = str(dist.get_world_size()), str(dist.get_rank())
        os.environ.update(LOCAL, RANK=rank, LOCAL_RANK=rank)
        os.environ.update(WORLD_SIZE=world, LOCAL_WORLD_SIZE=world)
    try:
        yield Accelerator(cpu=True, **options)
    finally:
        forget()
        os.environ.clear()
        os.environ.update(before)


class Reports(gr.Method):
    """Keeps the last loss of each sample and how often it came."""

    def setup(self, run: gr.Run) -> None:
        self.loss = gr.Table("loss", fill=-1.0)
        self.visits = gr.Table("visits", dtype=torch.int64, merge="sum")

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.loss.write(batch.index, batch.losses)
        self.visits.add(batch.index, torch.ones_like(batch.index))


class Sizes(gr.Method):
    """Epochs of the given numbers of samples, as fast as they were given."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        return pool.keep(torch.arange(self.sizes[run.epoch]))

    def planned_size(self, size: int, epoch: int) -> int | None:
        return self.sizes[epoch]


def methods(name: str | list[int], size: int) -> list[gr.Method]:
    if isinstance(name, list):
        return [Sizes(name)]
    return METHODS[name](size) if name in METHODS else [gr.Uniform()]


def network() -> nn.Module:
    net = nn.Linear(5, CLASSES, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator).double())
    return net


def falling(optimizer: torch.optim.Optimizer, whole: int | None) -> Any:
    """Linear to 0 after `whole` steps; constant where that is not known."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: 1.0 if whole is None else 1 - done / whole
    )


@dataclass
class Trace:
    """What happened, batch by batch and at the end; `codes` are this process's rows."""

    codes: list[list[int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    synced: list[bool] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    scheduled: int | None = None
    parameters: list[torch.Tensor] = field(default_factory=list)
    scores: dict[str, torch.Tensor] = field(default_factory=dict)


def train(
    name: str | list[int] = "uniform",
    *,
    size: int = 35,
    batch_size: int = 8,
    epochs: int = 3,
    accumulate: int = 1,
    folder: str | None = None,
    save_at: int | None = None,
    stop: int | None = None,
    resume: bool = False,
    prepare: bool = False,
    accelerator_options: dict[str, Any] | None = None,
    **loader_options: Any,
) -> Trace:
    """Train as a user of Accelerate does; `name` is a key of `METHODS` or the epochs' sizes.

    Args:
        save_at: save into `folder` after this many batches, `stop` leave after so many.
        resume: load from `folder` first.
        prepare: pass the accelerated loader to `prepare`, too.
    """
    options = {"gradient_accumulation_steps": accumulate, **(accelerator_options or {})}
    trace = Trace()
    with fresh(**options) as accelerator:
        curriculum = gr.Curriculum(*methods(name, size), seed=0)
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
        loader = accelerated(
            curriculum.loader(Toy(size), batch_size, **loader_options), accelerator
        )
        trace.scheduled = loader.scheduler_steps(epochs)
        scheduler = falling(optimizer, trace.scheduled)
        if prepare:
            net, optimizer, same, scheduler = accelerator.prepare(net, optimizer, loader, scheduler)
            assert same is loader
        else:
            net, optimizer, scheduler = accelerator.prepare(net, optimizer, scheduler)
        curriculum.attach(net, optimizer)
        if resume:
            accelerator.load_state(folder)

        while curriculum.epoch < epochs and curriculum.step != stop:
            for x, y in loader:
                trace.codes.append(curriculum.epochs._pending[0].tolist())
                trace.lengths.append(len(loader))
                trace.counted.append(loader.real)
                with accelerator.accumulate(net):
                    logits = net(x)
                    losses = curriculum.criterion(logits, y)
                    loss = curriculum(losses, logits=logits, targets=y)
                    accelerator.backward(loss)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                trace.losses.append(float(loss.detach()))
                trace.synced.append(accelerator.sync_gradients)
                trace.rates.append(optimizer.param_groups[0]["lr"])
                if curriculum.step == save_at:
                    accelerator.save_state(folder)
                if curriculum.step == stop:
                    break
        curriculum.collect()
        module = accelerator.unwrap_model(net)
        trace.parameters = [parameter.detach().clone() for parameter in module.parameters()]
        trace.scores = curriculum.scores()
        curriculum.detach()
    return trace


def train_stock(trace: Trace, *, size: int = 35, accumulate: int = 1) -> Trace:
    """A loop of Accelerate without a curriculum, over the order that `trace` tells."""
    found = Trace()
    with fresh(gradient_accumulation_steps=accumulate) as accelerator:
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
        scheduler = falling(optimizer, trace.scheduled)
        net, optimizer, scheduler = accelerator.prepare(net, optimizer, scheduler)
        every: list[list[list[int]]] = [trace.codes]
        if dist.is_initialized():
            every = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(every, trace.codes)
        start = 0
        while start < len(trace.codes):
            length = trace.lengths[start]
            epoch = [rank[start + step] for step in range(length) for rank in every]
            start += length
            # Accelerate gives the batches to the processes in turn.
            loader = accelerator.prepare(DataLoader(Toy(size), batch_sampler=epoch))
            for x, y in loader:
                with accelerator.accumulate(net):
                    loss = F.cross_entropy(net(x), y, reduction="none").mean()
                    accelerator.backward(loss)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                found.losses.append(float(loss.detach()))
                found.synced.append(accelerator.sync_gradients)
                found.rates.append(optimizer.param_groups[0]["lr"])
        module = accelerator.unwrap_model(net)
        found.parameters = [parameter.detach().clone() for parameter in module.parameters()]
    return found


def train_on(rank: int, world: int, runs: list[dict[str, Any]]) -> list[Trace]:
    """One trace per run, for `run_ranks`."""
    return [train(**run) for run in runs]


def both_on(rank: int, world: int, size: int, accumulate: int) -> tuple[Trace, Trace]:
    """With a curriculum, and stock, for `run_ranks`."""
    ours = train(size=size, batch_size=8 // world, accumulate=accumulate)
    return ours, train_stock(ours, size=size, accumulate=accumulate)
