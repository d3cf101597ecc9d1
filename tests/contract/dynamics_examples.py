"""Every part of `gradatim.dynamics`, for the contract suite."""

from __future__ import annotations

import math

import torch

import gradatim as gr
from gradatim.testing import Bad, PartExample, bad_choices, bad_numbers, bad_vectors

RATES = Bad((-1.0, math.nan, math.inf, "fast", None))
VALUES = Bad(("hard", [[1.0]], None))

HARDNESSES: dict[str, dict[str, PartExample]] = {
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
