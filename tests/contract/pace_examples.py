"""Every pace, for the contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradatim as gr
from gradatim.testing import (
    PaceExample,
    bad_counts,
    bad_numbers,
)

# ---------------------------------------------------------------------------------------- paces

RAMP = {"start_fraction": bad_numbers(above=0, at_most=1), "epochs": bad_numbers(above=0)}
STEEP = {**RAMP, "steepness": bad_numbers(above=0)}
BENT = {**RAMP, "power": bad_numbers(above=0)}
BUCKETS = {"buckets": bad_counts(at_least=1), "epochs_per_bucket": bad_numbers(above=0)}


def pace(kind: Any, start: float, end: float | None, bad: Mapping[str, Any], **arguments: Any):
    return PaceExample(pace=kind, arguments=arguments, start=start, end=end, bad=bad)


ramp = {"start_fraction": 0.2, "epochs": 5.0}

PACES: dict[str, dict[str, PaceExample]] = {
    "Linear": {
        "ramp": pace(gr.pacing.Linear, 0.2, 5.0, RAMP, **ramp),
        "odd": pace(gr.pacing.Linear, 0.01, 7.3, RAMP, start_fraction=0.01, epochs=7.3),
    },
    "Root": {
        "square": pace(gr.pacing.Root, 0.2, 5.0, BENT, **ramp, power=2.0),
        "tiny": pace(gr.pacing.Root, 0.2, 5.0, BENT, **ramp, power=1e-6),
        "large": pace(gr.pacing.Root, 0.2, 5.0, BENT, **ramp, power=500.0),
    },
    "Geometric": {"ramp": pace(gr.pacing.Geometric, 0.2, 5.0, RAMP, **ramp)},
    "Exponential": {
        "ramp": pace(gr.pacing.Exponential, 0.2, 5.0, STEEP, **ramp, steepness=10.0),
        "steep": pace(gr.pacing.Exponential, 0.2, 5.0, STEEP, **ramp, steepness=5000.0),
        "flat": pace(gr.pacing.Exponential, 0.2, 5.0, STEEP, **ramp, steepness=1e-9),
    },
    "Logarithmic": {
        "ramp": pace(gr.pacing.Logarithmic, 0.2, 5.0, STEEP, **ramp, steepness=10.0),
        "steep": pace(gr.pacing.Logarithmic, 0.2, 5.0, STEEP, **ramp, steepness=5000.0),
    },
    "Polynomial": {
        "square": pace(gr.pacing.Polynomial, 0.2, 5.0, BENT, **ramp, power=2.0),
        "root": pace(gr.pacing.Polynomial, 0.2, 5.0, BENT, **ramp, power=0.5),
    },
    "Step": {"one": pace(gr.pacing.Step, 0.2, 5.0, RAMP, **ramp)},
    "FixedExponential": {
        "paper": pace(
            gr.pacing.FixedExponential,
            0.04,
            600.0,
            {
                "start_fraction": bad_numbers(above=0, at_most=1),
                "increase": bad_numbers(above=1),
                "every_epochs": bad_numbers(above=0),
            },
            start_fraction=0.04,
            increase=1.9,
            every_epochs=100.0,
        )
    },
    "BabySteps": {
        "four": pace(gr.pacing.BabySteps, 0.25, 6.0, BUCKETS, buckets=4, epochs_per_bucket=2.0)
    },
    "OnePass": {
        "four": pace(gr.pacing.OnePass, 0.25, 8.0, BUCKETS, buckets=4, epochs_per_bucket=2.0)
    },
    "Constant": {
        "part": pace(
            gr.pacing.Constant,
            0.3,
            None,
            {"fraction": bad_numbers(above=0, at_most=1)},
            fraction=0.3,
        ),
        "whole": pace(
            gr.pacing.Constant,
            1.0,
            0.0,
            {"fraction": bad_numbers(above=0, at_most=1)},
            fraction=1.0,
        ),
    },
}

# ----------------------------------------------------------------------------------- weightings
