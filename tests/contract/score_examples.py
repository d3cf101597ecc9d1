"""Every score, for the contract suite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import TensorDataset

import gradatim as gr

# ---------------------------------------------------------------------------------------- paces
from contract.weighting_examples import (
    LOSSES,
    MAYBE_GENERATOR,
    POSITIVE,
    SUPER,
    UNTIED,
    half,
    weighting,
)
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

TENSOR = Bad(("x", None, torch.zeros(3, dtype=torch.complex64)))


def matrix(columns: int = 2, **spoilt: float) -> Bad:
    """No finite matrix of 60 rows."""
    good = torch.full((60, 3), 1 / 3)
    wrong = []
    for value in (math.nan, math.inf, *spoilt.values()):
        one = good.clone()
        one[3, 1] = value
        wrong.append(one)
    thin = torch.ones(60, columns - 1)
    return Bad(("x", None, good[0], good.to(torch.complex64), thin, *wrong))


LOGITS = matrix(columns=1)
PROBABILITIES = matrix(columns=1, negative=-0.2, excessive=0.9)


def labels(classes: int = 3, *, optional: bool = False) -> Bad:
    """No 60 class numbers."""
    good = torch.arange(60) % 3
    low, high = good.clone(), good.clone()
    low[2], high[2] = -1, classes
    wrong = ["x", good[:-1], good.unsqueeze(1), good.double() + 0.5, low, high]
    return Bad(tuple(wrong if optional else [*wrong, None]))


def _linear() -> torch.nn.Module:
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3, 4))
        layer.bias.zero_()
    return layer


def logits(problem: Problem) -> torch.Tensor:
    return problem.logits(0)


def probabilities(problem: Problem) -> torch.Tensor:
    return problem.logits(0).softmax(1)


def votes(problem: Problem) -> torch.Tensor:
    return (problem.noise * 3).abs().round().long() + 1


def pictures(problem: Problem) -> torch.Tensor:
    """uint8 (N, 4, 4)."""
    product = problem.features.unsqueeze(2) * problem.features.unsqueeze(1)
    return (128 + 40 * product).clamp(0, 255).to(torch.uint8)


IMAGES = Bad(("x", None, torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(2, 4, 4)))


def objects(problem: Problem) -> dict[str, Any]:
    """One to three objects per image, of an area that depends on the image."""
    index = torch.arange(problem.size).repeat_interleave(problem.targets + 1)
    return {"index": index, "areas": problem.scores.sigmoid()[index], "size": problem.size}


def sentences(problem: Problem) -> list[str]:
    return [" ".join(f"w{int(abs(value) * 3)}" for value in row) for row in problem.noise.tolist()]


def words(problem: Problem) -> list[list[str]]:
    return [sentence.split() for sentence in sentences(problem)]


def token_ids(problem: Problem) -> torch.Tensor:
    return (problem.features.abs() * 2).long()


def class_shares(train: torch.Tensor, held_out: torch.Tensor) -> torch.Tensor:
    """Different probabilities for every fold."""
    share = float(train.sum()) / 60**2
    return torch.tensor([share, 0.5, 0.5 - share]).expand(len(held_out), 3)


def score(part: Any, arguments: Any, bad: Mapping[str, Any], **facts: Any) -> PartExample:
    return PartExample(part=part, arguments=arguments, bad=bad, **facts)


FOLDS = Bad(("x", None, torch.arange(60), torch.zeros(60, 1), torch.full((60,), -1)))
ROWS_DRAWN = {"relabelling": "who goes where is drawn over positions"}
FOLDED = {**ROWS_DRAWN, "single_sample": "a class needs as many members as there are folds"}
TRUTH = "any truth value"
TEXTS = Bad(("one string", [1, 2], 3, None))
HIDDEN = Bad(
    (
        *("x", None, torch.zeros(60, 4), torch.zeros(60, 4, 3).long(), torch.zeros(59, 4, 3)),
        *((torch.zeros(60, 4, 3),), torch.full((60, 4, 3), math.nan), torch.zeros(60, 4, 0)),
        torch.zeros(60, 4, 3, dtype=torch.complex64),
    )
)
MASK = Bad(
    (
        *("x", None, torch.ones(60), torch.ones(60, 5), torch.zeros(60, 4), torch.ones(59, 4)),
        *(torch.full((60, 4), 0.5), torch.full((60, 4), -1e9), torch.full((60, 4), math.nan)),
    )
)

SCORES: dict[str, dict[str, PartExample]] = {
    "loss": {
        "part": score(
            gr.scores.loss,
            lambda problem: {"logits": logits(problem), "targets": problem.targets},
            {"logits": LOGITS, "targets": labels()},
            low=0.0,
        )
    },
    "el2n": {
        "part": score(
            gr.scores.el2n,
            lambda problem: {"logits": logits(problem), "targets": problem.targets},
            {"logits": LOGITS, "targets": labels()},
            low=0.0,
            high=2**0.5,
        )
    },
    "gradient_norm": {
        "linear": score(
            gr.scores.gradient_norm,
            lambda problem: {
                "model": _linear(),
                "loss": torch.nn.functional.cross_entropy,
                "batch": (problem.features, problem.targets),
                "chunk_size": 7,
            },
            {
                "model": Bad(("x", None, torch.nn.Identity())),
                "loss": bad_callables(),
                "batch": Bad((None, torch.zeros(60, 4), (torch.zeros(60, 4), torch.zeros(7)))),
                "chunk_size": bad_counts(at_least=1),
            },
            low=0.0,
        )
    },
    "confidence": {
        "part": score(
            gr.scores.confidence,
            lambda problem: {"probabilities": probabilities(problem), "targets": problem.targets},
            {"probabilities": PROBABILITIES, "targets": labels()},
            low=0.0,
            high=1.0,
        )
    },
    "margin": {
        "probabilities": score(
            gr.scores.margin,
            lambda problem: {"outputs": probabilities(problem), "targets": problem.targets},
            {"outputs": "named by what they are taken for", "targets": labels(), "logits": TRUTH},
            low=-1.0,
            high=1.0,
        ),
        "logits": score(
            gr.scores.margin,
            lambda problem: {
                "outputs": logits(problem),
                "targets": problem.targets,
                "logits": True,
            },
            {"outputs": "named by what they are taken for", "targets": labels(), "logits": TRUTH},
        ),
    },
    "entropy": {
        "part": score(
            gr.scores.entropy,
            lambda problem: {"probabilities": probabilities(problem)},
            {"probabilities": matrix(negative=-0.2, excessive=0.9)},
            low=0.0,
            high=1.0,
        )
    },
    "nuclear_norm": {
        "part": score(
            gr.scores.nuclear_norm,
            lambda problem: {
                "hidden": problem.features.unsqueeze(2) * problem.noise.unsqueeze(1),
                "mask": (problem.features > 0) | (torch.arange(4) == 0),
            },
            {"hidden": HIDDEN, "mask": MASK},
            low=0.0,
        )
    },
    **{
        part.__name__: {
            name: score(
                part,
                lambda problem, more=more: {
                    "hidden": problem.features.unsqueeze(2) * problem.noise.unsqueeze(1),
                    "mask": (problem.features > 0) | (torch.arange(4) == 0),
                    **more,
                },
                {"hidden": HIDDEN, "mask": MASK, **({"mean": TRUTH} if more else {})},
                low=0.0,
            )
        }
        for part, name, more in (
            (gr.scores.word_norm, "mean", {"mean": True}),
            (gr.scores.l1_norm, "part", {}),
            (gr.scores.l2_norm, "part", {}),
        )
    },
    "human": {
        "part": score(
            gr.scores.human,
            lambda problem: {"values": problem.scores, "size": problem.size},
            {"values": bad_vectors(60), "size": bad_counts(at_least=1, optional=True)},
        )
    },
    "annotator_agreement": {
        "majority": score(
            gr.scores.annotator_agreement,
            lambda problem: {"votes": votes(problem)},
            {
                "votes": matrix(negative=-1.0),
                "targets": labels(optional=True),
                "kind": bad_choices(),
            },
            low=0.0,
            high=1.0,
        ),
        "labels": score(
            gr.scores.annotator_agreement,
            lambda problem: {"votes": votes(problem), "targets": problem.targets},
            {
                "votes": matrix(negative=-1.0),
                "targets": labels(optional=True),
                "kind": bad_choices(),
            },
            low=0.0,
            high=1.0,
        ),
        "entropy": score(
            gr.scores.annotator_agreement,
            lambda problem: {"votes": votes(problem), "kind": "entropy"},
            {
                "votes": matrix(negative=-1.0),
                "targets": labels(optional=True),
                "kind": bad_choices(),
            },
            low=0.0,
            high=1.0,
        ),
    },
    "length": {
        "sentences": score(
            gr.scores.length,
            lambda problem: {"texts": sentences(problem)},
            {
                "texts": TEXTS,
                "mask": Bad((torch.ones(60, 3), "x")),
                "special": Bad(("w1", 3)),
                "tokenizer": bad_callables(),
            },
            low=0.0,
        ),
        "ids": score(
            gr.scores.length,
            lambda problem: {"texts": token_ids(problem), "mask": torch.ones(problem.size, 4)},
            {
                "texts": Bad((*TEXTS.values, torch.zeros(60, dtype=torch.int64))),
                "mask": Bad((torch.ones(60, 3), torch.full((60, 4), -1e9))),
                "special": Bad(("w1", ("w1",), 3)),
                "tokenizer": bad_callables(),
            },
            low=0.0,
        ),
    },
    "word_rarity": {
        "sentences": score(
            gr.scores.word_rarity,
            lambda problem: {"texts": sentences(problem)},
            {
                "texts": TEXTS,
                "corpus": Bad(("one string", [], 3)),
                "mean": TRUTH,
                "tokenizer": bad_callables(),
            },
            low=0.0,
        ),
        "words, mean": score(
            gr.scores.word_rarity,
            lambda problem: {"texts": words(problem), "corpus": ["w0 w1 w2"], "mean": True},
            {
                "texts": TEXTS,
                "corpus": Bad(("one string", [], 3)),
                "mean": TRUTH,
                "tokenizer": bad_callables(),
            },
            low=0.0,
        ),
    },
    **{
        part.__name__: {
            "grey": score(
                part,
                lambda problem: {"images": pictures(problem)},
                {"images": IMAGES, "channels": bad_choices()},
                low=0.0,
            )
        }
        for part in (
            gr.scores.grey_entropy,
            gr.scores.gradient_magnitude,
            gr.scores.compressed_bits,
        )
    },
    "annotation_complexity": {
        kind: score(
            gr.scores.annotation_complexity,
            lambda problem, kind=kind: {**objects(problem), "kind": kind},
            {
                "index": Bad(("x", None, torch.tensor([0.5]), torch.tensor([-1]))),
                "areas": bad_vectors(len(objects(Problem.make())["areas"]), above=0),
                "size": bad_counts(at_least=1),
                "kind": bad_choices(),
            },
            low=0.0,
        )
        for kind in ("count", "inverse_area")
    },
    "rank": {
        "shared": score(
            gr.scores.rank,
            lambda problem: {"scores": problem.targets, **UNTIED},
            {"scores": LOSSES, "generator": MAYBE_GENERATOR},
            low=0.0,
            high=1.0,
        ),
        "drawn": score(
            gr.scores.rank,
            lambda problem: {"scores": problem.targets},
            {"scores": LOSSES, "generator": MAYBE_GENERATOR},
            low=0.0,
            high=1.0,
            exceptions=ROWS_DRAWN,
        ),
    },
    "cdf": {
        "part": score(
            gr.scores.cdf,
            lambda problem: {"scores": problem.scores},
            {"scores": LOSSES},
            low=0.0,
            high=1.0,
        )
    },
    "from_model": {
        "part": score(
            gr.scores.from_model,
            lambda problem: {
                "model": torch.nn.Identity(),
                "dataset": TensorDataset(problem.logits(0), problem.targets),
            },
            {
                "model": Bad(("x", None)),
                "dataset": Bad((3, None, [])),
                "score": bad_callables(),
                "forward": bad_callables(optional=True),
                "batch_size": bad_counts(at_least=1),
            },
            low=0.0,
        )
    },
    "stratified_folds": {
        "three": score(
            gr.scores.stratified_folds,
            lambda problem: {"labels": problem.targets, "folds": 3},
            {
                "labels": FOLDS,
                "folds": bad_counts(at_least=2),
                "generator": bad_generators(),
            },
            low=0,
            high=2,
            exceptions=FOLDED,
        )
    },
    "out_of_fold": {
        "three": score(
            gr.scores.out_of_fold,
            lambda problem: {"labels": problem.targets, "folds": 3, "fit_predict": class_shares},
            {
                "labels": FOLDS,
                "fit_predict": bad_callables(),
                "folds": bad_counts(at_least=2),
                "generator": bad_generators(),
            },
            low=0.0,
            high=1.0,
            exceptions=FOLDED,
        )
    },
    "inclusion_probabilities": {
        "half": score(
            gr.selection.inclusion_probabilities,
            lambda problem: {"weights": problem.losses(0), "k": half(problem)},
            {"weights": POSITIVE, "k": bad_counts()},
            low=0.0,
            high=1.0,
        )
    },
    "focal_loss": {
        "classes": score(
            gr.weighting.focal_loss,
            lambda problem: {"logits": logits(problem), "targets": problem.targets},
            {
                "logits": Bad(
                    ("x", None, torch.zeros(60, 1), torch.zeros(60, 3, dtype=torch.int64))
                ),
                "targets": labels(),
                "gamma": bad_numbers(at_least=0),
                "alpha": bad_numbers(at_least=0, at_most=1, optional=True),
            },
            low=0.0,
            differentiable=True,
        ),
        "binary": score(
            gr.weighting.focal_loss,
            lambda problem: {
                "logits": problem.scores,
                "targets": (problem.targets > 0).long(),
                "alpha": 0.25,
            },
            {
                "logits": Bad(("x", None, torch.zeros(60, 1))),
                "targets": labels(classes=2),
                "gamma": bad_numbers(at_least=0),
                "alpha": bad_numbers(at_least=0, at_most=1, optional=True),
            },
            low=0.0,
            differentiable=True,
        ),
    },
    "super_loss_value": {
        "part": weighting(
            gr.weighting.super_loss_value,
            SUPER,
            {"tau": 0.7, "lam": 0.5},
            low=None,
            high=None,
            differentiable=True,
        )
    },
    "lambert_w": {
        "part": score(
            gr.weighting.lambert_w,
            lambda problem: {"values": problem.losses(0)},
            {"values": TENSOR},
            low=0.0,
        )
    },
}

# ---------------------------------------------------------------------------------------- draws
