"""DIHCL, DoCL and MCL in the loops people have: resumed, surveyed, accumulated, composed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from engine.probes import same

SIZE, BATCH = 20, 4
Methods = Callable[[], list[gr.Method]]


class Loop:
    """A model, an optimizer and a curriculum; every step is written down."""

    def __init__(self, methods: Methods, *, rate: float = 0.1, **options: Any) -> None:
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(SIZE, 4, generator=draw)
        self.data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
        self.model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.uniform_(-1, 1, generator=draw)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate)
        self.curriculum = gr.Curriculum(*methods(), seed=3)
        self.loader = self.curriculum.loader(self.data, BATCH, **options)
        self.curriculum.attach(model=self.model, optimizer=self.optimizer)
        self.accumulate = 1
        self.trace: list[tuple[int, list[int], float]] = []

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        logits = self.model(x)
        losses = self.curriculum.criterion(logits, y)
        rows = self.curriculum.index.tolist()
        loss = self.curriculum(losses, logits=logits, targets=y)
        loss.backward()
        self.trace.append((self.curriculum.step, rows, loss.item()))
        if len(self.trace) % self.accumulate == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()

    def survey(self, scale: float = 1.0) -> None:
        def forward(batch: Any) -> dict[str, torch.Tensor]:
            logits = self.model(batch[0])
            losses = scale * F.cross_entropy(logits, batch[1], reduction="none")
            return {"losses": losses, "logits": logits, "targets": batch[1]}

        self.curriculum.survey(self.data, forward)

    def epochs(self, count: int) -> Loop:
        for _ in range(count):
            for x, y in self.loader:
                self.step(x, y)
        return self

    def saved(self) -> bytes:
        parts = (self.model, self.optimizer, self.curriculum)
        buffer = io.BytesIO()
        torch.save([part.state_dict() for part in parts], buffer)
        return buffer.getvalue()

    def resume(self, raw: bytes) -> Loop:
        states = torch.load(io.BytesIO(raw), weights_only=True)
        for part, state in zip((self.model, self.optimizer, self.curriculum), states, strict=True):
            part.load_state_dict(state)
        return self


def dihcl(*kind: Any, **settings: Any) -> list[gr.Method]:
    return [gr.DIHCL(*kind, **{"warmup_epochs": 2, "gamma_k": 0.6, "k_min": 0.3, **settings})]


LOOPS: dict[str, Methods] = {
    "exp": lambda: dihcl("loss", "exp"),
    "exp by the draw, changes": lambda: dihcl("loss_change", "exp", p="draw"),
    "flips, counts, pruned": lambda: dihcl("flip", "counts", prune=0.7),
    "episodes, pruned": lambda: dihcl("flip", "rand", prune=0.7, episodes=(2, 3, 4)),
    "docl exp3 pruned": lambda: [gr.DoCL(episodes=(1, 3), gamma_k=0.6, exp3=True, prune=0.7)],
    "docl proportional": lambda: [gr.DoCL(episodes=(1, 3), sampling="proportional")],
    "clusters": lambda: [gr.MCL(start_fraction=0.3, inner_epochs=1, clusters=4)],
    "reuse": lambda: [gr.MCL(start_fraction=0.3, inner_epochs=2, reuse=True, reuse_share=0.2)],
    "spl first": lambda: [gr.SPL(), *dihcl("loss", "exp")],
    "mcl after": lambda: [*dihcl("loss", "rand"), gr.MCL(start_fraction=0.5, inner_epochs=1)],
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_fresh_process_goes_on_within_any_epoch(name: str) -> None:
    """The chances by which exp divides, clusters, features and rates are all in the checkpoint."""
    whole, states = Loop(LOOPS[name]), []
    for _ in range(5):
        for x, y in whole.loader:
            whole.step(x, y)
            states.append(whole.saved())
    for done in range(2, len(states), 4):
        again = Loop(LOOPS[name]).resume(states[done])
        while len(again.trace) < len(states) - done - 1:
            again.epochs(1)
        assert again.trace == whole.trace[done + 1 :]
        assert same(again.curriculum.state_dict(), whole.curriculum.state_dict())


@pytest.mark.parametrize("name", LOOPS)
def test_applying_the_log_at_every_step_changes_nothing(name: str) -> None:
    once, often = Loop(LOOPS[name]), Loop(LOOPS[name])
    often.curriculum.epochs.log_limit_bytes = 1
    assert once.epochs(5).trace == often.epochs(5).trace
    assert same(once.curriculum.state_dict(), often.curriculum.state_dict())


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"steps_per_epoch": 7}])
def test_the_steps_planned_are_the_steps_made(name: str, options: dict[str, Any]) -> None:
    loop = Loop(LOOPS[name], **options)
    for _ in range(3):
        planned, before = loop.curriculum.planned_steps(1), loop.curriculum.step
        loop.epochs(1)
        assert planned in (None, loop.curriculum.step - before)
        assert (planned is None) <= (name == "clusters")


def test_a_warm_up_of_the_rate_from_0_leaves_hardness_finite() -> None:
    loop = Loop(lambda: dihcl("loss", "exp", gamma=0.0), rate=0.0)
    loop.epochs(1)
    first = loop.curriculum.scores()
    assert first["DIHCL.dih"].tolist() == [1.0] * SIZE
    assert first["DIHCL.visits"].tolist() == [0] * SIZE, "nothing was learnt: no observation"
    loop.optimizer.param_groups[0]["lr"] = 0.5
    loop.epochs(1)
    second = loop.curriculum.scores()
    assert int((second["DIHCL.visits"] == 0).sum()) == BATCH, "the first batch follows rate 0"
    assert bool(second["DIHCL.dih"].isfinite().all())


def test_rates_are_summed_over_optimizer_steps_under_accumulation() -> None:
    """Five batches an epoch, a step after every fifth: one rate lies between two looks."""
    loop = Loop(lambda: [gr.Dynamics(gamma=0.0)], rate=0.25)
    loop.accumulate = 5
    loop.epochs(1)
    before = loop.curriculum.scores()["Dynamics.loss"]
    loop.epochs(1)
    after = loop.curriculum.scores()
    expected = (after["Dynamics.loss"] - before).abs() / 0.25
    assert torch.allclose(after["Dynamics.dih_change"], expected)
    assert torch.equal(after["Dynamics.stamp"], torch.full((SIZE,), 0.25, dtype=torch.float64))


def test_a_survey_is_observed_at_the_rate_and_the_clock_of_its_moment() -> None:
    loop = Loop(lambda: [gr.Dynamics(gamma=0.0)], rate=0.5)
    loop.epochs(1)
    loop.optimizer.param_groups[0]["lr"] = 0.125
    loop.survey()
    found = loop.curriculum.scores()
    assert torch.equal(found["Dynamics.stamp"], torch.full((SIZE,), 2.5, dtype=torch.float64))
    assert torch.allclose(found["Dynamics.dih_loss"], found["Dynamics.loss"] / 0.5)


def test_selecting_leaves_what_is_not_selected_to_the_bit() -> None:
    """A draw that scales the state it draws from would keep the same samples for ever."""
    for methods in (LOOPS["exp"], LOOPS["flips, counts, pruned"], LOOPS["episodes, pruned"]):
        loop = Loop(methods).epochs(2)
        before = loop.curriculum.scores()
        out = ~torch.isin(torch.arange(SIZE), loop.curriculum.epochs.plan().index)
        loop.epochs(1)
        after = loop.curriculum.scores()
        assert bool(out.any())
        assert same({k: v[out] for k, v in before.items()}, {k: v[out] for k, v in after.items()})


def test_draws_do_not_depend_on_global_seeds_or_workers() -> None:
    torch.manual_seed(1)
    one = Loop(LOOPS["flips, counts, pruned"]).epochs(4)
    torch.manual_seed(2)
    two = Loop(LOOPS["flips, counts, pruned"], num_workers=1).epochs(4)
    assert one.trace == two.trace
