"""Write what is generated in the README and the docs; `--check` only says whether it is fresh.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`, NAME being one of `PARTS`.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import measured

import gradatim as gr
from gradatim.citations import REFERENCES

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(
    ROOT / name
    for name in (
        "README.md",
        "docs/methods.md",
        "docs/api/methods.md",
        "docs/which-curriculum.md",
    )
)
PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def methods() -> list[type[gr.Method]]:
    """The curricula that the package exports, in the order of their names."""
    public = [getattr(gr, name) for name in gr.__all__]
    classes = [thing for thing in public if isinstance(thing, type)]
    found = [kind for kind in classes if issubclass(kind, gr.Method) and kind is not gr.Method]
    return sorted(found, key=lambda kind: kind.__name__.lower())


def parameters(method: type[gr.Method]) -> str:
    """A constructor's parameters with their defaults, without types."""
    signature = inspect.signature(method)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))


def summary(method: type[gr.Method]) -> str:
    """The first line of a docstring, which says what a thing is."""
    return (inspect.getdoc(method) or "").partition("\n")[0]


def needed(method: type[gr.Method]) -> tuple[str, ...]:
    """What a method needs with its defaults; the class's word where defaults alone make none."""
    with contextlib.suppress(TypeError, ValueError):
        return method().wants
    return method.wants


def papers(method: type[gr.Method]) -> str:
    """Authors and years of the papers, in the order in which the method names them."""
    cited = [REFERENCES[key] if isinstance(key, str) else key for key in method.references]
    shown = []
    for reference in cited:
        families = [author.partition(",")[0] for author in reference.authors]
        names = families[0] if len(families) == 1 else " and ".join(families)
        shown.append(f"{names if len(families) < 3 else f'{families[0]} et al.'} {reference.year}")
    return ", ".join(shown)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def constructors() -> str:
    """All methods: every parameter and default, what they do, what they must be given."""
    rows = []
    for method in methods():
        name = method.__name__
        wants = needed(method)
        needs = f" Needs {', '.join(f'`{name}`' for name in wants)}." if wants else ""
        link = f"[`{name}`](api/methods.md#gradatim.{name})"
        rows.append((f"{link}`{parameters(method)}`", summary(method) + needs, papers(method)))
    return table(("Method with its defaults", "What it does", "Paper"), rows)


def overview() -> str:
    """All methods, in one line each."""
    rows = [(f"`{method.__name__}`", summary(method), papers(method)) for method in methods()]
    return table(("Method", "What it does", "Paper"), rows)


def directives() -> str:
    """The lines from which mkdocstrings makes the reference of all methods."""
    return "".join(f"\n::: gradatim.{method.__name__}\n" for method in methods()) + "\n"


PARTS: dict[str, Callable[[], str]] = {
    "constructors": constructors,
    "directives": directives,
    "overview": overview,
    **measured.parts(table),
}


def filled(text: str) -> str:
    """A page with its generated parts made anew."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found['name']]()}{found[3]}", text)


def main() -> int:
    """Write the pages, or with `--check` name those that are stale and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fresh = filled(text)
        if fresh != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(fresh, encoding="utf-8")
    if stale:
        said = "is stale: run python docs/generate.py" if check else "written"
        print("\n".join(f"{name} {said}" for name in stale))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
