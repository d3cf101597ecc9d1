"""The call has a short way for what most steps are; it leads where the long one leads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import gradatim as gr
from contract.method_examples import METHODS
from gradatim.testing import Example, Problem
from gradatim.testing.differences import difference
from gradatim.testing.trainings import Training

EXAMPLES = [
    pytest.param([example], id=f"{name}-{mode}")
    for name, modes in METHODS.items()
    for mode, example in modes.items()
]
TOGETHER = [
    ("DIHCL", "SuperLoss"),
    ("DataParameters", "DIHCL"),
    ("Predefined", "SPL", "Focal"),
    ("DoCL", "InfoBatch"),
    ("OHEM", "DIHCL", "SPL"),
]


class Heavier(gr.Method):
    """Gives the samples of the plan different weights."""

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        return pool.weigh(1 + pool.index / run.size)


class Watcher(gr.Method):
    """Keeps all that its hooks were shown, weighs, and asks for the learning rate."""

    wants = ("logits", "learning_rate")

    def __init__(self, reduction: Any = "mean") -> None:
        self.reduction = reduction
        self.shown: list[dict[str, Any]] = []

    def _show(self, batch: gr.Batch) -> None:
        attached = [batch.losses, *batch.signals.values()]
        assert not any(tensor.requires_grad for tensor in attached)
        signals = {name: tensor.clone() for name, tensor in batch.signals.items()}
        parts = {"index": batch.index.clone(), "losses": batch.losses.clone(), "signals": signals}
        self.shown.append({**vars(batch), **parts})

    def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor | None:
        self._show(batch)
        return batch.losses.sigmoid() if run.epoch else None

    def record(self, batch: gr.Batch, run: gr.Run) -> dict[str, torch.Tensor]:
        self._show(batch)
        return {"logits": batch.signals["logits"]}

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.shown.append(vars(batch))


def trained(examples: list[Example], *others: gr.Method, short: bool) -> tuple[Training, int]:
    """Three epochs, with or without the short way; how often the long one was taken."""
    problem = Problem.make(size=40)
    methods = [example.build(problem) for example in examples]
    training = Training(examples[0], problem, *methods, *others)
    steps = training.curriculum._steps
    take: Callable[..., Any] = steps.take
    calls = 0

    def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return take(*args)

    steps.take = counted  # type: ignore[method-assign]
    if not short:
        steps.usual = lambda *args: None  # type: ignore[method-assign]
    training.run(3)
    return training, calls


def check(examples: list[Example], *others: gr.Method) -> None:
    short, few = trained(examples, *others, short=True)
    long, all_calls = trained(examples, *others, short=False)
    assert difference(short.losses, long.losses) == ""
    assert difference(short.batches, long.batches) == ""
    assert difference(short.state_dict(), long.state_dict()) == ""
    assert all_calls == len(long.losses) > 1
    unusual = any(method.reduction != "mean" for method in short.methods)
    # The first call puts the tables in their place.
    assert few == all_calls if unusual else few <= 1


@pytest.mark.parametrize("examples", EXAMPLES)
def test_each_method_comes_to_the_same_to_the_bit(examples: list[Example]) -> None:
    check(examples)


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_methods_together_come_to_the_same_to_the_bit(names: tuple[str, ...]) -> None:
    check([next(iter(METHODS[name].values())) for name in names], Heavier())


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
def test_hooks_are_shown_the_same(reduction: Any) -> None:
    seen: list[tuple[Any, ...]] = []
    for short in (True, False):
        watcher, rates = Watcher(reduction), iter(range(1, 99))
        curriculum = gr.Curriculum(watcher, Heavier(), learning_rate=rates.__next__)
        if not short:
            curriculum._steps.usual = lambda *args: None  # type: ignore[method-assign]
        loader = curriculum.loader(range(10), batch_size=4)
        given: list[torch.Tensor] = []
        for _ in range(3):
            for index in loader:
                logits = (index[:, None] * torch.tensor([0.3, -0.2])).requires_grad_()
                losses = logits.logsumexp(1)
                loss = curriculum(losses, logits=logits)
                loss.backward()
                assert logits.grad is not None
                given += [loss.detach(), logits.grad]
        seen.append((watcher.shown, given, curriculum.state_dict(), next(rates)))
    assert difference(*seen) == ""
    assert len(seen[0][0]) == 2 * 9 + 3


class Odd(gr.Method):
    """Does what is rare or wrong, as ``does`` says."""

    accepts = ("mask",)
    reads_losses = False

    def __init__(self, does: str) -> None:
        self.does = does
        if does == "write to a signal":
            self.wants = ("logits",)

    def setup(self, run: gr.Run) -> None:
        self.visits = gr.Table("visits", merge="sum")

    def weigh(self, batch: gr.Batch, run: gr.Run) -> torch.Tensor | None:
        if self.does == "look for None":
            assert batch.signals["mask"] is None
        if self.does == "write to the losses":
            batch.losses.clamp_(max=0.5)
        return torch.full_like(batch.losses, 2.0)

    def select(self, batch: gr.Batch, k: int, run: gr.Run) -> torch.Tensor:
        return torch.arange(0)

    def records(self, epoch: int) -> bool:
        return self.does == "write to a signal"

    def record(self, batch: gr.Batch, run: gr.Run) -> dict[str, torch.Tensor]:
        batch.signals["logits"].clamp_(max=0.5)
        return {}

    def observe(self, batch: gr.Batch, run: gr.Run) -> None:
        self.visits.add(batch.index, torch.ones(batch.size))


@pytest.mark.parametrize(
    "does",
    ["look for None", "write to the losses", "write to a signal", "choose nobody", "read nothing"],
)
def test_the_rare_and_the_wrong_come_to_the_same(does: str) -> None:
    seen: list[tuple[Any, ...]] = []
    for short in (True, False):
        curriculum = gr.Curriculum(Odd(does), seed=0)
        if not short:
            curriculum._steps.usual = lambda *args: None  # type: ignore[method-assign]
        happened: list[Any] = []
        loader = curriculum.loader(range(8), batch_size=2)
        for number, index in enumerate(loader):
            logits = (index + 1.0).requires_grad_()
            logits.grad = None
            losses = logits.exp()  # keeps its output for the backward pass
            if number == 2 and does == "choose nobody":
                assert curriculum.select(losses, 1).numel() == 0
                losses = losses[:0]
            try:
                curriculum(losses, mask=None, logits=losses).backward()
            except RuntimeError as error:
                happened.append(str(error).split("\n")[0])
            happened += [logits.grad, curriculum.step, curriculum.epochs.log.rows()["losses"]]
            if number == 2:
                happened.append(curriculum.state_dict())
                break
        seen.append((happened,))
    assert difference(*seen) == ""
    wrong = [text for text in seen[0][0] if isinstance(text, str)]
    assert len(wrong) == (3 if does.startswith("write") else 0)
    assert all("modified by an inplace operation" in text for text in wrong)


def begun(*methods: gr.Method) -> tuple[gr.Curriculum, dict[str, Any]]:
    """A curriculum after two calls, of which only the first took the long way; a batch waits."""
    curriculum = gr.Curriculum(*methods)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    curriculum.attach(optimizer=optimizer)
    given: dict[str, Any] = {"logits": torch.eye(2), "targets": torch.tensor([0, 1])}
    loader = curriculum.loader(range(8), batch_size=2)
    given |= {"loader": loader, "optimizer": optimizer}  # the curriculum holds them weakly
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
        losses = curriculum.criterion(given["logits"], given["targets"])
        curriculum(losses, **given)
    next(iterator)
    return curriculum, given


def test_each_call_needs_a_criterion_of_its_own() -> None:
    curriculum, given = begun(gr.DataParameters())
    with pytest.raises(RuntimeError, match="losses must come from"):
        curriculum(torch.ones(2), **given)
    assert curriculum.step == 2


def test_each_call_needs_a_rate() -> None:
    curriculum, given = begun(gr.DIHCL("loss"))
    curriculum.detach()
    with pytest.raises(ValueError, match="learning rate must be known"):
        curriculum(torch.ones(2), **given)
    assert (curriculum.step, len(curriculum.epochs.log)) == (2, 2)


def test_what_is_not_usual_takes_the_long_way() -> None:
    """Mixed targets, other dtypes and anything that is refused; nothing has changed then."""
    curriculum = gr.Curriculum(gr.DIHCL("flip", normalize=False), seed=0)
    loader = curriculum.loader(range(8), batch_size=2)
    logits, targets = torch.eye(2), torch.tensor([0, 1])
    usual: Any = curriculum._steps.usual
    for number, _ in enumerate(loader):
        losses = torch.tensor([0.5, 0.25])
        given = {"logits": logits, "targets": targets}
        if number == 1:
            for wrong in (torch.tensor([0.5, math.nan]), losses[:1], losses.double(), 0.5):
                assert usual(wrong, given) is None
            for other in (
                {"logits": logits},
                {"logits": logits[:1], "targets": targets},
                {"logits": logits, "targets": torch.full((2, 2), 0.5)},
                {"logits": [1, 2], "targets": targets},
            ):
                assert usual(losses, other) is None
            assert (curriculum.step, len(curriculum.epochs.log)) == (1, 1)
        curriculum(losses, **given)
    assert curriculum.epoch == 1
