"""Importance sampling by hand: the bound, the weights, the switch, the draw, and whole epochs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import gradatim as gr
from gradatim.selection.candidates import draw_with_replacement
from gradatim.weighting import (
    importance_weights,
    last_layer_bound,
    sampling_probabilities,
    variance_reduction,
    worthwhile_reduction,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bound(method: gr.Method, size: int = 8, batch: int = 8, **options: Any) -> Any:
    curriculum = gr.Curriculum(method, seed=0, **options)
    return curriculum, curriculum.loader(range(size), batch_size=batch)


def candidates(losses: list[float], step: int = 0, **signals: torch.Tensor) -> gr.Batch:
    return gr.Batch(torch.arange(len(losses)), torch.tensor(losses), signals, step=step)


# ------------------------------------------------------------------------------------ the bound


def test_the_bound_of_cross_entropy_by_hand() -> None:
    """Katharopoulos and Fleuret 2018, Eq. 20: logits (2, 1, 0), y = 0: .4243; 0, y = 2: .8165."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = last_layer_bound(logits, torch.tensor([0, 2]))
    assert found.tolist() == pytest.approx([0.4243, 0.8165], abs=5e-5)


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "label smoothing"])
def test_the_bound_is_the_norm_that_autograd_finds(soft: bool) -> None:
    logits = torch.randn(6, 5, generator=seeded(), dtype=torch.float64).requires_grad_()
    targets = torch.randint(5, (6,), generator=seeded(1))
    given = 0.9 * F.one_hot(targets, 5).double() + 0.02 if soft else targets
    F.cross_entropy(logits, given, reduction="sum").backward()
    assert logits.grad is not None
    found = last_layer_bound(logits, given)
    torch.testing.assert_close(found, logits.grad.norm(dim=1), rtol=1e-12, atol=1e-15)
    assert not found.requires_grad


def test_the_bound_keeps_its_digits_where_the_model_is_almost_sure() -> None:
    sure = torch.tensor([[20.0, 0.0]])
    assert float(last_layer_bound(sure, torch.tensor([0]))) == pytest.approx(
        math.sqrt(2) / (1 + math.exp(20)), rel=1e-5
    )


def test_the_bound_of_the_squared_error_is_the_length_of_the_error() -> None:
    outputs = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    assert last_layer_bound(outputs, torch.zeros(2, 2), loss="squared_error").tolist() == [
        5.0,
        pytest.approx(math.sqrt(2)),
    ]
    column = last_layer_bound(torch.tensor([[1.0], [2.0]]), torch.ones(2), loss="squared_error")
    assert column.tolist() == [0.0, 1.0]


def test_the_bound_of_tokens_is_that_of_their_mean_and_masked_ones_may_be_anything() -> None:
    logits = torch.randn(3, 4, 5, generator=seeded(), dtype=torch.float64)
    targets = torch.randint(5, (3, 4), generator=seeded(1))
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    wild = logits.masked_fill(mask.unsqueeze(2) == 0, math.nan)
    leaf = logits.clone().requires_grad_()
    losses = F.cross_entropy(leaf.transpose(1, 2), targets, reduction="none")
    ((losses * mask).sum(1) / mask.sum(1)).sum().backward()
    assert leaf.grad is not None
    found = last_layer_bound(wild, targets.masked_fill(mask == 0, -100), mask=mask)
    torch.testing.assert_close(found, leaf.grad.flatten(1).norm(dim=1), rtol=1e-12, atol=1e-15)


def test_the_bound_refuses_what_it_cannot_read() -> None:
    logits, targets = torch.zeros(2, 3), torch.tensor([0, 1])
    cases: list[tuple[torch.Tensor, torch.Tensor, dict[str, Any], str]] = [
        (torch.zeros(2, 4, 3), torch.zeros(2, 4).long(), {}, r"tokens per sample need a mask="),
        (logits, torch.tensor([0, 3]), {}, r"targets must be class numbers in \[0, 3\). Got 3"),
        (logits, torch.tensor([-100, 0]), {}, "Got -100"),
        (logits, torch.zeros(2, 2), {}, r"targets must be of shape \(2, 3\)"),
        (logits, targets, {"loss": "mse"}, "loss must be one of"),
        (logits, targets, {"loss": "squared_error"}, "as the outputs"),
        (logits.long(), targets, {}, "outputs must be floating"),
    ]
    for outputs, wanted, options, message in cases:
        with pytest.raises(ValueError, match=message):
            last_layer_bound(outputs, wanted, **options)
    with pytest.raises(TypeError, match="targets must be a tensor"):
        last_layer_bound(logits, [0, 1])  # type: ignore[arg-type]


# ------------------------------------------------------------- probabilities, weights, the switch


def test_scores_1_1_1_3_by_hand() -> None:
    """s = (1, 1, 1, 3): g = 1/6 thrice and 1/2, w = 1.5 thrice and .5, tau = 1.154701.

    Katharopoulos and Fleuret 2018, Algorithm 1 and Eq. 26.
    """
    chances = sampling_probabilities([1.0, 1.0, 1.0, 3.0])
    assert chances.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert importance_weights(chances).tolist() == pytest.approx([1.5, 1.5, 1.5, 0.5])
    assert float(variance_reduction(chances)) == pytest.approx(1.154701, abs=5e-7)


def test_tau_is_one_for_equal_scores_and_the_root_of_n_for_one_score() -> None:
    """Katharopoulos and Fleuret 2018, Eq. 26."""
    assert float(variance_reduction(torch.full((7,), 1 / 7))) == pytest.approx(1.0)
    assert float(variance_reduction([0.0, 1.0, 0.0, 0.0, 0.0])) == pytest.approx(math.sqrt(5))
    scores = torch.rand(30, generator=seeded(), dtype=torch.float64)
    chances = sampling_probabilities(scores)
    spread = float(scores.var(correction=0)) / float(scores.mean()) ** 2
    assert float(variance_reduction(chances)) == pytest.approx(math.sqrt(1 + spread))
    bracket = 1 - ((chances - 1 / 30) ** 2).sum() / (chances**2).sum()
    assert float(variance_reduction(chances)) == pytest.approx(float(bracket) ** -0.5)


def test_the_threshold_from_which_a_gain_is_certain() -> None:
    """Katharopoulos and Fleuret 2018: (B + 3b) / 3b, 2 for B = 3b and 2.667 for 640 and 128."""
    assert worthwhile_reduction(3 * 50, 50) == 2.0
    assert worthwhile_reduction(640, 128) == pytest.approx(2.667, abs=5e-4)


def test_losses_1_to_4_by_hand() -> None:
    """p = .1, .2, .3, .4; w = 2.5, 1.25, .8333, .625; the expected weighted loss is 2.5."""
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    p = sampling_probabilities(losses)
    w = importance_weights(p)
    assert p.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert w.tolist() == pytest.approx([2.5, 1.25, 5 / 6, 0.625])
    assert float((p * w * losses).sum()) == pytest.approx(2.5)


def test_half_of_the_bias_undone_by_hand() -> None:
    """power .5: w = 1.627005, 1.150466, .939351, .813502, and sum w p = 1."""
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    w = importance_weights(p, power=0.5)
    assert w.tolist() == pytest.approx([1.627005, 1.150466, 0.939351, 0.813502], abs=1e-6)
    assert float((w * p).sum()) == pytest.approx(1.0)
    assert importance_weights(p, power=0).tolist() == [1.0] * 4


def test_alpha_0_and_much_smoothing_are_uniform_and_so_are_zeros() -> None:
    losses = [0.0, 1.0, 5.0, 9.0]
    assert sampling_probabilities(losses, alpha=0).tolist() == [0.25] * 4
    smooth = sampling_probabilities(losses, smooth=1e9)
    assert smooth.tolist() == pytest.approx([0.25] * 4, abs=1e-8)
    assert sampling_probabilities([0.0] * 4).tolist() == [0.25] * 4
    # Smoothing by the mean: (0, 1, 2, 3) + 0.5 * 1.5.
    found = sampling_probabilities([0.0, 1.0, 2.0, 3.0], smooth=0.5)
    assert found.tolist() == pytest.approx([0.75 / 9, 1.75 / 9, 2.75 / 9, 3.75 / 9])


def test_no_power_overflows() -> None:
    found = sampling_probabilities(torch.tensor([1e30, 2e30]), alpha=3.0)
    assert found.tolist() == pytest.approx([1 / 9, 8 / 9])


def test_the_gradient_averaged_over_the_exact_distribution_is_the_full_one() -> None:
    gradients = torch.randn(20, 7, generator=seeded(), dtype=torch.float64)
    for alpha, smooth in ((1.0, 0.0), (2.0, 0.0), (0.5, 0.3)):
        p = sampling_probabilities(gradients.norm(dim=1), alpha=alpha, smooth=smooth)
        mean = (p * importance_weights(p)) @ gradients
        torch.testing.assert_close(mean, gradients.mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampling_probabilities([1.0, -0.1]), "scores must be at least 0"),
        (lambda: sampling_probabilities([1.0, math.nan]), "scores must be finite"),
        (lambda: sampling_probabilities([1.0], alpha=-1), "alpha must be"),
        (lambda: sampling_probabilities([1.0], smooth=-1), "smooth must be"),
        (lambda: importance_weights([0.5, -0.5]), "probabilities must be at least 0"),
        (lambda: importance_weights([1.0], power=1.5), "power must be"),
        (lambda: worthwhile_reduction(0, 1), "candidates must be"),
    ],
)
def test_bad_input_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_draw_never_takes_what_has_no_chance() -> None:
    chances = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])
    for seed in range(50):
        drawn = draw_with_replacement(chances, 40, generator=seeded(seed))
        assert drawn.shape == (40,)
        assert set(drawn.tolist()) <= {1, 3}


# ------------------------------------------------------------------------------------ the method


def test_the_method_draws_weighs_and_follows_tau() -> None:
    method = gr.ImportanceSampling("loss", threshold=1.02, momentum=0.5, smooth=0)
    run = gr.Run(size=4, seed=0)
    method.setup(run)
    losses = [1.0, 1.0, 1.0, 3.0]
    by_hand, tau = [1.5, 1.5, 1.5, 0.5], 0.0
    for step in range(8):
        run.step = step
        batch = candidates(losses, step)
        kept = method.select(batch, 3, run)
        on = tau > 1.02
        assert float(method.tau.value) == pytest.approx(tau), "selecting moves no state"
        weights = method.weigh(gr.Batch(batch.index[kept], batch.losses[kept], step=step), run)
        assert weights is not None
        assert kept.shape == (3,)
        assert kept.tolist() == sorted(kept.tolist())
        assert weights.tolist() == pytest.approx([by_hand[k] for k in kept] if on else [1.0] * 3)
        if not on:
            assert len(set(kept.tolist())) == 3, "uniformly, without replacement"
        tau = 0.5 * tau + 0.5 * 1.1547005
        assert float(method.tau.value) == pytest.approx(tau)
    assert tau > 1.02, "both cases were met"


def test_the_loss_of_a_step_is_that_of_the_equation() -> None:
    """(1/k) sum w_i l_i over the drawn, repeats counted, through the engine."""
    method = gr.ImportanceSampling(threshold=0, momentum=0)
    curriculum, loader = bound(method, size=16)
    logits = torch.randn(16, 3, generator=seeded()) * 3
    targets = torch.arange(16) % 3
    repeats = 0
    for step, index in enumerate(loader):
        losses = F.cross_entropy(logits[index], targets[index], reduction="none")
        kept = curriculum.select(losses, 5, logits=logits[index], targets=targets[index])
        assert kept.shape == (5,)
        repeats += 5 - len(set(kept.tolist()))
        assert curriculum.index.tolist() == index[kept].tolist()
        loss = curriculum(losses[kept])
        if step == 0:  # tau was 0
            torch.testing.assert_close(loss, losses[kept].mean())
            continue
        scores = last_layer_bound(logits[index], targets[index])
        weights = scores.sum() / (8 * scores[kept])
        torch.testing.assert_close(loss, (weights * losses[kept]).sum() / 5)
    assert curriculum.epoch == 1
    assert repeats > 0


def test_a_closure_weighs_alike_and_counts_once() -> None:
    method = gr.ImportanceSampling("loss", threshold=0, momentum=0.5)
    curriculum, loader = bound(method, size=24)
    for index in loader:
        losses = index.float() + 1
        kept = curriculum.select(losses, 3)
        rows = curriculum.index
        first = curriculum(losses[kept], index=rows)
        tau = float(method.tau.value)
        assert torch.equal(curriculum(losses[kept], index=rows), first)
        assert float(method.tau.value) == tau


def test_a_skipped_batch_moves_no_tau_and_gives_no_weights_to_the_next() -> None:
    method = gr.ImportanceSampling("loss", threshold=0)
    curriculum, loader = bound(method, size=6, batch=4)
    stream = iter(loader)
    index = next(stream)
    method.tau.write(2.0)
    curriculum.select(torch.tensor([1.0, 5.0, 0.1, 9.0]), 2)
    curriculum.skip()
    assert float(method.tau.value) == 2.0
    index = next(stream)  # as many rows as were chosen from the batch before
    assert torch.equal(curriculum(index.float()), index.float().mean())


def test_no_more_candidates_than_wanted_are_all_kept_with_weight_one() -> None:
    curriculum, loader = bound(gr.ImportanceSampling("loss", threshold=0), size=10, batch=8)
    sizes = []
    for index in loader:
        losses = index.float() + 1
        kept = curriculum.select(losses, 4)
        sizes.append(len(kept))
        loss = curriculum(losses[kept])
        if len(index) == 2:
            torch.testing.assert_close(loss, losses.mean())
    assert sizes == [4, 2]


def test_equal_scores_stay_below_the_default_threshold() -> None:
    method = gr.ImportanceSampling("loss", momentum=0)
    curriculum, loader = bound(method, size=64, batch=8)
    for index in loader:
        kept = curriculum.select(torch.ones(len(index)), 4)
        assert len(set(kept.tolist())) == 4
        assert float(curriculum(index[kept].float())) == float(index[kept].float().mean())


def test_signals_are_needed_where_candidates_are_scored_and_nowhere_else() -> None:
    curriculum, loader = bound(gr.ImportanceSampling())
    index = next(iter(loader))
    losses = index.float() + 1
    with pytest.raises(ValueError, match=r"logits must be given: ImportanceSampling\(\) needs it"):
        curriculum.select(losses, 3)
    logits = torch.randn(8, 3, generator=seeded())
    with pytest.raises(ValueError, match="targets must be given"):
        curriculum.select(losses, 3, logits=logits)
    kept = curriculum.select(losses, 3, logits=logits, targets=index % 3)
    assert torch.isfinite(curriculum(losses[kept]))


def test_losses_below_zero_are_refused_where_they_are_the_score() -> None:
    curriculum, loader = bound(gr.ImportanceSampling("loss"))
    next(iter(loader))
    with pytest.raises(ValueError, match="losses must be at least 0"):
        curriculum.select(torch.tensor([-1.0] + [1.0] * 7), 3)


def test_losses_that_are_skipped_are_not_drawn() -> None:
    method = gr.ImportanceSampling("loss", threshold=0, momentum=0, smooth=0)
    curriculum, loader = bound(method, size=24, nonfinite="skip")
    for step, index in enumerate(loader):
        losses = index.float() + 1
        losses[3] = math.nan
        kept = curriculum.select(losses, 4)
        assert step == 0 or 3 not in kept.tolist()
        assert torch.isfinite(curriculum(losses[kept]))
        assert torch.isfinite(method.tau.value)


def test_nothing_in_a_step_waits_for_the_device() -> None:
    """The meta device has no values, so reading one raises."""
    run = gr.Run(size=6, seed=0)
    signals = {"logits": torch.zeros(6, 3, device="meta"), "targets": torch.zeros(6).long()}
    signals["targets"] = signals["targets"].to("meta")
    for method in (gr.ImportanceSampling(), gr.ImportanceSampling("loss", power=0.5)):
        method.setup(run)
        method.tau.table.to(torch.device("meta"))
        batch = gr.Batch(torch.arange(6), torch.zeros(6, device="meta"), signals)
        kept = method.select(batch, 3, run)
        assert kept.is_meta
        part = gr.Batch(torch.arange(3), torch.zeros(3, device="meta"))
        weights = method.weigh(part, run)
        assert weights is not None
        assert weights.is_meta


def test_scoring_leaves_the_model_as_it_was() -> None:
    norm = torch.nn.BatchNorm1d(2)
    model = torch.nn.Sequential(norm, torch.nn.Dropout().eval(), torch.nn.Linear(2, 2))
    method = gr.ImportanceSampling()
    with (
        pytest.raises(RuntimeError, match=r"curriculum\.attach\(model=model\)"),
        method.scoring_pass(),
    ):
        pass
    gr.Curriculum(method).attach(model=model)
    assert isinstance(norm.running_mean, torch.Tensor)
    before = norm.running_mean.clone()
    with method.scoring_pass():
        assert not any(module.training for module in model.modules())
        assert not model(torch.ones(4, 2)).requires_grad
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert torch.equal(norm.running_mean, before)
    with gr.ImportanceSampling(scoring="train").scoring_pass(model):
        assert all(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_an_epoch_without_a_selection_is_noticed() -> None:
    curriculum, loader = bound(gr.ImportanceSampling())
    index = next(iter(loader))
    with pytest.warns(UserWarning, match=r"ImportanceSampling chose nothing.*curriculum\.select"):
        curriculum(index.float())


# ------------------------------------------------------------------------------------ whole epochs


def drawn_epoch(method: gr.LossProportional, losses: torch.Tensor, epoch: int = 1) -> gr.Pool:
    run = gr.Run(size=losses.numel(), seed=0, epoch=epoch)
    method.setup(run)
    method.loss.allocate(run.size).write(torch.arange(run.size), losses)
    return method.plan(gr.Pool(torch.arange(run.size)), run)


def test_an_epoch_of_four_losses_by_hand() -> None:
    """l = 1, 2, 3, 4, two drawn: pi = .2, .4, .6, .8 and w = 2.5, 1.25, .8333, .625."""
    weights = {0: 2.5, 1: 1.25, 2: 5 / 6, 3: 0.625}
    seen = set()
    for epoch in range(1, 30):
        pool = drawn_epoch(
            gr.LossProportional(0.5, smooth=0), torch.tensor([1.0, 2.0, 3.0, 4.0]), epoch
        )
        assert pool.weights is not None
        assert pool.index.numel() == 2
        seen |= set(pool.index.tolist())
        assert pool.weights.tolist() == pytest.approx([weights[k] for k in pool.index.tolist()])
    assert seen == {0, 1, 2, 3}


def test_chances_stop_at_one_and_the_epoch_stays_unbiased() -> None:
    """l = 1, 1, 1, 97, two drawn: pi = 1/3 thrice and 1."""
    positions, chances = gr.selection.systematic_draw([1.0, 1.0, 1.0, 97.0], 2, generator=seeded())
    assert chances.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
    assert 3 in positions.tolist()
    weights = importance_weights(chances / 2)
    assert weights.tolist() == pytest.approx([1.5, 1.5, 1.5, 0.5])
    values = torch.randn(4, generator=seeded(), dtype=torch.float64)
    assert float((chances * weights * values).sum() / 2) == pytest.approx(float(values.mean()))


def test_the_first_epoch_is_complete_and_sizes_are_planned() -> None:
    method = gr.LossProportional(0.3, warmup_epochs=2)
    curriculum, loader = bound(method, size=20, batch=5)
    assert curriculum.planned_steps(4) == 4 + 4 + 2 + 2
    counts = []
    for _ in range(4):
        rows = [row for index in loader for row in (curriculum(index + 1.0), index)[1].tolist()]
        counts.append((len(rows), len(set(rows))))
    assert counts == [(20, 20), (20, 20), (6, 6), (6, 6)]


def test_a_sample_that_was_never_seen_counts_as_the_mean() -> None:
    losses = torch.tensor([2.0, math.nan, 4.0, 6.0])
    found = {}
    for epoch in range(1, 20):
        pool = drawn_epoch(gr.LossProportional(0.5, smooth=0), losses, epoch)
        assert pool.weights is not None
        found |= dict(zip(pool.index.tolist(), pool.weights.tolist(), strict=True))
    assert found[1] == pytest.approx(1.0)


def test_alpha_0_draws_uniformly_without_weights() -> None:
    pool = drawn_epoch(gr.LossProportional(0.5, alpha=0), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert pool.weights is not None
    assert pool.weights.tolist() == pytest.approx([1.0, 1.0])
