"""Batches from several data sets: shares, exact resume, ranks that agree, sources that run dry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gradatim import distributed
from gradatim.mixing import (
    DoReMi,
    Exp3S,
    MixtureLoader,
    OnlineDataMixing,
    Stage,
    StagedMix,
    interleave,
)


class Stream(IterableDataset):
    """Numbers base, base + 1, ..., without a state of its own."""

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.size = size
        self.epochs: list[int] = []

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.base, self.base + self.size))

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


class Stateful(Stream):
    """One that knows where it stands, and counts what is read."""

    def __init__(self, base: int, size: int) -> None:
        super().__init__(base, size)
        self.at = 0
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        start, self.at = self.at, 0
        for number in range(start, self.size):
            self.at = number + 1
            self.read += 1
            yield self.base + number
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def three() -> list[Any]:
    """Numbers below 100, 100 to 199, 200 to 299: one data set with positions, two streams."""
    return [list(range(40)), Stream(100, 25), Stateful(200, 30)]


def flat(batches: list[Any]) -> list[int]:
    return [number for batch in batches for number in batch.data.tolist()]


@pytest.mark.parametrize("allocation", ["largest_remainder", "multinomial", "one"])
def test_rows_say_where_they_are_from(allocation: Any) -> None:
    loader = MixtureLoader(three(), 8, weights=[3, 2, 1], steps=20, allocation=allocation)
    batches = list(loader)
    assert len(batches) == len(loader) == 20
    for batch in batches:
        assert (batch.data // 100).tolist() == batch.sources.tolist()
        assert len(batch.data) == 8
    if allocation == "one":
        assert all(len(batch.sources.unique()) == 1 for batch in batches)


def test_long_run_shares_are_right_to_one_sample_per_source_at_any_time() -> None:
    weights = torch.tensor([0.57, 0.31, 0.12], dtype=torch.float64)
    loader = MixtureLoader(three(), 7, weights=weights, steps=200)
    counts = torch.zeros(3, dtype=torch.float64)
    for step, batch in enumerate(loader, start=1):
        counts += batch.sources.bincount(minlength=3)
        assert float((counts - weights * 7 * step).abs().max()) < 1


def test_each_pass_holds_every_sample_once_and_is_shuffled_anew() -> None:
    loader = MixtureLoader([list(range(10))], 5, weights=[1], max_epochs=3)
    passes = torch.tensor(flat(list(loader))).reshape(3, 10)
    assert passes.sort(1).values.tolist() == [list(range(10))] * 3
    assert len({tuple(row) for row in passes.tolist()}) == 3
    plain = MixtureLoader([list(range(4))], 4, weights=[1], max_epochs=1, shuffle=False)
    assert sorted(flat(list(plain))) == [0, 1, 2, 3]


def policies() -> dict[str, Any]:
    stages = [Stage(0, [3, 2, 1]), Stage(9, [1, 1, 4], ramp=5)]
    return {
        "weights": [3, 2, 1],
        "bandit": Exp3S(3, 0.1),
        "odm": OnlineDataMixing(3),
        "doremi": DoReMi(3),
        "staged": StagedMix(stages, unit="steps"),
    }


def learn(policy: Any, batch: Any) -> None:
    """An update that depends on what was drawn."""
    source, worth = int(batch.sources[0]), float(batch.data.double().mean() % 7) / 7
    if isinstance(policy, (Exp3S, OnlineDataMixing)):
        policy.update(source, worth)
    elif isinstance(policy, DoReMi):
        policy.update([worth, 0.1, 0.2])


@pytest.mark.parametrize("name", policies())
@pytest.mark.parametrize("allocation", ["largest_remainder", "multinomial", "one"])
def test_resumes_exactly_after_any_batch(name: str, allocation: Any, tmp_path: Any) -> None:
    def make() -> tuple[MixtureLoader, Any]:
        policy = policies()[name]
        loader = MixtureLoader(three(), 6, weights=policy, steps=25, allocation=allocation, seed=4)
        return loader, policy

    loader, policy = make()
    batches, states = [], []
    for batch in loader:
        learn(policy, batch)
        batches.append(batch)
        states.append(loader.state_dict())
    for start in (0, 7, 13, 23):
        torch.save(states[start], tmp_path / "state.pt")
        loader, policy = make()
        loader.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        rest = []
        for batch in loader:
            learn(policy, batch)
            rest.append(batch)
        assert flat(rest) == flat(batches[start + 1 :])
        assert str(loader.state_dict()) == str(states[-1])


def test_a_stream_with_a_state_is_not_read_again() -> None:
    stream = Stateful(0, 1000)
    loader = MixtureLoader([stream], 10, weights=[1], steps=50)
    for step, _ in enumerate(loader):
        if step == 39:
            break
    state = loader.state_dict()
    fresh = Stateful(0, 1000)
    resumed = MixtureLoader([fresh], 10, weights=[1], steps=50)
    resumed.load_state_dict(state)
    assert sorted(flat(list(resumed))) == list(range(400, 500))
    assert fresh.read == 100


def test_the_pass_after_a_resumed_one_is_whole() -> None:
    for stream in (Stream, Stateful):
        first = MixtureLoader([stream(0, 10)], 4, weights=[1], steps=1)
        list(first)
        second = MixtureLoader([stream(0, 10)], 4, weights=[1], steps=6)
        second.load_state_dict(first.state_dict())
        assert sorted(flat(list(second))) == sorted([*range(4, 10), *range(10), *range(4)])


def test_a_stream_is_read_again_on_request() -> None:
    loader = MixtureLoader([Stateful(0, 100)], 10, weights=[1], steps=9, reread=True)
    for step, _ in enumerate(loader):
        if step == 5:
            break
    fresh = Stateful(0, 100)
    resumed = MixtureLoader([fresh], 10, weights=[1], steps=9, reread=True)
    resumed.load_state_dict(loader.state_dict())
    assert sorted(flat(list(resumed))) == list(range(60, 90))
    assert fresh.read == 90


@pytest.mark.parametrize("shuffled", [False, True])
def test_hugging_face_streams_resume_exactly(shuffled: bool) -> None:
    """Their own state where nothing is buffered; read again behind their shuffle buffer."""
    datasets = pytest.importorskip("datasets")

    def make() -> MixtureLoader:
        table = datasets.Dataset.from_dict({"x": list(range(40))})
        stream = table.to_iterable_dataset(num_shards=4)
        if shuffled:
            stream = stream.shuffle(seed=1, buffer_size=8)
        other = datasets.Dataset.from_dict({"x": list(range(100, 130))})
        return MixtureLoader([stream, other], 6, weights=[2, 1], max_epochs=3, reread=shuffled)

    whole, states = [], []
    loader = make()
    for batch in loader:
        whole.append(batch.data["x"].tolist())
        states.append(loader.state_dict())
    assert sum(map(len, whole)) == 210
    for start in (0, 3, 12, 25):
        resumed = make()
        resumed.load_state_dict(states[start])
        assert [batch.data["x"].tolist() for batch in resumed] == whole[start + 1 :]


def test_streams_are_told_their_pass() -> None:
    stream = Stream(0, 4)
    list(MixtureLoader([stream], 4, weights=[1], max_epochs=3))
    assert stream.epochs == [0, 1, 2]


def test_ranks_agree_and_share_what_one_process_would_train_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = list(MixtureLoader(three(), 8, weights=[3, 2, 1], steps=15, seed=2))
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "world_and_rank", lambda rank=rank: (2, rank))
        parts.append(list(MixtureLoader(three(), 4, weights=[3, 2, 1], steps=15, seed=2)))
    for batch, one, two in zip(whole, *parts, strict=True):
        assert sorted(batch.data.tolist()) == sorted([*one.data.tolist(), *two.data.tolist()])
        assert len(one.data) == len(two.data) == 4


def test_a_last_batch_that_would_leave_a_rank_without_rows_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "world_and_rank", lambda rank=rank: (2, rank))
        lengths.append(len(list(MixtureLoader([list(range(9))], 2, weights=[1], max_epochs=1))))
    assert lengths == [2, 2]


@pytest.mark.parametrize("allocation", ["largest_remainder", "multinomial", "one"])
def test_a_dry_source_is_dropped_and_everything_else_comes(allocation: Any) -> None:
    """Each of 95 samples twice, whatever the weights."""
    loader = MixtureLoader(three(), 6, weights=[1, 8, 1], max_epochs=2, allocation=allocation)
    batches = list(loader)
    expected = [*range(40), *range(100, 125), *range(200, 230)]
    assert sorted(flat(batches)) == sorted(expected * 2)
    if allocation == "one":
        assert all(len(batch.sources.unique()) == 1 for batch in batches)
    else:
        assert all(len(batch.data) == 6 for batch in batches[:-1])


def test_sources_of_no_weight_are_never_read() -> None:
    loader = MixtureLoader(three(), 6, weights=[0, 1, 0], max_epochs=1)
    assert sorted(flat(list(loader))) == list(range(100, 125))


def test_a_staged_mix_narrows_data_sets_by_quality() -> None:
    scores = [torch.arange(10.0), torch.arange(10.0)]
    mix = StagedMix([Stage(0, [1, 1]), Stage(3, [1, 1], quality=8.0)], unit="steps", scores=scores)
    loader = MixtureLoader([list(range(10)), list(range(100, 110))], 4, weights=mix, steps=6)
    batches = list(loader)
    assert set(flat(batches[3:])) == {8, 9, 108, 109}
    assert len(set(flat(batches[:3]))) == 12
    streams = MixtureLoader([Stream(0, 10), Stream(100, 10)], 4, weights=mix, steps=6)
    with pytest.raises(ValueError, match=r"datasets\[0\] must be with __getitem__ for a quality"):
        list(streams)


def test_a_staged_mix_ends_with_its_sources() -> None:
    mix = StagedMix([Stage(0, [1, 2])], sizes=[10, 10], max_epochs=1)
    loader = MixtureLoader([list(range(10)), list(range(100, 110))], 3, weights=mix)
    assert sorted(flat(list(loader))) == [*range(10), *range(100, 110)]


def test_global_random_states_are_left_alone() -> None:
    before = torch.get_rng_state()
    list(MixtureLoader(three(), 6, weights=[1, 1, 1], steps=5, allocation="multinomial"))
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_are_collated_as_by_a_data_loader() -> None:
    data = [TensorDataset(torch.zeros(4, 2), torch.zeros(4)), TensorDataset(torch.ones(4, 2), torch.ones(4))]  # fmt: skip  # noqa: E501
    (inputs, targets), sources = next(iter(MixtureLoader(data, 4, weights=[1, 1])))
    assert inputs.shape == (4, 2)
    assert targets.tolist() == sources.tolist()
    listed = MixtureLoader(data, 4, weights=[1, 1], collate_fn=list)
    assert len(next(iter(listed)).data) == 4


# --- Streams ------------------------------------------------------------------------------------


def test_interleaved_streams_hold_everything_once_in_order() -> None:
    merged = list(interleave([Stream(0, 12), Stream(100, 6), Stream(200, 3)], [4, 2, 1]))
    assert len(merged) == 21
    for base in (0, 100, 200):
        part = [number for number in merged if number // 100 * 100 == base]
        assert part == sorted(part)
    for length in range(1, 22):
        counts = [sum(n // 100 == k for n in merged[:length]) for k in range(3)]
        exact = [length * w / 7 for w in (4, 2, 1)]
        assert max(abs(c - e) for c, e in zip(counts, exact, strict=True)) < 1


@pytest.mark.parametrize("allocation", ["largest_remainder", "multinomial"])
def test_interleaved_streams_resume_exactly(allocation: Any) -> None:
    def make() -> Any:
        return interleave(three(), [3, 2, 1], allocation=allocation, max_epochs=2, seed=3)

    whole = list(make())
    assert len(whole) == 190
    for start in (1, 50, 130, 189):
        merged, part = make(), make()
        iterator = iter(merged)
        for _ in range(start):
            next(iterator)
        part.load_state_dict(merged.state_dict())
        assert list(part) == whole[start:]


def test_workers_take_turns_over_interleaved_streams() -> None:
    streams = interleave([Stream(0, 12), Stream(100, 6)], [2, 1])
    loader = DataLoader(streams, batch_size=None, num_workers=2, generator=torch.Generator())
    assert sorted(loader) == [*range(12), *range(100, 106)]


# --- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"datasets": []}, "datasets"),
        ({"datasets": [[1], []]}, r"datasets\[1\]"),
        ({"weights": [1, 1, 1]}, "weights"),
        ({"weights": [0, 0]}, "weights"),
        ({"weights": Exp3S(3)}, "weights"),
        ({"batch_size": 0}, "batch_size"),
        ({"steps": 0}, "steps"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"allocation": "round"}, "allocation"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_refused_by_name(change: dict[str, Any], name: str) -> None:
    sound: dict[str, Any] = {"datasets": [[1], [2]], "batch_size": 2, "weights": [1, 1]}
    with pytest.raises(ValueError, match=f"^{name} must be"):
        MixtureLoader(**{**sound, **change})


def test_what_cannot_be_iterated_anew_is_refused() -> None:
    for wrong in (iter([1, 2]), 7):
        with pytest.raises(TypeError, match=r"datasets\[0\] must be a data set"):
            MixtureLoader([wrong], 2, weights=[1])
    with pytest.raises(TypeError, match="has a length only if it is given steps="):
        len(MixtureLoader([[1]], 2, weights=[1]))
    with pytest.raises(ValueError, match=r"datasets\[0\] must be non-empty"):
        list(MixtureLoader([Stream(0, 0)], 2, weights=[1]))


def test_a_state_of_something_else_is_refused_and_changes_nothing() -> None:
    loader = MixtureLoader([[1], [2]], 2, weights=[1, 1])
    before = str(loader.state_dict())
    others = [
        {},
        MixtureLoader([[1]], 2, weights=[1]).state_dict(),
        MixtureLoader([[1], Stream(0, 3)], 2, weights=[1, 1]).state_dict(),
        MixtureLoader([[1], [2]], 2, weights=Exp3S(2)).state_dict(),
    ]
    for state in others:
        with pytest.raises(ValueError, match=r"^state"):
            loader.load_state_dict(state)
        assert str(loader.state_dict()) == before
