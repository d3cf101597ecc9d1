"""Runs examples/train.py, writes down every step, and dies where it is told to.

As a program (torchrun starts it): ``interrupted.py TRACE KILL ARGUMENTS...``, KILL as in `run`.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import gradatim as gr

SCRIPT = Path(__file__).parents[2] / "examples" / "train.py"


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(trace: str, kill: str, arguments: list[str]) -> None:
    """Run the script in this process.

    Args:
        trace: file that gets one JSON line per step; the rank is added to its name.
        kill: ``""``; ``"call:RANK:STEP"`` in the curriculum's call of that step; ``"part:RANK:N"``
            with the N-th checkpoint written and not yet in place; ``"saved:RANK:N"`` with it in
            place; ``"after:RANK:SECONDS"`` wherever the process is by then.
        arguments: of the script.
    """
    rank = int(os.environ.get("RANK", "0"))
    where, who, when = kill.split(":") if kill else ("", "-1", "0")
    mine = int(who) == rank
    lines = os.open(f"{trace}.{rank}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    class Traced(gr.Curriculum):
        def __call__(self, losses: Any, **given: Any) -> Any:
            rows, epoch, step = self.epochs._pending[0].tolist(), self.epoch, self.step + 1
            if mine and where == "call" and step == int(when):
                _die()
            weights, scale = self.weigh(losses, **given)
            loss = (weights * losses).sum() * scale
            line = {
                "step": step,
                "epoch": epoch,
                "rows": rows,
                "weights": (weights * scale).tolist(),
                "losses": losses.tolist(),
            }
            os.write(lines, (json.dumps(line) + "\n").encode())
            return loss

    replace, count = os.replace, 0

    def replace_or_die(source: str, target: str) -> None:
        nonlocal count
        count += 1
        if mine and where == "part" and count == int(when):
            _die()
        replace(source, target)
        if mine and where == "saved" and count == int(when):
            _die()

    gr.Curriculum = Traced  # type: ignore[misc]
    os.replace = replace_or_die  # type: ignore[assignment]
    if mine and where == "after":
        timer = threading.Timer(float(when), _die)
        timer.daemon = True
        timer.start()
    sys.argv = [str(SCRIPT), *arguments]
    runpy.run_path(str(SCRIPT), run_name="__main__")


def _run_rank(
    rank: int, world: int, port: int, trace: str, kill: str, arguments: list[str]
) -> None:
    """As `run`, in the environment that torchrun gives a rank."""
    # A script's own workers are forked from it.
    multiprocessing.set_start_method("fork", force=True)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    run(trace, kill, arguments)


def _live(seconds: float, world: int, *request: Any) -> list[int | None]:
    """Run all ranks of one life; their exit codes. One that dies takes the others along."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_run_rank, args=(rank, world, port, *request))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + seconds
    alive = {process.sentinel: process for process in ranks}
    while alive:
        ended = wait(list(alive), timeout=max(0.0, deadline - time.monotonic()))
        finished = [alive.pop(end) for end in ended]  # type: ignore[call-overload]
        for process in finished:
            process.join()
        if not ended or any(process.exitcode for process in finished):
            for process in alive.values():
                process.kill()
                process.join()
            break
    return [process.exitcode for process in ranks]


def nurse(pipe: Any) -> None:
    """Fork life after life from this process, which has imported torch once."""
    importlib.import_module("sklearn.datasets")
    importlib.import_module("torch._dynamo")
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send(_live(*request))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3:])
