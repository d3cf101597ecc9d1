"""Every part of `gradatim.dynamics`, for the contract suite."""

from __future__ import annotations

import math

import torch

import gradatim as gr
from contract.coverage_examples import COVERAGE_GAINS
from gradatim.testing import Bad, PartExample, bad_choices, bad_numbers, bad_vectors

RATES = Bad((-1.0, math.nan, math.inf, "fast", None))
VALUES = Bad(("hard", [[1.0]], None))

PER_SAMPLE: dict[str, dict[str, PartExample]] = {
    "loss_hardness": {
        "by one rate": PartExample(
            part=gr.dynamics.loss_hardness,
            arguments=lambda problem: {"losses": problem.losses(0), "rate": 0.5},
            bad={"losses": bad_vectors(None, at_least=0), "rate": RATES},
            low=0.0,
        ),
    },
    "change_hardness": {
        "by one rate": PartExample(
            part=gr.dynamics.change_hardness,
            arguments=lambda problem: {
                "losses": problem.losses(1),
                "before": problem.losses(0),
                "elapsed": 0.5,
            },
            bad={
                "losses": VALUES,
                "before": VALUES,
                "elapsed": RATES,
                "clip": bad_numbers(above=0, optional=True),
            },
            low=0.0,
        ),
    },
    "flip_hardness": {
        "by one rate": PartExample(
            part=gr.dynamics.flip_hardness,
            arguments=lambda problem: {
                "correct": problem.targets == 0,
                "before": torch.zeros(problem.size),
                "elapsed": 0.5,
            },
            bad={
                "correct": VALUES,
                "before": VALUES,
                "elapsed": RATES,
            },
            low=0.0,
            high=2.0,
        ),
    },
    "running_hardness": {
        on: PartExample(
            part=gr.dynamics.running_hardness,
            arguments=lambda problem, on=on: {
                "hardness": torch.ones(problem.size),
                "observed": problem.losses(0),
                "gamma": 0.95,
                "gamma_on": on,
            },
            bad={
                "hardness": VALUES,
                "observed": VALUES,
                "gamma": bad_numbers(at_least=0, at_most=1),
                "gamma_on": bad_choices(),
            },
            low=0.0,
        )
        for on in ("history", "new")
    },
}

TASKS = bad_choices()
OUTPUTS = Bad((None, [[0.0]], torch.zeros(()), torch.zeros(60, 3).long(), torch.zeros(60)))
LABELS = Bad((torch.zeros(59).long(), torch.full((60,), 3), torch.full((60,), -1), torch.zeros(60)))
OTHER = Bad((torch.zeros(59, 3), torch.zeros(60, 2), torch.zeros(60)))


EVERY = {
    "squared_error": {
        "classification": PartExample(
            part=gr.dynamics.squared_error,
            arguments=lambda problem: {"outputs": problem.logits(0), "targets": problem.targets},
            bad={"outputs": OUTPUTS, "targets": LABELS, "task": TASKS},
            low=0.0,
            high=1.0,
            differentiable=True,
        ),
        "regression": PartExample(
            part=gr.dynamics.squared_error,
            arguments=lambda problem: {
                "outputs": problem.logits(0),
                "targets": problem.features[:, :3],
                "task": "regression",
            },
            bad={
                "outputs": Bad((None, [[0.0]], torch.zeros(()), torch.zeros(60, 3).long())),
                "targets": OTHER,
                "task": TASKS,
            },
            low=0.0,
            differentiable=True,
        ),
    },
    "residuals": {
        "classification": PartExample(
            part=gr.dynamics.residuals,
            arguments=lambda problem: {"outputs": problem.logits(0), "targets": problem.targets},
            bad={"outputs": OUTPUTS, "targets": LABELS, "task": TASKS},
        )
    },
    "movement": {
        "logits": PartExample(
            part=gr.dynamics.movement,
            arguments=lambda problem: {
                "outputs": problem.logits(1),
                "before": problem.logits(0),
                "elapsed": 0.3,
            },
            bad={
                "outputs": Bad((None, [[0.0]], torch.zeros(()), torch.zeros(60, 3).long())),
                "before": OTHER,
                "elapsed": Bad((torch.zeros(59), torch.zeros(60, 1))),
            },
        )
    },
    "alignment": {
        "logits": PartExample(
            part=gr.dynamics.alignment,
            arguments=lambda problem: {
                "residual": problem.noise,
                "dynamics": problem.logits(1) - problem.logits(0),
            },
            bad={
                "residual": Bad((None, [[0.0]], torch.zeros(()), torch.zeros(60, 3).long())),
                "dynamics": OTHER,
            },
        )
    },
    "speed": {
        "logits": PartExample(
            part=gr.dynamics.speed,
            arguments=lambda problem: {"dynamics": problem.logits(1) - problem.logits(0)},
            bad={"dynamics": Bad((None, [[0.0]], torch.zeros(()), torch.zeros(60, 3).long()))},
            low=0.0,
        )
    },
    "running_score": {
        "gamma": PartExample(
            part=gr.dynamics.running_score,
            arguments=lambda problem: {"scores": problem.scores, "observed": problem.losses(0)},
            bad={
                "scores": Bad((None, [0.0], torch.zeros(()), torch.zeros(60).long())),
                "observed": Bad((torch.zeros(59), torch.zeros(60, 1))),
                "gamma": bad_numbers(at_least=0, at_most=1),
            },
        )
    },
}

MATRICES = {name: EVERY[name] for name in ("residuals", "movement")}
PER_SAMPLE |= {"coverage_gains": COVERAGE_GAINS}
PER_SAMPLE |= {name: examples for name, examples in EVERY.items() if name not in MATRICES}
