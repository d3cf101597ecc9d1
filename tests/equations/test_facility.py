"""Facility location with a modular term (4.1): worked numbers, greedy guarantees, no N x N."""

from __future__ import annotations

import itertools
import math
import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from gradatim.selection import facility, facility_location
from gradatim.selection.facility import facility_value, mean_distance

HAND = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
SCORES = [0.2, 0.1, 0.3, 0.0]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective(z: torch.Tensor, r: torch.Tensor, chosen: list[int], diversity: float) -> float:
    return float(r[list(chosen)].sum()) + diversity * facility_value(z, chosen)


# --- Worked numbers ---------------------------------------------------------------------------


def test_zhou2020_eq3_scale_is_the_mean_distance() -> None:
    # Distances 1, 1, 7.071068, 1.414214, 6.403124, 6.403124.
    assert mean_distance(HAND) == pytest.approx(3.881922, abs=1e-6)


@pytest.mark.parametrize(
    ("chosen", "value"), [([0, 1], 3.223928), ([0, 3], 3.934729), ([1, 3], 3.903158), ([], 0.0)]
)
def test_zhou2020_eq3_values_by_hand(chosen: list[int], value: float) -> None:
    assert facility_value(HAND, chosen) == pytest.approx(value, abs=2e-6)


def test_zhou2020_eq3_likeness_by_hand() -> None:
    cover = facility._Cover(HAND, HAND, mean_distance(HAND), 1.0)
    w = cover.likeness(slice(None), torch.arange(4))
    found = [float(w[i, j]) for i, j in ((0, 1), (1, 2), (0, 3), (1, 3))]
    assert found == pytest.approx([0.967364, 0.935794, 0.190329, 0.256563], abs=2e-6)


def test_gains_by_hand() -> None:
    cover = facility._Cover(HAND, HAND, mean_distance(HAND), 1.0)
    r = torch.tensor(SCORES)
    first = (r + cover.gains(torch.arange(4))).tolist()
    assert first == pytest.approx([3.325058, 3.259722, 3.459722, 1.703456], abs=4e-6)
    cover.add(2)
    second = (r + cover.gains(torch.arange(4))).tolist()
    assert [second[i] for i in (0, 1, 3)] == pytest.approx([0.264206, 0.164206, 0.743437], abs=4e-6)


@pytest.mark.parametrize("greedy", ["exact", "lazy"])
@pytest.mark.parametrize(("diversity", "chosen"), [(1.0, [2, 3]), (0.0, [2, 0])])
def test_choices_by_hand(greedy: str, diversity: float, chosen: list[int]) -> None:
    found = facility_location(HAND, 2, scores=SCORES, diversity=diversity, greedy=greedy)
    assert found.tolist() == chosen


def test_the_hand_choice_is_the_best_there_is() -> None:
    r = torch.tensor(SCORES)
    best = max(itertools.combinations(range(4), 2), key=lambda s: objective(HAND, r, [*s], 1.0))
    assert set(best) == {2, 3}


@pytest.mark.parametrize(("epsilon", "candidates"), [(0.1, 24), (0.01, 47)])
def test_stochastic_greedy_looks_at_m_over_k_log_1_over_epsilon(
    epsilon: float, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    distinct = facility._distinct

    def counted(count: int, size: int, generator: torch.Generator) -> np.ndarray:
        slots = distinct(count, size, generator)
        seen.append(len(set(slots.tolist())))
        return slots

    monkeypatch.setattr(facility, "_distinct", counted)
    z = torch.randn(1000, 3, generator=draws())
    facility_location(z, 100, epsilon=epsilon, generator=draws())
    assert seen == [candidates] * 100


@pytest.mark.parametrize("scored", [False, True])
def test_stochastic_greedy_takes_the_best_of_each_sample_though_it_looks_at_few(
    scored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = torch.randn(300, 3, generator=draws()).double()
    scores = torch.rand(300, generator=draws(1)).double() * (2.0 if scored else 0.0)
    likeness = torch.exp(-torch.cdist(z, z).square() / (2 * mean_distance(z) ** 2))
    left, cover, expected = list(range(300)), torch.zeros(300).double(), []
    generator = draws(2)
    for _ in range(100):
        sample = [left[slot] for slot in facility._distinct(14, len(left), generator).tolist()]
        gains = [float(scores[i] + (likeness[i] - cover).clamp(min=0).sum()) for i in sample]
        best = sample[int(np.argmax(gains))]
        expected.append(best)
        cover = torch.maximum(cover, likeness[best])
        left[left.index(best)] = left[-1]
        left.pop()
    looks = []
    gains_of = facility._Cover.gains

    def counted(self: facility._Cover, index: torch.Tensor) -> torch.Tensor:
        looks.append(len(index))
        return gains_of(self, index)

    monkeypatch.setattr(facility._Cover, "gains", counted)
    found = facility_location(z, 100, scores=scores, epsilon=0.01, generator=draws(2))
    assert found.tolist() == expected
    assert sum(looks) < 0.75 * 14 * 100


# --- Guarantees -------------------------------------------------------------------------------


def test_exact_greedy_reaches_its_guarantee_and_lazy_is_the_same() -> None:
    """1 - 1/e of the best of all subsets, 200 times; and no repeat, no miss."""
    generator = draws(1)
    for _ in range(200):
        m = int(torch.randint(3, 9, (), generator=generator))
        k = int(torch.randint(1, m, (), generator=generator))
        z = torch.randn(m, 2, generator=generator)
        r = torch.rand(m, generator=generator)
        found = facility_location(z, k, scores=r, greedy="exact").tolist()
        assert found == facility_location(z, k, scores=r, greedy="lazy").tolist()
        assert len(set(found)) == k
        shifted = r - r.min()
        best = max(objective(z, shifted, [*s], 1.0) for s in itertools.combinations(range(m), k))
        assert objective(z, shifted, found, 1.0) >= (1 - 1 / math.e) * best - 1e-5


def test_marginal_gains_never_grow() -> None:
    z = torch.randn(60, 4, generator=draws(2))
    found = facility_location(z, 20, greedy="exact").tolist()
    values = [facility_value(z, found[:n]) for n in range(21)]
    gains = [after - before for before, after in itertools.pairwise(values)]
    assert all(later <= earlier + 1e-4 for earlier, later in itertools.pairwise(gains))
    assert gains[0] > 3 * gains[-1]


@pytest.mark.parametrize("epsilon", [0.1, 0.01])
def test_stochastic_greedy_reaches_its_guarantee_on_average(epsilon: float) -> None:
    z = torch.randn(200, 5, generator=draws(3))
    exact = facility_value(z, facility_location(z, 20, greedy="exact"))
    values = [
        facility_value(z, facility_location(z, 20, epsilon=epsilon, generator=draws(seed)))
        for seed in range(50)
    ]
    share = sum(values) / 50 / exact
    assert share >= 1 - 1 / math.e - epsilon
    assert 0.95 < share <= 1.001  # in practice far above it


def test_stochastic_candidates_are_uniform_and_distinct() -> None:
    counts = torch.zeros(12)
    generator = draws(4)
    for count in (3, 9):
        for _ in range(2000):
            found = facility._distinct(count, 12, generator)
            assert len(set(found.tolist())) == count
            counts[found] += 1
    expected = 2000 * 12 / 12
    assert ((counts - expected).abs() < 5 * math.sqrt(expected)).all()


def test_diverse_choices_hit_every_cluster() -> None:
    centers = 20 * torch.eye(5)
    for seed in range(20):
        z = centers.repeat_interleave(30, 0) + torch.randn(150, 5, generator=draws(seed))
        found = facility_location(z, 5, diversity=10.0, generator=draws(seed))
        assert sorted((found // 30).tolist()) == [0, 1, 2, 3, 4]


# --- What must not matter ---------------------------------------------------------------------


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(157, 6, generator=draws(5))
    whole = [
        facility_location(z, 30, scores=z[:, 0], greedy=greedy, generator=draws(6)).tolist()
        for greedy in ("exact", "lazy", "stochastic")
    ]
    scale = mean_distance(z)
    monkeypatch.setattr(facility, "CHUNK_BYTES", 5000)
    monkeypatch.setattr(facility, "WIDTH", 50)
    parts = [
        facility_location(z, 30, scores=z[:, 0], greedy=greedy, generator=draws(6)).tolist()
        for greedy in ("exact", "lazy", "stochastic")
    ]
    assert parts == whole
    assert mean_distance(z) == pytest.approx(scale, rel=1e-6)


def test_adding_a_number_to_all_scores_changes_nothing() -> None:
    z, r = torch.randn(50, 3, generator=draws(7)), torch.rand(50, generator=draws(8))
    for greedy in ("exact", "lazy", "stochastic"):
        found, moved = (
            facility_location(z, 10, scores=scores, greedy=greedy, generator=draws(9)).tolist()
            for scores in (r, r - 5)
        )
        assert found == moved


def test_features_far_from_the_origin_keep_their_digits() -> None:
    z = torch.randn(80, 4, generator=draws(10))
    near = facility_location(z, 15, greedy="exact").tolist()
    far = facility_location(z.double() + 1000, 15, greedy="exact").tolist()
    assert near == far
    assert mean_distance(z + 1000) == pytest.approx(mean_distance(z), rel=1e-3)


def test_a_reference_of_everybody_is_no_reference() -> None:
    z = torch.randn(60, 3, generator=draws(11))
    found = facility_location(z, 12, greedy="exact").tolist()
    assert facility_location(z, 12, greedy="exact", reference=z).tolist() == found
    twice = torch.cat([z, z])  # the sum doubles, and so does the divisor
    assert facility_location(z, 12, greedy="exact", reference=twice).tolist() == found


def test_finite_features_whose_sum_is_not_are_taken_and_opposite_infinities_are_not() -> None:
    huge = torch.full((3, 2), 3e38)
    assert facility._matrix("features", huge).equal(huge)
    with pytest.raises(ValueError, match=r"in rows \[0, 2\]"):
        facility._matrix("features", torch.tensor([[torch.inf], [1.0], [-torch.inf]]))


def test_half_precision_is_widened() -> None:
    z = torch.randn(40, 3, generator=draws(12)).half()
    found = facility_location(z, 8, greedy="exact")
    assert found.tolist() == facility_location(z.float(), 8, greedy="exact").tolist()


def test_a_point_has_no_distance_to_itself() -> None:
    for seed in range(10):  # rounding may leave one of 1e-4 of the others
        z = torch.randn(2, 33, generator=draws(seed))
        assert mean_distance(z) == pytest.approx(float((z[0] - z[1]).norm()), rel=2e-6)


def test_sampled_distances_are_near_the_mean_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(300, 4, generator=draws(13))
    exact = mean_distance(z)
    monkeypatch.setattr(facility, "SAMPLED_ABOVE", 100)
    monkeypatch.setattr(facility, "PAIRS", 40_000)
    assert mean_distance(z, generator=draws(14)) == pytest.approx(exact, rel=0.01)
    with pytest.raises(TypeError, match="generator must be"):
        mean_distance(z)


def test_no_array_of_all_pairs_is_made() -> None:
    """4,000 candidates: all pairs would take 64 MB in float32; chunks of 1 MB are enough."""
    z = torch.randn(4000, 8, generator=draws(15))
    largest = 0
    original = facility._Cover.likeness

    def watched(self: facility._Cover, rows: slice, candidates: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        found = original(self, rows, candidates)
        largest = max(largest, found.numel() * 4)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facility._Cover, "likeness", watched)
        patch.setattr(facility, "CHUNK_BYTES", 2**20)
        tracemalloc.start()
        facility_location(z, 40, generator=draws(16))
        facility_location(z, 2, greedy="exact")
        tracemalloc.stop()
    assert 0 < largest <= 2**20


# --- Bad and odd input ------------------------------------------------------------------------


def test_all_are_chosen_where_k_is_large_and_none_where_it_is_0() -> None:
    assert sorted(facility_location(HAND, 9, generator=draws()).tolist()) == [0, 1, 2, 3]
    assert facility_location(HAND, 0, generator=draws()).tolist() == []
    assert facility_location(HAND[:1], 1, generator=draws()).tolist() == [0]
    assert facility_location(HAND[:0], 3, generator=draws()).tolist() == []


def test_equal_features_leave_the_scores_to_decide_and_warn() -> None:
    same = torch.ones(4, 2)
    with pytest.warns(UserWarning, match="nothing is diverse"):
        found = facility_location(same, 2, scores=SCORES, generator=draws())
    assert found.tolist() == [2, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facility_location(same, 2, scores=SCORES, diversity=0.0, generator=draws())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"features": torch.ones(3)}, ValueError, "features must be of shape"),
        ({"features": torch.ones(3, 0)}, ValueError, "features must be of shape"),
        ({"features": torch.ones(3, 2, dtype=torch.int64)}, TypeError, "features must be a floa"),
        ({"features": [[1.0]]}, TypeError, "features must be a floating tensor. Got list"),
        ({"features": torch.tensor([[1.0], [torch.nan]])}, ValueError, r"not, in rows \[1\]"),
        ({"k": -1}, ValueError, "k must be"),
        ({"scores": [1.0]}, ValueError, "scores must be one per candidate: 4. Got 1"),
        ({"scores": [1.0, torch.nan, 0.0, 0.0]}, ValueError, "scores"),
        ({"diversity": -1}, ValueError, "diversity must be"),
        ({"greedy": "lazier"}, ValueError, "greedy must be one of"),
        ({"epsilon": 1.0}, ValueError, "epsilon must be"),
        ({"scale": 0.0}, ValueError, "scale must be"),
        ({"reference": torch.ones(2, 3)}, ValueError, "reference must be of 2 columns"),
        ({"generator": None}, TypeError, "generator must be"),
    ],
)
def test_bad_input_is_refused_by_name(arguments: dict, error: type, message: str) -> None:
    given = {"features": HAND, "k": 2, "generator": draws(), **arguments}
    with pytest.raises(error, match=message):
        facility_location(**given)
