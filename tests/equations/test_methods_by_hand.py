"""Each method's plans and weights against numbers worked out on paper.

The equations themselves are tested where they stand alone (tests/equations of the parts); here the
methods must hand the right losses, thresholds and ranks to them.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

import gradatim as gr

FORMS = ("hard", "linear", "logarithmic", "polynomial", "logistic", "mixture", "root_mixture")

KUMAR = (0.4, 0.1, 0.9, 0.2, 0.3)  # the sorted losses are .1 .2 .3 .4 .9
JIANG = (0.1, 0.3, 0.5, 0.9)


def rehearsed(method: gr.Method, size: int, losses: Any = None, **run: Any) -> gr.Pool:
    """What a method plans for an epoch, having seen ``losses``."""
    state = gr.Run(**{"size": size, "seed": 0, **run})
    method.setup(state)
    for table in method.tables().values():
        table.allocate(size)
    if losses is not None:
        index = torch.arange(size)
        method.observe(gr.Batch(index, torch.as_tensor(losses)), state)
    plan = method.plan(gr.Pool(torch.arange(size)), state)
    planned = method.planned_size(size, state.epoch)
    assert planned in (None, plan.index.numel())
    return plan


def chosen(*arguments: Any, **run: Any) -> list[int]:
    return rehearsed(*arguments, **run).index.tolist()


def weights(*arguments: Any, size: int, **run: Any) -> list[float]:
    """The weight of each sample: 0 where the plan leaves it out, 1 where it gives none."""
    method, losses = (*arguments, None)[:2]
    plan = rehearsed(method, size, losses, **run)
    found = torch.zeros(size, dtype=torch.float64)
    found[plan.index] = 1.0 if plan.weights is None else plan.weights.double()
    return found.tolist()


def whole(pool: gr.Pool, size: int) -> bool:
    """Whether a plan is plain training: everybody, no weights, nothing about the draw."""
    return pool.index.tolist() == list(range(size)) and (
        pool.weights is pool.log_weights is pool.size is None and not pool.ordered
    )


# ----------------------------------------------------------- 2.1 and 2.3: orders known beforehand

TEN = torch.tensor([5.0, 3.0, 8.0, 1.0, 9.0, 0.0, 7.0, 2.0, 6.0, 4.0])
EASIEST_FIRST = [5, 3, 7, 1, 9, 0, 8, 6, 2, 4]


def test_platanios2019_linear_pace_of_ten_samples_has_sizes_2_4_6_7_9_10() -> None:
    method = gr.Predefined(TEN, pace=gr.pacing.Linear(start_fraction=0.2, epochs=5))
    for epoch, size in enumerate((2, 4, 6, 7, 9, 10, 10)):
        assert chosen(method, 10, epoch=epoch) == sorted(EASIEST_FIRST[:size])
    assert whole(rehearsed(method, 10, epoch=5), 10)


def test_bengio2009_four_samples_have_entropies_0_log2_log4() -> None:
    pace = gr.pacing.FixedExponential(start_fraction=0.25, increase=2)
    method = gr.Predefined([0.3, 0.1, 0.9, 0.5], pace=pace)
    schedule = torch.tensor([weights(method, size=4, epoch=epoch) for epoch in range(3)])
    shares = schedule / schedule.sum(1, keepdim=True)
    entropies = torch.special.entr(shares).sum(1).tolist()
    assert entropies == pytest.approx([0, 0.693147, 1.386294], abs=1e-6)
    gr.selection.check_curriculum(schedule)


def test_bengio2009_every_subset_schedule_is_a_curriculum() -> None:
    method = gr.Predefined(TEN, pace=gr.pacing.Root(start_fraction=0.05, epochs=7))
    schedule = torch.tensor([weights(method, size=10, epoch=epoch) for epoch in range(9)])
    sizes = schedule.sum(1).tolist()
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 10)
    assert (schedule[1:] >= schedule[:-1]).all()  # condition i: nothing once shown is hidden


def test_soft_mode_weighs_by_the_sigmoid_of_the_distance_to_the_distribution_function() -> None:
    # d = (3, 1, 1, 5): F = (.75, .5, .5, 1); with c = .5 and T = .25, (c - F) / T = -1, 0, 0, -2.
    method = gr.Predefined(
        [3.0, 1.0, 1.0, 5.0],
        pace=gr.pacing.Step(start_fraction=0.5, epochs=2),
        mode="soft",
        temperature=0.25,
    )
    expected = [0.268941, 0.5, 0.5, 0.119203]
    assert weights(method, size=4, epoch=1) == pytest.approx(expected, abs=1e-6)
    assert whole(rehearsed(method, 4, epoch=2), 4)  # W = 1 for everybody once c = 1


def test_soft_mode_in_anti_order_weighs_the_negated_scores() -> None:
    # -d = (-3, -1, -1, -5): F = (.5, 1, 1, .25); (c - F) / T = 0, -2, -2, 1.
    method = gr.Predefined(
        [3.0, 1.0, 1.0, 5.0],
        pace=gr.pacing.Constant(0.5),
        mode="soft",
        order="anti",
        temperature=0.25,
    )
    expected = [0.5, 0.119203, 0.119203, 0.731059]
    assert weights(method, size=4) == pytest.approx(expected, abs=1e-6)


def test_soft_mode_in_random_order_gives_each_rank_its_weight() -> None:
    method = gr.Predefined(pace=gr.pacing.Constant(0.5), mode="soft", order="random")
    expected = sorted(1 / (1 + math.exp(-(0.5 - rank / 4) / 0.05)) for rank in (1, 2, 3, 4))
    assert sorted(weights(method, size=4)) == pytest.approx(expected, rel=1e-5)
    assert weights(method, size=4) != weights(method, size=4, seed=1)


def test_window_mode_shows_the_last_ranks_alone_and_all_in_the_end() -> None:
    pace = gr.pacing.Linear(start_fraction=0.2, epochs=8)  # c = .2 .3 .4 .5 .6 .7 .8 .9 1
    method = gr.Predefined(TEN, pace=pace, mode="window", width=0.3)
    for epoch, (first, last) in enumerate([(0, 2), (0, 3), (1, 4), (2, 5), (3, 6), (4, 7)]):
        assert chosen(method, 10, epoch=epoch) == sorted(EASIEST_FIRST[first:last])
    assert whole(rehearsed(method, 10, epoch=8), 10)


def test_cirik2016_one_pass_drops_the_earlier_buckets_and_ends_with_all() -> None:
    pace = gr.pacing.OnePass(buckets=5, epochs_per_bucket=2)
    for mode in ("window", "subset"):
        method = gr.Predefined(TEN, pace=pace, mode=mode)
        for epoch in range(10):
            bucket = epoch // 2
            expected = sorted(EASIEST_FIRST[2 * bucket : 2 * bucket + 2])
            assert chosen(method, 10, epoch=epoch) == expected
        assert whole(rehearsed(method, 10, epoch=10), 10)


def test_a_window_narrower_than_one_sample_shows_one() -> None:
    method = gr.Predefined(TEN, pace=gr.pacing.Constant(0.5), mode="window", width=1e-3)
    assert chosen(method, 10) == [EASIEST_FIRST[4]]


def test_balanced_takes_the_fraction_within_each_class() -> None:
    # Classes of 4, 3 and 1 samples; half of each, rounded up: 2, 2 and 1 of them.
    labels = [0, 0, 0, 0, 1, 1, 1, 2]
    score = [4.0, 3.0, 2.0, 1.0, 30.0, 10.0, 20.0, 99.0]
    method = gr.Predefined(score, pace=gr.pacing.Constant(0.5), balanced=labels)
    assert sorted(chosen(method, 8)) == [2, 3, 5, 6, 7]
    plain = gr.Predefined(score, pace=gr.pacing.Constant(0.5))
    assert chosen(plain, 8) == [0, 1, 2, 3]  # one class alone, and nothing of the others


def test_wu2021_anti_order_of_d_is_the_curriculum_of_minus_d() -> None:
    pace = gr.pacing.Constant(0.4)
    tied = torch.tensor([2.0, 1.0, 2.0, 1.0, 3.0, 2.0, 3.0, 1.0, 2.0, 1.0])
    for score in (TEN, tied):
        for tie in ("random", "index"):
            for seed in range(5):
                anti = gr.Predefined(score, pace=pace, order="anti", tie=tie)
                negated = gr.Predefined(-score, pace=pace, tie=tie)
                assert chosen(anti, 10, seed=seed) == chosen(negated, 10, seed=seed)
    by_position = gr.Predefined(tied, pace=pace, order="anti", tie="index")
    assert chosen(by_position, 10) == [0, 2, 4, 6]  # reversed ascending order would take 8 for 0


def test_wu2021_random_control_ignores_the_score_and_keeps_the_sizes() -> None:
    pace = gr.pacing.Linear(start_fraction=0.2, epochs=5)
    curriculum = gr.Predefined(TEN, pace=pace)
    controls = [
        gr.Predefined(TEN, pace=pace, order="random"),
        gr.Predefined(TEN.flip(0), pace=pace, order="random"),
        gr.Predefined(pace=pace, order="random"),
        gr.PacedRandom(pace=pace),
    ]
    for epoch in range(6):
        plans = [chosen(control, 10, epoch=epoch) for control in controls]
        assert all(plan == plans[0] for plan in plans)
        assert len(plans[0]) == len(chosen(curriculum, 10, epoch=epoch))
    first = [chosen(controls[0], 10, epoch=epoch) for epoch in range(5)]
    assert all(set(small) <= set(large) for small, large in pairwise(first))
    assert chosen(gr.PacedRandom(pace=pace), 10, seed=1) != first[0]


def test_a_second_curriculum_takes_its_fraction_of_what_the_first_left() -> None:
    first = gr.Predefined(TEN, pace=gr.pacing.Constant(0.6))
    second = gr.Predefined(-TEN, pace=gr.pacing.Constant(0.5))
    run = gr.Run(size=10, seed=0)
    left = second.plan(first.plan(gr.Pool(torch.arange(10)), run), run)
    assert left.index.tolist() == sorted(EASIEST_FIRST[3:6])  # the hardest three of the easiest six


def test_balanced_counts_the_classes_of_what_the_first_left() -> None:
    # Left: samples 3 to 7, of classes 0, 1, 1, 1, 2; half of each class is 1, 2 and 1 of them.
    score = [4.0, 3.0, 2.0, 1.0, 30.0, 10.0, 20.0, 99.0]
    labels = [0, 0, 0, 0, 1, 1, 1, 2]
    method = gr.Predefined(score, pace=gr.pacing.Constant(0.5), balanced=labels)
    run = gr.Run(size=8, seed=0)
    plan = method.plan(gr.Pool(torch.tensor([7, 6, 5, 4, 3])), run)
    assert sorted(plan.index.tolist()) == [3, 5, 6, 7]
    assert method.planned_size(5, 0) is None  # it depends on the classes of those five


# --------------------------------------------------------------- 3.1 and 3.2: self-paced learning


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.4, [1, 3]), (0.6, [1, 3, 4]), (1.0, [0, 1, 2, 3, 4])]
)
@pytest.mark.parametrize("form", ["hard", "linear"])
def test_kumar2010_pace_by_fraction_takes_the_lowest_losses(
    form: Any, fraction: float, expected: list[int]
) -> None:
    method = gr.SPL(form, pace=gr.pacing.Constant(fraction))
    assert chosen(method, 5, KUMAR, epoch=1) == expected


def test_kumar2010_the_included_count_is_exact_among_ties() -> None:
    losses = [0.5] * 8 + [0.1, 0.9]
    for fraction, k in ((0.2, 2), (0.5, 5), (0.9, 9)):
        method = gr.SPL(pace=gr.pacing.Constant(fraction))
        taken = chosen(method, 10, losses, epoch=1)
        assert len(taken) == k
        assert 8 in taken
        assert 9 not in taken
    seeds = {tuple(chosen(method, 10, losses, epoch=1, seed=seed)) for seed in range(20)}
    assert len(seeds) == 1  # .9 takes all of the ties, and there is no choice among them
    method = gr.SPL(pace=gr.pacing.Constant(0.5))
    assert len({tuple(chosen(method, 10, losses, epoch=1, seed=seed)) for seed in range(20)}) > 1


def test_kumar2010_pace_by_fraction_ignores_the_scale_of_the_losses() -> None:
    for form in ("hard", "linear", "polynomial", "mixture", "logarithmic"):
        method = gr.SPL(form, pace=gr.pacing.Constant(0.6))
        usual = weights(method, KUMAR, size=5, epoch=1)
        scaled = gr.SPL(form, pace=gr.pacing.Constant(0.6))
        large = weights(scaled, [1000 * loss for loss in KUMAR], size=5, epoch=1)
        assert large == pytest.approx(usual, rel=1e-5)


# Half of .1 .3 .5 .9: lambda lies half-way between .3 and .5, at .4.
LOG_SCALE = 1.01 * (0.5 + 0.97 * 0.4)  # 1.01 times the 99th percentile: 99 % of the way to rank 3
ZETA = 1 - 0.4 / LOG_SCALE
SOFT = {
    "hard": [1, 1, 0, 0],
    "linear": [0.75, 0.25, 0, 0],
    "logarithmic": [
        math.log(0.1 / LOG_SCALE + ZETA) / math.log(ZETA),
        math.log(0.3 / LOG_SCALE + ZETA) / math.log(ZETA),
        0,
        0,
    ],
    "polynomial": [0.866025, 0.5, 0, 0],  # t = 3: the square roots of the linear ones
    "logistic": [0.959503, 0.876883, 0.793437, 0.630614],  # 1.670320 / (1 + exp(l - .4))
    "mixture": [1, 0.333333, 0, 0],  # l1 = .4, l2 = .2, zeta = .4: .4 / .3 - 1
    "root_mixture": [1, 0.244603, 0, 0],  # lambda^2 = .4, gamma = 1: 1 / sqrt(.3) - 1 / sqrt(.4)
}


@pytest.mark.parametrize("form", FORMS)
def test_jiang2014_soft_forms_at_half_of_four_samples(form: Any) -> None:
    method = gr.SPL(form, pace=gr.pacing.Constant(0.5), power=3.0, ratio=0.5, gamma=1.0)
    assert weights(method, JIANG, size=4, epoch=1) == pytest.approx(SOFT[form], abs=2e-6)
    assert set(SOFT) == set(FORMS)


def test_samples_of_weight_zero_are_not_visited() -> None:
    method = gr.SPL("linear", pace=gr.pacing.Constant(0.5))
    plan = rehearsed(method, 4, JIANG, epoch=1)
    assert plan.index.tolist() == [0, 1]
    assert plan.weights is not None
    assert plan.weights.tolist() == pytest.approx([0.75, 0.25])


def test_kumar2010_pace_by_value_multiplies_lambda_by_mu() -> None:
    # lambda = .4 includes half; then .4 * 1.3^t = .52, .676, .8788, 1.14244.
    method = gr.SPL(growth=1.3, start_fraction=0.5)
    run = gr.Run(size=4, seed=0, epoch=1)
    rehearsed(method, 4, JIANG, epoch=1)
    expected = [[0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3]]
    for epoch, samples in enumerate(expected, start=1):
        run.epoch = epoch
        plan = method.plan(gr.Pool(torch.arange(4)), run)
        assert plan.index.tolist() == samples
        assert plan.weights is None
        method.start_epoch(run)
    assert method.state_dict()["first_threshold"] == pytest.approx(0.4)


def test_kumar2010_lambda_starts_from_the_losses_of_the_warm_up_and_stays() -> None:
    method = gr.SPL("linear", growth=2.0, start_fraction=0.5)
    run = gr.Run(size=4, seed=0, epoch=1)
    rehearsed(method, 4, JIANG, epoch=1)
    method.start_epoch(run)
    method.observe(gr.Batch(torch.arange(4), torch.tensor([0.2, 0.2, 0.2, 0.9])), run)
    run.epoch = 2  # lambda = .8, although half of the losses are below .2 now
    plan = method.plan(gr.Pool(torch.arange(4)), run)
    assert plan.index.tolist() == [0, 1, 2]
    assert plan.weights is not None
    assert plan.weights.tolist() == pytest.approx([0.75, 0.75, 0.75])


def test_min_count_is_included_where_lambda_excludes_all() -> None:
    for form in ("hard", "linear"):
        method = gr.SPL(form, growth=1.1, min_count=2)
        run = gr.Run(size=4, seed=0, epoch=1)
        rehearsed(method, 4, JIANG, epoch=1)
        method.start_epoch(run)
        method.observe(gr.Batch(torch.arange(4), torch.tensor([9.0, 7.0, 8.0, 6.0])), run)
        plan = method.plan(gr.Pool(torch.arange(4)), run)
        assert plan.index.tolist() == [1, 3]
    assert chosen(gr.SPL(pace=gr.pacing.Constant(0.25), min_count=3), 4, JIANG, epoch=1) == [
        0,
        1,
        2,
    ]


def test_warm_up_epochs_are_plain_and_come_before_the_pace() -> None:
    pace = gr.pacing.Linear(start_fraction=0.4, epochs=3)  # .4 .6 .8 1
    method = gr.SPL(pace=pace, warmup_epochs=2)
    sizes = [len(chosen(method, 5, KUMAR, epoch=epoch)) for epoch in range(7)]
    assert sizes == [5, 5, 2, 3, 4, 5, 5]


def test_samples_never_seen_count_as_easiest() -> None:
    losses = [0.4, math.nan, 0.9, 0.2, math.nan]
    method = gr.SPL(pace=gr.pacing.Constant(0.6))
    assert chosen(method, 5, losses, epoch=1) == [1, 3, 4]


@pytest.mark.parametrize("form", FORMS)
def test_d9b_at_full_pace_every_form_is_plain_training_exactly(form: Any) -> None:
    pace = gr.pacing.Linear(start_fraction=0.5, epochs=2)
    method = gr.SPL(form, pace=pace)
    for epoch in (1, 2):
        assert not whole(rehearsed(method, 4, JIANG, epoch=epoch), 4)
    for epoch in (3, 4, 50):
        assert whole(rehearsed(method, 4, JIANG, epoch=epoch), 4)


@pytest.mark.parametrize("form", FORMS)
def test_d9b_by_value_every_form_ends_in_plain_training_exactly(form: Any) -> None:
    method = gr.SPL(form, growth=2.0)
    assert not whole(rehearsed(method, 4, JIANG, epoch=1), 4)
    late = rehearsed(method, 4, JIANG, epoch=12)
    assert whole(late, 4)


def test_d9_the_logarithmic_form_is_finite_where_lambda_is_above_one() -> None:
    # At the start of ten classes losses are about ln 10, and 1 - 2.3 has no logarithm.
    losses = [2.1, 2.2, 2.4, 2.9]
    found = weights(gr.SPL("logarithmic", pace=gr.pacing.Constant(0.5)), losses, size=4, epoch=1)
    scale = 1.01 * (2.4 + 0.97 * 0.5)
    zeta = 1 - 2.3 / scale
    expected = [math.log(loss / scale + zeta) / math.log(zeta) for loss in losses[:2]] + [0, 0]
    assert found == pytest.approx(expected, abs=1e-5)
    assert 0 < found[1] < found[0] < 1


def test_the_scale_of_the_logarithmic_form_is_fixed_after_the_warm_up() -> None:
    method = gr.SPL("logarithmic", pace=gr.pacing.Constant(0.5))
    run = gr.Run(size=4, seed=0, epoch=1)
    rehearsed(method, 4, JIANG, epoch=1)
    method.start_epoch(run)
    assert method.state_dict()["scale"] == pytest.approx(LOG_SCALE, rel=1e-6)
    method.observe(gr.Batch(torch.arange(4), torch.tensor([0.01, 0.03, 0.05, 0.09])), run)
    method.start_epoch(run)
    zeta = 1 - 0.04 / LOG_SCALE
    plan = method.plan(gr.Pool(torch.arange(4)), run)
    assert plan.weights is not None
    expected = [math.log(loss / LOG_SCALE + zeta) / math.log(zeta) for loss in (0.01, 0.03)]
    assert plan.weights.tolist() == pytest.approx(expected, abs=1e-5)


def test_by_value_a_stalled_fraction_warns() -> None:
    method = gr.SPL(growth=1.01, start_fraction=0.5)
    run = gr.Run(size=4, seed=0, epoch=1)
    rehearsed(method, 4, [0.1, 0.2, 9.0, 9.5], epoch=1)
    method.start_epoch(run)
    for run.epoch in range(1, 6):  # .5 is growth for the first of them, and then it stands
        method.end_epoch(run)
    run.epoch = 6
    with pytest.warns(UserWarning, match=r"included fraction stands at 0.50 for 5 epochs"):
        method.end_epoch(run)


def test_without_a_warm_up_the_first_losses_come_from_a_survey() -> None:
    method = gr.SPL(pace=gr.pacing.Constant(0.4), warmup_epochs=0, survey_every_epochs=2)
    run = gr.Run(size=5, seed=0)
    method.setup(run)
    method.losses.allocate(5)
    with pytest.raises(RuntimeError, match="survey must run before epoch 0"):
        method.plan(gr.Pool(torch.arange(5)), run)
    assert method.survey_due(run)
    method.observe(gr.Batch(torch.arange(5), torch.tensor(KUMAR), surveyed=True), run)
    assert not method.survey_due(run)
    assert method.plan(gr.Pool(torch.arange(5)), run).index.tolist() == [1, 3]
    due = [method.survey_due(gr.Run(size=5, seed=0, epoch=epoch)) for epoch in range(1, 5)]
    assert due == [False, True, False, True]
    with pytest.raises(ValueError, match=r"^warmup_epochs must be at least 1 unless survey_every"):
        gr.SPL(warmup_epochs=0)


def test_a_pace_outside_its_range_is_refused_when_it_is_asked() -> None:
    for wrong in (0.0, 1.5, -1.0, math.nan):
        for method in (
            gr.SPL(pace=lambda t, wrong=wrong: wrong, warmup_epochs=0, survey_every_epochs=9),
            gr.Predefined(KUMAR, pace=lambda t, wrong=wrong: wrong),
        ):
            with pytest.raises(ValueError, match=r"^pace\(t\) must be a finite number, above 0"):
                rehearsed(method, 5, None, epoch=0)


# ------------------------------------------------------------------ 3.3 and 3.4: diversity, region

SPREAD = (0.05, 0.12, 0.14, 0.15, 0.40, 0.28)
GROUPS = (0, 0, 0, 0, 1, 1)


def test_jiang2014_algorithm1_three_of_six_samples_come_from_both_groups() -> None:
    pace = gr.pacing.Constant(0.5)
    assert chosen(gr.SPLD(GROUPS, pace=pace, gamma=0.26), 6, SPREAD, epoch=1) == [0, 1, 5]
    assert chosen(gr.SPLD(GROUPS, pace=pace, gamma=0.0), 6, SPREAD, epoch=1) == [0, 1, 2]
    assert chosen(gr.SPL(pace=pace), 6, SPREAD, epoch=1) == [0, 1, 2]


def test_jiang2014_gamma_grows_by_its_own_factor_from_the_warm_up_on() -> None:
    # Costs l - gamma / (sqrt(r) + sqrt(r - 1)). The first of group 1 costs .28 - gamma, the third
    # of group 0 .14 - .317837 gamma: group 1 comes in where gamma is above .14 / .682163 = .205.
    method = gr.SPLD(GROUPS, pace=gr.pacing.Constant(0.5), gamma=0.1, gamma_growth=1.5)
    taken = [chosen(method, 6, SPREAD, epoch=epoch) for epoch in (1, 2, 3)]
    assert taken == [[0, 1, 2], [0, 1, 2], [0, 1, 5]]  # gamma = .1, .15, .225


def test_jiang2014_small_groups_are_merged_into_one() -> None:
    # Five single-sample groups would each gain all of gamma; merged, only the first of them does.
    losses = [0.10, 0.11, 0.12, 0.13, 0.14, 0.15]
    groups = [0, 0, 1, 2, 3, 4]
    pace = gr.pacing.Constant(0.5)
    alone = gr.SPLD(groups, pace=pace, gamma=1.0)
    assert chosen(alone, 6, losses, epoch=1) == [0, 2, 3]
    merged = gr.SPLD(groups, pace=pace, gamma=1.0, min_group_size=2)
    assert chosen(merged, 6, losses, epoch=1) == [0, 1, 2]


def test_spld_at_full_pace_and_in_the_warm_up_is_plain() -> None:
    method = gr.SPLD(GROUPS, pace=gr.pacing.Linear(start_fraction=0.5, epochs=2))
    assert [len(chosen(method, 6, SPREAD, epoch=epoch)) for epoch in range(5)] == [6, 3, 5, 6, 6]
    assert whole(rehearsed(method, 6, SPREAD, epoch=3), 6)


def test_jiang2015_linear_form_under_a_binding_budget() -> None:
    # a = (1, 2, 3) / 3. q = 2/3: lambda = .25, c = q sum(a) / 4 = 1/3. Unconstrained,
    # v = (.2, .6, 0) costs .4667. With nu = .06: v1 = .2 - 4 nu / 3 = .12 and
    # v2 = .6 - 8 nu / 3 = .44, which cost 1/3.
    method = gr.SPCL([0.1, 0.5, 0.9], pace=gr.pacing.Constant(2 / 3), budget_fraction=0.25)
    found = weights(method, [0.2, 0.1, 0.3], size=3, epoch=1)
    assert found == pytest.approx([0.12, 0.44, 0], abs=1e-6)


def test_jiang2015_linear_form_within_a_wide_budget_is_self_paced() -> None:
    method = gr.SPCL([0.1, 0.5, 0.9], pace=gr.pacing.Constant(2 / 3), budget_fraction=1.0)
    found = weights(method, [0.2, 0.1, 0.3], size=3, epoch=1)
    assert found == pytest.approx([0.2, 0.6, 0], abs=1e-6)
    plain = gr.SPL("linear", pace=gr.pacing.Constant(2 / 3))
    assert weights(plain, [0.2, 0.1, 0.3], size=3, epoch=1) == pytest.approx(found, abs=1e-6)


def test_jiang2015_hard_form_buys_the_best_value_first_and_the_last_in_part() -> None:
    # lambda = .25; value for money (lambda - l) / a = .15, .225, < 0; c = 1/3 buys sample 1, of
    # price 2/3, by half, and nothing of sample 0.
    method = gr.SPCL(
        [0.1, 0.5, 0.9], pace=gr.pacing.Constant(2 / 3), budget_fraction=0.25, form="hard"
    )
    assert weights(method, [0.2, 0.1, 0.3], size=3, epoch=1) == pytest.approx([0, 0.5, 0], abs=1e-6)


def test_jiang2015_tied_experts_pay_the_price_of_the_last_of_them() -> None:
    # a = (1, 1, 1): with c = 3 q / 4 = 1/2 and lambda = .25 the linear form has 2 of 3 inside:
    # v = (.2, .6, 0) - nu / .25 costs .8 - 8 nu = .5, nu = .0375: v = (.05, .45, 0).
    method = gr.SPCL([7.0, 7.0, 7.0], pace=gr.pacing.Constant(2 / 3), budget_fraction=0.25)
    found = weights(method, [0.2, 0.1, 0.3], size=3, epoch=1)
    assert found == pytest.approx([0.05, 0.45, 0], abs=1e-6)


def test_jiang2015_experts_tied_among_others_pay_the_price_of_the_last_of_them() -> None:
    # a = (2, 2, 3) / 3: c = q (7/3) / 4 = 7/18, lambda = .25; v = (.2, .6, 0) costs .5333. With
    # nu = .040625 both lose 8 nu / 3 = .108333, and 2/3 (.8 - .216667) = 7/18.
    method = gr.SPCL([1.0, 1.0, 2.0], pace=gr.pacing.Constant(2 / 3), budget_fraction=0.25)
    found = weights(method, [0.2, 0.1, 0.3], size=3, epoch=1)
    assert found == pytest.approx([0.091667, 0.491667, 0], abs=1e-6)


def test_spcl_at_full_pace_is_plain() -> None:
    method = gr.SPCL([0.1, 0.5, 0.9], pace=gr.pacing.Linear(start_fraction=0.5, epochs=2))
    assert whole(rehearsed(method, 3, [0.2, 0.1, 0.3], epoch=3), 3)
    assert not whole(rehearsed(method, 3, [0.2, 0.1, 0.3], epoch=2), 3)


def test_groups_and_experts_follow_the_samples_that_an_earlier_method_left() -> None:
    # Without sample 0, and in another order: group 0 has .12 .14 .15, group 1 has .28 .40.
    pool = gr.Pool(torch.tensor([5, 4, 3, 2, 1]))
    run = gr.Run(size=6, seed=0, epoch=1)
    diverse = gr.SPLD(GROUPS, pace=gr.pacing.Constant(0.4), gamma=0.26)
    rehearsed(diverse, 6, SPREAD, epoch=1)
    assert sorted(diverse.plan(pool, run).index.tolist()) == [1, 5]
    # Samples 2 and 1 of the region above: a = (1, 2/3). q = 1/2: lambda = (.1 + .3) / 2 = .2 and
    # c = q (5/3) / 4 = 5/24. Unconstrained v = (0, .5) costs 1/3; v1 = 5/24 / (2/3) = .3125.
    region = gr.SPCL([0.1, 0.5, 0.9], pace=gr.pacing.Constant(0.5), budget_fraction=0.25)
    rehearsed(region, 3, [0.2, 0.1, 0.3], epoch=1)
    plan = region.plan(gr.Pool(torch.tensor([2, 1])), gr.Run(size=3, seed=0, epoch=1))
    assert plan.index.tolist() == [1]
    assert plan.weights is not None
    assert plan.weights.tolist() == pytest.approx([0.3125], abs=1e-6)


# -------------------------------------------------------------------- 11.1 and 11.2: loss shaping


class Counted(torch.utils.data.Dataset):
    """Positions, as samples."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


def weighed(method: gr.Method, losses: Any, **signals: Any) -> list[float]:
    losses = torch.as_tensor(losses, dtype=torch.float64)
    run = gr.Run(size=len(losses), seed=0)
    method.setup(run)
    found = method.weigh(gr.Batch(torch.arange(len(losses)), losses, signals), run)
    return [1.0] * len(losses) if found is None else found.tolist()


def test_lin2017_eq4_focal_weights_and_losses() -> None:
    p = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    found = weighed(gr.Focal(gamma=2.0), -p.log())
    assert found == pytest.approx([0.01, 0.25, 0.81])
    losses = (torch.tensor(found) * -p.log()).tolist()
    assert losses == pytest.approx([0.00105361, 0.173287, 1.865094], rel=1e-5)
    assert weighed(gr.Focal(gamma=0.0), -p.log()) == [1, 1, 1]


def test_lin2017_the_gradient_of_the_focal_loss_goes_through_the_curriculum() -> None:
    curriculum = gr.Curriculum(gr.Focal(gamma=2.0))
    loader = curriculum.loader(Counted(1), batch_size=1)
    logit = torch.tensor([math.log(0.7 / 0.3)], dtype=torch.float64, requires_grad=True)
    for _ in loader:
        loss = curriculum(torch.nn.functional.softplus(-logit))  # -log p, p = .7
        loss.backward()
    assert loss.item() == pytest.approx(-(0.3**2) * math.log(0.7))
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(-0.0719410, abs=1e-7)


def test_castells2020_eq3_weights_by_hand() -> None:
    found = weighed(gr.SuperLoss(tau=0.0, lam=1.0), [0.0, 2.0, 1.0, 10.0, -5.0])
    assert found == pytest.approx([1, 0.567143, 0.703467, 0.265345, math.e], abs=1e-6)
    # lambda has the unit of the loss: ten times both gives the same confidence.
    found = weighed(gr.SuperLoss(tau=0.0, lam=10.0), [0.0, 20.0, 10.0])
    assert found == pytest.approx([1, 0.567143, 0.703467], abs=1e-6)


def test_castells2020_tau_from_the_number_of_classes() -> None:
    method = gr.SuperLoss(tau="log_classes")
    found = weighed(method, [2.0, 4.0, 0.5], logits=torch.zeros(3, 10))
    assert found == pytest.approx([1.198871, 0.600637, math.e], abs=1e-6)
    assert method.wants == ("logits",)


BATCHES = ([1.0, 3.0], [0.5, 1.5], [2.0, 6.0])  # means 2, 1, 4


@pytest.mark.parametrize(
    ("tau", "momentum", "expected"),
    [("ema", 0.9, [2, 1.9, 2.11]), ("ema", 0.0, [2, 1, 4]), ("mean", 0.9, [2, 1.5, 7 / 3])],
)
def test_castells2020_tau_follows_the_means_of_the_batches(
    tau: Any, momentum: float, expected: list[float]
) -> None:
    method = gr.SuperLoss(tau=tau, momentum=momentum)
    curriculum = gr.Curriculum(method)
    loader = curriculum.loader(Counted(6), batch_size=2)
    for losses, value, _ in zip(BATCHES, expected, loader, strict=True):
        given = torch.tensor(losses, dtype=torch.float64)
        index = curriculum.index
        found, scale = curriculum.weigh(given, index=index)
        assert float(method.average.value) == pytest.approx(value)
        assert scale == 0.5
        # The batch's own tau weighs it; a sample at l = tau + lambda has the confidence .703467.
        assert torch.allclose(found, gr.weighting.super_loss(given, tau=value, lam=1.0))
        # A closure asks again with the same rows: nothing is counted twice.
        again, _ = curriculum.weigh(given, index=index)
        assert float(method.average.value) == pytest.approx(value)
        assert torch.equal(again, found)
    assert curriculum.epoch == 1


def test_castells2020_the_first_batchs_mean_divides_it() -> None:
    # tau = 2: beta = -1 is below -2/e, so e; beta = 1 gives exp(-W(1/2)) = .703467.
    assert weighed(gr.SuperLoss(tau="ema"), [1.0, 3.0]) == pytest.approx(
        [math.e, 0.703467], abs=1e-6
    )


def test_tau_of_zero_is_a_number_like_any_other() -> None:
    method = gr.SuperLoss(tau=0)
    assert weighed(method, [2.0]) == pytest.approx([0.567143], abs=1e-6)
    assert method.tables() == {}  # D22: a public version takes 0.0 for "not set"


def test_uniform_is_plain() -> None:
    assert whole(rehearsed(gr.Uniform(), 7, epoch=3), 7)
