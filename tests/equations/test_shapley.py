"""Shapley values (methods.md 13): by hand, by brute force over orders, and what is refused."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradatim as gr
from gradatim.valuation import (
    Valuation,
    difficulty,
    exact_shapley,
    gradient_shapley,
    knn_shapley,
    lowest_valued,
    neighbours,
    pruned,
    single_epoch_rate,
    tmc_shapley,
    value_table,
)

Game = Callable[[frozenset[int]], float]
BY_HAND = {
    (): 0.0,
    (0,): 0.5,
    (1,): 0.4,
    (2,): 0.0,
    (0, 1): 0.7,
    (0, 2): 0.6,
    (1, 2): 0.4,
    (0, 1, 2): 0.8,
}


def by_hand(subset: frozenset[int]) -> float:
    return BY_HAND[tuple(sorted(subset))]


def game(size: int, seed: int = 0) -> Game:
    """Any utility at all: a random number per subset."""
    worth = np.random.default_rng(seed).normal(size=2**size).tolist()
    return lambda subset: worth[sum(1 << i for i in subset)]


def over_all_orders(utility: Game, size: int) -> list[float]:
    """The definition: the mean marginal over all n! orders."""
    sums = [0.0] * size
    for order in itertools.permutations(range(size)):
        for place, i in enumerate(order):
            sums[i] += utility(frozenset(order[: place + 1])) - utility(frozenset(order[:place]))
    return [value / math.factorial(size) for value in sums]


# --- Exact --------------------------------------------------------------------------------------


def test_exact_by_hand() -> None:
    """Ghorbani and Zou 2019, Eq. 1: .45, .30, .05, summing to v(all) - v(none) = .8."""
    values = exact_shapley(by_hand, 3)
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx([0.45, 0.30, 0.05], abs=1e-15)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_exact_equals_the_mean_over_all_orders(size: int) -> None:
    utility = game(size, seed=size)
    expected = over_all_orders(utility, size)
    assert exact_shapley(utility, size).tolist() == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 7), st.integers(0, 10**6))
def test_exact_is_efficient(size: int, seed: int) -> None:
    """Values sum to v(all) - v(none)."""
    utility = game(size, seed)
    gained = utility(frozenset(range(size))) - utility(frozenset())
    assert float(exact_shapley(utility, size).sum()) == pytest.approx(gained, abs=1e-12)


def test_exact_symmetry_null_player_and_linearity() -> None:
    one, two = game(5, 1), game(5, 2)
    both = exact_shapley(lambda subset: 2 * one(subset) - 3 * two(subset), 5)
    apart = 2 * exact_shapley(one, 5) - 3 * exact_shapley(two, 5)
    assert torch.allclose(both, apart, atol=1e-12)
    # Players 0 and 1 only count together, player 4 counts nothing.
    alike = exact_shapley(lambda subset: one(frozenset(max(i, 1) for i in subset - {4})), 5)
    assert float(alike[0]) == pytest.approx(float(alike[1]), abs=1e-12)
    assert float(alike[4]) == 0.0


def test_exact_asks_for_each_subset_once() -> None:
    asked: list[frozenset[int]] = []

    def utility(subset: frozenset[int]) -> float:
        asked.append(subset)
        return len(subset)

    exact_shapley(utility, 6)
    assert len(asked) == len(set(asked)) == 64


def test_exact_takes_twelve_and_no_more() -> None:
    assert exact_shapley(len, 12).tolist() == pytest.approx([1.0] * 12)
    with pytest.raises(ValueError, match=r"size must be at most 12\. Got 13\. .*tmc_shapley"):
        exact_shapley(len, 13)


# --- TMC ----------------------------------------------------------------------------------------


def test_tmc_marginals_of_one_order_by_hand() -> None:
    """One permutation: each sample gets what it adds to those before it."""
    found = tmc_shapley(by_hand, 3, permutations=1, tolerance=0, seed=3)
    orders = {
        tuple(
            BY_HAND[tuple(sorted(order[: order.index(i) + 1]))]
            - BY_HAND[tuple(sorted(order[: order.index(i)]))]
            for i in range(3)
        )
        for order in itertools.permutations(range(3))
    }
    assert tuple(found.values.tolist()) in orders
    assert found.permutations == 1
    assert found.standard_errors.isnan().all()
    assert found.whole == 0.8
    assert found.empty == 0.0


@given(st.integers(1, 6), st.integers(0, 1000))
def test_tmc_without_truncation_is_efficient(size: int, seed: int) -> None:
    utility = game(size, seed)
    found = tmc_shapley(utility, size, permutations=5, tolerance=0, seed=seed)
    assert float(found.values.sum()) == pytest.approx(found.whole - found.empty, abs=1e-12)


def test_tmc_mean_and_standard_error_over_permutations() -> None:
    """Against single permutations, which depend on (seed, number) alone."""
    utility = game(4, 5)
    whole = tmc_shapley(utility, 4, permutations=30, tolerance=0, change=0)
    rows, before = [], torch.zeros(4, dtype=torch.float64)
    for count in range(1, 31):
        total = tmc_shapley(utility, 4, permutations=count, tolerance=0).values * count
        rows.append(total - before)
        before = total
    marginals = torch.stack(rows)
    assert torch.allclose(whole.values, marginals.mean(0), atol=1e-12)
    assert torch.allclose(whole.standard_errors, marginals.std(0) / math.sqrt(30), atol=1e-12)


def test_tmc_orders_differ_by_number_and_by_seed() -> None:
    utility = game(5, 2)
    found = [
        tmc_shapley(utility, 5, permutations=6, tolerance=0, seed=seed).values for seed in (0, 0, 1)
    ]
    one = tmc_shapley(utility, 5, permutations=1, tolerance=0).values
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], one)
    assert (tmc_shapley(utility, 5, permutations=6, tolerance=0).standard_errors > 0).all()


def saturating(subset: frozenset[int]) -> float:
    """Two samples are enough."""
    return min(len(subset), 2) / 2


def test_tmc_truncates_once_the_rest_gains_nothing() -> None:
    """v = 0, .5, 1, 1, ...: the second sample ends the permutation, the others get 0."""
    asked: list[int] = []

    def utility(subset: frozenset[int]) -> float:
        asked.append(len(subset))
        return saturating(subset)

    found = tmc_shapley(utility, 10, permutations=7)
    assert sorted(set(asked)) == [0, 1, 2, 10]
    assert found.evaluations == 14
    assert found.truncated == pytest.approx(0.8)
    assert float(found.values.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(("tolerance", "patience", "evaluated"), [
    (None, 0, 2), (None, 5, 7), (0, 0, 10), (0.6, 0, 1), (0.5, 0, 2), (None, 20, 10)
])  # fmt: skip
def test_tmc_tolerance_and_patience(tolerance: float | None, patience: int, evaluated: int) -> None:
    """The authors' code lets 5 small gaps pass; the gap must be below the tolerance, not at it."""
    found = tmc_shapley(saturating, 10, permutations=1, tolerance=tolerance, patience=patience)
    assert found.evaluations == evaluated


def test_tmc_never_cuts_before_the_first_sample() -> None:
    """Where guessing is as good as the whole, samples still have values: here +1 and -1."""
    worth = {(): 0.5, (0,): 1.5, (1,): -0.5, (0, 1): 0.5}
    found = tmc_shapley(lambda subset: worth[tuple(sorted(subset))], 2, permutations=3)
    assert found.values.tolist() == [1.0, -1.0]


def test_tmc_with_labels_waits_for_all_classes() -> None:
    """Of 3 + 1 samples the rare class opens the evaluation; v before it counts as none gained."""
    asked: list[frozenset[int]] = []

    def utility(subset: frozenset[int]) -> float:
        asked.append(subset)
        return len(subset)

    found = tmc_shapley(utility, 4, permutations=20, tolerance=0, labels=[0, 0, 0, 7])
    assert all(3 in subset and len(subset) > 1 for subset in asked[2:])
    assert float(found.values.sum()) == pytest.approx(4.0)
    assert float(found.values[3]) > float(found.values[0])
    with pytest.raises(ValueError, match=r"labels must be one per sample: 4"):
        tmc_shapley(len, 4, labels=[0, 1])


def test_tmc_stops_when_values_settle() -> None:
    """A sum has the same marginals in every order: the first check is after the 101st."""
    found = tmc_shapley(lambda subset: sum(subset) / 10, 4, tolerance=0, permutations=500)
    assert (found.permutations, found.converged, found.reason) == (101, True, "converged")
    assert found.change == 0.0
    assert found.values.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    limited = tmc_shapley(len, 4, tolerance=0, permutations=100)
    assert (limited.permutations, limited.converged, limited.reason) == (
        100, False, "permutations",
    )  # fmt: skip
    assert limited.change == math.inf
    assert "limit of permutations" in str(limited)


def test_tmc_change_is_the_mean_relative_change_over_the_window() -> None:
    utility = game(4, 8)
    now = tmc_shapley(utility, 4, permutations=40, window=15, change=0, tolerance=0)
    then = tmc_shapley(utility, 4, permutations=25, window=15, change=0, tolerance=0)
    expected = ((now.values - then.values).abs() / now.values.abs()).mean()
    assert now.change == pytest.approx(float(expected), rel=1e-9)


def noisy(subset: frozenset[int], seed: int) -> float:
    return len(subset) + random.Random(seed).random()


def test_tmc_seeded_utilities_keep_one_seed_per_permutation() -> None:
    """The noise of training is the same throughout a permutation and cancels."""
    found = tmc_shapley(noisy, 5, permutations=8, tolerance=0, seeded=True)
    assert found.values.tolist() == pytest.approx([1.0] * 5, abs=1e-12)
    assert 0 < found.empty < 1


@pytest.mark.parametrize("jobs", [2, 3])
def test_tmc_does_not_depend_on_the_number_of_jobs(jobs: int) -> None:
    settings: dict[str, Any] = {"permutations": 60, "window": 10, "change": 0.4, "seed": 4}
    utility = game(5, 3)
    alone = tmc_shapley(utility, 5, **settings)
    with joblib.parallel_config(backend="threading"):
        together = tmc_shapley(utility, 5, jobs=jobs, **settings)
    assert alone.permutations < 60
    assert alone.converged
    assert_same(alone, together)


def assert_same(one: Valuation, two: Valuation) -> None:
    assert torch.equal(one.values, two.values)
    assert torch.equal(one.standard_errors, two.standard_errors)
    assert str(one) == str(two)
    assert (one.evaluations, one.change) == (two.evaluations, two.change)


def test_processes_give_what_one_process_gives() -> None:
    """Joblib's own backend, in other processes."""
    inputs, targets, model = problem()
    settings: dict[str, Any] = {"learning_rate": 0.1, "permutations": 4}
    two = gradient_shapley(model, inputs, targets, first_weight, jobs=2, **settings)
    assert_same(two, gradient_shapley(model, inputs, targets, first_weight, **settings))


# --- G-Shapley ----------------------------------------------------------------------------------


def problem(size: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.nn.Module]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(size, 3, generator=generator)
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return inputs, torch.arange(size) % 2, model


def first_weight(model: torch.nn.Module) -> float:
    return float(next(model.parameters()).detach()[0, 0])


def test_g_shapley_by_hand_is_v_after_each_step_minus_before() -> None:
    """Squared loss on x = 1, y = 1 at rate .1: w goes 0, .2, .36; marginals .2 and .16."""
    start = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(start.weight)
    ones = torch.ones(2, 1)
    found = gradient_shapley(
        start, ones, ones, first_weight,
        learning_rate=0.1, loss=torch.nn.functional.mse_loss, permutations=1,
    )  # fmt: skip
    assert sorted(found.values.tolist()) == pytest.approx([0.16, 0.2])
    assert start.weight.item() == 0
    assert math.isnan(found.whole)
    many = gradient_shapley(
        start, ones, ones, first_weight,
        learning_rate=0.1, loss=torch.nn.functional.mse_loss, permutations=50,
    )  # fmt: skip
    # Both orders: each is a mean of .2 and .16.
    assert float(many.values.sum()) == pytest.approx(0.36)
    assert (many.values - 0.18).abs().max() <= 4 * many.standard_errors.max()


def test_g_shapley_builds_fresh_models_from_the_seed_alone() -> None:
    inputs, targets, _ = problem()
    start: list[float] = []

    def build() -> torch.nn.Module:
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout())
        start.append(first_weight(model))
        return model

    random_state = torch.get_rng_state()
    settings: dict[str, Any] = {"learning_rate": 0.1, "permutations": 3}
    one = gradient_shapley(build, inputs, targets, first_weight, seed=1, **settings)
    torch.rand(5)
    two = gradient_shapley(build, inputs, targets, first_weight, seed=1, **settings)
    other = gradient_shapley(build, inputs, targets, first_weight, seed=2, **settings)
    torch.set_rng_state(random_state)
    assert_same(one, two)
    assert not torch.equal(one.values, other.values)
    assert start[:3] == start[3:6]
    assert len(set(start)) == 6


def test_g_shapley_leaves_random_states_and_evaluates_without_training() -> None:
    inputs, targets, model = problem()
    seen: list[tuple[bool, bool]] = []

    def utility(model: torch.nn.Module) -> float:
        seen.append((model.training, torch.is_grad_enabled()))
        torch.rand(3)
        return first_weight(model)

    before = torch.get_rng_state()
    gradient_shapley(model, inputs, targets, utility, learning_rate=0.1, permutations=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert set(seen) == {(False, False)}
    assert len(seen) == 2 * (6 + 1)


def test_the_single_epoch_rate_is_the_best_and_never_one_that_diverges() -> None:
    inputs, targets = torch.ones(8, 1), torch.ones(8, 1)
    start = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(start.weight)

    def utility(model: torch.nn.Module) -> float:
        return -abs(float(next(model.parameters()).detach()) - 1)

    def find(rates: Sequence[float]) -> float:
        loss = torch.nn.functional.mse_loss
        return single_epoch_rate(start, inputs, targets, utility, rates=rates, loss=loss)

    assert find([1e-3, 0.3, 1e30]) == 0.3
    with pytest.raises(ValueError, match="rates must be such that one leaves v finite"):
        find([1e30])


# --- KNN-Shapley --------------------------------------------------------------------------------


def ordered(right: Sequence[int], k: int) -> list[float]:
    """Values of training points at distances 1, 2, ... of one test point of class 1."""
    features = torch.arange(1.0, len(right) + 1).unsqueeze(1)
    return knn_shapley(features, list(right), torch.zeros(1, 1), [1], k=k).tolist()


def test_knn_by_hand() -> None:
    """Jia et al. 2019, Theorem 1: labels equal (1, 0, 1, 0), K = 2: 1/3, -1/6, 1/3, 0."""
    assert ordered([1, 0, 1, 0], 2) == pytest.approx([1 / 3, -1 / 6, 1 / 3, 0], abs=1e-15)


@pytest.mark.parametrize("size", range(1, 7))
@pytest.mark.parametrize("k", range(1, 9))
def test_knn_equals_brute_force(size: int, k: int) -> None:
    """Also K > N; the utility is 1/K times the right labels among the K nearest."""
    for right in itertools.product((0, 1), repeat=size):

        def utility(subset: frozenset[int], right: tuple[int, ...] = right) -> float:
            return sum(right[i] for i in sorted(subset)[:k]) / k

        exact = exact_shapley(utility, size)
        assert ordered(right, k) == pytest.approx(exact.tolist(), abs=1e-12)


def mixture(size: int, tests: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(count, 3, generator=generator) for count in (size, tests)]
    classes = [torch.randint(3, (count,), generator=generator) for count in (size, tests)]
    return rows[0], classes[0], rows[1], classes[1]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_knn_equals_brute_force_over_test_points(k: int) -> None:
    features, labels, test_features, test_labels = mixture(7, 5)
    distances = (test_features[:, None] - features[None]).square().sum(2)

    def utility(subset: frozenset[int]) -> float:
        members = sorted(subset)
        total = 0.0
        for row, label in zip(distances, test_labels, strict=True):
            nearest = sorted(members, key=lambda i: float(row[i]))[:k]
            total += sum(int(labels[i] == label) for i in nearest) / k
        return total / len(test_labels)

    values = knn_shapley(features, labels, test_features, test_labels, k=k)
    assert values.tolist() == pytest.approx(exact_shapley(utility, 7).tolist(), abs=1e-12)


def test_knn_is_the_same_whatever_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixture(50, 40)
    data[0][10:20] = data[0][0]  # ties
    whole = knn_shapley(*data, k=5)
    for at_once in (1, 7, 50, 130):
        monkeypatch.setattr(neighbours, "_AT_ONCE", at_once)
        assert torch.allclose(knn_shapley(*data, k=5), whole, atol=1e-14)


def test_knn_never_holds_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of test points of at most _AT_ONCE distances."""
    made: list[int] = []
    distances = neighbours._distances

    def counted(test: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
        found = distances(test, train)
        made.append(found.numel())
        return found

    monkeypatch.setattr(neighbours, "_distances", counted)
    monkeypatch.setattr(neighbours, "_AT_ONCE", 500)
    knn_shapley(*mixture(100, 33), k=3)
    assert max(made) == 500
    assert sum(made) == 3300


def test_knn_ties_are_random_by_seed_or_by_index() -> None:
    """Copies of one point with the same label: by index they differ, at random they even out."""
    features, labels = torch.zeros(4, 2), [1, 1, 0, 0]
    tests, wanted = torch.zeros(400, 2), [1] * 400
    by_index = knn_shapley(features, labels, tests, wanted, k=1, tie="index")
    assert by_index.tolist() == pytest.approx([0.5 + 0.0, 0.5, 0, 0])
    first = knn_shapley(features, labels, tests, wanted, k=1)
    again = knn_shapley(features, labels, tests, wanted, k=1)
    other = knn_shapley(features, labels, tests, wanted, k=1, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float(first[0] - first[1])) < 0.1
    assert float(first[0]) > 0.2 > float(first[2])


def test_knn_orders_near_neighbours_that_float32_confuses() -> None:
    """Far from the origin |x|^2 + |y|^2 - 2xy would lose the difference in float32."""
    features = torch.tensor([[10000.0, 0.25], [10000.0, 0.125]])
    values = knn_shapley(features, [0, 1], torch.tensor([[10000.0, 0.0]]), [1], k=1)
    assert values.tolist() == pytest.approx([0.0, 1.0])


# --- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, torch.tensor(math.nan)])
def test_a_utility_that_is_not_finite_is_refused_and_its_subset_named(bad: Any) -> None:
    def utility(subset: frozenset[int]) -> Any:
        return bad if subset == {0, 2} else 0.0

    with pytest.raises(ValueError, match=r"utility must be a finite number .* of \{0, 2\}"):
        exact_shapley(utility, 3)
    with pytest.raises(ValueError, match=r"utility must be a finite number .* of \{0, 2\}"):
        tmc_shapley(utility, 3, tolerance=0)
    with pytest.raises(ValueError, match=r"utility must be a finite number .* of the empty set"):
        exact_shapley(lambda subset: bad, 3)


def test_a_gradient_utility_that_is_not_finite_is_refused() -> None:
    inputs, targets, model = problem()
    for worth, where in (
        (lambda _: math.nan, "of the fresh model"),
        (lambda m: 0.0 if first_weight(m) == 0 else math.nan, "step on sample"),
    ):
        with pytest.raises(ValueError, match=rf"utility must be a finite .*{where}"):
            gradient_shapley(model, inputs, targets, worth, learning_rate=0.1)  # fmt: skip


def test_what_is_no_utility_is_refused() -> None:
    with pytest.raises(TypeError, match="utility must be callable"):
        exact_shapley(0.5, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="utility must be a finite number"):
        exact_shapley(lambda subset: None, 3)
    with pytest.raises(TypeError, match="utility must be a finite number"):
        exact_shapley(lambda subset: torch.zeros(2), 3)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"size": 0}, "size"),
        ({"permutations": 0}, "permutations"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"patience": -1}, "patience"),
        ({"change": math.nan}, "change"),
        ({"window": 0}, "window"),
        ({"seed": -1}, "seed"),
        ({"jobs": 0}, "jobs"),
    ],
)
def test_tmc_refuses_by_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        tmc_shapley(len, **{"size": 3, **change})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"k": 0}, "k"),
        ({"features": torch.zeros(0, 2), "labels": []}, "features"),
        ({"test_features": torch.zeros(0, 2), "test_labels": []}, "test_features"),
        ({"test_features": torch.zeros(2, 3)}, "test_features"),
        ({"labels": [0, 1]}, "labels"),
        ({"test_labels": [0]}, "test_labels"),
        ({"features": torch.full((3, 2), math.nan)}, "features"),
        ({"features": torch.zeros(3)}, "features"),
        ({"tie": "first"}, "tie"),
    ],
)
def test_knn_refuses_by_name(change: dict[str, Any], name: str) -> None:
    sound: dict[str, Any] = {
        "features": torch.zeros(3, 2),
        "labels": [0, 1, 0],
        "test_features": torch.ones(2, 2),
        "test_labels": [0, 1],
        "k": 1,
    }
    assert len(knn_shapley(**sound)) == 3
    with pytest.raises(ValueError, match=f"^{name} must be"):
        knn_shapley(**{**sound, **change})


@pytest.mark.parametrize(
    ("change", "name", "kind"),
    [
        ({"learning_rate": 0.0}, "learning_rate", ValueError),
        ({"inputs": torch.zeros(0, 3), "targets": torch.zeros(0)}, "inputs", ValueError),
        ({"targets": torch.zeros(2)}, "targets", ValueError),
        ({"inputs": [[1.0]]}, "inputs", TypeError),
        ({"build": None}, "build", TypeError),
        ({"loss": None}, "loss", TypeError),
    ],
)
def test_g_shapley_refuses_by_name(change: dict[str, Any], name: str, kind: type) -> None:
    inputs, targets, model = problem()
    sound: dict[str, Any] = {
        "build": model,
        "inputs": inputs,
        "targets": targets,
        "utility": first_weight,
        "learning_rate": 0.1,
    }
    with pytest.raises(kind, match=f"^{name} must be"):
        gradient_shapley(**{**sound, **change})


# --- What values are for ------------------------------------------------------------------------


def test_the_most_valuable_samples_come_first_in_a_predefined_curriculum() -> None:
    pace = gr.pacing.Linear(start_fraction=0.5, epochs=2)
    method = gr.Predefined(score=difficulty(torch.tensor([0.1, 0.4, -0.2, 0.3])), pace=pace)
    run = gr.Run(size=4, seed=0)
    method.setup(run)
    assert method.plan(gr.Pool(torch.arange(4)), run).index.tolist() == [1, 3]


def test_pruning_takes_the_lowest_share_or_the_harmful_only() -> None:
    values = torch.tensor([0.3, -0.2, 0.1, -0.4, 0.0])
    assert lowest_valued(values, 0.4).tolist() == [3, 1]
    assert lowest_valued(values, 0.39).tolist() == [3]
    assert lowest_valued(values, 0).tolist() == []
    assert lowest_valued(values).tolist() == [3, 1, 4, 2, 0]
    assert lowest_valued(values, 0.8, below=0).tolist() == [3, 1]
    assert pruned(values).tolist() == [0, 2, 4]
    assert pruned(values, 0.8, below=None).tolist() == [0]
    assert pruned(values, 0.2).tolist() == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="share must be such that a sample stays"):
        pruned([-1.0, -2.0])


def test_a_share_of_ten_samples_is_not_rounded_down() -> None:
    """0.1 * 3 samples of 10 are 3, and 0.29 * 100 of 100 are 29."""
    assert len(lowest_valued(torch.arange(10.0), 0.1 * 3)) == 3
    assert len(lowest_valued(torch.arange(100.0), 0.29)) == 29


def test_the_table_names_the_lowest_valued_first() -> None:
    found = tmc_shapley(lambda subset: sum([0.5, -0.25, 0.0][i] for i in subset), 3, tolerance=0)
    rows = value_table(found, 2, columns={"label": torch.tensor([4, 5, 6])})
    assert [row["index"] for row in rows] == [1, 2]
    assert rows[0] == {
        "place": 1, "index": 1, "value": -0.25, "standard_error": 0.0, "label": 5,
    }  # fmt: skip
    assert value_table([1.0]) == [{"place": 1, "index": 0, "value": 1.0}]


@pytest.mark.parametrize("function", [difficulty, lowest_valued, pruned, value_table])
def test_values_that_are_none_are_refused(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="values must be finite"):
        function([0.1, math.nan])
    with pytest.raises(ValueError, match="values must be one per sample"):
        function([])


def test_bad_shares_and_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="share must be"):
        lowest_valued([1.0], 1.5)
    with pytest.raises(ValueError, match=r"columns\['label'\] must be one entry per sample: 2"):
        value_table([1.0, 2.0], columns={"label": [1]})
    with pytest.raises(ValueError, match="columns must be named otherwise"):
        value_table([1.0], columns={"index": [1]})
