"""Names and what they mean: gradatim's methods and paces, and users' own classes."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import gradatim as gr
from gradatim.compare.loading import load
from gradatim.compare.specs import Call, CurriculumSpec
from gradatim.validation import refusal

__all__ = [
    "ANTI",
    "find_method",
    "known_methods",
    "known_paces",
    "make_pace",
    "nearest",
    "spelling",
]

ANTI = "anti"
FIRST = ("Uniform", "PacedRandom", "Predefined")  # in lists: the controls, and the plain one


def spelling(name: str) -> str:
    """Read ``SuperLoss``, ``super_loss`` and ``super-loss`` alike.

    Args:
        name: any.

    Returns:
        Its letters and digits, in lower case.

    Example:
        >>> spelling("SuperLoss") == spelling("super_loss")
        True
    """
    return name.replace("_", "").replace("-", "").lower()


def nearest(name: str, known: Mapping[str, str] | Iterable[str]) -> str:
    """Ask whether a known name was meant.

    Args:
        name: what was given.
        known: names, or names by their spelling.

    Returns:
        A question, or nothing if no known name is near.

    Example:
        >>> nearest("frm", ["form", "pace"]), nearest("x", ["form"])
        ("Did you mean 'form'?", '')
    """
    near = difflib.get_close_matches(name, known, n=1)
    if not near:
        return ""
    found = known[near[0]] if isinstance(known, Mapping) else near[0]
    return f"Did you mean {found!r}?"


def known_methods() -> dict[str, type[gr.Method]]:
    """List gradatim's methods as `gradatim compare` names them.

    Returns:
        Classes by name, the controls first: ``SuperLoss`` is ``super_loss``, ``SPL`` is ``spl``.

    Example:
        >>> list(known_methods())[:3], known_methods()["super_loss"].__name__
        (['uniform', 'paced_random', 'predefined'], 'SuperLoss')
    """
    public = {name: getattr(gr, name) for name in gr.__all__}
    methods = {
        name: thing
        for name, thing in public.items()
        if isinstance(thing, type) and issubclass(thing, gr.Method) and thing is not gr.Method
    }
    order = [name for name in FIRST if name in methods]
    order += [name for name in methods if name not in order]
    return {_snake(name): methods[name] for name in order}


def _snake(name: str) -> str:
    words = re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", name)
    # LeRaC is one word, whatever its capitals say.
    return ("_" if min(map(len, words)) > 2 else "").join(words).lower()


def find_method(
    spec: CurriculumSpec,
) -> tuple[type[gr.Method], CurriculumSpec, Mapping[str, Any]]:
    """Find what a curriculum's name means.

    Args:
        spec: what was asked for.

    Returns:
        The class, the specification with the name as `gradatim methods` spells it, and the
        arguments that the name itself decides.

    Raises:
        ValueError: an unknown name, or a class that is no `gradatim.Method`.

    Example:
        >>> find_method(CurriculumSpec("SuperLoss"))[1].name
        'super_loss'
        >>> find_method(CurriculumSpec("anti"))[2]
        {'order': 'anti'}
    """
    if ":" in spec.name:
        kind = load(spec.name, name="curricula")
        if not isinstance(kind, type) or not issubclass(kind, gr.Method):
            raise refusal("curricula", "subclasses of gradatim.Method", repr(spec.name))
        return kind, spec, {}
    known = known_methods()
    names = {spelling(name): name for name in (*known, ANTI)}
    if spelling(spec.name) not in names:
        cause = nearest(spelling(spec.name), names)
        if "." in spec.name:
            module, _, attribute = spec.name.rpartition(".")
            cause = f"Did you mean {f'{module}:{attribute}'!r}?"
        listed = ", ".join(repr(name) for name in names.values())
        raise refusal(
            "curricula", f"one of {listed}, or package.module:Class", repr(spec.name), cause
        )
    name = names[spelling(spec.name)]
    if name == ANTI:
        return gr.Predefined, spec.renamed(name), {"order": "anti"}
    return known[name], spec.renamed(name), {}


def known_paces() -> dict[str, Any]:
    """List the paces of `gradatim.pacing`.

    Returns:
        Classes by name: ``BabySteps`` is ``baby_steps``.

    Example:
        >>> known_paces()["baby_steps"].__name__
        'BabySteps'
    """
    return {_snake(name): getattr(gr.pacing, name) for name in gr.pacing.__all__ if name != "Pace"}


def make_pace(call: Call) -> Any:
    """Make a pace from how it was written.

    Args:
        call: a pace of `gradatim.pacing` in any spelling, or ``package.module:Class``.

    Raises:
        ValueError: an unknown name or parameter, or a value out of range.
        TypeError: a value of the wrong kind, or a parameter missing.

    Example:
        >>> make_pace(Call("linear", (("epochs", 5),)))
        Linear(start_fraction=0.01, epochs=5.0)
    """
    if ":" in call.name:
        kind = load(call.name, name="pace")
    else:
        paces = known_paces()
        names = {spelling(name): name for name in paces}
        if spelling(call.name) not in names:
            cause = nearest(spelling(call.name), names)
            raise refusal("pace", f"one of {', '.join(map(repr, paces))}", repr(call.name), cause)
        kind = paces[names[spelling(call.name)]]
    given = {name: make_pace(v) if isinstance(v, Call) else v for name, v in call.parameters}
    known = inspect.signature(kind).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for name in given:
        if name not in known and not free:
            rule = f"given parameters that {call.name} has: {', '.join(known)}"
            raise refusal("pace", rule, repr(name), nearest(name, known))
    return kind(**given)
