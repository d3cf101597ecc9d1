"""Workers and ranks: each sample once, and exact resumes through torchdata's StatefulDataLoader."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import gradatim as gr
from gradatim import distributed
from gradatim.mixing import MixtureLoader, interleave, sources
from gradatim.streams import DifficultyGate, SortBuffer
from streams.toy_streams import Plain, Sharded, Stateful, hugging_face, numbers, x_of

# torchdata 0.11 asks torch 2.13 for it.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

SIZE = 24


def open_gate(stream: Any, score: Any, **options: Any) -> DifficultyGate:
    return DifficultyGate(stream, score, pace=gr.pacing.Constant(fraction=1), memory=5, **options)


def scored(sample: Any) -> float:
    return x_of(sample) if isinstance(sample, dict) else sample


def stack(stream: Any, **options: Any) -> DifficultyGate:
    """Gate over buffer over interleave over the stream."""
    merged = interleave([stream], [1])
    return open_gate(SortBuffer(merged, scored, size=4), scored, **options)


STREAMS: dict[str, Callable[[], Any]] = {
    "gate": lambda: open_gate(Plain(numbers(SIZE)), float),
    "gate over a divided stream": lambda: open_gate(Sharded(numbers(SIZE)), float, sharded=True),
    "buffer": lambda: SortBuffer(Stateful(numbers(SIZE)), float, size=5),
    "stack": lambda: stack(Plain(numbers(SIZE))),
    "interleaved gates": lambda: interleave(
        [open_gate(Plain(numbers(16)), float), open_gate(Plain([*range(16, SIZE)]), float)], [2, 1]
    ),
    "hugging face": lambda: open_gate(hugging_face(numbers(SIZE)), scored),
    "hugging face stack": lambda: stack(hugging_face(numbers(SIZE))),
    "hugging face with one shard": lambda: stack(hugging_face(numbers(SIZE), shards=1)),
}


def plain(batches: Any) -> list[int]:
    return [int(scored(sample)) for sample in batches]


def loader(stream: Any, kind: Any = DataLoader, **options: Any) -> Any:
    return kind(stream, batch_size=None, generator=torch.Generator(), **options)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", STREAMS)
def test_workers_give_each_sample_once(name: str, workers: int) -> None:
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    found = plain(loader(STREAMS[name](), num_workers=workers))
    assert sorted(found) == list(range(SIZE))


@pytest.mark.parametrize("name", [name for name in STREAMS if "divided" not in name])
def test_ranks_give_each_sample_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    found = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "world_and_rank", lambda rank=rank: (3, rank))
        part = plain(STREAMS[name]())
        # Each of two gates has its turns.
        assert len(part) == SIZE // 3 or name == "interleaved gates"
        found += part
    assert sorted(found) == list(range(SIZE))


def test_ranks_of_hugging_face_nodes_keep_what_they_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`split_dataset_by_node` divides among ranks: nothing is divided again."""
    nodes = pytest.importorskip("datasets.distributed")
    found = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "world_and_rank", lambda rank=rank: (2, rank))
        stream = hugging_face(numbers(SIZE))
        part = nodes.split_dataset_by_node(stream, rank=rank, world_size=2)
        gate = open_gate(part, scored)
        found += plain(gate)
        assert gate.items_read == SIZE  # 12 here, times 2
    assert sorted(found) == list(range(SIZE))


@pytest.mark.parametrize("where", ["a worker", "a rank"])
def test_the_epoch_of_a_hugging_face_stream_is_set_in_one_process_alone(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in shared memory: workers that set it together would add up what they set."""
    pytest.importorskip("datasets")
    stream = hugging_face(numbers(SIZE), shuffled=True)
    shared = stream._epoch
    assert shared.is_shared()
    if where == "a worker":
        worker = SimpleNamespace(num_workers=1, id=0)
        monkeypatch.setattr(sources, "get_worker_info", lambda: worker)
    else:
        monkeypatch.setattr(distributed, "world_and_rank", lambda: (2, 1))
    gate = open_gate(stream, scored)
    first, second = plain(gate), plain(gate)
    assert (int(shared), stream.epoch) == (0, 1)
    assert first != second
    assert len(first) == len(second) == (SIZE if where == "a worker" else SIZE // 2)


def test_workers_that_begin_passes_together_read_each_sample_once() -> None:
    pytest.importorskip("datasets")
    orders = set()
    for _ in range(4):
        gate = open_gate(hugging_face(numbers(SIZE)), scored)
        staying = loader(gate, num_workers=2, persistent_workers=True)
        passes = [plain(staying) for _ in range(4)]
        assert all(sorted(found) == list(range(SIZE)) for found in passes)
        orders.add(str(passes))
    assert len(orders) == 1


def test_progress_is_that_of_the_whole_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns: rank 1 of 2 sees samples 1, 3, 5; threshold n lets those of score n pass."""
    monkeypatch.setattr(distributed, "world_and_rank", lambda: (2, 1))
    asked: list[int] = []
    gate = DifficultyGate(Plain([*range(6)]), float, threshold=lambda n: asked.append(n) or n)
    assert (list(gate), asked) == ([1, 3, 5], [1, 3, 5])
    asked.clear()
    divided = DifficultyGate(
        Plain([1, 3, 5]), float, threshold=lambda n: asked.append(n) or 9, sharded=True
    )
    assert (list(divided), asked) == ([1, 3, 5], [0, 2, 4])


def test_workers_that_stay_go_on_with_their_progress() -> None:
    """Threshold 0 for the first 24 samples of the stream, then everything."""
    gate = DifficultyGate(Plain(numbers(SIZE)), float, threshold=Later(SIZE))
    staying = loader(gate, num_workers=2, persistent_workers=True)
    assert plain(staying) == [0]
    assert sorted(plain(staying)) == list(range(SIZE))


class Later:
    """0 before `start`, then 100."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, n: int) -> float:
        return 0 if n < self.start else 100


def test_streams_that_divide_themselves_and_others_are_not_mixed_in_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("datasets")
    streams = [hugging_face([1, 2], shards=2), Plain([3])]
    assert len(list(interleave(streams, [1, 1]))) == 3
    worker = SimpleNamespace(num_workers=2, id=0)
    monkeypatch.setattr(sources, "get_worker_info", lambda: worker)
    rule = r"^streams\[0\] must be divided among workers like the others"
    with pytest.raises(ValueError, match=rule):
        list(interleave(streams, [1, 1]))


def test_a_mixture_loader_refuses_ranks_that_read_different_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, "world_and_rank", lambda: (2, 0))
    mixture = MixtureLoader([open_gate(Plain([1, 2]), float)], 1, weights=[1])
    with pytest.raises(ValueError, match=r"^datasets\[0\] must be read whole by every rank"):
        next(iter(mixture))


# --- StatefulDataLoader -------------------------------------------------------------------------


def stateful() -> Any:
    return pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader


RISING: dict[str, Callable[[], Any]] = {
    "gate": lambda: DifficultyGate(Plain(numbers(SIZE)), float, threshold=(9, 20), items=SIZE),
    "stack of streams with states": lambda: SortBuffer(
        DifficultyGate(
            interleave([Stateful(numbers(16)), Stateful([*range(16, SIZE)])], [2, 1]),
            float,
            pace=gr.pacing.Linear(start_fraction=0.5, epochs=16),
            memory=6,
        ),
        float,
        size=3,
    ),
    "hugging face": lambda: SortBuffer(
        DifficultyGate(hugging_face(numbers(SIZE)), scored, threshold=(9, 20), items=SIZE),
        scored,
        size=3,
    ),
}


@pytest.mark.parametrize("name", RISING)
def test_a_stateful_loader_resumes_after_any_sample(name: str) -> None:
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    kind = stateful()
    whole_loader = loader(RISING[name](), kind)
    states, whole = [], []
    for sample in whole_loader:
        whole.append(int(scored(sample)))
        states.append(whole_loader.state_dict())
    second_pass = plain(whole_loader)
    assert len(whole) > 8
    for cut, state in enumerate(states, start=1):
        rest = loader(RISING[name](), kind)
        rest.load_state_dict(state)
        assert plain(rest) == whole[cut:]
        assert plain(rest) == second_pass


@pytest.mark.parametrize("name", RISING)
def test_a_stateful_loader_resumes_its_workers(name: str) -> None:
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    kind = stateful()
    options = {"num_workers": 2, "persistent_workers": True}
    whole_loader = loader(RISING[name](), kind, **options)
    states, whole = [], []
    for sample in whole_loader:
        whole.append(int(scored(sample)))
        states.append(whole_loader.state_dict())
    second_pass = plain(whole_loader)
    assert len(set(whole)) == len(whole) > 8
    for cut in (1, 4, len(whole) - 1, len(whole)):
        rest = loader(RISING[name](), kind, **options)
        rest.load_state_dict(states[cut - 1])
        assert plain(rest) == whole[cut:]
        assert plain(rest) == second_pass
