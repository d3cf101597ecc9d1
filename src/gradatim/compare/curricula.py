"""The curricula of `gradatim compare`: by name, how to build each for one training set.

A name is that of a method of gradatim in any spelling, ``anti``, or ``package.module:Class``. What
a method needs and the user does not give is filled in from the data: a score from a teacher,
groups from the training labels, a pace from the budget. All that are paced share one pace, so that
the paced random control has the same subset sizes and only membership differs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

import gradatim as gr
from gradatim.compare.assembly import Parts, assembled, filled
from gradatim.compare.contexts import SCORES, Context
from gradatim.compare.data import Samples
from gradatim.compare.names import ANTI, known_methods, spelling
from gradatim.compare.reading import needs_hidden
from gradatim.compare.specs import CurriculumSpec, distinct
from gradatim.compare.teachers import teacher_scores
from gradatim.method import overrides
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
    "check_attach",
    "filled",
    "known_methods",
    "reads_hidden",
    "sees",
    "spelling",
    "teacher_scores",
    "touches_model",
]

BASELINE = "uniform"
CONTROLS = (BASELINE, "paced_random")

SURVEY = "losses of the whole training set before an epoch"
HIDDEN = "hidden states of the whole training set before an epoch"


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
        own = assembled(part, context).make() if recipe is None else recipe.build(context)
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


def touches_model(spec: CurriculumSpec, *, kind: str = "classification") -> bool:
    """Tell whether a curriculum wants the model and its optimizer.

    Args:
        spec: what was asked for.
        kind: of the task.

    Example:
        >>> touches_model(CurriculumSpec("lerac")), touches_model(CurriculumSpec("spl"))
        (True, False)
    """
    return any(overrides(_trial(part, kind, None)[1], "attach") for part in spec.parts)


def reads_hidden(spec: CurriculumSpec, *, kind: str = "classification") -> bool:
    """Tell whether a curriculum reads hidden states of texts.

    Args:
        spec: what was asked for.
        kind: of the task.

    Example:
        >>> reads_hidden(CurriculumSpec("spdcl")), reads_hidden(CurriculumSpec("spl"))
        (True, False)
    """
    return needs_hidden([_trial(part, kind, None)[1] for part in spec.parts])


def check_attach(
    spec: CurriculumSpec, model: Any, optimizer: Any, *, kind: str = "classification"
) -> None:
    """Refuse a curriculum that cannot work on a model, before anything is trained.

    Args:
        spec: what was asked for.
        model: a module; as it was afterwards.
        optimizer: of its parameters; likewise.
        kind: of the task.

    Raises:
        ValueError: a method refuses them.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> check_attach(CurriculumSpec("cbs"), model, torch.optim.SGD(model.parameters(), lr=0.1))
        Traceback (most recent call last):
        ValueError: curricula must be able to work on the model. Got cbs: model must be ...
    """
    curriculum = gr.Curriculum(*(_trial(part, kind, None)[1] for part in spec.parts))
    try:
        curriculum.attach(model=model, optimizer=optimizer).detach()
    except (ValueError, TypeError, RuntimeError) as error:
        line = " ".join(str(error).split())
        got = f"{spec.label}: {line}"
        raise refusal("curricula", "able to work on the model", got) from error


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
            seen.append(HIDDEN if needs_hidden([method]) else SURVEY)
        seen += parts.seen
        seen += [f"{name} of the batch" for name in method.wants if name not in usual]
    return tuple(dict.fromkeys(seen))


def _trial(
    spec: CurriculumSpec, kind: str, modality: str | None
) -> tuple[Parts, gr.Method, CurriculumSpec]:
    size = 4096
    labels = torch.arange(size) % 10
    if kind != "classification":
        labels = torch.stack([labels % 2, labels // 2 % 2], 1).float()
    samples = Samples(torch.zeros(size, 4), labels)
    context = _StandIn(samples, 0, 10, kind, modality or "any")
    try:
        parts = assembled(spec, context)
        method = parts.make()
        if kind != "classification" and isinstance(method, gr.DataParameters):
            rule = f"able to learn from {kind}"
            raise refusal("curricula", rule, spec.label, "It divides the logits of classes.")
        return parts, method, parts.spec
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


def _recipe(name: str) -> Recipe:
    spec = CurriculumSpec(name)
    return Recipe(functools.partial(_from_spec, spec), sees(spec))


def _from_spec(spec: CurriculumSpec, context: Context) -> gr.Method:
    return assembled(spec, context).make()


CURRICULA: dict[str, Recipe] = {
    name: _recipe(name)
    for name in ("uniform", "paced_random", "predefined", ANTI, "spl", "spld", "super_loss")
}
"""What runs where no curricula are named."""
