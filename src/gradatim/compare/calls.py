"""What a user's ``name(parameter=value)`` becomes: a name, plain values, and a label.

Nothing here knows what the names mean, and nothing is evaluated.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from gradatim.validation import refusal

__all__ = ["CONSTANTS", "NAME", "NUMBER", "PARAMETER", "RULE", "WORD", "Call", "CurriculumSpec"]

RULE = "names, each alone or as name(parameter=value, ...), joined by +, with commas between"
LONGEST_SLUG = 80

NAME = re.compile(r"[^\W\d][\w-]*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?")
PARAMETER = re.compile(r"[^\W\d]\w*")
NUMBER = re.compile(r"[+-]?([0-9]+(_[0-9]+)*|[0-9]*\.[0-9]+|[0-9]+\.)([eE][+-]?[0-9]+)?")
# A bare word may hold what paths and names hold, but nothing that ends a value.
WORD = re.compile(r"[^\s,=()\[\]{}'\"]+")
CONSTANTS: dict[str, bool | None] = {
    "True": True,
    "true": True,
    "False": False,
    "false": False,
    "None": None,
}

_SAFE = re.compile(r"[A-Za-z0-9_(][A-Za-z0-9_.,=()+-]*(?<!\.)")


@dataclass(frozen=True)
class Call:
    """A name with parameters, as a pace inside a curriculum.

    Attributes:
        name: as given.
        parameters: (name, value) pairs in the order given; values are numbers, strings, booleans,
            None, tuples of them, and calls.

    Raises:
        ValueError: a name that cannot be written, a parameter given twice, a number that is not
            finite.
        TypeError: a value of another kind.

    Example:
        >>> print(Call("linear", (("start_fraction", 0.3), ("epochs", 10))))
        linear(start_fraction=0.3,epochs=10)
    """

    name: str
    parameters: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise refusal("curricula", RULE, repr(self.name))
        seen = set()
        for name, value in self.parameters:
            if not isinstance(name, str) or not PARAMETER.fullmatch(name):
                raise refusal("curricula", RULE, f"the parameter {name!r} of {self.name}")
            if name in seen or name in ("name", "label", "also"):
                got = f"{name} {'twice' if name in seen else 'as a parameter'} in {self.name}"
                raise refusal("curricula", "given each parameter once, by its name", got)
            seen.add(name)
            _check_value(f"{self.name}({name})", value)

    def __str__(self) -> str:
        """Write the call so that `parse_curricula` reads it back."""
        return self.name + _written_parameters(self.parameters)


Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | Call | None"


@dataclass(frozen=True)
class CurriculumSpec(Call):
    """One curriculum of a comparison as it was asked for.

    Attributes:
        also: further methods in the same curriculum, written ``lerac+cbs(sigma=0.8)``.
        label: what tables call it; unique in a comparison. By default what ``str`` gives.

    Example:
        >>> spec = CurriculumSpec("spl", (("form", "linear"), ("warmup_epochs", 2)))
        >>> spec.label
        'spl(form=linear,warmup_epochs=2)'
        >>> CurriculumSpec.from_dict(spec.as_dict()) == spec
        True
    """

    also: tuple[Call, ...] = ()
    label: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.also
        if not isinstance(given, tuple) or not all(isinstance(part, Call) for part in given):
            cause = 'As in also = [{name = "cbs"}].'
            got = str(given) if isinstance(given, Call) else repr(given)
            raise TypeError(str(refusal(f"also of {self.name}", "a list of tables", got, cause)))
        if not isinstance(self.label, str):
            raise TypeError(str(refusal(f"label of {self.name}", "a string", repr(self.label))))
        if not self.label.strip():
            object.__setattr__(self, "label", self._plain())
        if not self.label.isprintable():
            raise refusal(f"label of {self.name}", "one line of printable text", repr(self.label))

    def _plain(self) -> str:
        return "+".join([self.name + _written_parameters(self.parameters), *map(str, self.also)])

    def __str__(self) -> str:
        """Write the specification so that `parse_curricula` reads it back, label included."""
        own = () if self.label == self._plain() else (("label", self.label),)
        first = self.name + _written_parameters((*self.parameters, *own))
        return "+".join([first, *map(str, self.also)])

    @property
    def parts(self) -> tuple[CurriculumSpec, ...]:
        """One specification per method."""
        calls = (self, *self.also)
        return tuple(CurriculumSpec(call.name, call.parameters) for call in calls)

    @property
    def slug(self) -> str:
        """The label as a folder's name: itself if it is safe on every system, else made so."""
        if _SAFE.fullmatch(self.label) and len(self.label) <= LONGEST_SLUG:
            return self.label
        digest = hashlib.blake2b(self.label.encode(), digest_size=4).hexdigest()
        safe = re.sub(r"[^A-Za-z0-9_.,=()+]+", "-", self.label).strip("-.")
        return f"{safe[: LONGEST_SLUG - 9]}-{digest}".lstrip("-")

    def renamed(self, name: str, *also: str) -> CurriculumSpec:
        """Spell the name otherwise; a label that was made from it follows.

        Args:
            name: the new spelling.
            also: those of the further methods; none leaves them as they are.

        Example:
            >>> str(CurriculumSpec("SuperLoss", (("lam", 2.0),)).renamed("super_loss"))
            'super_loss(lam=2.0)'
        """
        label = "" if self.label == self._plain() else self.label
        further = self.also
        if also:
            pairs = zip(also, self.also, strict=True)
            further = tuple(Call(other, call.parameters) for other, call in pairs)
        return replace(self, name=name, also=further, label=label)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON and TOML hold: a table with the name, the label and each parameter.

        Example:
            >>> CurriculumSpec("spl", (("form", "linear"),), label="soft").as_dict()
            {'name': 'spl', 'label': 'soft', 'form': 'linear'}
        """
        label = {} if self.label == self._plain() else {"label": self.label}
        also = {"also": [_plain_value(call) for call in self.also]} if self.also else {}
        return {"name": self.name, **label, **also, **_plain_parameters(self.parameters)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> CurriculumSpec:
        """Read what `as_dict` gave, or a user's TOML table.

        Args:
            table: ``name``, optionally ``label`` and ``also`` (tables of further methods), and the
                curriculum's parameters. Lists become tuples, tables with a ``name`` become nested
                calls.

        Raises:
            ValueError: no name, or one that cannot be read.
            TypeError: a value that is no number, string, boolean or list of them.

        Example:
            >>> print(CurriculumSpec.from_dict({"name": "spl", "pace": {"name": "root"}}))
            spl(pace=root())
        """
        name, parameters = _split_table(table)
        label = parameters.pop("label", "")
        also = parameters.pop("also", ())
        return cls(name, tuple(parameters.items()), also=also, label=label)


def _check_value(where: str, value: Any) -> None:
    if isinstance(value, tuple):
        for part in value:
            _check_value(where, part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise refusal(where, "a finite number", value)
    elif isinstance(value, str):
        if not value.isprintable():  # labels hold values, and are one line of a table
            raise refusal(where, "one line of printable text", repr(value))
    elif not isinstance(value, bool | int | float | Call | None):
        rule = "a number, string, boolean, list or name(parameter=value, ...)"
        raise TypeError(str(refusal(where, rule, type(value).__name__)))


def _written_parameters(parameters: Iterable[tuple[str, Value]]) -> str:
    written = ",".join(f"{name}={_written(value)}" for name, value in parameters)
    return f"({written})" if written else ""


def _written(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, Call):
        return str(value) if value.parameters else f"{value.name}()"
    if not isinstance(value, str):
        return repr(value)
    bare = WORD.fullmatch(value) and not NUMBER.fullmatch(value) and value not in CONSTANTS
    if bare and "\\" not in value:
        return value
    return "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"


def _plain_parameters(parameters: Iterable[tuple[str, Value]]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in parameters}


def _plain_value(value: Value) -> Any:
    if isinstance(value, tuple):
        return [_plain_value(part) for part in value]
    if isinstance(value, Call):
        return {"name": value.name, **_plain_parameters(value.parameters)}
    return value


def _split_table(table: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if "name" not in table:
        shown = json.dumps(dict(table), default=str)
        raise refusal("curricula", "tables with a name", shown, 'As in {name = "spl"}.')
    values = {key: _value_of(value) for key, value in table.items() if key != "name"}
    return table["name"], values


def _value_of(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_value_of(part) for part in value)
    if isinstance(value, Mapping):
        name, parameters = _split_table(value)
        return Call(name, tuple(parameters.items()))
    return value
