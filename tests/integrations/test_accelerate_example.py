"""examples/accelerate_loop.py runs as its users run it, and goes on from the middle of an epoch."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from ddp.toy import differences
from integrations.accelerated_toy import forget

SCRIPT = Path(__file__).parents[2] / "examples" / "accelerate_loop.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--cpu", *arguments])
    forget()
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        forget()


def test_help_tells_the_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--help")
    assert ended.value.code == 0
    assert "--accumulate" in capsys.readouterr().out


@pytest.mark.parametrize("curriculum", ["predefined", "superloss"])
def test_interrupted_and_resumed_it_ends_the_same(
    curriculum: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--epochs", "2", "--batch-size", "96", "--save-every", "4", "--accumulate", "2"]
    options += ["--curriculum", curriculum]
    run(monkeypatch, *options, "--folder", str(tmp_path / "whole"))
    told = capsys.readouterr().out
    assert [line.split(":")[0] for line in told.splitlines()] == ["epoch 1", "epoch 2"]
    assert float(re.findall(r"rate (\S+)", told)[-1]) == 0
    saved = sorted((tmp_path / "whole").iterdir(), key=lambda path: int(path.name[5:]))
    steps = [int(path.name[5:]) for path in saved]
    first = torch.load(saved[0] / "custom_checkpoint_0.pkl", weights_only=True)
    assert first["position"] is not None, "within an epoch"
    assert len(steps) > 2

    rest = str(tmp_path / "rest")
    run(monkeypatch, *options, "--folder", rest, "--resume", str(saved[0]))
    assert capsys.readouterr().out.splitlines() == told.splitlines()
    last = Path(rest) / saved[-1].name
    for name in ("optimizer.bin", "scheduler.bin", "custom_checkpoint_0.pkl"):
        one, other = (torch.load(path / name) for path in (saved[-1], last))
        assert differences(one, other) == [], name
    whole, resumed = ((path / "model.safetensors").read_bytes() for path in (saved[-1], last))
    assert whole == resumed
