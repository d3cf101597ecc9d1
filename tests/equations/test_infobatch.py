"""InfoBatch: Qin et al. 2024; methods 10.3 and trap 12."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

import gradatim as gr


def seen(method: gr.InfoBatch, scores: Any, *, epoch: int = 1, seed: int = 0) -> gr.Run:
    """The method after an epoch in which the samples had these losses."""
    scores = torch.as_tensor(scores)
    run = gr.Run(size=scores.numel(), seed=seed, epoch=epoch)
    method.setup(run)
    method.score.allocate(scores.numel()).write(torch.arange(scores.numel()), scores)
    return run


def planned(method: gr.InfoBatch, run: gr.Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples an epoch holds, bool (N,), and their weights, 0 where left out."""
    pool = method.plan(gr.Pool(torch.arange(run.size)), run)
    inside, weights = torch.zeros(run.size, dtype=torch.bool), torch.zeros(run.size)
    inside[pool.index] = True
    weights[pool.index] = 1.0 if pool.weights is None else pool.weights
    return inside, weights


def trained(method: gr.Method, epochs: int, *, size: int = 40, **options: Any) -> Any:
    """Train a linear model; batches of samples, losses and parameters."""
    generator = torch.Generator().manual_seed(5)
    features, targets = torch.randn(size, 3, generator=generator), torch.arange(size) % 2
    weight = torch.zeros(3, 2, requires_grad=True)
    curriculum = gr.Curriculum(method, seed=3)
    data = TensorDataset(features, targets, torch.arange(size))
    loader = curriculum.loader(data, batch_size=8, **options)
    epochs_seen, losses, lengths = [], [], []
    for _ in range(epochs):
        index = []
        lengths.append(len(loader))
        for x, y, number in loader:
            loss = curriculum(F.cross_entropy(x @ weight, y, reduction="none"))
            loss.backward()
            assert weight.grad is not None
            with torch.no_grad():
                weight -= 0.5 * weight.grad
            weight.grad = None
            index.append(number)
            losses.append(loss.detach())
        epochs_seen.append(index)
    return curriculum, epochs_seen, losses, weight.detach(), lengths


# --- The rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "scores", "low"),
    [
        ("mean", [0.1, 0.2, 0.3, 1.0], [0, 1, 2]),  # the mean is .4
        ("mean", [0.1, 0.2, 0.3, 0.35, 0.35, 0.35, 1e6], [0, 1, 2, 3, 4, 5]),
        (0.5, [0.1, 0.2, 0.3, 0.35, 0.35, 0.35, 1e6], [0, 1, 2]),  # the median is .35
        (0.5, [0.1, 0.2, 0.3, 0.35, 0.35, 0.35, 0.9], [0, 1, 2]),
        (0.5, [0.1, 0.2, 0.3, 1.0], [0]),  # between .2 and .3: the lower one
        (0.99, [0.1] * 7, []),  # as float32, where a mean of equal scores may be above them
        (0.5, [math.nan, math.nan, 0.1, 0.2, 0.3], [2]),  # those never seen are not low
        (0.5, [math.nan] * 3, []),
    ],
)
def test_a_quantile_as_threshold_is_not_moved_by_an_outlier(threshold, scores, low) -> None:
    """D52: one huge loss moves the mean, and then nearly all are low."""
    method = gr.InfoBatch(None, threshold=threshold)
    seen(method, scores)
    assert method.low(torch.arange(len(scores))).nonzero().squeeze(1).tolist() == low


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, math.nan, "median"])
def test_a_threshold_outside_its_range_is_refused(threshold: Any) -> None:
    with pytest.raises(ValueError, match="threshold must be"):
        gr.InfoBatch(None, threshold=threshold)


def test_qin2024_eq3_low_is_below_the_mean_by_hand() -> None:
    """H = .1, .2, .3, 1 has mean .4: the first three are low."""
    method = gr.InfoBatch(8)
    run = seen(method, [0.1, 0.2, 0.3, 1.0])
    assert method.low(torch.arange(run.size)).tolist() == [True, True, True, False]
    assert method.low(torch.tensor([3, 1])).tolist() == [False, True]


def test_qin2024_eq4_kept_low_samples_weigh_one_over_one_minus_r() -> None:
    for ratio, weight in ((0.5, 2.0), (0.75, 4.0), (0.2, 1.25)):
        for seed in range(20):
            method = gr.InfoBatch(8, ratio=ratio)
            inside, weights = planned(method, seen(method, [0.1, 0.2, 0.3, 1.0], seed=seed))
            assert inside[3]
            assert weights[3] == 1
            assert set(weights[:3].tolist()) <= {0.0, weight}


def test_fixed_mode_keeps_the_floor_and_weighs_by_the_exact_ratio() -> None:
    """127 low: the authors' code keeps 63 with weight 2, 126 in all: .9921 of the truth."""
    method = gr.InfoBatch(8, mode="fixed")
    run = seen(method, [0.1] * 127 + [1.0])
    inside, weights = planned(method, run)
    assert int(inside[:127].sum()) == 63
    assert weights[:127].unique().tolist() == pytest.approx([0.0, 127 / 63])
    assert float(weights[:127].double().sum()) == pytest.approx(127, rel=1e-6)
    assert (inside[127], weights[127]) == (True, 1)


@pytest.mark.parametrize(("low", "ratio", "kept"), [(1, 0.5, 1), (10, 0.7, 3), (3, 0.99, 1)])
def test_fixed_mode_always_keeps_one_and_rounds_as_written(
    low: int, ratio: float, kept: int
) -> None:
    """(1 - .7) * 10 is 3.0000000000000004 or 2.9999999999999996, by the way it is calculated."""
    method = gr.InfoBatch(8, ratio=ratio, mode="fixed")
    run = seen(method, [0.1] * low + [1.0])
    assert int(planned(method, run)[0][:low].sum()) == kept


def test_the_draw_is_new_in_each_epoch_and_the_same_for_a_seed() -> None:
    method = gr.InfoBatch(None)
    draws = []
    for epoch, seed in ((1, 0), (1, 0), (2, 0), (1, 1)):
        run = seen(method, torch.arange(50.0), epoch=epoch, seed=seed)
        draws.append(planned(method, run)[0].tolist())
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0] != draws[3]


# --- The threshold ----------------------------------------------------------------------------


def test_trap_12_equal_scores_prune_nobody() -> None:
    """50,000 entries of .1 are all below their float32 mean in a peer's first epoch."""
    scores = torch.full((50_000,), 0.1)
    method = gr.InfoBatch(8)
    run = seen(method, scores)
    assert not method.low(torch.arange(run.size)).any()
    pool = gr.Pool(torch.arange(run.size))
    assert method.plan(pool, run) is pool


@pytest.mark.parametrize("size", [3, 7, 10, 49, 1000, 50_001])
@pytest.mark.parametrize("value", [0.1, 0.3, 1e-30, 1e30, -0.7])
def test_trap_12_no_number_of_equal_scores_prunes_anybody(value: float, size: int) -> None:
    method = gr.InfoBatch(8)
    seen(method, torch.full((size,), value))
    assert not method.low(torch.arange(size)).any()


def test_the_mean_is_over_samples_that_were_seen() -> None:
    """Unseen ones, which a peer counts as a constant, are neither in the mean nor low."""
    method = gr.InfoBatch(8)
    run = seen(method, [0.1, math.nan, 0.3, math.nan])
    assert method.low(torch.arange(4)).tolist() == [True, False, False, False]
    run = seen(method, [math.nan] * 4)
    assert not method.low(torch.arange(4)).any()
    assert planned(method, run)[1].tolist() == [1.0] * 4


def test_the_mean_is_not_rounded_to_the_scores_precision() -> None:
    """1, 1, 1 and the next float32 have a mean of 1 + 2^-25, which float32 takes for 1."""
    method = gr.InfoBatch(8)
    seen(method, [1.0, 1.0, 1.0, 1.0 + 2**-23])
    assert method.low(torch.arange(4)).tolist() == [True, True, True, False]


def test_a_pool_that_was_narrowed_has_its_own_mean_and_keeps_its_weights() -> None:
    method = gr.InfoBatch(8, ratio=0.5, mode="fixed")
    run = seen(method, [0.1, 0.2, 0.9, 5.0, 0.3])
    pool = gr.Pool(torch.tensor([4, 2, 0])).weigh(torch.tensor([3.0, 5.0, 7.0]))
    plan = method.plan(pool, run)  # mean .433: 4 and 0 are low, one of them is kept, of weight 2
    assert plan.index.numel() == 2
    assert plan.weights is not None
    weights = dict(zip(plan.index.tolist(), plan.weights.tolist(), strict=True))
    assert weights.pop(2) == 5
    assert weights in ({4: 6.0}, {0: 14.0})


# --- The schedule -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planned_epochs", "delta", "pruned"),
    [
        (8, 0.875, range(1, 7)),
        (10, 0.875, range(1, 9)),
        (10, 0.7, range(1, 7)),  # .7 * 10 = 7.000000000000001 in other orders
        (30, 0.1, range(1, 3)),  # .1 * 30 = 3.0000000000000004
        (4, 1.0, range(1, 4)),
        (4, 0.0, range(0)),
        (1, 0.875, range(0)),
    ],
)
def test_the_first_epoch_and_those_after_delta_are_complete(
    planned_epochs: int, delta: float, pruned: range
) -> None:
    method = gr.InfoBatch(planned_epochs, delta=delta)
    assert [e for e in range(planned_epochs + 5) if method.prunes(e)] == list(pruned)
    for epoch in range(planned_epochs + 2):
        run = seen(method, torch.arange(64.0), epoch=epoch)
        inside, weights = planned(method, run)
        assert bool(inside.all()) == (epoch not in pruned)
        assert weights[32:].eq(1).all()
    assert gr.InfoBatch(None).prunes(10_000)


def test_planned_steps_are_honest() -> None:
    """Random where samples may be skipped, so None; exact where not."""
    curriculum = trained(gr.InfoBatch(6, delta=0.5), 0)[0]
    assert curriculum.planned_steps(1) == 5
    assert curriculum.planned_steps(2) is None
    curriculum, seen_in, _, _, lengths = trained(gr.InfoBatch(6, delta=0.5), 3)
    assert lengths == [len(index) for index in seen_in]
    assert lengths[0] == 5
    assert max(lengths[1:]) < 5
    assert curriculum.planned_steps(3) == 15
    for plain in (gr.InfoBatch(6, ratio=0.0), gr.InfoBatch(6, delta=0.0)):
        assert trained(plain, 0)[0].planned_steps(6) == 30
    fixed = trained(gr.InfoBatch(6), 0, steps_per_epoch=4)[0]
    assert fixed.planned_steps(6) == 24


# --- In training ------------------------------------------------------------------------------


def test_high_samples_are_in_every_epoch_and_scores_are_unweighted_losses() -> None:
    method = gr.InfoBatch(None, ratio=0.6)
    curriculum, seen_in, *_ = trained(method, 1)
    assert sorted(torch.cat(seen_in[0]).tolist()) == list(range(40))
    scores = curriculum.scores()["InfoBatch.score"]
    plan = curriculum.epochs.plan()
    low = scores < scores.double().mean()
    assert set((~low).nonzero().squeeze(1).tolist()) <= set(plan.index.tolist())
    kept = plan.index[low[plan.index]]
    assert 0 < kept.numel() < int(low.sum())
    assert plan.weights is not None
    torch.testing.assert_close(plan.weights[kept], torch.full((kept.numel(),), 2.5))
    assert plan.weights[plan.index[~low[plan.index]]].eq(1).all()


def test_skipped_samples_keep_their_score_and_others_take_the_new_one() -> None:
    curriculum = gr.Curriculum(gr.InfoBatch(None), seed=1)
    loader = curriculum.loader(TensorDataset(torch.arange(20.0)), batch_size=6)
    for (x,) in loader:
        curriculum(x + 1)
    shown = []
    for (x,) in loader:
        curriculum(x + 100)  # weights of 2 must not enter
        shown += x.long().tolist()
    scores = curriculum.scores()["InfoBatch.score"]
    expected = torch.arange(20.0) + 1
    expected[shown] = torch.tensor(shown) + 100.0
    assert len(shown) < 20
    assert torch.equal(scores, expected)


def test_the_loss_is_the_mean_of_weighted_losses_over_the_batch() -> None:
    curriculum = gr.Curriculum(gr.InfoBatch(None, mode="fixed"), seed=1)
    loader = curriculum.loader(TensorDataset(torch.arange(9.0)), batch_size=20)
    for (x,) in loader:
        curriculum(x)
    for (x,) in loader:  # mean 4: four low, two of them kept, of weight 2
        assert x.numel() == 7
        loss = curriculum(x)
        assert float(loss) == pytest.approx(float((x * torch.where(x < 4, 2, 1)).sum()) / 7)


def test_a_survey_moves_no_score() -> None:
    method = gr.InfoBatch(None)
    run = seen(method, [0.5, 0.6])
    index = torch.arange(2)
    method.observe(gr.Batch(index, torch.tensor([9.0, 1.0]), surveyed=True), run)
    assert method.score.values.tolist() == pytest.approx([0.5, 0.6])
    method.observe(gr.Batch(index, torch.tensor([9.0, 1.0])), run)
    assert method.score.values.tolist() == [9.0, 1.0]


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"delta": 0.0}, {"planned_epochs": 1}])
def test_r_of_zero_is_plain_training_to_the_bit(settings: dict[str, Any]) -> None:
    plain = trained(gr.Uniform(), 4)
    ours = trained(gr.InfoBatch(**{"planned_epochs": 4, **settings}), 4)
    other = trained(gr.InfoBatch(4), 4)
    for epoch, batches in enumerate(plain[1]):
        assert all(torch.equal(a, b) for a, b in zip(batches, ours[1][epoch], strict=True))
    assert plain[2] == ours[2]
    assert torch.equal(plain[3], ours[3])
    assert not torch.equal(plain[3], other[3])


@pytest.mark.parametrize("ratio", [0.5, 0.99])
def test_one_sample_is_never_skipped(ratio: float) -> None:
    _, seen_in, _, _, _ = trained(gr.InfoBatch(None, ratio=ratio), 5, size=1)
    assert [torch.cat(index).tolist() for index in seen_in] == [[0]] * 5


# --- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.0}, r"ratio must be a finite number, at least 0 and below 1\. Got 1\.0\."),
        ({"ratio": -0.1}, "ratio must be a finite number, at least 0 and below 1"),
        ({"delta": 1.1}, "delta must be a finite number, at least 0 and at most 1"),
        ({"delta": -0.1}, "delta must be a finite number, at least 0 and at most 1"),
        ({"planned_epochs": 0}, "planned_epochs must be a whole number, at least 1"),
        ({"mode": "bernouli"}, "Did you mean 'bernoulli'"),
    ],
)
def test_impossible_parameters_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gr.InfoBatch(**{"planned_epochs": 8, **settings})
