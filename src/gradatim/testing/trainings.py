"""Runs of the whole engine over a `Problem`, remembered step by step."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gradatim.curriculum import Curriculum
from gradatim.method import Method, overrides
from gradatim.testing.examples import Example
from gradatim.testing.problems import Problem

__all__ = ["PlainTraining", "Training", "loaded", "saved"]

BATCH_SIZE = 16


def fresh_model(example: Example, problem: Problem) -> nn.Module:
    """The example's model, always with the same parameters; no global random state is moved."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return example.model(problem)


def fresh_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum: an optimizer that has state."""
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


class PlainTraining:
    """The loop that a curriculum stands in: no line of it knows gradatim.

    Args:
        example: gives the model.
        problem: what to train on.
        batches: the samples of each step.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Uniform(), neutral="...", bad={})
        >>> plain = PlainTraining(example, Problem.make(), [torch.arange(8), torch.arange(8, 16)])
        >>> len(plain.losses), plain.losses[0].shape
        (2, torch.Size([]))
    """

    def __init__(self, example: Example, problem: Problem, batches: Sequence[torch.Tensor]) -> None:
        self.model = fresh_model(example, problem)
        self.losses: list[torch.Tensor] = []
        optimizer = fresh_optimizer(self.model)
        for index in batches:
            logits = self.model(problem.features[index])
            loss = F.cross_entropy(logits, problem.targets[index], reduction="none").mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            self.losses.append(loss.detach().clone())


class Training:
    """A curriculum, its loader, a model and an optimizer, as a user would put them together.

    Args:
        example: gives the model and the signals.
        problem: what to train on.
        methods: what the curriculum is made of.
        seed: the curriculum's.

    Example:
        >>> import gradatim as gr
        >>> example = Example(build=lambda problem: gr.Focal(), neutral="...", bad={})
        >>> problem = Problem.make(size=20)
        >>> training = Training(example, problem, example.build(problem))
        >>> training.run(2)
        >>> [index.numel() for index in training.batches], training.ends
        ([16, 4, 16, 4], [2, 4])
    """

    def __init__(self, example: Example, problem: Problem, *methods: Method, seed: int = 0) -> None:
        self.example = example
        self.problem = problem
        self.methods = methods
        self.model = fresh_model(example, problem)
        self.optimizer = fresh_optimizer(self.model)
        self.curriculum = Curriculum(*methods, seed=seed)
        self.loader = self.curriculum.loader(problem.dataset, batch_size=BATCH_SIZE)
        self.curriculum.attach(model=self.model, optimizer=self.optimizer)
        self._selecting = any(overrides(method, "select") for method in methods)
        self.shown: list[torch.Tensor] = []  # the samples of each step, candidates included
        self.batches: list[torch.Tensor] = []  # the samples that each step trained on
        self.losses: list[torch.Tensor] = []
        self.ends: list[int] = []  # steps at which epochs ended
        self.surveyed_epochs: set[int] = set()

    def run(self, epochs: int, after_step: Callable[[], None] | None = None) -> None:
        """Train until ``epochs`` epochs are completed, from wherever training stands."""
        curriculum = self.curriculum
        while curriculum.epoch < epochs:
            if curriculum.survey_due:
                self.survey()
            for index in self.loader:
                self._step(index)
                if after_step is not None:
                    after_step()
            self.ends.append(len(self.batches))

    def survey(self) -> None:
        """Let the methods observe every sample."""

        def forward(index: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.model(self.problem.features[index])
            losses = F.cross_entropy(logits, self.problem.targets[index], reduction="none")
            return {"losses": losses, **self.signals(index, logits)}

        self.surveyed_epochs.add(self.curriculum.epoch)
        self.curriculum.survey(self.problem.dataset, forward)

    def signals(self, index: torch.Tensor, logits: torch.Tensor) -> dict[str, Any]:
        """Everything the methods want, for the rows of ``index``."""
        found: dict[str, Any] = {}
        for method in self.methods:
            found |= self.example.signals_of(method, self.problem, index, logits)
        return found

    def _step(self, index: torch.Tensor) -> None:
        curriculum, problem = self.curriculum, self.problem
        self.shown.append(index)
        if self._selecting:
            with torch.no_grad():
                logits = self.model(problem.features[index])
                losses = F.cross_entropy(logits, problem.targets[index], reduction="none")
            half = max(1, index.numel() // 2)
            index = index[curriculum.select(losses, half, **self.signals(index, logits))]
        logits = self.model(problem.features[index])
        losses = curriculum.criterion(logits, problem.targets[index])
        loss = curriculum(losses, **self.signals(index, logits))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.batches.append(index)
        self.losses.append(loss.detach().clone())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of this training holds."""
        return {
            "curriculum": self.curriculum.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.curriculum.load_state_dict(state["curriculum"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def saved(state: Any) -> bytes:
    """The checkpoint file of a state."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def loaded(file: bytes) -> Any:
    """The state of a checkpoint file, read the safe way: plain Python and tensors only."""
    return torch.load(io.BytesIO(file), weights_only=True)
