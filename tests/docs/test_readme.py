"""README and docs say what runs: blocks are executed, links resolve, tables are fresh.

Blocks of one page share a namespace and a temporary working folder, and warnings are errors.
An HTML comment on the line before a block says more:

    <!-- no-run: reason -->   compiled, not executed
    <!-- file: train.py -->   written to that file instead
    <!-- run -->              the lines of a ```bash block are executed (others are only shown)
    <!-- output -->           the text must be what the block before it printed
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import types
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES = [README, *OTHERS, *sorted((ROOT / "docs").rglob("*.md"))]
WITH_BLOCKS = [page for page in PAGES if page == README or "```" in page.read_text("utf-8")]

BLOCK = re.compile(
    r"(?:^<!-- (?P<note>no-run|file|run|output)(?:: (?P<detail>[^\n]*?))? -->\n)?"
    r"^```(?P<language>[^\s`]*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is its first line's number in the file."""

    language: str
    text: str
    line: int
    note: str | None
    detail: str | None


def read(page: Path) -> str:
    assert page.is_file(), f"{page.relative_to(ROOT)} is missing"
    return page.read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    found = [
        Block(
            match["language"],
            match["text"],
            text.count("\n", 0, match.start("text")) + 1,
            match["note"],
            match["detail"],
        )
        for match in BLOCK.finditer(text)
    ]
    # A fence that the pattern misses (an indented one, say) would be a block that nobody runs.
    fences = re.findall(r"^ *```", text, re.MULTILINE)
    assert len(fences) == 2 * len(found), "a fenced block is indented or not closed"
    return found


def execute(page: Path, text: str) -> int:
    """Run the blocks of a page in the current folder; returns how many it looked at."""
    # As a script's, classes of the page must be found by name, or they cannot be pickled.
    script = types.ModuleType("__main__")
    namespace = vars(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", script)
        return _execute(page, text, namespace)


def _execute(page: Path, text: str, namespace: dict[str, object]) -> int:
    printed = ""
    done = 0
    for block in blocks(text):
        where = f"{page}:{block.line}"
        if block.language == "python":
            # Empty lines before the code make a traceback name the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            if block.note == "file":
                assert block.detail, f"{where}: a file needs a name"
                Path(block.detail).write_text(block.text, encoding="utf-8")
            elif block.note == "no-run":
                assert block.detail, f"{where}: say why the block is not run"
            else:
                printed = run_python(code, namespace)
        elif block.note == "run":
            assert block.language == "bash", f"{where}: only bash blocks are run"
            printed = run_bash(block.text)
        elif block.note == "output":
            assert printed.strip() == block.text.strip(), f"{where}: something else was printed"
        else:
            assert block.note is None, f"{where}: {block.note} is for python blocks"
            continue
        done += 1
    return done


def run_python(code: CodeType, namespace: dict[str, object]) -> str:
    """Execute a block, under pytest's rule that warnings are errors; returns what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def run_bash(commands: str) -> str:
    """Run commands with this environment's programs first; returns what they printed."""
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts"), os.environ["PATH"]]
    completed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env=os.environ | {"PATH": os.pathsep.join(folders)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = completed.stdout + completed.stderr
    assert completed.returncode == 0, f"exit status {completed.returncode} of\n{commands}\n{said}"
    return completed.stdout


def slugs(text: str) -> set[str]:
    """Anchors of a page: its headings, as GitHub and MkDocs name them, and its objects."""
    prose = BLOCK.sub("", text)
    headings = re.findall(r"^#+ +(.+?)\s*$", prose, re.MULTILINE)
    objects = re.findall(r"^::: ([\w.]+)$", prose, re.MULTILINE)
    return set(objects) | {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading of a page."""
    targets = [match["target"] for match in LINK.finditer(BLOCK.sub("", text))]
    return [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target)  # other sites are not ours to keep
        and not resolves(page, text, target)
    ]


def resolves(page: Path, text: str, target: str) -> bool:
    path, _, anchor = target.partition("#")
    linked = (page.parent / path).resolve()
    if path and not (linked.is_relative_to(ROOT) and linked.exists()):
        return False
    return not anchor or anchor in slugs(read(linked) if path else text)


def install_commands(text: str) -> list[str]:
    """The lines of bash blocks that install from this checkout and then run something."""
    return [
        line
        for block in blocks(text)
        if block.language == "bash"
        for line in block.text.splitlines()
        if line.startswith("python -m pip install -c constraints.txt ") and " && " in line
    ]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = read(page)
    monkeypatch.chdir(tmp_path)
    done = execute(page, text)
    assert done == len(re.findall(r"^```python|^<!-- (?:run|output) -->$", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page: Path) -> None:
    assert broken_links(page, read(page)) == []


def test_ci_runs_the_readmes_two_commands() -> None:
    commands = install_commands(read(README))
    runs = [command.partition(" && ")[2] for command in commands]
    assert sorted(runs) == ["gradatim compare", "python -m pytest -n 2"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = [line.strip() for line in script.splitlines()]
    for command in commands:
        assert command in lines, f"not a line of .ci/run: {command}"


def test_generated_tables_are_fresh() -> None:
    completed = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


# What follows tests the runner: a page that could not fail would prove nothing.


def fenced(language: str, *lines: str, note: str = "") -> str:
    return "\n".join([*([note] if note else []), f"```{language}", *lines, "```", ""])


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "page.md"


def test_blocks_share_names_and_errors_name_the_pages_line(page: Path) -> None:
    text = "# Title\n\n" + fenced("python", "x = 1") + "\n" + fenced("python", "y = x", "y / 0")
    with pytest.raises(ZeroDivisionError) as error:
        execute(page, text)
    last = error.traceback[-1]
    assert (Path(last.path), last.lineno + 1) == (page, text.splitlines().index("y / 0") + 1)


def test_a_warning_fails_the_page(page: Path) -> None:
    with pytest.raises(UserWarning, match="mind"):
        execute(page, fenced("python", "import warnings", "warnings.warn('mind')"))


def test_a_block_not_run_must_compile_and_say_why(page: Path) -> None:
    note = "<!-- no-run: needs a GPU -->"
    assert execute(page, fenced("python", "raise SystemExit", note=note)) == 1
    with pytest.raises(SyntaxError):
        execute(page, fenced("python", "for", note=note))
    with pytest.raises(AssertionError, match="say why"):
        execute(page, fenced("python", "pass", note="<!-- no-run -->"))


def test_a_written_file_is_run_by_a_command(page: Path) -> None:
    script = fenced("python", "open('answer', 'w').write('42')", note="<!-- file: train.py -->")
    assert execute(page, script + fenced("bash", "python train.py", note="<!-- run -->")) == 2
    assert (page.parent / "answer").read_text() == "42"
    assert execute(page, fenced("bash", "exit 1")) == 0  # shown, not run
    with pytest.raises(AssertionError, match="exit status 3"):
        execute(page, fenced("bash", "exit 3", "true", note="<!-- run -->"))


def test_output_shown_must_be_what_was_printed(page: Path) -> None:
    shown = fenced("text", "4", note="<!-- output -->")
    assert execute(page, fenced("python", "print(2 + 2)") + shown) == 2
    assert execute(page, fenced("bash", "echo 4", note="<!-- run -->") + shown) == 2
    with pytest.raises(AssertionError, match="something else was printed"):
        execute(page, fenced("python", "print(2 + 3)") + shown)
    assert execute(page, fenced("text", "4")) == 0  # shown, not compared


def test_an_indented_fence_is_refused(page: Path) -> None:
    with pytest.raises(AssertionError, match="indented"):
        execute(page, "- item\n\n    ```python\n    x = 1\n    ```\n")


def test_broken_links_are_found() -> None:
    text = "# A heading (of two)\n[a](LICENSE) [b](nowhere.md) [c](#a-heading-of-two) [d](#none)"
    assert broken_links(README, text) == ["nowhere.md", "#none"]


def test_install_commands_are_read_from_bash_blocks_alone() -> None:
    command = 'python -m pip install -c constraints.txt -e ".[test]" && python -m pytest -n 2'
    text = fenced("bash", command, "echo") + fenced("text", command)
    assert install_commands(text) == [command]
