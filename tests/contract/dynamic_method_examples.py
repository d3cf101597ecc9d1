"""Examples of the methods that read training dynamics or features, for the contract suite."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import gradatim as gr
from gradatim.testing import Bad, Example, Problem, bad_choices, bad_counts, bad_numbers

FLAG = Bad((0, 1, "yes", None))
EPISODES = Bad(((), (0, 2), (3, 3), (5, 2), (1.5,), ("1",), 3, "12", None))
PRUNED_BAD = {
    "prune": bad_numbers(above=0, at_most=1),
    "diversity": bad_numbers(at_least=0),
    "diversity_decay": bad_numbers(above=0, at_most=1),
    "rescale": FLAG,
    "greedy": bad_choices(),
    "features": Bad((torch.zeros(60), torch.zeros(59, 2), torch.zeros(60, 2).long(), "z", 1.0)),
    "layer": Bad((1, ("fc",))),
}

# ---------------------------------------------------------------------------------------- DIHCL


def dihcl(*kind: str, **settings: Any) -> Example:
    names = ("exceptions", "draws", "returns_within")
    facts = {name: settings.pop(name) for name in names if name in settings}
    settings = {"warmup_epochs": 2, "gamma_k": 0.6, "k_min": 0.3, **settings}
    return Example(
        build=lambda problem: gr.DIHCL(*kind, **settings),
        neutral=lambda problem: gr.DIHCL(*kind, **{**settings, "gamma_k": 1.0, "prune": 1.0}),
        bad={
            "hardness": bad_choices(),
            "selection": bad_choices(),
            "warmup_epochs": bad_counts(at_least=1),
            "gamma": bad_numbers(at_least=0, at_most=1),
            "gamma_on": bad_choices(),
            "gamma_k": bad_numbers(above=0),
            "k_min": bad_numbers(above=0, at_most=1),
            "episodes": Bad((*EPISODES.values[:-1],)),
            "normalize": Bad((0, 1, "yes", 0.5)),
            "lr_sum": bad_choices(),
            "clip": bad_numbers(above=0, optional=True),
            "p": bad_choices(),
            "topk": FLAG,
            "c": bad_numbers(above=0, optional=True),
            "exploration": bad_numbers(at_least=0),
            **PRUNED_BAD,
        },
        epochs=8,
        signals={"features": lambda problem, index: problem.features[index]},
        **{"draws": True, "exceptions": DRAWN, "returns_within": 40, **facts},
    )


STAYS = {"return": "what is not among the hardest is not looked at again, so it stays out"}
RARE = {"return": "chances fall exponentially with hardness: what is easy may stay out for long"}
REGION = {"return": "pruning leaves out what is near something harder"}
ALIKE = {"planned_size": "features that are all alike are warned of"}
DRAWN = {"relabelling": "subsets are drawn by position"}

DIHCL = {
    "loss, exp": dihcl("loss", "exp", exceptions=DRAWN | RARE),
    "loss, rand": dihcl("loss", "rand"),
    "loss, greedy": dihcl("loss", "greedy", draws=False, exceptions=STAYS),
    "loss, ucb": dihcl("loss", "ucb", exploration=30.0, draws=False, exceptions={}),
    "loss, beta": dihcl("loss", "beta"),
    "change, exp": dihcl("loss_change", "exp", lr_sum="inclusive", gamma_on="new"),
    "change, rand": dihcl("loss_change", "rand", normalize=False, clip=1.0),
    "change, mean": dihcl(
        "loss_change", "ucb", gamma="mean", exploration=30.0, draws=False, exceptions={}
    ),
    "flip, beta": dihcl("flip", "beta"),
    "flip, Thompson": dihcl("flip", "beta", topk=True),
    "flip, counts": dihcl("flip", "counts"),
    "flip, exp": dihcl("flip", "exp", p="draw", exceptions=DRAWN | RARE),
    "episodes": dihcl("loss", "rand", episodes=(2, 4, 6)),
    "pruned": dihcl("loss", "rand", prune=0.7, exceptions=DRAWN | ALIKE | REGION),
}

DYNAMICS = {
    name: Example(
        build=lambda problem, normalize=normalize: gr.Dynamics(normalize=normalize),
        neutral=lambda problem: gr.Dynamics(),
        bad={
            "gamma": bad_numbers(at_least=0, at_most=1),
            "normalize": Bad((0, 1, None, "yes")),
        },
    )
    for name, normalize in (("normalized", True), ("plain", False))
}

# ----------------------------------------------------------------------------------------- DoCL


DOCL_BAD = {
    "episodes": EPISODES,
    "batch_mul": bad_counts(at_least=1),
    "sampling": bad_choices(),
    "temperature": bad_numbers(above=0),
    "gamma": bad_numbers(at_least=0, at_most=1),
    "gamma_k": bad_numbers(above=0, at_most=1),
    "k_min": bad_numbers(above=0, at_most=1),
    "score": bad_choices(),
    "growth": bad_numbers(at_least=1),
    "exp3": FLAG,
    "lr_sum": bad_choices(),
    "task": bad_choices(),
    "dtype": bad_choices(),
    **PRUNED_BAD,
}


def docl(*, draws: bool = True, **settings: Any) -> Example:
    settings = {"episodes": (2, 5), "batch_mul": 2, "gamma_k": 0.6, **settings}
    return Example(
        build=lambda problem: gr.DoCL(**settings),
        neutral="the warm start trains on another loss, in larger batches",
        bad=DOCL_BAD,
        signals={
            "features": lambda problem, index: problem.scores[index].unsqueeze(1),
            "outputs": lambda problem, index: problem.logits(0)[index],
            "targets": targets if settings.get("task") == "regression" else labels,
        },
        draws=draws,
        epochs=6,
        exceptions=DRAWN if draws else {},
    )


def targets(problem: Problem, index: torch.Tensor) -> torch.Tensor:
    return problem.features[index, :3]


def labels(problem: Problem, index: torch.Tensor) -> torch.Tensor:
    return problem.targets[index]


DOCL = {
    "boltzmann": docl(),
    "proportional": docl(sampling="proportional", lr_sum="inclusive", dtype="float16"),
    "topk": docl(sampling="topk", draws=False),
    "topk of half the range": docl(sampling="topk", draws=False, gamma=0.5, gamma_k=0.9),
    "no residual": docl(score="norm", k_min=0.3, growth=1.5),
    "rescaled by chances": docl(exp3=True),
    "rescaled by chances, in proportion": docl(exp3=True, sampling="proportional"),
    "regression": docl(task="regression"),
    "pruned": docl(prune=0.5, episodes=(1, 4)),
    "pruned, rescaled": docl(prune=0.5, episodes=(1, 4), rescale=True, greedy="exact"),
}


def docl_baseline(which: int, **settings: Any) -> Example:
    settings = {"episodes": (1, 2), "batch_mul": 4, **settings}
    return Example(
        build=lambda problem: gr.DoCLBaseline(which, **settings),
        neutral="every other epoch trains on another loss",
        bad={
            "which": bad_counts(at_least=1, at_most=3),
            "episodes": EPISODES,
            "flow_size": bad_counts(at_least=1),
            "batch_mul": bad_counts(at_least=1),
            "fraction": bad_numbers(above=0, at_most=1),
            "gamma": bad_numbers(at_least=0, at_most=1),
        },
        epochs=6,
        returns_within=9,
    )


DOCL_BASELINE = {
    "in turn": docl_baseline(1),
    "highest": docl_baseline(2, flow_size=50, fraction=0.5),
    "lowest": docl_baseline(3, gamma=0.5),
}

# ------------------------------------------------------------------------------------------ MCL


def hidden_model(problem: Problem) -> nn.Module:
    return nn.Sequential(nn.Linear(problem.features.shape[1], 6), nn.ReLU(), nn.Linear(6, 3))


def features_of(problem: Problem) -> torch.Tensor:
    """At least 0, and different also where `Problem.alike` makes the samples alike."""
    return torch.cat([problem.features, problem.scores.unsqueeze(1)], 1).abs()


def mcl(*, given: bool = False, neutral: bool = True, **settings: Any) -> Example:
    settings = {"start_fraction": 0.3, "growth": 0.35, "inner_epochs": 1, **settings}

    def build(problem: Problem, **changed: Any) -> gr.Method:
        features = {"features": features_of(problem)} if given else {}
        return gr.MCL(**{**settings, **features, **changed})

    return Example(
        build=build,
        neutral=lambda problem: build(problem, start_fraction=1.0),
        signals={"features": lambda problem, index: features_of(problem)[index]},
        model=hidden_model,
        bad={
            "warmup_epochs": Bad((*bad_counts().values, 0), given={"survey_every_epochs": None}),
            "survey_every_epochs": bad_counts(at_least=1, optional=True),
            "start_fraction": bad_numbers(above=0, at_most=1),
            "growth": bad_numbers(above=0),
            "growth_form": bad_choices(),
            "inner_epochs": bad_counts(at_least=1),
            "diversity": bad_numbers(at_least=0),
            "gamma": bad_numbers(at_least=0, below=1),
            "function": bad_choices(),
            "clusters": bad_counts(at_least=1, optional=True, given={"reuse": False}),
            "cluster_hardness": bad_choices(),
            "reuse": Bad((1, "yes", None)),
            "reuse_share": bad_numbers(above=0, at_most=1),
            "greedy": bad_choices(optional=True),
            "features": Bad(
                ("x", torch.ones(60), torch.ones(59, 2), torch.full((60, 2), -1.0)),
                given={"function": "coverage", "diversity": 1.0},
            ),
            "layer": Bad((1, ["fc"])),
        },
        **EXCEPTIONS.get((settings.get("function"), "clusters" in settings), {}),
    )


DRAWN_RELABELLING = {"relabelling": "candidates are drawn by position"}
EXCEPTIONS: dict[tuple[str | None, bool], dict[str, Any]] = {
    ("centrality", False): {"draws": True, "exceptions": DRAWN_RELABELLING},
    (None, True): {
        "draws": True,
        "exceptions": {"relabelling": "the first centroids are drawn by position"},
    },
    ("facility", True): {
        "draws": True,
        "exceptions": {"relabelling": "the first centroids are drawn by position"},
    },
}

MCL = {
    "coverage": mcl(),
    "given features": mcl(given=True),
    "multiplicative": mcl(growth_form="multiplicative", growth=1.0),
    "no diversity": mcl(diversity=0.0),
    "facility": mcl(function="facility", greedy="exact"),
    "centrality": mcl(function="centrality"),
    "clusters": mcl(clusters=6),
    "clusters, facility": mcl(
        clusters=6, function="facility", greedy="lazy", cluster_hardness="mean"
    ),
    "reuse": mcl(reuse=True, reuse_share=0.2, inner_epochs=2),
    "surveyed": mcl(warmup_epochs=0, survey_every_epochs=1),
    "surveyed clusters": mcl(warmup_epochs=0, survey_every_epochs=2, clusters=6),
}

DYNAMIC = {
    "DIHCL": DIHCL,
    "Dynamics": DYNAMICS,
    "DoCL": DOCL,
    "DoCLBaseline": DOCL_BASELINE,
    "MCL": MCL,
}
