"""Examples of the methods that read hidden states, for the contract suite."""

from __future__ import annotations

from typing import Any

import torch

import gradatim as gr
from gradatim.testing import Bad, Example, Problem, bad_choices, bad_counts, bad_numbers


def hidden(problem: Problem, index: torch.Tensor) -> torch.Tensor:
    """(B, 2, 3): two tokens a text."""
    return torch.stack([problem.features[:, :3], problem.noise], 1)[index]


def mask(problem: Problem, index: torch.Tensor) -> torch.Tensor:
    """(B, 2): texts of the first class have one token."""
    return torch.stack([torch.ones_like(problem.targets), problem.targets.sign()], 1)[index]


def spdcl(shares: int = 4, *, draws: bool = False, **settings: Any) -> Example:
    return Example(
        build=lambda problem: gr.SPDCL(shares, **settings),
        neutral=lambda problem: gr.SPDCL(1, **settings),
        bad={
            "shares": Bad((*bad_counts(at_least=1).values, 61)),
            "change": bad_choices(),
            "norm": bad_choices(),
            "review": bad_numbers(at_least=0, at_most=1),
            "planned_epochs": bad_counts(at_least=1, optional=True),
            "measure": bad_choices(),
            "tie": bad_choices(),
        },
        signals={"hidden": hidden, "mask": mask},
        epochs=5,
        draws=draws,
        exceptions={"single_sample": "more shares than samples are refused"},
    )


TEXTS = {
    "SPDCL": {
        "signed": spdcl(),
        "absolute": spdcl(change="abs", tie="index"),
        "reviewed": spdcl(review=0.4, draws=True),
        "newest alone": spdcl(review=0.0),
        "from training": spdcl(measure="training"),
        "from training, absolute": spdcl(5, measure="training", change="abs"),
        "fixed": spdcl(change="none"),
        "fixed, from training": spdcl(change="none", measure="training", norm="word_mean"),
        "word norm": spdcl(norm="word"),
        "entries": spdcl(norm="l1", change="abs"),
        "squares": spdcl(norm="l2", measure="training", tie="index"),
    }
}
