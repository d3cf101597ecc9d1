"""What `gradatim methods` prints: each method by the name that `--curricula` takes."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import gradatim as gr
from gradatim.citations import REFERENCES, Reference
from gradatim.compare.curricula import filled
from gradatim.compare.names import ANTI, known_methods, spelling
from gradatim.validation import refusal

__all__ = ["Entry", "methods", "show"]

WIDTH = 100
INDENT = 16

HEAD = (
    "Curricula, as --curricula takes them: by these names, as package.module:Class, or as anti, "
    "which is predefined with order=anti. Parameters go in parentheses: "
    "spl(form=linear,warmup_epochs=2); among them, label=NAME is what tables call it."
)
FILLED = (
    "A comparison fills in what is not given. score=teacher: 1 - p(y) of a small model that was "
    "trained without the sample; also length and rarity of texts, complexity of images. "
    "pace=shared: half of the data at first, all of them when half of the budget is spent; also "
    "any of gradatim.pacing, as pace=root(epochs=5). groups=labels: the training labels. "
    "=budget and =data: warm-ups, episodes and rounds that fit the budget, what suits the data."
)
FOOT = "`gradatim methods NAME` explains parameters; `gradatim cite NAME` prints BibTeX."


@dataclass(frozen=True)
class Entry:
    """One method of the list.

    Attributes:
        name: as `--curricula` takes it.
        method: the class.
        summary: what it does, in one line.
        parameters: names, and what holds where nothing is given: what a comparison fills in, else
            the default; "" where there is neither.
        papers: authors and year of each.

    Example:
        >>> uniform = methods()[0]
        >>> uniform.name, uniform.parameters, uniform.papers
        ('uniform', (), ())
    """

    name: str
    method: type[gr.Method]
    summary: str
    parameters: tuple[tuple[str, str], ...] = ()
    papers: tuple[str, ...] = ()


def methods() -> list[Entry]:
    """List gradatim's methods, the controls first.

    Returns:
        One entry per method.

    Example:
        >>> [entry.name for entry in methods()][:3]
        ['uniform', 'paced_random', 'predefined']
    """
    return [_entry(name, method) for name, method in known_methods().items()]


def show(names: Sequence[str] = ()) -> str:
    """Write the list of methods, or some of them in detail.

    Args:
        names: in any spelling; none lists all.

    Returns:
        Lines of at most 100 columns.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> print(show(["uniform"]))
        uniform (gradatim.Uniform)
          Plain shuffling: every sample once per epoch, in a seeded random order, with weight 1.
          ...
          Parameters: none.
          Papers: none.
    """
    entries = methods()
    if names:
        return "\n\n".join(_detail(_find(name, entries)) for name in names)
    notes = (HEAD, *map(_short, entries), FILLED, FOOT)
    blocks = [note if "\n" in note else textwrap.fill(note, WIDTH) for note in notes]
    return "\n\n".join(blocks)


def _entry(name: str, method: type[gr.Method]) -> Entry:
    own = method.__init__ is not gr.Method.__init__
    known = inspect.signature(method).parameters.values() if own else ()
    parameters = tuple(
        (p.name, filled(method, p.name) or ("" if p.default is p.empty else _default(p.default)))
        for p in known
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    )
    summary = (inspect.getdoc(method) or "").partition("\n")[0]
    return Entry(name, method, summary, parameters, tuple(map(_paper, method.references)))


def _default(value: object) -> str:
    return value if isinstance(value, str) and value.isidentifier() else repr(value)


def _paper(key: str | Reference) -> str:
    """Shorten a paper to what a text would say: "Kumar et al. 2010"."""
    paper = REFERENCES[key] if isinstance(key, str) else key
    families = [author.partition(",")[0] for author in paper.authors]
    if len(families) > 2:
        return f"{families[0]} et al. {paper.year}"
    return f"{' and '.join(families)} {paper.year}"


def _short(entry: Entry) -> str:
    written = [f"{name}={default}" if default else name for name, default in entry.parameters]
    lines = _wrapped(entry.name, entry.summary, INDENT)
    if written:
        lines += _wrapped("", ", ".join(written), INDENT)
    if entry.papers:
        lines += _wrapped("", "; ".join(entry.papers), INDENT)
    return "\n".join(lines)


def _wrapped(head: str, text: str, indent: int) -> list[str]:
    """Break a text into lines that start at one column, beside a head that may stand alone."""
    margin = " " * indent
    fits = len(head) < indent
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head.ljust(indent) if fits else margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines if fits else [head, *lines]


def _detail(entry: Entry) -> str:
    method = entry.method
    lines = [f"{entry.name} ({method.__module__.partition('.')[0]}.{method.__name__})"]
    before, arguments = _explained(method)
    for paragraph in before:
        # What the author indented or laid out by hand stays as it is.
        by_hand = any(line.startswith(" ") for line in paragraph)
        lines += [f"  {line}".rstrip() for line in paragraph] if by_hand else _filled(paragraph)
        lines.append("")
    lines.append("  Parameters:" if entry.parameters else "  Parameters: none.")
    for name, default in entry.parameters:
        head = f"    {name}={default}" if default else f"    {name}"
        text = arguments.get(name, "")
        lines.append(head)
        lines += textwrap.wrap(text, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    papers = [REFERENCES[key] if isinstance(key, str) else key for key in method.references]
    lines.append("  Papers:" if papers else "  Papers: none.")
    for paper, short in zip(papers, entry.papers, strict=True):
        text = f"{short}: {paper.title}. {paper.venue}."
        lines += textwrap.wrap(text, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)
    return "\n".join(lines)


def _filled(paragraph: list[str]) -> list[str]:
    text = re.sub(":+$", ":", " ".join(paragraph)).replace("``", "")
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _explained(method: type[gr.Method]) -> tuple[list[list[str]], dict[str, str]]:
    """Take a docstring apart: its paragraphs before the first section, and its Args by name."""
    lines = (inspect.getdoc(method) or "").splitlines()
    sections = [i for i, line in enumerate(lines) if re.fullmatch(r"[A-Z][A-Za-z' ]*:", line)]
    end = sections[0] if sections else len(lines)
    text = "\n".join(lines[:end]).strip()
    before = [part.splitlines() for part in re.split(r"\n\s*\n", text)] if text else []
    arguments: dict[str, str] = {}
    if "Args:" not in lines:
        return before, arguments
    name = ""
    for line in lines[lines.index("Args:") + 1 :]:
        if line and not line.startswith(" "):
            break
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name = entry[1]
            arguments[name] = entry[2]
        elif name and line.strip():
            arguments[name] += " " + line.strip()
    return before, {name: text.replace("``", "") for name, text in arguments.items()}


def _find(name: str, entries: Sequence[Entry]) -> Entry:
    known = {spelling(entry.name): entry for entry in entries}
    known |= {spelling(entry.method.__name__): entry for entry in entries}
    wanted = "predefined" if spelling(name) == ANTI else spelling(name)
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        cause = f"Did you mean {known[near[0]].name!r}?" if near else ""
        raise refusal("name", "a curriculum that `gradatim methods` lists", repr(name), cause)
    return known[wanted]
