"""Recordings of a run: rows by epoch, files that are whole, what the tables said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradatim as gr
from engine.probes import LastLoss, Samples
from gradatim.analysis.recording import Recording


class Halves(gr.Method):
    """Trains on the first half in even epochs and on the second in odd ones."""

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        half = run.size // 2
        return pool.keep(torch.arange(half) + half * (run.epoch % 2))


def recorded(
    *methods: gr.Method, epochs: int = 3, size: int = 4, **fixed: Any
) -> tuple[Recording, gr.Curriculum, Any]:
    curriculum, recording = gr.Curriculum(*methods), Recording(**fixed)
    loader = curriculum.loader(Samples(size), batch_size=3)
    for _ in range(epochs):
        run_epoch(curriculum, loader)
        recording.take(curriculum)
    return recording, curriculum, loader


def run_epoch(curriculum: gr.Curriculum, loader: Any) -> None:
    for x in loader:
        curriculum(x + 10 * curriculum.epoch)


def test_a_row_per_epoch_holds_tables_and_members() -> None:
    recording, _, _ = recorded(Halves(), LastLoss())
    assert recording.keys() == ["LastLoss.loss"]
    assert recording.epochs.tolist() == [1, 2, 3]
    nan = math.nan
    expected = [[0, 1, nan, nan], [0, 1, 12, 13], [20, 21, 12, 13]]
    np.testing.assert_array_equal(recording["LastLoss.loss"], expected)
    halves = [[True, True, False, False], [False, False, True, True], [True, True, False, False]]
    assert recording.members.tolist() == halves
    assert (len(recording), recording.size) == (3, 4)


def test_rows_are_copies() -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    recording = Recording()
    run_epoch(curriculum, curriculum.loader(Samples(4), batch_size=3))
    recording.take(curriculum)
    before = recording["LastLoss.loss"].copy()
    method.loss.storage.fill_(9.0)
    recording["LastLoss.loss"][:] = 7.0
    assert recording["LastLoss.loss"].tolist() == before.tolist()


def test_what_is_given_is_copied() -> None:
    labels, wrong, values = torch.arange(2), np.array([True, False]), torch.ones(2)
    members = np.array([True, True])
    recording = Recording(labels=labels, corrupted=wrong, values=values)
    recording.append({"a": values}, epoch=1, members=members)
    labels += 5
    values += 5
    wrong[:] = members[:] = False
    assert recording.labels is not None
    assert recording.labels.tolist() == [0, 1]
    assert recording.corrupted is not None
    assert recording.corrupted.tolist() == [True, False]
    assert recording.extra["values"].tolist() == recording["a"][0].tolist() == [1.0, 1.0]
    assert recording.members.all()


def test_a_saved_recording_comes_back_and_goes_on(tmp_path: Path) -> None:
    fixed = {
        "labels": torch.tensor([3, 1, 2, 0]),
        "corrupted": [True, False, False, True],
        "names": np.array(["a", "b", "c", "d"]),
        "box": torch.arange(8).reshape(4, 2),
    }
    recording, curriculum, loader = recorded(Halves(), LastLoss(), **fixed)
    recording.save(tmp_path / "run.npz")
    other = Recording.load(str(tmp_path / "run.npz"))
    assert other.labels is not None
    assert other.labels.tolist() == [3, 1, 2, 0]
    assert other.corrupted is not None
    assert other.corrupted.tolist() == [True, False, False, True]
    assert other.extra["names"].tolist() == ["a", "b", "c", "d"]
    assert other.extra["box"].shape == (4, 2)
    run_epoch(curriculum, loader)
    recording.take(curriculum)
    other.take(curriculum)
    assert other.epochs.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(other["LastLoss.loss"], recording["LastLoss.loss"])
    np.testing.assert_array_equal(other.members, recording.members)
    assert other["LastLoss.loss"].dtype == np.float32


def test_tables_may_appear_and_vanish(tmp_path: Path) -> None:
    recording = Recording()
    recording.append({"a": np.array([1.0, 2.0])}, epoch=1)
    recording.append({"b": np.array([3, 4])}, epoch=2)
    recording.append({"a": np.array([5.0, 6.0])}, epoch=4)
    recording.save(tmp_path / "run.npz")
    nan = math.nan
    for one in (recording, Recording.load(tmp_path / "run.npz")):
        assert one.keys() == ["a", "b"]
        np.testing.assert_array_equal(one["a"], [[1, 2], [nan, nan], [5, 6]])
        np.testing.assert_array_equal(one["b"], [[nan, nan], [3, 4], [nan, nan]])
        assert one.epochs.tolist() == [1, 2, 4]
        assert one.members.all()


def test_precision_is_that_of_the_tables() -> None:
    recording = Recording()
    exact = 2**24 + 1
    values = {
        "single": torch.tensor([0.1], dtype=torch.float32),
        "brain": torch.tensor([0.5], dtype=torch.bfloat16),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "count": torch.tensor([exact]),
        "flag": torch.tensor([True]),
    }
    recording.append(values, epoch=1)
    kinds = {key: recording[key].dtype.name for key in values}
    assert kinds == {
        "single": "float32", "brain": "float32",
        "double": "float64", "count": "float64", "flag": "float64",
    }  # fmt: skip
    assert recording["count"].tolist() == [[exact]]
    assert recording["double"].tolist() == [[0.1]]


def test_a_run_that_went_back_replaces_its_rows() -> None:
    recording, curriculum, loader = recorded(LastLoss(), epochs=1)
    state = curriculum.state_dict()
    first = recording["LastLoss.loss"][0].tolist()
    for _ in range(2):
        run_epoch(curriculum, loader)
        recording.take(curriculum)
        recording.take(curriculum)  # twice is once
    assert recording.epochs.tolist() == [1, 2, 3]
    curriculum.load_state_dict(state)
    run_epoch(curriculum, loader)
    recording.take(curriculum)
    assert recording.epochs.tolist() == [1, 2]
    assert recording["LastLoss.loss"][0].tolist() == first


def test_rows_from_before_a_survey_are_marked(tmp_path: Path) -> None:
    class Surveyed(gr.Method):
        seen = -1

        def survey_due(self, run: gr.Run) -> bool:
            return self.seen != run.epoch

        def observe(self, batch: gr.Batch, run: gr.Run) -> None:
            self.seen = run.epoch if batch.surveyed else self.seen

    recording, curriculum, loader = recorded(Surveyed(), epochs=1)
    curriculum.survey(Samples(4), lambda batch: {"losses": batch})
    run_epoch(curriculum, loader)
    curriculum.survey(Samples(4), lambda batch: {"losses": batch})
    recording.take(curriculum)
    assert recording.survey_due.tolist() == [True, False]
    recording.save(tmp_path / "run.npz")
    assert Recording.load(tmp_path / "run.npz").survey_due.tolist() == [True, False]


# ---------------------------------------------------------------- refused


def test_an_epoch_that_is_not_over_is_refused() -> None:
    curriculum, recording = gr.Curriculum(LastLoss()), Recording()
    loader = curriculum.loader(Samples(4), batch_size=3)
    with pytest.raises(RuntimeError, match="epochs that are over, and there is none yet"):
        recording.take(curriculum)
    run_epoch(curriculum, loader)
    curriculum(next(iter(loader)))
    with pytest.raises(RuntimeError, match="whole epochs, and this one has begun"):
        recording.take(curriculum)
    assert len(recording) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: Recording(corrupted=[0, 1]), ValueError, "corrupted must be bool"),
        (lambda r: Recording(labels=[1, 2], extra=[1.0]), ValueError, "extra must be of 2 samples"),
        (lambda r: Recording(labels=[[[1]]]), ValueError, "labels must be of shape"),
        (lambda r: Recording(labels=[None]), TypeError, "labels must be an array with one row per"),
        (lambda r: Recording(labels=3), TypeError, "labels must be an array"),
        (lambda r: r.append({"a": [1.0, 2.0]}, epoch=2), ValueError, "a must be of 1 samples"),
        (lambda r: r.append({"a": [[1.0]]}, epoch=2), ValueError, "a must be one-dimensional"),
        (lambda r: r.append({"a": ["x", None]}, epoch=2), TypeError, "a must be an array"),
        (lambda r: r.append({"a": ["x"]}, epoch=2), TypeError, "a must be real numbers"),
        (lambda r: r.append({"a": [1.0]}, epoch=0), ValueError, "epoch must be a whole number"),
        (lambda r: r.append({}, epoch=1, members=[1]), ValueError, r"members must be bool \(N,\)"),
        (lambda r: r.append({}, epoch=1, members=[True] * 2), ValueError, "members must be of 1"),
        (lambda r: Recording().append({}, epoch=1), ValueError, "tables must be not empty"),
        (lambda r: r["b"], KeyError, "'b' was not recorded. Known tables: 'a'"),
        (lambda r: Recording()["b"], KeyError, "Known tables: none"),
        (lambda r: Recording().save("x.npz"), ValueError, "recording must be of at least one"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    recording = Recording()
    recording.append({"a": [1.0]}, epoch=1)  # type: ignore[dict-item]
    with pytest.raises(error, match=message):
        call(recording)
    assert recording.epochs.tolist() == [1]
    assert recording["a"].tolist() == [[1.0]]


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    text, other, new = (tmp_path / name for name in ("text", "other.npz", "new.npz"))
    text.write_text("no archive")
    np.savez(other, a=np.zeros(2))
    np.savez(new, format=99, epochs=[1], members=[[True]], survey_due=[False])
    for path, message in (
        (text, "path must be a recording that Recording.save wrote. Got"),
        (other, "Is it another NumPy archive?"),
        (new, "path must be a recording of format 1 or earlier"),
    ):
        with pytest.raises(ValueError, match=message):
            Recording.load(path)
    cut = tmp_path / "cut.npz"
    cut.write_bytes(other.read_bytes()[:100])
    with pytest.raises(ValueError, match="path must be a recording"):
        Recording.load(cut)
    with pytest.raises(FileNotFoundError):
        Recording.load(tmp_path / "absent.npz")


def test_no_file_can_run_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, format=1, epochs=np.array([{}], dtype=object), members=[[True]])
    with pytest.raises(ValueError, match="path must be a recording"):
        Recording.load(path)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.npz"
    recording = Recording()
    recording.append({"a": [1.0]}, epoch=1)  # type: ignore[dict-item]
    recording.save(path)
    before = path.read_bytes()

    def full(file: Any, **content: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        recording.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.npz"]
