"""How ranks come to the same tables: rules of the merge, and what travels between ranks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import gradatim as gr
from ddp.toy import differences
from gradatim import distributed
from gradatim.plan import Plan

# (rank 0, rank 1): what each wrote, as {sample: (step, value)}; 6 samples.
WRITTEN = (
    {0: (1, 10.0), 1: (5, 11.0), 2: (2, 12.0), 3: (4, 13.0)},
    {0: (2, 20.0), 1: (3, 21.0), 2: (2, 22.0), 4: (0, 24.0)},
)
# The later step wins; at equal steps the higher rank; sample 5 keeps its fill.
LAST = [20.0, 11.0, 22.0, 13.0, 24.0, -1.0]
SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 2))
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int16, torch.int64)


def _tracked(table: gr.Table) -> gr.Table:
    table.allocate(6).track(torch.full((6,), -1))
    return table


def _rows(values: list[float], table: gr.Table) -> torch.Tensor:
    column = torch.tensor(values, dtype=torch.float64)
    return column.reshape(-1, *[1] * len(table.shape)).expand(-1, *table.shape)


def merge_last(rank: int, world: int) -> list[Any]:
    found = []
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        table = _tracked(gr.Table("t", shape, dtype, fill=-1))
        # One write per step, in the order of the steps.
        for sample, (step, value) in sorted(WRITTEN[rank].items(), key=lambda item: item[1][0]):
            table.write(torch.tensor([sample]), _rows([value], table), step=step)
        table.merge_ranks()
        first = table.values.clone()
        table.merge_ranks()  # nothing is left to merge
        found.append((first, table.values))
    flags = _tracked(gr.Table("flag", dtype=torch.bool))
    flags.write(torch.tensor([rank, 5]), torch.tensor([True, rank == 1]), step=rank)
    flags.merge_ranks()
    return [found, flags.values]


def test_last_takes_the_later_step_and_of_ties_the_higher_rank(run_ranks: Any) -> None:
    for found, flags in run_ranks(merge_last, 2):
        for (shape, dtype), (first, again) in zip(
            itertools.product(SHAPES, DTYPES), found, strict=True
        ):
            for values in (first, again):
                assert values.dtype == dtype
                assert values.shape == (6, *shape)
                assert values.reshape(6, -1)[:, 0].tolist() == LAST
                assert (values.reshape(6, -1) == values.reshape(6, -1)[:, :1]).all()
        assert flags.tolist() == [True, True, False, False, False, True]


def merge_open(rank: int, world: int) -> list[Any]:
    silent, one_sided = (
        _tracked(gr.Table(name, shape=None, fill=-1.0)) for name in ("silent", "one_sided")
    )
    if rank == 1:
        one_sided.write(torch.tensor([4]), torch.tensor([[1.0, 2.0]]), step=0)
    for table in (silent, one_sided):
        table.merge_ranks()
    return [silent.allocated, one_sided.values]


def test_a_rank_that_wrote_nothing_takes_the_open_shape_from_the_other(run_ranks: Any) -> None:
    for silent, values in run_ranks(merge_open, 2):
        assert not silent
        assert values[4].tolist() == [1.0, 2.0]
        assert values[:4].tolist() == [[-1.0, -1.0]] * 4


def merge_sum(rank: int, world: int) -> list[Any]:
    found = []
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        table = _tracked(gr.Table("t", shape, dtype, fill=1, merge="sum"))
        for _ in range(2):
            # Sample 0 twice on each rank, sample 1 + rank once, sample 4 by rank 1 alone.
            samples = [0, 0, 1 + rank, 4]
            deltas = [1.0, 2.0, 4.0, 8.0 * rank]
            table.add(torch.tensor(samples), _rows(deltas, table))
        before = table.values.clone()
        table.merge_ranks()
        after = table.values.clone()
        table.merge_ranks()
        found.append((before, after, table.values))
    return found


def test_sums_add_up_once(run_ranks: Any) -> None:
    own = [[7, 9, 1, 1, 1, 1], [7, 1, 9, 1, 17, 1]]
    for rank, found in enumerate(run_ranks(merge_sum, 2)):
        for before, after, again in found:
            assert before.reshape(6, -1)[:, -1].tolist() == own[rank], "own rows at once"
            assert after.reshape(6, -1)[:, -1].tolist() == [13, 9, 9, 1, 17, 1]
            assert differences(after, again) == []


def merge_scalars(rank: int, world: int) -> list[float]:
    total, last = gr.Scalar("total", merge="sum", fill=1.0), gr.Scalar("last", fill=2.0)
    alone, none = gr.Scalar("alone"), gr.Scalar("none", fill=math.inf)
    scalars = (total, last, alone, none)
    for scalar in scalars:
        scalar.table.track(torch.full((1,), -1))
    total.add(10.0**rank)
    total.add(torch.tensor(0.5))
    last.write(3.0 + rank)
    if rank == 0:
        alone.write(7.0)
    for scalar in scalars:
        scalar.table.merge_ranks()
    return [float(scalar.value) for scalar in scalars]


def test_scalars_merge_as_tables_do(run_ranks: Any) -> None:
    # 1 + (1 + .5) + (10 + .5); the higher rank's 4; the only one written; the fill.
    assert run_ranks(merge_scalars, 2) == [[13.0, 4.0, 7.0, math.inf]] * 2


def gather(rank: int, world: int) -> list[Any]:
    count = (2, 0, 3)[rank]
    columns = [
        torch.arange(count) + 10 * rank,
        torch.full((count, 2), rank + 0.5, dtype=torch.bfloat16),
        torch.full((count,), rank == 2),
        torch.full((count, 1, 3), rank, dtype=torch.complex64),
        torch.full((count,), math.nan, dtype=torch.float16),
    ]
    empty = distributed.gather_rows([torch.zeros(0, 4)])
    means = [
        distributed.global_mean(torch.arange(float(count)) + rank),
        distributed.global_mean(torch.zeros(0)),
        distributed.global_mean(torch.ones(count, dtype=torch.bfloat16)),
    ]
    return [distributed.gather_rows(columns), empty, means]


def test_rows_of_every_dtype_and_length_travel(run_ranks: Any) -> None:
    for rows, empty, means in run_ranks(gather, 3):
        index, half, flag, deep, nan = rows
        assert index.tolist() == [0, 1, 20, 21, 22]
        assert half.dtype == torch.bfloat16
        assert half.tolist() == [[0.5] * 2] * 2 + [[2.5] * 2] * 3
        assert flag.tolist() == [False, False, True, True, True]
        assert deep.shape == (5, 1, 3)
        assert deep[:, 0, 0].real.tolist() == [0, 0, 2, 2, 2]
        assert nan.dtype == torch.float16
        assert nan.isnan().all()
        assert empty[0].shape == (0, 4)
        # Rank 0 has 0, 1; rank 1 nothing; rank 2 has 2, 3, 4.
        assert float(means[0]) == 2.0
        assert math.isnan(float(means[1]))
        assert means[2].dtype == torch.float32
        assert float(means[2]) == 1.0


def test_checksum_tells_all_orders_of_few_samples_apart() -> None:
    orders = [torch.tensor(order) for order in itertools.permutations(range(6))]
    assert len({Plan(order).checksum() for order in orders}) == math.factorial(6)
    assert Plan(torch.tensor([0, 1])).checksum() != Plan(torch.tensor([0, 1, 0])).checksum()


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("start", [0, 3, 9, 10])
def test_shares_hold_the_rest_of_the_plan_once(world: int, start: int) -> None:
    index = torch.tensor([5, 3, 9, 1, 0, 2, 7, 8, 6, 4])
    shares = [list(Plan(index).share(start, world, rank)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    flat = [code for row in zip(*shares, strict=True) for code in row]
    rest = index[start:].tolist()
    assert flat[: len(rest)] == rest
    assert flat[len(rest) :] == [~5] * (len(flat) - len(rest)), "padding is marked"
    assert len(flat) - len(rest) < world
