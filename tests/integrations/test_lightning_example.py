"""examples/lightning_module.py runs as its users run it, and goes on from within an epoch."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from ddp.toy import differences
from integrations.lightning_toy import CHATTER

pytestmark = [pytest.mark.filterwarnings(line) for line in CHATTER]

SCRIPT = Path(__file__).parents[2] / "examples" / "lightning_module.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_help_tells_the_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--help")
    assert ended.value.code == 0
    assert "--resume" in capsys.readouterr().out


@pytest.mark.parametrize("curriculum", ["predefined", "superloss", "lerac"])
def test_interrupted_and_resumed_it_ends_the_same(
    curriculum: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--epochs", "2", "--batch-size", "96", "--save-every", "2", "--accumulate", "2"]
    options += ["--curriculum", curriculum, "--folder", str(tmp_path)]
    run(monkeypatch, *options)
    told = capsys.readouterr().out.splitlines()[-1]
    assert "right after" in told
    saved = sorted(tmp_path.glob("*.ckpt"), key=lambda path: int(path.stem[5:]))
    first, last = (torch.load(path, weights_only=False) for path in (saved[0], saved[-1]))
    state = first["callbacks"]["CurriculumCallback"]
    assert state["position"] is not None, "within an epoch"
    assert "combined_loader" not in first["loops"]["fit_loop"]["state_dict"], "kept once"
    saved[-1].unlink()

    run(monkeypatch, *options, "--resume", str(saved[0]))
    assert capsys.readouterr().out.splitlines()[-1] == told
    again = torch.load(saved[-1], weights_only=False)
    for name in ("state_dict", "optimizer_states"):
        assert differences(again[name], last[name]) == []
    ours = "CurriculumCallback"
    assert differences(again["callbacks"][ours], last["callbacks"][ours]) == []
