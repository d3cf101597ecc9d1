import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradatim.compare import (
    equivalence_test,
    holm,
    mcnemar,
    minimum_detectable_difference,
    paired_t_test,
    sign_flip_test,
    smallest_sign_flip_p,
    t_test_power,
)

VALUES = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=10)


def columns(pairs):
    return [a for a, _ in pairs], [b for _, b in pairs]


# ---------------------------------------------------------------- paired t-test


def test_student1908_t_by_hand():
    # d = 1, 2, 3: mean 2, s = 1, t = 2 sqrt(3); with 2 degrees of freedom the tail has a closed
    # form, P(T > t) = (1 - t / sqrt(2 + t^2)) / 2.
    test = paired_t_test([3, 5, 7], [2, 3, 4])
    t = 2 * math.sqrt(3)
    assert test.difference == 2
    assert test.deviation == pytest.approx(1)
    assert test.statistic == pytest.approx(t)
    assert test.p_value == pytest.approx(1 - t / math.sqrt(2 + t * t))
    # The .975 quantile with 2 degrees of freedom is .95 sqrt(2 / (1 - .95^2)) = 4.302653.
    half = 0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3)
    assert test.interval == pytest.approx((2 - half, 2 + half))


@given(PAIRS)
@settings(deadline=None, max_examples=100)
def test_paired_t_test_agrees_with_scipy(pairs):
    a, b = columns(pairs)
    test = paired_t_test(a, b)
    if test.deviation == 0:
        return
    oracle = stats.ttest_rel(a, b)
    assert test.p_value == pytest.approx(oracle.pvalue, abs=1e-9)
    assert test.statistic == pytest.approx(oracle.statistic, rel=1e-6)
    assert test.interval == pytest.approx(tuple(oracle.confidence_interval(0.95)), abs=1e-6)


def test_paired_t_test_interval_has_the_asked_coverage():
    wide = paired_t_test([3, 5, 7, 6], [2, 3, 4, 6], confidence=0.99)
    oracle = stats.ttest_rel([3, 5, 7, 6], [2, 3, 4, 6]).confidence_interval(0.99)
    assert wide.interval == pytest.approx(tuple(oracle))


@given(PAIRS)
@settings(deadline=None, max_examples=50)
def test_swapping_a_and_b_turns_the_difference_round(pairs):
    a, b = columns(pairs)
    one, other = paired_t_test(a, b), paired_t_test(b, a)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_value == pytest.approx(other.p_value)
    assert sign_flip_test(a, b).p_value == sign_flip_test(b, a).p_value


def test_lists_are_read_in_double_precision():
    # float32 would make this difference 0.
    assert paired_t_test([1 + 1e-9, 1.0], [1.0, 1.0]).difference == pytest.approx(5e-10)


def test_arrays_tensors_and_lists_give_the_same():
    a, b = [0.9, 0.8, 0.7], [0.8, 0.75, 0.7]
    expected = paired_t_test(a, b)
    assert paired_t_test(np.array(a), np.array(b)) == expected
    doubles = [torch.tensor(values, dtype=torch.float64) for values in (a, b)]
    assert paired_t_test(*doubles) == expected


@pytest.mark.parametrize("n", [2, 3, 8])
def test_differences_without_spread_never_give_p_zero(n):
    # 0.9 - 0.8 and 0.8 - 0.7 differ by one bit: t would be 1e15.
    a = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2][:n]
    test = paired_t_test(a, [value - 0.1 for value in a])
    assert test.deviation == 0
    assert test.statistic == math.inf
    assert test.p_value == 2.0 ** (1 - n)
    assert test.interval == (test.difference, test.difference)
    assert paired_t_test([value - 0.1 for value in a], a).statistic == -math.inf


def test_identical_results_give_p_one():
    test = paired_t_test([0.9, 0.8], [0.9, 0.8])
    assert (test.difference, test.statistic, test.p_value) == (0, 0, 1)
    assert sign_flip_test([0.9, 0.8], [0.9, 0.8]).p_value == 1


# ---------------------------------------------------------------- sign flips


def test_sign_flip_by_hand():
    # Sums of +-1 +-2 +-3: 6, 4, 2, 0, 0, -2, -4, -6.
    assert sign_flip_test([1, 2, 3], [0, 0, 0]).p_value == 2 / 8
    # |1 - 2 + 3| = 2: reached by 6, 4, 2 and their mirrors.
    assert sign_flip_test([1, -2, 3], [0, 0, 0]).p_value == 6 / 8


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
@settings(deadline=None, max_examples=100)
def test_sign_flip_agrees_with_a_slow_loop(differences):
    reached = sum(
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= abs(sum(differences))
        for signs in itertools.product((1, -1), repeat=len(differences))
    )
    # In steps of 1/360, as accuracies are: ties must survive rounding.
    a = [0.5 + d / 360 for d in differences]
    test = sign_flip_test(a, [0.5] * len(a))
    assert test.p_value == reached / 2 ** len(differences)
    assert test.exact


def test_sign_flip_agrees_with_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 9))
    oracle = stats.permutation_test(
        (a, b), lambda x, y: (x - y).sum(), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_test(a, b).p_value == pytest.approx(oracle.pvalue)


def test_sign_flip_reaches_its_smallest_p_and_20_pairs_are_exact():
    test = sign_flip_test(np.arange(1, 21), np.zeros(20))
    assert test.exact
    assert test.p_value == test.smallest_p == smallest_sign_flip_p(20) == 2.0**-19


def test_sign_flip_above_20_pairs_draws_and_agrees_with_the_exact_distribution():
    """21 equal differences 1 with 15 plus signs: P(|sum| >= 9) is binomial.

    100,000 draws have a standard error of 0.0009; a band of 5 of them fails with 6e-7.
    """
    differences = [1.0] * 15 + [-1.0] * 6
    exact = 2 * stats.binom.cdf(6, 21, 0.5)
    test = sign_flip_test(differences, np.zeros(21))
    assert not test.exact
    assert test.p_value == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 1e5))
    assert test.smallest_p == 1 / 100_001


def test_sign_flip_draws_depend_on_the_generator_alone():
    a, b = np.random.default_rng(0).normal(size=(2, 30))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    p = [
        sign_flip_test(a, b, draws=500, generator=np.random.default_rng(seed)).p_value
        for seed in (1, 1, 2)
    ]
    assert p[0] == p[1] != p[2]
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_sign_flip_draws_are_never_zero():
    assert sign_flip_test(np.ones(40), np.zeros(40), draws=99).p_value == 1 / 100


# ---------------------------------------------------------------- Holm


def test_holm1979_by_hand():
    # Sorted .01 .03 .04: times 3, 2, 1 gives .03 .06 .04, made monotone .03 .06 .06.
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]).tolist() == [1, 1]
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(deadline=None, max_examples=100)
def test_holm_agrees_with_its_definition_and_lies_between_raw_and_bonferroni(p_values):
    adjusted = holm(p_values)
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, (m - rank) * p_values[i])
        assert adjusted[i] == pytest.approx(min(1.0, largest))
    assert (adjusted >= np.array(p_values) - 1e-12).all()
    assert (adjusted <= np.minimum(1, m * np.array(p_values)) + 1e-12).all() or m > 1


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(0).random(12) ** 3
    oracle = multitest.multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(oracle)


# ---------------------------------------------------------------- McNemar


def answers(only_a, only_b, both=3, neither=2):
    a = [True] * only_a + [False] * only_b + [True] * both + [False] * neither
    b = [False] * only_a + [True] * only_b + [True] * both + [False] * neither
    return a, b


def test_mcnemar1947_by_hand():
    test = mcnemar(*answers(10, 25))
    assert (test.only_a, test.only_b, test.exact) == (10, 25, False)
    assert test.statistic == pytest.approx(5.6)
    assert test.p_value == pytest.approx(0.017960, abs=5e-7)
    assert mcnemar(*answers(10, 25), exact=True).p_value == pytest.approx(0.016674, abs=5e-7)
    assert mcnemar(*answers(2, 8)).p_value == pytest.approx(0.109375, abs=1e-12)
    assert mcnemar(*answers(0, 0)).p_value == 1


@pytest.mark.parametrize(("total", "exact"), [(24, True), (25, False)])
def test_mcnemar_is_exact_below_25_disagreements(total, exact):
    assert mcnemar(*answers(5, total - 5)).exact is exact


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_mcnemar_is_symmetric_and_ignores_agreement(only_a, only_b, both, neither):
    test = mcnemar(*answers(only_a, only_b, both, neither))
    a, b = answers(only_a, only_b)
    assert mcnemar(b, a).p_value == test.p_value == mcnemar(a, b).p_value
    assert 0 < test.p_value <= 1


@pytest.mark.parametrize("counts", [(10, 25), (2, 8), (20, 20), (1, 30)])
@pytest.mark.parametrize("exact", [True, False])
def test_mcnemar_agrees_with_statsmodels(counts, exact):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    oracle = tables.mcnemar([[3, counts[0]], [counts[1], 2]], exact=exact, correction=True)
    assert mcnemar(*answers(*counts), exact=exact).p_value == pytest.approx(oracle.pvalue)


def test_mcnemar_refuses_predictions():
    with pytest.raises(ValueError, match=r"correct_a must be booleans.*predictions"):
        mcnemar([3, 1], [1, 1])
    with pytest.raises(ValueError, match=r"correct_b must be one value per sample: 2 of them"):
        mcnemar([1, 1], [1, 1, 0])


# ---------------------------------------------------------------- equivalence


def test_schuirmann1987_by_hand():
    # d = 1, 2, 3 and margin 5: the upper test decides, t = (5 - 2) / (1 / sqrt(3)).
    test = equivalence_test([3, 5, 7], [2, 3, 4], margin=5)
    t = 3 * math.sqrt(3)
    assert test.statistic == pytest.approx(t)
    assert test.p_value == pytest.approx((1 - t / math.sqrt(2 + t * t)) / 2)
    # Beyond the margin there is nothing to show.
    assert equivalence_test([3, 5, 7], [2, 3, 4], margin=1).p_value > 0.5


@given(PAIRS, st.floats(0.01, 50))
@settings(deadline=None, max_examples=100)
def test_equivalence_is_two_one_sided_tests(pairs, margin):
    a, b = columns(pairs)
    test = equivalence_test(a, b, margin=margin)
    d = np.array(a) - np.array(b)
    if paired_t_test(a, b).deviation == 0:
        return
    above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(d, margin, alternative="less").pvalue
    assert test.p_value == pytest.approx(max(above, below), abs=1e-9)
    if abs(test.p_value - 0.05) > 1e-6:
        inside = -margin < test.interval[0] and test.interval[1] < margin
        assert inside == (test.p_value < 0.05)


def test_equivalence_interval_covers_one_minus_twice_alpha():
    a, b = [3, 5, 7, 6], [2, 3, 4, 6]
    for alpha in (0.05, 0.2):
        expected = paired_t_test(a, b, confidence=1 - 2 * alpha).interval
        test = equivalence_test(a, b, margin=9, alpha=alpha)
        assert test.interval == pytest.approx(expected)


def test_equivalence_agrees_with_statsmodels():
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    a, b = np.random.default_rng(1).normal(size=(2, 10))
    oracle = weightstats.ttost_paired(a, b, -1.5, 1.5)[0]
    assert equivalence_test(a, b, margin=1.5).p_value == pytest.approx(oracle)


def test_equivalence_of_identical_results_rests_on_their_number():
    assert equivalence_test([0.9] * 4, [0.9] * 4, margin=0.01).p_value == 1 / 16
    assert equivalence_test([0.9] * 8, [0.9] * 8, margin=0.01).p_value == 1 / 256
    assert equivalence_test([0.9] * 8, [0.8] * 8, margin=0.01).p_value == 1


def test_equivalence_errs_at_its_rate():
    """At a true difference of exactly the margin, p < .05 in 5 % of 4,000 studies.

    Standard error 0.0034; a band of 4 of them fails with 6e-5.
    """
    rng = np.random.default_rng(7)
    d = rng.normal(0.5, 0.2, size=(4000, 8))
    zeros = np.zeros(8)
    errors = np.mean([equivalence_test(row, zeros, margin=0.5).p_value < 0.05 for row in d])
    assert errors == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


# ---------------------------------------------------------------- power


def test_smallest_sign_flip_p_by_hand():
    assert [smallest_sign_flip_p(n) for n in (1, 2, 5, 8)] == [1, 0.5, 0.0625, 0.0078125]


def test_power_agrees_with_statsmodels():
    power = pytest.importorskip("statsmodels.stats.power")
    for effect, pairs, alpha in [(1.0, 8, 0.05), (0.5, 20, 0.01), (-2.0, 4, 0.05), (0.0, 9, 0.1)]:
        oracle = power.ttest_power(effect, pairs, alpha)
        assert t_test_power(effect, pairs, alpha=alpha) == pytest.approx(oracle, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_power_is_what_simulation_gives_at_one_standard_deviation(alpha):
    """10,000 studies of 8 pairs: a standard error of at most 0.005, and 0.05 is allowed."""
    rng = np.random.default_rng(11)
    d = rng.normal(1.0, 1.0, size=(10_000, 8))
    t = d.mean(1) / (d.std(1, ddof=1) / math.sqrt(8))
    found = (np.abs(t) > stats.t.isf(alpha / 2, 7)).mean()
    assert t_test_power(1.0, 8, alpha=alpha) == pytest.approx(found, abs=0.05)


@given(st.integers(2, 30), st.floats(0.005, 0.2), st.floats(0.3, 0.95))
@settings(deadline=None, max_examples=40)
def test_detectable_difference_inverts_power(pairs, alpha, power):
    found = minimum_detectable_difference(2.0, pairs, alpha=alpha, power=power)
    assert t_test_power(found / 2.0, pairs, alpha=alpha) == pytest.approx(power, abs=1e-6)
    assert minimum_detectable_difference(0.0, pairs, alpha=alpha, power=power) == 0


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("test", [paired_t_test, sign_flip_test])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0], r"a must be at least two values, one per seed. Got 1. One run tells"),
        ([1.0, 2.0], [1.0], r"b must be one value per sample: 2 of them. Got 1"),
        ([1.0, math.nan], [1.0, 2.0], r"a must be finite. Got 1 non-finite value at index \[1\]"),
        ([[1.0, 2.0]], [1.0, 2.0], r"a must be one-dimensional"),
    ],
)
def test_paired_tests_refuse(test, a, b, message):
    with pytest.raises(ValueError, match=message):
        test(a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_t_test([1, 2], [3, 5], confidence=1), "confidence must be"),
        (lambda: sign_flip_test([1, 2], [3, 5], draws=0), "draws must be"),
        (lambda: holm([0.1, 1.2]), r"p_values must be in \[0, 1\]"),
        (lambda: holm([-0.1]), r"p_values must be in \[0, 1\]"),
        (lambda: equivalence_test([1, 2], [3, 5], margin=0), "margin must be"),
        (lambda: equivalence_test([1, 2], [3, 5], margin=1, alpha=0.5), "alpha must be"),
        (lambda: smallest_sign_flip_p(0), "pairs must be"),
        (lambda: t_test_power(1.0, 1), "pairs must be"),
        (lambda: t_test_power(1.0, 8, alpha=0), "alpha must be"),
        (lambda: minimum_detectable_difference(-1, 8), "deviation must be"),
        (lambda: minimum_detectable_difference(1, 8, power=0.04), "power must be"),
    ],
)
def test_parameters_outside_their_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
