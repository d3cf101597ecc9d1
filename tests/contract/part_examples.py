"""An example of every public pace, weighting, draw, score and helper, for the contract suite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import TensorDataset

import gradatim as gr
from gradatim.testing import (
    Bad,
    PaceExample,
    PartExample,
    Problem,
    bad_callables,
    bad_choices,
    bad_counts,
    bad_generators,
    bad_numbers,
    bad_vectors,
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

SCORES: dict[str, dict[str, PartExample]] = {
    "loss": {
        "part": score(
            gr.scores.loss,
            lambda problem: {"logits": logits(problem), "targets": problem.targets},
            {"logits": LOGITS, "targets": labels()},
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

DRAWS: dict[str, dict[str, PartExample]] = {
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

FUNCTIONS: dict[str, dict[str, PartExample]] = {
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
