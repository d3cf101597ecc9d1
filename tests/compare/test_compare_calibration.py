"""Verdicts err at the rates they state, where test_compare_verdicts.py does not look.

There: six curricula without effect, and the power at one standard deviation. In
test_compare_statistics.py: equivalence at the margin's edge, one pair at a time.
"""

import math

import numpy as np
import pytest

from gradatim.compare import judge, t_test_power


def rate_and_band(hits, studies, level, errors=2.0):
    return hits / studies, level + errors * math.sqrt(level * (1 - level) / studies)


@pytest.mark.parametrize("edge", [0.01, -0.01])
def test_equivalence_at_the_edge_of_the_margin_errs_at_its_rate(edge):
    """A true difference of exactly the margin, either way: "equivalent" in at most 5 %.

    1,000 studies of 8 seeds; a spread small against the margin makes the rate the level itself.
    """
    rng = np.random.default_rng(17)
    false = 0
    for _ in range(1000):
        base = rng.normal(0.9, 0.01, 8)
        pairs = {"edge": (base + edge + rng.normal(0, 0.002, 8), base)}
        false += judge(pairs, alpha=0.05, margin=0.01)["edge"].equivalence.p_value < 0.05
    rate, most = rate_and_band(false, 1000, 0.05)
    assert 0.02 < rate <= most


def test_the_verdict_equivalent_is_rarely_given_at_the_edge():
    """ "Helps" comes first, so the verdict errs less often than the test below it."""
    rng = np.random.default_rng(18)
    false = 0
    for _ in range(1000):
        base = rng.normal(0.9, 0.01, 8)
        pairs = {"edge": (base + 0.01 + rng.normal(0, 0.01, 8), base)}
        false += judge(pairs, alpha=0.05, margin=0.01)["edge"].verdict == "equivalent"
    rate, most = rate_and_band(false, 1000, 0.05)
    assert rate <= most


@pytest.mark.parametrize("seeds", [3, 5])
def test_false_verdicts_of_accuracies_on_a_small_test_set(seeds):
    """Accuracies are multiples of 1/100 and often tie: 1,000 families of six, no true difference.

    All differences of a family may be equal then, which leaves a t-test without a spread.
    """
    rng = np.random.default_rng(20)
    scores = rng.binomial(100, 0.97, (1000, 7, seeds)) / 100
    false = 0
    for run in scores:
        verdicts = judge({str(k): (run[k], run[6]) for k in range(6)}, alpha=0.05, margin=1e-6)
        false += any(found.verdict in ("helps", "hurts") for found in verdicts.values())
    rate, most = rate_and_band(false, 1000, 0.05)
    assert rate <= most


def test_a_curriculum_that_helps_does_not_make_the_others_err():
    """One of six is far better: the other five stay below 5 % together, in 500 families."""
    rng = np.random.default_rng(21)
    false = found = 0
    for run in rng.normal(size=(500, 7, 8)):
        pairs = {str(k): (run[k] + 5 * (k == 0), run[6]) for k in range(6)}
        verdicts = judge(pairs, alpha=0.05, margin=1e-6)
        found += verdicts["0"].verdict == "helps"
        false += any(verdicts[str(k)].verdict in ("helps", "hurts") for k in range(1, 6))
    rate, most = rate_and_band(false, 500, 0.05)
    assert rate <= most
    assert found > 475


def test_one_curriculum_alone_is_found_as_often_as_stated():
    """Families of one, so Holm changes nothing; one standard deviation of the differences."""
    rng = np.random.default_rng(22)
    found = 0
    for _ in range(1000):
        base = rng.normal(size=8)
        pairs = {"a": (base + rng.normal(1, 1, 8), base)}
        found += judge(pairs, alpha=0.05, margin=1e-6)["a"].verdict == "helps"
    assert found / 1000 == pytest.approx(t_test_power(1.0, 8), abs=0.05)
