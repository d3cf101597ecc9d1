"""One training run within a budget: the loop a user would write, with everything counted.

It stands on Lightning Fabric, which chooses the device, places the model, wraps it for several
processes and applies mixed precision, and leaves loop and loader alone. (Accelerate would rebuild
the loader, whose batches are the curriculum's business, and starts processes from a script only.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import gradatim as gr
from gradatim.compare.budget import Spent, cosine
from gradatim.compare.candidates import Candidates
from gradatim.compare.data import Samples
from gradatim.compare.objectives import Objective
from gradatim.compare.reading import ask, ask_all, cropped, in_chunks, needs_hidden, shows_hidden
from gradatim.compare.settings import Training
from gradatim.compare.stopwatch import Stopwatch
from gradatim.measured import collected
from gradatim.validation import refusal

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Trained", "predict", "train"]

EXPONENTIAL_END = 0.01  # of the rate at the start
DECAYS = 2  # of the plateau regime, each by ten, before it stops early
EVALUATION_BATCH = 1024
SURVEY_BATCH = 256  # of texts of a transformer, whose hidden states may come with them

Score = Callable[[torch.Tensor, torch.Tensor], float]


def _curve() -> dict[str, list[float]]:
    names = ("steps", "samples", "seconds", "validation_score", "validation_loss")
    return {name: [] for name in names}


@dataclass
class Trained:
    """What a run did.

    Attributes:
        checkpoint_step: optimizer steps after which validation was best; the model is as it was.
        curve: ``steps``, ``samples`` (rows through the model, surveys included), ``seconds`` (of
            training, without evaluation), ``validation_score`` and ``validation_loss``, one entry
            per evaluation.
        epochs: per epoch ``first_step`` (steps before it) and ``samples`` (its subset's size).
        samples: rows through the model: ``forward`` and ``backward`` in training, ``survey`` in
            passes without gradient that a method asked for, ``evaluation`` on validation data.
        seconds: by section: data, selection (planning and weighing), what methods measure of
            planning (diversity), forward, backward (with the optimizer's step), survey, evaluation.
        steps: optimizer steps.
        stopped_early: the plateau regime ended before the budget.

    Example:
        >>> Trained().samples["survey"]
        0
    """

    checkpoint_step: int = 0
    curve: dict[str, list[float]] = field(default_factory=_curve)
    epochs: list[dict[str, int]] = field(default_factory=list)
    samples: dict[str, int] = field(
        default_factory=lambda: {"forward": 0, "backward": 0, "survey": 0, "evaluation": 0}
    )
    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    stopped_early: bool = False


def predict(
    model: nn.Module, samples: Samples, objective: Objective, device: torch.device
) -> tuple[torch.Tensor, float]:
    """Predict a data set in eval mode and without gradient.

    Args:
        model: from features to outputs; its mode is as before afterwards.
        samples: what to predict.
        objective: of the task.
        device: where the model is.

    Returns:
        Outputs (N, ...) on the CPU, in the user's units, and the mean loss.

    Example:
        >>> samples = Samples(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
        >>> outputs, loss = predict(
        ...     nn.Identity(), samples, Objective("classification"), torch.device("cpu"))
        >>> outputs.argmax(1).tolist(), round(loss, 4)
        ([0, 1], 1.1269)
    """
    mode = model.training
    model.eval()
    outputs: list[torch.Tensor] = []
    total = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        parts = list(in_chunks(model, samples.features, device, rows=EVALUATION_BATCH))
        for part in parts:
            features = cropped(model, samples.features[part])
            found = model(features.to(device)).float()
            total += objective.losses(found, samples.labels[part].to(device)).double().sum().cpu()
            outputs.append(found.cpu())
    model.train(mode)
    found = torch.cat(outputs)[torch.argsort(torch.cat(parts))]
    return objective.in_units(found), float(total / len(samples))


def train(
    fabric: Fabric,
    model: nn.Module,
    method: gr.Method | Sequence[gr.Method],
    training: Samples,
    validation: Samples,
    settings: Training,
    *,
    objective: Objective,
    score: Score,
    seed: int,
    prepared: float = 0.0,
    report: Callable[[dict[str, float], int], None] | None = None,
) -> Trained:
    """Train until the budget is spent, and return to the best checkpoint.

    The learning rate falls over the whole budget, whatever the curriculum makes of epochs: a small
    subset means short epochs, and more of them. The checkpoint is the one with the best validation
    score, then the lowest validation loss, then the earliest.

    Args:
        fabric: places the model and takes the backward pass.
        model: changed in place; ends at the checkpoint, with what methods did to its outputs there
            (`Method.shapes_model`).
        method: what decides, one or several that work together; new, since they keep state.
        training: what it decides about.
        validation: judges checkpoints; the method never sees it.
        settings: budget and hyperparameters.
        objective: losses of the task.
        score: ``score(outputs, targets)``, higher is better.
        seed: of the curriculum.
        prepared: seconds that the method's preparation took, which a budget of seconds pays.
        report: called with numbers and the step after every evaluation, for a logger.

    Returns:
        Curves, epochs, counts and seconds.

    Raises:
        ValueError: losses that are not finite.
        RuntimeError: an epoch of fewer samples than a batch.

    Example:
        >>> from lightning_fabric import Fabric
        >>> from gradatim.compare.budget import Budget
        >>> features = torch.tensor([[-1.0], [1.0]]).repeat(8, 1)
        >>> samples = Samples(features, (features[:, 0] > 0).long())
        >>> settings = Training(Budget("steps", 20), batch_size=8, learning_rate=1, evaluations=2)
        >>> def accuracy(outputs, targets):
        ...     return float((outputs.argmax(1) == targets).float().mean())
        >>> done = train(
        ...     Fabric(accelerator="cpu", devices=1), nn.Linear(1, 2), gr.Uniform(), samples,
        ...     samples, settings, objective=Objective("classification"), score=accuracy, seed=0)
        >>> done.curve["validation_score"][-1], done.samples["backward"], len(done.epochs)
        (1.0, 160, 10)
    """
    run = _Run(fabric, model, method, training, validation, settings, objective, score, seed)
    run.prepared, run.report = prepared, report
    return run.train()


class _Run:
    """The state of one call of `train`."""

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        method: gr.Method | Sequence[gr.Method],
        training: Samples,
        validation: Samples,
        settings: Training,
        objective: Objective,
        score: Score,
        seed: int,
    ) -> None:
        self.fabric, self.settings, self.objective = fabric, settings, objective
        self.training, self.validation = training, validation
        self.score = score
        self.report: Callable[[dict[str, float], int], None] | None = None
        self.prepared = 0.0
        optimizer = settings.make_optimizer(model)
        methods = (method,) if isinstance(method, gr.Method) else tuple(method)
        self.curriculum = gr.Curriculum(*methods, seed=seed, criterion=objective.errors)
        self.shaping = [each for each in methods if each.shapes_model]
        self.hidden = needs_hidden(methods) and shows_hidden(model)
        padded = getattr(model, "dynamic_padding", False)
        self.survey_rows = SURVEY_BATCH if padded else EVALUATION_BATCH
        if settings.batch_size % fabric.world_size:
            rule = f"a multiple of the {fabric.world_size} devices"
            raise refusal("batch_size", rule, settings.batch_size)
        self.candidates = Candidates(methods)
        self.rows = settings.batch_size // fabric.world_size
        self.loader = self.curriculum.loader(
            training, batch_size=self.rows * self.candidates.ratio, drop_last=True
        )
        self.curriculum.attach(model=model, optimizer=optimizer)
        self.bare = model  # without Fabric's and DDP's wrappers
        self.model, self.optimizer = fabric.setup(model, optimizer)
        self.device = fabric.device
        self.watch = Stopwatch(self.device)
        self.done, self.spent = Trained(), Spent()
        self.factor = 1.0  # of the plateau regime
        self.marks = self.waited = self.decays = 0
        self.best: tuple[float, float] | None = None
        self.weights: dict[str, Any] = {}
        self.shapes: list[dict[str, Any]] = []  # states of the shaping methods at the checkpoint
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: self.rate_factor())

    def rate_factor(self) -> float:
        """What the regime makes of the learning rate now."""
        if self.settings.regime == "cosine":
            return cosine(self.progress())
        if self.settings.regime == "exponential":
            return EXPONENTIAL_END ** self.progress()
        return self.factor

    def progress(self) -> float:
        """How much of the budget is used up; the same on every rank."""
        if self.settings.budget.kind != "seconds":
            return self.settings.budget.progress(self.spent)
        seconds = self.watch.read()
        trained = sum(v for name, v in seconds.items() if name != "evaluation")
        self.spent.seconds = self.prepared + trained
        found = self.settings.budget.progress(self.spent)
        return found if self.fabric.world_size == 1 else self.fabric.broadcast(found)

    def train(self) -> Trained:
        ended = False
        while not ended:
            ended = self.epoch()
        self.bare.load_state_dict(self.weights)
        if self.shaping:  # they stay attached: the checkpoint was chosen for what it is with them
            for each, state in zip(self.shaping, self.shapes, strict=True):
                each.load_state_dict(state)
        else:
            self.curriculum.detach()
        self.done.steps = self.spent.steps
        self.done.seconds = {name: round(s, 4) for name, s in self.watch.read().items()}
        return self.done

    def epoch(self) -> bool:
        """Train one epoch of the curriculum; whether the run is over."""
        if self.curriculum.survey_due:
            with self.watch("survey"):
                self.curriculum.survey(self.training, self.look, batch_size=self.survey_rows)
            self.spent.survey += len(self.training)
            self.done.samples["survey"] += len(self.training)
        with self.watch("selection"), collected() as parts:
            subset = int(self.curriculum.metrics()["subset_size"])
        for section, seconds in parts.items():
            self.watch.move("selection", section, seconds)
        batches, begun = len(self.loader), self.spent.epochs
        self.done.epochs.append({"first_step": self.spent.steps, "samples": subset})
        iterator = iter(self.loader)
        for number in range(1, batches + 1):
            with self.watch("data"):
                features, targets = next(iterator)
                features = self.fabric.to_device(cropped(self.bare, features))
                targets = self.fabric.to_device(targets)
            if self.candidates.ratio > 1:
                features, targets = self.chosen(features, targets)
            self.step(features, targets)
            self.spent.epochs = begun + number / batches
            if self.after_step():
                return True
        return False

    def chosen(
        self, features: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score a large batch and let the method choose what to train on."""
        with self.watch("forward"), self.candidates.scoring(self.bare), self.fabric.autocast():
            found = self.look([features, targets])
        with self.watch("selection"):
            taken = self.curriculum.select(found.pop("losses"), self.rows, **found)
        rows = len(targets) * self.fabric.world_size
        self.spent.forward += rows
        self.done.samples["forward"] += rows
        return features[taken], targets[taken]

    def step(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Train on one batch."""
        with self.watch("forward"):
            outputs, signals = ask(self.model, features, hidden=self.hidden)
            wanted = self.objective.wanted(targets)
            outputs = outputs if outputs.ndim == wanted.ndim + 1 else outputs.reshape(wanted.shape)
            losses = self.curriculum.criterion(outputs, wanted)
        with self.watch("selection"):
            loss = self.curriculum(
                losses, logits=outputs, outputs=outputs, targets=wanted, **signals
            )
        with self.watch("backward"):
            self.fabric.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
        rows = len(targets) * self.fabric.world_size
        self.spent.steps += 1
        self.spent.forward += rows
        self.done.samples["forward"] += rows
        self.done.samples["backward"] += rows

    def after_step(self) -> bool:
        """Move the learning rate, evaluate where it is due; whether the run is over."""
        progress = self.progress()
        if self.settings.regime in ("cosine", "exponential"):
            self.scheduler.step()
        # A step may pass several marks of a short budget: one evaluation stands for all.
        due = math.floor(progress * self.settings.evaluations + 1e-9)
        if due > self.marks:
            self.marks = due
            self.evaluate()
            if self.settings.regime == "plateau" and self.plateau():
                self.done.stopped_early = progress < 1
                return True
        return progress >= 1

    def evaluate(self) -> None:
        """Score the validation part, keep the best checkpoint."""
        with self.watch("evaluation"):
            outputs, loss = predict(self.bare, self.validation, self.objective, self.device)
            score = self.score(outputs, self.validation.labels)
            if self.fabric.world_size > 1:
                # Statistics of batch normalisation differ by rank; decisions must not.
                score, loss = self.fabric.broadcast((score, loss))
        self.done.samples["evaluation"] += len(self.validation)
        seconds = self.watch.read()
        trained = sum(value for name, value in seconds.items() if name != "evaluation")
        now = {
            "steps": self.spent.steps,
            "samples": self.spent.forward + self.spent.survey,
            "seconds": round(trained, 4),
            "validation_score": score,
            "validation_loss": loss,
        }
        for name, value in now.items():
            self.done.curve[name].append(value)
        self.waited += 1
        if self.best is None or (score, -loss) > self.best:
            self.best, self.done.checkpoint_step = (score, -loss), self.spent.steps
            self.weights = copy.deepcopy(self.bare.state_dict())
            self.shapes = [copy.deepcopy(each.state_dict()) for each in self.shaping]
            self.waited = 0
        if self.report is not None:
            rate = float(self.optimizer.param_groups[0]["lr"])
            self.report({**now, "learning_rate": rate}, self.spent.steps)

    def plateau(self) -> bool:
        """Divide the learning rate by ten where validation stands still; whether to stop."""
        if self.waited < self.settings.patience:
            return False
        if self.decays == DECAYS:
            return True
        self.decays += 1
        self.factor /= 10
        self.waited = 0
        self.scheduler.step()
        return False

    def look(self, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a method surveys of a batch: losses, outputs and, if wanted, hidden states."""
        features, targets = batch[0], self.fabric.to_device(batch[1])
        with self.fabric.autocast():
            outputs, signals = ask_all(self.bare, features, self.device, hidden=self.hidden)
        outputs = outputs.float()
        losses = self.objective.losses(outputs, targets)
        signals |= {"logits": outputs, "outputs": outputs}
        return {"losses": losses, "targets": self.objective.wanted(targets), **signals}
