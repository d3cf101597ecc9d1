import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import gradatim as gr
from gradatim import cli
from gradatim.compare import command, runner
from gradatim.compare.curricula import CURRICULA, Recipe

TINY = ["compare", "--curricula", "super_loss", "--seeds", "2", "--epochs", "1", "--jobs", "1"]


@pytest.fixture
def run(capsys):
    def run(*words):
        code = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def one_line(text):
    return text.endswith("\n") and text.count("\n") == 1


# ---------------------------------------------------------------- compare


def test_compare_writes_and_shows_results_and_a_second_run_reads_them(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    code, shown, _ = run(*TINY, "--out", out)
    assert code == 0
    assert "digits: 3 curricula, 2 settings, 2 seeds: 12 runs." in shown
    assert "digits, clean" in shown
    assert "digits, 30 % of the training labels flipped" in shown
    assert shown.count("super_loss") >= 4
    names = {path.name for path in out.iterdir()}
    assert names == {
        "plan.json",
        "results.json",
        "results.csv",
        "learning_curves.png",
        "subset_sizes.png",
        "cells",
    }
    first = json.loads((out / "results.json").read_text())
    assert first["command"].startswith("gradatim compare --curricula super_loss --seeds 2")
    assert len(first["cells"]) == 12

    monkeypatch.setattr(runner, "run_cell", pytest.fail)
    code, again, _ = run(*TINY, "--out", out)
    assert code == 0
    assert "12 runs, 12 of them finished before." in again
    assert json.loads((out / "results.json").read_text()) == first
    assert again.partition("\n")[2] == shown.partition("\n")[2]


def test_a_failed_cell_gives_exit_code_1_and_results_of_the_others(run, tmp_path, monkeypatch):
    def broken(context):
        raise ValueError("gamma must be good. Got bad.")

    monkeypatch.setitem(CURRICULA, "super_loss", Recipe(broken))
    code, shown, errors = run(*TINY, "--out", tmp_path / "out")
    assert code == 1
    flat = " ".join(errors.split())
    assert "failed: super_loss, noisy, seed 1: ValueError: gamma must be good. Got bad." in flat
    assert "4 of 12 runs failed; the same command tries them again." in flat
    assert "Traceback" not in errors
    assert "paced_random" in shown
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["failures"]) == 4


def test_a_comparison_that_was_stopped_goes_on(run, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(*TINY, "--out", whole)[0] == 0
    ran = []

    def interrupted(plan, cell):
        if len(ran) == 5:
            raise KeyboardInterrupt
        ran.append(cell)
        return runner_run_cell(plan, cell)

    runner_run_cell = runner.run_cell
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_cell", interrupted)
        code, _, errors = run(*TINY, "--out", stopped)
    assert code == 130
    assert errors.splitlines()[-1].startswith("gradatim: stopped.")
    assert "Traceback" not in errors
    assert run(*TINY, "--out", stopped)[0] == 0

    def results(folder):
        read = json.loads((folder / "results.json").read_text())
        for cell in read["cells"]:
            del cell["seconds"]
        del read["command"]
        return read

    assert results(stopped) == results(whole)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--curricula", "spll"], "curricula must be one of .* Did you mean 'spl'?"),
        (["--curricula", ""], "curricula must be one of"),
        (["--curricula", "spl,spl"], "curricula must be one or more different names"),
        (["--seeds", "1"], "seeds must be a whole number, at least 2. Got 1."),
        (["--seeds", "many"], "gradatim compare: argument --seeds: invalid int value: 'many'"),
        (["--epochs", "0"], "epochs must be a whole number, at least 1. Got 0."),
        (["--jobs", "0"], "jobs must be a whole number, at least 1. Got 0."),
        (["--seed", "3"], "unrecognized arguments: --seed 3"),
        (["--out", "/dev/null"], "out must be a new folder .* which is a file"),
    ],
)
def test_bad_input_costs_one_line_and_exit_code_2(run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, shown, errors = run("compare", *words)
    assert code == 2
    assert one_line(errors)
    assert errors.startswith("gradatim")
    assert re.search(message, errors)
    assert shown == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_plan_is_refused(run, tmp_path):
    out = tmp_path / "out"
    assert run(*TINY, "--out", out)[0] == 0
    before = (out / "results.json").read_bytes()
    code, _, errors = run("compare", "--seeds", "3", "--out", out)
    assert code == 2
    assert one_line(errors)
    assert "seeds = 2, not 3" in errors
    assert "Choose another --out" in errors
    assert (out / "results.json").read_bytes() == before


@pytest.mark.parametrize("missing", ["rich", "scipy", "sklearn", "matplotlib", "joblib"])
def test_a_missing_extra_is_named_before_anything_runs(run, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, errors = run(*TINY, "--out", tmp_path / "out")
    assert code == 2
    assert one_line(errors)
    assert "pip install 'gradatim[compare]'" in errors
    assert missing in errors
    assert not (tmp_path / "out").exists()


def test_an_extra_that_was_never_installed_is_named(run, tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    code, _, errors = run(*TINY, "--out", tmp_path / "out")
    assert code == 2
    assert one_line(errors)
    assert "Got no module named 'numpy'. Try: pip install 'gradatim[compare]'" in errors


@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")
def test_ctrl_c_stops_the_workers_in_one_line(tmp_path):
    """The whole foreground group gets the signal, as in a terminal."""
    words = [
        "compare",
        "--curricula",
        "spl",
        "--seeds",
        "6",
        "--jobs",
        "2",
        "--out",
        tmp_path / "o",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "gradatim.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not list(tmp_path.rglob("result.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "gradatim: stopped. The same command goes on where it was."
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("*.partial"))


def test_debug_shows_the_traceback(run, tmp_path):
    code, _, errors = run("compare", "--seeds", "1", "--debug", "--out", tmp_path / "out")
    assert code == 2
    assert "Traceback" in errors
    assert "seeds must be" in errors


def test_the_unexpected_costs_one_line_too(run, monkeypatch, tmp_path):
    def broken(*arguments, **options):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(command, "compare", broken)
    code, _, errors = run("compare", "--out", tmp_path / "out")
    assert code == 1
    assert errors == (
        "gradatim: ZeroDivisionError: division by zero (--debug shows the traceback)\n"
    )


def test_a_full_disk_costs_one_line(run, tmp_path, monkeypatch):
    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    code, _, errors = run(*TINY, "--out", tmp_path / "out")
    assert code == 2
    assert one_line(errors)
    assert "No space left on device" in errors
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# ---------------------------------------------------------------- the rest


def test_version(run):
    assert run("--version") == (0, f"gradatim {gr.__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"], ["cite", "--help"]])
def test_help(run, words):
    code, shown, errors = run(*words)
    assert (code, errors) == (0, "")
    assert shown.startswith("usage: gradatim")


def test_help_says_what_a_new_user_needs(run):
    _, top, _ = run("--help")
    for word in ("compare", "methods", "cite", "--version"):
        assert word in top
    _, shown, _ = run("compare", "--help")
    shown = " ".join(shown.split())
    for word in ("--curricula", "--seeds", "--epochs", "--jobs", "--out", "--debug", "default: 8"):
        assert word in shown
    for name in CURRICULA:
        assert name in shown
    defaults = command.Plan()
    assert f"(default: {defaults.epochs})" in shown
    assert f"(default: {defaults.seeds})" in shown


@pytest.mark.parametrize("words", [[], ["fly"], ["cite"]])
def test_wrong_commands_cost_one_line(run, words):
    code, shown, errors = run(*words)
    assert (code, shown) == (2, "")
    assert one_line(errors)
    assert "--help" in errors


def test_methods_lists_every_method_with_parameters_and_papers(run):
    code, shown, _ = run("methods")
    assert code == 0
    lines = shown.splitlines()
    names = [
        name
        for name in gr.__all__
        if isinstance(getattr(gr, name), type)
        and issubclass(getattr(gr, name), gr.Method)
        and name != "Method"
    ]
    assert [line.partition("(")[0] for line in lines[::2]] == names
    for name, head, summary in zip(names, lines[::2], lines[1::2], strict=True):
        assert getattr(gr, name).__doc__.startswith(summary.strip())
        for reference in getattr(gr, name).references:
            assert reference in head
    assert any(line.startswith("SPL(form='hard', *, pace=None,") for line in lines)


def test_cite_prints_each_paper_once(run):
    code, shown, _ = run("cite", "SPL", "spl", "super_loss")
    assert code == 0
    assert shown == gr.cite(gr.SPL, gr.SuperLoss) + "\n"
    assert shown.count("@") == len(set(gr.SPL.references + gr.SuperLoss.references))


def test_cite_refuses_what_it_does_not_know(run):
    code, shown, errors = run("cite", "SuperLos")
    assert (code, shown) == (2, "")
    assert one_line(errors)
    assert "Got 'SuperLos'. Did you mean SuperLoss?" in errors
    assert run("cite", "Curriculum")[0] == 2


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "gradatim.cli", "methods"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_core_imports_none_of_the_extra():
    heavy = ("sklearn", "scipy", "matplotlib", "joblib", "rich", "pandas")
    code = (
        "import sys, gradatim.cli, gradatim.plots, gradatim.compare, gradatim.compare.command;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
