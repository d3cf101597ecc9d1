"""The figures of the SPDCL paper: from tables, and from a run of a tiny BERT."""

from __future__ import annotations

import math
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradatim as gr
from gradatim import figures
from gradatim.analysis import Recording, label_f1
from gradatim.cli import main
from gradatim.figures import text

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "text_classification.py"
LABELS = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 1]])
NAN = math.nan


def recorded(*, late: bool = False, **fixed: Any) -> Recording:
    """Two epochs of four texts; norms of the survey before each."""
    recording = Recording(**{"labels": LABELS, **fixed})
    rows = [
        {"norm": [4.0, 2.0, 1.0, 3.0], "seen": [0] * 4, "before": [NAN] * 4},
        {"norm": [3.0, 3.0, 2.0, 1.0], "seen": [2] * 4, "before": [4.0, 2.0, 1.0, 3.0]},
    ]
    for epoch, row in enumerate(rows[late:], start=1):
        tables = {f"SPDCL.{name}": np.array(values) for name, values in row.items()}
        tables["SPDCL.tokens"] = np.array([40, 20, 10, 25])
        f1 = [0.9, 0.1 * epoch, 0.5]
        measured = {"micro-F1": 0.3 * epoch, "label F1": np.array(f1)}
        recording.append(tables, epoch=epoch, measured=measured)
    return recording


def heights(axis: Any) -> list[float]:
    return [patch.get_height() for patch in axis.patches]


def test_boxes_stand_where_norms_were_measured_and_scores_where_epochs_ended() -> None:
    figure = figures.draw("spdcl-norms", recorded())
    above, below = figure.axes
    assert above.get_title(loc="left") == "Norm of 4 texts"
    boxes = [patch.get_path().vertices for patch in above.patches]
    assert [np.asarray(box)[:, 0].mean().round(1) for box in boxes] == pytest.approx(
        [0, 1], abs=0.2
    )
    medians = [line.get_ydata()[0] for line in above.lines if line.get_linewidth() == 1.6]  # type: ignore[index]
    assert medians == pytest.approx([2.5, 2.5])
    (line,) = below.lines
    assert line.get_label() == "micro-F1"
    assert line.get_xdata().tolist() == [1, 2]  # type: ignore[union-attr]
    assert line.get_ydata() == pytest.approx([0.3, 0.6])
    assert above.get_xlim() == below.get_xlim()


def test_a_run_without_scores_has_boxes_alone() -> None:
    recording = Recording()
    row = {"SPDCL.norm": np.ones(3), "SPDCL.seen": np.zeros(3), "SPDCL.before": np.full(3, NAN)}
    recording.append(row, epoch=1)
    assert len(figures.draw("spdcl-norms", recording).axes) == 1


def test_lengths_are_binned_by_the_norm_before_training() -> None:
    figure = figures.draw("spdcl-lengths", recorded())
    dots, bars = figure.axes
    offsets = np.asarray(dots.collections[0].get_offsets())
    assert sorted(map(tuple, offsets.tolist())) == [(10, 1), (20, 2), (25, 3), (40, 4)]
    assert heights(bars) == [10, 20, 25, 40]  # four texts, four bins
    assert bars.get_ylabel() == "mean length, tokens"
    assert bars.get_title(loc="left").endswith("rank correlation 1.00")


def test_lengths_of_ones_own_are_taken_instead_of_tokens() -> None:
    figure = figures.draw("spdcl-lengths", recorded(length=np.array([1, 5, 9, 7])))
    assert heights(figure.axes[1]) == [9, 5, 7, 1]
    assert figure.axes[1].get_ylabel() == "mean length"


def test_of_many_texts_some_are_drawn_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "DOTS", 3)
    figure = figures.draw("spdcl-lengths", recorded())
    assert figure.axes[0].get_title(loc="left") == "3 of 4 texts"
    assert len(np.asarray(figure.axes[0].collections[0].get_offsets())) == 3
    assert heights(figure.axes[1]) == [10, 20, 25, 40]


def test_labels_are_sorted_and_in_groups() -> None:
    """Labels are on 4, 1 and 2 of four texts."""
    figure = figures.draw("spdcl-labels", recorded())
    assert heights(figure.axes[0]) == [4, 2, 1]
    assert figure.axes[0].get_title(loc="left") == "3 labels of 4 texts"
    wide = figures.draw("spdcl-labels", recorded(labels=np.array([0, 0, 0, 1])))
    assert heights(wide.axes[0]) == [3, 1]
    assert wide.axes[0].get_yscale() == "linear"
    many = Recording(labels=np.repeat([0, 1], [62, 2]))
    many.append({"x": np.zeros(64)}, epoch=1)
    axis = figures.draw("spdcl-labels", many).axes[0]
    assert (axis.get_yscale(), axis.get_ylim()[0]) == ("log", 1)


def test_groups_show_the_last_epoch_or_the_one_asked_for() -> None:
    """By frequency labels are 0, 2, 1, each a group of its own."""
    figure = figures.draw("spdcl-groups", recorded(), recorded())
    assert heights(figure.axes[0]) == pytest.approx([0.9, 0.5, 0.2] * 2)
    figure = figures.draw("spdcl-groups", recorded(), recorded(), epochs=[1])
    assert heights(figure.axes[0]) == pytest.approx([0.9, 0.5, 0.1] * 2)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["recording 1, epoch 1", "recording 2, epoch 1"]


@pytest.mark.parametrize(
    ("name", "runs", "options", "message"),
    [
        ("spdcl-norms", [Recording()], {}, "of at least one epoch"),
        ("spdcl-labels", [recorded(labels=None)], {}, "Pass Recording(labels=...)"),
        ("spdcl-groups", [recorded()], {}, "drawn from two recordings"),
        ("spdcl-groups", [recorded()] * 2, {"epochs": [3]}, "epoch must be measured in"),
        ("spdcl-groups", [recorded()] * 2, {"epochs": [1, 2]}, "number of epochs must be"),
        ("spdcl-groups", [recorded(labels=np.arange(4))] * 2, {}, "must be of 4 labels. Got 3"),
        ("spdcl-norms", [recorded()], {"epochs": [1]}, "epochs must be left out"),
        ("spdcl-lengths", [recorded(late=True)], {}, "norms before training"),
        ("spdcl-lengths", [recorded(length=np.ones((4, 2)))], {}, "length must be of shape (N,)"),
    ],
)
def test_what_was_not_recorded_is_asked_for(
    name: str, runs: list[Recording], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        figures.draw(name, *runs, **options)


def test_a_run_of_another_method_or_without_scores_per_label_is_told_what_to_record() -> None:
    other = Recording(labels=LABELS)
    other.append({"Dynamics.loss": np.ones(4)}, epoch=1, measured={"accuracy": 0.5})
    with pytest.raises(ValueError, match=r"'SPDCL.norm'.*Was gr.SPDCL\(\) in the curriculum"):
        figures.draw("spdcl-norms", other)
    with pytest.raises(ValueError, match=r"F1 of each label. Got 'accuracy'.*label_f1"):
        figures.draw("spdcl-groups", other, other)
    nothing = {f"SPDCL.{key}": np.full(4, NAN) for key in ("norm", "before")}
    other.append({**nothing, "SPDCL.seen": np.full(4, -1)}, epoch=1)
    with pytest.raises(ValueError, match=r"one with norms\. Got NaN in all epochs"):
        figures.draw("spdcl-norms", other)


# ------------------------------------------------------------------------------ measured


def test_what_epochs_were_worth_is_kept_saved_and_replaced(tmp_path: Path) -> None:
    recording = Recording()
    recording.append({"x": np.zeros(2)}, epoch=1)
    f1 = torch.tensor([0.5, 1.0], dtype=torch.bfloat16)
    recording.append({}, epoch=2, measured={"F1": f1, "loss": torch.tensor(0.25)})
    f1[0] = 0
    recording.append({}, epoch=3, measured={"loss": 1})
    for found in (recording, saved_and_loaded(recording, tmp_path)):
        measured = found.measured
        assert list(measured) == ["F1", "loss"]
        np.testing.assert_array_equal(measured["F1"], [[NAN, NAN], [0.5, 1], [NAN, NAN]])
        np.testing.assert_array_equal(measured["loss"], [NAN, 0.25, 1])
        found.append({}, epoch=2, measured={"F1": [0.1, 0.2]})
        assert list(found.measured) == ["F1"]
        np.testing.assert_allclose(found.measured["F1"], [[NAN, NAN], [0.1, 0.2]])


def saved_and_loaded(recording: Recording, folder: Path) -> Recording:
    recording.save(folder / "run.npz")
    return Recording.load(folder / "run.npz")


def test_a_file_of_an_earlier_release_measured_nothing(tmp_path: Path) -> None:
    recorded().save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz") as archive:
        old = {name: archive[name] for name in archive.files if not name.startswith("measured/")}
    np.savez(tmp_path / "old.npz", **old)
    assert Recording.load(tmp_path / "old.npz").measured == {}


@pytest.mark.parametrize(
    ("measured", "kind", "message"),
    [
        ({"F1": [0.1, 0.2, 0.3]}, ValueError, r"F1 must be of shape \(2,\), as before. Got \(3,\)"),
        ({"F1": 0.5}, ValueError, r"F1 must be of shape \(2,\), as before"),
        ({"a": [[1.0]]}, ValueError, "a must be one number, or a vector"),
        ({"a": "good"}, TypeError, "a must be real numbers"),
        ({"a": 1j}, TypeError, "a must be real numbers"),
    ],
)
def test_what_cannot_be_a_worth_is_refused_and_changes_nothing(
    measured: dict[str, Any], kind: type[Exception], message: str
) -> None:
    recording = Recording()
    recording.append({"x": np.zeros(2)}, epoch=1, measured={"F1": [0.5, 1.0]})
    with pytest.raises(kind, match=message):
        recording.append({"x": np.zeros(2)}, epoch=2, measured=measured)
    assert len(recording) == 1
    recording.append({"x": np.zeros(2)}, epoch=1, measured={"F1": [1.0] * 3})  # replaces it


# ------------------------------------------------------------------------------ from runs


@pytest.mark.parametrize("measure", ["survey", "training"])
def test_spdcl_records_what_the_figures_need(measure: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(30, 8, 4, generator=generator)
    lengths = torch.randint(1, 9, (30,), generator=generator)
    mask = (torch.arange(8) < lengths.unsqueeze(1)).long()
    curriculum = gr.Curriculum(gr.SPDCL(4, measure=measure))
    loader = curriculum.loader(range(30), batch_size=10)
    recording = Recording(labels=torch.arange(30) % 3)

    def forward(index: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = states[index] * (1 + curriculum.epoch)
        return {"losses": torch.zeros(len(index)), "hidden": hidden, "mask": mask[index]}

    first = gr.scores.nuclear_norm(states, mask)
    while curriculum.epoch < 5:
        if curriculum.survey_due or measure == "survey":
            curriculum.survey(range(30), forward)
        for index in loader:
            known = forward(index)
            curriculum(known.pop("losses"), **known)
        f1 = label_f1(torch.arange(3), torch.arange(3))
        recording.take(curriculum, measured={"macro-F1": f1.mean(), "label F1": f1})
    figure = figures.draw("spdcl-norms", recording)
    medians = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.6]
    # Training shows norms while an order is left to be made from them.
    places = [0, 1, 2, 3, 4] if measure == "survey" else [0, 0.5, 1.5]
    assert [np.mean(line.get_xdata()) for line in medians] == pytest.approx(places)  # type: ignore[arg-type]
    assert medians[0].get_ydata()[0] == pytest.approx(float(first.quantile(0.5)))  # type: ignore[index]
    figure = figures.draw("spdcl-lengths", recording)
    offsets = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert sorted(offsets[:, 0]) == sorted(lengths.tolist())
    np.testing.assert_allclose(sorted(offsets[:, 1]), first.sort().values, rtol=1e-6)
    assert heights(figures.draw("spdcl-labels", recording).axes[0]) == [10, 10, 10]
    assert heights(figures.draw("spdcl-groups", recording, recording).axes[0]) == [1] * 6


def run_example(options: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """As a script, in this process: importing transformers takes longer than all else."""
    pytest.importorskip("transformers")
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
    try:
        with torch.random.fork_rng():  # it seeds as a script does
            runpy.run_path(str(EXAMPLE), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("task", ["single", "multi", "pair"])
def test_the_example_trains_a_tiny_bert_and_its_run_gives_the_figures(
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--task", task, "--epochs", "3", "--shares", "3", "--texts", "60"]
    assert run_example([*options, "--out", "run.npz"], monkeypatch) == 0
    printed = capsys.readouterr().out
    sizes = re.findall(r"^epoch +\d+: +(\d+) texts", printed, re.MULTILINE)
    assert sizes == ["20", "40", "60"]
    for name in ("spdcl-norms", "spdcl-lengths", "spdcl-labels"):
        out = tmp_path / f"{name}.png"
        assert main(["figure", name, str(tmp_path / "run.npz"), "--out", str(out)]) == 0
        assert out.read_bytes()[1:4] == b"PNG"
    norms = Recording.load(tmp_path / "run.npz")["SPDCL.norm"]
    assert np.isfinite(norms).all()
    assert (norms[0] != norms[2]).all()


def test_the_example_tells_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_example(["--help"], monkeypatch) == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in ("task", "curriculum", "shares", "out"))
