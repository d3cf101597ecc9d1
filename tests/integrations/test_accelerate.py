"""Plain Accelerate: `accelerated` loaders train as stock loops do, and resume, and scale out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset, TensorDataset

import gradatim as gr
from ddp.toy import Toy, differences, flat
from gradatim.integrations.accelerate import AcceleratedLoader, accelerated
from gradatim.loader import INDEX_KEY
from integrations.accelerated_toy import (
    Reports,
    Trace,
    both_on,
    forget,
    fresh,
    train,
    train_on,
    train_stock,
)

# 35 samples in batches of 8: 5 batches an epoch, the last one of 3.
GROWING, SHRINKING = [11, 20, 35], [35, 20, 11]


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    with fresh() as made:
        yield made


def real(trace: Trace) -> list[list[int]]:
    return [[code for code in codes if code >= 0] for codes in trace.codes]


# ---------------------------------------------------------------------------- neutral


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_uniform_equals_a_stock_loop_over_the_same_order(accumulate: int) -> None:
    ours = train("uniform", accumulate=accumulate)
    stock = train_stock(ours, accumulate=accumulate)
    assert ours.losses == stock.losses
    assert ours.synced == stock.synced
    assert ours.rates == stock.rates
    assert differences(ours.parameters, stock.parameters) == []
    for epoch in range(3):
        assert sorted(flat(ours.codes[5 * epoch : 5 * epoch + 5])) == list(range(35))


def test_two_processes_equal_a_stock_loop_on_two(run_ranks: Callable[..., Any]) -> None:
    for ours, stock in run_ranks(both_on, 2, 32, 3):
        assert ours.losses == stock.losses
        assert ours.synced == stock.synced
        assert ours.rates == stock.rates
        assert differences(ours.parameters, stock.parameters) == []


def test_the_global_generators_stay_as_they_are(
    watch_global_rng: Callable[[], Callable[[], list[str]]], accelerator: Accelerator
) -> None:
    curriculum = gr.Curriculum(gr.Uniform())
    loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
    moved = watch_global_rng()
    for x, _ in loader:
        curriculum(x[:, 0])
    assert moved() == []


def test_a_loader_passed_to_prepare_out_of_habit_changes_nothing() -> None:
    habit, plain = train("SuperLoss", prepare=True), train("SuperLoss")
    assert habit.codes == plain.codes
    assert differences(habit.parameters, plain.parameters) == []


def test_prepare_data_loader_gives_the_same_object(accelerator: Accelerator) -> None:
    loader = accelerated(gr.Curriculum().loader(Toy(35), 8), accelerator)
    assert accelerator.prepare_data_loader(loader) is loader


# ---------------------------------------------------------------------------- accumulation


def test_the_last_shorter_group_of_every_epoch_is_stepped() -> None:
    trace = train("uniform", accumulate=3)
    # 5 batches: a group of 3, and one of 2 that ends with the epoch.
    assert trace.synced == 3 * [False, False, True, False, True]


def test_the_end_of_the_epoch_is_known_while_its_last_batch_is_trained_on(
    accelerator: Accelerator,
) -> None:
    curriculum = gr.Curriculum(gr.Uniform())
    loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
    state, ends = accelerator.gradient_state, []
    assert not state.in_dataloader
    for x, _ in loader:
        assert state.in_dataloader
        ends.append(state.end_of_dataloader)
        curriculum(x[:, 0])
    assert ends == 4 * [False] + [True]
    assert not state.in_dataloader
    assert not state.end_of_dataloader


def test_a_pass_that_was_broken_off_does_not_end_the_next_one(accelerator: Accelerator) -> None:
    curriculum = gr.Curriculum(gr.Uniform())
    loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
    state = accelerator.gradient_state
    broken = iter(loader)
    curriculum(next(broken)[0][:, 0])
    ends = []
    for number, (x, _) in enumerate(loader):
        if number == 2:
            broken.close()
        ends.append(state.end_of_dataloader)
        curriculum(x[:, 0])
    assert ends == 4 * [False] + [True]
    assert state.dataloader_references == [None]


def test_an_evaluation_within_the_epoch_leaves_it_active(accelerator: Accelerator) -> None:
    curriculum = gr.Curriculum(gr.Uniform())
    loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
    test = accelerator.prepare(torch.utils.data.DataLoader(Toy(6), batch_size=4))
    state, ends = accelerator.gradient_state, []
    for x, _ in loader:
        kept = [accelerator.gather_for_metrics(y) for _, y in test]
        assert [len(each) for each in kept] == [4, 2]
        ends.append(state.end_of_dataloader)
        curriculum(x[:, 0])
    assert ends == 4 * [False] + [True]


# ---------------------------------------------------------------------------- resume


RESUMED = ["uniform", "pipeline", "Everything", "LeRaC by step", GROWING]


@pytest.mark.parametrize("name", RESUMED, ids=str)
def test_resumed_within_an_epoch_equals_the_uninterrupted_run(name: Any, tmp_path: Path) -> None:
    folder = str(tmp_path)
    options: dict[str, Any] = {"accumulate": 2, "folder": folder}
    whole = train(name, accumulate=2)
    # After a group of two, so that no gradient waits: accelerate does not save gradients.
    at = whole.synced.index(True, whole.lengths[0] + 1) + 1
    assert whole.lengths[0] < at < whole.lengths[0] + whole.lengths[at]
    first = train(name, **options, save_at=at, stop=at + 1)
    assert first.codes == whole.codes[: at + 1]
    rest = train(name, **options, resume=True)
    for part in ("codes", "losses", "synced", "rates", "lengths"):
        assert getattr(rest, part) == getattr(whole, part)[at:], part
    assert differences(rest.parameters, whole.parameters) == []
    assert differences(rest.scores, whole.scores) == []


def test_two_processes_resume_within_an_epoch(
    run_ranks: Callable[..., Any], tmp_path: Path
) -> None:
    names = ["uniform", "pipeline", "Everything"]
    runs: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        folder = str(tmp_path / str(number))
        same = {"name": name, "batch_size": 4, "folder": folder}
        runs += [same, {**same, "save_at": 7, "stop": 8}, {**same, "resume": True}]
    for traces in run_ranks(train_on, 2, runs):
        for number in range(len(names)):
            whole, first, rest = traces[3 * number : 3 * number + 3]
            assert first.codes == whole.codes[:8]
            for part in ("codes", "losses", "rates", "lengths"):
                assert getattr(rest, part) == getattr(whole, part)[7:], part
            assert differences(rest.parameters, whole.parameters) == []
            assert differences(rest.scores, whole.scores) == []


def test_two_processes_are_resumed_by_one(run_ranks: Callable[..., Any], tmp_path: Path) -> None:
    folder = str(tmp_path)
    whole = train("pipeline")
    run = {"name": "pipeline", "batch_size": 4, "folder": folder, "save_at": 7, "stop": 8}
    run_ranks(train_on, 2, [run])
    rest = train("pipeline", folder=folder, resume=True)
    assert rest.codes == whole.codes[7:]
    assert len(rest.parameters) == len(whole.parameters)
    for found, expected in zip(rest.parameters, whole.parameters, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_curriculum_is_saved_once_however_many_loaders_it_had(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    curriculum = gr.Curriculum(gr.Uniform())
    for _ in range(3):
        loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
        del loader
    accelerator.save_state(str(tmp_path))
    assert [path.name for path in tmp_path.glob("custom*")] == ["custom_checkpoint_0.pkl"]


def test_a_curriculum_that_was_also_registered_by_hand_resumes(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    curriculum = gr.Curriculum(gr.Uniform())
    loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
    accelerator.register_for_checkpointing(curriculum)
    for number, (x, _) in enumerate(loader):
        curriculum(x[:, 0])
        if number == 1:
            accelerator.save_state(str(tmp_path))
    assert (curriculum.epoch, curriculum.step) == (1, 5)
    accelerator.load_state(str(tmp_path))
    assert (curriculum.epoch, curriculum.step, len(list(loader.batch_sampler))) == (0, 2, 3)


# ---------------------------------------------------------------------------- several processes


@pytest.mark.parametrize("size", [35, 33])
def test_two_processes_equal_one(run_ranks: Callable[..., Any], size: int) -> None:
    names = ["uniform", "pipeline", "WeightedMean"]
    runs = [{"name": name, "size": size, "accumulate": 2} for name in names]
    ranks = run_ranks(train_on, 2, [{**run, "batch_size": 4} for run in runs])
    for number, run in enumerate(runs):
        one = train(**run)
        pair = [traces[number] for traces in ranks]
        for step, rows in enumerate(real(one)):
            for rank, trace in enumerate(pair):
                assert real(trace)[step] == rows[rank::2]
                assert trace.counted[step] == len(rows[rank::2])
        assert {len(codes) for codes in pair[1].codes} == {len(codes) for codes in pair[0].codes}
        assert any(code < 0 for codes in pair[1].codes for code in codes), "some rows are padding"
        assert pair[0].synced == one.synced
        assert differences(pair[0].parameters, pair[1].parameters) == []
        for found, expected in zip(pair[0].parameters, one.parameters, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def gathered_on(
    rank: int, world: int, size: int
) -> list[tuple[int, list[float], list[float], list[str]]]:
    """What `gather_for_metrics` and rows cut to `real` give of each batch's sample numbers."""
    from accelerate.utils import gather_object

    found = []
    with fresh() as accelerator:
        curriculum = gr.Curriculum(gr.Uniform(), seed=0)
        data = TensorDataset(torch.arange(float(size)))
        loader = accelerated(curriculum.loader(data, 4), accelerator)
        for (x,) in loader:
            cut = gather_object(x[: loader.real].tolist())
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                kept = accelerator.gather_for_metrics(x).tolist()
            found.append((len(x), kept, cut, [str(each.message) for each in told]))
            curriculum(x)
    return found


def test_gather_for_metrics_leaves_out_a_padding_row(run_ranks: Callable[..., Any]) -> None:
    for found in run_ranks(gathered_on, 2, 13):
        lengths, kept, cut, told = zip(*found, strict=True)
        assert sum(lengths) == 7
        assert sorted(flat(kept)) == sorted(flat(cut)) == list(range(13))
        assert not any(told)


def test_rows_that_count_are_told_where_several_processes_are_padded(
    run_ranks: Callable[..., Any],
) -> None:
    for found in run_ranks(gathered_on, 3, 13):  # 12 rows and a last batch of 1, and 2 to pad it
        _, kept, cut, told = zip(*found, strict=True)
        assert sorted(flat(cut)) == list(range(13))
        assert len(flat(kept)) == 15, "accelerate cannot leave them out"
        assert [len(each) for each in told] == [0, 1]
        assert "keeps 2 rows that only pad" in told[1][0]


# ---------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("sizes", [GROWING, SHRINKING], ids=["growing", "shrinking"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_scheduler_ends_with_epochs_that_change_length(
    run_ranks: Callable[..., Any], sizes: list[int], accumulate: int
) -> None:
    one = train(sizes, accumulate=accumulate)
    lengths = [-(-size // 8) for size in sizes]  # 2, 3, 5
    assert [one.lengths[sum(lengths[:epoch])] for epoch in range(3)] == lengths
    assert one.scheduled == sum(-(-length // accumulate) for length in lengths)
    assert one.rates[-1] == 0
    assert one.rates[-2] > 0 or not one.synced[-2]
    run = {"name": sizes, "batch_size": 4, "accumulate": accumulate}
    for (trace,) in run_ranks(train_on, 2, [run]):
        assert trace.scheduled == 2 * one.scheduled, "accelerate steps once per process"
        assert trace.rates == pytest.approx(one.rates)
        assert trace.lengths == one.lengths


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # as it is used so
def test_a_scheduler_apart_from_the_optimizer_is_stepped_once_a_batch() -> None:
    options = {"step_scheduler_with_optimizer": False}
    trace = train(GROWING, accumulate=2, accelerator_options=options)
    assert trace.scheduled == 10
    assert trace.rates[-1] == 0


def test_groups_that_span_epochs_are_counted_as_they_are() -> None:
    from accelerate.utils import GradientAccumulationPlugin

    plugin = GradientAccumulationPlugin(num_steps=4, sync_with_dataloader=False)
    with fresh(gradient_accumulation_plugin=plugin) as accelerator:
        curriculum = gr.Curriculum(gr.Uniform())
        loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
        assert loader.scheduler_steps(3) == 15 // 4


def test_a_length_that_data_decide_is_none(accelerator: Accelerator) -> None:
    curriculum = gr.Curriculum(gr.SPL(growth=1.2))
    loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
    assert loader.scheduler_steps(2) is None
    with pytest.raises(ValueError, match="epochs must be"):
        loader.scheduler_steps(-1)


# ---------------------------------------------------------------------------- the right sample


class Numbers(Dataset):
    """Sample k is a dict of k, so that the loss of sample k can be made to be k."""

    def __init__(self, size: int, *, keyed: bool) -> None:
        self.size = size
        self.keyed = keyed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return {"k": float(index)} if self.keyed else float(index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("keyed", [False, True])
def test_every_score_lands_on_its_sample(
    workers: int, keyed: bool, accelerator: Accelerator
) -> None:
    curriculum = gr.Curriculum(Reports(), seed=0)
    options: dict[str, Any] = {"carry": "key", "read_ahead": True} if keyed else {}
    plain = curriculum.loader(Numbers(203, keyed=keyed), 8, num_workers=workers, **options)
    loader = accelerated(plain, accelerator)
    for _ in range(2):
        waiting = []
        for batch in loader:
            waiting.append(batch)
            if keyed and len(waiting) < 3 and len(waiting) + curriculum.run.step % 26 < 26:
                continue  # several batches are drawn before the first is trained on
            for each in waiting:
                index = each[INDEX_KEY] if keyed else None
                values = each["k"] if keyed else each
                curriculum(values.double(), index=index)
            waiting = []
    scores = curriculum.scores()
    assert curriculum.epoch == 2
    assert torch.equal(scores["Reports.loss"].double(), torch.arange(203.0).double())
    assert torch.equal(scores["Reports.visits"], torch.full((203,), 2))


# ---------------------------------------------------------------------------- precision, devices


def test_bfloat16_autocast_trains(tmp_path: Path) -> None:
    with fresh(mixed_precision="bf16") as accelerator:
        net = torch.nn.Linear(5, 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net, optimizer = accelerator.prepare(net, optimizer)
        curriculum = gr.Curriculum(gr.SuperLoss(), seed=0).attach(net, optimizer)
        data = TensorDataset(torch.randn(35, 5), torch.arange(35) % 3)
        dtypes, before = set(), net.weight.detach().clone()
        for x, y in accelerated(curriculum.loader(data, 8), accelerator):
            logits = net(x)
            with accelerator.autocast():
                half = torch.nn.functional.linear(x, torch.ones(3, 5))
            losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
            loss = curriculum(losses, targets=y)
            dtypes |= {half.dtype, losses.dtype, loss.dtype}
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        assert dtypes == {torch.bfloat16, torch.float32}
        assert curriculum.epoch == 1
        assert torch.isfinite(net.weight).all()
        assert not torch.equal(net.weight, before)


def named(items: list[Any]) -> Any:
    return {"x": torch.zeros(len(items)), "name": "kept"}


@pytest.mark.parametrize("keyed", [False, True])
def test_batches_go_to_the_device_and_their_index_stays(
    keyed: bool, accelerator: Accelerator
) -> None:
    options: dict[str, Any] = {"carry": "key"} if keyed else {}
    plain = gr.Curriculum().loader(Toy(4), 4, collate_fn=named, **options)
    loader = accelerated(plain, accelerator)
    accelerator.state.device = torch.device("meta")  # one that every machine has
    (batch,) = loader
    assert batch["x"].device.type == "meta"
    assert batch["name"] == "kept"
    assert (INDEX_KEY in batch) == keyed
    if keyed:  # it is read on the CPU, and fetching it back would wait
        assert sorted(batch[INDEX_KEY].tolist()) == [0, 1, 2, 3]


def test_batches_stay_where_they_are_without_device_placement() -> None:
    with fresh(device_placement=False) as accelerator:
        loader = accelerated(gr.Curriculum().loader(Toy(4), 4, collate_fn=named), accelerator)
        accelerator.state.device = torch.device("meta")
        (batch,) = loader
        assert batch["x"].device.type == "cpu"


# ---------------------------------------------------------------------------- bad input


def test_other_loaders_are_refused_by_name(accelerator: Accelerator) -> None:
    ours: Any = gr.Curriculum().loader(Toy(35), 8)
    stock: Any = torch.utils.data.DataLoader(Toy(35))
    with pytest.raises(TypeError, match=r"loader must be what curriculum.loader.* Got DataLoader"):
        accelerated(stock, accelerator)
    with pytest.raises(TypeError, match=r"Got Curriculum\. Call curriculum\.loader"):
        accelerated(ours.curriculum, accelerator)
    done: Any = accelerated(ours, accelerator)
    with pytest.raises(TypeError, match="accelerated already"):
        accelerated(done, accelerator)


def test_other_accelerators_are_refused_by_name(accelerator: Accelerator) -> None:
    loader: Any = gr.Curriculum().loader(Toy(35), 8)
    with pytest.raises(TypeError, match=r"accelerator must be an accelerate\.Accelerator.*device"):
        accelerated(loader, torch.device("cpu"))  # type: ignore[arg-type]
    swapped: Any = accelerator
    with pytest.raises(TypeError, match="Did you swap the two"):
        accelerated(swapped, loader)


@pytest.mark.parametrize("option", ["dispatch_batches", "split_batches"])
def test_batches_split_or_dispatched_are_refused_by_name(option: str) -> None:
    from accelerate.utils import DataLoaderConfiguration

    config = DataLoaderConfiguration(**{option: True})
    with fresh(dataloader_config=config) as accelerator:
        loader = gr.Curriculum().loader(Toy(35), 8)
        with pytest.raises(ValueError, match=f"accelerator must be made without {option}"):
            accelerated(loader, accelerator)


@pytest.mark.parametrize("dispatch", [False, True, None])
def test_a_loader_that_was_not_accelerated_is_refused_by_prepare(dispatch: bool | None) -> None:
    from accelerate.utils import DataLoaderConfiguration

    config = DataLoaderConfiguration(dispatch_batches=dispatch)
    with fresh(dataloader_config=config) as accelerator:
        loader = gr.Curriculum(gr.Uniform()).loader(Toy(35), 8)
        with pytest.raises(TypeError, match=r"loader must not go to accelerator\.prepare"):
            accelerator.prepare(torch.nn.Linear(2, 2), loader)
        with pytest.raises(TypeError, match=r"gradatim\.integrations\.accelerated"):
            accelerator.prepare_data_loader(loader)


def refused_on(rank: int, world: int) -> list[str]:
    """What two processes are told that dispatch; neither may wait for the other."""
    from accelerate.utils import DataLoaderConfiguration

    told = []
    with fresh(dataloader_config=DataLoaderConfiguration(dispatch_batches=True)) as accelerator:
        loader = gr.Curriculum(gr.Uniform()).loader(Toy(35), 8)
        for attempt in (accelerator.prepare, lambda found: accelerated(found, accelerator)):
            try:
                attempt(loader)
            except (TypeError, ValueError) as error:
                told.append(str(error))
    forget()
    try:  # as if WORLD_SIZE had not been set
        accelerated(loader, Accelerator(cpu=True))
    except RuntimeError as error:
        told.append(str(error))
    forget()
    return told


def test_two_processes_that_dispatch_are_refused_and_do_not_hang(
    run_ranks: Callable[..., Any],
) -> None:
    for prepared, dispatched, alone in run_ranks(refused_on, 2):
        assert "loader must not go to accelerator.prepare" in prepared
        assert "without dispatch_batches" in dispatched
        assert "must know of all 2 processes. Got 1." in alone


def test_parts_of_a_model_on_several_processes_are_refused(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.parallelism_config import ParallelismConfig

    parallel = ParallelismConfig(tp_size=2)
    monkeypatch.setattr(type(accelerator), "parallelism_config", parallel, raising=False)
    with pytest.raises(ValueError, match=r"data parallel only\. Got 2 processes"):
        accelerated(gr.Curriculum().loader(Toy(35), 8), accelerator)


def test_skipping_batches_by_hand_is_refused(accelerator: Accelerator) -> None:
    curriculum = gr.Curriculum(gr.Uniform())
    loader = accelerated(curriculum.loader(Toy(35), 8), accelerator)
    skipped: Any = accelerator.skip_first_batches(loader, 2)  # type: ignore[arg-type]
    x, _ = next(iter(skipped))
    with pytest.raises(RuntimeError, match="there is no batch to weigh"):
        curriculum(x[:, 0])


# ---------------------------------------------------------------------------- the loader's own


def test_what_is_not_its_own_is_the_loaders(accelerator: Accelerator) -> None:
    data = Toy(35)
    plain = gr.Curriculum().loader(data, 8, num_workers=0)
    loader = accelerated(plain, accelerator)
    assert isinstance(loader, AcceleratedLoader)
    assert (len(loader), loader.dataset is data, loader.batch_size) == (5, True, 8)
    assert loader.curriculum is plain.curriculum
    loader.set_epoch(3)
    assert loader.curriculum.epoch == 0
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = loader.nothing_of_the_kind
