"""Tables, scalars and the log: many steps applied at once are as one update per batch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import gradatim as gr
from engine.probes import Average, Diary, LastLoss, Samples, Visits
from gradatim.clock import Moment
from gradatim.log import Log, rounds
from gradatim.table import last_of_each

# --- Table ------------------------------------------------------------------------------------


def test_a_table_starts_at_its_fill_with_its_shape_and_dtype() -> None:
    table = gr.Table("state", shape=(2, 3), dtype=torch.float64, fill=-1.5).allocate(4)
    assert table.values.shape == (4, 2, 3)
    assert table.values.dtype == torch.float64
    assert bool((table.values == -1.5).all())


def test_write_replaces_rows_in_the_tables_dtype_and_detached() -> None:
    table = gr.Table("loss", dtype=torch.float16).allocate(4)
    values = torch.tensor([0.5, 0.25], dtype=torch.float64, requires_grad=True)
    table.write(torch.tensor([3, 0]), values)
    assert table.values.tolist() == [0.25, 0.0, 0.0, 0.5]
    assert table.values.dtype == torch.float16
    assert not table.values.requires_grad
    assert table[torch.tensor([3, 3, 1])].tolist() == [0.5, 0.5, 0.0]


def test_add_adds_and_repeated_indices_add_up() -> None:
    table = gr.Table("count", dtype=torch.int64, merge="sum").allocate(3)
    table.add(torch.tensor([2, 0, 2]), torch.tensor([1, 5, 10]))
    assert table.values.tolist() == [5, 0, 11]
    assert table[torch.tensor([2])].tolist() == [11]


def test_rows_that_are_read_are_copies() -> None:
    table = gr.Table("loss").allocate(3)
    rows = table[torch.tensor([0, 1])]
    rows.fill_(9)
    assert table.values.tolist() == [0.0, 0.0, 0.0]


def test_whole_tables_move_with_the_losses() -> None:
    table = gr.Table("loss").allocate(3)
    table.to(torch.device("meta"))
    assert table.values.device.type == "meta"


@pytest.mark.parametrize("merge", ["last", "sum"])
def test_d44_tables_and_scalars_are_copied_and_pickled(merge: Any) -> None:
    table = gr.Table("t", dtype=torch.float64, fill=2, merge=merge).allocate(3)
    scalar = gr.Scalar("s", merge=merge, fill=2)
    if merge == "last":
        table.write(torch.tensor([1]), torch.tensor([7.0]))
        scalar.write(7.0)
    else:
        table.add(torch.tensor([1]), torch.tensor([5.0]))
        scalar.add(5.0)
    for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        twin, single = duplicate(table), duplicate(scalar)
        assert repr(twin) == repr(table)
        assert repr(single) == repr(scalar)
        assert twin.values.tolist() == [2.0, 7.0, 2.0]
        assert float(single.value) == 7.0
        twin.storage.zero_()
        single.table.storage.zero_()
        assert table.values.tolist() == [2.0, 7.0, 2.0]
        assert float(scalar.value) == 7.0


def test_a_scalar_is_float64_and_takes_numbers_and_tensors() -> None:
    scalar = gr.Scalar("tau", fill=0.1)
    assert scalar.value.dtype == torch.float64
    assert float(scalar.value) == 0.1
    scalar.write(torch.tensor(0.3, dtype=torch.float64, requires_grad=True))
    assert float(scalar.value) == 0.3
    scalar.write(1 / 3)
    assert float(scalar.value) == 1 / 3
    total = gr.Scalar("total", merge="sum")
    total.add(2.5)
    total.add(torch.tensor(1.5))
    assert float(total.value) == 4.0


def test_declared_state_is_found_by_name_and_names_are_unique() -> None:
    class Two(gr.Method):
        def setup(self, run: gr.Run) -> None:
            self.first = gr.Table("a")
            self.second = gr.Scalar("b")

    method = Two()
    method.setup(gr.Run(size=3, seed=0))
    assert list(method.tables()) == ["a", "b"]
    assert method.tables()["a"] is method.first
    method.third = gr.Table("a")  # type: ignore[attr-defined]
    with pytest.raises(
        ValueError, match=r"name must be different for each table of a method. Got "
    ):
        method.tables()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_last_of_each_is_what_a_dictionary_keeps(index: list[int]) -> None:
    last = {value: position for position, value in enumerate(index)}
    found = last_of_each(torch.tensor(index))
    assert found.tolist() == [last[value] for value in sorted(last)]


# --- rows whose shape the model decides ---------------------------------------------------------


def test_an_open_shape_is_taken_from_the_first_rows_and_kept() -> None:
    table = gr.Table("features", shape=None, fill=-1.0)
    assert not table.allocated
    assert not table.allocate(4).allocated
    with pytest.raises(RuntimeError, match="no rows yet: nothing was written"):
        _ = table.values
    table.write(torch.tensor([2]), torch.tensor([[5.0, 6.0]]))
    assert table.values.tolist() == [[-1, -1], [-1, -1], [5, 6], [-1, -1]]
    with pytest.raises(ValueError, match=r"of rows of shape \(2,\), as before. Got \(3,\)"):
        table.write(torch.tensor([0]), torch.zeros(1, 3))
    assert repr(table).startswith("Table('features', shape=None")
    with pytest.raises(ValueError, match="shape must be given where merge is"):
        gr.Table("sums", shape=None, merge="sum")


def test_a_checkpoint_carries_an_open_shape_or_that_there_is_none() -> None:
    table = gr.Table("features", shape=None).allocate(3)
    table.write(torch.tensor([1]), torch.ones(1, 2))
    twin = gr.Table("features", shape=None).allocate(3)
    assert twin.takes(table.storage, 3)
    assert not twin.takes(table.storage, 4)
    twin.restore(table.storage.clone())
    assert torch.equal(twin.values, table.values)
    twin.restore(None)
    assert not twin.allocated
    assert twin.takes(None, 3)
    assert not gr.Table("loss").allocate(3).takes(None, 3)


# --- Log and rounds ---------------------------------------------------------------------------


def filled(batches: list[tuple[list[int], list[float]]]) -> Log:
    log = Log()
    for step, (index, losses) in enumerate(batches):
        values = torch.tensor(losses)
        columns = {"twice": values * 2, "number": torch.tensor(index)}
        now = Moment(rate=0.5**step, previous=0.5 ** (step - 1), time=step / 4)
        log.append(torch.tensor(index), values, columns, step=step, now=now)
    return log


def test_the_log_keeps_every_row_with_its_step_rate_and_clock() -> None:
    log = filled([([3, 1], [0.5, 0.25]), ([2], [0.125])])
    rows = log.rows()
    assert rows["index"].tolist() == [3, 1, 2]
    assert rows["losses"].tolist() == [0.5, 0.25, 0.125]
    assert rows["step"].tolist() == [0, 0, 1]
    assert rows["learning_rate"].tolist() == [1.0, 1.0, 0.5]
    assert rows["previous_rate"].tolist() == [2.0, 2.0, 1.0]
    assert rows["clock"].tolist() == [0.0, 0.0, 0.25]
    assert rows["learning_rate"].dtype == rows["clock"].dtype == torch.float64
    assert rows["columns"]["twice"].tolist() == [1.0, 0.5, 0.25]
    assert len(log) == 2
    # 8 bytes of index, 4 of loss, 4 + 8 of columns per row
    assert log.bytes == 3 * 24
    log.clear()
    assert (len(log), log.bytes) == (0, 0)


def test_the_log_copies_what_it_is_given() -> None:
    log, losses, column = Log(), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    log.append(torch.tensor([0, 1]), losses, {"c": column}, step=0)
    losses.zero_()
    column.zero_()
    assert log.rows()["losses"].tolist() == [1.0, 2.0]
    assert log.rows()["columns"]["c"].tolist() == [3.0, 4.0]


def test_a_restored_log_is_the_same_log() -> None:
    log = filled([([3, 1], [0.5, 0.25]), ([2, 3], [0.125, 1.0]), ([1], [2.0])])
    twin = Log()
    twin.restore(log.rows(), torch.device("cpu"))
    assert len(twin) == len(log) == 3
    assert twin.bytes == log.bytes
    ours, theirs = log.rows(), twin.rows()
    for name in ("index", "losses", "step", "learning_rate", "previous_rate", "clock"):
        assert torch.equal(ours[name], theirs[name]), name
    for name, column in ours["columns"].items():
        assert torch.equal(column, theirs["columns"][name])


BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 64)), min_size=1, max_size=6),
    min_size=1,
    max_size=8,
)


def as_batches(drawn: list[list[tuple[int, int]]]) -> list[tuple[list[int], list[float]]]:
    return [([k for k, _ in batch], [v / 4 for _, v in batch]) for batch in drawn]


def slowly(batches: list[tuple[list[int], list[float]]]) -> dict[int, list[tuple[int, float]]]:
    """What each sample went through: (step, mean of its losses in that step), in a plain loop."""
    history: dict[int, list[tuple[int, float]]] = {}
    for step, (index, losses) in enumerate(batches):
        own: dict[int, list[float]] = {}
        for k, loss in zip(index, losses, strict=True):
            own.setdefault(k, []).append(loss)
        for k, values in own.items():
            history.setdefault(k, []).append((step, sum(values) / len(values)))
    return history


@given(BATCHES)
def test_rounds_hold_each_samples_history_in_order_and_no_sample_twice(drawn: Any) -> None:
    batches = as_batches(drawn)
    found: dict[int, list[tuple[int, float]]] = {}
    for part in rounds(filled(batches).rows()):
        index = part["index"].tolist()
        assert len(set(index)) == len(index)
        steps, losses = part["step"].tolist(), part["losses"].tolist()
        for k, step, loss, rate in zip(
            index, steps, losses, part["learning_rate"].tolist(), strict=True
        ):
            found.setdefault(k, []).append((step, loss))
            assert rate == 0.5**step
        # Columns stay beside their rows; whole numbers are not averaged.
        torch.testing.assert_close(part["columns"]["twice"], part["losses"] * 2)
        assert part["columns"]["number"].tolist() == index
    expected = slowly(batches)
    assert found.keys() == expected.keys()
    for k, history in expected.items():
        assert [step for step, _ in found[k]] == [step for step, _ in history]
        assert [loss for _, loss in found[k]] == pytest.approx([loss for _, loss in history])


@hypothesis.settings(max_examples=50)
@given(BATCHES, st.sampled_from([0, 60, 10**9]))
def test_the_log_applied_is_one_update_per_batch(drawn: Any, limit: int) -> None:
    """An exponential average and a count notice every update and its order.

    Samples repeat across steps and within batches; the log is applied at every step (limit 0),
    every few, or once.
    """
    batches = as_batches(drawn)
    average, visits, last = Average(), Visits(), LastLoss()
    curriculum = gr.Curriculum(average, visits, last)
    longest = max(len(index) for index, _ in batches)
    loader = curriculum.loader(Samples(7), batch_size=longest, steps_per_epoch=len(batches))
    curriculum.epochs.log_limit_bytes = limit
    for (index, losses), _ in zip(batches, loader, strict=True):
        curriculum(torch.tensor(losses), index=torch.tensor(index))
    assert curriculum.epoch == 1
    expected = torch.zeros(7, dtype=torch.float64)
    for k, history in slowly(batches).items():
        for _, loss in history:
            expected[k] = 0.75 * expected[k] + 0.25 * loss
        assert float(last.loss.values[k]) == pytest.approx(history[-1][1])
        assert int(visits.visits.values[k]) == len(history)
    torch.testing.assert_close(average.average.values, expected, rtol=1e-6, atol=1e-7)


def test_a_small_log_limit_changes_when_but_not_what() -> None:
    """To the bit, over epochs in which samples repeat; and the log does stay small."""

    class Watching(Average):
        applied = 0

        def observe(self, batch: gr.Batch, run: gr.Run) -> None:
            self.applied += 1
            super().observe(batch, run)

    found, applied = [], []
    for limit in (0, 200, 2**28):
        curriculum = gr.Curriculum(method := Watching(), seed=6)
        loader = curriculum.loader(Samples(6), batch_size=4, steps_per_epoch=7)
        curriculum.epochs.log_limit_bytes = limit
        for epoch in range(2):
            for batch in loader:
                curriculum(batch / 8 + epoch)
                assert curriculum.epochs.log.bytes <= max(limit, 2**20) + 4 * 12
                if limit == 0:
                    assert len(curriculum.epochs.log) == 0
        found.append(method.average.values.clone())
        applied.append(method.applied)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert applied[0] > applied[1] > applied[2]


def test_the_documented_limit_is_256_mebibytes() -> None:
    curriculum = gr.Curriculum()
    assert curriculum.epochs.log_limit_bytes == 256 * 1024**2


def test_observed_steps_say_when_and_methods_that_observe_nothing_cost_nothing() -> None:
    diary = Diary()
    curriculum = gr.Curriculum(diary)
    order = []
    for batch in curriculum.loader(Samples(10), batch_size=4):
        order += batch.long().tolist()
        curriculum(batch)
    assert diary.column("index") == order
    assert diary.column("step") == [0] * 4 + [1] * 4 + [2] * 2
    silent = gr.Curriculum(gr.Uniform(), gr.Focal())
    stream = iter(silent.loader(Samples(10), batch_size=4))
    silent(next(stream))
    assert len(silent.epochs.log) == 0
