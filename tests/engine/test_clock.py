"""The learning rate and the clock: summed rates of the optimizer steps that really happened."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest
import torch

import gradatim as gr
from engine.probes import Diary, Samples
from gradatim.clock import Clock

RATE = 0.25  # and its multiples below are exact in binary


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(2))


def sgd(lr: Any = RATE, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([weight()], lr=lr, **options)


def gradient(optimizer: torch.optim.Optimizer, value: float = 1.0) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, value)


def watched(
    optimizer: Any = None, learning_rate: Any = None, *methods: gr.Method, size: int = 12
) -> tuple[gr.Curriculum, Any, Diary]:
    diary = Diary(wants=("learning_rate",))
    curriculum = gr.Curriculum(diary, *methods, learning_rate=learning_rate)
    loader = curriculum.loader(Samples(size), batch_size=2)
    if optimizer is not None:
        curriculum.attach(optimizer=optimizer)
    return curriculum, loader, diary


def by_step(diary: Diary, name: str) -> list[float]:
    """One value per step; all rows of a step must agree."""
    found: dict[int, float] = {}
    for step, value in zip(diary.column("step"), diary.column(name), strict=True):
        assert found.setdefault(step, value) == value
    return [found[step] for step in sorted(found)]


# --- With an optimizer ------------------------------------------------------------------------


def test_the_clock_ticks_once_per_step_by_its_rate() -> None:
    optimizer = sgd()
    curriculum, loader, diary = watched(optimizer)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for batch in loader:
        curriculum(batch)
        gradient(optimizer)
        optimizer.step()
        schedule.step()
    rates = [0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]
    assert by_step(diary, "learning_rate") == rates
    assert by_step(diary, "clock") == [sum(rates[:step]) for step in range(6)]
    assert curriculum.clock.time == sum(rates)
    # The rate of the step before; the first step has only its own.
    assert by_step(diary, "previous_rate") == [0.25, *rates[:-1]]


def test_the_rate_before_is_saved_and_a_callable_has_one_too() -> None:
    optimizer = sgd()
    curriculum, loader, _ = watched(optimizer)
    for batch in loader:
        curriculum(batch)
        gradient(optimizer)
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5
        if curriculum.step == 3:
            break
    state = curriculum.state_dict()
    assert state["previous_rate"] == RATE / 4
    resumed, loader, diary = watched(optimizer)
    resumed.load_state_dict(state)
    for batch in loader:
        resumed(batch)
        break
    resumed.epochs.apply_log()
    assert diary.column("previous_rate")[-2:] == [RATE / 4] * 2
    called, loader, diary = watched(None, lambda step: float(step))
    for batch in loader:
        called(batch)
    assert by_step(diary, "previous_rate") == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]


def test_accumulation_ticks_once_per_group_of_batches() -> None:
    optimizer = sgd()
    curriculum, loader, diary = watched(optimizer)
    for number, batch in enumerate(loader):
        curriculum(batch)
        gradient(optimizer)
        if number % 3 == 2:
            optimizer.step()
    assert by_step(diary, "clock") == [0.0, 0.0, 0.0, RATE, RATE, RATE]
    assert curriculum.clock.time == 2 * RATE


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("unscaling", [False, True], ids=["", "unscale_"])
def test_steps_skipped_by_a_grad_scaler_do_not_tick(fused: bool, unscaling: bool) -> None:
    """A fused optimizer is called for a skipped step as well, and skips within its kernel."""
    optimizer = sgd(fused=fused)
    curriculum, loader, diary = watched(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    done = []
    for number, batch in enumerate(loader):
        curriculum(batch)
        scaler.scale(torch.zeros(1))  # as scaling a loss does: sets the scaler up
        gradient(optimizer, torch.inf if number in (0, 3) else 1.0)
        before = optimizer.param_groups[0]["params"][0].clone()
        if unscaling:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        done.append(not torch.equal(before, optimizer.param_groups[0]["params"][0]))
    assert done == [False, True, True, False, True, True]
    assert by_step(diary, "clock") == [RATE * sum(done[:step]) for step in range(6)]
    assert curriculum.clock.time == 4 * RATE


def test_several_evaluations_in_a_closure_tick_once() -> None:
    parameter = weight()
    optimizer = torch.optim.LBFGS([parameter], lr=RATE, max_iter=5)
    curriculum, loader, diary = watched(optimizer)
    evaluations = 0
    for batch in loader:
        index = curriculum.index

        def closure(batch: Any = batch, index: Any = index) -> torch.Tensor:
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = curriculum((parameter.sum() - batch - 1) ** 2, index=index)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert evaluations > 6
    assert by_step(diary, "clock") == [RATE * step for step in range(6)]
    assert curriculum.clock.time == 6 * RATE


def test_a_tensor_rate_is_read_when_the_row_is_seen() -> None:
    rate = torch.tensor(RATE)
    optimizer = sgd(lr=rate)
    curriculum, loader, diary = watched(optimizer)
    for batch in loader:
        curriculum(batch)
        gradient(optimizer)
        optimizer.step()
        rate.mul_(0.5)  # in place, as schedulers do
    rates = [RATE * 0.5**step for step in range(6)]
    assert by_step(diary, "learning_rate") == rates
    assert by_step(diary, "clock") == [sum(rates[:step]) for step in range(6)]


def test_the_rate_is_the_first_groups_before_a_method_scales_it() -> None:
    class Scaling(gr.Method):
        """Multiplies rates within the step, as model-level methods do."""

        def attach(self, model: Any, optimizer: Any) -> None:
            def scale(optimizer: Any, args: Any, kwargs: Any, *, by: float) -> None:
                for group in optimizer.param_groups:
                    group["lr"] *= by

            self.hooks = [
                optimizer.register_step_pre_hook(lambda *given: scale(*given, by=0.5)),
                optimizer.register_step_post_hook(lambda *given: scale(*given, by=2.0)),
            ]

        def detach(self) -> None:
            for hook in self.hooks:
                hook.remove()

    first, second = weight(), weight()
    groups = [{"params": [first]}, {"params": [second], "lr": 8.0}]
    optimizer = torch.optim.SGD(groups, lr=RATE)
    curriculum, loader, diary = watched(optimizer, None, Scaling())
    for batch in loader:
        curriculum(batch)
        gradient(optimizer)
        optimizer.step()
    assert by_step(diary, "learning_rate") == [RATE] * 6
    assert curriculum.clock.time == 6 * RATE
    assert first.tolist() == [-6 * RATE / 2] * 2  # the scaling did act
    assert optimizer.param_groups[0]["lr"] == RATE


def test_detach_stops_the_clock_and_leaves_no_hook() -> None:
    optimizer = sgd()
    hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    curriculum, _, _ = watched(optimizer)
    assert [len(held) for held in hooks] == [1, 1]
    curriculum.detach()
    assert [len(held) for held in hooks] == [0, 0]
    gradient(optimizer)
    optimizer.step()
    assert curriculum.clock.time == 0.0
    other = sgd(lr=1.0)
    curriculum.attach(optimizer=other)
    gradient(other)
    other.step()
    optimizer.step()
    assert curriculum.clock.time == 1.0


def test_the_optimizer_outlives_its_curriculum_and_the_other_way_round() -> None:
    optimizer = sgd()
    curriculum, loader, _ = watched(optimizer)
    del curriculum, loader
    gc.collect()
    gradient(optimizer)
    optimizer.step()  # its hooks find nobody, and do nothing
    optimizer = sgd()
    curriculum, loader, _ = watched(optimizer)
    batch = next(iter(loader))
    del optimizer
    gc.collect()
    with pytest.raises(RuntimeError, match="learning rate must be known: attach an optimizer"):
        curriculum(batch)


def test_a_copied_optimizer_does_not_drive_the_clock() -> None:
    optimizer = sgd()
    curriculum, _, _ = watched(optimizer)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        gradient(twin)
        twin.step()
    assert curriculum.clock.time == 0.0
    gradient(optimizer)
    optimizer.step()
    assert curriculum.clock.time == RATE


# --- With a callable --------------------------------------------------------------------------


def test_a_callable_is_asked_for_the_step_and_ticks_per_call() -> None:
    """The clock of a step sums the rates of the steps before it: r(0) + ... + r(step - 1)."""
    curriculum, loader, diary = watched(None, lambda step: step + 1.0)
    for batch in loader:
        curriculum(batch)
    assert by_step(diary, "learning_rate") == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert by_step(diary, "clock") == [0.0, 1.0, 3.0, 6.0, 10.0, 15.0]
    assert curriculum.clock.time == 21.0


def test_a_callable_without_arguments_is_a_property_of_now() -> None:
    rates = iter([1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 4.0, 4.0, 2.0, 2.0])
    curriculum, loader, diary = watched(None, lambda: next(rates))
    for batch in loader:
        curriculum(batch)
    assert by_step(diary, "learning_rate") == [1.0, 0.5, 0.25, 0.125, 4.0, 2.0]


def test_with_both_the_callable_gives_the_rate_and_the_optimizer_the_ticks() -> None:
    optimizer = sgd()
    curriculum, loader, diary = watched(optimizer, lambda step: step + 1.0)
    for number, batch in enumerate(loader):
        curriculum(batch)
        gradient(optimizer)
        if number % 2:
            optimizer.step()
    # Steps 1, 3 and 5 were completed, at rates 2, 4 and 6.
    assert by_step(diary, "clock") == [0.0, 0.0, 2.0, 2.0, 6.0, 6.0]
    assert curriculum.clock.time == 12.0


def test_repeats_and_calls_beside_the_loader_do_not_tick() -> None:
    curriculum, loader, _ = watched(None, lambda: 1.0)
    batch = next(iter(loader))
    index = curriculum.index
    for _ in range(3):
        curriculum(batch, index=index)
    curriculum(torch.ones(1), index=torch.tensor([0]))
    assert curriculum.clock.time == 1.0


def test_the_clock_alone() -> None:
    clock = Clock()
    assert not clock.known
    clock.after_call(0)
    assert clock.time == 0.0
    with pytest.raises(TypeError, match=r"learning_rate must be callable or None. Got 0\.1"):
        Clock(0.1)  # type: ignore[arg-type]


def test_where_no_method_asks_for_the_rate_the_optimizer_has_no_hooks() -> None:
    for method, hooks in ((gr.Uniform(), 0), (gr.DIHCL(normalize=False), 0), (gr.DIHCL(), 1)):
        optimizer = sgd()
        curriculum = gr.Curriculum(method).attach(optimizer=optimizer)
        before, after = (
            len(getattr(optimizer, f"_optimizer_step_{when}_hooks")) for when in ("pre", "post")
        )
        assert before == after == hooks
        curriculum.detach()
        assert not optimizer._optimizer_step_pre_hooks
        assert not optimizer._optimizer_step_post_hooks
