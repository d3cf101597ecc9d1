"""Lets the docs show docstrings that are written to be read in a terminal first."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Rules in this order; each is (what stands in a docstring, what Markdown or griffe needs).
RULES = [
    # The section that griffe knows by another word; doctests would be set as quotations.
    (r"^Example:$", "Examples:"),
    # A section whose title griffe does not take for one, because of the apostrophe.
    (r"^(Differences from the authors' code):$", r'!!! note "\1"\n'),
    # `::` announces an indented block, which Markdown knows by its indentation.
    (r" ?::$", ":"),
    # A role before a name.
    (r":(?:class|func|meth|mod|data|attr):`~?([^`]+)`", r"`\1`"),
]
GRID = re.compile(r"=+ +=[= ]*\n")


def readable(text: str) -> str:
    """A docstring with what Markdown would not understand put as it does."""
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    paragraphs = text.split("\n\n")
    return "\n\n".join(drawing(part) if GRID.match(part) else part for part in paragraphs)


def drawing(table: str) -> str:
    """A table drawn with `=`, as a block that keeps its spaces."""
    return re.sub("^", "    ", table, flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
