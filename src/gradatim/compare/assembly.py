"""How a method's arguments are found: what a user wrote, what is made from data and budget."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import gradatim as gr
from gradatim.compare.contexts import SCORES, Context
from gradatim.compare.data.texts import SEGMENT
from gradatim.compare.names import find_method, make_pace, nearest
from gradatim.compare.specs import Call, CurriculumSpec, parse_call
from gradatim.methods.self_paced import SelfPaced
from gradatim.validation import refusal

__all__ = ["Parts", "assembled", "filled"]

SHARED = "shared"
BUDGET, DATA = "budget", "data"  # what a parameter is made from, where nothing is given
LABELS = {"groups": "as groups", "balanced": "to balance classes", "labels": "as they are"}


@dataclass
class Parts:
    """A method to be made.

    Attributes:
        kind: its class.
        spec: what was asked for, in the spelling of `gradatim methods`.
        arguments: for the class.
        seen: what they were made from, in words.

    Example:
        >>> Parts(gr.Uniform, CurriculumSpec("uniform")).make()
        Uniform()
    """

    kind: type[gr.Method]
    spec: CurriculumSpec
    arguments: dict[str, Any] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def make(self) -> gr.Method:
        """Make the method."""
        return self.kind(**self.arguments)


def assembled(spec: CurriculumSpec, context: Context) -> Parts:
    """Find the class that a single name means, and its arguments.

    Args:
        spec: what was asked for; what it joins is not looked at.
        context: the training part and the budget.

    Raises:
        ValueError: an unknown name or parameter, or a parameter that is missing.

    Example:
        >>> from gradatim.compare.data import Samples
        >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> assembled(CurriculumSpec("cbs"), Context(samples, seed=0, budget_epochs=9)).arguments
        {'planned_epochs': 9}
    """
    kind, spec, preset = find_method(spec)
    ours = ":" not in spec.name
    known = inspect.signature(kind).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    known = {
        name: parameter
        for name, parameter in known.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    parts = Parts(kind, spec, dict(preset))
    for name, value in spec.parameters:
        if (name not in known and not free) or name in preset:
            _refuse_parameter(spec, name, [own for own in known if own not in preset])
        parts.arguments[name] = _given(name, value, context, parts, ours)
    missing = []
    for name, parameter in known.items():
        required = parameter.default is parameter.empty
        if name in parts.arguments or not (
            required or (ours and _wanted(kind, name, parts.arguments))
        ):
            continue
        source = _SOURCES.get(name) if ours or name not in ("epochs", "shares") else None
        if source is None:
            missing.append(name)
        else:
            parts.arguments[name] = source(context, parts)
    if missing:
        rule = f"given what {spec.name} needs: {', '.join(missing)}"
        cause = f"Write {spec.name}({missing[0]}=...)."
        raise refusal("curricula", rule, str(spec), cause)
    return parts


def _refuse_parameter(spec: CurriculumSpec, name: str, known: list[str]) -> None:
    rule = f"given parameters that {spec.name} has: {', '.join(known) or 'none'}"
    raise refusal("curricula", rule, repr(name), nearest(name, known))


def _given(name: str, value: Any, context: Context, parts: Parts, ours: bool) -> Any:
    """Turn what a user wrote into what the constructor takes."""
    if value in (BUDGET, DATA) and name in _SCHEDULES.get(parts.kind, ()):
        return _SOURCES[name](context, parts)
    if name == "pace" and isinstance(value, str):
        if value == SHARED:
            return context.pace()
        value = parse_call(value)
    if isinstance(value, Call):
        return make_pace(value)
    # DoCL's score is a word of its own; theirs is a tensor, made from the data.
    scored = issubclass(parts.kind, (gr.Predefined, gr.SPCL)) if ours else value in SCORES
    if name == "score" and isinstance(value, str) and scored:
        parts.seen.append(SCORES[value][1] if value in SCORES else value)
        return context.score(value)
    if name == "irreducible" and value == "teacher" and ours:
        return _irreducible(context, parts)
    if name in LABELS and value == "labels":
        parts.seen.append(f"training labels, {LABELS[name]}")
        return context.groups
    return list(value) if isinstance(value, tuple) else value


def _wanted(kind: type[gr.Method], name: str, given: Mapping[str, Any]) -> bool:
    """Whether a parameter with a default is filled in all the same: in our own methods only."""
    if name in _SCHEDULES.get(kind, ()):
        return True
    if name == "pace":
        return given.get("growth") is None  # which paces as well, and excludes a pace
    if name == "score":
        return given.get("order") != "random" and issubclass(kind, gr.Predefined)
    return name == "survey_every_epochs" and issubclass(kind, SelfPaced)


def _score(context: Context, parts: Parts) -> torch.Tensor | str:
    """A difficulty; of importance sampling the norm of the task's own gradients, if it is known."""
    if parts.kind is gr.ImportanceSampling:
        known = {"classification": "cross_entropy", "regression": "squared_error"}
        return known.get(context.kind, "loss")
    return _teacher(context, parts)


def _planned(context: Context, parts: Parts) -> int:
    """Epochs that the budget pays for."""
    if parts.kind is not gr.InfoBatch:
        return context.epochs_at(1)
    # Losses have a long tail: half of them at least are below their mean, and r of those skipped.
    known = {"ratio": 0.5, "delta": 0.875, **dict(parts.spec.parameters)}
    skipped = known["ratio"] / 2 * known["delta"] if _are_shares(known) else 0
    return context.epochs_at(1 - skipped)


def _are_shares(known: Mapping[str, Any]) -> bool:
    """Whether the method will not refuse them."""
    values = [known[name] for name in ("ratio", "delta")]
    return all(isinstance(value, int | float) and 0 <= value <= 1 for value in values)


def _teacher(context: Context, parts: Parts) -> torch.Tensor:
    parts.seen.append(SCORES["teacher"][1])
    return context.score("teacher")


def _irreducible(context: Context, parts: Parts) -> torch.Tensor:
    """Losses of the teacher that did not see the sample: log-loss, or squared error."""
    error = _teacher(context, parts)
    return error if context.kind == "regression" else -torch.log1p(-error.clamp(max=1 - 1e-6))


def _labels(name: str) -> Callable[[Context, Parts], torch.Tensor]:
    def source(context: Context, parts: Parts) -> torch.Tensor:
        parts.seen.append(f"training labels, {LABELS[name]}")
        return context.groups

    return source


def _inputs(context: Context, parts: Parts) -> torch.Tensor:
    parts.seen.append("training inputs")
    features = context.training.features
    return features % SEGMENT if context.modality == "text" else features


_SCHEDULES: dict[type[gr.Method], tuple[str, ...]] = {
    gr.DIHCL: ("warmup_epochs",),
    gr.DoCL: ("episodes", "task"),
    gr.DoCLBaseline: ("episodes",),
    gr.MCL: ("inner_epochs", "function"),
    gr.LeRaC: ("epochs",),
    gr.CBS: ("planned_epochs",),
    gr.SPDCL: ("shares",),
    gr.InfoBatch: ("planned_epochs",),
    gr.ImportanceSampling: ("score",),
}
"""Parameters whose defaults are for the papers' hundreds of epochs, or for one kind of data."""

_SOURCES: dict[str, Callable[[Context, Parts], Any]] = {
    "score": _score,
    "irreducible": _irreducible,
    **{name: _labels(name) for name in LABELS},
    "features": _inputs,
    "pace": lambda context, parts: context.pace(),
    "survey_every_epochs": lambda context, parts: 1,
    "warmup_epochs": lambda context, parts: context.warmup_epochs,
    "episodes": lambda context, parts: context.episodes,
    "epochs": lambda context, parts: context.first_epochs,
    "inner_epochs": lambda context, parts: max(1, round(context.budget_epochs / 10)),
    # Features of texts and of pretrained models are negative as well.
    "function": lambda context, parts: "facility" if context.modality == "text" else "coverage",
    "task": lambda context, parts: (
        "regression" if context.kind == "regression" else "classification"
    ),
    "classes": lambda context, parts: context.classes,
    "num_classes": lambda context, parts: context.classes,
    "budget_epochs": lambda context, parts: context.budget_epochs,
    "total_epochs": lambda context, parts: context.budget_epochs,
    "shares": lambda context, parts: context.shares,
    "planned_epochs": _planned,
    "seed": lambda context, parts: context.seed,
}
"""What can be filled in where a parameter of that name is not given."""


def filled(method: type[gr.Method], name: str) -> str | None:
    """Say what a comparison fills in for a parameter of one of gradatim's methods.

    Args:
        method: the class.
        name: of a parameter.

    Returns:
        As a user would write it, or in words in parentheses; None if nothing is filled in.

    Example:
        >>> filled(gr.SPLD, "groups"), filled(gr.SPLD, "pace"), filled(gr.SPLD, "gamma")
        ('labels', 'shared', None)
    """
    parameter = inspect.signature(method).parameters[name]
    required = parameter.default is parameter.empty
    if name not in _SOURCES or not (required or _wanted(method, name, {})):
        return None
    if name in LABELS:
        return "labels"
    teacher = dict.fromkeys(("score", "irreducible"), "teacher")
    written = {**teacher, "pace": SHARED, "survey_every_epochs": "1"}
    if name in _SCHEDULES.get(method, ()):
        return DATA if name in ("function", "task", "score") else BUDGET
    return written.get(name, "(from the data)")
