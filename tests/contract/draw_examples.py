"""Every draw, order and other function of selection, for the contract suite."""

from __future__ import annotations

import math
from typing import Any

import torch

import gradatim as gr
from contract.coverage_examples import COVERAGE_VALUE, FEATURE_COVERAGE
from contract.dynamics_examples import MATRICES
from contract.score_examples import TRUTH

# ---------------------------------------------------------------------------------------- paces
from contract.weighting_examples import LOSSES, POSITIVE, TIED, half, rounded
from gradatim.testing import (
    Bad,
    PartExample,
    bad_choices,
    bad_counts,
    bad_generators,
    bad_numbers,
    bad_vectors,
)

ANY_SCORES = bad_vectors(None, infinite=True)
UP_TO_ALL = bad_counts(at_most=60)
DRAWN = {"relabelling": "it draws at random over positions"}


def extreme(part: Any) -> dict[str, PartExample]:
    bad = {
        "scores": ANY_SCORES,
        "k": UP_TO_ALL,
        "generator": bad_generators(),
        "tie": bad_choices(),
    }
    return {
        "untied": PartExample(
            part=part,
            arguments=lambda problem: {
                "scores": problem.scores,
                "k": half(problem),
                "generator": torch.Generator().manual_seed(0),
            },
            bad=bad,
        ),
        "tied": PartExample(
            part=part,
            arguments=lambda problem: {"scores": rounded(problem), "k": half(problem)},
            bad=bad,
            exceptions=TIED,
        ),
        "by position": PartExample(
            part=part,
            arguments=lambda problem: {
                "scores": problem.scores,
                "k": half(problem),
                "tie": "index",
                "generator": None,
            },
            bad={**bad, "generator": "not needed"},
        ),
    }


ORDER_BY = {
    "scores": ANY_SCORES,
    "order": bad_choices(),
    "generator": bad_generators(),
    "tie": bad_choices(),
}
WEIGHTED_DRAW = {
    "weights": POSITIVE,
    "k": UP_TO_ALL,
    "generator": bad_generators(),
    "log": TRUTH,
    "ordered": TRUTH,
}

FEATURES = Bad(("x", None, torch.ones(60), torch.ones(60, 0), torch.full((60, 4), math.nan)))
FACILITY = {
    "features": FEATURES,
    "k": bad_counts(),
    "scores": bad_vectors(None, optional=True),
    "diversity": bad_numbers(at_least=0),
    "greedy": bad_choices(),
    "epsilon": bad_numbers(above=0, below=1),
    "scale": bad_numbers(above=0, optional=True),
    "reference": Bad(("x", torch.ones(3), torch.ones(3, 9))),
    "generator": bad_generators(),
}

DRAWS: dict[str, dict[str, PartExample]] = {
    "feature_coverage": FEATURE_COVERAGE,
    "weighted_draw": {
        "set": PartExample(
            part=gr.selection.weighted_draw,
            arguments=lambda problem: {"weights": problem.losses(0), "k": half(problem)},
            bad=WEIGHTED_DRAW,
            exceptions=DRAWN,
        ),
        "sequence": PartExample(
            part=gr.selection.weighted_draw,
            arguments=lambda problem: {
                "weights": problem.losses(0),
                "k": half(problem),
                "ordered": True,
            },
            bad=WEIGHTED_DRAW,
            exceptions=DRAWN,
        ),
        "logarithms": PartExample(
            part=gr.selection.weighted_draw,
            arguments=lambda problem: {
                "weights": problem.scores,
                "k": half(problem),
                "log": True,
            },
            bad={**WEIGHTED_DRAW, "weights": Bad(("x", None, [math.nan] * 60, [math.inf] * 60))},
            exceptions=DRAWN,
        ),
    },
    "lowest": extreme(gr.selection.lowest),
    "highest": extreme(gr.selection.highest),
    "order_by": {
        "curriculum": PartExample(
            part=gr.selection.order_by,
            arguments=lambda problem: {
                "scores": problem.scores,
                "generator": torch.Generator().manual_seed(0),
            },
            bad=ORDER_BY,
        ),
        "anti, tied": PartExample(
            part=gr.selection.order_by,
            arguments=lambda problem: {"scores": problem.targets, "order": "anti"},
            bad=ORDER_BY,
            exceptions=TIED,
        ),
        "random": PartExample(
            part=gr.selection.order_by,
            arguments=lambda problem: {"scores": problem.scores, "order": "random"},
            bad=ORDER_BY,
            exceptions=DRAWN,
        ),
    },
    "facility_location": {
        "stochastic": PartExample(
            part=gr.selection.facility_location,
            arguments=lambda problem: {
                "features": problem.features,
                "k": half(problem),
                "scores": problem.losses(0),
            },
            bad=FACILITY,
            exceptions=DRAWN,
        ),
        "exact": PartExample(
            part=gr.selection.facility_location,
            arguments=lambda problem: {
                "features": problem.features,
                "k": half(problem),
                "scores": problem.losses(0),
                "greedy": "exact",
            },
            bad={**FACILITY, "generator": "an exact choice draws nothing"},
            exceptions={"seeds": "an exact choice draws nothing"},
        ),
    },
    "balanced_prefix": {
        "part": PartExample(
            part=gr.selection.balanced_prefix,
            arguments=lambda problem: {
                "order": problem.scores.argsort(),
                "labels": problem.targets,
                "fraction": 0.4,
            },
            bad={
                "order": Bad(("x", None, torch.rand(60), torch.tensor([60]))),
                "labels": bad_vectors(None, whole=True),
                "fraction": bad_numbers(at_least=0, at_most=1),
            },
        )
    },
}

# ------------------------------------------------------------------------------------- the rest

HARD_NEGATIVES = {
    "debiased" if tau_plus else "biased": PartExample(
        part=gr.contrastive.hard_negative_loss,
        arguments=lambda problem, tau_plus=tau_plus: {
            "first": problem.features,
            "second": problem.features + 0.1,
            "tau_plus": tau_plus,
        },
        bad={
            **dict.fromkeys(
                ("first", "second"),
                Bad(("x", None, torch.ones(60), torch.zeros(60, 4), torch.ones(1, 4))),
            ),
            "temperature": bad_numbers(above=0),
            "beta": bad_numbers(at_least=0),
            "tau_plus": bad_numbers(at_least=0, below=1),
            "detach": Bad((0, 1, None, "yes")),
        },
    )
    for tau_plus in (0.1, 0.0)
}

FUNCTIONS: dict[str, dict[str, PartExample]] = {
    "coverage_value": COVERAGE_VALUE,
    "hard_negative_loss": HARD_NEGATIVES,
    **MATRICES,
    "prefix_size": {
        "part": PartExample(
            part=gr.selection.prefix_size,
            arguments=lambda problem: {"fraction": 0.3, "size": problem.size},
            bad={
                "fraction": bad_numbers(at_least=0, at_most=1),
                "size": bad_counts(at_least=1),
            },
        )
    },
    "shrinking_size": {
        "part": PartExample(
            part=gr.selection.shrinking_size,
            arguments=lambda problem: {"k": 7.3},
            bad={"k": bad_numbers(at_least=0)},
        )
    },
    "share_sizes": {
        "part": PartExample(
            part=gr.selection.share_sizes,
            arguments=lambda problem: {"size": problem.size, "shares": 7},
            bad={"size": bad_counts(), "shares": bad_counts(at_least=1)},
        )
    },
    "check_curriculum": {
        "part": PartExample(
            part=gr.selection.check_curriculum,
            arguments=lambda problem: {
                "weights": (torch.arange(problem.size) < torch.tensor([[9], [60]])).double()
            },
            bad={
                "weights": Bad(
                    (
                        "x",
                        None,
                        torch.ones(3),
                        torch.full((1, 2), math.nan),
                        torch.full((1, 2), 2.0),
                    )
                )
            },
        )
    },
    "threshold_for": {
        "part": PartExample(
            part=gr.weighting.threshold_for,
            arguments=lambda problem: {"losses": problem.losses(0), "keep": 0.4},
            bad={"losses": LOSSES, "keep": bad_numbers(above=0, at_most=1)},
        )
    },
    "loss_scale": {
        "part": PartExample(
            part=gr.weighting.loss_scale,
            arguments=lambda problem: {"losses": problem.losses(0)},
            bad={"losses": POSITIVE},
        )
    },
}
