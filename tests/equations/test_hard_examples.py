"""Online hard example mining: the largest losses of a batch, with one forward pass or two."""

from __future__ import annotations

import math

import pytest
import torch

import gradatim as gr

LOSSES = torch.tensor([0.1, 0.7, 0.2, 0.5, 0.6])


def weighed(keep: float, losses: torch.Tensor = LOSSES) -> torch.Tensor | None:
    batch = gr.Batch(torch.arange(len(losses)), losses)
    return gr.OHEM(keep).weigh(batch, gr.Run(size=len(losses), seed=0))


def test_the_largest_keep_their_plain_mean() -> None:
    """keep .4 of five: .7 and .6, whose mean is .65."""
    weights = weighed(0.4)
    assert weights is not None
    assert weights.tolist() == [0.0, 2.5, 0.0, 0.0, 2.5]
    assert float((weights * LOSSES).mean()) == pytest.approx(0.65)


def test_a_fraction_is_rounded_up_and_not_by_its_rounding_error() -> None:
    for keep, count in ((0.01, 1), (0.2, 1), (0.21, 2), (0.6, 3), (0.99, 5)):
        weights = weighed(keep)
        assert weights is not None
        assert int((weights > 0).sum()) == count, keep


def test_keeping_all_is_plain_training() -> None:
    assert weighed(1.0) is None
    curriculum = gr.Curriculum(gr.OHEM(keep=1.0), seed=0)
    plain = gr.Curriculum(seed=0)
    batches = zip(
        curriculum.loader(range(10), batch_size=4), plain.loader(range(10), 4), strict=True
    )
    for index, same in batches:
        assert torch.equal(index, same)
        losses = index / 7
        assert torch.equal(curriculum(losses), losses.mean())
        plain(losses)
    assert curriculum.epoch == 1


def test_selected_batches_are_the_largest_and_are_not_cut_again() -> None:
    curriculum = gr.Curriculum(gr.OHEM(keep=0.1), seed=0)
    for index in curriculum.loader(range(12), batch_size=6):
        losses = index.float()
        kept = curriculum.select(losses, 3)
        assert losses[kept].sort().values.tolist() == losses.sort().values[-3:].tolist()
        assert torch.equal(curriculum(losses[kept]), losses[kept].mean())
    assert curriculum.epoch == 1


def test_the_call_alone_gives_the_mean_and_gradient_of_the_hardest() -> None:
    curriculum = gr.Curriculum(gr.OHEM(keep=0.5), seed=0)
    for index in curriculum.loader(range(12), batch_size=6):
        losses = index.float().requires_grad_()
        loss = curriculum(losses)
        loss.backward()
        top = losses.detach().topk(3)
        assert float(loss.detach()) == pytest.approx(float(top.values.mean()))
        assert losses.grad is not None
        assert losses.grad.nonzero().flatten().tolist() == top.indices.sort().values.tolist()
        assert losses.grad[top.indices].tolist() == pytest.approx([1 / 3] * 3)


def test_equal_losses_keep_the_first_rows_and_nan_is_never_hard() -> None:
    equal = weighed(0.5, torch.ones(4))
    assert equal is not None
    assert equal.tolist() == [2.0, 2.0, 0.0, 0.0]
    skipped = weighed(0.5, torch.tensor([math.nan, 1.0, 0.5, 0.1]))
    assert skipped is not None
    assert skipped.tolist() == [0.0, 2.0, 2.0, 0.0]


def test_an_epoch_without_a_selection_needs_no_warning() -> None:
    curriculum = gr.Curriculum(gr.OHEM(), seed=0)
    for index in curriculum.loader(range(8), batch_size=4):
        curriculum(index.float())
    assert curriculum.epoch == 1


@pytest.mark.parametrize("keep", [0.0, 1.5, math.nan])
def test_bad_fractions_are_refused_by_name(keep: float) -> None:
    with pytest.raises(ValueError, match="keep must be"):
        gr.OHEM(keep)


def test_nothing_in_a_step_waits_for_the_device() -> None:
    batch = gr.Batch(torch.arange(4), torch.zeros(4, device="meta"))
    run = gr.Run(size=4, seed=0)
    method = gr.OHEM(0.5)
    weights = method.weigh(batch, run)
    assert weights is not None
    assert weights.is_meta
    assert method.select(batch, 2, run).is_meta
