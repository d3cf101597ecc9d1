import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradatim.compare import runner
from gradatim.compare.curricula import CURRICULA, Recipe
from gradatim.compare.files import as_json, remove_partial_files, replace_file
from gradatim.compare.plan import Cell, Plan
from gradatim.compare.runner import Failure, finished_cells, open_folder, run_cells

TINY = Plan(curricula=["spl"], seeds=2, epochs=1)


def results(plan, out):
    found = finished_cells(plan, out)
    return {cell: {k: v for k, v in run.items() if k != "seconds"} for cell, run in found.items()}


# ---------------------------------------------------------------- whole files


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    replace_file(path, "old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_reader_never_sees_a_part(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    replace_file(path, "old")
    seen = []
    fsync = os.fsync

    def look(descriptor):
        seen.append(path.read_text())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    replace_file(path, "new")
    assert (seen, path.read_text()) == (["old"], "new")


def test_json_is_strict_and_round_trips():
    value = {"a": [1, 2.5, None], "b": {"c": {"d": [True, "ä"]}}, "e": {}, "f": []}
    for depth in range(6):
        assert json.loads(as_json(value, depth=depth)) == value
    text = as_json({"x": [float("inf"), float("nan")], 3: (1, 2)})
    assert json.loads(text, parse_constant=pytest.fail) == {"x": [None, None], "3": [1, 2]}


def test_partial_files_of_killed_writers_are_removed(tmp_path):
    left = tmp_path / "cells" / ".result.json.0123.partial"
    replace_file(tmp_path / "cells" / "result.json", "{}")
    left.write_text("{")
    remove_partial_files(tmp_path)
    assert not left.exists()
    assert (tmp_path / "cells" / "result.json").exists()


# ---------------------------------------------------------------- plans


def test_controls_always_run_and_cells_come_seed_by_seed():
    plan = Plan(curricula=["spl", "uniform"], seeds=3)
    assert plan.curricula == ("uniform", "paced_random", "spl")
    cells = plan.cells()
    assert len(set(cells)) == len(cells) == 2 * 3 * 3
    assert [cell.seed for cell in cells] == [0] * 6 + [1] * 6 + [2] * 6
    assert len({cell.folder for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curricula": ["spll"]}, "curricula must be one of .* Did you mean 'spl'"),
        ({"curricula": []}, "curricula must be one or more different names. Got none"),
        ({"curricula": ["spl", "spl"]}, "curricula must be one or more different names"),
        ({"settings": ["dirty"]}, "settings must be one of 'clean', 'noisy'"),
        ({"seeds": 1}, "seeds must be a whole number, at least 2. Got 1"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"evaluations": 0}, "evaluations must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"alpha": 0.5}, "alpha must be"),
        ({"margin": 0}, "margin must be"),
    ],
)
def test_impossible_plans_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Plan(**change)


def test_a_plan_read_back_is_the_same_plan():
    plan = Plan(seeds=4)
    stored = json.loads(as_json(plan.as_dict()))
    assert plan.differences(stored) == []
    assert plan.differences({**stored, "margin": 0.02}) == ["margin = 0.02, not 0.01"]
    assert plan.differences({**stored, "wish": 1}) == ["wish = 1, not None"]
    older = {**stored, "versions": {**plan.versions, "torch": "1.0"}}
    assert "torch 1.0" in plan.differences(older)[0]


# ---------------------------------------------------------------- folders


def test_a_folder_of_another_plan_is_refused_by_name(tmp_path):
    open_folder(Plan(seeds=4), tmp_path / "out")
    before = (tmp_path / "out" / "plan.json").read_bytes()
    open_folder(Plan(seeds=4), tmp_path / "out")
    with pytest.raises(ValueError, match=r"out must be .*seeds = 4, not 8; epochs = 20, not 5"):
        open_folder(Plan(seeds=8, epochs=5), tmp_path / "out")
    assert (tmp_path / "out" / "plan.json").read_bytes() == before


def test_opening_a_folder_again_clears_what_a_killed_run_left(tmp_path):
    open_folder(TINY, tmp_path / "out")
    left = tmp_path / "out" / "cells" / "clean" / ".result.json.0123.partial"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    open_folder(TINY, tmp_path / "out")
    assert not left.exists()


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(ValueError, match="which holds other files"):
        open_folder(TINY, tmp_path)
    with pytest.raises(ValueError, match="which is a file"):
        open_folder(TINY, tmp_path / "thesis.tex")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"whose plan.json cannot be read"):
        open_folder(TINY, tmp_path)
    (tmp_path / "plan.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"whose plan.json cannot be read"):
        open_folder(TINY, tmp_path)


def test_a_result_that_was_edited_is_named(tmp_path):
    cell = TINY.cells()[0]
    replace_file(tmp_path / cell.folder / "result.json", "{")
    with pytest.raises(ValueError, match=r"result must be JSON.*seed-0.*Remove it"):
        finished_cells(TINY, tmp_path)


# ---------------------------------------------------------------- running


def test_finished_cells_are_never_run_again(tmp_path, monkeypatch):
    ran = []

    def fake(plan, cell):
        ran.append(cell)
        return {"cell": str(cell)}

    monkeypatch.setattr(runner, "run_cell", fake)
    open_folder(TINY, tmp_path / "out")
    first = run_cells(TINY, tmp_path / "out", jobs=1)
    assert [next(first) for _ in range(5)] == [None] * 5
    first.close()
    assert list(run_cells(TINY, tmp_path / "out", jobs=1)) == [None] * 7
    assert ran == TINY.cells()
    assert list(finished_cells(TINY, tmp_path / "out")) == TINY.cells()


def test_a_failing_cell_is_reported_and_the_others_finish(tmp_path, monkeypatch):
    def broken(context):
        raise ValueError("gamma must be good. Got bad.\nA second line.")

    monkeypatch.setitem(CURRICULA, "spl", Recipe(broken))
    ends = list(run_cells(TINY, tmp_path, jobs=1))
    failures = [end for end in ends if isinstance(end, Failure)]
    assert len(ends) == 12
    assert [failure.cell.curriculum for failure in failures] == ["spl"] * 4
    assert str(failures[0]) == "spl, clean, seed 0: ValueError: gamma must be good. Got bad."
    assert len(finished_cells(TINY, tmp_path)) == 8
    error = tmp_path / failures[0].cell.folder / "error.txt"
    assert "Traceback" in error.read_text()

    monkeypatch.undo()
    assert list(run_cells(TINY, tmp_path, jobs=1)) == [None] * 4
    assert not error.exists()


def test_a_full_disk_fails_the_cell_and_not_the_rest(tmp_path, monkeypatch):
    def full_disk(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "replace_file", full_disk)
    monkeypatch.setattr(runner, "run_cell", lambda plan, cell: {})
    ends = list(run_cells(TINY, tmp_path, jobs=1))
    assert len(ends) == 12
    assert "No space left on device" in ends[0].reason
    assert "could not be written" in ends[0].reason


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_killed_and_run_again_equals_an_undisturbed_run(tmp_path):
    """SIGKILL with two workers; the rerun uses one process and another order of ends."""
    out, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    plan = Plan(curricula=["spl"], seeds=3, epochs=6)
    arguments = ["compare", "--curricula", "spl", "--seeds", "3", "--epochs", "6", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gradatim.cli", *arguments, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 240
    while len(done := list(out.rglob("result.json"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= len(done) < 18
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in done}

    open_folder(plan, out)
    list(run_cells(plan, out, jobs=1))
    open_folder(plan, undisturbed)
    list(run_cells(plan, undisturbed, jobs=1))
    assert list(results(plan, out)) == plan.cells()
    assert results(plan, out) == results(plan, undisturbed)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in done} == kept


def test_two_processes_give_the_same_as_one(tmp_path):
    plan = Plan(curricula=["predefined"], settings=["noisy"], seeds=2, epochs=2)
    assert list(run_cells(plan, tmp_path / "two", jobs=2)) == [None] * 6
    assert list(run_cells(plan, tmp_path / "one", jobs=1)) == [None] * 6
    assert results(plan, tmp_path / "two") == results(plan, tmp_path / "one")


def test_cells_have_folders_of_their_own():
    assert Cell("noisy", "spl", 3).folder == Path("cells/noisy/spl/seed-3")
