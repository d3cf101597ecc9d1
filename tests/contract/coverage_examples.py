"""The feature-based function and what belongs to it, for the contract suite."""

from __future__ import annotations

import math
from typing import Any

import torch

import gradatim as gr
from gradatim.testing import (
    Bad,
    PartExample,
    bad_choices,
    bad_counts,
    bad_generators,
    bad_numbers,
    bad_vectors,
)

NOT_NEGATIVE = Bad(
    (
        "x",
        None,
        torch.ones(60),
        torch.ones(60, 0),
        torch.full((60, 4), math.nan),
        -torch.ones(60, 4),
    )
)
WEIGHTS = bad_vectors(4, at_least=0, optional=True)
COVERAGE = {
    "features": NOT_NEGATIVE,
    "k": bad_counts(at_most=60),
    "scores": bad_vectors(60, optional=True),
    "diversity": bad_numbers(at_least=0),
    "weights": WEIGHTS,
    "greedy": bad_choices(),
    "epsilon": bad_numbers(above=0, below=1),
    "generator": "only the stochastic choice draws",
    "start": Bad(("x", torch.tensor([60]), torch.tensor([1, 1]), torch.arange(40))),
}


def coverage(**settings: Any) -> PartExample:
    stochastic = settings.get("greedy") == "stochastic"
    more = {} if stochastic else {"generator": None}
    return PartExample(
        part=gr.selection.feature_coverage,
        arguments=lambda problem: {
            "features": problem.features.abs(),
            "k": (problem.size + 1) // 2,
            "scores": problem.losses(0),
            **more,
            **settings,
        },
        bad={**COVERAGE, **({"generator": bad_generators()} if stochastic else {})},
        exceptions={"relabelling": "it draws at random over positions"} if stochastic else {},
    )


# DRAWS["feature_coverage"]
FEATURE_COVERAGE = {
    "lazy": coverage(),
    "exact": coverage(greedy="exact", weights=[1.0, 2.0, 0.0, 0.5]),
    "stochastic": coverage(greedy="stochastic", epsilon=0.3),
}

# score_examples.py or FUNCTIONS: coverage_gains is one value per sample, coverage_value a number
COVERAGE_GAINS = {
    "part": PartExample(
        part=gr.selection.coverage_gains,
        arguments=lambda problem: {"features": problem.features.abs()},
        bad={
            "features": NOT_NEGATIVE,
            "chosen": Bad(("x", [60], [0.5], [1, 1])),
            "weights": WEIGHTS,
        },
        low=0.0,
    )
}
COVERAGE_VALUE = {
    "part": PartExample(
        part=gr.selection.coverage_value,
        arguments=lambda problem: {"features": problem.features.abs(), "chosen": [1, 2]},
        bad={
            "features": NOT_NEGATIVE,
            "chosen": Bad(("x", [60], [0.5], [1, 1])),
            "weights": WEIGHTS,
        },
    )
}
