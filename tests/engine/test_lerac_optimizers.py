"""LeRaC within any optimizer's step: schedulers, checkpoints and the clock see nothing of it."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import gradatim as gr
from ddp.toy import differences
from gradatim.layers import ScaledSteps

Build = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Build] = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01),
    "SGD foreach": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, foreach=True),
    "SGD fused": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda groups: torch.optim.Adam(groups, lr=0.01),
    "Adam foreach": lambda groups: torch.optim.Adam(groups, lr=0.01, foreach=True),
    "Adam fused": lambda groups: torch.optim.Adam(groups, lr=0.01, fused=True),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
    "AdamW foreach": lambda groups: torch.optim.AdamW(groups, lr=0.01, foreach=True),
    "AdamW fused": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
    "Adamax": lambda groups: torch.optim.Adamax(groups, lr=0.01),
    "RMSprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01),
}


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))


def across(model: nn.Module) -> list[dict[str, Any]]:
    """Groups that cut across layers: biases without weight decay, in the order of users."""
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    return [{"params": weights}, {"params": biases[::-1], "weight_decay": 0.0, "lr": 0.05}]


class Asks(gr.Method):
    """Has the clock read the learning rate."""

    wants = ("learning_rate",)


class Trainer:
    """A loop of two steps per epoch, with or without LeRaC, and what can be seen of it."""

    def __init__(self, build: Build, *methods: gr.Method, attach: bool = True, model: Any = None):
        self.model = model_of() if model is None else model
        self.optimizer = build(across(self.model))
        self.curriculum = gr.Curriculum(*methods)
        self.x = torch.arange(12.0).reshape(4, 3) / 10
        self.loader = self.curriculum.loader(TensorDataset(self.x), 2)
        if attach:
            self.attach()

    def attach(self) -> None:
        self.curriculum.attach(self.model, self.optimizer)

    def batches(self) -> Iterator[torch.Tensor]:
        """Batches whose gradients are ready, one epoch."""
        for (x,) in self.loader:
            self.optimizer.zero_grad()
            self.curriculum((self.model(x) - x).square().sum(1)).backward()
            yield x

    def epochs(self, count: int, *, scheduler: Any = None, each: Any = None) -> Trainer:
        for _ in range(count):
            for _ in self.batches():
                self.optimizer.step()
                if each is not None:
                    each()
            if scheduler is not None:
                scheduler.step()
        return self

    def state(self) -> dict[str, Any]:
        return copy.deepcopy(
            {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        )


def same(left: Any, right: Any) -> bool:
    return differences(left, right) == []


# ---------------------------------------------------------------------------- which rates


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_that_of_an_optimizer_with_a_group_per_layer(name: str) -> None:
    """Options of the user's groups are kept, and so is the state: against groups made by hand."""
    ours = Trainer(OPTIMIZERS[name], gr.LeRaC(3, last=1e-3))
    by_hand = model_of()
    rates = gr.LeRaC(3, last=1e-3)
    groups, scaled = [], []
    for layer, module in enumerate(by_hand):
        for group in across(by_hand):
            own = [p for p in group["params"] if any(p is q for q in module.parameters())]
            groups.append({**group, "params": own})
            scaled.append(layer)
    optimizer = OPTIMIZERS[name](groups)
    full = [group["lr"] for group in optimizer.param_groups]
    for epoch in range(4):
        factors = rates.rates(epoch, layers=4)
        for group, layer, rate in zip(optimizer.param_groups, scaled, full, strict=True):
            group["lr"] = rate * factors[layer]
        for x in ours.batches():
            ours.optimizer.step()
            optimizer.zero_grad()
            (by_hand(x) - x).square().sum(1).mean().backward()
            optimizer.step()
    for mine, theirs in zip(ours.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(
            dict(ours.optimizer.state[mine]), dict(optimizer.state[theirs]), rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "AdamW foreach", "AdamW fused"])
def test_a_cosine_schedule_ends_in_the_rates_it_has_without(name: str) -> None:
    rates: dict[bool, list[list[float]]] = {}
    for ours in (True, False):
        seen: list[list[float]] = []
        trainer = Trainer(OPTIMIZERS[name], gr.LeRaC(2 if ours else 0, last=1e-4))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, 5)
        effective = spy(trainer.optimizer)
        trainer.epochs(5, scheduler=scheduler)
        for step in effective:
            by_parameter = dict(step)
            seen.append([by_parameter[id(p)] for p in trainer.model.parameters()])
        rates[ours] = seen
    assert rates[True][4:] == rates[False][4:]
    assert rates[True][:2] != rates[False][:2]
    assert rates[True][0][0] == rates[False][0][0]


def spy(optimizer: torch.optim.Optimizer) -> list[list[tuple[int, float]]]:
    """The rate of each parameter in each step, as the step's work finds it."""
    found: list[list[tuple[int, float]]] = []

    def look(optimizer: Any, args: Any, kwargs: Any) -> None:
        found.append([(id(p), float(g["lr"])) for g in optimizer.param_groups for p in g["params"]])

    optimizer.register_step_pre_hook(look)
    return found


# ---------------------------------------------------------------------------- schedulers


def schedulers() -> dict[str, Callable[[Any, Any], Any]]:
    kinds = torch.optim.lr_scheduler
    return {
        "LambdaLR": lambda o, n: kinds.LambdaLR(o, [lambda e: 0.9**e, lambda e: 0.8**e]),
        "OneCycleLR": lambda o, n: kinds.OneCycleLR(o, [0.02, 0.01], total_steps=n),
        "StepLR": lambda o, n: kinds.StepLR(o, 2),
        "SequentialLR": lambda o, n: kinds.SequentialLR(
            o, [kinds.LinearLR(o), kinds.ExponentialLR(o, 0.9)], [2]
        ),
    }


@pytest.mark.parametrize("name", ["LambdaLR", "OneCycleLR", "StepLR", "SequentialLR"])
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_a_scheduler_built_before_attach_goes_on_as_if_alone(name: str, kind: str) -> None:
    histories = []
    for k in (4, 0):
        trainer = Trainer(OPTIMIZERS[kind], gr.LeRaC(k), attach=False)
        scheduler = schedulers()[name](trainer.optimizer, 12)
        trainer.attach()
        history: list[Any] = []

        def note(history: list[Any] = history, trainer: Trainer = trainer) -> None:
            history.append(
                [
                    {key: value for key, value in group.items() if key != "params"}
                    for group in copy.deepcopy(trainer.optimizer.param_groups)
                ]
            )

        trainer.epochs(6, scheduler=scheduler, each=note)
        histories.append(history)
    assert same(*histories)
    assert len(histories[0]) == 12
    assert len(histories[0][0]) == 2


def test_reduce_on_plateau_lowers_the_optimizers_own_rates() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(4))
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, patience=0)
    for _ in range(3):
        trainer.epochs(1)
        plateau.step(1.0)
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert rates == pytest.approx([0.1 / 100, 0.05 / 100])


def test_the_clock_reads_the_rate_before_it_is_scaled() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(4, first=0.5), Asks())
    trainer.epochs(2)
    assert trainer.curriculum.clock.time == pytest.approx(4 * 0.1)
    assert trainer.curriculum.clock.previous == 0.1


# ---------------------------------------------------------------------------- checkpoints, copies


def test_a_checkpoint_in_mid_curriculum_has_the_form_of_an_untouched_one() -> None:
    ours, plain = (Trainer(OPTIMIZERS["AdamW"], gr.LeRaC(k)) for k in (5, 0))
    ours.epochs(2)
    plain.epochs(2)
    mine, theirs = ours.optimizer.state_dict(), plain.optimizer.state_dict()
    assert mine["state"].keys() == theirs["state"].keys()
    assert same(mine["param_groups"], theirs["param_groups"])
    assert same(list(map(list, mine["state"].values())), list(map(list, theirs["state"].values())))
    untouched = OPTIMIZERS["AdamW"](across(model_of()))
    untouched.load_state_dict(mine)  # loads where nobody has heard of LeRaC


@pytest.mark.parametrize("unit", ["epoch", "step"])
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_resumes_to_the_bit_from_every_step_with_a_lambda_schedule(unit: Any, name: str) -> None:
    def fresh() -> tuple[Trainer, Any]:
        trainer = Trainer(OPTIMIZERS[name], gr.LeRaC(3, unit=unit), attach=False)
        scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda e: 0.9**e)
        trainer.attach()
        return trainer, scheduler

    whole, scheduler = fresh()
    saved = []

    def save() -> None:
        parts = (whole.model, whole.optimizer, whole.curriculum, scheduler)
        buffer = io.BytesIO()
        torch.save([part.state_dict() for part in parts], buffer)
        saved.append(buffer.getvalue())

    for _ in range(4):
        for _ in whole.batches():
            whole.optimizer.step()
            if whole.curriculum.epoch * 2 == whole.curriculum.step:
                scheduler.step()
            save()
    for step, state in enumerate(saved, 1):
        rest, schedule = fresh()
        parts = (rest.model, rest.optimizer, rest.curriculum, schedule)
        for part, loaded in zip(parts, torch.load(io.BytesIO(state)), strict=True):
            part.load_state_dict(loaded)
        while rest.curriculum.epoch < 4:
            for _ in rest.batches():
                rest.optimizer.step()
                if rest.curriculum.epoch * 2 == rest.curriculum.step:
                    schedule.step()
        assert differences(rest.state(), whole.state()) == [], f"after step {step}"
        assert same(schedule.state_dict()["_last_lr"], scheduler.state_dict()["_last_lr"])


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copied_optimizer_steps_at_its_own_rates(how: str) -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(5))
    trainer.epochs(1)
    pair = (trainer.model, trainer.optimizer)
    model, optimizer = (
        copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    )
    effective = spy(optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert {rate for _, rate in effective[0]} == {0.1, 0.05}
    trainer.epochs(1)
    method = copy.deepcopy(trainer.curriculum.methods[0])
    assert repr(method) == repr(pickle.loads(pickle.dumps(method)))


def test_after_detach_nothing_is_left_of_it() -> None:
    """Optimizer, groups and state are those of one never touched, and training goes on alike."""
    ours = Trainer(OPTIMIZERS["AdamW"], gr.LeRaC(6))
    groups, objects = ours.optimizer.param_groups, list(ours.optimizer.param_groups)
    ours.epochs(2)
    ours.curriculum.detach()
    assert ours.optimizer.param_groups is groups
    assert all(now is then for now, then in zip(groups, objects, strict=True))
    untouched = Trainer(OPTIMIZERS["AdamW"], gr.LeRaC(0), attach=False)
    hooks = [name for name in vars(ours.optimizer) if name.endswith("_hooks")]
    assert len(hooks) >= 6
    assert all(not vars(ours.optimizer)[name] for name in hooks)
    assert vars(ours.optimizer).keys() == vars(untouched.optimizer).keys()
    untouched.model.load_state_dict(ours.model.state_dict())
    untouched.optimizer.load_state_dict(copy.deepcopy(ours.optimizer.state_dict()))
    untouched.curriculum.load_state_dict(ours.curriculum.state_dict())
    assert ours.model.state_dict().keys() == untouched.model.state_dict().keys()
    ours.epochs(2)
    untouched.epochs(2)
    assert differences(ours.state(), untouched.state()) == []


def test_attach_detach_and_attach_again() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(6, last=1e-4))
    trainer.epochs(1)
    trainer.curriculum.detach()
    trainer.attach()
    effective = spy(trainer.optimizer)
    trainer.epochs(1)
    assert min(rate for _, rate in effective[0]) == pytest.approx(0.05 * 1e-4 ** (5 / 6))


# ---------------------------------------------------------------------------- odd steps


class Interrupted(torch.optim.SGD):
    """Fails within the step, once."""

    fail = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if self.fail:
            self.fail = False
            raise MemoryError
        return super().step(closure)


@pytest.mark.parametrize("then", ["step", "state_dict", "load_state_dict", "epoch", "detach"])
def test_after_an_exception_within_a_step_the_groups_come_back(then: str) -> None:
    trainer = Trainer(lambda groups: Interrupted(groups, lr=0.1), gr.LeRaC(5))
    optimizer = trainer.optimizer
    objects, state = list(optimizer.param_groups), copy.deepcopy(optimizer.state_dict())
    batches = trainer.batches()
    next(batches)
    optimizer.fail = True  # type: ignore[attr-defined]
    with pytest.raises(MemoryError):
        optimizer.step()
    if then == "step":
        next(batches)
        optimizer.step()
    elif then == "state_dict":
        assert same(optimizer.state_dict(), state)
    elif then == "load_state_dict":
        optimizer.load_state_dict(state)
        assert same(optimizer.state_dict(), state)
        return
    elif then == "epoch":
        list(batches)
        next(trainer.batches())
    else:
        trainer.curriculum.detach()
    assert len(optimizer.param_groups) == 2
    assert all(a is b for a, b in zip(optimizer.param_groups, objects, strict=True))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation as usually written: a base optimizer on the same groups."""

    def __init__(self, groups: Any, **options: Any) -> None:
        super().__init__(groups, {"rho": 0.05, **options})
        self.base = torch.optim.SGD(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def move(self, sign: int) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(parameter.grad.sign(), alpha=sign * group["rho"])

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        before = [p.clone() for group in self.param_groups for p in group["params"]]
        self.move(1)
        loss = torch.enable_grad()(closure)()
        for old, new in zip(
            before, (p for g in self.param_groups for p in g["params"]), strict=True
        ):
            new.copy_(old)
        self.base.step()
        return loss


def test_a_closure_and_an_optimizer_around_another() -> None:
    trainer = Trainer(lambda groups: SAM(groups, lr=0.1), gr.LeRaC(4, last=1e-3))
    model, optimizer = trainer.model, trainer.optimizer
    effective = spy(optimizer.base)  # type: ignore[attr-defined]
    for x in trainer.batches():
        index = trainer.curriculum.epochs._last[1].index  # type: ignore[index]

        def closure(x: torch.Tensor = x, index: torch.Tensor = index) -> torch.Tensor:
            optimizer.zero_grad()
            loss = trainer.curriculum((model(x) - x).square().sum(1), index=index)
            loss.backward()
            return loss

        optimizer.step(closure)
    rates = dict(effective[0])
    assert [rates[id(layer.weight)] for layer in model] == pytest.approx([0.1, 0.01, 1e-3, 1e-4])
    assert len(effective) == 2
    assert len(optimizer.param_groups) == 2


def test_lbfgs_takes_closures_on_one_layer_and_is_refused_on_several() -> None:
    model = model_of()
    optimizer = torch.optim.LBFGS(model.parameters())
    curriculum = gr.Curriculum(gr.LeRaC())
    with pytest.raises(ValueError, match=r"optimizer must be one that takes several .* LBFGS"):
        curriculum.attach(model, optimizer)
    assert not optimizer._optimizer_step_pre_hooks
    one = gr.Curriculum(gr.LeRaC(2, first=0.25, last=0.25, layers=["*"]))
    one.attach(model, optimizer)
    effective = spy(optimizer)
    optimizer.step(lambda: model(torch.ones(1, 3)).sum())
    assert {rate for _, rate in effective[0]} == {0.25}
    assert optimizer.param_groups[0]["lr"] == 1


@pytest.mark.parametrize("fused", [True, False])
def test_a_grad_scaler_and_the_steps_it_skips(fused: bool) -> None:
    def build(groups: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=0.1, fused=fused)

    trainer = Trainer(build, gr.LeRaC(4, last=1e-3))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    effective = spy(trainer.optimizer)
    skip = True
    for x in trainer.batches():
        trainer.optimizer.zero_grad()
        loss = (trainer.model(x) - x).square().sum()
        scaler.scale(loss).backward()
        if skip:
            trainer.model[0].weight.grad[0, 0] = torch.inf
        before = [p.detach().clone() for p in trainer.model.parameters()]
        scaler.step(trainer.optimizer)
        scaler.update()
        moved = any(
            not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True)
        )
        assert moved is not skip
        skip = False
    assert len(trainer.optimizer.param_groups) == 2
    assert {round(rate, 6) for _, rate in effective[-1]} >= {0.1, 0.01, 0.001, 0.0001}


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # the compiler's
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's, at graph breaks
@pytest.mark.parametrize(("how", "name"), [("step", "SGD"), ("function", "AdamW")])
def test_a_compiled_step_has_the_rates_of_every_epoch(how: str, name: str) -> None:
    plain = Trainer(OPTIMIZERS[name], gr.LeRaC(2, last=1e-3)).epochs(3)
    ours = Trainer(OPTIMIZERS[name], gr.LeRaC(2, last=1e-3))
    step = ours.optimizer.step if how == "step" else lambda: ours.optimizer.step()
    compiled = torch.compile(step, backend="eager")
    for _ in range(3):
        for _ in ours.batches():
            compiled()
    assert len(ours.optimizer.param_groups) == 2
    for mine, theirs in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize("options", [{"fused": True}, {"capturable": False, "foreach": False}])
def test_tensor_rates_stay_tensors_and_are_not_written(options: dict[str, bool]) -> None:
    rate = torch.tensor(0.01)

    def build(groups: Any) -> torch.optim.Optimizer:
        flat = [p for group in groups for p in group["params"]]
        return torch.optim.Adam(flat, lr=rate, **options)

    trainer = Trainer(build, gr.LeRaC(3, last=1e-3))
    effective = spy(trainer.optimizer)
    trainer.epochs(4)
    rates = dict(effective[0])
    layers = [rates[id(layer.weight)] for layer in trainer.model]
    assert layers == pytest.approx([0.01, 1e-3, 1e-4, 1e-5])
    assert trainer.optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.01)


class Counting(torch.optim.SGD):
    """Keeps a counter and a tensor in its groups, as older optimizers do."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
        return super().step(closure)


def test_what_a_step_writes_into_its_groups_is_kept() -> None:
    trainer = Trainer(lambda groups: Counting(groups, lr=0.1), gr.LeRaC(2)).epochs(3)
    assert [group["steps"] for group in trainer.optimizer.param_groups] == [6, 6]
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.1, 0.05]


def test_after_the_last_epoch_the_groups_are_left_alone() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(1))
    seen: list[Any] = []
    trainer.epochs(1)
    trainer.optimizer.register_step_pre_hook(lambda o, a, k: seen.extend(o.param_groups))
    trainer.epochs(1)
    assert len(seen) == 4
    assert all(any(group is own for own in trainer.optimizer.param_groups) for group in seen)


def test_k_of_zero_is_plain_training_to_the_bit() -> None:
    plain = Trainer(OPTIMIZERS["AdamW"]).epochs(3)
    assert (
        differences(Trainer(OPTIMIZERS["AdamW"], gr.LeRaC(0)).epochs(3).state(), plain.state())
        == []
    )
    at_once = gr.LeRaC(5, last=1.0)
    assert differences(Trainer(OPTIMIZERS["AdamW"], at_once).epochs(3).state(), plain.state()) == []


def test_hooks_after_the_step_see_the_optimizers_own_groups() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(5), attach=False)
    seen: list[list[float]] = []
    trainer.optimizer.register_step_post_hook(
        lambda o, a, k: seen.append([group["lr"] for group in o.param_groups])
    )
    trainer.attach()
    trainer.epochs(1)
    assert seen == [[0.1, 0.05]] * 2


def test_a_wrapped_optimizer_is_scaled_inside() -> None:
    class Wrapper:
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

        def step(self) -> None:
            self.optimizer.step()

    model = model_of()
    wrapped = Wrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    curriculum = gr.Curriculum(gr.LeRaC(5, last=1e-3))
    curriculum.attach(model, wrapped)
    effective = spy(wrapped.optimizer)
    wrapped.step()
    assert {round(rate, 7) for _, rate in effective[0]} == {0.1, 0.01, 0.001, 0.0001}
    assert "x eta = 0.0001" in gr.LeRaC(last=1e-3).describe(model, wrapped)


# ---------------------------------------------------------------------------- changes


def test_layers_are_counted_anew_where_some_are_unfrozen() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(4, last=1e-3), attach=False)
    trainer.model[:3].requires_grad_(False)
    trainer.attach()
    effective = spy(trainer.optimizer)
    trainer.epochs(1)
    trainer.model[2].requires_grad_(True)
    trainer.epochs(1)
    head = id(trainer.model[3].weight)
    assert [dict(step)[head] for step in effective] == pytest.approx(
        [0.1, 0.1, 0.1 * 1e-3**0.75, 0.1 * 1e-3**0.75]
    )
    assert dict(effective[2])[id(trainer.model[2].weight)] == 0.1


def test_unfrozen_within_an_epoch_counts_from_the_next_step() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(4, last=1e-3), attach=False)
    trainer.model[:2].requires_grad_(False)
    trainer.attach()
    effective = spy(trainer.optimizer)
    for step, _ in enumerate(trainer.batches()):
        trainer.optimizer.step()
        if step == 0:
            trainer.model[:2].requires_grad_(True)
    weights = [id(layer.weight) for layer in trainer.model]
    assert [dict(effective[0])[w] for w in weights] == pytest.approx([0.1, 0.1, 0.1, 1e-4])
    assert [dict(effective[1])[w] for w in weights] == pytest.approx([0.1, 0.01, 1e-3, 1e-4])


def test_parameters_that_join_the_optimizer_later_are_counted() -> None:
    model = model_of()
    optimizer = torch.optim.SGD(model[2:].parameters(), lr=0.1)
    curriculum = gr.Curriculum(gr.LeRaC(4, last=1e-3))
    curriculum.attach(model, optimizer)
    effective = spy(optimizer)
    optimizer.step()
    optimizer.add_param_group({"params": list(model[:2].parameters()), "lr": 1.0})
    optimizer.step()
    weights = [id(layer.weight) for layer in model]
    assert [dict(effective[0])[w] for w in weights[2:]] == pytest.approx([0.1, 1e-4])
    assert [dict(effective[1])[w] for w in weights] == pytest.approx([1.0, 0.1, 1e-3, 1e-4])


def test_new_parameters_are_a_named_error_in_the_step_and_leave_the_groups_alone() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(4))
    batches = trainer.batches()
    next(batches)
    trainer.optimizer.step()
    trainer.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    with pytest.raises(RuntimeError, match="optimizer must have the parameters it was attached"):
        trainer.optimizer.step()
    assert [len(group["params"]) for group in trainer.optimizer.param_groups] == [4, 4, 1]
    grown = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(4))
    grown.epochs(1)
    grown.model.append(nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match=r"model must have the parameters .* 2 new ones"):
        grown.epochs(1)
    grown.curriculum.detach()
    grown.attach()
    grown.epochs(1)


def test_attaching_again_within_an_epoch_goes_on_where_it_stood() -> None:
    """Eq. 8 with f = 1e-3 and k = 3: in the epoch l = 2 the last of four layers is at 1e-1."""
    trainer = Trainer(OPTIMIZERS["SGD"], method := gr.LeRaC(3, last=1e-3))
    trainer.epochs(2)
    for _ in trainer.batches():
        trainer.curriculum.detach()
        trainer.attach()
        seen: list[float] = []
        hook = trainer.optimizer.register_step_pre_hook(
            lambda optimizer, *_: seen.append(optimizer.param_groups[3]["lr"])  # noqa: B023
        )
        trainer.optimizer.step()
        hook.remove()
        assert seen == pytest.approx([0.1 * 0.1])
    assert method.rates(2)[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("how", ["call, then step", "closure", "closure by name"])
def test_rates_per_step_count_batches_alike_with_and_without_a_closure(how: str) -> None:
    """Eq. 8 with f = 1e-4, k = 2, two batches an epoch: l / k = 0, 1/4, 1/2, 3/4."""
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(2, last=1e-4, unit="step"))
    model, optimizer = trainer.model, trainer.optimizer
    seen: list[float] = []
    optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[3]["lr"])
    )
    for _ in range(2):
        for (x,) in trainer.loader:

            def closure(x: torch.Tensor = x) -> torch.Tensor:
                optimizer.zero_grad()
                loss = trainer.curriculum((model(x) - x).square().sum(1))
                loss.backward()
                return loss

            if how == "closure":
                optimizer.step(closure)
            elif how == "closure by name":
                optimizer.step(closure=closure)
            else:
                closure()
                optimizer.step()
    assert seen == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])


def test_a_closure_is_told_the_rate_before_scaling() -> None:
    """Also where the first layer starts below the optimizer's rate, and after a failed step."""
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(3, first=0.1), Asks())
    asked = []

    def closure() -> torch.Tensor:
        asked.append((trainer.curriculum.clock.rate(0), trainer.optimizer.param_groups[0]["lr"]))
        if len(asked) == 2:
            raise ArithmeticError
        return torch.zeros(())

    for number, _ in enumerate(trainer.batches()):
        if number == 0:
            trainer.optimizer.step(closure)
        else:
            with pytest.raises(ArithmeticError):
                trainer.optimizer.step(closure)
    assert asked == [(0.1, pytest.approx(0.01))] * 2
    assert trainer.curriculum.clock.rate(0) == 0.1
    assert trainer.curriculum.clock.time == 0.1


def test_what_cannot_be_attached_is_refused_by_name() -> None:
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="model must be given to LeRaC"):
        gr.Curriculum(gr.LeRaC()).attach(optimizer=optimizer)
    with pytest.raises(ValueError, match="optimizer must be given to LeRaC"):
        gr.Curriculum(gr.LeRaC()).attach(model=model)
    with pytest.raises(ValueError, match=r"one of the model's parameters\. Got 8 that it does not"):
        gr.Curriculum(gr.LeRaC()).attach(model_of(), optimizer)
    with pytest.raises(ValueError, match="one of the model's parameters"):
        gr.Curriculum(gr.LeRaC()).attach(nn.ReLU(), optimizer)
    with pytest.raises(ValueError, match="6 in no entry"):
        gr.Curriculum(gr.LeRaC(layers=["0"])).attach(model, optimizer)
    curriculum = gr.Curriculum(gr.LeRaC())
    curriculum.attach(model, optimizer)
    with pytest.raises(RuntimeError, match="attaches once"):
        curriculum.attach(model, optimizer)
    with pytest.raises(RuntimeError, match="LeRaC attaches once"):
        curriculum.methods[0].attach(model, optimizer)
    with pytest.raises(RuntimeError, match="scaled by one method at a time"):
        gr.Curriculum(gr.LeRaC()).attach(model, optimizer)
    with pytest.raises(RuntimeError, match="scaled by one method at a time"):
        ScaledSteps(dict, lambda: None).attach(optimizer)


def test_training_without_attaching_is_refused_but_not_after_detach() -> None:
    trainer = Trainer(OPTIMIZERS["SGD"], gr.LeRaC(2), attach=False)
    with pytest.raises(RuntimeError, match="LeRaC must be attached before training"):
        trainer.epochs(1)
    trainer.attach()
    trainer.curriculum.detach()
    trainer.epochs(1)
    assert Trainer(OPTIMIZERS["SGD"], gr.LeRaC(0), attach=False).epochs(1).curriculum.epoch == 1


def test_parameters_outside_the_optimizer_do_not_count_as_layers() -> None:
    model = model_of()
    optimizer = torch.optim.SGD(model[1:].parameters(), lr=0.1)
    method = gr.LeRaC(last=1e-2)
    method.attach(model, optimizer)
    assert method.rates(0) == pytest.approx([1.0, 0.1, 0.01])


def test_it_works_beside_data_level_curricula() -> None:
    pace = gr.pacing.Linear(start_fraction=0.5, epochs=2)
    trainer = Trainer(
        OPTIMIZERS["SGD"], gr.Predefined(torch.arange(4.0), pace=pace), gr.LeRaC(3), gr.SuperLoss()
    )
    trainer.epochs(4)
    assert trainer.curriculum.epoch == 4
