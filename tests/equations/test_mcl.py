"""Minimax curriculum learning (4.2): the schedule, each epoch's choice, the warm start."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import gradatim as gr
from gradatim.methods.mcl import MCL
from gradatim.selection import facility_location
from gradatim.selection.coverage import coverage_gains, coverage_value, feature_coverage
from gradatim.testing import Example, Problem, Training

HAND = torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 9.0]])
LOSSES = torch.tensor([0.5, 0.2, 0.1])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ready(method: gr.Method, losses: torch.Tensor, epoch: int = 1, **run: Any) -> gr.Run:
    """Where training stands once ``losses`` were seen in the epoch before."""
    state = gr.Run(**{"size": losses.numel(), "seed": 0, "epoch": epoch - 1, **run})
    method.setup(state)
    for table in method.tables().values():
        table.allocate(state.size)
    see(method, state, losses)
    state.epoch = epoch
    return state


def see(method: gr.Method, run: gr.Run, losses: torch.Tensor, index: Any = None) -> None:
    index = torch.arange(run.size) if index is None else torch.as_tensor(index)
    method.observe(gr.Batch(index, losses[index], epoch=run.epoch), run)


def chosen(method: gr.Method, run: gr.Run, pool: gr.Pool | None = None) -> list[int]:
    pool = gr.Pool(torch.arange(run.size)) if pool is None else pool
    plan = method.plan(pool, run)
    assert method.planned_size(len(pool.index), run.epoch) in (None, len(plan.index))
    return plan.index.tolist()


def two_of_three(**settings: Any) -> MCL:
    return MCL(**{"start_fraction": 0.6, "features": HAND, **settings})


# --- lambda and k by epoch --------------------------------------------------------------------


def test_algorithm_1_line_11_schedule_by_hand() -> None:
    """gamma = .1, k_0 = 1000, Delta = 500 of n = 10,000; two inner epochs per round."""
    method = MCL(start_fraction=0.1, growth=0.05, gamma=0.1, inner_epochs=2, warmup_epochs=3)
    found = [(method._lambda(epoch), method.planned_size(10_000, epoch)) for epoch in range(3, 11)]
    rounds = [(1.0, 1000), (0.9, 1500), (0.81, 2000), (0.729, 2500)]
    assert [size for _, size in found] == [k for _, k in rounds for _ in range(2)]
    expected = [weight for weight, _ in rounds for _ in range(2)]
    assert [weight for weight, _ in found] == pytest.approx(expected)
    assert [method.planned_size(10_000, epoch) for epoch in range(3)] == [10_000] * 3


def test_k_grows_by_a_factor_where_asked() -> None:
    method = MCL(start_fraction=0.1, growth=1.0, growth_form="multiplicative", inner_epochs=1)
    assert [method.planned_size(100, epoch) for epoch in range(7)] == [
        100, 10, 20, 40, 80, 100, 100,
    ]  # fmt: skip
    assert method.planned_size(100, 10**6) == 100  # a power of so many rounds would overflow


def test_the_defaults_are_those_of_the_specification() -> None:
    method = MCL()
    assert [method.planned_size(1000, 1 + 10 * j) for j in range(10)] == [
        100, 200, 300, 400, 500, 600, 700, 800, 900, 1000,
    ]  # fmt: skip
    assert (method.diversity, method.gamma, method.reuse_share) == (1.0, 0.1, 0.5)


@pytest.mark.parametrize("form", ["additive", "multiplicative"])
def test_after_full_inclusion_it_is_plain_training(form: Any) -> None:
    method = MCL(start_fraction=0.5, growth=0.5, growth_form=form, inner_epochs=1)
    pool = gr.Pool(torch.arange(3))
    for epoch in (0, 4, 100):  # in the warm-up, and when k has reached n
        assert method.plan(pool, gr.Run(size=3, seed=0, epoch=epoch)) is pool
    assert MCL(start_fraction=1.0).plan(pool, gr.Run(size=3, seed=0, epoch=1)) is pool


# --- The choice -------------------------------------------------------------------------------


@pytest.mark.parametrize(("diversity", "kept"), [(1.0, [0, 2]), (0.01, [0, 1]), (0.0, [0, 1])])
def test_zhou2018_eq2_choices_by_hand(diversity: float, kept: list[int]) -> None:
    method = two_of_three(diversity=diversity)
    run = ready(method, LOSSES)
    assert chosen(method, run) == kept


def test_lambda_decays_until_losses_decide() -> None:
    """Sample 1 has the larger loss than 2 by .1; 2 covers 2.27 more beside 0: lambda .5, .05."""
    method = two_of_three(gamma=0.9, growth=1e-9, diversity=0.5, inner_epochs=2)
    run = ready(method, LOSSES)
    found = []
    for epoch in (1, 2, 3, 4, 5, 6):
        run.epoch = epoch
        found.append(chosen(method, run))
    # .2 + lambda (sqrt(5) + 1 - 2) against .1 + 3 lambda: they cross at lambda = .0567.
    assert found == [[0, 2]] * 2 + [[0, 1]] * 4


def test_without_diversity_it_takes_the_largest_losses() -> None:
    for seed in range(20):
        losses = torch.rand(40, generator=draws(seed))
        method = MCL(start_fraction=0.25, diversity=0.0)
        run = ready(method, losses)
        assert chosen(method, run) == sorted(losses.topk(10).indices.tolist())


def test_five_picks_hit_five_clusters() -> None:
    """Facility location, lambda = 10: 20 of 20 seeds."""
    hits = 0
    for seed in range(20):
        z = 20 * torch.eye(5).repeat_interleave(30, 0)
        z = z + torch.randn(150, 5, generator=draws(seed))
        losses = torch.rand(150, generator=draws(100 + seed))
        method = MCL(start_fraction=5 / 150, function="facility", diversity=10.0, features=z)
        run = ready(method, losses, seed=seed)
        hits += sorted(i // 30 for i in chosen(method, run)) == [0, 1, 2, 3, 4]
    assert hits == 20


def test_facility_location_is_the_part_of_that_name() -> None:
    z, losses = torch.randn(40, 3, generator=draws(1)), torch.rand(40, generator=draws(2))
    method = MCL(start_fraction=0.2, function="facility", greedy="exact", features=z)
    run = ready(method, losses)
    part = facility_location(z, 8, scores=losses, greedy="exact")
    assert chosen(method, run) == sorted(part.tolist())


def test_centrality_takes_the_best_half_of_a_random_subset() -> None:
    """Scores l_i + lambda c_i, c the mean cosine with all others: here the same for 0 and 1."""
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    losses = torch.tensor([0.1, 0.2, 0.15, 0.9])
    # Mean unit vector (1/4, 1/4): c = (.25, .25, .25, -.25), so with lambda = 2: .6 .7 .65 .4.
    method = MCL(start_fraction=0.5, function="centrality", diversity=2.0, features=z)
    run = ready(method, losses)
    assert chosen(method, run) == [1, 2]  # twice k is everybody
    few = MCL(start_fraction=0.25, function="centrality", diversity=2.0, features=z)
    run = ready(few, losses)
    found = set()
    for seed in range(50):
        run.seed = seed
        found.add(chosen(few, run)[0])
    assert found == {0, 1, 2}  # the best of two drawn; 3 loses against anyone


def test_samples_that_no_epoch_has_seen_count_as_hardest() -> None:
    method = MCL(start_fraction=0.5, diversity=0.0)
    run = ready(method, torch.tensor([0.3, 0.9, 0.1, math.nan]))
    assert chosen(method, run) == [1, 3]


def test_it_chooses_within_the_pool_it_is_given() -> None:
    method = two_of_three()
    run = ready(method, LOSSES)
    assert chosen(method, run, gr.Pool(torch.tensor([2, 1]))) == [2, 1]
    method = two_of_three(start_fraction=0.5)
    assert chosen(method, ready(method, LOSSES), gr.Pool(torch.tensor([1, 0]))) == [0]


# --- The warm start (Algorithm 2) -------------------------------------------------------------

FOUR = torch.tensor([[4.0, 0.0], [0.0, 4.0], [1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(("share", "kept"), [(0.81, [2, 3]), (0.83, [0, 1])])
def test_algorithm_2_keeps_the_last_choice_while_it_is_good(share: float, kept: list) -> None:
    """G({2, 3}) = 1.6 + 2 = 3.6; singletons 2.2, 2.2, 1.8, 1.8: tau = 4.4, and 3.6 / 4.4 = .818."""
    losses = torch.tensor([0.2, 0.2, 0.8, 0.8])
    method = MCL(start_fraction=0.5, reuse=True, reuse_share=share, features=FOUR)
    run = ready(method, losses)
    see(method, run, losses, [2, 3])
    run.epoch = 2
    assert chosen(method, run) == kept
    value = float(losses[[2, 3]].sum()) + coverage_value(FOUR, [2, 3])
    tau = float((losses + coverage_gains(FOUR)).topk(2).values.sum())
    assert (value, tau) == pytest.approx((3.6, 4.4))


def test_algorithm_2_chooses_the_rest_beside_what_it_keeps() -> None:
    c, losses = torch.rand(30, 4, generator=draws(3)), torch.rand(30, generator=draws(4))
    method = MCL(start_fraction=0.2, growth=0.1, inner_epochs=1, reuse=True, features=c)
    run = ready(method, losses)
    first = torch.tensor(chosen(method, run))
    see(method, run, losses, first)
    run.epoch = 2
    second = chosen(method, run)
    expected = feature_coverage(c, 9, scores=losses, diversity=0.9, start=first)
    assert second == sorted(expected.tolist())
    assert set(first.tolist()) < set(second)


def test_the_warm_up_is_no_choice_to_keep() -> None:
    method = MCL(start_fraction=0.5, reuse=True, reuse_share=1e-9, features=FOUR)
    run = ready(method, torch.tensor([0.5, 0.5, 0.2, 0.2]))
    assert method.trained_epoch.values.tolist() == [0, 0, 0, 0]
    method.trained_epoch.write(torch.arange(2), torch.full((2,), -1))  # as if others were left out
    assert chosen(method, run) == [0, 1]


# --- In training ------------------------------------------------------------------------------


def hidden(problem: Problem) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def trained(method: MCL, epochs: int, model: Any = hidden) -> Training:
    example = Example(build=lambda problem: method, neutral="none", bad={}, model=model)
    training = Training(example, Problem.make(), method)
    training.run(epochs)
    return training


def test_steps_are_those_of_the_caller() -> None:
    """No training beside the loop (D17 of other code: 43 optimizer steps instead of 22)."""
    method = MCL(start_fraction=0.3, growth=0.35, inner_epochs=2)
    steps = 0
    original = torch.optim.SGD.step

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", counted)
        training = trained(method, 6)
    sizes = [method.planned_size(60, epoch) for epoch in range(6)]
    assert sizes == [60, 18, 18, 39, 39, 60]
    expected = sum(-(-size // 16) for size in sizes if size)
    assert steps == training.curriculum.step == len(training.batches) == expected
    spans = zip([0, *training.ends[:-1]], training.ends, strict=True)
    visited = [sum(len(batch) for batch in training.batches[a:b]) for a, b in spans]
    assert visited == sizes


def test_features_are_those_of_the_last_warm_up_epoch() -> None:
    method = MCL(warmup_epochs=2)
    assert [method.collects(epoch) for epoch in range(4)] == [False, True, False, False]
    surveyed = MCL(warmup_epochs=0, survey_every_epochs=1)
    assert [surveyed.collects(epoch) for epoch in range(3)] == [True, False, False]
    assert not MCL(start_fraction=1.0).collects(0)
    assert not MCL(diversity=0.0).collects(0)
    training = trained(method, 2)
    held = method.feature_rows(torch.arange(60)).clone()
    assert held.shape == (60, 6)
    assert (held >= 0).all()
    training.run(4)
    assert torch.equal(method.feature_rows(torch.arange(60)), held)


def test_features_below_0_are_refused_with_a_way_out() -> None:
    # A linear model: the inputs of its last layer are the data, which no ReLU has seen.
    with pytest.raises(ValueError, match=r'features must be .*"coverage"\. .*function="facility"'):
        trained(MCL(start_fraction=0.3), 2, model=lambda problem: nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r'features must be .* Got -9.0.*function="facility"'):
        MCL(features=-HAND)
    training = trained(
        MCL(start_fraction=0.3, function="facility"), 2, model=lambda problem: nn.Linear(4, 3)
    )
    assert training.curriculum.epoch == 2


def test_losses_can_be_asked_for() -> None:
    method = MCL(start_fraction=0.3, growth=0.1, inner_epochs=2, survey_every_epochs=3)
    training = trained(method, 8)
    assert training.surveyed_epochs == {1, 4, 7}
    fresh = two_of_three(warmup_epochs=0, survey_every_epochs=1)
    run = gr.Run(size=3, seed=0)
    fresh.setup(run)
    fresh.losses.allocate(3)
    with pytest.raises(RuntimeError, match="survey must run before epoch 0"):
        fresh.plan(gr.Pool(torch.arange(3)), run)
    fresh.observe(gr.Batch(torch.arange(3), LOSSES, surveyed=True), run)
    assert chosen(fresh, run) == [0, 2]


def test_without_a_warm_up_features_come_from_the_survey_alone() -> None:
    method = MCL(start_fraction=0.5, warmup_epochs=0, survey_every_epochs=1)
    run = gr.Run(size=3, seed=0)
    method.setup(run)
    for table in method.tables().values():
        table.allocate(3)
    rows = {"features": HAND}
    method.observe(gr.Batch(torch.arange(3), LOSSES, rows, surveyed=True), run)
    method.observe(gr.Batch(torch.arange(3), LOSSES, {"features": HAND + 1}), run)
    assert torch.equal(method.feature_rows(torch.arange(3)), HAND)
    hooked = MCL(start_fraction=0.3, warmup_epochs=0, survey_every_epochs=2)
    training = trained(hooked, 3)
    assert [len(batch) for batch in training.batches[:2]] == [16, 2]
    assert hooked.feature_rows(torch.arange(60)).isfinite().all()


# --- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 1.0}, "gamma must be a finite number, at least 0 and below 1. Got 1.0"),
        ({"gamma": -0.1}, "gamma must be"),
        ({"start_fraction": 0.0}, "start_fraction must be"),
        ({"start_fraction": 1.1}, "start_fraction must be .*at most 1. Got 1.1"),
        ({"growth": 0.0}, "growth must be"),
        ({"growth_form": "linear"}, "growth_form must be one of"),
        ({"inner_epochs": 0}, "inner_epochs must be"),
        ({"diversity": -1.0}, "diversity must be"),
        ({"function": "graph"}, "function must be one of"),
        ({"clusters": 0}, "clusters must be"),
        ({"cluster_hardness": "max"}, "cluster_hardness must be one of"),
        ({"greedy": "best"}, "greedy must be one of"),
        ({"warmup_epochs": 0}, "warmup_epochs must be at least 1 unless"),
        ({"reuse": True, "function": "facility"}, "reuse must be False .* function='facility' too"),
        ({"reuse": True, "clusters": 3}, "reuse must be False .* Got clusters too"),
        ({"reuse_share": 0.0}, "reuse_share must be"),
        ({"features": torch.ones(3)}, "features must be of shape"),
    ],
)
def test_bad_settings_are_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MCL(**arguments)


def test_features_of_another_data_set_are_refused() -> None:
    with pytest.raises(ValueError, match="features must be one row per sample: 4"):
        two_of_three().setup(gr.Run(size=4, seed=0))
