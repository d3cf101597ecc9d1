import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gradatim.compare import cells as cells_module
from gradatim.compare import runner
from gradatim.compare.defaults import resolve
from gradatim.compare.files import as_json, remove_partial_files, replace_file
from gradatim.compare.plan import Plan
from gradatim.compare.runner import (
    Failure,
    finished_cells,
    open_folder,
    run_cells,
    tuned_rates,
)

TINY, _ = resolve(Plan(curricula=["spl"], seeds=2, epochs=1))


def results(plan, out):
    found = finished_cells(plan, out)
    for run in found.values():
        del run["seconds"], run["curve"]["seconds"]
        run |= {name: run[name].tolist() for name in cells_module.ARRAYS}
    return found


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


# ---------------------------------------------------------------- folders


def test_a_folder_of_another_plan_is_refused_by_name(tmp_path):
    open_folder(Plan(seeds=4), tmp_path / "out")
    before = (tmp_path / "out" / "plan.toml").read_bytes()
    open_folder(Plan(seeds=4), tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"out must be .*seeds = 0,1,2,3, not 0,1,.*; epochs = None, not 5"
    ):
        open_folder(Plan(seeds=8, epochs=5), tmp_path / "out")
    assert (tmp_path / "out" / "plan.toml").read_bytes() == before


def test_opening_a_folder_again_clears_what_a_killed_run_left(tmp_path):
    open_folder(TINY, tmp_path / "out")
    left = tmp_path / "out" / "cells" / "clean" / ".result.json.0123.partial"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    open_folder(TINY, tmp_path / "out")
    assert not left.exists()


def test_a_plan_that_was_being_written_when_the_power_went_is_no_other_file(tmp_path):
    (tmp_path / ".plan.toml.0123.partial").write_text("data")
    open_folder(TINY, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.toml"]


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(ValueError, match="which holds other files"):
        open_folder(TINY, tmp_path)
    with pytest.raises(ValueError, match="which is a file"):
        open_folder(TINY, tmp_path / "thesis.tex")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "plan.toml").write_text("{")
    with pytest.raises(ValueError, match=r"whose plan.toml cannot be read"):
        open_folder(TINY, tmp_path)
    (tmp_path / "plan.toml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"whose plan.toml cannot be read"):
        open_folder(TINY, tmp_path)


def test_a_result_that_was_edited_is_named(tmp_path):
    cell = TINY.cells()[0]
    replace_file(tmp_path / cell.folder / "result.json", "{")
    with pytest.raises(ValueError, match=r"result must be JSON.*seed-0.*Remove it"):
        finished_cells(TINY, tmp_path)
    for text in ("[]", "{}"):
        replace_file(tmp_path / cell.folder / "result.json", text)
        with pytest.raises(ValueError, match=r"result must be a table.*seed-0.*Remove it"):
            finished_cells(TINY, tmp_path)
    replace_file(tmp_path / cell.folder / "result.json", '{"learning_rate": 1, "scores": {}}')
    with pytest.raises(ValueError, match=r"predictions must be arrays.*seed-0.*Remove it"):
        finished_cells(TINY, tmp_path)
    replace_file(tmp_path / cell.folder / "predictions.npz", "PK nothing")
    with pytest.raises(ValueError, match=r"predictions must be arrays.*seed-0.*Remove it"):
        finished_cells(TINY, tmp_path)


# ---------------------------------------------------------------- running


def test_finished_cells_are_never_run_again(tmp_path, monkeypatch):
    ran = []

    def fake(plan, cell, **options):
        ran.append(cell)
        return {"cell": str(cell), "learning_rate": 0.1}

    monkeypatch.setattr(runner, "run_cell", fake)
    open_folder(TINY, tmp_path / "out")
    first = run_cells(TINY, tmp_path / "out", jobs=1)
    assert [next(first) for _ in range(5)] == [None] * 5
    first.close()
    assert list(run_cells(TINY, tmp_path / "out", jobs=1)) == [None] * 7
    assert ran == TINY.cells()
    assert list(finished_cells(TINY, tmp_path / "out")) == TINY.cells()


def test_a_failing_cell_is_reported_and_the_others_finish(tmp_path, monkeypatch):
    build = cells_module.curricula.build

    def broken(spec, context):
        if spec.name == "spl":
            raise ValueError("gamma must be good. Got bad.\nA second line.")
        return build(spec, context)

    monkeypatch.setattr(cells_module.curricula, "build", broken)
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
    monkeypatch.setattr(runner, "run_cell", lambda plan, cell, **options: {})
    ends = list(run_cells(TINY, tmp_path, jobs=1))
    assert len(ends) == 12
    assert "No space left on device" in ends[0].reason
    assert "could not be written" in ends[0].reason


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_killed_and_run_again_equals_an_undisturbed_run(tmp_path):
    """SIGKILL with two workers; the rerun uses one process and another order of ends."""
    out, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    plan, _ = resolve(Plan(curricula=["spl"], seeds=3, epochs=6))
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
    plan, _ = resolve(Plan(curricula=["predefined"], label_noise=0.3, seeds=2, epochs=2))
    assert list(run_cells(plan, tmp_path / "two", jobs=2)) == [None] * 6
    assert list(run_cells(plan, tmp_path / "one", jobs=1)) == [None] * 6
    assert results(plan, tmp_path / "two") == results(plan, tmp_path / "one")


@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_clusters_give_the_same_as_this_machine(tmp_path, backend):
    """Two local workers of another backend; the curricula's results are those of loky."""
    pytest.importorskip({"ray": "ray", "dask": "distributed"}[backend])
    plan, _ = resolve(Plan(curricula=["spl"], label_noise=0.3, seeds=2, epochs=1))
    assert list(run_cells(plan, tmp_path / "far", jobs=2, backend=backend)) == [None] * 6
    assert list(run_cells(plan, tmp_path / "here", jobs=2)) == [None] * 6
    assert results(plan, tmp_path / "far") == results(plan, tmp_path / "here")


def test_an_unknown_backend_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"backend must be one of .* Did you mean 'ray'"):
        list(run_cells(TINY, tmp_path, jobs=1, backend="rai"))


# ---------------------------------------------------------------- tuning


def test_everybody_is_tuned_by_as_many_trials_on_validation_data(tmp_path, monkeypatch):
    """The best validation score of a curriculum's own trials decides; a tie goes to the first."""
    plan = TINY.with_values(tune=3, label_noise=0)
    scores = {
        ("uniform", 0): 0.5, ("uniform", 1): 0.7, ("uniform", 2): 0.6,
        ("paced_random", 0): 0.5, ("paced_random", 1): 0.5, ("paced_random", 2): 0.5,
        ("spl", 0): 0.1, ("spl", 1): 0.2, ("spl", 2): 0.3,
    }  # fmt: skip
    ran = []

    def fake(plan, cell, *, learning_rate, **options):
        ran.append((cell.curriculum, cell.seed, cell.trial, learning_rate))
        return {
            "learning_rate": learning_rate,
            "validation_score": scores.get((cell.curriculum, cell.trial)),
        }

    monkeypatch.setattr(runner, "run_cell", fake)
    assert list(run_cells(plan, tmp_path, jobs=1, trials=True)) == [None] * 9
    assert {seed for _, seed, _, _ in ran} == {0}
    first, second, third = (plan.trial_rate(trial) for trial in range(3))
    assert tuned_rates(plan, tmp_path) == {
        ("clean", "uniform"): second,
        ("clean", "paced_random"): first,
        ("clean", "spl"): third,
    }
    ran.clear()
    runs = run_cells(plan, tmp_path, jobs=1)
    assert next(runs) is None
    runs.close()
    # A trial that finishes late changes nothing: all seeds of a curriculum share one rate.
    scores["uniform", 0] = 0.9
    (tmp_path / plan.trials()[0].folder / "result.json").unlink()
    assert list(run_cells(plan, tmp_path, jobs=1, trials=True)) == [None]
    ran.pop()
    assert list(run_cells(plan, tmp_path, jobs=1)) == [None] * 5
    assert {(name, rate) for name, _, _, rate in ran} == {
        ("uniform", second),
        ("paced_random", first),
        ("spl", third),
    }


def test_lower_errors_win_where_lower_is_better(tmp_path, monkeypatch):
    plan, _ = resolve(
        Plan("diabetes", curricula="super_loss", seeds=2, metric="rmse", tune=2, epochs=1)
    )

    def fake(plan, cell, *, learning_rate, **options):
        return {"learning_rate": learning_rate, "validation_score": 50.0 + cell.trial}

    monkeypatch.setattr(runner, "run_cell", fake)
    list(run_cells(plan, tmp_path, jobs=1, trials=True))
    assert set(tuned_rates(plan, tmp_path).values()) == {plan.trial_rate(0)}
