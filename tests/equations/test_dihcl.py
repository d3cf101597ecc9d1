"""DIH and DIHCL: every worked number of the specification, traps 1 to 5, and what must hold."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.analysis import agreement, separation
from gradatim.methods.dihcl import FLOORS
from gradatim.selection import inclusion_probabilities

RATE = 0.1
LOSSES = {0: 2.0, 1: 1.0, 3: 0.4}  # by step: observed at the first, second and fourth
CORRECT = {0: False, 1: True, 3: False}


def observed(
    method: gr.Method, rates: list[float], rows: dict[int, dict[str, float]]
) -> list[float]:
    """Dynamic hardness of sample 0 after each observation, in a hand-made course of steps."""
    run = gr.Run(size=3, seed=0)
    method.setup(run)
    for table in method.tables().values():
        table.allocate(3)
    found = []
    for step, row in rows.items():
        batch = gr.Batch(
            torch.tensor([0]),
            torch.tensor([row["loss"]]),
            {"correct": torch.tensor([bool(row["correct"])])},
            step=torch.tensor([step]),
            learning_rate=torch.tensor([rates[step]], dtype=torch.float64),
            clock=torch.tensor([sum(rates[:step])], dtype=torch.float64),
            previous_rate=torch.tensor([rates[max(0, step - 1)]], dtype=torch.float64),
        )
        method.observe(batch, run)
        found.append(float(method.tables()["dih"].values[0]))
    assert method.tables()["dih"].values[1:].tolist() == [1.0, 1.0], "unobserved samples stay"
    return found


ROWS = {step: {"loss": LOSSES[step], "correct": CORRECT[step]} for step in LOSSES}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("loss", {"gamma_on": "new"}), [19.05, 10.4525, 4.322625]),
        (("loss", {}), [1.95, 2.3525, 2.434875]),
        (("loss_change", {"gamma_on": "new"}), [1.0, 9.55, 3.3275]),
        (("loss_change", {}), [1.0, 1.45, 1.5275]),
        (("loss_change", {"gamma_on": "new", "lr_sum": "inclusive"}), [1.0, 4.8, 2.14]),
        (("flip", {"gamma_on": "new"}), [1.0, 9.55, 5.2275]),
        (("flip", {"gamma_on": "new", "normalize": False}), [1.0, 1.0, 1.0]),
    ],
    ids=["A new", "A history", "B new", "B history", "B inclusive", "C new", "C unnormalised"],
)
def test_equation_1_and_2_the_running_hardness(
    settings: tuple[str, dict[str, object]], expected: list[float]
) -> None:
    """Steps 1, 2 and 4 at rate .1, losses 2, 1, .4, correctness 0, 1, 0, gamma .95, r = 1.

    Traps 1 and 3: gamma on the wrong side, or another range of the sum, gives other numbers.
    """
    hardness, parameters = settings
    method = gr.DIHCL(hardness, "rand", **parameters)  # type: ignore[arg-type]
    assert observed(method, [RATE] * 4, ROWS) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("lr_sum", "expected"), [("elapsed", 1.2), ("inclusive", 1.0)])
def test_equation_2_sums_the_rates_between_two_observations(lr_sum: str, expected: float) -> None:
    """Rates .4, .3, .2, .1, observed at steps 2 and 4, the loss changes by .6 (trap 3)."""
    rows = {1: {"loss": 1.0, "correct": 0}, 3: {"loss": 0.4, "correct": 0}}
    method = gr.DIHCL("loss_change", "rand", gamma=0.0, lr_sum=lr_sum)  # type: ignore[arg-type]
    assert observed(method, [0.4, 0.3, 0.2, 0.1], rows)[-1] == pytest.approx(expected)


def test_hardness_a_divides_by_the_rate_of_the_step_before() -> None:
    """a = l / eta_{t-1}; the first step has only its own rate."""
    method = gr.DIHCL("loss", "rand", gamma=0.0)
    rows = {step: {"loss": 1.0, "correct": 0} for step in (0, 1, 2)}
    assert observed(method, [0.5, 0.25, 0.125], rows) == pytest.approx([2.0, 2.0, 4.0])


def test_gamma_mean_is_the_plain_mean() -> None:
    """a = 0, 1, 1, 0, 1 gives .6, whatever r started from."""
    method = gr.DIHCL("loss", "rand", gamma="mean", normalize=False)
    rows = {step: {"loss": a, "correct": 0} for step, a in enumerate([0.0, 1.0, 1.0, 0.0, 1.0])}
    assert observed(method, [1.0] * 5, rows)[-1] == pytest.approx(0.6)
    assert int(method.visits.values[0]) == 5


def test_a_change_is_clipped_and_a_rate_of_zero_is_no_observation() -> None:
    rows = {step: {"loss": a, "correct": 0} for step, a in enumerate([50.0, 0.0, 1.0])}
    clipped = gr.DIHCL("loss_change", "rand", gamma=0.0, normalize=False, clip=10.0)
    assert observed(clipped, [1.0] * 3, rows) == [1.0, 10.0, 1.0]
    still = gr.DIHCL("loss_change", "rand", gamma=0.0)
    assert observed(still, [0.0, 0.0, 0.5], rows) == [1.0, 1.0, 1.0], "no rate, no change of r"
    assert observed(gr.DIHCL("loss", "rand"), [0.0] * 3, rows) == [1.0, 1.0, 1.0]


def test_r_stays_between_its_start_and_what_was_observed() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(40, generator=generator) * 5
    for on in ("history", "new"):
        r, low, high = torch.ones(1), 1.0, 1.0
        for a in values:
            r = gr.dynamics.running_hardness(r, a[None], 0.7, gamma_on=on)
            low, high = min(low, float(a)), max(high, float(a))
            assert low <= float(r) <= high


# ------------------------------------------------------------------------------------ selection


def prepared(
    hardness: list[float] | torch.Tensor,
    *kind: str,
    epoch: int = 9,
    seed: int = 0,
    **settings: object,
) -> tuple[gr.DIHCL, gr.Run]:
    """A method whose warm-up is over, with the given r."""
    values = torch.as_tensor(hardness, dtype=torch.float32)
    method = gr.DIHCL(*kind, **{"warmup_epochs": 2, **settings})  # type: ignore[arg-type]
    run = gr.Run(size=len(values), seed=seed, epoch=epoch)
    method.setup(run)
    for table in method.tables().values():
        table.allocate(run.size)
    method.dih.write(torch.arange(run.size), values)
    method.visits.write(torch.arange(run.size), torch.full((run.size,), 4))
    return method, run


def planned(method: gr.DIHCL, run: gr.Run) -> list[int]:
    return sorted(method.plan(gr.Pool(torch.arange(run.size)), run).index.tolist())


def test_line_12_the_subset_shrinks_to_its_floor() -> None:
    """n = 50,000: 50000, 42500, ..., 11580, then 10000, since .85^10 = .196874 is below .2."""
    method = gr.DIHCL("loss", "rand", warmup_epochs=1)
    sizes = [method.planned_size(50_000, epoch) for epoch in range(12)]
    assert sizes == [
        *(50_000, 42_500, 36_125, 30_706, 26_100, 22_185, 18_857, 16_028, 13_624, 11_580),
        *(10_000, 10_000),
    ]
    assert sum(sizes[:10]) == sum(
        len(planned(*prepared(torch.rand(50_000), "loss", "rand", epoch=epoch, warmup_epochs=1)))
        for epoch in range(10)
    )
    grown = gr.DIHCL("loss", "rand", gamma_k=1.2)
    assert [grown.planned_size(100, epoch) for epoch in (0, 5, 9)] == [100, 100, 100]


def test_k_may_decay_per_episode() -> None:
    """From the first subset on gamma_k n, and once more at each end after the warm-up."""
    method = gr.DIHCL("loss", "rand", warmup_epochs=5, gamma_k=0.5, k_min=0.1, episodes=(5, 10, 20))
    assert [method.planned_size(80, epoch) for epoch in (4, 5, 9, 10, 19, 20, 99)] == [
        *(80, 40, 40, 20, 20, 10, 10)
    ]


def test_exp_draws_by_the_printed_softmax() -> None:
    """sqrt(2 log n / n): .721013, .117539, .020804; n = 4, r = 0, 1, 2, 4: coefficient .832555."""
    for size, coefficient in ((8, 0.721013), (1000, 0.117539), (50_000, 0.020804), (4, 0.832555)):
        method, run = prepared(torch.linspace(0, 1, size), "loss", "exp")
        method.plan(gr.Pool(torch.arange(size)), run)
        assert method._drawn is not None
        assert float(method._drawn[2][-1]) == pytest.approx(coefficient, abs=1e-6)
    method, run = prepared([0.0, 1.0, 2.0, 4.0], "loss", "exp", k_min=0.25, p="draw")
    planned(method, run)
    method.start_epoch(run)
    assert method._chances is not None
    expected = [0.027375, 0.062940, 0.144710, 0.764975]
    assert method._chances.tolist() == pytest.approx(expected, abs=1e-6)


def test_exp_does_not_overflow() -> None:
    """r = 0, 1e5, 2e5: p = 0, 0, 1 (the naive exponential gives NaN)."""
    method, run = prepared([0.0, 1e5, 2e5], "loss", "exp", k_min=0.4, p="draw")
    assert planned(method, run) == [2]
    method.start_epoch(run)
    assert method._chances is not None
    assert method._chances.tolist() == pytest.approx([FLOORS["draw"], FLOORS["draw"], 1.0])


def test_exp_divides_what_it_sees_by_the_chance_of_the_draw() -> None:
    """a <- a / p_i, p the chance of being among the k, at least .01; 1 in the warm-up (trap 4)."""
    r = torch.tensor([0.0, 1.0, 2.0, 4.0, 8.0])
    method, run = prepared(r, "loss", "exp", gamma=0.0, normalize=False, k_min=0.4)
    planned(method, run)
    method.start_epoch(run)
    weights = torch.exp(math.sqrt(2 * math.log(5) / 5) * r.double())
    chances = inclusion_probabilities(weights, 2).clamp(min=0.01)
    rows = gr.Batch(torch.arange(5), torch.ones(5))
    method.observe(rows, run)
    assert torch.allclose(method.dih.values.double(), 1 / chances, rtol=1e-5)
    warm, run = prepared(r, "loss", "exp", gamma=0.0, normalize=False, epoch=1)
    planned(warm, run)
    warm.start_epoch(run)
    warm.observe(rows, run)
    assert warm.dih.values.tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("r", "c", "mean", "variance"), [(0.2, 1.0, 0.2, 0.08), (2.0, 10.0, 0.2, 0.014545)]
)
def test_beta_draws_have_the_printed_moments(
    r: float, c: float, mean: float, variance: float
) -> None:
    """Mean r/c, variance r (c - r) / (c^2 (c + 1)); 2e5 draws, four standard errors."""
    size = 200_000
    method, run = prepared(torch.full((size,), r), "flip", "beta", c=c)
    pool = gr.Pool(torch.arange(size))
    drawn = method._thompson(pool, method.dih.values, run)
    error = math.sqrt(variance / size)
    assert abs(float(drawn.mean()) - mean) < 4 * error
    # The variance of a sample variance: (mu4 - sigma^4) / n, with mu4 from the draws themselves.
    spread = float(((drawn - mean) ** 2).std()) / math.sqrt(size)
    assert abs(float(drawn.var()) - variance) < 4 * spread


def test_beta_bounds_hardness_by_c() -> None:
    """Trap 5: r0 = 1 = c, and normalised flips up to 1 / E, must not break the draw."""
    for kind, settings in (
        ("flip", {}),
        ("flip", {"normalize": True}),
        ("loss", {}),
        ("flip", {"c": 0.5}),
    ):
        method, run = prepared([1.0, 0.0, 0.4, 0.3], kind, "beta", k_min=0.5, **settings)
        drawn = method._thompson(gr.Pool(torch.arange(4)), method.dih.values, run)
        assert bool(drawn.isfinite().all())
        assert len(planned(method, run)) == 2
    assert prepared([3.0, 40.0], "loss", "beta")[0]._bound(torch.tensor([3.0, 40.0])) == 42.0
    assert prepared([1.0, 0.0], "flip", "beta")[0]._bound(torch.tensor([1.0, 0.0])) == 1.0
    method, run = prepared([3.0, 4.0], "loss", "beta", c=2.0, k_min=0.5)
    with pytest.raises(ValueError, match=r"c must be above the hardness of some sample. Got 2.0"):
        planned(method, run)


def test_ucb_adds_the_printed_bonus() -> None:
    """mean .5, t = 100, visits 4, c = 1: 2.017427; unvisited samples first; c = 0 is greedy."""
    method, run = prepared([0.5, 0.2, 0.3], "loss", "ucb", epoch=100, k_min=0.34)
    bounds = method._upper_bounds(gr.Pool(torch.arange(3)), method.dih.values, run)
    assert float(bounds[0]) == pytest.approx(2.017427, abs=1e-6)
    method.visits.write(torch.tensor([1]), torch.tensor([0]))
    assert planned(method, run) == [1]
    greedy, run = prepared([0.5, 0.2, 0.3], "loss", "ucb", epoch=100, k_min=0.34, exploration=0.0)
    assert planned(greedy, run) == [0]


def test_counts_are_discounted_and_start_at_two() -> None:
    """A <- .9 A + flip, B <- .9 B + 1 - flip, from 2 and 2; the first look is no flip."""
    method = gr.DIHCL("flip", "counts")
    rows = {
        step: {"loss": 1.0, "correct": correct} for step, correct in enumerate((False, True, True))
    }
    observed(method, [0.1] * 3, rows)
    assert float(method.flips.values[0]) == pytest.approx((2 * 0.9 + 1) * 0.9)
    assert float(method.stays.values[0]) == pytest.approx(2 * 0.9 * 0.9 + 1)


def test_rand_draws_in_proportion_and_survives_zeros() -> None:
    """Section 1.3: weights 1, 2, 3, 4, k = 2; and all r = 0 is a uniform draw."""
    counts = np.zeros(4)
    for seed in range(4000):
        counts[planned(*prepared([1.0, 2.0, 3.0, 4.0], "loss", "rand", k_min=0.5, seed=seed))] += 1
    exact = np.array([0.234524, 0.441270, 0.608333, 0.715873])
    assert np.abs(counts / 4000 - exact).max() < 4 * math.sqrt(0.25 / 4000)
    flips = [planned(*prepared([0.0] * 4, "flip", "rand", k_min=0.5, seed=s)) for s in range(60)]
    assert {len(chosen) for chosen in flips} == {2}
    assert {i for chosen in flips for i in chosen} == {0, 1, 2, 3}


@pytest.mark.parametrize("selection", ["greedy", "rand", "exp", "beta", "ucb", "counts"])
def test_every_selection_takes_k_different_samples_and_all_in_the_warm_up(selection: str) -> None:
    r = torch.rand(101, generator=torch.Generator().manual_seed(0))
    for epoch in range(8):
        method, run = prepared(r, "flip", selection, epoch=epoch)
        chosen = planned(method, run)
        assert len(chosen) == len(set(chosen)) == method.planned_size(101, epoch)
        assert len(chosen) == (
            101 if epoch < 2 else math.floor(101 * max(0.85 ** (epoch - 1), 0.2) + 1e-9)
        )


def test_greedy_takes_the_hardest_and_breaks_ties_by_seed() -> None:
    assert planned(*prepared([0.1, 0.9, 0.5, 0.7], "loss", "greedy", k_min=0.5)) == [1, 3]
    tied = {
        tuple(planned(*prepared([1.0] * 6, "flip", "greedy", k_min=0.5, seed=s))) for s in range(20)
    }
    assert len(tied) > 5


# ------------------------------------------------------------------------------------ Eq. 3


def test_equation_3_prunes_to_the_hard_and_diverse() -> None:
    """The four points of 4.1: S_t of 4 pruned to 2; lambda = 0 keeps the top r."""
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    r = [0.2, 0.1, 0.3, 0.0]
    settings = {"gamma_k": 1.0, "prune": 0.5, "features": z, "greedy": "exact"}
    assert planned(*prepared(r, "loss", "rand", epoch=2, **settings)) == [2, 3]
    assert planned(*prepared(r, "loss", "rand", epoch=2, diversity=0.0, **settings)) == [0, 2]
    # lambda_1 = 1 decays by .8 each epoch after the warm-up: at .8^40 only r counts.
    assert planned(*prepared(r, "loss", "rand", epoch=42, **settings)) == [0, 2]
    assert planned(*prepared(r, "loss", "rand", epoch=42, diversity_decay=1.0, **settings)) == [
        2,
        3,
    ]


def test_pruning_keeps_a_part_of_the_draw_of_floor_size() -> None:
    r = torch.rand(50, generator=torch.Generator().manual_seed(0))
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    whole = planned(*prepared(r, "loss", "rand", epoch=3))
    pruned, run = prepared(r, "loss", "rand", epoch=3, prune=0.4, features=z)
    part = planned(pruned, run)
    assert len(whole) == 36
    assert set(part) < set(whole)
    assert len(part) == math.floor(0.4 * 36) == pruned.planned_size(50, 3)


def test_rescaling_makes_hardness_a_number_around_one() -> None:
    """r of thousands drowns diversity, unless it is divided by its mean."""
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    r = [1020.0, 1010.0, 1030.0, 1000.0]
    settings = {"gamma_k": 1.0, "prune": 0.5, "features": z, "greedy": "exact"}
    assert planned(*prepared(r, "loss", "rand", epoch=2, **settings)) == [0, 2]
    assert planned(*prepared(r, "loss", "rand", epoch=2, rescale=True, **settings)) == [2, 3]


# ------------------------------------------------------------------------------------ on real runs


def noisy_toy(seed: int, size: int = 400) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two Gaussians in the plane, a fifth of the labels flipped."""
    generator = torch.Generator().manual_seed(1000 + seed)
    y = torch.arange(size) % 2
    x = torch.randn(size, 2, generator=generator) + 3.0 * (2 * y[:, None] - 1)
    flipped = torch.zeros(size, dtype=torch.bool)
    flipped[torch.randperm(size, generator=generator)[: size // 5]] = True
    return x, torch.where(flipped, 1 - y, y), flipped


def train(
    method: gr.DIHCL, data: tuple[torch.Tensor, torch.Tensor, torch.Tensor], epochs: int, seed: int
) -> tuple[gr.Curriculum, list[torch.Tensor]]:
    x, y, _ = data
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.4, 0.4, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    curriculum = gr.Curriculum(method, seed=seed)
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(len(x))), batch_size=32)
    curriculum.attach(model=model, optimizer=optimizer)
    chosen = []
    for _ in range(epochs):
        epoch = []
        for (index,) in loader:
            epoch.append(index)
            logits = model(x[index])
            losses = F.cross_entropy(logits, y[index], reduction="none")
            loss = curriculum(losses, logits=logits, targets=y[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        chosen.append(torch.cat(epoch))
    return curriculum, chosen


def test_under_noise_rand_prefers_flipped_labels_and_exp_revisits_nearly_all() -> None:
    """Base rate .20; Exp by inclusion probability revisits 95 % in 25 epochs and stays finite."""
    data = noisy_toy(0)
    _, chosen = train(gr.DIHCL("loss", "rand"), data, 20, seed=0)
    share = np.mean([float(data[2][index].float().mean()) for index in chosen[5:]])
    assert share > 0.25
    curriculum, chosen = train(gr.DIHCL("loss", "exp"), data, 30, seed=0)
    assert len(set(torch.cat(chosen[5:]).tolist())) >= 0.95 * 400
    assert bool(curriculum.scores()["DIHCL.dih"].isfinite().all())


def test_two_seeds_agree_on_what_is_hard_and_find_the_flipped() -> None:
    """Kendall's tau above .7 between two seeds; AUROC of r for flipped labels above .9."""
    data = noisy_toy(1)
    found = [
        train(gr.DIHCL("loss", "rand", gamma_k=1.0), data, 20, seed=seed)[0].scores()["DIHCL.dih"]
        for seed in (0, 1)
    ]
    assert agreement(*found).tau > 0.7
    assert separation(found[0], data[2]) > 0.9


# ------------------------------------------------------------------------------------ bad input


def test_a_warm_up_too_short_for_the_hardness_is_refused() -> None:
    for hardness in ("loss_change", "flip"):
        with pytest.raises(ValueError, match=r"warmup_epochs must be at least 2 .* Got 1"):
            gr.DIHCL(hardness, warmup_epochs=1)  # type: ignore[arg-type]
    assert gr.DIHCL("loss", warmup_epochs=1).warmup_epochs == 1
    with pytest.raises(ValueError, match="hardness must be 'flip' where selection is 'counts'"):
        gr.DIHCL("loss", "counts")
    with pytest.raises(ValueError, match="gamma must be a number"):
        gr.DIHCL(gamma="median")  # type: ignore[arg-type]


def test_negative_losses_are_refused_before_anything_changes() -> None:
    curriculum = gr.Curriculum(gr.DIHCL("loss", normalize=False))
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(4)), batch_size=4)
    batch = iter(loader)
    next(batch)
    with pytest.raises(
        ValueError, match=r"losses must be at least 0 for DIHCL\(hardness='loss'.* Got -0.5"
    ):
        curriculum(torch.tensor([1.0, -0.5, 1.0, 1.0]))
    assert curriculum.step == 0
    assert bool(torch.isfinite(curriculum(torch.ones(4))))
    changes = gr.Curriculum(gr.DIHCL("loss_change", normalize=False))
    loader = changes.loader(torch.utils.data.TensorDataset(torch.arange(4)), batch_size=4)
    for _ in loader:
        assert float(changes(torch.tensor([1.0, -0.5, 1.0, 1.0]))) == 0.625


def test_without_a_learning_rate_normalising_is_refused() -> None:
    curriculum = gr.Curriculum(gr.DIHCL("loss"))
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(4)), batch_size=4)
    for _ in loader:
        with pytest.raises(ValueError, match="learning rate must be known"):
            curriculum(torch.ones(4))
        curriculum.skip()


def test_pruning_without_features_is_refused_by_name() -> None:
    curriculum = gr.Curriculum(gr.DIHCL("loss", normalize=False, warmup_epochs=1, prune=0.5))
    loader = curriculum.loader(torch.utils.data.TensorDataset(torch.arange(4)), batch_size=4)
    for _ in loader:
        with pytest.raises(RuntimeError, match="features must be given"):
            curriculum(torch.ones(4))
        curriculum.skip()
    with pytest.raises(ValueError, match="features must be one row per sample: 4"):
        gr.Curriculum(gr.DIHCL(prune=0.5, features=torch.zeros(3, 2))).loader(
            torch.utils.data.TensorDataset(torch.arange(4)), batch_size=4
        )


def test_features_that_are_all_alike_are_warned_of() -> None:
    method, run = prepared(
        [1.0, 2.0, 3.0, 4.0], "loss", prune=0.5, gamma_k=1.0, features=torch.ones(4, 2)
    )
    with pytest.warns(UserWarning, match="features are all equal"):
        assert planned(method, run) == [2, 3]


def test_no_warning_in_a_plain_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curriculum, _ = train(gr.DIHCL("flip", "beta", prune=0.5), noisy_toy(2), 8, seed=0)
    assert curriculum.epoch == 8
