"""LeRaC, CBS and a curriculum over the data in one `Curriculum`: each does what it does alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import gradatim as gr
from gradatim.layers import smooth

SIZE, EPOCHS, RATE = 12, 6, 0.1


def images() -> torch.Tensor:
    return torch.randn(SIZE, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        )


def methods() -> list[gr.Method]:
    pace = gr.pacing.Linear(start_fraction=0.5, epochs=4)
    return [
        gr.Predefined(torch.arange(float(SIZE)), pace=pace),
        gr.LeRaC(3, last=1e-3),
        gr.CBS(EPOCHS, every=1),
    ]


class Run:
    """A training whose every step is written down: samples, rates by layer, width of the blur."""

    def __init__(self, *used: gr.Method) -> None:
        self.curriculum = gr.Curriculum(*used, seed=0)
        self.data = TensorDataset(images(), torch.arange(SIZE) % 3)
        self.loader = self.curriculum.loader(self.data, batch_size=3)
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE)
        self.curriculum.attach(model=self.model, optimizer=self.optimizer)
        self.steps: list[tuple[list[int], list[float], list[float]]] = []

    def train(self, epochs: int, stop: int | None = None) -> None:
        while self.curriculum.epoch < epochs:
            for x, y in self.loader:
                index = self.curriculum.index.tolist()
                widths = [part.current_sigma for part in self.curriculum.methods if is_cbs(part)]
                losses = F.cross_entropy(self.model(x), y, reduction="none")
                self.optimizer.zero_grad()
                self.curriculum(losses).backward()
                before = [value.detach().clone() for value in self.model.parameters()]
                self.optimizer.step()
                rates = []
                for old, new in zip(before, self.model.parameters(), strict=True):
                    assert new.grad is not None
                    moved = (old - new.detach()).double() * new.grad.double()
                    rates.append(float(moved.sum() / new.grad.double().square().sum()))
                self.steps.append((index, rates, widths))
                if len(self.steps) == stop:
                    return

    def state(self) -> Any:
        parts = (self.curriculum, self.model, self.optimizer)
        return copy.deepcopy([part.state_dict() for part in parts])

    def load(self, state: Any) -> None:
        for part, saved in zip((self.curriculum, self.model, self.optimizer), state, strict=True):
            part.load_state_dict(saved)


def is_cbs(method: gr.Method) -> bool:
    return isinstance(method, gr.CBS)


def test_each_decides_in_company_what_it_decides_alone() -> None:
    together = Run(*methods())
    together.train(EPOCHS)
    data, lerac, cbs = methods()
    alone = {name: Run(method) for name, method in (("data", data), ("lerac", lerac))}
    for run in alone.values():
        run.train(EPOCHS)
    assert [step[0] for step in together.steps] == [step[0] for step in alone["data"].steps]
    assert isinstance(cbs, gr.CBS)
    widths = [width for _, _, step in together.steps for width in step]
    assert len(widths) == len(together.steps)
    assert widths[0] == 1.0
    assert set(widths) == {cbs.sigma_at(epoch) for epoch in range(EPOCHS)}
    first, last = together.steps[0][1], together.steps[-1][1]
    # Weight and bias of the stem at the full rate, of the head a thousandth of it; later all alike.
    theirs = alone["lerac"].steps[0][1]
    assert first == pytest.approx(theirs, rel=0.02)
    assert first[0] == pytest.approx(RATE, rel=0.02)
    assert first[-1] == pytest.approx(RATE * 1e-3, rel=0.05)
    assert last == pytest.approx([RATE] * 6, rel=0.05)


def test_what_is_trained_is_the_blurred_network() -> None:
    run = Run(*methods())
    plain = network()
    maps = smooth(plain[0](images()), 1.0)
    maps = smooth(plain[2](plain[1](maps)), 1.0)
    torch.testing.assert_close(run.model(images()), plain[3:](maps))


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_run_with_all_of_them_resumes_to_the_bit(cut: int) -> None:
    whole = Run(*methods())
    whole.train(EPOCHS)
    begun = Run(*methods())
    begun.train(EPOCHS, stop=cut)
    resumed = Run(*methods())
    resumed.load(begun.state())
    assert resumed.model(images()).equal(begun.model(images()))
    resumed.train(EPOCHS)
    assert resumed.steps == whole.steps[cut:]
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_detaching_leaves_a_model_and_an_optimizer_that_were_never_touched() -> None:
    run = Run(*methods())
    run.train(EPOCHS)
    run.curriculum.detach()
    fresh = network()
    fresh.load_state_dict(run.model.state_dict())
    assert fresh(images()).equal(run.model(images()))
    assert [group["lr"] for group in run.optimizer.param_groups] == [RATE]
    assert not any(module._forward_hooks for module in run.model.modules())
    assert not run.optimizer._optimizer_step_pre_hooks
    assert not run.optimizer._optimizer_step_post_hooks
