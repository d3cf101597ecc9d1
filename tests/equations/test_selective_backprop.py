"""Selective backprop by hand: chances, the ring of losses, the rank draw, stale losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import gradatim as gr
from gradatim.selection import keep_chances, rank_weights

RECENT = torch.tensor([0.1, 0.5, 1.0, 2.0])


def bound(method: gr.Method, size: int = 8, batch: int = 4) -> Any:
    curriculum = gr.Curriculum(method, seed=0)
    return curriculum, curriculum.loader(range(size), batch_size=batch)


def ready(method: gr.SelectiveBackprop, recent: torch.Tensor | None = None) -> gr.Run:
    run = gr.Run(size=1000, seed=0)
    method.setup(run)
    if recent is not None:
        method.recent.storage[0, -len(recent) :] = recent
    return run


def test_the_chance_by_hand() -> None:
    """R = (.1, .5, 1, 2), l = 1: .75 for beta 1, .5625 for beta 2; the comparison is <=.

    Jiang et al. 2019, Section 3.1: CDF(l)^beta.
    """
    loss = torch.tensor([1.0])
    assert keep_chances(loss, RECENT).tolist() == [0.75]
    assert keep_chances(loss, RECENT, beta=2).tolist() == [0.5625]
    assert keep_chances(loss, RECENT[[2, 0, 3, 1]], beta=2).tolist() == [0.5625]
    edges = torch.tensor([0.05, 0.1, 2.0, 9.0])
    assert keep_chances(edges, RECENT).tolist() == [0.0, 0.25, 1.0, 1.0]


def test_the_history_counts_what_is_there_and_keeps_all_where_it_is_empty() -> None:
    nan = torch.tensor([math.nan])
    some = torch.cat([nan, nan, RECENT, nan])
    assert keep_chances(torch.tensor([1.0]), some).tolist() == [0.75]
    assert keep_chances(torch.tensor([1.0, 5.0]), nan, beta=3).tolist() == [1.0, 1.0]


def test_chances_rise_with_the_loss_and_beta_0_keeps_all() -> None:
    losses = torch.linspace(0, 3, 50)
    for beta in (0.5, 1.0, 3.0):
        chances = keep_chances(losses, RECENT, beta=beta)
        assert bool((chances.diff() >= 0).all())
        assert 0 <= float(chances.min()) <= float(chances.max()) <= 1
    assert keep_chances(losses, RECENT, beta=0).tolist() == [1.0] * 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keep_chances(RECENT, RECENT, beta=-0.1), "beta must be"),
        (lambda: rank_weights(RECENT, 0.0), "keep must be"),
        (lambda: rank_weights(RECENT, 1.1), "keep must be"),
        (lambda: gr.SelectiveBackprop(-1), "beta must be"),
        (lambda: gr.SelectiveBackprop(history=0), "history must be"),
        (lambda: gr.SelectiveBackprop(stale_epochs=-1), "stale_epochs must be"),
        (lambda: gr.SelectiveBackprop(draw="ranks"), "draw must be"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_exactly_is_a_truth_value() -> None:
    with pytest.raises(TypeError, match="exactly must be True or False"):
        gr.SelectiveBackprop(exactly=1)  # type: ignore[arg-type]


def test_rank_weights_by_hand() -> None:
    """N = 4, keep = .5: .0625, .1875, .3125, .4375 from easiest to hardest."""
    weights = rank_weights(torch.tensor([0.4, 0.1, 0.9, 0.2]), keep=0.5)
    assert weights.tolist() == pytest.approx([0.3125, 0.0625, 0.4375, 0.1875])
    assert rank_weights(RECENT.sqrt(), keep=1.0).tolist() == pytest.approx([0.25] * 4)


def test_the_ring_holds_the_last_losses_of_batches_that_were_trained_on() -> None:
    method = gr.SelectiveBackprop(history=6)
    curriculum, loader = bound(method, size=16)
    rows = []
    for step, index in enumerate(loader):
        kept = curriculum.select(index.float(), 2)
        held = method.recent.values[0].clone()
        assert held[~held.isnan()].tolist() == [float(row) for row in rows][-6:]
        if step == 1:
            curriculum.skip()
            continue
        curriculum(index[kept].float())
        rows += index.tolist()
    assert method.recent.values[0].tolist() == [float(row) for row in rows][-6:]


def test_a_batch_is_compared_with_the_losses_before_it() -> None:
    method = gr.SelectiveBackprop(history=4)
    run = ready(method, RECENT)
    batch = gr.Batch(torch.arange(2), torch.tensor([1.0, 100.0]))
    assert method.chances(batch).tolist() == [0.75, 1.0]
    method.select(batch, 1, run)
    assert method.chances(batch).tolist() == [0.75, 1.0], "selecting adds nothing"
    method.weigh(gr.Batch(torch.arange(1), torch.tensor([1.0])), run)
    assert method.recent.values[0].tolist() == [1.0, 2.0, 1.0, 100.0]


def test_exactly_k_are_taken_and_those_without_a_chance_last() -> None:
    method = gr.SelectiveBackprop(history=4)
    run = ready(method, RECENT)
    losses = torch.tensor([0.0, 3.0, 0.05, 2.5, 0.01])
    taken = set()
    for step in range(40):
        run.step = step
        batch = gr.Batch(torch.arange(5), losses, step=step)
        assert method.select(batch, 2, run).tolist() == [1, 3]
        kept = method.select(batch, 3, run).tolist()
        assert {1, 3} < set(kept)
        taken |= set(kept)
    assert taken == {0, 1, 2, 3, 4}, "among those without a chance, any"


def test_each_by_its_own_toss_varies_and_is_never_empty() -> None:
    method = gr.SelectiveBackprop(history=4, exactly=False)
    run = ready(method, RECENT)
    losses = torch.tensor([0.7] * 20)  # each with chance .5
    counts = []
    for step in range(60):
        run.step = step
        kept = method.select(gr.Batch(torch.arange(20), losses, step=step), 12, run)
        assert kept.unique().numel() == kept.numel()
        counts.append(kept.numel())
    assert len(set(counts)) > 3
    assert 8 < sum(counts) / 60 < 12
    assert max(counts) == 12
    none = gr.Batch(torch.arange(3), torch.zeros(3))
    assert method.select(none, 3, run).numel() == 1


def test_the_own_toss_trains_the_rows_that_it_kept() -> None:
    curriculum, loader = bound(gr.SelectiveBackprop(beta=4, exactly=False), size=64, batch=16)
    for step, index in enumerate(loader):
        kept = curriculum.select(index.float(), 16)
        assert len(kept) == 16 if step == 0 else 1 <= len(kept) < 16
        assert torch.equal(curriculum(index[kept].float()), index[kept].float().mean())
    assert curriculum.epoch == 1


def test_losses_that_are_skipped_are_neither_kept_nor_remembered() -> None:
    method = gr.SelectiveBackprop(history=4)
    run = ready(method, RECENT)
    batch = gr.Batch(torch.arange(3), torch.tensor([math.nan, 1.0, 1.5]))
    assert method.select(batch, 2, run).tolist() == [1, 2]
    method.weigh(gr.Batch(torch.arange(2), torch.ones(2)), run)
    held = method.recent.values[0]
    assert held.isnan().tolist() == [False, True, False, False]


def test_stale_losses_stand_in_for_a_forward_pass_every_other_epoch() -> None:
    method = gr.SelectiveBackprop(stale_epochs=1)
    curriculum, loader = bound(method, size=8)
    fresh = []
    for epoch in range(4):
        for index in loader:
            stored = method.stored(curriculum.index)
            fresh.append(stored is None)
            if stored is None:
                stored = index + 10.0 * (epoch + 1)
            else:
                assert stored.tolist() == (index + 10.0 * epoch).tolist()
            curriculum(index[curriculum.select(stored, 2)].float())
    assert fresh == [True, True, False, False] * 2


def test_a_sample_without_a_stored_loss_counts_as_the_hardest() -> None:
    method = gr.SelectiveBackprop(stale_epochs=1)
    ready(method)
    method.loss.allocate(3)
    method.start_epoch(gr.Run(size=3, seed=0, epoch=1))
    index = torch.arange(3)
    stored = method.stored(index)
    assert stored is not None
    assert stored.tolist() == [0.0] * 3
    method.loss.write(torch.tensor([0, 2]), torch.tensor([1.0, 4.0]))
    stored = method.stored(index)
    assert stored is not None
    assert stored.tolist() == [1.0, 4.0, 4.0]


def test_without_stale_epochs_every_epoch_scores() -> None:
    method = gr.SelectiveBackprop()
    ready(method)
    for epoch in range(3):
        method.start_epoch(gr.Run(size=3, seed=0, epoch=epoch))
        assert method.stored(torch.arange(3)) is None
    assert set(method.tables()) == {"recent"}


def test_ranks_and_steps_draw_their_own_numbers() -> None:
    method = gr.SelectiveBackprop(beta=0)
    run = ready(method)
    batch = gr.Batch(torch.arange(100), torch.ones(100))

    def drawn(**where: int) -> list[int]:
        return method.select(batch, 10, gr.Run(**{**vars(run), **where})).tolist()

    assert drawn() == drawn()
    assert len({tuple(found) for found in (drawn(), drawn(rank=1), drawn(step=1))}) == 3
    assert drawn() != drawn(seed=5)


@pytest.mark.parametrize("draw", ["cdf", "rank"])
def test_nothing_in_a_step_waits_for_the_device(draw: Any) -> None:
    """The meta device has no values, so reading one raises."""
    method = gr.SelectiveBackprop(draw=draw)
    run = ready(method)
    method.recent.to(torch.device("meta"))
    batch = gr.Batch(torch.arange(4), torch.zeros(4, device="meta"))
    assert method.select(batch, 2, run).is_meta
    method.weigh(gr.Batch(torch.arange(2), torch.zeros(2, device="meta")), run)
    assert method.recent.values.is_meta
