"""Examples of methods that choose within batches or draw by loss, for the contract suite."""

from __future__ import annotations

from typing import Any

import gradatim as gr
from gradatim.testing import (
    Example,
    bad_choices,
    bad_counts,
    bad_numbers,
    bad_vectors,
)

PART = "a check selects half of each batch, so training is not plain"
LATE = "a sample whose loss stays small is not chosen again; every epoch scores it again, though"

# --------------------------------------------------------------------------- ImportanceSampling


def importance(score: str = "cross_entropy", *, late: bool = False, **settings: Any) -> Example:
    return Example(
        build=lambda problem: gr.ImportanceSampling(score, **settings),  # type: ignore[arg-type]
        neutral=PART,
        bad={
            "score": bad_choices(),
            "threshold": bad_numbers(at_least=0, optional=True),
            "momentum": bad_numbers(at_least=0, below=1),
            "alpha": bad_numbers(at_least=0),
            "smooth": bad_numbers(at_least=0, optional=True),
            "power": bad_numbers(at_least=0, at_most=1),
            "scoring": bad_choices(),
        },
        signals={
            "mask": lambda problem, index: None,
            **(
                {"targets": lambda problem, index: problem.noise[index]}
                if score == "squared_error"
                else {}
            ),
        },
        draws=True,
        returns_within=25,
        exceptions=(
            {"distinct": "draws with replacement"} if settings.get("threshold") == 0 else {}
        )
        | ({"return": LATE} if late else {}),
    )


IMPORTANCE = {
    "switched on": importance(threshold=0, late=True),
    "by the bound": importance(),
    "squared error": importance("squared_error", threshold=0, smooth=0.1, power=0.5),
    "loss": importance("loss", threshold=0, momentum=0, late=True),
}

# --------------------------------------------------------------------------- LossProportional

PROPORTIONAL = {
    name: Example(
        build=lambda problem, settings=settings: gr.LossProportional(**settings),
        neutral=lambda problem: gr.LossProportional(keep=1.0),
        bad={
            "keep": bad_numbers(above=0, at_most=1),
            "alpha": bad_numbers(at_least=0),
            "smooth": bad_numbers(at_least=0),
            "power": bad_numbers(at_least=0, at_most=1),
            "warmup_epochs": bad_counts(at_least=1),
        },
        draws=True,
        returns_within=40,
        exceptions={"relabelling": "who is drawn depends on positions"},
    )
    for name, settings in {
        "half": {"keep": 0.5, "smooth": 0.5},
        "in part": {"keep": 0.4, "alpha": 0.5, "smooth": 1.0, "power": 0.5, "warmup_epochs": 2},
    }.items()
}

# --------------------------------------------------------------------------- the others

RHO = {
    scoring: Example(
        build=lambda problem, scoring=scoring: gr.RHOLoss(problem.scores, scoring=scoring),
        neutral=PART,
        bad={"irreducible": bad_vectors(60), "scoring": bad_choices()},
        exceptions={"return": LATE},
    )
    for scoring in ("eval", "train")
}


def backprop(*, late: bool = False, **settings: Any) -> Example:
    return Example(
        build=lambda problem: gr.SelectiveBackprop(**settings),
        neutral=PART,
        bad={
            "beta": bad_numbers(at_least=0),
            "history": bad_counts(at_least=1),
            "exactly": "checked in tests/equations",
            "draw": bad_choices(),
            "stale_epochs": bad_counts(),
            "scoring": bad_choices(),
        },
        draws=True,
        returns_within=60,
        exceptions={"return": LATE} if late else {},
    )


BACKPROP = {
    "chances": backprop(late=True),
    "short history": backprop(late=True, beta=0.5, history=20),
    "rank": backprop(draw="rank"),
    "stale": backprop(stale_epochs=1, late=True),
}

OHEM = {
    "a quarter": Example(
        build=lambda problem: gr.OHEM(),
        neutral=PART,
        bad={"keep": bad_numbers(above=0, at_most=1)},
        exceptions={"return": LATE},
    ),
}

SELECTING: dict[str, dict[str, Example]] = {
    "ImportanceSampling": IMPORTANCE,
    "LossProportional": PROPORTIONAL,
    "RHOLoss": RHO,
    "SelectiveBackprop": BACKPROP,
    "OHEM": OHEM,
}
