"""The loader: every sample travels with its index, and every DataLoader argument survives."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import random
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

import gradatim as gr
from engine.probes import LastLoss, Planned, Prefix, Samples, Visits, train
from gradatim.loader import INDEX_KEY, Carried, IndexedDataset

SIZE = 20


def every_score_right(method: LastLoss) -> bool:
    """The loss of sample k was k, so its score must be k."""
    return method.loss.values.tolist() == list(range(method.loss.values.numel()))


# --- The index travels with the sample (D6, D13, D48) -----------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop_last": True},
        {"steps_per_epoch": 9},
        {"num_workers": 2},
        {"num_workers": 2, "in_order": False, "prefetch_factor": 4},
        {"seed_augmentation": True},
        {"seed_augmentation": True, "num_workers": 2, "persistent_workers": True},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_d6_scores_land_on_their_own_samples(options: dict[str, Any]) -> None:
    curriculum = gr.Curriculum(method := LastLoss(), visits := Visits(), seed=7)
    loader = curriculum.loader(Samples(SIZE), batch_size=3, **options)
    orders = train(curriculum, loader, epochs=3)
    assert orders[0] != orders[1] != orders[2]
    assert every_score_right(method)
    counts = torch.bincount(torch.tensor(list(itertools.chain(*orders))), minlength=SIZE)
    assert torch.equal(visits.visits.values, counts)


def test_d6_with_unordered_workers_the_index_follows_the_slow_batch() -> None:
    """The worker of the first batch dawdles, so batches arrive in another order than planned."""
    curriculum = gr.Curriculum(method := LastLoss(), Planned(lambda pool: ordered(pool)))
    loader = curriculum.loader(Dawdling(12), batch_size=3, num_workers=2, in_order=False)
    firsts = []
    for batch in loader:
        firsts.append(int(batch[0]))
        assert curriculum.index.tolist() == batch.tolist()
        curriculum(batch)
    assert firsts != [0, 3, 6, 9]
    assert sorted(firsts) == [0, 3, 6, 9]
    assert every_score_right(method)


class Dawdling(Samples):
    def __getitem__(self, k: int) -> torch.Tensor:
        if k == 0:
            import time

            time.sleep(0.5)
        return super().__getitem__(k)


def ordered(pool: gr.Pool) -> gr.Pool:
    pool.ordered = True
    return pool


def prefetched(loader: Any, ahead: int = 1) -> Iterator[Any]:
    """What accelerate and Ray do: fetch a batch before the one at hand is trained on."""
    stream = iter(loader)
    waiting: deque[Any] = deque()
    for batch in stream:
        waiting.append(batch)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def test_d48_a_reader_ahead_is_refused() -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Samples(SIZE), batch_size=4)
    batch = next(prefetched(loader))
    with pytest.raises(RuntimeError, match=r"2 batches were drawn since .*read_ahead=True"):
        curriculum(batch)
    assert bool(method.loss.values.isnan().all())


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_d48_with_read_ahead_every_score_is_right(ahead: int, workers: int) -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Samples(SIZE), batch_size=3, read_ahead=True, num_workers=workers)
    for _ in range(2):
        for batch in prefetched(loader, ahead):
            assert curriculum.index.tolist() == batch.tolist()
            curriculum(batch)
    assert curriculum.epoch == 2
    assert every_score_right(method)


def test_read_ahead_and_skip_drop_the_oldest_batch() -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Samples(12), batch_size=3, read_ahead=True)
    dropped: list[float] = []
    for number, batch in enumerate(prefetched(loader)):
        if number == 1:
            curriculum.skip()
            dropped = batch.tolist()
        else:
            curriculum(batch)
    values = method.loss.values
    assert values.isnan().nonzero().squeeze(1).tolist() == sorted(dropped)
    assert values.nan_to_num(0).sum() == sum(range(12)) - sum(dropped)


# --- carry="key" ------------------------------------------------------------------------------


class Dicts(Samples):
    def __getitem__(self, k: int) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"x": torch.tensor(float(k)), "y": torch.tensor(k % 3)}


@pytest.mark.parametrize("workers", [0, 2])
def test_carry_key_puts_the_index_into_dict_batches(workers: int) -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Dicts(SIZE), batch_size=3, carry="key", num_workers=workers)
    for _ in range(2):
        for batch in prefetched(loader, ahead=2):  # nothing to guard: the index is in the batch
            assert set(batch) == {"x", "y", INDEX_KEY}
            assert batch[INDEX_KEY].dtype == torch.int64
            assert batch[INDEX_KEY].tolist() == batch["x"].tolist()
            curriculum(batch["x"], index=batch[INDEX_KEY])
    assert curriculum.epoch == 2
    assert every_score_right(method)


def test_carry_key_tells_a_repeat_from_a_batch_of_the_same_samples() -> None:
    """Two passes over two samples: equal indices, yet two batches; a closure's are the same."""
    curriculum = gr.Curriculum(Planned(ordered), visits := Visits())
    loader = curriculum.loader(Dicts(2), batch_size=2, carry="key", steps_per_epoch=3)
    for batch in loader:
        for _ in range(2):
            curriculum(batch["x"], index=batch[INDEX_KEY])
    assert (curriculum.epoch, curriculum.step) == (1, 3)
    assert visits.visits.values.tolist() == [3, 3]


def test_the_reserved_key_is_its_documented_name() -> None:
    assert INDEX_KEY == "_gradatim_index"


# --- Batches are exactly what they were -------------------------------------------------------


class Pair(NamedTuple):
    x: torch.Tensor
    name: str


class Pairs(Samples):
    def __getitem__(self, k: int) -> Pair:  # type: ignore[override]
        return Pair(torch.tensor(float(k)), f"sample {k}")


class Strings(Samples):
    def __getitem__(self, k: int) -> str:  # type: ignore[override]
        return str(k)


class Fetching(Samples):
    """Answers whole batches, as Hugging Face data sets do."""

    def __getitems__(self, indices: list[int]) -> list[torch.Tensor]:
        return [torch.tensor(float(k)) + 0.5 for k in indices]


def joined(items: list[Any]) -> tuple[str, torch.Tensor]:
    return "custom", torch.stack(items)


@pytest.mark.parametrize("workers", [0, 2])
def test_named_tuples_stay_named_tuples(workers: int) -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Pairs(SIZE), batch_size=3, num_workers=workers)
    for batch in loader:
        assert type(batch) is Pair
        assert list(batch.name) == [f"sample {int(x)}" for x in batch.x]
        curriculum(batch.x)
    assert every_score_right(method)


def test_strings_dicts_custom_collate_and_batch_fetching_arrive_unchanged() -> None:
    def losses(dataset: Dataset, read: Any, **options: Any) -> list[float]:
        curriculum = gr.Curriculum(method := LastLoss())
        for batch in curriculum.loader(dataset, batch_size=3, **options):
            curriculum(read(batch))
        return method.loss.values.tolist()

    numbers = list(range(SIZE))
    assert losses(Strings(SIZE), lambda b: torch.tensor([float(s) for s in b])) == numbers
    assert losses(Dicts(SIZE), lambda b: b["x"]) == numbers
    assert losses(Samples(SIZE), lambda b: b[1], collate_fn=joined) == numbers
    assert losses(Samples(SIZE), lambda b: torch.stack(b), collate_fn=list) == numbers
    assert losses(Fetching(SIZE), lambda b: b) == [k + 0.5 for k in numbers]
    assert losses(Subset(Samples(40), range(SIZE, 40)), lambda b: b - SIZE) == numbers


def test_a_batch_equals_what_a_plain_dataloader_gives() -> None:
    data = TensorDataset(torch.randn(8, 3), torch.arange(8))
    curriculum = gr.Curriculum(Planned(ordered))
    loader = curriculum.loader(data, batch_size=3)
    for ours, plain in zip(loader, DataLoader(data, batch_size=3), strict=True):
        assert type(ours) is type(plain)
        for a, b in zip(ours, plain, strict=True):
            assert torch.equal(a, b)


def test_a_collate_that_drops_items_is_named_in_the_error() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(
        Samples(8), batch_size=4, collate_fn=lambda items: torch.stack(items[1:])
    )
    batch = next(iter(loader))
    with pytest.raises(ValueError, match=r"shape \(4,\). Got .*\(3,\).*collate_fn drop samples"):
        curriculum(batch)
    assert curriculum.step == 0


def test_a_batch_with_its_index_is_pinned_like_the_batch_alone() -> None:
    """DataLoader leaves what has no ``pin_memory`` of its own unpinned, silently."""

    class Pinnable:
        pinned = False

        def pin_memory(self) -> Pinnable:
            other = Pinnable()
            other.pinned = True
            return other

    index = torch.tensor([3, 1]).numpy().tobytes()
    pinned = pin_memory(Carried([Pinnable(), "text"], index))
    assert pinned.batch[0].pinned
    assert pinned.batch[1] == "text"
    assert pinned.index_tensor().tolist() == [3, 1]


# --- D12: the user's DataLoader arguments survive ---------------------------------------------


def started(worker: int) -> None:
    """Marks the worker's copy of the user's data set, as worker_init_fn is meant to."""
    info = get_worker_info()
    assert info is not None
    info.dataset.worker = worker  # type: ignore[attr-defined]


class Marked(Samples):
    worker = -1

    def __getitem__(self, k: int) -> torch.Tensor:
        info = get_worker_info()
        if info is not None:
            assert info.dataset is self
        return torch.tensor(float(self.worker))


def test_d12_every_argument_is_on_the_loader() -> None:
    data = Samples(SIZE)
    options: dict[str, Any] = {
        "num_workers": 1,
        "collate_fn": joined,
        "drop_last": True,
        "timeout": 30,
        "worker_init_fn": started,
        "multiprocessing_context": "fork",
        "generator": torch.Generator(),
        "prefetch_factor": 3,
        "persistent_workers": True,
        "in_order": False,
    }
    curriculum = gr.Curriculum()
    loader = curriculum.loader(data, batch_size=3, **options)
    assert isinstance(loader, DataLoader)
    plain = DataLoader(data, batch_size=3, **options)

    def same() -> None:
        for name in options:
            if name != "multiprocessing_context":
                assert getattr(loader, name) is getattr(plain, name), name
        assert loader.multiprocessing_context.get_start_method() == "fork"
        assert loader.dataset is data
        assert loader.batch_size == 3

    same()
    assert len(list(loader)) == 6
    same()  # after an epoch as well, and while workers are alive


def test_d12_defaults_are_those_of_a_plain_loader() -> None:
    data = Samples(SIZE)
    loader, plain = gr.Curriculum().loader(data, batch_size=3), DataLoader(data, batch_size=3)
    names = ("num_workers", "pin_memory", "drop_last", "timeout", "worker_init_fn")
    more = ("prefetch_factor", "persistent_workers", "pin_memory_device", "collate_fn", "in_order")
    for name in (*names, *more):
        assert getattr(loader, name) == getattr(plain, name), name


def test_d12_drop_last_leaves_out_the_short_batch() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(Samples(SIZE), batch_size=3, drop_last=True)
    assert len(loader) == 6
    lengths = [len(batch) for batch in loader if curriculum(batch) is not None]
    assert lengths == [3] * 6
    assert curriculum.epoch == 1


def test_d12_worker_init_fn_finds_the_users_data_set() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(
        Marked(8), batch_size=2, num_workers=2, worker_init_fn=started, seed_augmentation=True
    )
    assert {float(x) for batch in loader for x in batch} == {0.0, 1.0}


def test_d12_without_an_init_fn_workers_find_the_users_data_set_too() -> None:
    loader = gr.Curriculum().loader(Marked(4), batch_size=2, num_workers=1)
    assert [batch.tolist() for batch in loader] == [[-1.0, -1.0]] * 2


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_d12_d44_every_start_method_delivers_every_sample_once(context: str) -> None:
    data = TensorDataset(torch.arange(10.0))
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(
        data,
        batch_size=4,
        num_workers=1,
        multiprocessing_context=context,
        persistent_workers=True,
        seed_augmentation=True,
    )
    for _ in range(2):  # persistent workers hold the copy of the first epoch
        for (x,) in loader:
            curriculum(x)
    assert curriculum.epoch == 2
    assert every_score_right(method)


def test_d12_persistent_workers_are_kept_and_follow_the_new_plan() -> None:
    curriculum = gr.Curriculum(Prefix(5, 20, 8), visits := Visits())
    loader = curriculum.loader(Samples(SIZE), batch_size=3, num_workers=2, persistent_workers=True)
    orders = train(curriculum, loader, epochs=3)
    workers = {worker.pid for worker in loader._iterator._workers}  # type: ignore[union-attr]
    orders += train(curriculum, loader, epochs=1)
    assert {worker.pid for worker in loader._iterator._workers} == workers  # type: ignore[union-attr]
    assert [sorted(order) for order in orders] == [list(range(n)) for n in (5, 20, 8, 8)]
    assert visits.visits.values.tolist() == [4] * 5 + [3] * 3 + [1] * 12


def test_d12_the_users_generator_seeds_the_workers() -> None:
    """With a generator of the user's, workers draw what they would under a plain loader."""

    def base_seed(loader: DataLoader) -> int:
        return iter(loader)._base_seed  # type: ignore[attr-defined]

    data = Samples(SIZE)
    plain = DataLoader(data, 3, generator=torch.Generator().manual_seed(5))
    curriculum = gr.Curriculum()
    ours = curriculum.loader(data, 3, generator=torch.Generator().manual_seed(5))
    assert ours.__iter__()._batches._base_seed == base_seed(plain)


# --- D40, D44, D45: iterators and lengths -----------------------------------------------------


def test_d40_samplers_give_fresh_iterators() -> None:
    curriculum = gr.Curriculum(seed=2)
    loader = curriculum.loader(Samples(SIZE), batch_size=3)
    for sampler in (loader.sampler, loader.batch_sampler):
        first, second = iter(sampler), iter(sampler)  # type: ignore[arg-type]
        assert first is not second
        head = [next(first) for _ in range(3)]
        assert list(second)[:3] == head  # the second starts at the start
        assert list(sampler)[:3] == head  # type: ignore[call-overload]
        assert len(list(sampler)) == len(sampler)  # type: ignore[arg-type]
    assert (curriculum.epoch, curriculum.step) == (0, 0)


def test_d40_iter_twice_is_idempotent() -> None:
    curriculum = gr.Curriculum(seed=2)
    loader = curriculum.loader(Samples(SIZE), batch_size=3)
    iter(loader)
    first = [batch.tolist() for batch in loader]
    second = [batch.tolist() for batch in loader]
    assert first == second
    assert sorted(itertools.chain(*first)) == list(range(SIZE))
    assert curriculum.epoch == 0


def test_d40_an_epoch_ends() -> None:
    """The batch sampler of torch calls iter() on the sampler again and again."""
    curriculum = gr.Curriculum()
    loader = curriculum.loader(Samples(SIZE), batch_size=4)
    for _ in range(2):
        assert sum(1 for batch in loader if curriculum(batch) is not None) == 5


class Growing(Dataset):
    """A data set with attributes that a careless wrapper would look up for ever."""

    def __init__(self) -> None:
        self.values = torch.arange(6.0)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, k: int) -> torch.Tensor:
        return self.values[k]


@pytest.mark.parametrize("seed", [None, 3])
def test_d44_the_wrapped_data_set_is_copied_and_pickled(seed: int | None) -> None:
    wrapped = IndexedDataset(Growing(), augmentation_seed=seed)
    for twin in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped)), copy.copy(wrapped)):
        fetched = twin.__getitems__([4, 2])
        assert [float(item) for item in fetched.items] == [4.0, 2.0]
        assert fetched.codes == [4, 2]
        assert len(twin) == 6
        assert not hasattr(twin, "no_such_attribute")


def test_d44_a_carried_batch_is_pickled() -> None:
    index = torch.tensor([5, 2]).numpy().tobytes()
    twin = pickle.loads(pickle.dumps(Carried(("a", torch.ones(2)), index)))
    assert twin.index_tensor().tolist() == [5, 2]
    assert twin.batch[0] == "a"


@pytest.mark.parametrize(
    ("plan", "options", "lengths"),
    [
        (Prefix(4, 7, 20, 20), {}, [2, 3, 7, 7]),  # growing
        (Prefix(20, 7, 4, 1), {}, [7, 3, 2, 1]),  # shrinking
        (Prefix(4, 7, 20, 8), {"drop_last": True}, [1, 2, 6, 2]),
        (Prefix(4, 20, 1, 7), {"steps_per_epoch": 5}, [5, 5, 5, 5]),
    ],
    ids=["growing", "shrinking", "drop_last", "steps_per_epoch"],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_d45_len_is_the_coming_epochs(
    plan: Prefix, options: dict[str, Any], lengths: list[int], workers: int
) -> None:
    curriculum = gr.Curriculum(plan)
    loader = curriculum.loader(Samples(SIZE), batch_size=3, num_workers=workers, **options)
    for epoch, length in enumerate(lengths):
        assert curriculum.planned_steps(len(lengths) - epoch) == sum(lengths[epoch:])
        assert len(loader) == length  # before
        delivered = 0
        for batch in loader:
            assert len(loader) == length  # and throughout
            assert curriculum.epoch == epoch
            curriculum(batch)
            delivered += 1
        assert delivered == length
    assert curriculum.step == sum(lengths)


def test_steps_per_epoch_shorter_than_the_data_takes_a_part() -> None:
    curriculum = gr.Curriculum(visits := Visits(), seed=4)
    loader = curriculum.loader(Samples(SIZE), batch_size=3, steps_per_epoch=2)
    orders = train(curriculum, loader, epochs=2)
    assert [len(set(order)) for order in orders] == [6, 6]
    assert set(orders[0]) != set(orders[1])
    assert int(visits.visits.values.sum()) == 12


def test_steps_per_epoch_longer_than_the_data_reshuffles_every_pass() -> None:
    curriculum = gr.Curriculum(seed=4)
    loader = curriculum.loader(Samples(6), batch_size=4, steps_per_epoch=5)
    (order,) = train(curriculum, loader)
    assert len(order) == 20
    passes = [order[start : start + 6] for start in (0, 6, 12)]
    assert [sorted(part) for part in passes] == [list(range(6))] * 3
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert len(set(order[18:])) == 2


# --- Breaking out, two iterators, two loaders -------------------------------------------------


def test_breaking_out_ends_the_epoch_when_the_next_begins() -> None:
    curriculum = gr.Curriculum(visits := Visits(), Prefix(20, 10))
    loader = curriculum.loader(Samples(SIZE), batch_size=4)
    seen: list[int] = []
    for batch in loader:
        seen += batch.long().tolist()
        curriculum(batch)
        if len(seen) == 8:
            break
    assert curriculum.epoch == 0
    (order,) = train(curriculum, loader)
    assert curriculum.epoch == 2
    assert sorted(order) == list(range(10))
    counts = torch.bincount(torch.tensor(seen + order), minlength=SIZE)
    assert torch.equal(visits.visits.values, counts)


def test_looking_at_a_batch_and_leaving_changes_nothing() -> None:
    curriculum = gr.Curriculum(seed=1)
    loader = curriculum.loader(Samples(SIZE), batch_size=4)
    looked = next(iter(loader)).tolist()
    (order,) = train(curriculum, loader)
    assert order[:4] == looked
    assert curriculum.epoch == 1


def test_an_older_iterator_is_refused_once_a_newer_exists() -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    loader = curriculum.loader(Samples(8), batch_size=4)
    old = iter(loader)
    next(old)
    new = iter(loader)
    with pytest.raises(RuntimeError, match="this iterator is stale"):
        next(old)
    for batch in new:
        curriculum(batch)
    assert every_score_right(method)
    with pytest.raises(RuntimeError, match="stale"):
        list(zip(loader, loader, strict=True))


def test_a_second_loader_is_refused_while_the_first_lives() -> None:
    curriculum = gr.Curriculum()
    loader = curriculum.loader(Samples(8), batch_size=4)
    with pytest.raises(RuntimeError, match="a curriculum drives one loader"):
        curriculum.loader(Samples(8), batch_size=4)
    next(iter(loader))
    del loader  # the curriculum does not keep it, or its workers, alive
    gc.collect()
    again = curriculum.loader(Samples(8), batch_size=2)
    assert len(again) == 4


def test_a_loader_that_lives_in_its_loop_alone_works() -> None:
    curriculum = gr.Curriculum(method := LastLoss())
    for batch in curriculum.loader(Samples(8), batch_size=3, num_workers=1):
        curriculum(batch)
    assert every_score_right(method)


# --- seed_augmentation ------------------------------------------------------------------------


class Noisy(Samples):
    """Adds noise from all three global generators, as augmentation code does."""

    def __getitem__(self, k: int) -> torch.Tensor:
        noise = [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
        return torch.tensor([float(k), *noise], dtype=torch.float64)


def augmented(epochs: int = 2, seed: int = 3, batch: int = 4, **options: Any) -> list[torch.Tensor]:
    """Each epoch's noise by sample, (N, 3)."""
    curriculum = gr.Curriculum(seed=seed)
    loader = curriculum.loader(Noisy(12), batch_size=batch, seed_augmentation=True, **options)
    found = []
    for _ in range(epochs):
        noise = torch.full((12, 3), -1.0, dtype=torch.float64)
        for rows in loader:
            noise[rows[:, 0].long()] = rows[:, 1:]
            curriculum(rows[:, 0])
        found.append(noise)
    return found


def test_seeded_augmentation_does_not_depend_on_workers_or_batches() -> None:
    alone = augmented()
    for other in (
        augmented(num_workers=2),
        augmented(num_workers=2, persistent_workers=True),
        augmented(batch=5, num_workers=1),
    ):
        for ours, theirs in zip(alone, other, strict=True):
            assert torch.equal(ours, theirs)


def test_seeded_augmentation_differs_by_epoch_sample_and_seed() -> None:
    first, second = augmented()
    other = augmented(epochs=1, seed=4)[0]
    assert not bool((first == second).any())
    assert not bool((first == other).any())
    for column in first.T:
        assert len(set(column.tolist())) == 12


def test_seeded_augmentation_leaves_the_main_process_alone(watch_global_rng: Any) -> None:
    moved = watch_global_rng()
    augmented()
    assert moved() == []


def test_seeded_augmentation_restores_the_state_when_a_sample_fails(
    watch_global_rng: Any,
) -> None:
    class Broken(Noisy):
        def __getitem__(self, k: int) -> torch.Tensor:
            super().__getitem__(k)
            raise KeyError(k)

    loader = gr.Curriculum().loader(Broken(4), batch_size=2, seed_augmentation=True)
    moved = watch_global_rng()
    with pytest.raises(KeyError):
        next(iter(loader))
    assert moved() == []


def test_seeded_augmentation_follows_the_seed_of_a_loaded_checkpoint() -> None:
    """Whoever resumes may build the curriculum with another seed: the checkpoint's holds."""

    def noise(seed: int, state: dict[str, Any] | None) -> tuple[list[Any], dict[str, Any]]:
        curriculum = gr.Curriculum(seed=seed)
        loader = curriculum.loader(Noisy(12), batch_size=4, seed_augmentation=True)
        if state is not None:
            curriculum.load_state_dict(state)
        return [batch.tolist() for batch in loader], curriculum.state_dict()

    expected, state = noise(3, None)
    assert noise(8, None)[0] != expected
    assert noise(8, state)[0] == expected


def test_without_seeding_epochs_draw_other_noise_in_workers() -> None:
    curriculum = gr.Curriculum(seed=3)
    loader = curriculum.loader(Noisy(6), batch_size=6, num_workers=1)
    drawn = []
    for _ in range(2):
        for rows in loader:
            drawn += rows[:, 1].tolist()
            curriculum(rows[:, 0])
    assert len(set(drawn)) == 12


# --- Side effects -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"seed_augmentation": True}])
def test_d43_iterating_leaves_the_global_generators_alone(
    options: dict[str, Any], watch_global_rng: Any
) -> None:
    moved = watch_global_rng()
    curriculum = gr.Curriculum()
    loader = curriculum.loader(Samples(SIZE), batch_size=4, **options)
    len(loader)
    train(curriculum, loader, epochs=2)
    assert moved() == []


def test_the_order_does_not_depend_on_the_global_generators() -> None:
    def order(state: int) -> list[list[int]]:
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002
        torch.manual_seed(state)
        curriculum = gr.Curriculum(gr.Uniform(), seed=0)
        return train(curriculum, curriculum.loader(Samples(SIZE), batch_size=4), epochs=2)

    assert order(1) == order(2)
