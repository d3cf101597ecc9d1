"""Curricula as users write them: ``spl,dihcl(hardness=flip,pace=linear(epochs=5))``.

Reading decides nothing about what the names mean; `gradatim.compare.curricula` does. Nothing is
evaluated: a specification holds names, numbers, strings and lists of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from gradatim.compare.calls import (
    CONSTANTS,
    NAME,
    NUMBER,
    PARAMETER,
    RULE,
    WORD,
    Call,
    CurriculumSpec,
    Value,
)
from gradatim.validation import refusal

__all__ = ["Call", "CurriculumSpec", "distinct", "parse_call", "parse_curricula", "read_curricula"]

DEEPEST = 20  # nested parentheses; more is a mistake, and would be one for the interpreter too

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_SPACE = re.compile(r"\s*")


def parse_curricula(text: str) -> tuple[CurriculumSpec, ...]:
    """Read a list of curricula as it stands on a command line.

    Bare words are strings, as is what stands in quotes; ``True``, ``False`` and ``None`` are what
    they are in Python; lists stand in brackets or parentheses. ``label=`` names the curriculum in
    tables. ``+`` joins methods in one curriculum. Commas inside parentheses, brackets and quotes
    separate no curricula.

    Args:
        text: such as ``"uniform,spl(form=linear),my.module:Class(alpha=.1)"``.

    Returns:
        One specification per entry, in order.

    Raises:
        ValueError: it cannot be read, with the place; or two entries that are the same.

    Example:
        >>> [spec.label for spec in parse_curricula("uniform, dihcl(hardness=flip,decay=.9)")]
        ['uniform', 'dihcl(hardness=flip,decay=0.9)']
        >>> parse_curricula("uniform,spl(form=linear")
        Traceback (most recent call last):
        ValueError: curricula must be names, ... with commas between. Got 'uniform,spl(form=linear'.
        At character 12 the parenthesis is never closed.
    """
    if not isinstance(text, str):
        raise TypeError(str(refusal("curricula", "a string", type(text).__name__)))
    if not text.strip():
        raise refusal("curricula", "one or more different names", "none")
    return distinct(_Reader(text).curricula())


def read_curricula(
    entries: str | Iterable[str | Mapping[str, Any] | CurriculumSpec],
) -> tuple[CurriculumSpec, ...]:
    """Read curricula from a command line, from a TOML list, or as they are.

    Args:
        entries: one string for `parse_curricula`; or several entries, each a string of one or more
            curricula, a table for `CurriculumSpec.from_dict`, or a specification.

    Returns:
        One specification per curriculum, in order.

    Raises:
        ValueError: as `parse_curricula`.
        TypeError: an entry of another kind.

    Example:
        >>> found = read_curricula(["spl", {"name": "spl", "form": "linear", "label": "soft"}])
        >>> [spec.label for spec in found]
        ['spl', 'soft']
    """
    if isinstance(entries, str):
        return parse_curricula(entries)
    found: list[CurriculumSpec] = []
    for entry in entries:
        if isinstance(entry, CurriculumSpec):
            found.append(entry)
        elif isinstance(entry, str):
            found.extend(parse_curricula(entry))
        elif isinstance(entry, Mapping):
            found.append(CurriculumSpec.from_dict(entry))
        else:
            raise TypeError(str(refusal("curricula", "strings or tables", type(entry).__name__)))
    if not found:
        raise refusal("curricula", "one or more different names", "none")
    return distinct(found)


def parse_call(text: str) -> Call:
    """Read one name with parameters, as a pace is written.

    Args:
        text: such as ``"linear(epochs=5)"``.

    Raises:
        ValueError: it cannot be read, or is more than one.

    Example:
        >>> parse_call("linear(epochs=5)").parameters
        (('epochs', 5),)
    """
    first, *others = parse_curricula(text)
    if others or first.also:
        raise refusal("curricula", "a single name where one is meant", repr(text))
    return Call(first.name, first.parameters)


def distinct(specs: Iterable[CurriculumSpec]) -> tuple[CurriculumSpec, ...]:
    """Refuse curricula that share a label, or a folder on some system.

    Args:
        specs: in any number.

    Returns:
        The same.

    Raises:
        ValueError: two are the same.

    Example:
        >>> len(distinct(parse_curricula("spl,uniform")))
        2
    """
    specs = tuple(specs)
    # Folders of labels that differ by case alone would be one folder on some systems.
    seen: dict[str, CurriculumSpec] = {}
    for spec in specs:
        other = seen.setdefault(spec.slug.casefold(), spec)
        if other is not spec:
            got = ",".join(found.label for found in specs)
            cause = f"{spec.label!r} is there twice: give one a label=."
            raise refusal("curricula", "one or more different names", got, cause)
    return specs


class _Reader:
    """Reads a specification from left to right; every error names the character it stands at."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def curricula(self) -> list[CurriculumSpec]:
        found = []
        while True:
            self._skip()
            if self.at == len(self.text) or self.text[self.at] == ",":
                self._fail("an entry is empty")
            start = self.at
            name, parameters = self._name(), []
            if self._next("("):
                parameters = self._parameters(start=self.at - 1)
            label = dict(parameters).get("label", "")
            rest = tuple(pair for pair in parameters if pair[0] != "label")
            if not isinstance(label, str):
                self._fail("the label is no string; put it in quotes", start)
            also = self._also()
            found.append(CurriculumSpec(name, rest, also=also, label=label))
            if self.at == len(self.text):
                return found
            if not self._next(","):
                sign = self.text[self.at]
                self._fail(f"{sign!r} closes nothing" if sign in ")]" else "a comma is missing")

    def _also(self) -> tuple[Call, ...]:
        """Read the methods that follow, each after a ``+``."""
        found = []
        while self._next("+"):
            self._skip()
            name = self._name()
            parameters = self._parameters(start=self.at - 1) if self._next("(") else []
            if "label" in dict(parameters):
                self._fail("the label stands with the first method")
            found.append(Call(name, tuple(parameters)))
        return tuple(found)

    def _parameters(self, start: int) -> list[tuple[str, Value]]:
        """Read what stands after an opening parenthesis, and the closing one."""
        self._deeper(start)
        found: list[tuple[str, Value]] = []
        if self._next(")"):
            self.depth -= 1
            return found
        while True:
            self._skip()
            here = self.at
            match = PARAMETER.match(self.text, here)
            self.at = match.end() if match else here
            if match is None or not self._next("="):
                self._check_open(start, ")")
                self._fail("a parameter must be written as parameter=value", here)
            if match[0] in dict(found):
                self._fail(f"{match[0]} is given twice", here)
            if match[0] == "name":
                self._fail("no parameter can be called name", here)
            found.append((match[0], self._value()))
            if self._next(")"):
                self.depth -= 1
                return found
            if not self._next(","):
                self._check_open(start, ")")
                self._fail("a comma or a closing parenthesis is missing")

    def _value(self) -> Value:
        self._skip()
        start = self.at
        if start < len(self.text) and self.text[start] in "([":
            self.at += 1
            return self._sequence(start, ")" if self.text[start] == "(" else "]")
        quoted = _QUOTED.match(self.text, start)
        if quoted:
            self.at = quoted.end()
            return re.sub(r"\\(.)", r"\1", quoted[0][1:-1], flags=re.DOTALL)
        word = WORD.match(self.text, start)
        if word is None:
            broken = start < len(self.text) and self.text[start] in "'\""
            self._fail("a quote is never closed" if broken else "a value is missing")
        self.at = word.end()
        if NAME.fullmatch(word[0]) and self._next("("):
            return Call(word[0], tuple(self._parameters(start=self.at - 1)))
        if word[0] in CONSTANTS:
            return CONSTANTS[word[0]]
        if not NUMBER.fullmatch(word[0]):
            return word[0]
        try:
            number: int | float = int(word[0])
        except ValueError:
            number = float(word[0])
        if not math.isfinite(number):
            self._fail("a number is too large", start)
        return number

    def _sequence(self, start: int, closing: str) -> tuple[Value, ...]:
        self._deeper(start)
        found: list[Value] = []
        while not self._next(closing):
            found.append(self._value())
            if not self._next(","):
                if self._next(closing):
                    break
                self._check_open(start, closing)
                self._fail(f"a comma or {closing!r} is missing")
        self.depth -= 1
        return tuple(found)

    def _name(self) -> str:
        match = NAME.match(self.text, self.at)
        if match is None:
            self._fail("a name is missing")
        self.at = match.end()
        return match[0]

    def _skip(self) -> None:
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at

    def _next(self, sign: str) -> bool:
        """Step over ``sign`` if it comes next."""
        self._skip()
        found = self.text.startswith(sign, self.at)
        self.at += found
        return found

    def _deeper(self, start: int) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(f"parentheses are nested more than {DEEPEST} deep", start)

    def _check_open(self, start: int, closing: str) -> None:
        if self.at == len(self.text):
            kind = "parenthesis" if closing == ")" else "bracket"
            self._fail(f"the {kind} is never closed", start)

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        place = (self.at if at is None else at) + 1
        raise refusal("curricula", RULE, repr(self.text), f"At character {place} {reason}.")
