import argparse
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
from gradatim.compare import cells as cells_module
from gradatim.compare import command, runner
from gradatim.compare.curricula import CURRICULA
from gradatim.compare.options import add_compare_options, plan_of

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
        ".lock",
        "plan.toml",
        "report.html",
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
    tables = shown.index("digits, clean")
    assert again.endswith(shown[tables:])


def test_data_parameters_on_regression_cost_one_line(run, tmp_path):
    words = ("compare", "diabetes", "--curricula", "data_parameters", "--out", tmp_path / "out")
    code, shown, errors = run(*words)
    assert (code, shown) == (2, "")
    assert one_line(errors)
    assert "able to learn from regression. Got data_parameters. It divides the logits" in errors
    assert not (tmp_path / "out").exists()


def test_a_failed_cell_gives_exit_code_1_and_results_of_the_others(run, tmp_path, monkeypatch):
    build = cells_module.curricula.build

    def broken(spec, context):
        if spec.name == "super_loss":
            raise ValueError("gamma must be good. Got bad.")
        return build(spec, context)

    monkeypatch.setattr(cells_module.curricula, "build", broken)
    code, shown, errors = run(*TINY, "--out", tmp_path / "out")
    assert code == 1
    flat = " ".join(errors.split())
    assert "failed: super_loss, noise-0.3, seed 1: ValueError: gamma must be good. Got bad." in flat
    assert "4 of 12 runs failed; the same command tries them again." in flat
    assert "Traceback" not in errors
    assert "paced_random" in shown
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["failures"]) == 4


def test_a_comparison_that_was_stopped_goes_on(run, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(*TINY, "--out", whole)[0] == 0
    ran = []

    def interrupted(plan, cell, **options):
        if len(ran) == 5:
            raise KeyboardInterrupt
        ran.append(cell)
        return runner_run_cell(plan, cell, **options)

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
            del cell["seconds"], cell["curve"]["seconds"]
        for rows in read["statistics"].values():
            for row in rows["accuracy"].values():
                del row["seconds"], row["reach"]["seconds"]
        del read["command"]
        return read

    assert results(stopped) == results(whole)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--curricula", "spll"], "curricula must be .* Did you mean 'spl'?"),
        (["--curricula", "spl(frm=hard)"], "Did you mean 'form'?"),
        (["--curricula", "spl(form=hard"], "At character 4 the parenthesis is never closed"),
        (["--curricula", ""], "curricula must be one or more different names. Got none"),
        (["--curricula", "spl,spl"], "curricula must be one or more different names"),
        (["--seeds", "1"], "seeds must be a whole number, at least 2. Got 1."),
        (["--seeds", "1,2,1"], "seeds must be different. Got 1 twice."),
        (["--seeds", "many"], "argument --seeds: 'many' is no count, nor a list of seeds"),
        (["--epochs", "0"], "epochs must be a whole number, at least 1. Got 0."),
        (["--jobs", "0"], "jobs must be a whole number, at least 1. Got 0."),
        (["--seed", "3"], r"unrecognized arguments: --seed.*\. Did you mean --seeds\?"),
        (["--label-noise", "a"], "argument --label-noise: 'a' is no number"),
        (["--logger", "tensorbord"], "logger must be one of .* Did you mean 'tensorboard'?"),
        (["--backend", "rai"], "backend must be one of .* Did you mean 'ray'?"),
        (["digit"], "Did you mean 'digits'?"),
        (["missing.csv"], "missing.csv"),
        (["missing.toml"], "data must be a file that is there. Got missing.toml"),
        (["iris", "--text", "words"], "text"),
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
    assert "seeds = 0,1, not 0,1,2" in errors
    assert "Choose another --out" in errors
    assert (out / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    "missing", ["rich", "scipy", "sklearn", "matplotlib", "joblib", "lightning_fabric"]
)
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
    assert "Got no module named 'lightning-fabric'. Try: pip install 'gradatim[compare]'" in errors


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
        # A job in the background of a script ignores the signal, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
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
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [".lock"]  # empty; it ends with the process that holds it


def test_a_plan_file_runs_as_the_options_do(run, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(*TINY, "--out", first)[0] == 0
    assert run("compare", first / "plan.toml", "--jobs", "1", "--out", second)[0] == 0
    assert (first / "plan.toml").read_bytes() == (second / "plan.toml").read_bytes()
    left, right = (json.loads((out / "results.json").read_text()) for out in (first, second))
    scores = [[cell["scores"] for cell in read["cells"]] for read in (left, right)]
    assert scores[0] == scores[1]


def test_options_win_over_the_file_and_paths_are_meant_from_it(run, tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    folder = tmp_path / "study"
    folder.mkdir()
    np.savez(folder / "points.npz", x=rng.normal(size=(60, 2)), y=rng.integers(0, 2, 60))
    (folder / "study.toml").write_text(
        'data = "points.npz"\nseeds = 3\nepochs = 1\ncurricula = ["super_loss"]\n'
    )
    code, shown, errors = run(
        "compare", folder / "study.toml", "--seeds", "2", "--jobs", "1", "--out", tmp_path / "out"
    )
    assert (code, errors.count("failed")) == (0, 0), errors
    assert "points.npz: 3 curricula, 1 setting, 2 seeds: 6 runs." in " ".join(shown.split())


def test_a_model_folder_is_meant_from_the_file_too(tmp_path):
    parser = argparse.ArgumentParser()
    add_compare_options(parser)
    (tmp_path / "encoder").mkdir()
    file = tmp_path / "study.toml"
    for named, meant in (
        ("encoder", str(tmp_path / "encoder")),
        ("distilbert-base-uncased", "distilbert-base-uncased"),
    ):
        file.write_text(f'data = "iris"\nmodel = "{named}"\n')
        assert plan_of(parser.parse_args([str(file)])).model == meant


def test_a_dry_run_prints_the_plan_and_runs_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, shown, errors = run("compare", "--dry-run", "--seeds", "3", "--tune", "2", "--jobs", "1")
    assert (code, errors) == (0, "")
    assert "70 runs (28 of them tune)" in " ".join(shown.split())
    assert "batch_size = 64" in shown
    assert "learning_rate = 0.15" in shown
    assert re.search(r"About .* 70 runs of .* on 1 process, if all cost what plain", shown)
    assert list(tmp_path.iterdir()) == []


def test_a_logger_follows_every_run(run, tmp_path):
    assert run(*TINY, "--logger", "csv", "--out", tmp_path / "out")[0] == 0
    logs = sorted((tmp_path / "out" / "logs").rglob("metrics.csv"))
    assert len(logs) == 12
    lines = logs[0].read_text().splitlines()
    assert "validation_score" in lines[0]
    assert len(lines) == 17  # a line per evaluation: 16 steps make 16 of the 20 marks


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
    for example in ("reviews.csv --text review --label stars", "plan.toml", "--dry-run"):
        assert example in shown
    assert len(CURRICULA) == 7


@pytest.mark.parametrize("words", [[], ["fly"], ["cite"]])
def test_wrong_commands_cost_one_line(run, words):
    code, shown, errors = run(*words)
    assert (code, shown) == (2, "")
    assert one_line(errors)
    assert "--help" in errors


def test_methods_lists_every_method_with_parameters_and_papers(run):
    code, shown, _ = run("methods")
    assert code == 0
    for name in ("uniform", "paced_random", "predefined", "spl", "super_loss", "focal"):
        assert re.search(rf"^ *{name}\b", shown, re.MULTILINE), name
    assert max(map(len, shown.splitlines())) <= 100
    for word in ("survey_every_epochs", "Kumar", "2010"):
        assert word in shown
    code, one, _ = run("methods", "SPL")
    assert code == 0
    assert "start_fraction" in one
    assert "focal" not in one
    assert run("methods", "spll")[0] == 2


def test_cite_prints_each_paper_once(run):
    code, shown, _ = run("cite", "SPL", "spl", "super_loss")
    assert code == 0
    assert shown == gr.cite(gr.SPL, gr.SuperLoss) + "\n"
    assert shown.count("@") == len(set(gr.SPL.references + gr.SuperLoss.references))


def test_policies_of_mixtures_and_values_are_listed_explained_and_cited(run):
    code, shown, _ = run("methods")
    assert code == 0
    assert "Mixtures of several sources, in gr.mixing; not in a comparison" in shown
    code, shown, _ = run("methods", "online_data_mixing", "knn_shapley")
    assert code == 0
    assert shown.startswith("OnlineDataMixing (gradatim.OnlineDataMixing)")
    assert "\nknn_shapley (gradatim.valuation.knn_shapley)" in shown
    code, shown, _ = run("cite", "Exp3S")
    assert (code, shown.startswith("@inproceedings{graves2017,")) == (0, True)


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
