"""Parts of selecting methods, for the contract suite."""

from __future__ import annotations

import torch

import gradatim as gr
from contract.weighting_examples import POSITIVE, half
from gradatim.testing import (
    Bad,
    PartExample,
    Problem,
    bad_callables,
    bad_choices,
    bad_counts,
    bad_generators,
    bad_numbers,
    bad_vectors,
)

ONE_DIMENSION = Bad(("x", None, torch.ones(()), torch.ones(60, 1), torch.ones(60) * 1j))
OUTPUTS = Bad(("x", None, torch.zeros(60), torch.zeros(60, 4, 3), torch.zeros(60, 3).long()))
TARGETS = Bad(
    ("x", None, torch.zeros(59).long(), torch.full((60,), 3), torch.full((60,), -1), torch.ones(60))
)
OTHERS = "the other values of the batch count as well"
POWER = bad_numbers(at_least=0, at_most=1)


def _fit(index: torch.Tensor) -> float:
    return float(index.double().mean())


def _losses(model: float, index: torch.Tensor) -> torch.Tensor:
    return (index.double() - model).abs()


def chances(problem: Problem) -> torch.Tensor:
    return problem.losses(0).softmax(0)


SELECTING_SCORES: dict[str, dict[str, PartExample]] = {
    "importance_weights": {
        "in part": PartExample(
            part=gr.weighting.importance_weights,
            arguments=lambda problem: {"probabilities": chances(problem), "power": 0.5},
            bad={"probabilities": POSITIVE, "power": POWER},
            low=0.0,
        )
    },
    "sampling_probabilities": {
        "smooth": PartExample(
            part=gr.weighting.sampling_probabilities,
            arguments=lambda problem: {"scores": problem.losses(0), "alpha": 0.5, "smooth": 0.1},
            bad={
                "scores": POSITIVE,
                "alpha": bad_numbers(at_least=0),
                "smooth": bad_numbers(at_least=0),
            },
            low=0.0,
            high=1.0,
        )
    },
    "last_layer_bound": {
        "classes": PartExample(
            part=gr.weighting.last_layer_bound,
            arguments=lambda problem: {"outputs": problem.logits(0), "targets": problem.targets},
            bad={
                "outputs": OUTPUTS,
                "targets": TARGETS,
                "loss": bad_choices(),
                "mask": Bad(("x", 3)),
            },
            low=0.0,
            high=2.0**0.5,
        )
    },
    "keep_chances": {
        "squared": PartExample(
            part=gr.selection.keep_chances,
            arguments=lambda problem: {
                "losses": problem.losses(0),
                "history": problem.losses(1),
                "beta": 2.0,
            },
            bad={
                "losses": ONE_DIMENSION,
                "history": ONE_DIMENSION,
                "beta": bad_numbers(at_least=0),
            },
            low=0.0,
            high=1.0,
        )
    },
    "rank_weights": {
        "half": PartExample(
            part=gr.selection.rank_weights,
            arguments=lambda problem: {"losses": problem.losses(0), "keep": 0.5},
            bad={"losses": ONE_DIMENSION, "keep": bad_numbers(above=0, at_most=1)},
            low=0.0,
            high=1.0,
        )
    },
    "irreducible_loss": {
        "halves": PartExample(
            part=gr.scores.irreducible_loss,
            arguments=lambda problem: {"size": problem.size, "fit": _fit, "losses": _losses},
            bad={
                "size": bad_counts(at_least=2),
                "fit": bad_callables(),
                "losses": bad_callables(),
                "holdout": Bad(("x", [60], [-1], [0.5], [0, 0], range(60))),
                "parts": bad_counts(at_least=2, at_most=60),
                "generator": bad_generators(),
            },
            low=0.0,
            exceptions={
                "relabelling": "who is in which half is drawn over positions",
                "single_sample": "one sample cannot be halved",
            },
        )
    },
}

SELECTING_FUNCTIONS: dict[str, dict[str, PartExample]] = {
    "systematic_draw": {
        "half": PartExample(
            part=gr.selection.systematic_draw,
            arguments=lambda problem: {"weights": problem.losses(0), "k": half(problem)},
            bad={
                "weights": bad_vectors(None, above=0),
                "k": bad_counts(at_least=1, at_most=60),
                "generator": bad_generators(),
            },
        )
    },
    "variance_reduction": {
        "sixty": PartExample(
            part=gr.weighting.variance_reduction,
            arguments=lambda problem: {"probabilities": chances(problem)},
            bad={"probabilities": POSITIVE},
        )
    },
    "worthwhile_reduction": {
        "half": PartExample(
            part=gr.weighting.worthwhile_reduction,
            arguments=lambda problem: {"candidates": problem.size, "k": half(problem)},
            bad={"candidates": bad_counts(at_least=1), "k": bad_counts(at_least=1)},
        )
    },
}
