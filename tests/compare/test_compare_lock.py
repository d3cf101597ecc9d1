"""Two comparisons never work in one folder, and a killed one leaves it free."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gradatim.cli import main
from gradatim.compare import command
from gradatim.compare.command import compare
from gradatim.compare.defaults import resolve
from gradatim.compare.lock import LOCK, locked
from gradatim.compare.plan import Plan
from gradatim.compare.runner import holds_other_files, open_folder

TINY = Plan("iris", curricula="uniform", seeds=2, epochs=1, evaluations=1)
HOLD = """
import sys
from pathlib import Path
from gradatim.compare.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    arguments = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_folder_of_a_running_comparison_is_refused_in_one_line(holder, tmp_path, capsys):
    (tmp_path / "out" / ".left.partial").write_text("the other one is writing this")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    arguments = ["compare", "iris", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "out must be a folder in which no other comparison runs" in said
    assert "Wait for it, or choose another --out." in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


def test_a_killed_process_leaves_no_lock(holder, tmp_path):
    with pytest.raises(ValueError, match="no other comparison runs"), locked(tmp_path / "out"):
        pass
    holder.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    holder.wait()
    with locked(tmp_path / "out"):
        assert (tmp_path / "out" / LOCK).stat().st_size == 0


def test_the_lock_is_held_while_runs_are_made_and_not_after(tmp_path, monkeypatch):
    seen = []

    def run_cells(*arguments, **options):
        with pytest.raises(ValueError, match="no other comparison runs"):
            compare(TINY, tmp_path / "out", jobs=1)
        seen.append(arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "run_cells", run_cells)
        with pytest.raises(KeyboardInterrupt):
            compare(TINY, tmp_path / "out", jobs=1)
    assert len(seen) == 1
    with locked(tmp_path / "out"):
        assert (tmp_path / "out" / "plan.toml").exists()


def test_two_folders_are_two_locks(tmp_path):
    with locked(tmp_path / "one"), locked(tmp_path / "two"):
        names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["one", "two"]


def test_a_lock_is_no_other_file(tmp_path):
    plan, _ = resolve(TINY)
    for left in (LOCK, ".plan.toml.0123.partial"):
        (tmp_path / left).write_text("")
    assert not holds_other_files(tmp_path)
    open_folder(plan, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "plan.toml"]


def test_a_folder_of_something_else_gets_no_lock(tmp_path):
    (tmp_path / "thesis.tex").write_text("words")
    assert holds_other_files(tmp_path)
    assert holds_other_files(tmp_path / "thesis.tex")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ValueError, match="out must be a new folder or one of the same plan"):
            compare(TINY, out, jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_where_no_lock_can_be_had_the_comparison_goes_on(tmp_path):
    """As on a file system that has none: here the lock is a folder."""
    (tmp_path / LOCK).mkdir()
    with locked(tmp_path):
        assert Path(tmp_path, LOCK).is_dir()
