"""Examples of the methods that act on a model's layers, for the contract suite."""

from __future__ import annotations

from typing import Any

from torch import nn

import gradatim as gr
from gradatim.testing import Bad, Example, Problem, bad_choices, bad_counts, bad_numbers


def deep_model(problem: Problem) -> nn.Module:
    """Three layers and a norm: groups to tell apart."""
    return nn.Sequential(
        nn.Linear(problem.features.shape[1], 6),
        nn.LayerNorm(6),
        nn.ReLU(),
        nn.Linear(6, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


# ---------------------------------------------------------------------------------------- LeRaC


def lerac(**settings: Any) -> Example:
    settings = {"epochs": 3, "last": 1e-3, **settings}
    return Example(
        build=lambda problem: gr.LeRaC(**settings),
        neutral=lambda problem: gr.LeRaC(**{**settings, "epochs": 0}),
        model=deep_model,
        bad={
            "epochs": bad_counts(),
            "first": bad_numbers(above=0, at_most=1),
            "last": Bad((*bad_numbers(above=0).values, 1.5), given={"first": 0.5}),
            "increase": bad_choices(),
            "mode": bad_choices(),
            "unit": bad_choices(),
            "anti": Bad((0, 1, "yes", None)),
            "layers": Bad(((), [], "0", 3, [3], [None], [""], [[]], [("a",)], [("a", "b", "c")])),
        },
        epochs=5,
    )


LERAC = {
    "exponential": lerac(),
    "linear": lerac(increase="linear", first=0.5),
    "by step": lerac(unit="step"),
    "decade": lerac(mode="decade"),
    "anti": lerac(anti=True),
    "named": lerac(layers=["0", ("middle", ["1", "3"]), "5"]),
}

# ------------------------------------------------------------------------------------------ CBS


def convolving_model(problem: Problem) -> nn.Module:
    """The features as four positions of one channel, convolved twice."""
    return nn.Sequential(
        nn.Unflatten(1, (1, problem.features.shape[1])),
        nn.Conv1d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(3, 3, 3, padding=1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def attending_model(problem: Problem) -> nn.Module:
    """The features as four tokens of width 6."""
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(
        nn.Unflatten(1, (4, 1)),
        nn.Linear(1, 6),
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def cbs(*, tokens: bool = False, **settings: Any) -> Example:
    # Blurred in epochs 0, 1 and 2 of 5.
    settings = {"planned_epochs": 5, "every": 1, "decay": 0.8, **settings, "tokens": tokens}
    return Example(
        build=lambda problem: gr.CBS(**settings),
        neutral=lambda problem: gr.CBS(**{**settings, "sigma": 0.2}),
        model=attending_model if tokens else convolving_model,
        bad={
            "planned_epochs": bad_counts(at_least=1, optional=True),
            "sigma": bad_numbers(above=0),
            "decay": bad_numbers(above=0, at_most=1),
            "every": bad_counts(at_least=1),
            "size": Bad((*bad_counts(at_least=1).values, 2, 4)),
            "padding": bad_choices(),
            "layers": Bad(("1", 3, [3], [None], ()), given={"tokens": False, "class_tokens": 0}),
            "tokens": Bad(("1", 3, None, [3])),
            "grid": Bad((4, "22", (), (1, 1, 1, 1), (2, 0), (2, 1.5)), given={"tokens": True}),
            "class_tokens": Bad((*bad_counts().values,), given={"tokens": True}),
        },
        epochs=5,
    )


CBS = {
    "by itself": cbs(),
    "without a plan": cbs(planned_epochs=None, sigma=0.5, decay=0.5),
    "reflected": cbs(padding="reflect", size=7),
    "named": cbs(layers=["[1-2]"]),
    "tokens": cbs(tokens=True),
    "tokens on a grid": cbs(tokens=True, grid=(2, 2), padding="reflect"),
    "tokens without the first": cbs(tokens=True, class_tokens=1, layers=[]),
}

LAYERS = {
    "CBS": CBS,
    "LeRaC": LERAC,
}
