"""The papers' figures from recordings, and the command that draws them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import rcParams
from torch.utils.data import TensorDataset

import gradatim as gr
from gradatim import figures
from gradatim.analysis.recording import Recording
from gradatim.cli import main
from gradatim.figures import FIGURES
from gradatim.methods.docl_baselines import DoCLBaseline

EPOCHS, SIZE = 12, 50


def learnt(seed: int = 0, *, epochs: int = EPOCHS, corrupted: bool = True) -> Recording:
    """A run's tables, drawn: losses that fall, a fifth of wrong labels that stay high."""
    draw = np.random.default_rng(seed)
    wrong = np.arange(SIZE) % 5 == 0
    recording = Recording(labels=np.arange(SIZE) % 3, corrupted=wrong if corrupted else None)
    hardness = draw.uniform(1, 2, SIZE) + 2 * wrong
    for epoch in range(1, epochs + 1):
        loss = draw.gamma(2, hardness / (1 + epoch * ~wrong))
        tables = {
            "loss": loss,
            "correct": (loss < 1).astype(np.float32),
            "dih_loss": hardness / epoch,
            "dih_change": hardness + draw.normal(0, 0.1, SIZE),
            "dih_flip": np.round(hardness),
        }
        recording.append({f"Dynamics.{key}": row for key, row in tables.items()}, epoch=epoch)
    return recording


def baseline(seed: int = 0, *, due: bool = False) -> Recording:
    draw = np.random.default_rng(seed)
    recording = Recording()
    for epoch in range(1, 9):
        rows = {key: draw.normal(size=SIZE) for key in ("score", "objective")}
        rows["true_probability"] = draw.uniform(size=SIZE)
        tables = {f"DoCLBaseline.{key}": row for key, row in rows.items()}
        members = draw.uniform(size=SIZE) < 0.2
        recording.append(tables, epoch=epoch, members=members, survey_due=due)
    return recording


def layered(seed: int = 0) -> Recording:
    draw = np.random.default_rng(seed)
    recording = Recording()
    for epoch in range(1, 5):
        rows = {key: draw.uniform(0.9, 1, SIZE) for key in ("entropy.first", "entropy.last")}
        recording.append(rows, epoch=epoch)
    return recording


def texts(seed: int = 0) -> Recording:
    draw = np.random.default_rng(seed)
    recording = Recording(labels=np.arange(SIZE) % 7)
    before = np.full(SIZE, np.nan)
    for epoch in range(1, 5):
        norm = draw.gamma(9, 10, SIZE)
        tables = {"norm": norm, "seen": np.full(SIZE, 2 * epoch - 2), "before": before}
        tables["tokens"] = draw.integers(2, 30, SIZE)
        rows = {f"SPDCL.{key}": row for key, row in tables.items()}
        measured = {"accuracy": draw.uniform(), "label F1": draw.uniform(size=7)}
        recording.append(rows, epoch=epoch, measured=measured)
        before = norm
    return recording


def runs_for(name: str) -> list[Recording]:
    makers = {"docl": baseline, "lerac": layered, "spdcl": texts}
    make = makers.get(name.partition("-")[0], learnt)
    return [make(seed) for seed in range(FIGURES[name].runs)]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_with_titles_and_labels(name: str) -> None:
    before = dict(rcParams)
    figure = figures.draw(name, *runs_for(name))
    figure.canvas.draw()  # warnings of the layout are errors here
    assert dict(rcParams) == before
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    for axis in panels:
        assert axis.get_title(loc="left")
        assert axis.has_data()
    assert all(axis.get_xlabel() for axis in panels[-1:])


def test_figure2_shows_the_groups_of_the_epochs_asked_for() -> None:
    figure = figures.draw("dihcl-2", learnt(), epochs=[4, 9])
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[::2] == ["Groups of epoch 4: flips", "Groups of epoch 9: flips"]
    assert [axis.lines[0].get_xdata()[0] for axis in figure.axes] == [4, 4, 9, 9]  # type: ignore[index]


def test_epochs_lie_where_the_papers_lie_unless_asked_for() -> None:
    """10, 40 and 210 of 300 are epochs 2, 8 and 42 of 60."""
    figure = figures.draw("dihcl-2", learnt(epochs=60))
    assert [axis.get_title(loc="left") for axis in figure.axes[::2]] == [
        f"Groups of epoch {epoch}: flips" for epoch in (2, 8, 42)
    ]


def test_figure1_draws_the_same_fifty_samples_twice() -> None:
    recording = learnt()
    figure = figures.draw("dihcl-1", recording)
    losses = recording["Dynamics.loss"].T
    hardness = recording["Dynamics.dih_loss"].T
    for above, below in zip(figure.axes[0].lines, figure.axes[1].lines, strict=True):
        sample = int(np.flatnonzero((losses == below.get_ydata()).all(1))[0])
        np.testing.assert_array_equal(above.get_ydata(), hardness[sample])


def test_figure5_compares_the_epochs_that_both_runs_have() -> None:
    figure = figures.draw("dihcl-5", learnt(0, epochs=5), learnt(1, epochs=9))
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]  # type: ignore[union-attr]


def test_the_noise_figure_separates_clean_from_corrupted() -> None:
    recording = learnt()
    figure = figures.draw("noise", recording)
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    wrong = recording.corrupted
    expected = recording["Dynamics.loss"][:, wrong].mean(1)
    np.testing.assert_allclose(lines["wrong labels"].get_ydata(), expected)
    assert np.all(np.asarray(figure.axes[2].lines[0].get_ydata()) > 0.9)


def test_another_table_may_tell_hardness() -> None:
    own = figures.draw("dihcl-4", learnt(), hardness="Dynamics.loss")
    assert [axis.get_title(loc="left") for axis in own.axes] == ["Dynamics.loss"]
    three = figures.draw("dihcl-4", learnt())
    assert len(three.axes) == 3


def test_docl_rounds_are_the_even_epochs() -> None:
    figure = figures.draw("docl-2", recording := baseline())
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [1, 2, 3, 4]  # type: ignore[union-attr]
    rows, members = recording["DoCLBaseline.score"][1::2], recording.members[1::2]
    expected = [row[chosen].mean() for row, chosen in zip(rows, members, strict=True)]
    np.testing.assert_allclose(line.get_ydata(), expected)


# ---------------------------------------------------------------- from runs


def trained(method: gr.Method, dataset: TensorDataset, epochs: int) -> Recording:
    """A linear model's run, recorded after each survey."""
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    curriculum = gr.Curriculum(method).attach(model, optimizer)
    loader = curriculum.loader(dataset, batch_size=16)
    recording = Recording(labels=dataset.tensors[1], corrupted=torch.arange(64) % 5 == 0)

    def forward(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        logits = model(batch[0])
        losses = torch.nn.functional.cross_entropy(logits, batch[1], reduction="none")
        return {"losses": losses, "logits": logits, "targets": batch[1]}

    for epoch in range(epochs + 1):
        if curriculum.survey_due:
            curriculum.survey(dataset, forward)
        if epoch:
            recording.take(curriculum)
        if epoch == epochs:
            break
        for batch in loader:
            optimizer.zero_grad()
            found = forward(batch)
            losses = curriculum.criterion(found["logits"], batch[1])
            curriculum(losses, logits=found["logits"], targets=batch[1]).backward()
            optimizer.step()
    return recording


def test_dynamics_records_what_the_figures_need(dataset: TensorDataset) -> None:
    recording = trained(gr.Dynamics(), dataset, 4)
    for name in ("dihcl-1", "dihcl-2", "dihcl-3", "dihcl-4", "noise", "forgetting"):
        assert figures.draw(name, recording).axes, name
    tau = figures.draw("dihcl-5", recording, recording).axes[0].lines[0].get_ydata()
    assert tau[-1] == pytest.approx(1)  # type: ignore[index]


def test_docls_baseline_records_what_the_figures_need(dataset: TensorDataset) -> None:
    recording = trained(DoCLBaseline(2, flow_size=32), dataset, 6)
    figure = figures.draw("docl-2", recording)
    for axis, number in zip(figure.axes, (1, 2, 2), strict=True):
        assert [np.isfinite(line.get_ydata()[1:]).all() for line in axis.lines] == [True] * number  # type: ignore[index]
    chosen = recording["DoCLBaseline.score"][3][recording.members[3]]
    assert chosen.min() >= np.sort(recording["DoCLBaseline.score"][3])[-len(chosen)]


# ---------------------------------------------------------------- the command


def saved(tmp_path: Path, *recordings: Recording) -> list[str]:
    paths = [tmp_path / f"run{number}.npz" for number in range(len(recordings))]
    for recording, path in zip(recordings, paths, strict=True):
        recording.save(path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("name", ["dihcl-3", "dihcl-5", "docl-3", "forgetting"])
def test_the_command_writes_a_picture(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folder" / "picture.png"
    paths = saved(tmp_path, *runs_for(name))
    assert main(["figure", name, *paths, "--out", str(out)]) == 0
    assert out.read_bytes()[1:4] == b"PNG"
    assert capsys.readouterr().out == f"{out}\n"


def test_the_picture_has_the_figures_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figure", "dihcl-2", *saved(tmp_path, learnt()), "--epoch", "5"]) == 0
    assert (tmp_path / "dihcl-2.png").is_file()


def test_without_a_name_the_figures_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FIGURES)
    assert main(["figure", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(line in shown for line in lines)


def test_wrong_commands_cost_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other, noiseless, base, old = saved(
        tmp_path, learnt(), learnt(1), learnt(corrupted=False), baseline(), baseline(due=True)
    )
    (tmp_path / "text.npz").write_text("text")
    cases = {
        ("dihcl-6", run): "figure must be one of .*Did you mean",
        ("dihcl-1",): "figure dihcl-1 must be drawn from one recording. Got 0",
        ("dihcl-1", run, other): "drawn from one recording. Got 2",
        ("dihcl-5", run): "drawn from two recordings. Got 1",
        ("dihcl-1", str(tmp_path / "none.npz")): "No such file",
        ("dihcl-1", str(tmp_path / "text.npz")): "path must be a recording",
        ("dihcl-1", base): r"with table 'Dynamics.dih_loss'.*Was gr.Dynamics\(\) in",
        ("docl-2", run): r"with table 'DoCLBaseline.score'.*Was gr.DoCLBaseline\(\) in",
        ("docl-2", old): "must be taken after each survey",
        ("noise", noiseless): "Pass Recording",
        ("dihcl-2", run, "--epoch", "13"): "epoch must be recorded: 2 to 12. Got 13",
        ("dihcl-2", run, "--epoch", "1"): "epoch must be recorded: 2 to 12. Got 1",
        ("dihcl-1", run, "--epoch", "3"): "epochs must be left out for dihcl-1.*For dihcl-2",
        ("forgetting", run, "--hardness", "a"): "hardness must be left out for forgetting",
        ("dihcl-1", run, "--hardness", "a"): "with table 'a'",
        ("dihcl-1", run, "--out", "a.pdf"): "--out must be the name of a .png file",
        ("dihcl-1", run, "--epoch", "x"): "invalid int value",
    }
    for words, message in cases.items():
        assert main(["figure", *words]) == 2, words
        captured = capsys.readouterr()
        assert re.search(message, captured.err), captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""


def test_runs_of_other_samples_are_refused() -> None:
    other = learnt(1)
    other.labels = np.zeros(SIZE)
    with pytest.raises(ValueError, match="recordings must be of the same samples"):
        figures.draw("dihcl-5", learnt(), other)
    late = Recording()
    late.append({"Dynamics.dih_flip": np.arange(50.0)}, epoch=99)
    with pytest.raises(ValueError, match="recordings must be with epochs in common"):
        figures.draw("dihcl-5", learnt(), late)


def test_one_epoch_is_too_few_for_flips() -> None:
    with pytest.raises(ValueError, match="recording must be of at least 2 epochs"):
        figures.draw("dihcl-2", learnt(epochs=1))
    with pytest.raises(ValueError, match="of at least one epoch"):
        figures.draw("dihcl-2", Recording())


@pytest.mark.parametrize("name", ["dihcl-1", "dihcl-3", "dihcl-4", "noise", "forgetting"])
def test_one_epoch_is_enough_for_the_others(name: str) -> None:
    figures.draw(name, learnt(epochs=1)).canvas.draw()
    assert len(figures.draw(name, learnt(epochs=1)).axes) > 0


def test_a_failed_write_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    out = str(tmp_path / "file" / "a.png")
    assert main(["figure", "forgetting", *saved(tmp_path, learnt()), "--out", out]) == 2
    assert capsys.readouterr().err.startswith("gradatim: ")
