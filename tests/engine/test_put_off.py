"""Rows whose writing is put off, and when that changes nothing: while no sample comes twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradatim as gr

# --- Writes that were put off -----------------------------------------------------------------

LOOKS = {
    "values": lambda table: table.values,
    "storage": lambda table: table.storage,
    "rows": lambda table: table[torch.tensor([1])],
    "write": lambda table: table.write(torch.tensor([0]), torch.tensor([7.0]), step=9),
    "local_rows": lambda table: table.local_rows(),
    "merge_ranks": lambda table: table.merge_ranks(),
    "track": lambda table: table.track(torch.zeros(3, dtype=torch.int64)),
    "track nothing": lambda table: table.track(None),
    "restore_rows": lambda table: table.restore_rows(*(torch.tensor([0]),) * 3),
    "settle": lambda table: table.settle(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_what_was_put_off_is_written_once_before_anyone_looks(look: Any) -> None:
    table = gr.Table("t").allocate(3)
    times: list[int] = []

    def write() -> None:
        times.append(1)
        table.write(torch.tensor([1]), torch.tensor([5.0]), step=3)

    table.put_off(write)
    assert table.untouched(torch.tensor([0, 2])).tolist() == [0, 0]
    assert not times
    look(table)
    assert times == [1]
    assert table.untouched(torch.tensor([1])).tolist() == [5]
    look(table)
    assert times == [1]


@pytest.mark.parametrize("look", ["allocated", "agree_on_shape", "storage"])
def test_the_first_rows_of_an_open_shape_are_written_before_anyone_looks(look: str) -> None:
    table = gr.Table("t", shape=None).allocate(2)
    table.put_off(lambda: table.write(torch.tensor([1]), torch.ones(1, 3)))
    found = getattr(table, look)
    if callable(found):
        found()
    assert table.shape == (3,)
    assert table.untouched(torch.tensor([1])).tolist() == [[1, 1, 1]]


class PutsOff(gr.Method):
    """Writes the losses, all of an epoch at once."""

    def setup(self, run: gr.Run) -> None:
        self.last = gr.Table("last", shape=None)
        self.waiting: list[Any] = []

    def weigh(self, batch: gr.Batch, run: gr.Run) -> None:
        self.waiting.append((batch.index, batch.losses.clone().unsqueeze(1)))
        self.last.put_off(self.write)

    def write(self) -> None:
        waiting, self.waiting = self.waiting, []
        for index, rows in waiting:
            self.last.write(index, rows)


def test_the_end_of_an_epoch_is_a_look_and_so_is_a_checkpoint() -> None:
    curriculum = gr.Curriculum(method := PutsOff(), seed=0)
    loader = curriculum.loader(range(4), batch_size=2)
    for number, index in enumerate(loader):
        curriculum(index.float())
        assert len(method.waiting) == (1 if not number else 0)
        if not number:
            state = curriculum.state_dict()
            saved = state["methods"][0]["tables"]["last"]
            assert saved[index].flatten().tolist() == index.tolist()
    assert method.last.values.flatten().tolist() == [0, 1, 2, 3]


def test_what_was_put_off_belongs_to_its_own_steps_in_the_merge() -> None:
    table = gr.Table("t").allocate(4)
    table.track(torch.full((4,), -1, dtype=torch.int64))
    rows, steps = torch.tensor([3, 1]), torch.tensor([6, 2])
    table.put_off(lambda: table.write(rows, torch.tensor([0.5, 0.25]), step=steps))
    index, values, when = table.local_rows()
    assert index.tolist() == [1, 3]
    assert values.tolist() == [0.25, 0.5]
    assert when.tolist() == [2, 6]


def test_a_table_that_is_made_anew_forgets_what_was_put_off() -> None:
    table = gr.Table("t").allocate(2)
    table.put_off(lambda: table.write(torch.tensor([0]), torch.tensor([1.0])))
    assert table.allocate(2).values.tolist() == [0, 0]


def test_untouched_rows_of_sums_include_what_this_rank_added() -> None:
    table = gr.Table("t", merge="sum").allocate(3)
    table.track(torch.zeros(3, dtype=torch.int64))
    table.add(torch.tensor([1]), torch.tensor([2.0]))
    table.put_off(lambda: table.add(torch.tensor([2]), torch.tensor([3.0])))
    assert table.untouched(torch.tensor([0, 1])).tolist() == [0, 2]
    assert table.untouched(torch.tensor([2])).tolist() == [0], "it waits"
    assert table[torch.tensor([2])].tolist() == [3]


# --- Samples that come twice ------------------------------------------------------------------


class Asks(gr.Method):
    """Notes whether samples may come twice."""

    asks_distinct = True

    def setup(self, run: gr.Run) -> None:
        self.found: list[bool] = []

    def weigh(self, batch: gr.Batch, run: gr.Run) -> None:
        self.found.append(run.distinct)


def test_the_engine_says_whether_a_sample_may_come_twice() -> None:
    found = {}
    for name, options in {"once": {}, "again": {"steps_per_epoch": 4}}.items():
        curriculum = gr.Curriculum(method := Asks(), seed=0)
        for _ in curriculum.loader(range(6), batch_size=2, **options):
            curriculum(torch.ones(2))
        found[name] = method.found
    assert found == {"once": [True] * 3, "again": [False] * 4}


def test_a_call_by_index_alone_may_repeat_samples_until_the_epoch_ends() -> None:
    curriculum = gr.Curriculum(method := Asks(), seed=0)
    loader = curriculum.loader(range(6), batch_size=2)
    for epoch in range(2):
        for number, index in enumerate(loader):
            curriculum(torch.ones(2), index=index)
            if not epoch and not number:
                curriculum(torch.ones(1), index=index[:1])
    assert method.found == [True, False, False, False, True, True, True]


def test_nobody_pays_for_what_nobody_asks() -> None:
    curriculum = gr.Curriculum(gr.Uniform(), seed=0)
    next(iter(curriculum.loader(range(6), batch_size=2)))
    assert curriculum.run.distinct is False
