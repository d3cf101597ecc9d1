"""examples/train.py is killed with SIGKILL, again and again, and ends as if nothing had happened.

Most lives are forked from one process that has imported torch already, since importing it takes
longer than training; torchrun itself is tried with the program.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from ddp.toy import differences
from engine import interrupted

EPOCHS = 4
# 1,437 images in batches of 64: the first epoch has 23 steps, and epochs of 40, 60 and 80 % follow.
FIRST_EPOCH = 23
SECONDS = 300


@dataclass
class Lives:
    """One training run, in as many lives as it takes."""

    nurse: Any
    folder: Path
    world: int = 1
    lines: list[dict[int, dict[str, Any]]] = field(default_factory=list)
    born: int = 0

    @property
    def checkpoint(self) -> Path:
        return self.folder / "run.pt"

    def state(self) -> Any:
        return torch.load(self.checkpoint, weights_only=True)

    def arguments(self, workers: int) -> list[str]:
        # As a user restarts: with --resume once there is something to resume.
        resume = ["--resume"] if self.checkpoint.exists() else []
        numbers = ["--epochs", str(EPOCHS), "--workers", str(workers)]
        return [*numbers, "--checkpoint", str(self.checkpoint), *resume]

    def read(self, trace: str) -> None:
        """Add what a life wrote down to `lines`; what it did again it must have done alike."""
        for rank in range(self.world):
            path = Path(f"{trace}.{rank}")
            text = path.read_text() if path.exists() else ""
            self.lines += [{} for _ in range(rank + 1 - len(self.lines))]
            for line in text.splitlines():
                step = json.loads(line)
                known = self.lines[rank].setdefault(step["step"], step)
                assert known == step, f"step {step['step']} was another one in an earlier life"

    def live(self, kill: str = "", *, workers: int = 0) -> None:
        """Train until the end, or until it is killed."""
        self.born += 1
        trace = str(self.folder / f"trace{self.born}")
        self.nurse.send([SECONDS, self.world, trace, kill, self.arguments(workers)])
        codes = self.nurse.recv()
        if not kill:
            assert codes == [0] * self.world
        elif not kill.startswith("after"):
            assert -signal.SIGKILL in codes, f"was to be killed: {kill}"
        self.read(trace)


def assert_same(lives: Lives, whole: Lives) -> None:
    """Order, weights and losses of every step, and the end: scores, parameters and all."""
    assert lives.lines == whole.lines
    assert differences(lives.state(), whole.state()) == []


@pytest.fixture(scope="module")
def nurse() -> Iterator[Any]:
    """The pipe to the process that forks all lives."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=interrupted.nurse, args=(theirs,))
    process.start()
    theirs.close()
    yield ours
    ours.close()
    process.join()


@pytest.fixture(scope="module")
def whole(nurse: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Lives]:
    """The uninterrupted runs, by number of processes."""
    found = {}
    for world in (1, 2):
        found[world] = Lives(nurse, tmp_path_factory.mktemp(f"whole{world}"), world)
        found[world].live()
        steps = [line["step"] for line in found[world].lines[0].values()]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) > 2 * FIRST_EPOCH
    return found


def test_the_uninterrupted_run_is_worth_comparing(whole: dict[int, Lives]) -> None:
    alone, pair = whole[1].lines, whole[2].lines
    weights = [line["weights"] for line in alone[0].values()]
    assert any(len(set(each)) > 10 for each in weights), "weights differ between samples"
    assert len({tuple(line["rows"]) for line in alone[0].values()}) == len(weights)
    for step in range(1, FIRST_EPOCH + 1):
        for rank in (0, 1):
            rows, share = alone[0][step]["rows"][rank::2], pair[rank][step]["rows"]
            # 1,437 is odd: the last row of the second process is padding.
            padding = rank == 1 and step == FIRST_EPOCH
            assert share[: len(rows)] == rows
            assert len(share) == len(rows) + padding
    assert alone[0][FIRST_EPOCH]["epoch"] == 0
    assert alone[0][FIRST_EPOCH + 1]["epoch"] == 1


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2)])
def test_killed_at_chosen_and_random_steps(
    nurse: Any, whole: dict[int, Lives], tmp_path: Path, world: int, workers: int
) -> None:
    last = len(whole[world].lines[0])
    step = random.SystemRandom().randrange(FIRST_EPOCH + 1, last)
    seconds = random.SystemRandom().uniform(0.0, 2.0)
    lives = Lives(nurse, tmp_path, world)
    # Before the first checkpoint; between writing one and putting it in place, where the file
    # left must be the one before; with one in place; at the first step after the last one.
    lives.live(f"call:{world - 1}:3")
    assert not lives.checkpoint.exists()
    lives.live("part:0:3", workers=workers)
    assert lives.state()["curriculum"]["step"] == 10
    lives.live(f"call:{world - 1}:{FIRST_EPOCH}", workers=workers)
    assert lives.state()["curriculum"]["step"] == 20
    lives.live("saved:0:1", workers=workers)
    assert lives.state()["curriculum"]["step"] == 25
    if step > 25:
        lives.live(f"call:0:{step}", workers=workers)
    lives.live(f"after:{world - 1}:{seconds}", workers=workers)
    lives.live(workers=2 - workers)
    assert_same(lives, whole[world])


def test_killed_under_torchrun(nurse: Any, whole: dict[int, Lives], tmp_path: Path) -> None:
    lives = Lives(nurse, tmp_path, 2)

    def torchrun(kill: str, workers: int) -> subprocess.CompletedProcess[str]:
        lives.born += 1
        trace = str(tmp_path / f"trace{lives.born}")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        program = [interrupted.__file__, trace, kill, *lives.arguments(workers)]
        done = subprocess.run(
            [*command, "--nproc-per-node", "2", *program],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        lives.read(trace)
        return done

    killed = torchrun(f"call:1:{FIRST_EPOCH + 4}", workers=2)
    assert killed.returncode != 0
    assert lives.state()["curriculum"]["step"] == 25
    resumed = torchrun("", workers=0)
    assert resumed.returncode == 0, resumed.stderr
    assert_same(lives, whole[2])


def test_two_processes_killed_and_resumed_as_one(
    nurse: Any, whole: dict[int, Lives], tmp_path: Path
) -> None:
    lives = Lives(nurse, tmp_path, 2)
    lives.live(f"call:1:{FIRST_EPOCH - 2}")
    step = lives.state()["curriculum"]["step"]
    assert step == 20
    alone = Lives(nurse, tmp_path, 1, born=1)
    alone.live(workers=2)
    one = whole[1].lines[0]
    for number in range(step + 1, FIRST_EPOCH + 1):
        assert alone.lines[0][number]["rows"] == one[number]["rows"]
        torch.testing.assert_close(
            torch.tensor(alone.lines[0][number]["weights"]), torch.tensor(one[number]["weights"])
        )
    again = alone.lines[0][FIRST_EPOCH + 1]
    assert again["epoch"] == 1, "the epoch ends where it would have"
