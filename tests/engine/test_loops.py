"""The loops people have: the curriculum's call in them changes nothing but what it should.

Each loop is written once and run twice: with the curriculum, and plainly over the batches that the
curriculum dealt. Parameters must agree to the bit.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import gradatim as gr
from engine.probes import Diary, LastLoss, Samples, Weighed

SIZE, EPOCHS, BATCH = 22, 3, 4
Batches = list[list[torch.Tensor]]


@pytest.fixture
def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(SIZE, 6, generator=generator)
    return TensorDataset(features, features[:, :3].argmax(1))


def new_model() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def parameters(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


# --- Shows 2: three changed lines -------------------------------------------------------------


@pytest.mark.parametrize("methods", [(gr.Uniform(),), ()], ids=["uniform", "no method"])
def test_shows_2_three_changed_lines_give_the_same_parameters(
    methods: tuple[gr.Method, ...], data: TensorDataset
) -> None:
    def changed() -> tuple[torch.Tensor, list[list[int]]]:
        model = new_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        curriculum = gr.Curriculum(*methods, seed=0)
        loader = curriculum.loader(data, batch_size=BATCH)
        order = []
        for _ in range(EPOCHS):
            for x, y in loader:
                order.append(curriculum.index.tolist())
                losses = F.cross_entropy(model(x), y, reduction="none")
                loss = curriculum(losses)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        return parameters(model), order

    def unchanged(order: list[list[int]]) -> torch.Tensor:
        model = new_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        loader = DataLoader(data, batch_sampler=order)
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return parameters(model)

    ours, order = changed()
    steps = -(-SIZE // BATCH)
    assert len(order) == EPOCHS * steps
    for epoch in range(EPOCHS):  # every sample once per epoch
        rows = order[epoch * steps : (epoch + 1) * steps]
        assert sorted(itertools.chain(*rows)) == list(range(SIZE))
    assert torch.equal(unchanged(order), ours)
    assert not torch.equal(unchanged(order[::-1]), ours)


# --- Shows 8: one loop, with and without ------------------------------------------------------

Reduce = Callable[..., torch.Tensor]
Loop = Callable[[torch.nn.Module, torch.optim.Optimizer, Iterator[Any], Reduce], None]


def plainly(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        reduce(F.cross_entropy(model(x), y, reduction="none")).backward()
        optimizer.step()


def accumulating(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
    for number, (x, y) in enumerate(batches):
        (reduce(F.cross_entropy(model(x), y, reduction="none")) / 3).backward()
        if number % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()


def clipping(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        reduce(F.cross_entropy(model(x), y, reduction="none")).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()


def scaling(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
    """The first gradients overflow, so the first steps are skipped."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=2)
    for x, y in batches:
        optimizer.zero_grad()
        loss = reduce(F.cross_entropy(20 * model(x), y, reduction="none"))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() < 2.0**127


def autocasting(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
            assert logits.dtype == torch.bfloat16
            loss = reduce(F.cross_entropy(logits, y, reduction="none"))
        loss.backward()
        optimizer.step()


def halving(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
    """Losses themselves in half precision."""
    for x, y in batches:
        optimizer.zero_grad()
        losses = F.cross_entropy(model(x), y, reduction="none").to(torch.bfloat16)
        reduce(losses).backward()
        optimizer.step()


def compiling(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
    plainly(torch.compile(model, backend="eager"), optimizer, batches, reduce)


LOOPS = [plainly, accumulating, clipping, scaling, autocasting, halving, compiling]


def dealt(curriculum: gr.Curriculum, loader: Any, order: list[list[int]]) -> Iterator[Any]:
    """Epochs of batches; writes down what was dealt."""
    for _ in range(EPOCHS):
        for batch in loader:
            order.append(curriculum.index.tolist())
            yield batch


def sgd(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


def both(
    loop: Loop,
    data: TensorDataset,
    *methods: gr.Method,
    optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer] = sgd,
    weights: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor, gr.Curriculum]:
    """Parameters after the loop with the curriculum, and after it without."""
    curriculum = gr.Curriculum(*methods, seed=4, **options)
    loader = curriculum.loader(data, batch_size=BATCH)
    model, order = new_model(), []
    theirs = optimizer(model)
    curriculum.attach(model=model, optimizer=theirs)
    loop(model, theirs, dealt(curriculum, loader, order), curriculum)
    assert curriculum.epoch == EPOCHS
    assert curriculum.step == len(order)

    def mean(losses: torch.Tensor, index: Any = None) -> torch.Tensor:
        return losses.mean()

    current: list[list[int]] = []

    def weighted(losses: torch.Tensor, index: Any = None) -> torch.Tensor:
        assert weights is not None
        used = losses.float() * weights[torch.tensor(current[-1])]
        return used.sum() * (1 / len(losses))

    def again() -> Iterator[Any]:
        for rows in order:
            current.append(rows)
            yield data[torch.tensor(rows)]

    plain = new_model()
    loop(plain, optimizer(plain), again(), mean if weights is None else weighted)
    return parameters(model), parameters(plain), curriculum


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("loop", LOOPS)
def test_shows_8_every_loop_trains_as_it_does_without(
    loop: Loop, nonfinite: str, data: TensorDataset
) -> None:
    diary = Diary(wants=("learning_rate",))
    ours, plain, _ = both(loop, data, gr.Uniform(), diary, LastLoss(), nonfinite=nonfinite)
    assert bool(torch.isfinite(ours).all())
    assert not torch.equal(ours, parameters(new_model()))
    assert torch.equal(ours, plain)
    assert len(diary.rows) == EPOCHS * SIZE


@pytest.mark.parametrize("loop", LOOPS)
def test_shows_8_every_loop_weighs_as_by_hand(loop: Loop, data: TensorDataset) -> None:
    weights = torch.linspace(0, 2, SIZE)
    ours, plain, _ = both(loop, data, Weighed(weights), weights=weights)
    unweighed, _, _ = both(loop, data)
    assert torch.equal(ours, plain)
    assert not torch.equal(ours, unweighed)


def test_shows_8_a_tensor_learning_rate_and_its_schedule(data: TensorDataset) -> None:
    def rated(model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=torch.tensor(0.2))

    def decaying(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

        def scheduled() -> Iterator[Any]:
            for number, batch in enumerate(batches):
                yield batch
                if number % 4 == 3:
                    schedule.step()

        plainly(model, optimizer, scheduled(), reduce)

    diary = Diary(wants=("learning_rate",))
    ours, plain, curriculum = both(decaying, data, diary, optimizer=rated)
    assert torch.equal(ours, plain)
    # Observed rates are those of their own steps, though the tensor has changed since.
    expected = [0.2 * 0.5 ** (step // 4) for step in range(18)]
    by_step = dict(zip(diary.column("step"), diary.column("learning_rate"), strict=True))
    assert [by_step[step] for step in range(18)] == pytest.approx(expected)
    assert float(curriculum.clock.time) == pytest.approx(sum(expected))


# --- Closures ---------------------------------------------------------------------------------


def lbfgs(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=4)


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation: a step up the gradient, then one down from there."""

    def __init__(self, params: Any, lr: float, rho: float) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure()
        every = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in every]).norm() + 1e-12
        moves = [p.grad * (self.param_groups[0]["rho"] / norm) for p in every]
        for p, move in zip(every, moves, strict=True):
            p.add_(move)
        with torch.enable_grad():
            closure()
        for p, move in zip(every, moves, strict=True):
            p.sub_(move).sub_(p.grad, alpha=self.param_groups[0]["lr"])
        return loss


def sam(model: torch.nn.Module) -> torch.optim.Optimizer:
    return SAM(model.parameters(), lr=0.2, rho=0.05)


@pytest.mark.parametrize("optimizer", [lbfgs, sam], ids=["lbfgs", "sam"])
@pytest.mark.parametrize("weighing", [False, True], ids=["plain", "weighed"])
def test_shows_8_closures_with_index(optimizer: Any, weighing: bool, data: TensorDataset) -> None:
    evaluations = []

    def closing(model: Any, optimizer: Any, batches: Any, reduce: Reduce) -> None:
        for x, y in batches:
            index = curriculum_index(reduce)
            count = 0

            def closure(x: Any = x, y: Any = y, index: Any = index) -> torch.Tensor:
                nonlocal count
                count += 1
                optimizer.zero_grad()
                losses = F.cross_entropy(model(x), y, reduction="none")
                loss = reduce(losses, index=index)
                loss.backward()
                return loss

            optimizer.step(closure)
            evaluations.append(count)

    def curriculum_index(reduce: Reduce) -> Any:
        return reduce.index if isinstance(reduce, gr.Curriculum) else None

    diary = Diary(wants=("learning_rate",))
    weights = torch.linspace(0.5, 2, SIZE) if weighing else None
    methods = (diary, Weighed(weights)) if weighing else (diary,)
    ours, plain, curriculum = both(closing, data, *methods, optimizer=optimizer, weights=weights)
    assert torch.equal(ours, plain)
    assert max(evaluations) >= 2
    assert len(diary.rows) == EPOCHS * SIZE  # each sample observed once per epoch
    rate = 0.3 if optimizer is lbfgs else 0.2
    assert float(curriculum.clock.time) == pytest.approx(rate * curriculum.step)


def test_shows_8_the_observed_losses_of_a_closure_are_its_first(data: TensorDataset) -> None:
    """The first evaluation is at the parameters that the step starts from."""
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Samples(6), batch_size=3)
    for batch in loader:
        index = curriculum.index
        for evaluation in range(3):
            curriculum(batch + 100 * evaluation, index=index)
    assert method.loss.values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


# --- Wrapped models and optimizers in attach --------------------------------------------------


class Receiving(gr.Method):
    """Keeps what it was handed over."""

    def attach(self, model: Any, optimizer: Any) -> None:
        self.handed = (model, optimizer)

    def detach(self) -> None:
        self.handed = None


@contextlib.contextmanager
def one_rank(folder: Path) -> Iterator[None]:
    store = (folder / "store").as_uri()
    dist.init_process_group("gloo", init_method=store, world_size=1, rank=0)
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_shows_8_wrapped_models_train_alike_and_methods_get_the_inner_one(
    tmp_path: Path, data: TensorDataset
) -> None:
    def trained(wrap: Callable[[torch.nn.Module], Any]) -> torch.Tensor:
        model = new_model()
        wrapped = wrap(model)
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.2)
        curriculum = gr.Curriculum(method := Receiving(), gr.SuperLoss(), seed=4)
        loader = curriculum.loader(data, batch_size=BATCH)
        curriculum.attach(model=wrapped, optimizer=optimizer)
        assert method.handed == (model, optimizer)
        plainly(wrapped, optimizer, dealt(curriculum, loader, []), curriculum)
        curriculum.detach()
        assert method.handed is None
        return parameters(model)

    expected = trained(lambda model: model)
    compiled = lambda model: torch.compile(model, backend="eager")  # noqa: E731
    assert torch.equal(trained(torch.nn.DataParallel), expected)
    assert torch.equal(trained(compiled), expected)
    with one_rank(tmp_path):
        assert torch.equal(trained(DistributedDataParallel), expected)
        assert torch.equal(trained(lambda m: compiled(DistributedDataParallel(m))), expected)


def test_an_optimizer_within_a_wrapper_is_found() -> None:
    class Accelerated:
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

    optimizer = sgd(new_model())
    curriculum = gr.Curriculum(method := Receiving())
    curriculum.attach(optimizer=Accelerated(optimizer))
    assert method.handed == (None, optimizer)


# --- The call inside a compiled step ----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's, at graph breaks
def test_shows_8_a_compiled_step_may_call_the_curriculum(
    data: TensorDataset, caplog: pytest.LogCaptureFixture
) -> None:
    """Training, scores and refusals are as without; the engine stays outside the graph."""
    caplog.set_level(logging.CRITICAL)  # torch reports the graph break

    def trained(compiled: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
        torch.compiler.reset()
        model = new_model()
        optimizer = sgd(model)
        curriculum = gr.Curriculum(LastLoss(), gr.SuperLoss(), seed=4)
        loader = curriculum.loader(data, batch_size=11)
        curriculum.attach(model=model, optimizer=optimizer)

        def step(x: torch.Tensor, y: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
            losses = F.cross_entropy(model(x), y, reduction="none") * factor
            return curriculum(losses) * 1

        run = torch.compile(step, backend=counted) if compiled else step
        for _ in range(4):
            for x, y in loader:
                with pytest.raises(ValueError, match="Got 11 non-finite values at index"):
                    run(x, y, torch.tensor(torch.nan))
                optimizer.zero_grad()
                run(x, y, torch.tensor(1.0)).backward()
                optimizer.step()
        torch.compiler.reset()
        return parameters(model), curriculum.scores(), curriculum.step

    graphs = []

    def counted(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    ours, scores, steps = trained(compiled=True)
    plain, expected, same = trained(compiled=False)
    assert torch.equal(ours, plain)
    assert torch.equal(scores["LastLoss.loss"], expected["LastLoss.loss"])
    assert steps == same == 8
    assert len(graphs) == 2  # before the call and after it, compiled once
