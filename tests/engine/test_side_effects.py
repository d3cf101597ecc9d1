"""Importing and using gradatim changes nothing outside of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import torch

import gradatim as gr
from engine.probes import LastLoss, Samples, train

PROBE = r"""
import json, random, sys
import numpy, torch, torch.utils.data
from torch.utils.data import dataloader

classes = [
    torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch.optim.SGD, torch.Generator,
    torch.nn.parallel.DistributedDataParallel, torch.amp.GradScaler,
    *(value for value in vars(torch.utils.data).values() if isinstance(value, type)),
    *(value for value in vars(dataloader).values() if isinstance(value, type)),
]
modules = [torch, torch.utils.data, dataloader, torch.utils.data._utils.worker,
           torch.utils.data._utils.collate, torch.utils.data._utils.pin_memory,
           torch.nn.functional, torch.optim, numpy.random, random]

def contents():
    held = {}
    for owner in [*classes, *modules]:
        for name, value in list(vars(owner).items()):
            if not name.startswith("__"):
                held[id(owner), str(owner), name] = value
    return held

def states():
    numbers = numpy.random.get_state()
    return [random.getstate(), numbers[1].tolist(), numbers[2:], torch.get_rng_state().tolist()]

def changes(before, after):
    return [
        f"{key[1]}.{key[2]}" for key in {**before, **after}
        if key not in before or key not in after or before[key] is not after[key]
    ]

before, random_before, loaded = contents(), states(), set(sys.modules)
import gradatim
imported = changes(before, contents())
new = set(sys.modules) - loaded

# torch imports its compiler when the first optimizer is built, which every training does.
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
before = contents()

class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, k): return torch.tensor(float(k))

curriculum = gradatim.Curriculum(gradatim.SPL(), gradatim.SuperLoss())
loader = curriculum.loader(Data(), batch_size=2, num_workers=1, seed_augmentation=True)
for _ in range(2):
    for batch in loader:
        curriculum(batch)
curriculum.metrics(), curriculum.scores(), curriculum.state_dict()

print(json.dumps({
    "imported": imported,
    "used": changes(before, contents()),
    "random": states() == random_before,
    "new": sorted({name.partition(".")[0] for name in new} - set(sys.stdlib_module_names)),
    "compiler": "torch._dynamo" in new,
}))
"""


def test_d41_importing_and_using_it_patches_nothing_and_loads_nothing_else() -> None:
    """A peer replaces DataLoader's ``__next__`` for the whole process when it is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "imported": [],
        "used": [],
        "random": True,
        # `gradatim.distributed` imports a module of torch before there is a process group.
        "new": ["_remote_module_non_scriptable", "gradatim", "torch"],
        "compiler": False,
    }


def test_d43_no_public_call_touches_the_global_generators(watch_global_rng: Any) -> None:
    data = Samples(12)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    moved = watch_global_rng()
    pace = gr.pacing.Linear(start_fraction=0.5, epochs=3)
    curriculum = gr.Curriculum(
        gr.PacedRandom(pace=pace), gr.SPL(pace=pace), gr.SuperLoss(), LastLoss(), seed=3
    )
    loader = curriculum.loader(data, batch_size=4)
    curriculum.attach(model=model, optimizer=optimizer)
    len(loader)
    curriculum.planned_steps(1)
    train(curriculum, loader, epochs=2)
    curriculum.survey(data, lambda batch: {"losses": batch})
    stream = iter(loader)
    batch = next(stream)
    curriculum.criterion(torch.zeros(2, 3), torch.tensor([0, 1]))
    curriculum.weigh(batch, index=curriculum.index)
    next(stream)
    curriculum.skip()
    state = curriculum.collect().state_dict()
    curriculum.load_state_dict(state)
    curriculum.metrics()
    curriculum.scores()
    gr.cite(curriculum)
    repr(curriculum)
    curriculum.detach()
    assert moved() == []


def test_the_default_dtype_and_grad_mode_are_left_alone() -> None:
    """A loop may run in float64 or without gradient."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        curriculum = gr.Curriculum(method := LastLoss(), gr.SuperLoss())
        loader = curriculum.loader(Samples(8), batch_size=4)
        with torch.no_grad():
            train(curriculum, loader)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)
    assert method.loss.values.tolist() == list(range(8))
    assert method.loss.values.dtype == torch.float32
