"""Examples of methods that skip samples or give each a parameter, for the contract suite."""

from __future__ import annotations

from typing import Any

import gradatim as gr
from gradatim.testing import Example, bad_choices, bad_counts, bad_numbers

# ------------------------------------------------------------------------------------ InfoBatch


def infobatch(planned_epochs: int | None = 5, *, plain: str = "ratio", **settings: Any) -> Example:
    return Example(
        build=lambda problem: gr.InfoBatch(planned_epochs, **settings),
        neutral=lambda problem: gr.InfoBatch(planned_epochs, **{**settings, plain: 0.0}),
        bad={
            "planned_epochs": bad_counts(at_least=1, optional=True),
            "ratio": bad_numbers(at_least=0, below=1),
            "delta": bad_numbers(at_least=0, at_most=1),
            "unbiased": bad_choices(),
            "threshold": bad_numbers(above=0, below=1),
            "mode": bad_choices(),
        },
        draws=True,
        returns_within=12,
        exceptions={"relabelling": "who is skipped is drawn by position"},
    )


INFOBATCH = {
    "Bernoulli": infobatch(),
    "fixed": infobatch(mode="fixed", plain="delta"),
    "to the end": infobatch(None, ratio=0.3, unbiased="step"),
    "quantile": infobatch(threshold=0.7),
}

# ------------------------------------------------------------------------------ DataParameters


def data_parameters(level: Any = "instance", **settings: Any) -> Example:
    neutral: Any = "two temperatures of 1 sum to 2, where training begins"
    if level != "both":
        rates = {"instance_rate": 0.0, "class_rate": 0.0}
        neutral = lambda problem: gr.DataParameters(level, **{**settings, **rates})  # noqa: E731
    return Example(
        build=lambda problem: gr.DataParameters(level, **settings),
        neutral=neutral,
        bad={
            "level": bad_choices(),
            "instance_rate": bad_numbers(at_least=0),
            "class_rate": bad_numbers(at_least=0),
            "decay": bad_numbers(at_least=0),
            "class_decay": bad_numbers(at_least=0),
            "limit": bad_numbers(above=1),
        },
    )


DATA_PARAMETERS = {
    "instance": data_parameters(),
    "instance, decayed": data_parameters(instance_rate=2.0, decay=0.1, limit=3.0),
    "class": data_parameters("class", class_rate=1.0, class_decay=0.1),
    "both": data_parameters("both"),
}

DATA: dict[str, dict[str, Example]] = {
    "DataParameters": DATA_PARAMETERS,
    "InfoBatch": INFOBATCH,
}
