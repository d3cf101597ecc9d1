"""Draws and selections against slow loops, other libraries, closed forms; and what is refused."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradatim.selection import (
    balanced_prefix,
    check_curriculum,
    inclusion_probabilities,
    prefix_size,
    weighted_draw,
)

weight_lists = st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e30)), min_size=1, max_size=20)
seeds = st.integers(0, 2**32)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Weighted draws


@given(weight_lists, st.data(), seeds)
def test_draws_are_sets_of_k_that_prefer_positive_weights(
    weights: list[float], data: st.DataObject, seed: int
) -> None:
    k = data.draw(st.integers(0, len(weights)))
    positive = {i for i, weight in enumerate(weights) if weight > 0}
    for dtype in (torch.float32, torch.float64):
        drawn = weighted_draw(torch.tensor(weights, dtype=dtype), k, generator=seeded(seed))
        assert drawn.dtype == torch.int64
        assert drawn.tolist() == sorted(set(drawn.tolist()))
        assert len(drawn) == k
        assert len(positive & set(drawn.tolist())) == min(k, len(positive))


@given(weight_lists, st.data(), seeds)
def test_weights_their_multiples_and_their_logarithms_draw_alike(
    weights: list[float], data: st.DataObject, seed: int
) -> None:
    k = data.draw(st.integers(0, len(weights)))
    exact = torch.tensor(weights, dtype=torch.float64)
    variants: list[tuple[torch.Tensor, dict[str, Any]]] = [
        (exact * 2.0**-40, {}),
        (exact.log(), {"log": True}),
        (exact.log() + 300, {"log": True}),
    ]
    expected = weighted_draw(exact, k, generator=seeded(seed), ordered=True).tolist()
    for given_weights, options in variants:
        drawn = weighted_draw(given_weights, k, generator=seeded(seed), ordered=True, **options)
        assert drawn.tolist() == expected
    assert sorted(expected) == weighted_draw(exact, k, generator=seeded(seed)).tolist()


@pytest.mark.parametrize("log", [False, True])
def test_draws_are_races_of_exponential_times(log: bool) -> None:
    """The same uniform numbers through the paper's Gumbel form, in NumPy and by a full sort."""
    weights = torch.empty(1000, dtype=torch.float64).exponential_(generator=seeded(3))
    uniform = torch.rand(1000, dtype=torch.float64, generator=seeded(4)).numpy()
    gumbel = np.log(weights.numpy()) - np.log(-np.log(uniform))
    expected = np.argsort(-gumbel)[:300]
    given_weights = weights.log() if log else weights
    for dtype in (torch.float32, torch.float64):
        drawn = weighted_draw(
            given_weights.to(dtype), 300, generator=seeded(4), log=log, ordered=True
        )
        # float32 may exchange neighbours whose times differ by rounding: none here.
        assert drawn.tolist() == expected.tolist()


def test_draws_do_not_depend_on_the_pieces_they_are_made_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = torch.arange(1.0, 1001.0)
    whole = weighted_draw(weights, 500, generator=seeded(0))
    monkeypatch.setitem(weighted_draw.__globals__, "_CHUNK", 64)
    assert torch.equal(weighted_draw(weights, 500, generator=seeded(0)), whole)


def test_seeds_and_calls_give_their_own_draws() -> None:
    weights = torch.ones(100)
    one = weighted_draw(weights, 50, generator=seeded(0))
    assert torch.equal(one, weighted_draw(weights, 50, generator=seeded(0)))
    assert not torch.equal(one, weighted_draw(weights, 50, generator=seeded(1)))
    generator = seeded(0)
    weighted_draw(weights, 50, generator=generator)
    assert not torch.equal(one, weighted_draw(weights, 50, generator=generator))


@pytest.mark.parametrize(
    ("weights", "heavy"),
    [
        (torch.tensor([1e-30, 1e30, 1e-30, 1e30, 0.0]), {1, 3}),
        (torch.tensor([0.0, 1e-45, 0.0, 1e-45]), {1, 3}),
        (torch.tensor([0.0, 5e-324, 0.0, 1e308], dtype=torch.float64), {1, 3}),
        (torch.tensor([0.0, 6e-8, 0.0, 65504.0], dtype=torch.float16), {1, 3}),
        (torch.tensor([0.0, 1e-38, 0.0, 3e38], dtype=torch.bfloat16), {1, 3}),
    ],
    ids=["span", "float32", "float64", "float16", "bfloat16"],
)
def test_the_smallest_and_largest_weights_are_weights(
    weights: torch.Tensor, heavy: set[int]
) -> None:
    for seed in range(50):
        assert set(weighted_draw(weights, 2, generator=seeded(seed)).tolist()) == heavy


def test_logarithms_neither_overflow_nor_lose_digits() -> None:
    logs = torch.tensor([0.0, 1.0, -1.0, 0.5, -math.inf])
    for offset in (2.0**20, -(2.0**20)):
        for seed in range(50):
            expected = weighted_draw(logs, 3, generator=seeded(seed), log=True, ordered=True)
            moved = weighted_draw(logs + offset, 3, generator=seeded(seed), log=True, ordered=True)
            assert torch.equal(moved, expected)
    far = torch.tensor([-1e300, 1e300], dtype=torch.float64)
    assert weighted_draw(far, 1, generator=seeded(0), log=True).tolist() == [1]
    nothing = torch.full((4,), -math.inf)
    assert (
        len(
            {
                tuple(weighted_draw(nothing, 2, generator=seeded(s), log=True).tolist())
                for s in range(50)
            }
        )
        == 6
    )


def test_draws_at_the_edges() -> None:
    generator = seeded(0)
    assert weighted_draw([], 0, generator=generator).tolist() == []
    assert weighted_draw([0.5], 1, generator=generator).tolist() == [0]
    assert weighted_draw([0.0], 1, generator=generator).tolist() == [0]
    assert weighted_draw([1, 2, 3], 0, generator=generator).dtype == torch.int64
    assert weighted_draw([1, 2, 3], 3, generator=generator).tolist() == [0, 1, 2]
    everyone = weighted_draw([1, 2, 3], 3, generator=generator, ordered=True)
    assert sorted(everyone.tolist()) == [0, 1, 2]


def test_draws_leave_weights_and_global_generators_alone(watch_global_rng: Any) -> None:
    weights = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    before = weights.detach().clone()
    moved = watch_global_rng()
    for ordered in (False, True):
        drawn = weighted_draw(weights, 2, generator=seeded(0), ordered=ordered)
        weighted_draw(weights, 2, generator=seeded(0), ordered=ordered, log=True)
        assert not drawn.requires_grad
    inclusion_probabilities(weights, 2)
    assert moved() == []
    assert torch.equal(weights.detach(), before)


def test_misuse_of_draws_is_refused() -> None:
    generator = seeded(0)
    state = generator.get_state()
    good = torch.tensor([1.0, 2.0])
    refused: list[tuple[Any, int, bool, str]] = [
        (
            [1.0, -1.0],
            1,
            False,
            r"^weights must be at least 0 everywhere\. Got -1\.0\. Are they log",
        ),
        ([math.nan, 1.0], 1, False, r"^weights must be finite\. Got 1 .* at index \[0\]"),
        ([1.0, math.inf], 1, False, r"^weights must be finite\. Got 1 .* at index \[1\]"),
        ([-math.inf, 1.0], 1, False, r"^weights must be at least 0 everywhere"),
        ([-math.inf, math.nan], 1, True, r"^weights must be finite\. Got 1 .* at index \[1\]"),
        ([-math.inf, math.inf], 1, True, r"^weights must be finite\. Got 1 .* at index \[1\]"),
        ([[1.0]], 1, False, r"^weights must be one-dimensional"),
        (good, 3, False, r"^k must be a whole number, at least 0 and at most 2\. Got 3\."),
        (good, -1, False, r"^k must be a whole number"),
    ]
    for weights, k, log, message in refused:
        with pytest.raises(ValueError, match=message):
            weighted_draw(weights, k, generator=generator, log=log)
    with pytest.raises(TypeError, match=r"^k must be a whole number"):
        weighted_draw(good, 1.0, generator=generator)  # pyright: ignore
    with pytest.raises(TypeError, match=r"^generator must be a torch\.Generator\. Got int"):
        weighted_draw(good, 1, generator=0)  # pyright: ignore
    assert torch.equal(generator.get_state(), state)
    for weights in ([1.0, -1.0], [math.nan], [math.inf]):
        with pytest.raises(ValueError, match=r"^weights must be"):
            inclusion_probabilities(weights, 1)
    with pytest.raises(ValueError, match=r"^k must be"):
        inclusion_probabilities(good, -1)


# Inclusion probabilities


def bisected(weights: np.ndarray, k: int) -> np.ndarray:
    """The equation of methods 1.3 as written there, for 0 < k < number of positive weights."""
    p = weights / weights.sum()
    high = 1.0
    while (1 - np.exp(-high * p)).sum() < k:
        high *= 2
    solved: Any = scipy.optimize.bisect(
        lambda c: -np.expm1(-c * p).sum() - k, 0, high, xtol=1e-300, rtol=1e-15, maxiter=2000
    )
    return -np.expm1(-solved * p)


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=40), st.data())
def test_inclusion_probabilities_solve_their_equation(
    weights: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(weights) - 1))
    chances = inclusion_probabilities(torch.tensor(weights, dtype=torch.float64), k)
    assert chances.dtype == torch.float64
    assert float(chances.sum()) == pytest.approx(k, rel=1e-12)
    np.testing.assert_allclose(chances, bisected(np.array(weights), k), rtol=1e-9, atol=1e-12)


@given(st.integers(2, 60), st.data())
def test_inclusion_probabilities_of_equal_weights_by_hand(size: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, size - 1))
    chances = inclusion_probabilities(torch.full((size,), 0.7), k)
    np.testing.assert_allclose(chances, k / size, rtol=1e-12)


def test_inclusion_probabilities_by_hand() -> None:
    """Weights 1, 1, 2 and k = 1: with y = exp(-c / 4), y^2 + 2 y = 2."""
    y = math.sqrt(3) - 1
    by_hand = [1 - y, 1 - y, 1 - y * y]
    assert inclusion_probabilities([1, 1, 2], 1).tolist() == pytest.approx(by_hand, abs=1e-12)
    with_zeros = inclusion_probabilities([1, 0, 1, 0, 2], 1)
    assert with_zeros.tolist() == pytest.approx([1 - y, 0, 1 - y, 0, 1 - y * y], abs=1e-12)


def test_inclusion_probabilities_at_the_edges() -> None:
    weights = [1.0, 0.0, 3.0, 0.0]
    assert inclusion_probabilities(weights, 0).tolist() == [0, 0, 0, 0]
    assert inclusion_probabilities(weights, 2).tolist() == [1, 0, 1, 0]
    assert inclusion_probabilities(weights, 3).tolist() == [1, 0.5, 1, 0.5]
    assert inclusion_probabilities(weights, 4).tolist() == [1, 1, 1, 1]
    assert inclusion_probabilities(weights, 9).tolist() == [1, 1, 1, 1]
    assert inclusion_probabilities([], 2).tolist() == []


@pytest.mark.parametrize("k", [1, 2, 30, 99, 100, 101, 199])
def test_inclusion_probabilities_of_weights_of_every_size(k: int) -> None:
    """200 weights over 400 powers of ten; when k are far heavier than the rest they are sure."""
    weights = torch.logspace(-200, 200, 200, dtype=torch.float64)
    chances = inclusion_probabilities(weights, k)
    assert float(chances.sum()) == pytest.approx(k, rel=1e-12)
    assert bool((chances.diff() >= 0).all())
    assert bool(((chances >= 0) & (chances <= 1)).all())


def exact_inclusion(weights: np.ndarray, k: int) -> np.ndarray:
    """P(i among k) = integral of w e^(-w t) P(fewer than k others by t) dt, by quadrature."""
    nodes, quadrature = np.polynomial.legendre.leggauss(200)
    nodes, quadrature = (nodes + 1) / 2, quadrature / 2
    # t = -s log(1 - v): most of the mass lies where a k-th of all have arrived.
    scale = 1 / weights.sum() * k * 2
    times = -scale * np.log1p(-nodes)
    density = quadrature * scale / (1 - nodes)
    arrived = -np.expm1(-weights[:, None] * times)
    chances = np.empty(len(weights))
    for i in range(len(weights)):
        counts = np.zeros((k, len(times)))
        counts[0] = 1.0
        for share in np.delete(arrived, i, axis=0):
            moved = counts * share
            counts -= moved
            counts[1:] += moved[:-1]
        chances[i] = (density * weights[i] * np.exp(-weights[i] * times) * counts.sum(0)).sum()
    return chances


def test_exact_inclusion_oracle_by_hand() -> None:
    by_hand = [0.234524, 0.441270, 0.608333, 0.715873]
    assert exact_inclusion(np.arange(1.0, 5.0), 2).tolist() == pytest.approx(by_hand, abs=1e-5)


def test_inclusion_probabilities_are_near_the_exact_ones() -> None:
    """40 of 200 with exponential weights: off by at most 0.008, the naive form by 0.27."""
    weights = torch.empty(200, dtype=torch.float64).exponential_(generator=seeded(7))
    exact = exact_inclusion(weights.numpy(), 40)
    assert exact.sum() == pytest.approx(40, abs=1e-4)
    assert np.abs(inclusion_probabilities(weights, 40).numpy() - exact).max() <= 0.008
    naive = np.minimum(1, 40 * weights.numpy() / float(weights.sum()))
    assert np.abs(naive - exact).max() > 0.2


# Balanced prefixes and curricula against loops


@given(st.lists(st.integers(-2, 3), max_size=25), st.floats(0, 1), seeds)
def test_balanced_prefix_equals_a_loop(labels: list[int], fraction: float, seed: int) -> None:
    order = torch.randperm(len(labels), generator=seeded(seed))
    order = order[: len(labels) // 2 + 1]
    room: dict[int, int] = {}
    for label in set(labels):
        inside = sum(labels[position] == label for position in order.tolist())
        room[label] = prefix_size(fraction, inside) if inside else 0
    expected = []
    for position in order.tolist():
        if room[labels[position]]:
            room[labels[position]] -= 1
            expected.append(position)
    classes = torch.tensor(labels, dtype=torch.int64)
    assert balanced_prefix(order, classes, fraction).tolist() == expected


def is_curriculum(schedule: list[list[float]]) -> bool:
    """The definition, spelled out."""
    entropies = []
    for row in schedule:
        shares = [weight / sum(row) for weight in row]
        entropies.append(-sum(share * math.log(share) for share in shares if share > 0))
    for before, after in itertools.pairwise(schedule):
        if any(new < old for old, new in zip(before, after, strict=True)):
            return False
    for t in range(len(schedule) - 1):
        settled = len(set(schedule[t])) == 1 == len(set(schedule[t + 1]))
        if not settled and entropies[t + 1] <= entropies[t] + 1e-12:
            return False
    return len(set(schedule[-1])) == 1


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3).filter(any),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_check_curriculum_equals_the_definition(
    schedule: list[list[float]], repaired: bool
) -> None:
    if repaired:  # so that many examples pass the first and the last condition
        schedule = torch.tensor(schedule).cummax(0).values.tolist()
        schedule.append([1.0] * 3)
    if is_curriculum(schedule):
        assert check_curriculum(schedule) is None
    else:
        with pytest.raises(ValueError, match=r"condition i"):
            check_curriculum(schedule)
