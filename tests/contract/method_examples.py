"""An example of every public method, in each of its modes, for the contract suite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gradatim as gr
from contract.data_method_examples import DATA
from contract.dynamic_method_examples import DYNAMIC
from contract.layer_method_examples import LAYERS
from contract.selecting_examples import SELECTING
from contract.text_method_examples import TEXTS
from gradatim.testing import (
    Bad,
    Example,
    Problem,
    bad_callables,
    bad_choices,
    bad_counts,
    bad_numbers,
    bad_vectors,
)

PACE = gr.pacing.Linear(start_fraction=0.3, epochs=2)
TIED = gr.pacing.Linear(start_fraction=0.45, epochs=2)
FULL = gr.pacing.Constant(1.0)

Build = Callable[[Problem], gr.Method]


def predefined(build: Build, **facts: Any) -> Example:
    return Example(
        build=build,
        neutral=lambda problem: gr.Predefined(problem.scores, pace=FULL),
        bad={
            "score": bad_vectors(60, optional=build(Problem.make()).order == "random"),
            "pace": bad_callables(optional=True),
            "order": bad_choices(),
            "mode": bad_choices(),
            "balanced": bad_vectors(60, whole=True, optional=True, given={"mode": "subset"}),
            "width": bad_numbers(above=0, at_most=1, optional=True),
            "temperature": bad_numbers(above=0),
            "tie": bad_choices(),
        },
        **facts,
    )


RANDOM = {"relabelling": "which samples come first is drawn by position"}

PREDEFINED = {
    "curriculum": predefined(lambda problem: gr.Predefined(problem.scores, pace=PACE)),
    "anti": predefined(lambda problem: gr.Predefined(problem.scores, pace=PACE, order="anti")),
    "random": predefined(
        lambda problem: gr.Predefined(pace=PACE, order="random"), draws=True, exceptions=RANDOM
    ),
    "soft": predefined(lambda problem: gr.Predefined(problem.scores, pace=PACE, mode="soft")),
    "soft anti": predefined(
        lambda problem: gr.Predefined(problem.scores, pace=PACE, mode="soft", order="anti")
    ),
    "soft random": predefined(
        lambda problem: gr.Predefined(problem.scores, pace=PACE, mode="soft", order="random"),
        draws=True,
        exceptions=RANDOM,
    ),
    "window": predefined(
        lambda problem: gr.Predefined(problem.scores, pace=PACE, mode="window", width=0.2)
    ),
    "one pass": predefined(
        lambda problem: gr.Predefined(
            problem.scores, pace=gr.pacing.OnePass(buckets=3), mode="window"
        ),
        epochs=5,
    ),
    "balanced": predefined(
        lambda problem: gr.Predefined(problem.scores, pace=PACE, balanced=problem.targets)
    ),
    "ties by position": predefined(
        lambda problem: gr.Predefined(problem.targets, pace=TIED, tie="index"),
        exceptions={"relabelling": "ties are broken by position"},
    ),
    "ties by seed": predefined(
        lambda problem: gr.Predefined(problem.targets, pace=TIED),
        draws=True,
        exceptions={"relabelling": "ties are broken by a draw over positions"},
    ),
}

PACED_RANDOM = {
    "paced": Example(
        build=lambda problem: gr.PacedRandom(pace=PACE),
        neutral=lambda problem: gr.PacedRandom(pace=FULL),
        bad={"pace": bad_callables(optional=True)},
        draws=True,
        exceptions=RANDOM,
    )
}

SELF_PACED = {
    "pace": bad_callables(optional=True),
    "warmup_epochs": bad_counts(),
    "survey_every_epochs": bad_counts(at_least=1, optional=True),
}


def spl(form: str = "hard", *, neutral: Build | str | None = None, **settings: Any) -> Example:
    settings = settings if "growth" in settings else {"pace": PACE, **settings}
    return Example(
        build=lambda problem: gr.SPL(form, **settings),
        neutral=neutral or (lambda problem: gr.SPL(form, **{**settings, "pace": FULL})),
        bad={
            **SELF_PACED,
            "form": bad_choices(),
            "growth": bad_numbers(above=1, optional=True, given={"pace": None}),
            "start_fraction": bad_numbers(above=0, at_most=1),
            "power": bad_numbers(above=1),
            "ratio": bad_numbers(above=0, below=1),
            "gamma": bad_numbers(above=0),
            "min_count": bad_counts(at_least=1),
        },
    )


FORMS = ("hard", "linear", "logarithmic", "polynomial", "logistic", "mixture", "root_mixture")
FOREVER = "by value the threshold starts below the largest loss, whatever the growth"

SPL = {
    **{form: spl(form) for form in FORMS},
    "by value": spl("hard", growth=2.5, neutral=FOREVER),
    "by value, linear": spl("linear", growth=2.5, neutral=FOREVER),
    "by value, logarithmic": spl("logarithmic", growth=2.5, neutral=FOREVER),
    "surveyed": spl("hard", warmup_epochs=0, survey_every_epochs=1),
    "surveyed at times": spl("linear", survey_every_epochs=2),
}


def spld(**settings: Any) -> Example:
    return Example(
        build=lambda problem: gr.SPLD(problem.targets, pace=PACE, **settings),
        neutral=lambda problem: gr.SPLD(problem.targets, pace=FULL, **settings),
        bad={
            **SELF_PACED,
            "groups": bad_vectors(60, whole=True),
            "gamma": bad_numbers(at_least=0),
            "gamma_growth": bad_numbers(above=0),
            "min_group_size": bad_counts(at_least=1),
        },
    )


SPLD = {
    "diverse": spld(gamma=0.5),
    "merged groups": spld(gamma=0.5, gamma_growth=1.1, min_group_size=20),
    "surveyed": spld(warmup_epochs=0, survey_every_epochs=1),
}


def spcl(form: str) -> Example:
    return Example(
        build=lambda problem: gr.SPCL(problem.scores, pace=PACE, form=form),
        neutral=lambda problem: gr.SPCL(problem.scores, pace=FULL, form=form),
        bad={
            **SELF_PACED,
            "score": bad_vectors(60),
            "form": bad_choices(),
            "budget_fraction": bad_numbers(above=0, at_most=1),
        },
    )


SPCL = {form: spcl(form) for form in ("linear", "hard")}


def focal(gamma: float) -> Example:
    return Example(
        build=lambda problem: gr.Focal(gamma=gamma),
        neutral=lambda problem: gr.Focal(gamma=0.0),
        bad={"gamma": bad_numbers(at_least=0)},
    )


FOCAL = {"squared": focal(2.0), "rooted": focal(0.5)}


def super_loss(tau: Any, **facts: Any) -> Example:
    return Example(
        build=lambda problem: gr.SuperLoss(tau=tau),
        neutral="the confidence of a loss is 1 at tau alone, however large lambda is",
        bad={
            "tau": Bad(("median", "", math.nan, math.inf, True, None, 1j, [1.0])),
            "lam": bad_numbers(above=0),
            "momentum": bad_numbers(at_least=0, below=1),
        },
        **facts,
    )


MOVING = {"zero_weight": "tau follows the mean of the batch, so removing samples moves it"}

SUPER_LOSS = {
    "moving": super_loss("ema", exceptions=MOVING),
    "mean": super_loss("mean", exceptions=MOVING),
    "classes": super_loss("log_classes"),
    "zero": super_loss(0.0),
}

UNIFORM = {
    "plain": Example(
        build=lambda problem: gr.Uniform(), neutral=lambda problem: gr.Uniform(), bad={}
    )
}

METHODS: dict[str, dict[str, Example]] = {
    "Uniform": UNIFORM,
    "Predefined": PREDEFINED,
    "PacedRandom": PACED_RANDOM,
    "SPL": SPL,
    "SPLD": SPLD,
    "SPCL": SPCL,
    "Focal": FOCAL,
    "SuperLoss": SUPER_LOSS,
    **DATA,
    **DYNAMIC,
    **LAYERS,
    **SELECTING,
    **TEXTS,
}
