"""The curricula of `gradatim compare`: by name, how to build each for one training set.

A name is that of a method of gradatim in any spelling, ``anti``, or ``package.module:Class``. What
a method needs and the user does not give is filled in from the data: a score from a teacher,
groups from the training labels, a pace from the budget. All that are paced share one pace, so that
the paced random control has the same subset sizes and only membership differs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import gradatim as gr
from gradatim.compare.contexts import SCORES, Context
from gradatim.compare.data import Samples
from gradatim.compare.names import ANTI, find_method, known_methods, make_pace, nearest, spelling
from gradatim.compare.specs import Call, CurriculumSpec, distinct, parse_call
from gradatim.compare.teachers import teacher_scores
from gradatim.method import overrides
from gradatim.methods.self_paced import SelfPaced
from gradatim.validation import refusal

__all__ = [
    "BASELINE",
    "CONTROLS",
    "CURRICULA",
    "Context",
    "Recipe",
    "build",
    "check",
    "check_all",
    "filled",
    "known_methods",
    "sees",
    "spelling",
    "teacher_scores",
]

BASELINE = "uniform"
CONTROLS = (BASELINE, "paced_random")

SURVEY = "losses of the whole training set before an epoch"
SHARED = "shared"
BUDGET, DATA = "budget", "data"  # what a parameter is made from, where nothing is given
LABELS = {"groups": "as groups", "balanced": "to balance classes", "labels": "as they are"}


@dataclass(frozen=True)
class Recipe:
    """A curriculum of the comparison, by its plain name.

    Attributes:
        build: from a context to the method.
        sees: what it looks at besides the losses and logits of the batch.

    Example:
        >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> CURRICULA["uniform"].build(Context(samples, seed=0, budget_epochs=1))
        Uniform()
    """

    build: Callable[[Context], gr.Method]
    sees: tuple[str, ...] = ()


def build(spec: CurriculumSpec, context: Context) -> tuple[gr.Method, ...]:
    """Make the methods that a specification asks for.

    Args:
        spec: what was asked for.
        context: the training part and the budget.

    Returns:
        New methods, for one `gradatim.Curriculum`.

    Raises:
        ValueError: an unknown name or parameter, or a value that the method refuses.
        TypeError: a value of the wrong kind.

    Example:
        >>> samples = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        >>> spec = CurriculumSpec("spl", (("form", "linear"),))
        >>> build(spec, Context(samples, seed=0, budget_epochs=3))[0].pace
        Linear(start_fraction=0.5, epochs=2.0)
    """
    made = []
    for part in spec.parts:
        recipe = None if part.parameters else CURRICULA.get(part.name)
        own = _assembled(part, context).make() if recipe is None else recipe.build(context)
        made.append(own)
    return tuple(made)


def check(
    spec: CurriculumSpec, *, kind: str = "classification", modality: str | None = None
) -> CurriculumSpec:
    """Refuse a specification that cannot be built, before anything runs.

    The methods are made once for a made-up data set, so that values out of range show as well.

    Args:
        spec: what was asked for.
        kind: of the task.
        modality: of the data; None does not ask whether they have the score that is named.

    Returns:
        The specification with the name as `gradatim methods` spells it.

    Raises:
        ValueError: an unknown name or parameter, or a value that the method refuses.
        TypeError: a value of the wrong kind, or methods that cannot work together.

    Example:
        >>> spec = CurriculumSpec("SPL", (("frm", "linear"),))
        >>> check(spec)
        Traceback (most recent call last):
        ValueError: curricula must be given parameters that spl has: form, pace, ... Got 'frm'. ...
    """
    tried = [_trial(part, kind, modality) for part in spec.parts]
    try:
        gr.Curriculum(*(method for _, method, _ in tried))
    except TypeError as error:
        rule = f"methods that go together in {spec.label}"
        raise TypeError(str(refusal("curricula", rule, f"these: {error}"))) from error
    whole = [type(method) for _, method, _ in tried if getattr(method, "layers", 0) is None]
    if len(set(whole)) < len(whole):
        cause = "Give each its own layers=." if whole.count(gr.CBS) > 1 else ""
        got = f"two {max(whole, key=whole.count).__name__}, each of all layers"
        raise refusal("curricula", f"methods that go together in {spec.label}", got, cause)
    return spec.renamed(*(part.name for _, _, part in tried))


def check_all(
    specs: Iterable[CurriculumSpec], *, kind: str = "classification", modality: str | None = None
) -> tuple[CurriculumSpec, ...]:
    """Check several specifications, and that no two are the same in other spellings.

    Args:
        specs: what was asked for.
        kind: as of `check`.
        modality: as of `check`.

    Returns:
        As `check`, in order.

    Raises:
        ValueError: as `check`; or two are the same.
        TypeError: as `check`.

    Example:
        >>> [spec.name for spec in check_all([CurriculumSpec("SuperLoss"), CurriculumSpec("SPL")])]
        ['super_loss', 'spl']
    """
    return distinct([check(spec, kind=kind, modality=modality) for spec in specs])


def sees(spec: CurriculumSpec, *, kind: str = "classification") -> tuple[str, ...]:
    """Say what a curriculum looks at besides the losses and logits of the batch.

    Args:
        spec: what was asked for.
        kind: of the task.

    Returns:
        Phrases for the record; empty if it is nothing.

    Raises:
        ValueError: as `check`.
        TypeError: as `check`.

    Example:
        >>> sees(CurriculumSpec("predefined"))
        ('training labels, through a 5-fold teacher',)
        >>> sees(CurriculumSpec("spl", (("survey_every_epochs", None),)))
        ()
    """
    seen: list[str] = []
    usual = ("logits", "targets", "learning_rate")
    for each in spec.parts:
        parts, method, _ = _trial(each, kind, None)
        # A method that can ask for surveys does, unless it says by the usual parameter that not.
        asks = overrides(method, "survey_due")
        if asks and getattr(method, "survey_every_epochs", 1) is not None:
            seen.append(SURVEY)
        seen += parts.seen
        seen += [f"{name} of the batch" for name in method.wants if name not in usual]
    return tuple(dict.fromkeys(seen))


@dataclass
class _Parts:
    """A class, its arguments, and what these were made from."""

    kind: type[gr.Method]
    spec: CurriculumSpec
    arguments: dict[str, Any] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def make(self) -> gr.Method:
        return self.kind(**self.arguments)


def _trial(
    spec: CurriculumSpec, kind: str, modality: str | None
) -> tuple[_Parts, gr.Method, CurriculumSpec]:
    size = 4096
    labels = torch.arange(size) % 10
    if kind != "classification":
        labels = torch.stack([labels % 2, labels // 2 % 2], 1).float()
    samples = Samples(torch.zeros(size, 4), labels)
    context = _StandIn(samples, 0, 10, kind, modality or "any")
    try:
        parts = _assembled(spec, context)
        return parts, parts.make(), parts.spec
    except (ValueError, TypeError) as error:
        line = " ".join(str(error).split())
        if line.startswith("curricula "):
            raise
        refused = TypeError if isinstance(error, TypeError) else ValueError
        raise refused(f"curricula must be buildable. Got {spec.label}: {line}") from error
    except Exception as error:  # whatever a user's class does
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise refusal("curricula", "buildable", f"{spec.label}: {line}") from error


class _StandIn(Context):
    """A context in which nothing is computed: what is checked are names and ranges."""

    def score(self, name: str) -> torch.Tensor:
        if self.modality == "any":
            if name not in SCORES:
                self.check_score(name)
        else:
            self.check_score(name)
        return torch.arange(len(self.training), dtype=torch.float64)


def _assembled(spec: CurriculumSpec, context: Context) -> _Parts:
    kind, spec, preset = find_method(spec)
    ours = ":" not in spec.name
    known = inspect.signature(kind).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    known = {
        name: parameter
        for name, parameter in known.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    parts = _Parts(kind, spec, dict(preset))
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
        source = _SOURCES.get(name) if ours or name != "epochs" else None
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


def _given(name: str, value: Any, context: Context, parts: _Parts, ours: bool) -> Any:
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
    if name in LABELS and value == "labels":
        parts.seen.append(f"training labels, {LABELS[name]}")
        return context.groups
    return list(value) if isinstance(value, tuple) else value


def _wanted(kind: type[gr.Method], name: str, given: Mapping[str, Any]) -> bool:
    """Whether a parameter with a default is filled in all the same: in our own methods only."""
    if name == "pace":
        return given.get("growth") is None  # which paces as well, and excludes a pace
    if name == "score":
        return given.get("order") != "random" and issubclass(kind, gr.Predefined)
    if name in _SCHEDULES.get(kind, ()):
        return True
    return name == "survey_every_epochs" and issubclass(kind, SelfPaced)


def _teacher(context: Context, parts: _Parts) -> torch.Tensor:
    parts.seen.append(SCORES["teacher"][1])
    return context.score("teacher")


def _labels(name: str) -> Callable[[Context, _Parts], torch.Tensor]:
    def source(context: Context, parts: _Parts) -> torch.Tensor:
        parts.seen.append(f"training labels, {LABELS[name]}")
        return context.groups

    return source


def _inputs(context: Context, parts: _Parts) -> torch.Tensor:
    parts.seen.append("training inputs")
    return context.training.features


_SCHEDULES: dict[type[gr.Method], tuple[str, ...]] = {
    gr.DIHCL: ("warmup_epochs",),
    gr.DoCL: ("episodes", "task"),
    gr.DoCLBaseline: ("episodes",),
    gr.MCL: ("inner_epochs", "function"),
    gr.LeRaC: ("epochs",),
    gr.CBS: ("planned_epochs",),
}
"""Parameters whose defaults are for the papers' hundreds of epochs, or for one kind of data."""

_SOURCES: dict[str, Callable[[Context, _Parts], Any]] = {
    "score": _teacher,
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
    "planned_epochs": lambda context, parts: max(1, round(context.budget_epochs)),
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
    written = {"score": "teacher", "pace": SHARED, "survey_every_epochs": "1"}
    if name in _SCHEDULES.get(method, ()):
        return DATA if name in ("function", "task") else BUDGET
    return written.get(name, "(from the data)")


def _recipe(name: str) -> Recipe:
    spec = CurriculumSpec(name)
    return Recipe(functools.partial(_from_spec, spec), sees(spec))


def _from_spec(spec: CurriculumSpec, context: Context) -> gr.Method:
    return _assembled(spec, context).make()


CURRICULA: dict[str, Recipe] = {
    name: _recipe(name)
    for name in ("uniform", "paced_random", "predefined", ANTI, "spl", "spld", "super_loss")
}
"""What runs where no curricula are named."""
