"""Every weighting, for the contract suite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

import gradatim as gr
from gradatim.testing import (
    Bad,
    PartExample,
    Problem,
    bad_choices,
    bad_counts,
    bad_generators,
    bad_numbers,
    bad_vectors,
)

# ---------------------------------------------------------------------------------------- paces

LOSSES = bad_vectors(None)
POSITIVE = bad_vectors(None, at_least=0)
THRESHOLD = bad_numbers(above=0, infinite=True)
POWER = bad_numbers(above=1)
MAYBE_GENERATOR = bad_generators(optional=True)
SOME = bad_counts(at_least=1, at_most=60)

UNTIED = {"generator": None}
TIED = {"relabelling": "which of equal losses counts is drawn over positions"}
NOT_FROM_NONE = {"empty": "k samples of none cannot be had"}


def weighting(
    part: Any, bad: Mapping[str, Any], settings: Mapping[str, Any], **facts: Any
) -> PartExample:
    facts = {"low": 0.0, "high": 1.0, **facts}
    return PartExample(
        part=part,
        arguments=lambda problem: {
            "losses": problem.losses(0),
            **{
                name: value(problem) if callable(value) else value
                for name, value in settings.items()
            },
        },
        bad={"losses": LOSSES, **bad},
        **facts,
    )


def half(problem: Problem) -> int:
    return max(1, problem.size // 2)


def rounded(problem: Problem) -> torch.Tensor:
    """Losses on a coarse scale: at every place of their order many are equal."""
    return problem.losses(0).gt(0.7).float()


def groups(problem: Problem) -> torch.Tensor:
    return problem.targets


def prices(problem: Problem) -> torch.Tensor:
    return problem.scores.sigmoid()


SPCL = {
    "order": bad_vectors(60, above=0),
    "budget": THRESHOLD,
    "threshold": bad_numbers(above=0),
    "form": bad_choices(),
    "power": POWER,
}
REGION = {"order": prices, "budget": 5.0, "threshold": 1.0}
SUPER = {"tau": bad_numbers(), "lam": bad_numbers(above=0)}

WEIGHTINGS: dict[str, dict[str, PartExample]] = {
    "hard": {
        "part": weighting(gr.weighting.hard, {"threshold": THRESHOLD}, {"threshold": 0.8}),
        "whole": weighting(gr.weighting.hard, {"threshold": THRESHOLD}, {"threshold": math.inf}),
    },
    "linear": {
        "part": weighting(gr.weighting.linear, {"threshold": THRESHOLD}, {"threshold": 0.8}),
        "whole": weighting(gr.weighting.linear, {"threshold": THRESHOLD}, {"threshold": math.inf}),
    },
    "logarithmic": {
        "part": weighting(
            gr.weighting.logarithmic,
            {"losses": POSITIVE, "threshold": bad_numbers(above=0, below=1)},
            {"threshold": 0.8},
        )
    },
    "polynomial": {
        f"power {power}": weighting(
            gr.weighting.polynomial,
            {"losses": POSITIVE, "threshold": THRESHOLD, "power": POWER},
            {"threshold": 0.8, "power": power},
        )
        for power in (1.5, 3.0)
    },
    "logistic": {
        "part": weighting(gr.weighting.logistic, {"threshold": THRESHOLD}, {"threshold": 0.8})
    },
    "mixture": {
        "part": weighting(
            gr.weighting.mixture,
            {
                "losses": POSITIVE,
                "upper": bad_numbers(above=0.2),
                "lower": Bad((0.0, -1.0, math.nan, math.inf, "1", True, None, 0.9)),
            },
            {"upper": 0.8, "lower": 0.2},
        )
    },
    "root_mixture": {
        "part": weighting(
            gr.weighting.root_mixture,
            {"losses": POSITIVE, "threshold": THRESHOLD, "gamma": bad_numbers(above=0)},
            {"threshold": 0.8, "gamma": 0.5},
        )
    },
    "spld": {
        "diverse": weighting(
            gr.weighting.spld,
            {
                "groups": bad_vectors(60, whole=True),
                "threshold": bad_numbers(infinite=True),
                "gamma": bad_numbers(at_least=0),
            },
            {"groups": groups, "threshold": 0.3, "gamma": 0.4},
        )
    },
    "spld_by_count": {
        name: weighting(
            gr.weighting.spld_by_count,
            {
                "groups": bad_vectors(60, whole=True),
                "k": SOME,
                "gamma": bad_numbers(at_least=0),
                "generator": MAYBE_GENERATOR,
            },
            {"groups": groups, "k": half, "gamma": 0.4, **settings},
            exceptions={**NOT_FROM_NONE, **exceptions},
        )
        for name, settings, exceptions in (
            ("untied", UNTIED, {}),
            ("tied", {"losses": rounded}, TIED),
        )
    },
    "spcl": {
        form: weighting(gr.weighting.spcl, SPCL, {**REGION, "form": form})
        for form in ("linear", "hard", "polynomial", "logistic")
    }
    | {
        "logarithmic": weighting(
            gr.weighting.spcl,
            {**SPCL, "losses": POSITIVE, "threshold": bad_numbers(above=0, below=1)},
            {**REGION, "form": "logarithmic", "threshold": 0.9},
        )
    },
    "focal": {
        f"gamma {gamma}": weighting(
            gr.weighting.focal,
            {"losses": POSITIVE, "gamma": bad_numbers(at_least=0)},
            {"gamma": gamma},
            differentiable=True,
            exceptions={"fall": "an inverse curriculum: the weight rises with the loss"},
        )
        for gamma in (2.0, 0.5)
    },
    "super_loss": {
        "part": weighting(gr.weighting.super_loss, SUPER, {"tau": 0.7, "lam": 0.5}, high=2.72)
    },
}

# --------------------------------------------------------------------------------------- scores
