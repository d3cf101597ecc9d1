"""A state taken anywhere continues as if nothing had happened."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

import gradatim as gr
from gradatim.mixing import interleave
from gradatim.streams import DifficultyGate, SortBuffer
from streams.toy_streams import Plain, Stateful, hugging_face, numbers, x_of

VALUES = numbers(13, seed=2)


def rising(stream: Any, score: Any = float, **options: Any) -> DifficultyGate:
    pace = gr.pacing.Linear(start_fraction=0.3, epochs=18)
    return DifficultyGate(stream, score, pace=pace, memory=5, **options)


def absolute(stream: Any, score: Any = float, **options: Any) -> DifficultyGate:
    return DifficultyGate(stream, score, threshold=(4, 11), items=20, **options)


def mixed(kind: Callable[[list[int]], Any]) -> Any:
    streams = [kind(VALUES), kind([100 + value for value in numbers(7)])]
    return interleave(streams, [2, 1], max_epochs=2)


def score(value: Any) -> float:
    """100 and 0 are equally hard."""
    return (value["x"] if isinstance(value, dict) else value) % 100


STREAMS: dict[str, Callable[[], Any]] = {
    "gate by ranks": lambda: rising(Plain(VALUES)),
    "gate by threshold": lambda: absolute(Stateful(VALUES)),
    "buffer": lambda: SortBuffer(Plain(VALUES), float, size=4),
    "buffer of one with a state": lambda: SortBuffer(Stateful(VALUES), float, size=5),
    "gate over gate": lambda: rising(absolute(Plain(VALUES)), order="anti"),
    "buffer over gate": lambda: SortBuffer(rising(Stateful(VALUES)), float, size=3, order="anti"),
    "gate over buffer": lambda: absolute(SortBuffer(Plain(VALUES), float, size=4)),
    "gate over buffer over interleave": lambda: rising(
        SortBuffer(mixed(Plain), score, size=4), score
    ),
    "gate over buffer over interleave with states": lambda: rising(
        SortBuffer(mixed(Stateful), score, size=4), score
    ),
    "interleaved gates": lambda: interleave(
        [rising(Plain(VALUES)), absolute(Stateful(VALUES))], [1, 2], max_epochs=3
    ),
    "read again": lambda: SortBuffer(Stateful(VALUES), float, size=5, reread=True),
    "hugging face": lambda: rising(hugging_face(VALUES), x_of),
    "hugging face in blocks": lambda: SortBuffer(
        absolute(hugging_face(VALUES), x_of), x_of, size=3
    ),
    "hugging face behind its shuffle": lambda: absolute(
        hugging_face(VALUES, shuffled=True), x_of, reread=True
    ),
    "hugging face interleaved": lambda: rising(
        SortBuffer(mixed(hugging_face), score, size=4), score
    ),
}


def passes(stream: Any, count: int = 3) -> list[list[Any]]:
    return [list(stream) for _ in range(count)]


@pytest.mark.parametrize("name", STREAMS)
def test_resuming_after_any_sample_equals_going_on(name: str, tmp_path: Any) -> None:
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    count = 2 if name.startswith("hugging") else 3
    stride = 3 if name.startswith(("hugging face ", "interleaved")) else 1
    whole = passes(STREAMS[name](), count)
    assert sum(map(len, whole)) > 10
    for number, samples in enumerate(whole):
        for cut in (*range(0, len(samples), stride), len(samples)):
            first = STREAMS[name]()
            passes(first, number)
            assert list(islice(iter(first), cut)) == samples[:cut]
            torch.save(first.state_dict(), tmp_path / "state.pt")
            second = STREAMS[name]()
            second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
            rest = passes(second, count - number)
            assert rest == [samples[cut:], *whole[number + 1 :]], (number, cut)


@pytest.mark.parametrize("name", STREAMS)
def test_a_state_after_a_whole_pass_gives_nothing_more_once(name: str) -> None:
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    whole = passes(STREAMS[name]())
    for number in (1, 2):
        first = STREAMS[name]()
        passes(first, number)
        second = STREAMS[name]()
        second.load_state_dict(first.state_dict())
        expected = whole[number:]
        if not name.startswith("interleaved"):
            assert list(second) == []
        assert passes(second, 3 - number) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_a_state_is_a_picture_not_a_view(name: str) -> None:
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    stream = STREAMS[name]()
    iterator = iter(stream)
    next(iterator)
    state = stream.state_dict()
    before = copy.deepcopy(state)
    list(iterator)
    assert str(state) == str(before)
    STREAMS[name]().load_state_dict(state)
    assert str(state) == str(before)


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "read again"])
def test_a_copy_made_within_a_pass_goes_on_where_it_stood(name: str) -> None:
    """As a worker that is spawned gets it; a score must be a function with a name for that."""
    if name.startswith("hugging"):
        pytest.importorskip("datasets")
    stream = STREAMS[name]()
    iterator = iter(stream)
    list(islice(iterator, 2))
    twin = pickle.loads(pickle.dumps(stream))
    assert list(twin) == list(iterator)


def test_iterating_again_goes_on_where_it_was_left() -> None:
    stream = SortBuffer(Plain([3, 1, 2, 0]), float, size=2)
    iterator = iter(stream)
    assert next(iterator) == 1
    assert list(stream) == [3, 0, 2]
    assert list(stream) == [1, 3, 0, 2]


def test_a_stream_with_a_state_is_not_read_again_and_no_score_is_computed_twice() -> None:
    scored: list[int] = []

    def noted(value: int) -> float:
        scored.append(value)
        return value

    whole = SortBuffer(Stateful(list(range(100))), noted, size=10)
    list(islice(iter(whole), 55))
    assert len(scored) == 60
    inner = Stateful(list(range(100)))
    rest = SortBuffer(inner, noted, size=10)
    rest.load_state_dict(whole.state_dict())
    assert list(rest) == list(range(55, 100))
    assert inner.given == 50  # this block again, and what follows
    assert len(scored) == 60 + 40


def test_a_state_between_blocks_reads_no_block_again() -> None:
    whole = SortBuffer(Stateful(list(range(100))), float, size=10)
    list(islice(iter(whole), 50))
    inner = Stateful(list(range(100)))
    rest = SortBuffer(inner, float, size=10)
    rest.load_state_dict(whole.state_dict())
    assert (list(rest), inner.given) == (list(range(50, 100)), 50)


def test_a_shorter_stream_than_the_one_of_the_state_is_refused() -> None:
    first = SortBuffer(Plain([3, 1, 2]), float, size=3)
    next(iter(first))
    second = SortBuffer(Plain([3]), float, size=3)
    second.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"^stream must be the one of the state, with 3 more"):
        list(second)


def test_states_of_something_else_are_refused_and_change_nothing() -> None:
    gate = rising(absolute(Plain(VALUES)))
    list(islice(iter(gate), 2))
    before = copy.deepcopy(gate.state_dict())
    smaller = DifficultyGate(absolute(Plain(VALUES)), float, pace=lambda n: 1.0, memory=3)
    list(smaller)
    others: list[Any] = [
        {},
        None,
        SortBuffer(Plain(VALUES), float, size=2).state_dict(),
        {**before, "inlet": {}},
        rising(Plain(VALUES)).state_dict(),
        rising(SortBuffer(Plain(VALUES), float, size=2)).state_dict(),
        smaller.state_dict(),
    ]
    for other in others:
        with pytest.raises(ValueError, match=r"^state"):
            gate.load_state_dict(other)
        assert gate.state_dict() == before


def test_global_random_states_are_left_alone(watch_global_rng: Any) -> None:
    moved = watch_global_rng()
    for name in ("gate by ranks", "buffer", "gate over buffer over interleave"):
        passes(STREAMS[name]())
    assert moved() == []
