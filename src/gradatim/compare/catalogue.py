"""What `gradatim methods` prints: each method by the name that `--curricula` takes."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradatim as gr
from gradatim.citations import REFERENCES, Reference
from gradatim.compare.curricula import filled
from gradatim.compare.names import ANTI, known_methods, spelling
from gradatim.validation import refusal

__all__ = ["COMPOSED", "Entry", "methods", "others", "show"]

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
MIXTURES = (
    "Mixtures of several sources, in gr.mixing; not in a comparison, whose data are one set. "
    "gr.MixtureLoader makes batches by them:"
)
VALUES = (
    "Values of samples, in gr.valuation: negated they are a score for gr.Predefined, and the "
    "lowest can be left out:"
)
NAMED = "Known under names of their own:"
COMPOSED = {
    "transfer teacher": "predefined(pace=fixed_exponential(start_fraction=0.1,increase=2,"
    "every_epochs=1))",
    "baby steps": "predefined(pace=baby_steps(buckets=5,epochs_per_bucket=1))",
    "competence": "predefined(pace=root(start_fraction=0.01,epochs=10))",
    "the same of texts": "predefined(score=length,pace=root(start_fraction=0.01,epochs=10))",
    "hard first": "anti",
}
"""What users know by name, as `--curricula` takes it; docs/predefined.md explains them."""
FOOT = "`gradatim methods NAME` explains parameters; `gradatim cite NAME` prints BibTeX."


@dataclass(frozen=True)
class Entry:
    """One method of the list.

    Attributes:
        name: as `--curricula` takes it; of what is not in a comparison as Python does.
        method: the class, or the function.
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
    method: Callable[..., Any]
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


def others() -> dict[str, list[Entry]]:
    """List what no comparison runs: policies of mixtures, and values of samples.

    Returns:
        Entries by the heading that `show` gives them.

    Example:
        >>> [entry.name for entry in others()[MIXTURES]]
        ['DoReMi', 'Exp3S', 'OnlineDataMixing', 'StagedMix']
    """
    policies = [
        name
        for name in gr.mixing.__all__
        if isinstance(kind := getattr(gr.mixing, name), type)
        and issubclass(kind, gr.mixing.Policy)
        and kind is not gr.mixing.Policy
    ]
    values = [name for name in gr.valuation.__all__ if name.endswith("_shapley")]
    return {
        MIXTURES: [_entry(name, getattr(gr.mixing, name)) for name in policies],
        VALUES: [_entry(name, getattr(gr.valuation, name)) for name in values],
    }


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
    entries, rest = methods(), others()
    if names:
        every = [*entries, *(entry for group in rest.values() for entry in group)]
        return "\n\n".join(_detail(_find(name, every)) for name in names)
    column = max(map(len, COMPOSED)) + 2
    named = "\n".join(name.ljust(column) + spec for name, spec in COMPOSED.items())
    notes = [HEAD, *map(_short, entries), FILLED, f"{NAMED}\n{named}"]
    for heading, group in rest.items():
        lines = [line for entry in group for line in _wrapped(entry.name, _plain(entry), INDENT)]
        notes.append("\n".join([*textwrap.wrap(heading, WIDTH), *lines]))
    notes.append(FOOT)
    blocks = [note if "\n" in note else textwrap.fill(note, WIDTH) for note in notes]
    return "\n\n".join(blocks)


def _entry(name: str, method: Callable[..., Any]) -> Entry:
    kind = method if isinstance(method, type) and issubclass(method, gr.Method) else None
    own = kind is None or kind.__init__ is not gr.Method.__init__
    known = inspect.signature(method).parameters.values() if own else ()
    ours = {} if kind is None else {p.name: filled(kind, p.name) for p in known}
    parameters = tuple(
        (p.name, ours.get(p.name) or ("" if p.default is p.empty else _default(p.default)))
        for p in known
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    )
    summary = (inspect.getdoc(method) or "").partition("\n")[0]
    return Entry(name, method, summary, parameters, tuple(map(_paper, _references(method))))


def _references(method: Callable[..., Any]) -> Sequence[str | Reference]:
    """The papers of a class; a function names them in its docstring."""
    if isinstance(method, type):
        return getattr(method, "references", ())
    found = re.findall(r"\[(\w+)\]", (inspect.getdoc(method) or "").partition("References:")[2])
    return [key for key in found if key in REFERENCES]


def _plain(entry: Entry) -> str:
    """What is said of an entry that no comparison runs."""
    return entry.summary + (f" {'; '.join(entry.papers)}." if entry.papers else "")


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
    package = "gradatim.valuation" if entry.name in gr.valuation.__all__ else "gradatim"
    package = package if method.__module__.startswith("gradatim.") else method.__module__
    lines = [f"{entry.name} ({package}.{method.__name__})"]
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
    references = _references(method)
    papers = [REFERENCES[key] if isinstance(key, str) else key for key in references]
    lines.append("  Papers:" if papers else "  Papers: none.")
    for paper, short in zip(papers, entry.papers, strict=True):
        text = f"{short}: {paper.title}. {paper.venue}."
        lines += textwrap.wrap(text, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)
    return "\n".join(lines)


def _filled(paragraph: list[str]) -> list[str]:
    text = re.sub(":+$", ":", " ".join(paragraph)).replace("``", "")
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _explained(method: Callable[..., Any]) -> tuple[list[list[str]], dict[str, str]]:
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
    composed = {spelling(each).replace(" ", "") for each in COMPOSED}
    wanted = spelling(name).replace(" ", "")
    wanted = "predefined" if wanted in (ANTI, *composed) else wanted
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        cause = f"Did you mean {known[near[0]].name!r}?" if near else ""
        raise refusal("name", "a curriculum that `gradatim methods` lists", repr(name), cause)
    return known[wanted]
