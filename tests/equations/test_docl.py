"""DoCL (Zhou, Wang and Bilmes, AISTATS 2021) against numbers worked out on paper."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.dynamics import running_hardness
from gradatim.dynamics.outputs import (
    alignment,
    movement,
    residuals,
    running_score,
    speed,
    squared_error,
)
from gradatim.episodes import PAPER_EPISODES, episode_of
from gradatim.methods import output_signals
from gradatim.methods.docl import DoCL

NAN = math.nan


def tensor(*values: Any) -> torch.Tensor:
    return torch.tensor(values)


def flow(model: nn.Module, x: torch.Tensor, losses: Any, rate: float = 0.1) -> torch.Tensor:
    """Dynamics of the outputs under one step of gradient descent on the summed losses."""
    before = model(x).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses(model(x)).sum().backward()
    optimizer.step()
    return movement(model(x), before, rate)


def linear(x: torch.Tensor, weight: torch.Tensor) -> nn.Linear:
    model = nn.Linear(x.shape[1], len(weight), bias=False, dtype=x.dtype)
    with torch.no_grad():
        model.weight.copy_(weight)
    return model


def begun(method: DoCL, size: int = 4, **run: Any) -> gr.Run:
    state = gr.Run(**{"size": size, "seed": 0, **run})
    method.setup(state)
    for table in method.tables().values():
        table.allocate(size)
    return state


def rows(
    index: Any, outputs: Any, targets: Any, *, clock: float = 0.0, rate: float = 0.1, **given: Any
) -> gr.Batch:
    outputs = torch.as_tensor(outputs)
    signals = {"logits": outputs, "outputs": outputs, "targets": torch.as_tensor(targets)}
    losses = torch.zeros(len(outputs))
    return gr.Batch(
        torch.as_tensor(index), losses, signals, learning_rate=rate, clock=clock, **given
    )


def see(method: DoCL, run: gr.Run, batch: gr.Batch) -> None:
    """Record a batch, and let it be observed as the engine does."""
    columns = method.record(batch, run)
    spread = torch.ones(batch.size, dtype=torch.float64)
    clock, rate = spread * (batch.clock or 0.0), spread * (batch.learning_rate or 0.0)
    method.observe(
        gr.Batch(
            *(batch.index, batch.losses, columns, run.epoch, batch.step, rate, clock),
            surveyed=batch.surveyed,
        ),
        run,
    )


# ------------------------------------------------------------------------------ Eqs. 7, 12 and 8

X = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
Y = torch.tensor([[1.0], [0.0], [2.0]], dtype=torch.float64)
THETA = torch.tensor([[0.5, -0.5]], dtype=torch.float64)


def test_eq_7_linear_regression_has_scores_a_quarter_0_and_36() -> None:
    model = linear(X, THETA)
    f = model(X).detach()
    assert f.flatten().tolist() == [0.5, 0.0, -1.0]
    residual = residuals(f, Y, task="regression")
    assert residual.flatten().tolist() == [0.5, 0.0, 3.0]
    moved = flow(model, X, lambda out: squared_error(out, Y, task="regression"))
    assert moved.flatten().tolist() == pytest.approx([0.5, 6.5, 12.0], abs=1e-12)  # K r
    scores = alignment(residual, moved)
    assert scores.tolist() == pytest.approx([0.25, 0.0, 36.0], abs=1e-12)


def test_eq_6_scores_sum_to_the_speed_at_which_the_loss_falls() -> None:
    kernel = X @ X.T
    residual = residuals(X @ THETA.T, Y, task="regression")
    model = linear(X, THETA)
    loss = squared_error(model(X), Y, task="regression").sum()
    (gradient,) = torch.autograd.grad(loss, model.weight)
    moved = flow(model, X, lambda out: squared_error(out, Y, task="regression"))
    total = float(alignment(residual, moved).sum())
    assert total == pytest.approx(36.25)
    assert total == pytest.approx(float(residual.T @ kernel @ residual))
    assert total == pytest.approx(float((gradient**2).sum()))  # minus d loss / dt


def test_eq_5_scores_integrate_to_the_loss_that_is_gone_with_the_sign_turned() -> None:
    model = linear(X, THETA)
    start = float(squared_error(model(X).detach(), Y, task="regression").sum())
    total, rate = 0.0, 1e-4
    for _ in range(400):
        residual = residuals(model(X).detach(), Y, task="regression")
        moved = flow(model, X, lambda out: squared_error(out, Y, task="regression"), rate)
        model.zero_grad()
        total += rate * float(alignment(residual, moved).sum())
    end = float(squared_error(model(X).detach(), Y, task="regression").sum())
    assert total == pytest.approx(start - end, rel=1e-3)


def test_eq_7_a_sample_against_all_others_has_a_negative_score() -> None:
    x, y = torch.ones(3, 1), tensor(1.0, 1.0, -1.0).unsqueeze(1)
    model = linear(x, torch.zeros(1, 1))
    moved = flow(model, x, lambda out: squared_error(out, y, task="regression"))
    scores = alignment(residuals(torch.zeros(3, 1), y, task="regression"), moved)
    assert scores.tolist() == pytest.approx([1.0, 1.0, -1.0])


def test_trap_7_eq_12_needs_the_flow_of_the_probabilities_2_9_not_2_3() -> None:
    x, y = tensor([0.6, 0.8]), tensor(0)
    residual = residuals(torch.zeros(1, 3), y)
    scores = [
        float(alignment(residual, flow(linear(x, torch.zeros(3, 2)), x, losses)))
        for losses in (
            lambda out: squared_error(out, y),
            lambda out: F.cross_entropy(out, y, reduction="none"),
            lambda out: 0.5 * (F.one_hot(y, 3) - out).square().sum(1),
        )
    ]
    assert scores[0] == pytest.approx(2 / 9, rel=1e-5)
    assert scores[1] == pytest.approx(2 / 3, rel=1e-5)  # cross-entropy
    assert scores[2] == pytest.approx(2 / 3, rel=1e-5)  # squared error of the logits


def test_eq_12_two_classes_with_zero_weights() -> None:
    x, y = tensor([1.0, 0.0], [1.0, 1.0]), tensor(0, 1)
    moved = flow(linear(x, torch.zeros(2, 2)), x, lambda out: squared_error(out, y))
    assert moved.tolist() == [
        pytest.approx([0.0, 0.0], abs=1e-6),
        pytest.approx([-0.25, 0.25], abs=1e-6),
    ]
    scores = alignment(residuals(torch.zeros(2, 2), y), moved)
    assert scores.tolist() == pytest.approx([0.0, 0.25], abs=1e-6)


def test_eq_7_ranks_a_cluster_before_an_outlier_of_larger_loss() -> None:
    x = torch.zeros(21, 2)
    x[:20, 0] = 1.0
    x[20, 1] = 1.0
    y = torch.ones(21, 1)
    y[20] = 3.0
    moved = flow(
        linear(x, torch.zeros(1, 2)), x, lambda out: squared_error(out, y, task="regression")
    )
    scores = alignment(residuals(torch.zeros(21, 1), y, task="regression"), moved)
    assert scores[:20].tolist() == pytest.approx([20.0] * 20)
    assert float(scores[20]) == pytest.approx(9.0)
    losses = squared_error(torch.zeros(21, 1), y, task="regression")
    assert int(losses.argmax()) == 20
    assert int(scores.argmin()) == 20


@pytest.mark.parametrize("shift", [0.0, 7.0, -30.0])
def test_eq_12_is_blind_to_a_constant_added_to_all_logits(shift: float) -> None:
    generator = torch.Generator().manual_seed(0)
    f, g = (torch.randn(8, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.randint(5, (8,), generator=generator)
    usual = alignment(residuals(f, y), movement(f, g, 0.3))
    now = alignment(residuals(f + shift, y), movement(f + shift, g, 0.3))
    before = alignment(residuals(f, y), movement(f, g + shift, 0.3))
    assert torch.allclose(now, usual, atol=1e-10)
    assert torch.allclose(before, usual, atol=1e-10)


def test_trap_1_eq_8_has_gamma_on_the_history_and_dihcl_prints_it_on_the_new_value() -> None:
    first = running_score(tensor(0.2), tensor(0.5), 0.9)
    assert float(first) == pytest.approx(0.23)
    assert float(running_score(first, tensor(-0.1), 0.9)) == pytest.approx(0.197)
    new = running_hardness(tensor(0.2), tensor(0.5), 0.9, gamma_on="new")
    assert float(new) == pytest.approx(0.47)


def test_eq_8_starts_with_the_first_observation_and_keeps_what_has_none() -> None:
    found = running_score(tensor(NAN, 1.0, 2.0, NAN), tensor(3.0, NAN, math.inf, -math.inf), 0.9)
    assert found[:3].tolist() == [3.0, 1.0, 2.0]
    assert math.isnan(found[3])


def test_the_squared_error_of_probabilities_by_hand() -> None:
    # p = (.5, .25, .25): 1/2 (.25 + .0625 + .0625).
    logits = tensor([math.log(2.0), 0.0, 0.0])
    assert float(squared_error(logits, tensor(0))) == pytest.approx(0.1875)
    assert residuals(logits, tensor(0))[0].tolist() == pytest.approx([0.5, -0.25, -0.25])
    soft = tensor([0.5, 0.5, 0.0])
    assert float(squared_error(logits, soft)) == pytest.approx(0.0625)
    assert squared_error(logits.half(), tensor(0)).dtype == torch.float32


def test_the_squared_error_has_its_own_gradient() -> None:
    logits = torch.tensor([[0.3, -0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: squared_error(f, tensor(2)), (logits,))
    outputs = torch.tensor([0.3, 2.0], requires_grad=True)
    squared_error(outputs, tensor(1.0, 1.0), task="regression").sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == pytest.approx([-0.7, 1.0])


def test_movement_needs_a_summed_rate_above_1e_12() -> None:
    f, g = torch.ones(4, 2), torch.zeros(4, 2)
    elapsed = torch.tensor([2e-12, 1e-12, 0.0, NAN], dtype=torch.float64)
    found = movement(f, g, elapsed)
    assert torch.isfinite(found[0]).all()
    assert found[1:].isnan().all()
    assert movement(f, torch.full((4, 2), NAN), 0.1).isnan().all()


def test_the_score_without_residual_is_a_length() -> None:
    assert speed(tensor([3.0, -4.0], [NAN, 0.0]))[0] == 5.0
    assert speed(tensor(-2.0, 0.5)).tolist() == [2.0, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: residuals(torch.zeros(2), tensor(0, 1)), "outputs must be logits of shape"),
        (lambda: residuals(torch.zeros(2, 3).long(), tensor(0, 1)), "outputs must be floating"),
        (lambda: residuals(torch.zeros(2, 3), tensor(0, 3)), r"labels in \[0, 3\). Got 3"),
        (lambda: residuals(torch.zeros(2, 3), tensor(-1, 0)), r"labels in \[0, 3\). Got -1"),
        (lambda: residuals(torch.zeros(2, 3), tensor(0)), "targets must be labels of shape"),
        (lambda: residuals(torch.zeros(2, 3), tensor(0.0, 1.0)), "or of shape"),
        (lambda: residuals(torch.zeros(2), torch.zeros(2), task="ranking"), "task must be"),  # type: ignore[arg-type]
        (lambda: squared_error(torch.zeros(2), torch.zeros(3), task="regression"), "targets"),
        (lambda: movement(torch.zeros(2, 3), torch.zeros(2, 2), 0.1), "before must be"),
        (lambda: movement(torch.zeros(2, 3), torch.zeros(2, 3), tensor(0.1)), "elapsed must be"),
        (lambda: alignment(torch.zeros(2, 3), torch.zeros(3, 2)), "dynamics must be"),
        (lambda: speed(tensor(1, 2)), "dynamics must be floating"),
        (lambda: running_score(torch.zeros(2), torch.zeros(3)), "observed must be"),
        (lambda: running_score(torch.zeros(2), torch.zeros(2), 1.5), "gamma must be"),
    ],
)
def test_parts_refuse_bad_input_by_name(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_parts_take_no_lists_for_outputs() -> None:
    with pytest.raises(TypeError, match="outputs must be a tensor"):
        residuals([[0.0, 1.0]], tensor(0))  # type: ignore[arg-type]


# ------------------------------------------------------------------------ Algorithm 1: schedules


def test_algorithm_1_large_batches_in_the_warm_start_and_at_the_end_of_each_episode() -> None:
    method = DoCL(episodes=(5, 10, 15, 20, 30))
    large = [epoch for epoch in range(50) if method.large_batch(epoch)]
    assert large == [0, 1, 2, 3, 4, 9, 14, 19, 29, 39, 49]


def test_algorithm_1_episodes_are_half_open_and_the_last_length_repeats() -> None:
    found = [episode_of(epoch, (2, 5, 9)) for epoch in (0, 1, 2, 4, 5, 8, 9, 12, 13, 17)]
    assert [episode for episode, _ in found] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]
    assert [end for _, end in found] == [2, 2, 5, 5, 9, 9, 13, 13, 17, 21]
    assert episode_of(7, (3,)) == (2, 9)
    assert DoCL().episodes == PAPER_EPISODES
    assert DoCL().episodes[0] == 5


def test_line_19_k_of_1000_shrinks_per_episode_to_a_floor_of_200_after_16() -> None:
    method = DoCL(episodes=(1, 3))  # from epoch 1 on, episodes of 2: one that selects, one that not
    sizes = [method.planned_size(1000, epoch) for epoch in range(1, 41, 2)]
    assert sizes[:4] == [900, 810, 729, 656]
    assert sizes[14:18] == [205, 200, 200, 200]
    assert [method.planned_size(1000, epoch) for epoch in (0, 2, 4)] == [1000] * 3
    paper = DoCL()
    assert {paper.planned_size(1000, epoch) for epoch in range(5, 9)} == {900}
    assert {paper.planned_size(1000, epoch) for epoch in range(20, 29)} == {656}


def test_the_subset_of_docl_nr_grows_from_k_min() -> None:
    method = DoCL(episodes=(1, 3), score="norm", k_min=0.2, growth=1.5)
    assert [method.planned_size(100, epoch) for epoch in (1, 3, 5, 7, 9, 11)] == [
        20,
        30,
        45,
        67,
        100,
        100,
    ]


def test_large_batch_epochs_train_on_the_squared_error_and_others_on_the_usual_loss() -> None:
    method = DoCL(episodes=(1, 3))
    logits, targets = (
        torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
        tensor(0, 1, 2, 0),
    )
    for epoch, large in ((0, True), (1, False), (2, True)):
        run = gr.Run(size=4, seed=0, epoch=epoch)
        losses = method.criterion(logits, targets, run)
        assert method.replaces_criterion(run) is large
        assert (losses is not None) is large
        if losses is not None:
            assert losses.equal(squared_error(logits, targets))


def test_the_engine_asks_for_the_squared_error_and_enlarges_the_batches() -> None:
    curriculum = gr.Curriculum(DoCL(episodes=(1, 3)), learning_rate=lambda: 0.1)
    loader = curriculum.loader(range(32), batch_size=4)
    sizes: dict[int, list[int]] = {}
    generator = torch.Generator().manual_seed(0)
    for epoch in range(3):
        for index in loader:
            logits, targets = torch.randn(len(index), 3, generator=generator), index % 3
            plain = F.cross_entropy(logits, targets, reduction="none")
            if epoch != 1:
                with pytest.raises(RuntimeError, match=r"curriculum\.criterion"):
                    curriculum(plain, logits=logits, targets=targets)
                plain = curriculum.criterion(logits, targets)
                assert plain.equal(squared_error(logits, targets))
            curriculum(plain, logits=logits, targets=targets)
            sizes.setdefault(epoch, []).append(len(index))
    assert sizes == {0: [16, 16], 1: [4] * 7, 2: [16, 16]}  # .9 x 32 = 28 samples between


# ------------------------------------------------------------------------- Algorithm 1: selection


def scored(method: DoCL, *scores: float, **run: Any) -> gr.Run:
    state = begun(method, len(scores), **{"epoch": 1, **run})
    method.scores.write(torch.arange(len(scores)), torch.tensor(scores))
    return state


def chances(log_weights: torch.Tensor) -> list[float]:
    return log_weights.softmax(0).tolist()


def test_boltzmann_divides_by_the_temperature() -> None:
    method = DoCL(episodes=(1, 3))
    scored(method, 0.2, 0.1, -0.1)
    found = chances(method.log_weights(torch.arange(3)))
    assert found == pytest.approx([0.705385, 0.259496, 0.035119], abs=1e-6)
    # The authors' code multiplies by .1 where the paper divides: nearly uniform.
    code = DoCL(episodes=(1, 3), temperature=10.0)
    scored(code, 0.2, 0.1, -0.1)
    found = chances(code.log_weights(torch.arange(3)))
    assert found == pytest.approx([0.337781, 0.334420, 0.327798], abs=1e-6)


def test_trap_6_negative_scores_are_weights_above_0_in_proportion() -> None:
    method = DoCL(episodes=(1, 3), sampling="proportional")
    scored(method, 0.3, -0.1, 0.1)
    found = chances(method.log_weights(torch.arange(3)))
    assert found == pytest.approx([2 / 3, 0.0, 1 / 3], abs=2e-6)
    assert found[1] > 0
    scored(method, -0.5, -0.5, -0.5)
    assert chances(method.log_weights(torch.arange(3))) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("sampling", ["boltzmann", "proportional", "topk"])
def test_trap_6_negative_scores_can_be_drawn_by(sampling: Any) -> None:
    method = DoCL(episodes=(1, 3), sampling=sampling, gamma_k=0.5)
    run = scored(method, *[-1.0 - place for place in range(20)])
    plan = method.plan(gr.Pool(torch.arange(20)), run)
    assert plan.index.unique().numel() == 10
    assert bool((plan.index < 10).float().mean() >= 0.5)


def test_topk_takes_the_largest_scores() -> None:
    method = DoCL(episodes=(1, 3), sampling="topk", gamma_k=0.5)
    run = scored(method, 0.1, -0.3, 0.7, 0.2)
    assert method.plan(gr.Pool(torch.arange(4)), run).index.tolist() == [2, 3]


def test_samples_without_a_score_count_as_the_best() -> None:
    method = DoCL(episodes=(1, 3), temperature=1.0)
    run = scored(method, 0.1, NAN, 0.7, NAN)
    assert method.log_weights(torch.arange(4)).tolist() == pytest.approx([0.1, 0.7, 0.7, 0.7])
    assert method.log_weights(tensor(1, 3)).tolist() == [0.0, 0.0]  # nobody has one: all alike
    assert method.plan(gr.Pool(torch.arange(4)), run).index.numel() == 3


def test_line_9_draws_without_replacement_by_the_generator_of_the_epoch() -> None:
    method = DoCL(episodes=(1, 3), gamma_k=0.4)
    run = scored(method, *torch.linspace(-0.2, 0.2, 50).tolist())
    pool = gr.Pool(torch.arange(50))
    expected = gr.selection.weighted_draw(
        method.log_weights(pool.index), 20, generator=run.generator("docl", "draw"), log=True
    )
    plan = method.plan(pool, run)
    assert plan.index.equal(expected)
    assert plan.log_weights is None
    assert plan.batch_scale == 1
    method.episodes = (1, 9)
    later = method.plan(pool, gr.Run(size=50, seed=0, epoch=2))
    assert not later.index.equal(expected)


def test_weights_and_sizes_of_a_method_before_it_are_kept_to() -> None:
    method = DoCL(episodes=(1, 3), gamma_k=0.5, temperature=100.0)
    run = scored(method, *[0.0] * 20)
    log_weights = torch.zeros(20)
    log_weights[::2] = -math.inf
    plan = method.plan(gr.Pool(torch.arange(20), log_weights=log_weights), run)
    assert plan.index.tolist() == list(range(1, 20, 2))
    steep = torch.arange(20) * 50.0
    plan = method.plan(gr.Pool(torch.arange(20), log_weights=steep, size=8), run)
    assert plan.index.tolist() == [16, 17, 18, 19]
    assert plan.size is None
    top = DoCL(episodes=(1, 3), sampling="topk", gamma_k=0.5)
    run = scored(top, *[float(place) for place in range(20)])
    plan = top.plan(gr.Pool(torch.arange(20), log_weights=log_weights), run)
    assert plan.index.tolist() == list(range(1, 20, 2))


def test_plans_of_large_batch_epochs_hold_the_whole_pool() -> None:
    method = DoCL(episodes=(1, 3), batch_mul=3)
    run = scored(method, 0.1, 0.2, 0.3, 0.4, epoch=2)
    plan = method.plan(gr.Pool(tensor(0, 2, 3), batch_scale=2), run)
    assert plan.index.tolist() == [0, 2, 3]
    assert plan.batch_scale == 6


def test_eq_15_prunes_the_draw_to_a_part_of_it() -> None:
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    scores = torch.linspace(-0.5, 0.5, 40).tolist()
    whole = DoCL(episodes=(1, 3), gamma_k=0.5)
    part = DoCL(episodes=(1, 3), gamma_k=0.5, prune=0.4, features=features)
    pool = gr.Pool(torch.arange(40))
    drawn = whole.plan(pool, scored(whole, *scores)).index
    kept = part.plan(pool, scored(part, *scores)).index
    assert kept.numel() == part.planned_size(40, 1) == 8  # floor(.4 x 20)
    assert torch.isin(kept, drawn).all()
    alone = DoCL(episodes=(1, 3), gamma_k=0.5, prune=0.4, diversity=0.0, features=features)
    kept = alone.plan(pool, scored(alone, *scores)).index
    assert kept.equal(drawn[-8:])  # without diversity the largest scores


def test_eq_15_rescaled_scores_are_shifted_to_be_at_least_0_first() -> None:
    # Two clusters of two; scores are all about -5, their differences tiny beside diversity's gain.
    features = tensor([0.0], [0.01], [9.0], [9.01])
    method = DoCL(
        episodes=(1, 3), gamma_k=1.0, prune=0.5, rescale=True, greedy="exact", features=features
    )
    run = scored(method, -5.0, -5.3, -5.2, -5.1)
    # Shifted and divided by their mean .15: 2, 0, .67, 1.33. Likeness adds up to 2 at first.
    assert method.plan(gr.Pool(torch.arange(4)), run).index.tolist() == [0, 3]


def test_eq_15_diversity_decays_at_each_epoch_that_selects() -> None:
    method = DoCL(episodes=(2, 5, 9))
    selecting = [epoch for epoch in range(13) if not method.large_batch(epoch)]
    steps = [method._pruning_steps(epoch) for epoch in selecting]
    assert selecting == [2, 3, 5, 6, 7, 9, 10, 11]
    assert steps == list(range(8))


def test_eq_15_takes_the_inputs_of_the_last_layer_from_the_ends_of_episodes() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 4, generator=generator), torch.randint(3, (24,), generator=generator)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    method = DoCL(episodes=(2, 4), prune=0.5)
    curriculum = gr.Curriculum(method, learning_rate=lambda: 0.1)
    loader = curriculum.loader(range(24), batch_size=4)
    curriculum.attach(model=model)
    sizes = []
    for epoch in range(3):
        assert method.feature_table.allocated is (epoch == 2)
        seen = 0
        for index in loader:
            logits = model(x[index])
            curriculum(curriculum.criterion(logits, y[index]), logits=logits, targets=y[index])
            seen += len(index)
        sizes.append(seen)
    assert sizes == [24, 24, 10]  # floor(.5 floor(.9 x 24))
    assert method.feature_table.values.equal(model[:2](x).detach())


# ----------------------------------------------------------------------- Algorithm 1: observation


def test_first_visit_keeps_the_outputs_and_the_second_gives_the_first_score() -> None:
    method = DoCL()
    run = begun(method)
    see(method, run, rows([2], [[0.0, 0.0]], [1], clock=0.0))
    assert method.scores.values.isnan().all()
    assert method.outputs.values[2].tolist() == [0.0, 0.0]
    assert method.stamp.values[2] == 0.0
    # f = (0, log 3), p = (.25, .75), residual (-.25, .25); df/dt = (0, log 3) / .5.
    see(method, run, rows([2, 0], [[0.0, math.log(3.0)], [1.0, 2.0]], [1, 0], clock=0.5))
    assert float(method.scores.values[2]) == pytest.approx(0.25 * math.log(3.0) / 0.5)
    assert method.scores.values[[0, 1, 3]].isnan().all()
    assert method.stamp.values[:3].tolist() == [0.5, pytest.approx(NAN, nan_ok=True), 0.5]


def test_trap_3_elapsed_and_inclusive_sums_of_the_rate_are_1_2_and_1() -> None:
    # Rates .4, .3, .2, .1; observed at steps 2 and 4; the output moves by .6 in between.
    for lr_sum, expected in (("elapsed", 0.6 / 0.5), ("inclusive", 0.6 / 0.6)):
        method = DoCL(task="regression", score="norm", lr_sum=lr_sum)  # type: ignore[arg-type]
        run = begun(method, 1)
        see(method, run, rows([0], [[0.0]], [[1.0]], clock=0.4, rate=0.3))
        see(method, run, rows([0], [[0.6]], [[1.0]], clock=0.9, rate=0.1))
        assert float(method.scores.values[0]) == pytest.approx(expected)


def test_trap_2_the_summed_rate_grows_for_samples_that_are_not_selected() -> None:
    # 4 samples, one batch per epoch. Epoch 0 sees all, epoch 1 the two best, epoch 2 all again.
    rates = [0.4, 0.3, 0.2]
    method = DoCL(task="regression", episodes=(1, 3), sampling="topk", k_min=0.5, score="norm")
    curriculum = gr.Curriculum(method, learning_rate=lambda step: rates[step])
    loader = curriculum.loader(range(4), batch_size=4)
    shown = []
    for epoch in range(3):
        for index in loader:
            shown.append(sorted(index.tolist()))
            outputs = torch.full((len(index), 1), float(epoch))
            losses = squared_error(outputs, torch.zeros_like(outputs), task="regression")
            curriculum(losses, outputs=outputs, targets=torch.zeros_like(outputs))
    assert shown[0] == shown[2] == [0, 1, 2, 3]
    chosen = shown[1]
    left_out = [sample for sample in range(4) if sample not in chosen]
    scores = curriculum.scores()["DoCL.score"]
    assert scores[left_out].tolist() == pytest.approx([2.0 / (0.4 + 0.3)] * 2)
    expected = 0.9 * (1.0 / 0.4) + 0.1 * (1.0 / 0.3)
    assert scores[chosen].tolist() == pytest.approx([expected] * 2)
    assert "DoCL.outputs" not in curriculum.scores()


def test_no_step_between_two_visits_leaves_the_score_and_keeps_the_new_outputs() -> None:
    method = DoCL()
    run = begun(method)
    see(method, run, rows([1], [[0.0, 0.0]], [1], clock=0.5))
    see(method, run, rows([1], [[1.0, 0.0]], [1], clock=0.5))
    assert method.scores.values.isnan().all()
    assert method.outputs.values[1].tolist() == [1.0, 0.0]


def test_samples_that_are_not_seen_stay_as_they_are_to_the_bit() -> None:
    method = DoCL()
    run = begun(method, 6)
    generator = torch.Generator().manual_seed(0)
    for clock in (0.0, 0.1):
        logits = torch.randn(6, 3, generator=generator)
        see(method, run, rows(torch.arange(6), logits, torch.zeros(6).long(), clock=clock))
    before = {
        name: table.values.clone() for name, table in method.tables().items() if table.allocated
    }
    see(method, run, rows([4], [[9.0, 0.0, 0.0]], [1], clock=0.2))
    rest = tensor(0, 1, 2, 3, 5)
    for name, values in before.items():
        assert method.tables()[name].values[rest].equal(values[rest])
        assert not method.tables()[name].values[4].equal(values[4])


def test_regression_scores_by_eq_7_and_takes_vectors_and_numbers() -> None:
    for shape in ((3, 1), (3,)):
        method = DoCL(task="regression")
        run = begun(method, 3)
        model = linear(X, THETA)
        y = Y.reshape(shape)
        see(method, run, rows([0, 1, 2], model(X).detach().reshape(shape), y))
        torch.optim.SGD(model.parameters(), lr=0.01)
        flow(model, X, lambda out: squared_error(out, Y, task="regression"), 0.01)
        outputs = model(X).detach().reshape(shape)
        see(method, run, rows([0, 1, 2], outputs, y, clock=0.01))
        # The residual is that of the second visit: y - f - .01 K r.
        moved = tensor(0.5, 6.5, 12.0).double()
        expected = (tensor(0.5, 0.0, 3.0) - 0.01 * moved) * moved
        assert method.scores.values.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
        losses = method.criterion(outputs, y, run)
        assert losses is not None
        assert losses.tolist() == pytest.approx((0.5 * (y - outputs).flatten() ** 2).tolist())
        assert not method.replaces_criterion(run)


def test_docl_nr_scores_by_the_speed_alone() -> None:
    method = DoCL(score="norm")
    run = begun(method)
    see(method, run, rows([0], [[0.0, 0.0]], [0]))
    see(method, run, rows([0], [[3.0, 4.0]], [0], clock=0.5))
    assert float(method.scores.values[0]) == pytest.approx(10.0)


def test_exp3_divides_by_the_chance_of_this_epochs_draw_at_least_a_hundredth() -> None:
    method = DoCL(episodes=(1, 3), exp3=True, gamma_k=0.5, score="norm", k_min=0.5)
    run = scored(method, 0.3, 0.0, 0.1, -9.0)
    method.start_epoch(run)
    weights = method.log_weights(torch.arange(4)).double().exp()
    expected = gr.selection.inclusion_probabilities(weights, 2)
    assert expected[3] < 0.01
    expected[3] = 0.01
    see(method, run, rows(torch.arange(4), torch.zeros(4, 2), [0] * 4))
    before = method.scores.values.clone()
    see(method, run, rows(torch.arange(4), torch.tensor([[3.0, 4.0]] * 4), [0] * 4, clock=0.5))
    observed = (method.scores.values - 0.9 * before) / 0.1
    assert observed.tolist() == pytest.approx((10.0 / expected).tolist(), rel=1e-3)


def test_exp3_in_large_batch_epochs_divides_by_1() -> None:
    method = DoCL(episodes=(1, 3), exp3=True)
    run = scored(method, 0.3, 0.0, 0.1, -9.0)
    method.start_epoch(run)
    assert method.state_dict()["chances"] is not None
    run = gr.Run(size=4, seed=0, epoch=2)
    method.start_epoch(run)
    assert method.state_dict() == {"chances": None, "chances_epoch": 2}


def test_exp3_keeps_the_chances_of_an_epoch_that_is_begun_again() -> None:
    settings: dict[str, Any] = {"episodes": (1, 3), "exp3": True, "gamma_k": 0.5}
    method = DoCL(**settings)
    run = scored(method, 0.3, 0.0, 0.1, -0.2)
    method.start_epoch(run)
    state = method.state_dict()
    before = state["chances"].clone()
    resumed = DoCL(**settings)
    scored(resumed, 5.0, 0.0, 1.0, 0.2)  # scores have moved on since the draw
    resumed.load_state_dict(state)
    for either in (method, resumed):
        either.scores.write(torch.arange(4), tensor(0.0, 0.0, 0.0, 9.0))
        either.start_epoch(run)
        assert either.state_dict()["chances"].equal(before)
    assert not DoCL(**settings).state_dict()["chances"]


def test_surveys_are_not_observed() -> None:
    method = DoCL()
    run = begun(method)
    see(method, run, rows([0], [[0.0, 0.0]], [0], surveyed=True))
    assert not method.outputs.allocated
    assert method.stamp.values.isnan().all()


def test_float16_outputs_take_half_and_do_not_overflow() -> None:
    method = DoCL(dtype="float16")
    run = begun(method)
    see(method, run, rows([0, 1], [[1e5, 0.0], [0.1, 0.0]], [0, 0]))
    assert method.outputs.values.dtype == torch.float16
    assert method.outputs.values[0].tolist() == [65504.0, 0.0]
    see(method, run, rows([0, 1], [[1e5, 0.0], [0.3, 0.0]], [1, 1], clock=0.5))
    assert torch.isfinite(method.scores.values[:2]).all()


def test_soft_labels_are_targets_too() -> None:
    method = DoCL()
    run = begun(method)
    see(method, run, rows([0], [[0.0, 0.0]], [[0.0, 1.0]]))
    see(method, run, rows([0], [[0.0, 1.0]], [[0.0, 1.0]], clock=1.0))
    assert float(method.scores.values[0]) == pytest.approx(1 / (1 + math.e))  # 1 - p_1


# ------------------------------------------------------------------------------------- bad input


def test_memory_above_the_limit_is_warned_of_at_the_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_signals, "WARN_BYTES", 4 * 3 * 4 - 1)
    method = DoCL()
    run = begun(method, 4)
    with pytest.warns(UserWarning, match="take 0.0 GB. dtype='float16' halves that"):
        method.record(rows([0], [[0.0, 0.0, 2.0]], [0]), run)
    method.record(rows([0], [[0.0, 0.0, 2.0]], [0]), run)  # said once
    half = DoCL(dtype="float16")
    assert set(half.record(rows([0], [[0.0, 0.0, 2.0]], [0]), begun(half, 4))) == {
        "logits",
        "targets",
    }


def test_probabilities_in_place_of_logits_are_warned_of_once() -> None:
    method = DoCL()
    run = begun(method)
    batch = rows([0, 1], [[0.25, 0.75], [0.5, 0.5]], [0, 1])
    with pytest.warns(UserWarning, match="logits look like probabilities"):
        method.record(batch, run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        columns = method.record(batch, run)
    assert columns["logits"].equal(batch.signals["logits"])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (rows([0], [[0.0, 0.0, 1.0]], [3]), r"targets must be labels in \[0, 3\). Got 3"),
        (rows([0], [[0.0, 0.0, 1.0]], [-1]), r"targets must be labels in \[0, 3\). Got -1"),
        (rows([0], [[0.0, 1.0]], [0]), "logits must be of 3 values per sample, as before"),
        (rows([0], [0.0], [0]), "logits must be of shape"),
        (rows([0], [[0.0]], [0]), "logits must be of shape .* C at least 2"),
        (rows([0], [[0, 0, 1]], [0]), "logits must be floating"),
        (rows([0], [[0.0, 0.0, 1.0]], [[0]]), "targets must be labels of shape"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_changes(
    batch: gr.Batch, message: str
) -> None:
    method = DoCL()
    run = begun(method)
    see(method, run, rows([0], [[0.0, 0.5, 0.0]], [2]))
    with pytest.raises(ValueError, match=message):
        see(method, run, batch)  # labels are looked at when the rows are applied
    assert method.outputs.values[0].tolist() == [0.0, 0.5, 0.0]


def test_labels_of_other_classes_are_refused_in_the_first_call() -> None:
    method = DoCL()
    with pytest.raises(ValueError, match=r"targets must be labels in \[0, 3\). Got 3"):
        method.record(rows([0], [[0.0, 0.5, 0.0]], [3]), begun(method))


def test_a_width_that_changes_within_the_first_epoch_is_refused_too() -> None:
    method = DoCL()
    run = begun(method)
    method.record(rows([0], [[0.0, 0.5, 0.0]], [2]), run)
    with pytest.raises(ValueError, match="3 values per sample"):
        method.record(rows([1], [[0.0, 0.5]], [1]), run)


def test_regression_targets_must_have_the_shape_of_the_outputs() -> None:
    method = DoCL(task="regression")
    run = begun(method)
    with pytest.raises(ValueError, match=r"targets must be of the shape of outputs, \(2, 1\)"):
        method.record(rows([0, 1], [[0.0], [1.0]], [0.0, 1.0]), run)
    batch = rows([0], [[0.0]], [[0.0]])
    batch.signals["targets"] = [[0.0]]
    with pytest.raises(TypeError, match="targets must be a tensor"):
        method.record(batch, run)


def test_outputs_that_are_not_finite_are_refused_before_tables_change() -> None:
    method = DoCL()
    run = begun(method)
    with pytest.raises(ValueError, match=r"logits must be finite.* index \[3\]"):
        see(method, run, rows([1, 3], [[0.0, 0.0], [math.inf, 0.0]], [0, 0]))
    assert not method.outputs.allocated


def test_recording_does_not_wait_for_an_accelerator() -> None:
    method = DoCL()
    run = begun(method)
    with torch.device("meta"):  # has no values: whoever looks at one fails
        logits, targets = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    batch = gr.Batch(
        tensor(0, 1), torch.zeros(2), {"logits": logits, "targets": targets}, clock=0.0
    )
    assert method.record(batch, run)["logits"].is_meta
    assert method.criterion(logits, targets, run) is not None


def test_exp3_of_a_certain_choice_and_other_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="exp3 must be False where sampling is 'topk'"):
        DoCL(sampling="topk", exp3=True)
    with pytest.raises(ValueError, match="episodes must be epochs above 0"):
        DoCL(episodes=(5, 5))
    with pytest.raises(TypeError, match="episodes must be epochs"):
        DoCL(episodes=5)  # type: ignore[arg-type]


def test_repr_shows_every_setting() -> None:
    method = DoCL(episodes=[2, 4], temperature=0.5)
    assert eval(repr(method)).settings() == method.settings()
    assert "episodes=(2, 4), batch_mul=4, sampling='boltzmann', temperature=0.5" in repr(method)


def test_several_labels_per_sample_are_refused_by_name() -> None:
    method, run = gr.DoCL(episodes=(1, 3)), gr.Run(size=2, seed=0)
    method.setup(run)
    signals = {"logits": torch.zeros(2, 3), "targets": torch.tensor([[1.0, 1, 0], [0, 0, 1]])}
    batch = gr.Batch(torch.arange(2), torch.zeros(2), signals, clock=torch.zeros(2))
    with pytest.raises(ValueError, match=r"targets must be labels, or rows that sum to 1. Got 2.0"):
        method.observe(batch, run)
