"""Bad input is refused before anything changes, by name, rule, value and likely cause."""

# ruff: noqa: E501 - a message stands on one line, beside what causes it

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

import gradatim as gr
from engine.probes import (
    Average,
    Diary,
    Highest,
    LastLoss,
    Planned,
    Samples,
    Weighed,
    same,
    train,
)
from gradatim import validation
from gradatim.loader import INDEX_KEY

SIZE = 8
FORM = re.compile(r"^.+ must be .+\. Got .+\.( .+[.?])?$", re.DOTALL)


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter([1, 2])


class Reserved(Samples):
    def __getitem__(self, k: int) -> dict[str, int]:  # type: ignore[override]
        return {"x": k, INDEX_KEY: k}


def loaded(*methods: gr.Method, **options: Any) -> Any:
    curriculum = gr.Curriculum(*methods)
    return curriculum, curriculum.loader(Samples(SIZE), batch_size=4, **options)


def begun(*methods: gr.Method, **options: Any) -> tuple[gr.Curriculum, torch.Tensor]:
    """A curriculum with its first batch drawn; the loader is kept by its stream."""
    curriculum, loader = loaded(*methods, **options)
    batch = next(iter(loader))
    curriculum.kept = loader  # type: ignore[attr-defined]
    return curriculum, batch


# --- Constructing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: gr.Curriculum(gr.Uniform), TypeError, "methods must be gradatim.Method objects. Got <class .*Uniform'>. Did you pass the class?"),
        (lambda: gr.Curriculum("spl"), TypeError, "methods must be gradatim.Method objects. Got spl."),
        (lambda: gr.Curriculum(*[gr.Uniform()] * 2), ValueError, r"methods must be different objects. Got \[Uniform\(\), Uniform\(\)\]"),
        (lambda: gr.Curriculum(Highest(), Highest()), TypeError, r"at most one method may select within batches. Got Highest\(\) and Highest\(\)"),
        (lambda: gr.Curriculum(seed=-1), ValueError, "seed must be a whole number, at least 0. Got -1"),
        (lambda: gr.Curriculum(seed=0.5), TypeError, "seed must be a whole number, at least 0. Got 0.5"),
        (lambda: gr.Curriculum(seed=True), TypeError, "seed must be a whole number, at least 0. Got True"),
        (lambda: gr.Curriculum(criterion="mse"), TypeError, "criterion must be callable or None. Got 'mse'"),
        (lambda: gr.Curriculum(learning_rate=0.1), TypeError, "learning_rate must be callable or None. Got 0.1"),
        (lambda: gr.Curriculum(nonfinite="skp"), ValueError, "nonfinite must be one of 'raise', 'skip'. Got 'skp'. Did you mean 'skip'?"),
        (lambda: gr.Curriculum(nonfinite=None), ValueError, "nonfinite must be one of 'raise', 'skip'. Got None"),
        (lambda: gr.Table(""), ValueError, "name must be a non-empty string without dots. Got ''"),
        (lambda: gr.Table("a.b"), ValueError, "name must be a non-empty string without dots. Got 'a.b'"),
        (lambda: gr.Table("a", merge="mean"), ValueError, "merge must be one of 'last', 'sum'. Got 'mean'"),
        (lambda: gr.Scalar("a", merge="max"), ValueError, "merge must be one of 'last', 'sum'. Got 'max'"),
    ],
)  # fmt: skip
def test_d25b_constructors_refuse_by_name(build: Any, error: type, message: str) -> None:
    """Peers return their NotImplementedError, or build it and forget to raise."""
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shuffle": True}, TypeError, "shuffle must be left to the curriculum, which decides the order"),
        ({"sampler": [0, 1]}, TypeError, "sampler must be left to the curriculum"),
        ({"batch_sampler": [[0]]}, TypeError, "batch_sampler must be left to the curriculum"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number, at least 1. Got 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number, at least 1. Got 2.5"),
        ({"batch_size": None}, TypeError, "batch_size must be a whole number, at least 1. Got None"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be a whole number, at least 1. Got 0"),
        ({"carry": "keys"}, ValueError, "carry must be one of 'hidden', 'key'. Got 'keys'. Did you mean 'key'?"),
        ({"dataset": Samples(0)}, ValueError, "dataset must be non-empty. Got 0 samples"),
        ({"dataset": Stream()}, TypeError, "dataset must have __getitem__ and __len__. Got Stream. Is it a stream?"),
        ({"dataset": 5}, TypeError, "dataset must have __getitem__ and __len__. Got int"),
        ({"num_workers": -1}, ValueError, "num_workers option should be non-negative"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
    ],
)  # fmt: skip
def test_the_loader_refuses_by_name_and_can_be_made_afterwards(
    options: dict[str, Any], error: type, message: str
) -> None:
    curriculum = gr.Curriculum(LastLoss())
    given = {"dataset": Samples(SIZE), "batch_size": 4, **options}
    with pytest.raises(error, match=message):
        curriculum.loader(given.pop("dataset"), **given)
    loader = curriculum.loader(Samples(SIZE), batch_size=4)
    train(curriculum, loader)
    assert curriculum.epoch == 1


@pytest.mark.parametrize("options", [{"shuffle": False}, {"sampler": None}, {"shuffle": None}])
def test_what_leaves_the_order_to_the_curriculum_is_welcome(options: dict[str, Any]) -> None:
    _, loader = loaded(**options)
    assert len(loader) == 2


def test_a_size_that_a_method_was_not_made_for_is_refused() -> None:
    for method in (gr.Predefined(score=torch.arange(9.0)), gr.SPCL(score=torch.arange(9.0))):
        with pytest.raises(
            ValueError, match=r"score must be one value per sample: 8 of them. Got 9"
        ):
            loaded(method)


def test_data_that_already_has_the_reserved_key_are_refused() -> None:
    loader = gr.Curriculum().loader(Reserved(4), batch_size=2, carry="key")
    with pytest.raises(ValueError, match="dataset must be free of the reserved key '_gradatim_ind"):
        next(iter(loader))


def test_a_key_needs_dict_batches() -> None:
    loader = gr.Curriculum().loader(Samples(4), batch_size=2, carry="key")
    message = r'carry must be "hidden" for batches that are not dicts. Got "key" and .*Tensor'
    with pytest.raises(TypeError, match=message):
        next(iter(loader))


def test_a_data_set_that_changed_its_size_is_refused() -> None:
    curriculum, loader = loaded()
    del loader
    with pytest.raises(ValueError, match=r"dataset must be of 8 samples, as before. Got 9"):
        curriculum.loader(Samples(9), batch_size=4)


# --- The call ---------------------------------------------------------------------------------


CALLS: list[tuple[str, Callable[[Any, torch.Tensor], Any], type[Exception], str]] = [
    ("scalar", lambda c, b: c(b.mean()), ValueError, r"losses must be one per sample, of shape \(4,\). Got a tensor of shape \(\) and dtype float32. Did you forget reduction='none'\?"),
    ("column", lambda c, b: c(b[:, None]), ValueError, r"shape \(4,\). Got a tensor of shape \(4, 1\)"),
    ("fewer", lambda c, b: c(b[1:]), ValueError, r"shape \(4,\). Got .*\(3,\).*Does collate_fn drop samples"),
    ("whole", lambda c, b: c(b.long()), ValueError, "losses must be of a floating dtype. Got .*int64"),
    ("complex", lambda c, b: c(b.cfloat()), ValueError, "losses must be of a floating dtype. Got .*complex64"),
    ("float", lambda c, b: c(0.5), TypeError, r"losses must be a tensor of shape \(4,\). Got 0.5"),
    ("list", lambda c, b: c([0.5] * 4), TypeError, r"losses must be a tensor of shape \(4,\). Got \[0.5"),
    ("nothing", lambda c, b: c(None), TypeError, r"losses must be a tensor of shape \(4,\). Got None"),
    ("nan", lambda c, b: c(b * math.nan), ValueError, r"losses must be finite. Got 4 non-finite values at index \["),
    ("index float", lambda c, b: c(b, index=b), ValueError, "index must be a tensor, int64 and one-dim.*Got .*float32"),
    ("index list", lambda c, b: c(b, index=[0, 1, 2, 3]), ValueError, r"index must be a tensor, int64.*Got \[0, 1, 2, 3\]"),
    ("index matrix", lambda c, b: c(b, index=b.long()[None]), ValueError, r"index must be .*Got .*\(1, 4\)"),
    ("index high", lambda c, b: c(b, index=torch.tensor([0, 8, 1, 2])), ValueError, r"index must be int64 positions in \[0, 8\). Got 8. Does index belong to another data set\?"),
    ("index short", lambda c, b: c(b, index=torch.tensor([0, 1])), ValueError, r"losses must be one per sample, of shape \(2,\)"),
    ("observed losses missing", lambda c, b: c(b, observed={"logits": b}), ValueError, r'observed must be a dict with "losses" of shape \(4,\). Got \{'),
    ("observed shape", lambda c, b: c(b, observed={"losses": b[1:]}), ValueError, r'observed must be a dict with "losses".*Got .*\(3,\)'),
    ("observed list", lambda c, b: c(b, observed={"losses": [1.0] * 4}), ValueError, r'observed must be a dict with "losses".*Got \[1.0'),
    ("observed tensor", lambda c, b: c(b, observed=b), ValueError, "observed must be a dict, False or None. Got a tensor"),
    ("observed True", lambda c, b: c(b, observed=True), ValueError, "observed must be a dict, False or None. Got True"),
    ("weigh", lambda c, b: c.weigh(b.mean()), ValueError, r"reduction='none'\?"),
    ("select", lambda c, b: c.select(b, k=1), TypeError, "select needs a selecting method; this curriculum has none"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS]
)
def test_a_refused_call_changes_nothing(call: Any, error: type, message: str) -> None:
    """After the refusal the same batch is trained on as if nothing had happened."""
    methods = (Average(), gr.SuperLoss(), LastLoss())
    curriculum, batch = begun(*copy.deepcopy(methods))
    twin, again = begun(*copy.deepcopy(methods))
    for _ in range(2):
        with pytest.raises(error, match=message) as raised:
            call(curriculum, batch)
        if " must be " in str(raised.value):
            assert FORM.match(str(raised.value)), str(raised.value)
    assert (curriculum.epoch, curriculum.step) == (0, 0)
    assert len(curriculum.epochs.log) == 0
    assert torch.equal(curriculum(batch), twin(again))
    assert same(curriculum.state_dict(), twin.state_dict())


def test_missing_signals_are_refused_by_name() -> None:
    curriculum, batch = begun(Diary(wants=("logits", "mask")))
    with pytest.raises(ValueError, match=r"logits must be given: Diary\(.*needs it. Call curri"):
        curriculum(batch, mask=batch)
    with pytest.raises(ValueError, match=r"mask must be given: .*curriculum\(losses, mask=mask\)"):
        curriculum(batch, logits=batch, mask=None)
    with pytest.raises(
        ValueError, match=r"logits must be one row per sample: 4 of them. Got .*\(3"
    ):
        curriculum(batch, logits=torch.zeros(3, 2), mask=batch)
    with pytest.raises(ValueError, match=r"mask must be one row per sample: 4 of them. Got .*\(\)"):
        curriculum(batch, logits=batch, mask=torch.tensor(1.0))
    curriculum(batch, logits=torch.zeros(4, 2), mask=batch)
    assert curriculum.step == 1


def test_an_unknown_learning_rate_is_refused_by_name() -> None:
    curriculum, batch = begun(Diary(wants=("learning_rate",)))
    message = r"learning rate must be known: Diary.*attach\(optimizer=optimizer\) or pass Curric"
    with pytest.raises(ValueError, match=message):
        curriculum(batch)
    sgd = optimizer()
    curriculum.attach(optimizer=sgd)
    curriculum(batch)
    assert curriculum.step == 1


def test_before_the_loader_is_made_there_is_nothing_to_do() -> None:
    curriculum = gr.Curriculum(LastLoss())
    losses = torch.ones(4)
    with pytest.raises(RuntimeError, match=r"no batch to weigh: iterate over curriculum\.loader"):
        curriculum(losses)
    with pytest.raises(RuntimeError, match=r"no batch to skip: iterate over curriculum\.loader"):
        curriculum.skip()
    with pytest.raises(RuntimeError, match=r"state_dict needs the data set's size: call curr"):
        curriculum.state_dict()
    for action in (
        lambda: curriculum(losses, index=torch.arange(4)),
        lambda: curriculum.metrics(),
        lambda: curriculum.planned_steps(1),
    ):
        with pytest.raises(RuntimeError, match=r"must have a loader: call curriculum\.loader"):
            action()
    with pytest.raises(RuntimeError, match=r"table 'loss' has no size yet: make the loader first"):
        _ = gr.Table("loss").values


def test_planned_steps_takes_a_count() -> None:
    curriculum, _ = begun()
    with pytest.raises(ValueError, match=r"epochs must be a whole number, at least 0. Got -1"):
        curriculum.planned_steps(-1)
    with pytest.raises(TypeError, match=r"epochs must be a whole number, at least 0. Got 1\.5"):
        curriculum.planned_steps(1.5)  # type: ignore[arg-type]
    assert curriculum.planned_steps(0) == 0


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.ones(4, 1), torch.ones(()), 0.5])
def test_weights_of_another_shape_are_refused_by_their_method(wrong: Any) -> None:
    class Wrong(gr.Method):
        def weigh(self, batch: gr.Batch, run: gr.Run) -> Any:
            return wrong

    curriculum, batch = begun(Wrong())
    with pytest.raises(ValueError, match=r"weights of Wrong\(\) must be of shape \(4,\). Got "):
        curriculum(batch)
    assert curriculum.step == 0


# --- Plans ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (lambda pool: pool.keep(pool.index < 0), RuntimeError, r"left no sample for epoch 0"),
        (lambda pool: gr.Pool(pool.index, size=0), RuntimeError, r"left no sample for epoch 0"),
        (lambda pool: None, TypeError, r"plan of Planned\(.*must return a Pool. Got None"),
        (lambda pool: gr.Pool(pool.index, weights=torch.ones(9)), ValueError, r"pool.weights of Planned.* must be one per candidate: 8 of them. Got .*\(9,\)"),
        (lambda pool: gr.Pool(pool.index, log_weights=torch.ones(7)), ValueError, "pool.log_weights of .*one per candidate: 8"),
        (lambda pool: pool.prefer(torch.full((8,), math.nan)), ValueError, r"weights must be finite. Got 8 non-finite values"),
    ],
)  # fmt: skip
def test_impossible_plans_are_refused_where_they_were_made(
    plan: Any, error: type, message: str
) -> None:
    curriculum, loader = loaded(Planned(plan))
    for ask in (lambda: len(loader), lambda: next(iter(loader)), curriculum.metrics):
        with pytest.raises(error, match=message):
            ask()
    assert (curriculum.epoch, curriculum.step) == (0, 0)


def test_drop_last_with_less_than_a_batch_is_refused() -> None:
    _, loader = loaded(Planned(lambda pool: pool.keep(pool.index < 3)), drop_last=True)
    with pytest.raises(RuntimeError, match="drop_last leaves no batch: epoch 0 has fewer than 4"):
        next(iter(loader))


# --- attach -----------------------------------------------------------------------------------


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)


def test_attach_refuses_what_is_neither_a_model_nor_an_optimizer() -> None:
    curriculum = gr.Curriculum()
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module. Got 'resnet18'"):
        curriculum.attach(model="resnet18")
    with pytest.raises(TypeError, match=r"optimizer must be a torch\.optim\.Optimizer. Got 0\.1"):
        curriculum.attach(optimizer=0.1)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        curriculum.attach(optimizer())  # in the model's place
    curriculum.attach(torch.nn.Linear(1, 1), optimizer())
    with pytest.raises(RuntimeError, match=r"attaches once: call detach\(\) before attaching"):
        curriculum.attach(torch.nn.Linear(1, 1), optimizer())
    curriculum.detach()
    curriculum.attach(torch.nn.Linear(1, 1))


def test_detaching_what_is_not_attached_is_refused() -> None:
    curriculum = gr.Curriculum(gr.LeRaC())
    with pytest.raises(RuntimeError, match=r"nothing to detach: call attach\(model=model\) first"):
        curriculum.detach()
    model = torch.nn.Linear(1, 1)
    curriculum.attach(model, torch.optim.SGD(model.parameters(), lr=0.5))
    curriculum.detach()
    with pytest.raises(RuntimeError, match="nothing to detach"):
        curriculum.detach()


def test_an_attach_that_a_method_refuses_is_undone() -> None:
    class Attaching(gr.Method):
        attached = 0

        def attach(self, model: Any, optimizer: Any) -> None:
            self.attached += 1

        def detach(self) -> None:
            self.attached -= 1

    class Refusing(gr.Method):
        def attach(self, model: Any, optimizer: Any) -> None:
            if model is None:
                raise ValueError("model must be given")

    curriculum = gr.Curriculum(first := Attaching(), Refusing(), last := Attaching())
    sgd = optimizer()
    for _ in range(2):
        with pytest.raises(ValueError, match="model must be given"):
            curriculum.attach(optimizer=sgd)
        assert (first.attached, last.attached) == (0, 0)
        assert not sgd._optimizer_step_post_hooks
    curriculum.attach(torch.nn.Linear(1, 1), sgd)
    assert (first.attached, last.attached) == (1, 1)


# --- Checkpoints ------------------------------------------------------------------------------


def test_states_that_do_not_fit_are_refused_before_anything_changes() -> None:
    curriculum, loader = loaded(LastLoss(), gr.Uniform())
    train(curriculum, loader)
    state = curriculum.state_dict()
    before = copy.deepcopy(state)

    def without(key: str) -> dict[str, Any]:
        return {name: value for name, value in state.items() if name != key}

    other_size = gr.Curriculum(LastLoss(), gr.Uniform())
    held = other_size.loader(Samples(9), batch_size=4)
    fewer, also = loaded(LastLoss())
    double, third = loaded(LastLoss(dtype=torch.float64), gr.Uniform())
    for wrong, error, message in (
        (5, TypeError, "state must be a dict from state_dict.*Got int"),
        ({}, ValueError, "state must be a dict from Curriculum.state_dict"),
        (without("position"), ValueError, r"Got one without \['position'\]"),
        ({**state, "version": 99}, ValueError, "state must be of version 1. Got version 99"),
        (fewer.state_dict(), ValueError, r"state must be of the methods \['LastLoss', 'Uniform'\]"),
        (
            other_size.state_dict(),
            ValueError,
            "state must be of 8 samples. Got 9. Is it from anoth",
        ),
        (double.state_dict(), ValueError, r"state must be with 'loss' of LastLoss.*float32"),
    ):
        with pytest.raises(error, match=message):
            curriculum.load_state_dict(wrong)
        assert same(curriculum.state_dict(), before)
    del held, also, third


# --- The form of refusals ---------------------------------------------------------------------


def test_every_refusal_names_the_value_and_tensors_by_shape() -> None:
    message = str(validation.refusal("gamma", "in [0, 1]", torch.zeros(2, 3), "Is it a rate?"))
    assert message == (
        "gamma must be in [0, 1]. Got a tensor of shape (2, 3) and dtype float32. Is it a rate?"
    )
    assert FORM.match(message)


@pytest.mark.parametrize(
    ("bounds", "good", "bad"),
    [
        ({"above": 0}, [1e-9, 5, np.float32(2)], [0, -1]),
        ({"at_least": 0}, [0, 3], [-1e-9]),
        ({"below": 1}, [0.999, -5], [1, 2]),
        ({"at_most": 1}, [1, -5], [1.0001]),
        ({}, [0, -3.5], [math.nan, math.inf, -math.inf]),
    ],
)
def test_numbers_are_checked_at_their_bounds(bounds: Any, good: Any, bad: Any) -> None:
    for value in good:
        assert validation.check_number("x", value, **bounds) == float(value)
    for value in bad:
        with pytest.raises(ValueError, match=r"x must be a finite number.* Got ") as raised:
            validation.check_number("x", value, **bounds)
        assert FORM.match(str(raised.value))
    for value in (True, "1", None, [1], torch.tensor(1.0), 1j):
        with pytest.raises(TypeError, match="x must be a finite number"):
            validation.check_number("x", value, **bounds)


def test_counts_are_whole_and_within_bounds() -> None:
    assert validation.check_count("k", np.int64(3), at_least=1, at_most=3) == 3
    for value in (0, 4):
        with pytest.raises(ValueError, match="k must be a whole number, at least 1 and at most 3"):
            validation.check_count("k", value, at_least=1, at_most=3)
    for value in (1.0, False, "2", None):
        with pytest.raises(TypeError, match="k must be a whole number"):
            validation.check_count("k", value)


def test_indices_are_int64_positions() -> None:
    validation.check_index("index", torch.tensor([0, 3]), 4)
    validation.check_index("index", torch.zeros(0, dtype=torch.int64), 4)
    for wrong, got in ((torch.tensor([0, 4]), "4"), (torch.tensor([-1, 0]), "-1")):
        with pytest.raises(
            ValueError, match=rf"index must be int64 positions in \[0, 4\). Got {got}"
        ):
            validation.check_index("index", wrong, 4)
    for wrong in (torch.tensor([0], dtype=torch.int32), torch.zeros(1, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match="index must be int64 positions"):
            validation.check_index("index", wrong, 4)


def test_finite_values_pass_and_others_are_named_by_row() -> None:
    validation.check_finite("x", torch.zeros(0))
    validation.check_finite("x", torch.ones(3, 2))
    rows = torch.zeros(3, 2)
    rows[1, 1] = rows[2, 0] = rows[2, 1] = math.inf
    with pytest.raises(
        ValueError, match=r"x must be finite. Got 2 non-finite values at index \[1, 2\]"
    ):
        validation.check_finite("x", rows)


def test_vectors_are_read_from_what_people_have() -> None:
    for given in ([1, 2], (1.0, 2.0), np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])):
        assert validation.as_vector("score", given, size=2).tolist() == [1.0, 2.0]
    assert validation.as_vector("score", torch.ones(2, dtype=torch.float16)).dtype == torch.float16
    assert not validation.as_vector("score", torch.ones(2, requires_grad=True)).requires_grad
    for wrong, error, message in (
        (["a"], TypeError, "score must be numbers, one per sample. Got list"),
        ([[1.0]], ValueError, "score must be one-dimensional"),
        ([1.0], ValueError, "score must be one value per sample: 2 of them. Got 1"),
        (
            [1.0, math.nan],
            ValueError,
            r"score must be finite. Got 1 non-finite value at index \[1\]",
        ),
        (torch.ones(2) * 1j, ValueError, "score must be real numbers"),
    ):
        with pytest.raises(error, match=message):
            validation.as_vector("score", wrong, size=2)
    with pytest.raises(ValueError, match=r"score must be at least 0 everywhere. Got -1\.0"):
        validation.as_vector("score", [-1.0, 2.0], at_least=0)
    with pytest.raises(ValueError, match=r"score must be above 0 everywhere. Got 0\.0"):
        validation.as_vector("score", [0.0, 2.0], above=0)


def test_weights_that_nobody_planned_for_do_not_hide_a_wrong_method() -> None:
    """A method's own bad index is an error of that method, not silence."""
    curriculum, batch = begun(Weighed(torch.ones(3)))
    with pytest.raises(IndexError):
        curriculum(batch)
    assert curriculum.step == 0


def test_selecting_from_a_batch_that_no_loader_handed_out_is_refused() -> None:
    class Keep(gr.Method):
        def select(self, batch: gr.Batch, k: int, run: gr.Run) -> torch.Tensor:
            return torch.arange(k)

    curriculum = gr.Curriculum(Keep(), seed=0)
    data = [{"x": torch.tensor(float(i))} for i in range(8)]
    loader = curriculum.loader(data, batch_size=4, carry="key")
    batch = next(iter(loader))
    with pytest.raises(RuntimeError, match="select narrows the batch that the loader handed out"):
        curriculum.select(torch.rand(4), 2, index=batch["_gradatim_index"])
    assert curriculum.step == 0
