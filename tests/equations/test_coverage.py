"""Feature coverage with a modular term (4.2): worked numbers, greedy guarantees, few looks."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

from gradatim.selection import coverage
from gradatim.selection.coverage import coverage_gains, coverage_value, feature_coverage

HAND = torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 9.0]])
LOSSES = [0.5, 0.2, 0.1]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positive(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=draws(seed)).relu()


def objective(c: torch.Tensor, r: torch.Tensor, chosen: list[int], diversity: float) -> float:
    return float(r[list(chosen)].sum()) + diversity * coverage_value(c, chosen)


# --- Worked numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "value"),
    [
        ([], 0.0),
        ([0], 2.0),
        ([1], 2.0),
        ([2], 3.0),
        ([0, 2], 5.0),
        ([1, 2], 4.162278),
        ([0, 1], 3.236068),
    ],
)
def test_zhou2018_coverage_values_by_hand(chosen: list[int], value: float) -> None:
    assert coverage_value(HAND, chosen) == pytest.approx(value, abs=1e-6)


def test_zhou2018_eq2_gains_by_hand() -> None:
    losses = torch.tensor(LOSSES, dtype=torch.float64)
    assert coverage_gains(HAND).tolist() == [2.0, 2.0, 3.0]
    first = (losses + coverage_gains(HAND)).tolist()
    assert first == pytest.approx([2.5, 2.2, 3.1])
    second = (losses + coverage_gains(HAND, [2])).tolist()
    assert second[:2] == pytest.approx([2.5, 1.362278], abs=1e-6)
    # With lambda = .01 the first pick is another one.
    first = (losses + 0.01 * coverage_gains(HAND)).tolist()
    assert first == pytest.approx([0.52, 0.22, 0.13])
    second = (losses + 0.01 * coverage_gains(HAND, [0])).tolist()
    assert second[1:] == pytest.approx([0.212361, 0.13], abs=1e-6)


@pytest.mark.parametrize("greedy", ["lazy", "exact", "stochastic"])
@pytest.mark.parametrize(("diversity", "chosen"), [(1.0, [2, 0]), (0.01, [0, 1]), (0.0, [0, 1])])
def test_zhou2018_eq2_choices_by_hand(greedy: str, diversity: float, chosen: list[int]) -> None:
    found = feature_coverage(
        HAND, 2, scores=LOSSES, diversity=diversity, greedy=greedy, generator=draws()
    )
    assert found.tolist() == chosen
    assert found.dtype == torch.int64


def test_weights_of_features_count() -> None:
    # omega = (3, 0): the second feature is worth nothing, so 2 adds nothing and 1 adds 3.
    assert coverage_gains(HAND, weights=[3.0, 0.0]).tolist() == [6.0, 3.0, 0.0]
    assert feature_coverage(HAND, 3, weights=[3.0, 0.0]).tolist() == [0, 1, 2]
    assert coverage_value(HAND, [0, 2], [0.5, 2.0]) == pytest.approx(0.5 * 2 + 2 * 3)


@pytest.mark.parametrize(("epsilon", "candidates"), [(0.1, 24), (0.01, 47)])
def test_stochastic_greedy_looks_at_m_over_k_log_1_over_epsilon(
    epsilon: float, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    gains = coverage._Covered.gains

    def counted(self: coverage._Covered, index: np.ndarray) -> np.ndarray:
        seen.append(len(set(index.tolist())))
        return gains(self, index)

    monkeypatch.setattr(coverage._Covered, "gains", counted)
    c = positive(1000, 3)
    feature_coverage(c, 100, greedy="stochastic", epsilon=epsilon, generator=draws())
    assert seen == [candidates] * 100


# --- What holds for every F -------------------------------------------------------------------


def test_coverage_is_monotone_and_submodular() -> None:
    """F(A + i) >= F(A), and what i adds to A is at least what it adds to a larger B."""
    generator = draws(1)
    for trial in range(200):
        c = positive(8, 3, seed=trial)
        omega = torch.rand(3, generator=generator)
        order = torch.randperm(8, generator=generator).tolist()
        small = int(torch.randint(0, 7, (), generator=generator))
        large = int(torch.randint(small, 7, (), generator=generator))
        of_small = float(coverage_gains(c, order[:small], omega)[order[7]])
        of_large = float(coverage_gains(c, order[:large], omega)[order[7]])
        assert of_small >= of_large - 1e-12
        assert of_large >= 0
        added = coverage_value(c, [*order[:large], order[7]], omega)
        assert added - coverage_value(c, order[:large], omega) == pytest.approx(of_large, abs=1e-9)


def test_no_diversity_is_the_k_largest_scores() -> None:
    for seed in range(20):
        r = torch.randn(50, generator=draws(seed))
        found = feature_coverage(positive(50, 4), 12, scores=r, diversity=0.0)
        assert found.tolist() == r.argsort(descending=True)[:12].tolist()


def test_lazy_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with ties, with features that nobody has, with a start, and whatever the window."""
    generator = draws(2)
    for trial in range(300):
        m = int(torch.randint(2, 50, (), generator=generator))
        k = int(torch.randint(0, m + 1, (), generator=generator))
        c = positive(m, 3, seed=trial) + (torch.arange(m) == 0).unsqueeze(1)
        c = c.round() if trial % 3 == 0 else c
        c[:, 2] *= trial % 4
        r = torch.rand(m, generator=generator)
        r = r.round() if trial % 5 == 0 else r
        start = torch.randperm(m, generator=generator)[: k // 3] if trial % 2 else None
        monkeypatch.setattr(coverage, "WINDOW", 1 + trial % 7)
        lazy, exact = (
            feature_coverage(c, k, scores=r, diversity=0.5, greedy=greedy, start=start).tolist()
            for greedy in ("lazy", "exact")
        )
        assert lazy == exact
        assert len(set(lazy)) == k


def test_exact_is_the_plain_algorithm() -> None:
    """In each step the candidate with the largest r + lambda (F(A + i) - F(A))."""
    for seed in range(20):
        c, r = positive(15, 4, seed), torch.rand(15, generator=draws(seed)).double()
        chosen: list[int] = []
        for _ in range(8):
            before = coverage_value(c, chosen)
            gains = {
                i: float(r[i]) + 2.0 * (coverage_value(c, [*chosen, i]) - before)
                for i in range(15)
                if i not in chosen
            }
            chosen.append(max(gains, key=lambda i: gains[i]))
        found = feature_coverage(c, 8, scores=r, diversity=2.0, greedy="exact")
        assert found.tolist() == chosen


def test_greedy_reaches_its_guarantee() -> None:
    """1 - 1/e of the best of all subsets, 100 times."""
    generator = draws(3)
    for trial in range(100):
        m = int(torch.randint(3, 9, (), generator=generator))
        k = int(torch.randint(1, m, (), generator=generator))
        c, r = positive(m, 3, trial), torch.rand(m, generator=generator)
        found = feature_coverage(c, k, scores=r).tolist()
        best = max(objective(c, r, [*s], 1.0) for s in itertools.combinations(range(m), k))
        assert objective(c, r, found, 1.0) >= (1 - 1 / math.e) * best - 1e-6


def test_stochastic_greedy_reaches_its_guarantee_on_average() -> None:
    c = positive(200, 5, 4)
    exact = coverage_value(c, feature_coverage(c, 20))
    values = [
        coverage_value(
            c, feature_coverage(c, 20, greedy="stochastic", epsilon=0.1, generator=draws(seed))
        )
        for seed in range(50)
    ]
    share = sum(values) / 50 / exact
    assert share >= 1 - 1 / math.e - 0.1
    assert 0.9 < share <= 1 + 1e-9  # in practice far above it


def test_the_lazy_choice_looks_at_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    gains = coverage._Covered.gains

    def counted(self: coverage._Covered, index: np.ndarray) -> np.ndarray:
        nonlocal looks
        looks += len(index)
        return gains(self, index)

    monkeypatch.setattr(coverage._Covered, "gains", counted)
    c, r = positive(5000, 8, 5), torch.rand(5000, generator=draws(6))
    feature_coverage(c, 500, scores=r)
    assert looks < 0.1 * 5000 * 500  # the exact choice takes about 500 looks at all of them


# --- What must not matter ---------------------------------------------------------------------


def test_a_choice_goes_on_from_where_it_stands() -> None:
    c, r = positive(60, 4, 7), torch.rand(60, generator=draws(8))
    whole = feature_coverage(c, 20, scores=r)
    assert feature_coverage(c, 20, scores=r, start=whole[:7]).tolist() == whole.tolist()
    assert feature_coverage(c, 7, scores=r, start=whole[:7]).tolist() == whole[:7].tolist()
    drawn = feature_coverage(
        c, 20, scores=r, start=whole[:7], greedy="stochastic", generator=draws()
    )
    assert drawn[:7].tolist() == whole[:7].tolist()
    assert len(set(drawn.tolist())) == 20


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    c, r = positive(157, 6, 9), torch.rand(157, generator=draws(10))
    whole = [
        feature_coverage(c, 30, scores=r, greedy=greedy, generator=draws(11)).tolist()
        for greedy in ("lazy", "exact", "stochastic")
    ]
    monkeypatch.setattr(coverage, "CHUNK_ROWS", 10)
    pieces = [
        feature_coverage(c, 30, scores=r, greedy=greedy, generator=draws(11)).tolist()
        for greedy in ("lazy", "exact", "stochastic")
    ]
    assert pieces == whole


def test_adding_a_number_to_all_scores_changes_nothing() -> None:
    c, r = positive(50, 3, 12), torch.rand(50, generator=draws(13)).double()
    for greedy in ("lazy", "exact", "stochastic"):
        found, moved = (
            feature_coverage(c, 10, scores=s, greedy=greedy, generator=draws(14)).tolist()
            for s in (r, r - 5)
        )
        assert found == moved


def test_half_precision_is_widened() -> None:
    c = positive(40, 3, 15).half()
    assert feature_coverage(c, 8).tolist() == feature_coverage(c.float(), 8).tolist()


def test_many_chosen_keep_their_digits() -> None:
    """sqrt(s + c) - sqrt(s) of a large s: float64 tells gains apart that float32 cannot."""
    c = torch.full((2000, 1), 1e4)
    c[-2:] = torch.tensor([[1.0], [1.01]])
    found = feature_coverage(c, 1999)
    assert found[-1] == 1999


# --- Bad and odd input ------------------------------------------------------------------------


def test_none_and_all_can_be_chosen() -> None:
    assert feature_coverage(HAND, 0).tolist() == []
    assert sorted(feature_coverage(HAND, 3).tolist()) == [0, 1, 2]
    assert feature_coverage(HAND[:1], 1).tolist() == [0]
    assert feature_coverage(HAND[:0], 0).tolist() == []


def test_equal_features_leave_the_scores_to_decide_and_warn() -> None:
    same = torch.ones(3, 2)
    with pytest.warns(UserWarning, match="nothing is diverse"):
        found = feature_coverage(same, 2, scores=[0.1, 0.2, 0.3])
    assert found.tolist() == [2, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feature_coverage(same, 2, scores=LOSSES, diversity=0.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"features": torch.ones(3)}, ValueError, "features must be of shape"),
        ({"features": torch.ones(3, 0)}, ValueError, "features must be of shape"),
        ({"features": torch.ones(3, 2, dtype=torch.int64)}, TypeError, "features must be a floa"),
        ({"features": [[1.0]]}, TypeError, "features must be a floating tensor. Got list"),
        ({"features": torch.tensor([[1.0], [torch.nan]])}, ValueError, r"not, in rows \[1\]"),
        ({"features": -HAND}, ValueError, "features must be at least 0 .* Got -9.0. .* facility"),
        ({"k": 4}, ValueError, "k must be a whole number, at least 0 and at most 3. Got 4"),
        ({"k": -1}, ValueError, "k must be"),
        ({"scores": [1.0]}, ValueError, "scores must be one per candidate: 3. Got 1"),
        ({"scores": [1.0, torch.nan, 0.0]}, ValueError, "scores must be finite"),
        ({"diversity": -1}, ValueError, "diversity must be"),
        ({"weights": [1.0]}, ValueError, "weights must be one per feature: 2. Got 1"),
        ({"weights": [1.0, -1.0]}, ValueError, "weights must be at least 0"),
        ({"greedy": "lazier"}, ValueError, "greedy must be one of"),
        ({"epsilon": 1.0}, ValueError, "epsilon must be"),
        ({"greedy": "stochastic", "generator": None}, TypeError, "generator must be"),
        ({"start": torch.tensor([3])}, ValueError, r"start must be int64 positions in \[0, 3\)"),
        ({"start": torch.tensor([0, 0])}, ValueError, "start must be distinct positions"),
        ({"start": torch.arange(3)}, ValueError, "start must be at most k = 2 positions. Got 3"),
        ({"start": "all"}, TypeError, "start must be int64 positions"),
    ],
)
def test_bad_input_is_refused_by_name(arguments: dict, error: type, message: str) -> None:
    given = {"features": HAND, "k": 2, "generator": draws(), **arguments}
    with pytest.raises(error, match=message):
        feature_coverage(**given)


def test_a_subset_must_lie_in_the_candidates() -> None:
    for function in (coverage_value, coverage_gains):
        with pytest.raises(ValueError, match="chosen must be int64 positions"):
            function(HAND, [3])
        with pytest.raises(ValueError, match="chosen must be distinct"):
            function(HAND, [1, 1])
