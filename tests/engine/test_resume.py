"""A resumed run is the uninterrupted one, to the bit, from any step; in one process."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import pytest
import torch

import gradatim as gr
from ddp.toy import (
    BY_RANK,
    METHODS,
    Everything,
    Toy,
    Trace,
    differences,
    dump,
    flat,
    network,
    restore,
    states_of,
    train,
)

EVERY_STEP = range(1000)


def assert_continues(whole: Trace, rest: Trace, step: int) -> None:
    """`rest`, resumed after `step`, is what `whole` did from there on."""
    assert rest.codes == whole.codes[step:], f"order after step {step}"
    assert differences(rest.weights, whole.weights[step:]) == [], f"weights after step {step}"
    assert rest.steps == whole.steps[step:], f"step numbers after step {step}"
    assert differences(rest.final, whole.final) == [], f"end after step {step}"
    assert differences(rest.scores, whole.scores) == [], f"scores after step {step}"


def untouched(curriculum: gr.Curriculum, before: dict[str, Any]) -> bool:
    return differences(curriculum.state_dict(), before) == []


# ---------------------------------------------------------------------------- every step


def test_every_public_method_is_resumed_here() -> None:
    public = {
        name
        for name in gr.__all__
        if inspect.isclass(getattr(gr, name)) and issubclass(getattr(gr, name), gr.Method)
    }
    used = {type(method).__name__ for make in METHODS.values() for method in make(9)}
    assert public - {"Method"} - used == set(), "add the new method to METHODS in ddp/toy.py"


@pytest.mark.parametrize("name", METHODS)
def test_resumes_to_the_bit_from_every_step(name: str) -> None:
    whole = train(name, save_at=EVERY_STEP)
    last = whole.steps[-1]
    assert sorted(whole.saved) == list(range(1, last + 1))
    assert last >= 6, "three epochs of some batches"
    for step, saved in whole.saved.items():
        assert_continues(whole, train(name, state=saved), step)
    assert whole.codes != train(name, seed=1).codes, "another seed is another run"


@pytest.mark.parametrize("name", ["Everything", "pipeline"])
def test_loading_before_the_loader_is_made_equals_loading_after(name: str) -> None:
    whole = train(name, save_at=EVERY_STEP)
    for step in (2, whole.steps[-1] // 2, whole.steps[-1] - 1):
        assert_continues(whole, train(name, state=whole.saved[step], early=True), step)


@pytest.mark.parametrize(
    "options",
    [
        {"drop_last": True},
        {"steps_per_epoch": 6},
        {"log_limit_bytes": 1},
        {"log_limit_bytes": 1, "steps_per_epoch": 7, "epochs": 2},
        {"carry": "key"},
        {"nonfinite": "skip", "poison": (3, 17)},
        {"call": True, "batch_size": 9},
    ],
    ids=str,
)
def test_resumes_to_the_bit_under_every_option(options: dict[str, Any]) -> None:
    options = dict(options)
    if "nonfinite" in options:
        options["curriculum_options"] = {"nonfinite": options.pop("nonfinite")}
        options["call"] = True
    whole = train("Everything", save_at=EVERY_STEP, **options)
    for step, saved in whole.saved.items():
        assert_continues(whole, train("Everything", state=saved, **options), step)


def test_length_stays_that_of_the_whole_epoch_after_a_resume() -> None:
    whole = train("Uniform", save_at=(2,))
    assert set(whole.lengths) == {5}  # 35 samples in batches of 8
    assert set(train("Uniform", state=whole.saved[2]).lengths) == {5}


def test_another_batch_size_takes_exactly_the_samples_that_were_left() -> None:
    whole = train("SPL hard", save_at=EVERY_STEP)
    for step in (3, 7, 9):
        rest = train("SPL hard", batch_size=3, state=whole.saved[step])
        epoch_ends = [5, 5 + 3, 5 + 3 + 3]  # 35, then 40 % and 60 % of 35: 14 and 21 samples
        end = next(number for number in epoch_ends if number >= step)
        left = sorted(flat(whole.codes[step:end]))
        assert sorted(flat(rest.codes)[: len(left)]) == left


def test_resumes_after_skipped_batches_and_broken_epochs() -> None:
    whole = train("Everything", save_at=EVERY_STEP, break_at=(2, 6))
    for step, saved in whole.saved.items():
        if step in (2, 6):
            continue  # a checkpoint at the break goes on with the epoch; see below
        rest = train("Everything", state=saved, break_at=(2, 6))
        assert_continues(whole, rest, step)
    left = sorted(set(range(35)) - set(flat(whole.codes[:2])))
    rest = train("Everything", state=whole.saved[2])
    assert sorted(flat(rest.codes[:3])) == left


def test_skipped_batches_are_skipped_after_a_resume_too() -> None:
    data = torch.arange(20)
    curriculum = gr.Curriculum(gr.Uniform(), seed=0)
    order = []
    state = None
    for (batch,) in curriculum.loader(torch.utils.data.TensorDataset(data), 4):
        order.append(batch.tolist())
        if len(order) == 2:
            curriculum.skip()
            state = curriculum.state_dict()
        else:
            curriculum(torch.zeros(4, requires_grad=True))
    assert state is not None
    resumed = gr.Curriculum(gr.Uniform(), seed=0)
    resumed.load_state_dict(state)
    loader = resumed.loader(torch.utils.data.TensorDataset(data), 4)
    rest = []
    for (batch,) in loader:
        rest.append(batch.tolist())
        resumed.skip()
    assert rest == order[2:]
    assert resumed.epoch == 1


def test_batches_that_were_read_ahead_are_read_again() -> None:
    def batches(resume: dict[str, Any] | None, stop: int) -> tuple[list[Any], Any]:
        data = torch.utils.data.TensorDataset(torch.arange(20.0))
        curriculum = gr.Curriculum(gr.SPL(), seed=0)
        loader = curriculum.loader(data, 4, read_ahead=True)
        if resume is not None:
            curriculum.load_state_dict(resume)
        used, waiting = [], []
        for (batch,) in loader:
            waiting.append(batch)
            if len(waiting) < 3 and len(used) + len(waiting) < stop:
                continue
            used.append(waiting.pop(0).tolist())
            curriculum(torch.tensor(used[-1]))
            if len(used) == stop:
                break
        return used, curriculum.state_dict()

    whole, _ = batches(None, 3)
    first, state = batches(None, 1)
    assert state["position"]["consumed"] == 4
    rest, _ = batches(state, 2)
    assert first + rest == whole


# ---------------------------------------------------------------------------- the saved state


@pytest.mark.parametrize("name", METHODS)
def test_saved_state_stays_as_it_was_while_training_goes_on(name: str) -> None:
    dataset = Toy(35)
    curriculum = gr.Curriculum(*METHODS[name](35), seed=0, learning_rate=lambda: 0.1)
    loader = curriculum.loader(dataset, 8)
    net = network(name)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    curriculum.attach(net, optimizer)  # some methods insist on it

    def survey(batch: Any) -> dict[str, torch.Tensor]:
        x, y = batch
        known = {"losses": x[:, 0] ** 2, "logits": x[:, :3], "targets": y}
        return known | states_of(x, x[:, :3])

    states = []
    while curriculum.epoch < 3:
        if curriculum.survey_due:
            curriculum.survey(dataset, survey)
        for x, y in loader:
            if name in BY_RANK:
                scored = x[:, 0] ** 2 + 1
                kept = curriculum.select(scored, 4, logits=x[:, :3], targets=y)
                scored.zero_()
                x, y = x[kept], y[kept]
            logits = torch.cat([x[:, :2], x[:, 3:4]], dim=1)
            curriculum.criterion(logits, y)  # some methods insist on it
            losses = x[:, 0] ** 2 + curriculum.step
            curriculum(losses, logits=logits, targets=y, features=x, **states_of(x, logits))
            losses.zero_()  # nor do they hang on the caller's tensors
            state = curriculum.state_dict()
            states.append((state, copy.deepcopy(state)))
    assert len(states) > 5
    for state, copied in states:
        assert differences(state, copied) == []
    state, copied = states[2]
    other = gr.Curriculum(*METHODS[name](35), seed=0, learning_rate=lambda: 0.1)
    loader = other.loader(dataset, 8)
    curriculum.detach()
    other.attach(net, optimizer)
    other.load_state_dict(state)
    for x, y in loader:
        if name in BY_RANK:
            kept = other.select(x[:, 0] ** 2, 4, logits=x[:, :3], targets=y)
            x, y = x[kept], y[kept]
        logits = torch.cat([x[:, :2], x[:, 3:4]], dim=1)
        other.criterion(logits, y)
        other(x[:, 0] ** 2, logits=logits, targets=y, features=x, **states_of(x, logits))
    assert differences(state, copied) == [], "a loaded state is not the caller's any more"


def test_loading_twice_is_loading_once() -> None:
    whole = train("Everything", save_at=(7,), log_limit_bytes=1)
    state = restore(whole.saved[7])["curriculum"]
    curriculum = gr.Curriculum(Everything(), seed=0)
    loader = curriculum.loader(Toy(35), 8)
    curriculum.load_state_dict(state)
    for x, y in loader:
        curriculum(x[:, 0] ** 2, logits=x[:, :3], targets=y)
    curriculum.load_state_dict(state)
    assert untouched(curriculum, state)
    curriculum.load_state_dict(state)
    assert untouched(curriculum, state)


@pytest.mark.parametrize("name", ["Everything", "pipeline", "SPL by value"])
def test_saving_at_once_after_a_resume_gives_the_same_state(name: str) -> None:
    whole = train(name, save_at=EVERY_STEP)
    for saved in whole.saved.values():
        state = restore(saved)["curriculum"]
        curriculum = gr.Curriculum(*METHODS[name](35), seed=0)
        loader = curriculum.loader(Toy(35), 8)
        curriculum.load_state_dict(state)
        assert untouched(curriculum, state)
        assert len(loader) >= 1
        assert curriculum.metrics()["subset_size"] >= 1
        assert untouched(curriculum, state)


def test_state_holds_plain_values_and_tensors_on_the_cpu() -> None:
    def kinds(value: Any) -> set[type]:
        if isinstance(value, dict):
            return set().union(*(kinds(each) for each in value.values()))
        if isinstance(value, list):
            return set().union(*(kinds(each) for each in value))
        if isinstance(value, torch.Tensor):
            assert value.device.type == "cpu"
            assert not value.requires_grad
            assert value.untyped_storage().nbytes() == value.nbytes, "a view saves its whole base"
        return {type(value)}

    allowed = {int, float, str, bool, type(None), torch.Tensor}
    for name in ("Everything", "pipeline"):
        for saved in train(name, save_at=EVERY_STEP).saved.values():
            assert kinds(restore(saved)["curriculum"]) <= allowed


def test_a_loaded_log_follows_the_losses_to_their_device() -> None:
    saved = train("Everything", save_at=(2,)).saved[2]
    curriculum = gr.Curriculum(Everything(), seed=0)
    loader = curriculum.loader(Toy(35), 8)
    curriculum.load_state_dict(restore(saved)["curriculum"])
    curriculum.epochs.place(torch.device("meta"))  # as the first call does
    log = curriculum.epochs.log
    assert len(log) == 2
    rows = log.rows()
    assert rows["columns"]
    assert {each.device.type for each in [rows["losses"], *rows["columns"].values()]} == {"meta"}
    assert len(loader) == 5


def test_another_loader_cuts_the_epoch_anew() -> None:
    curriculum = gr.Curriculum(gr.Uniform(), seed=0)
    loader = curriculum.loader(Toy(35), 8, drop_last=True)
    assert len(loader) == 4
    del loader
    assert len(curriculum.loader(Toy(35), 3)) == 12, "all 35 again"


def test_metrics_go_on_where_they_were() -> None:
    def metrics(state: Any = None) -> tuple[list[dict[str, float]], list[Any]]:
        curriculum = gr.Curriculum(*METHODS["PacedRandom"](35), seed=0)
        loader = curriculum.loader(Toy(35), 8)
        if state is not None:
            curriculum.load_state_dict(state)
        found, states = [], []
        while curriculum.epoch < 3:
            for x, _ in loader:
                curriculum(x[:, 0])
                found.append(curriculum.metrics())
                states.append(curriculum.state_dict())
        return found, states

    whole, states = metrics()
    assert whole[0]["coverage"] == 8 / 35
    assert whole[2]["overlap"] == 14 / 21, "the second epoch has all of the first one's samples"
    for step, state in enumerate(states, start=1):
        assert differences(metrics(state)[0], whole[step:]) == []


# ---------------------------------------------------------------------------- refusals


def _spl_state() -> dict[str, Any]:
    return restore(train("SPL hard", save_at=(6,)).saved[6])["curriculum"]


def _changed(state: dict[str, Any], *path: Any, to: Any = None, drop: bool = False) -> Any:
    state = copy.deepcopy(state)
    place = state
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return state


BAD_STATES: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"path": ("size",), "to": 36}, "state must be of 35 samples. Got 36"),
    "version": ({"path": ("version",), "to": 2}, "state must be of version 1. Got version 2"),
    "class": (
        {"path": ("methods", 0, "class"), "to": "SPLD"},
        r"state must be of the methods \['SPL'\]. Got \['SPLD'\]",
    ),
    "tables": (
        {"path": ("methods", 0, "tables"), "to": {"other": torch.zeros(35)}},
        r"state must be with the tables \['loss'\]",
    ),
    "shape": (
        {"path": ("methods", 0, "tables", "loss"), "to": torch.zeros(35, 2)},
        r"with 'loss' of SPL.* of shape \(35,\)",
    ),
    "dtype": (
        {"path": ("methods", 0, "tables", "loss"), "to": torch.zeros(35, dtype=torch.float64)},
        "dtype torch.float32",
    ),
    "method's own": (
        {"path": ("methods", 0, "state", "first_threshold"), "drop": True},
        r"state must be .*'first_threshold'",
    ),
    "no tables": ({"path": ("methods", 0, "tables"), "drop": True}, "state must be .*'tables'"),
    "no state": ({"path": ("methods", 0, "state"), "drop": True}, "state must be .*'state'"),
    **{
        f"without {key}": ({"path": (key,), "drop": True}, f"state must be .*without .*'{key}'")
        for key in (
            *("version", "size", "seed", "epoch", "step", "world", "clock", "seen", "previous"),
            *("previous_rate", "methods", "position", "unmerged"),
        )
    },
    **{
        f"position without {key}": (
            {"path": ("position", key), "drop": True},
            f"state must be .*without .*'{key}'",
        )
        for key in ("consumed", "batch_in_epoch", "plan", "weights", "batch_scale")
    },
    **{
        f"unmerged without {key}": (
            {"path": ("unmerged", key), "drop": True},
            f"state must be .*without .*'{key}'",
        )
        for key in ("log", "local")
    },
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_that_does_not_fit_is_refused_by_name_and_changes_nothing(case: str) -> None:
    change, message = BAD_STATES[case]
    good = _spl_state()
    bad = _changed(good, *change["path"], to=change.get("to"), drop=change.get("drop", False))
    curriculum = gr.Curriculum(*METHODS["SPL hard"](35), seed=4)
    loader = curriculum.loader(Toy(35), 8)
    for x, _ in loader:
        curriculum(x[:, 0] ** 2)
        if curriculum.step == 3:
            break
    before = curriculum.state_dict()
    with pytest.raises(ValueError, match=message):
        curriculum.load_state_dict(bad)
    assert untouched(curriculum, before)
    curriculum.load_state_dict(good)
    assert untouched(curriculum, good)


def test_other_methods_are_refused_before_the_loader_is_made() -> None:
    state = _spl_state()
    with pytest.raises(ValueError, match=r"state must be of the methods \[\]. Got \['SPL'\]"):
        gr.Curriculum().load_state_dict(state)
    with pytest.raises(TypeError, match=r"state must be a dict from state_dict\(\). Got int"):
        gr.Curriculum().load_state_dict(3)  # type: ignore[arg-type]
    curriculum = gr.Curriculum(*METHODS["SPL hard"](35))
    curriculum.load_state_dict(state)
    with pytest.raises(ValueError, match=r"state must be of 36 samples\. Got 35"):
        curriculum.loader(Toy(36), 8)


def test_saving_before_the_loader_is_made_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"call curriculum\.loader"):
        gr.Curriculum(gr.SPL()).state_dict()


def test_observations_between_epochs_are_saved_too() -> None:
    def make() -> tuple[gr.Curriculum, Any]:
        curriculum = gr.Curriculum(gr.SPL(), seed=0)
        return curriculum, curriculum.loader(Toy(6), 3)

    curriculum, _ = make()
    # By index alone, outside of the loader: nothing but the log knows of it yet.
    curriculum(torch.tensor([0.5, 0.25]), index=torch.tensor([4, 1]))
    state = restore(dump(curriculum.state_dict()))
    resumed, loader = make()
    resumed.load_state_dict(state)
    assert untouched(resumed, state)
    for x, _ in loader:
        visited = resumed.index
        resumed(torch.full((len(x),), 0.75))
        break
    iter(loader)  # ends the epoch that was broken out of
    expected = torch.tensor([math.nan, 0.25, math.nan, math.nan, 0.5, math.nan])
    expected[visited] = 0.75
    assert differences(resumed.scores()["SPL.loss"], expected) == []


# ---------------------------------------------------------------------------- augmentation


@pytest.mark.parametrize("workers", [0, 2])
def test_seeded_augmentation_goes_on_with_the_same_samples(workers: int) -> None:
    options: dict[str, Any] = {"noise": 0.5, "seed_augmentation": True, "epochs": 2}
    whole = train("SPL hard", save_at=(3, 6), **options)
    steps = (3, 6) if workers == 0 else (3,)
    for step in steps:
        rest = train(
            "SPL hard",
            state=whole.saved[step],
            num_workers=workers,
            persistent_workers=workers > 0,
            **options,
        )
        assert_continues(whole, rest, step)
        assert differences(rest.features, whole.features[step:]) == []
    plain = train("SPL hard", noise=0.5, epochs=2)
    again = train("SPL hard", noise=0.5, epochs=2)
    assert differences(plain.features, again.features) != [], "it augments"


def test_augmentation_is_one_of_seed_epoch_and_sample() -> None:
    def of(sample: int, trace: Trace, epoch: int) -> torch.Tensor:
        steps = range(5 * epoch, 5 * epoch + 5)  # 35 samples in batches of 8
        [found] = [
            trace.features[step][trace.codes[step].index(sample)]
            for step in steps
            if sample in trace.codes[step]
        ]
        return found

    options: dict[str, Any] = {"noise": 0.5, "seed_augmentation": True, "epochs": 2}
    first, other = (train("Uniform", seed=seed, **options) for seed in (0, 5))
    for sample in (0, 17, 34):
        seen = [of(sample, first, 0), of(sample, first, 1), of(sample, other, 0)]
        assert len({tuple(each.tolist()) for each in seen}) == 3


def test_state_brings_its_seed_to_the_augmentation() -> None:
    options: dict[str, Any] = {"noise": 0.5, "seed_augmentation": True, "epochs": 2}
    whole = train("SPL hard", save_at=(3,), seed=5, **options)
    for early in (False, True):
        rest = train("SPL hard", state=whole.saved[3], seed=0, early=early, **options)
        assert differences(rest.features, whole.features[3:]) == []
        assert_continues(whole, rest, 3)
