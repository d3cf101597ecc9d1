"""examples/hf_trainer.py runs as its users run it."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "hf_trainer.py"


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_help_tells_the_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--help")
    assert ended.value.code == 0
    assert "--curriculum" in capsys.readouterr().out


@pytest.mark.parametrize("curriculum", ["spl", "spdcl"])
def test_it_trains_saves_and_resumes(
    curriculum: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--cpu", "--size", "48", "--epochs", "2", "--curriculum", curriculum]
    options += ["--output", str(tmp_path), "--save-steps", "2", "--batch-size", "6"]
    run(monkeypatch, *options)
    told = [line for line in capsys.readouterr().out.splitlines() if line.endswith("right")]
    assert [line.split(":")[0] for line in told] == ["epoch 1", "epoch 2"]
    saved = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(saved[-1])  # as if it had been killed within the second epoch
    run(monkeypatch, *options, "--resume")
    again = [line for line in capsys.readouterr().out.splitlines() if line.endswith("right")]
    assert again[-1] == told[-1]
