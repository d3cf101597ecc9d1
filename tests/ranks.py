"""A pool of gloo ranks: one process each, started once and lent to test after test.

Starting a process that imports torch takes seconds, calling a waiting one takes milliseconds.
Each call still gets a process group of its own and the same state of the global generators,
so that nothing a test did before can be seen.
"""

from __future__ import annotations

import io
import itertools
import pickle
import random
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


class RankError(RuntimeError):
    """A rank raised, or its process died; the message holds the rank and its traceback."""


class Ranks:
    """Runs functions on gloo ranks; `run` is what the fixture `run_ranks` hands out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._calls = itertools.count()
        self._context = mp.get_context("spawn")
        self._ranks: list[tuple[Any, Any]] = []  # (process, our end of its pipe)

    def run(
        self, function: Callable[..., Any], world: int, *args: Any, timeout: float = 120.0
    ) -> list[Any]:
        """Call `function(rank, world, *args)` on every rank and return the results by rank.

        Args:
            function: defined at the top of a module, so that another process can import it.
            world: the number of ranks.
            args: what `torch.save` can write; each rank gets a copy of its own.
            timeout: seconds until every rank has answered.

        Raises:
            RankError: a rank raised or died. It names the first that did: the others often
                fail too, of its absence.
            TimeoutError: a rank did not answer. Both errors end the pool; the next call
                starts a fresh one.
        """
        while len(self._ranks) < world:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs,))
            process.start()
            theirs.close()  # or the end of the process would not read as the end of its pipe
            self._ranks.append((process, ours))
        store = (self._folder / f"store-{next(self._calls)}").as_uri()
        ranks = {pipe: rank for rank, (_, pipe) in enumerate(self._ranks[:world])}
        results: list[Any] = [None] * world
        try:
            payload = _dump((function, args))
            for pipe, rank in ranks.items():
                pipe.send_bytes(pickle.dumps((rank, world, store, payload)))
            deadline = time.monotonic() + timeout
            while ranks:
                ready = wait(list(ranks), timeout=max(0.0, deadline - time.monotonic()))
                if not ready:
                    late = sorted(ranks.values())
                    raise TimeoutError(f"no answer from ranks {late} within {timeout} s")
                for pipe in ready:
                    rank = ranks.pop(pipe)
                    results[rank] = self._receive(rank, pipe)
        except BaseException:
            self.close()
            raise
        return results

    def _receive(self, rank: int, pipe: Any) -> Any:
        try:
            trouble, payload = pickle.loads(pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            process = self._ranks[rank][0]
            process.join()
            raise RankError(f"rank {rank} died with exit code {process.exitcode}") from None
        if trouble:
            raise RankError(f"rank {rank} raised:\n{trouble}")
        return _load(payload)

    def close(self) -> None:
        """End every process of the pool."""
        ranks, self._ranks = self._ranks, []
        for process, pipe in ranks:
            pipe.close()
            process.kill()
            process.join()


def _serve(pipe: Any) -> None:
    """A rank's life: answer calls until the other end of the pipe is gone."""
    torch.set_num_threads(1)
    while True:
        try:
            rank, world, store, payload = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        # Another state on each rank: code that leaned on the global generators would show.
        random.seed(rank)
        np.random.seed(rank)  # noqa: NPY002
        torch.manual_seed(rank)
        try:
            function, args = _load(payload)
            dist.init_process_group("gloo", init_method=store, world_size=world, rank=rank)
            # All are connected before anyone can leave: one that left would cut others off.
            dist.barrier()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                answer = ("", _dump(function(rank, world, *args)))
        except BaseException:
            answer = (traceback.format_exc(), b"")
        pipe.send_bytes(pickle.dumps(answer))
        # A rank that failed keeps its group until it is killed: were it gone, others would fail of
        # its absence, and might be heard first.
        if not answer[0]:
            dist.destroy_process_group()


def _dump(value: Any) -> bytes:
    # Bytes through the pipe, not tensors: those would travel as shared memory, and share it.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _load(payload: bytes) -> Any:
    return torch.load(io.BytesIO(payload), weights_only=False)
