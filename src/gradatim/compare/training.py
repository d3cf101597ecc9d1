"""One training run at a fixed budget: the loop a user would write, with everything counted."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.compare.data import Samples
from gradatim.validation import check_count

__all__ = ["Trained", "evaluate", "evaluation_steps", "train"]


@dataclass
class Trained:
    """What a run did.

    Attributes:
        checkpoint_step: optimizer steps after which validation was best; ``model`` is as it was.
        curve: ``steps``, ``validation_accuracy`` and ``validation_loss``, one entry per evaluation.
        epochs: per epoch ``first_step`` (steps before it) and ``samples`` (its subset's size).
        samples: rows through the model: ``forward`` and ``backward`` in training, ``survey`` in
            passes without gradient that a method asked for, ``evaluation`` on validation data.

    Example:
        >>> Trained().samples["survey"]
        0
    """

    checkpoint_step: int = 0
    curve: dict[str, list[float]] = field(
        default_factory=lambda: {"steps": [], "validation_accuracy": [], "validation_loss": []}
    )
    epochs: list[dict[str, int]] = field(default_factory=list)
    samples: dict[str, int] = field(
        default_factory=lambda: {"forward": 0, "backward": 0, "survey": 0, "evaluation": 0}
    )


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """Spread evaluations over a run: the same steps for every curriculum, the last one included.

    Args:
        steps: the budget, at least 1.
        evaluations: how many; no more than ``steps`` are made.

    Returns:
        Distinct ascending steps.

    Raises:
        ValueError: a number below 1.

    Example:
        >>> evaluation_steps(10, 4)
        [3, 5, 8, 10]
        >>> evaluation_steps(2, 4)
        [1, 2]
    """
    check_count("steps", steps, at_least=1)
    count = min(steps, check_count("evaluations", evaluations, at_least=1))
    return [math.ceil(steps * number / count) for number in range(1, count + 1)]


def evaluate(model: nn.Module, samples: Samples) -> tuple[float, float, torch.Tensor]:
    """Predict a data set at once, in eval mode and without gradient.

    Args:
        model: from features to logits; its mode is as before afterwards.
        samples: small enough for one batch.

    Returns:
        Accuracy in [0, 1], mean cross-entropy, and the predicted classes, int64 (N,).

    Example:
        >>> samples = Samples(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
        >>> evaluate(nn.Identity(), samples)[0]
        0.5
    """
    mode = model.training
    model.eval()
    with torch.no_grad():
        logits = model(samples.features)
    model.train(mode)
    predictions = logits.argmax(1)
    accuracy = int((predictions == samples.labels).sum()) / len(samples)
    return accuracy, float(F.cross_entropy(logits, samples.labels)), predictions


def train(
    model: nn.Module,
    method: gr.Method,
    training: Samples,
    validation: Samples,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    evaluations: int,
    seed: int,
) -> Trained:
    """Train for exactly ``steps`` optimizer steps and return to the best checkpoint.

    The learning rate falls along a cosine over the whole budget, whatever the curriculum makes of
    epochs: a small subset means short epochs, and more of them. The checkpoint is the one with the
    best validation accuracy, then the lowest validation loss, then the earliest.

    Args:
        model: changed in place; ends at the checkpoint.
        method: what decides the epochs; new, since it keeps state.
        training: what it decides about.
        validation: judges checkpoints; the method never sees it.
        steps: the budget, at least 1.
        batch_size: samples per step; short last batches are dropped.
        learning_rate: at the start.
        evaluations: on validation data, at equal intervals.
        seed: of the curriculum.

    Returns:
        Curves, epochs and counts.

    Raises:
        ValueError: a parameter outside its range, or losses that are not finite.

    Example:
        >>> features = torch.tensor([[-1.0], [1.0]]).repeat(8, 1)
        >>> samples = Samples(features, (features[:, 0] > 0).long())
        >>> model = nn.Linear(1, 2)
        >>> done = train(model, gr.Uniform(), samples, samples, steps=20, batch_size=8,
        ...              learning_rate=1.0, evaluations=2, seed=0)
        >>> done.curve["validation_accuracy"][-1], done.samples["backward"], len(done.epochs)
        (1.0, 160, 10)
    """
    due = set(evaluation_steps(steps, evaluations))
    curriculum = gr.Curriculum(method, seed=seed)
    loader = curriculum.loader(training, batch_size=batch_size, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), learning_rate, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    curriculum.attach(model=model, optimizer=optimizer)
    done = Trained()
    best: tuple[float, float] | None = None
    weights: dict[str, Any] = {}

    def look(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        features, labels = batch
        done.samples["survey"] += len(labels)
        logits = model(features)
        losses = F.cross_entropy(logits, labels, reduction="none")
        return {"losses": losses, "logits": logits, "targets": labels}

    step = 0
    while step < steps:
        if curriculum.survey_due:
            curriculum.survey(training, look, batch_size=1024)
        subset = int(curriculum.metrics()["subset_size"])
        done.epochs.append({"first_step": step, "samples": subset})
        for features, labels in loader:
            logits = model(features)
            losses = curriculum.criterion(logits, labels)
            loss = curriculum(losses, logits=logits, targets=labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            done.samples["forward"] += len(labels)
            done.samples["backward"] += len(labels)
            step += 1
            if step in due:
                accuracy, validation_loss, _ = evaluate(model, validation)
                done.samples["evaluation"] += len(validation)
                done.curve["steps"].append(step)
                done.curve["validation_accuracy"].append(accuracy)
                done.curve["validation_loss"].append(validation_loss)
                if best is None or (accuracy, -validation_loss) > best:
                    best, done.checkpoint_step = (accuracy, -validation_loss), step
                    weights = copy.deepcopy(model.state_dict())
            if step == steps:
                break
    curriculum.detach()
    model.load_state_dict(weights)
    return done
