"""Several processes: a group that comes late, ranks that disagree, an epoch's edges."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import TensorDataset

import gradatim as gr
from ddp.toy import METHODS, Toy, restore, train


def late_group(rank: int, world: int, store: str) -> dict[str, Any]:
    dist.destroy_process_group()
    curriculum = gr.Curriculum(*METHODS["Visits"](35), seed=0)
    loader = curriculum.loader(Toy(35), 4, drop_last=rank > 1)
    found: dict[str, Any] = {"alone": (len(loader), curriculum.planned_steps(2))}
    found["sampler alone"] = len(loader.sampler)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    found["together"] = (len(loader), curriculum.planned_steps(2))
    found["sampler together"] = len(loader.sampler)
    found["rows"] = []
    for x, y in loader:
        found["rows"].append(curriculum.index.tolist())
        curriculum(x[:, 0] ** 2, logits=x[:, :3], targets=y)
    found["visits"] = curriculum.scores()["Visits.visits"]
    return found


def test_the_group_may_start_after_curriculum_and_loader(run_ranks: Any, tmp_path: Any) -> None:
    ranks = run_ranks(late_group, 2, (tmp_path / "store").as_uri())
    for found in ranks:
        assert found["alone"] == (9, 18)  # 35 samples in batches of 4
        assert found["together"] == (5, 10)  # 18 of 36 rows each
        assert found["sampler alone"] == 35
        assert found["sampler together"] == 18
        assert found["visits"].tolist() == [1] * 35
    assert ranks[0]["rows"] != ranks[1]["rows"]


def disagree(rank: int, world: int, states: list[bytes]) -> list[str]:
    def attempt(seed: int = 0, size: int = 35, batch: int = 4, state: bytes = b"") -> str:
        curriculum = gr.Curriculum(gr.Uniform(), seed=seed)
        loader = curriculum.loader(Toy(size), batch)
        if state:
            curriculum.load_state_dict(restore(state)["curriculum"])
        try:
            next(iter(loader))
        except RuntimeError as error:
            return str(error)
        return "went on"

    return [
        attempt(seed=3),
        attempt(state=states[1]),
        attempt(seed=rank),
        attempt(size=35 + rank),
        attempt(batch=4 + rank),
        attempt(state=states[rank]),
        attempt(state=b"" if rank else states[0]),
    ]


def test_ranks_that_differ_are_told_apart_on_every_rank(run_ranks: Any) -> None:
    saved = train("Uniform", save_at=(2, 3), epochs=1).saved
    for alike, resumed, *others in run_ranks(disagree, 2, [saved[2], saved[3]]):
        assert alike == resumed == "went on"
        assert len(others) == 5
        for message in others:
            assert "the plan of the epoch must be the same on every rank. Got [" in message
            assert "Do all ranks use the same seed, data, batch size and checkpoint?" in message


class Aging(gr.Method):
    """Writes where all ranks write alike: at the edges of epochs."""

    def setup(self, run: gr.Run) -> None:
        self.age = gr.Table("age", dtype=torch.int64, merge="sum")
        self.mark = gr.Table("mark", fill=-1)
        self.epochs = gr.Scalar("epochs", merge="sum")

    def start_epoch(self, run: gr.Run) -> None:
        self.mark.write(torch.arange(2), torch.full((2,), float(run.epoch)))

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.age.add(batch.index, torch.ones_like(batch.index))

    def end_epoch(self, run: gr.Run) -> None:
        everyone = torch.arange(run.size)
        self.age.add(everyone, torch.full((run.size,), 100))
        self.epochs.add(1.0)


def age(rank: int, world: int) -> list[Any]:
    curriculum = gr.Curriculum(Aging(), seed=0)
    loader = curriculum.loader(Toy(10), 3)
    found = []
    for _ in range(3):
        for x, _ in loader:
            curriculum(x[:, 0] ** 2)
        saved = curriculum.state_dict()["methods"][0]["tables"]
        found.append(
            [curriculum.scores()["Aging.age"]]
            + [saved[name].clone() for name in ("age", "mark", "epochs")]
        )
    return found


def test_what_all_ranks_write_between_epochs_counts_once_and_is_saved(run_ranks: Any) -> None:
    for found in run_ranks(age, 2):
        for epoch, (scores, saved, mark, epochs) in enumerate(found):
            assert scores.tolist() == [101 * (epoch + 1)] * 10
            assert saved.tolist() == scores.tolist()
            assert mark[:3].tolist() == [epoch, epoch, -1]
            assert epochs.tolist() == [epoch + 1.0]


class Hardest(gr.Method):
    """Trains on the hardest k of the candidates."""

    def setup(self, run: gr.Run) -> None:
        self.visits = gr.Table("visits", dtype=torch.int64, merge="sum")

    def select(self, batch: gr.Batch, k: int, run: gr.Run) -> torch.Tensor:
        return batch.losses.topk(k).indices

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.visits.add(batch.index, torch.ones_like(batch.index))


def select(rank: int, world: int, size: int) -> list[Any]:
    values = torch.arange(float(size))
    curriculum = gr.Curriculum(Hardest(), seed=0)
    loader = curriculum.loader(TensorDataset(values), 4)
    weight = torch.ones((), requires_grad=True)
    losses = []
    for (x,) in loader:
        chosen = curriculum.select(x, k=2)
        losses.append(float(curriculum(weight * x[chosen]).detach()))
    return [losses, curriculum.scores()["Hardest.visits"]]


def test_selecting_survives_a_last_batch_that_only_pads(run_ranks: Any) -> None:
    # 17 samples in batches of 8: one is left for rank 0, none for rank 1.
    ranks = run_ranks(select, 2, 17)
    for losses, visits in ranks:
        assert len(losses) == 3
        assert all(math.isfinite(loss) for loss in losses)
        assert visits.tolist() == [1] * 17
    assert ranks[1][0][-1] == 0.0, "nothing counts on this rank"


LET_GO = """
import gc, sys, weakref
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import gradatim as gr

def main():
    model = DistributedDataParallel(nn.Linear(2, 2))
    curriculum = gr.Curriculum(gr.Uniform(), seed=0)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.ones(4, 2)), 2)
    for (x,) in loader:
        curriculum(model(x).sum(1)).backward()

dist.init_process_group("gloo", init_method=sys.argv[1], rank=0, world_size=1)
group = weakref.ref(dist.group.WORLD)
main()
dist.destroy_process_group()
gc.collect()
sys.exit("the group is still held" if group() is not None else 0)
"""


def test_a_destroyed_group_is_held_by_nobody(tmp_path: Any) -> None:
    """Held to the end of the process, its threads now and then aborted a script at exit."""
    store = (tmp_path / "store").as_uri()
    command = [sys.executable, "-c", LET_GO, store]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
