import math

import numpy as np
import pytest

from gradatim.compare.intervals import bootstrap_interval
from gradatim.compare.statistics import paired_t_test


def crossed(rng, *, seeds, items, of_seed, of_item, rest):
    """True mean 0; effects with these standard deviations."""
    return (
        rng.normal(0, of_seed, (seeds, 1))
        + rng.normal(0, of_item, (1, items))
        + rng.normal(0, rest, (seeds, items))
    )


def covered(draw, *, studies, shared, seed, **options):
    """Count how often the interval, and the t interval over seeds alone, holds the true 0."""
    rng = np.random.default_rng(seed)
    ours = alone = 0
    for number in range(studies):
        data = draw(rng)
        generator = np.random.default_rng([seed, number])
        low, high = bootstrap_interval(
            data, shared_items=shared, resamples=400, generator=generator, **options
        ).interval
        ours += low < 0 < high
        low, high = paired_t_test([row.mean() for row in data], np.zeros(len(data))).interval
        alone += low < 0 < high
    return ours / studies, alone / studies


def test_seeds_alone_are_too_narrow_on_one_small_test_set_and_both_together_cover():
    """8 seeds share 60 items that answer differently; 500 studies, standard error 1 point.

    The items' share of the variance is 0.25 / 60, the seeds' 0.01 / 8, and only the latter shows
    between seeds. A band of 4 standard errors around 95 %.
    """
    ours, alone = covered(
        lambda rng: crossed(rng, seeds=8, items=60, of_seed=0.1, of_item=0.5, rest=0.3),
        studies=500,
        shared=True,
        seed=3,
    )
    assert alone < 0.8
    assert ours == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 500))


@pytest.mark.parametrize(
    ("seeds", "items", "of_seed", "of_item", "rest"),
    [(5, 100, 0.2, 0.0, 0.5), (8, 50, 0.1, 0.3, 1.0)],
)
def test_crossed_intervals_cover_whoever_is_to_blame(seeds, items, of_seed, of_item, rest):
    """400 studies, standard error 1.1 points; not below 95 % by 3 of them, nor near 100 %."""
    ours, _ = covered(
        lambda rng: crossed(
            rng, seeds=seeds, items=items, of_seed=of_seed, of_item=of_item, rest=rest
        ),
        studies=400,
        shared=True,
        seed=1,
    )
    assert 0.95 - 3.3e-2 <= ours <= 0.99


@pytest.mark.parametrize("of_seed", [0.0, 0.3])
def test_nested_intervals_cover(of_seed):
    """6 seeds with 40 items each of their own: a naive two-stage bootstrap would be too wide."""
    ours, _ = covered(
        lambda rng: rng.normal(0, of_seed, (6, 1)) + rng.normal(0, 1, (6, 40)),
        studies=400,
        shared=False,
        seed=2,
    )
    assert 0.95 - 3.3e-2 <= ours <= 0.985


def test_answers_of_a_classifier_are_covered():
    """Differences of right and wrong answers: -1, 0 or 1; items hard for one of the two models."""
    true = 0.05

    def draw(rng):
        lean = rng.normal(true, 0.25, 80)  # how each item leans, in expectation
        chance = rng.random((5, 80))
        up, down = np.clip(0.25 + lean / 2, 0, 1), np.clip(0.25 - lean / 2, 0, 1)
        return (chance < up) * 1.0 - (chance > 1 - down) * 1.0 - true

    ours, alone = covered(draw, studies=400, shared=True, seed=5)
    assert alone < ours
    assert 0.915 <= ours <= 0.99


def test_a_wider_coverage_is_a_wider_interval():
    data = crossed(np.random.default_rng(0), seeds=4, items=30, of_seed=1, of_item=1, rest=1)
    wide = bootstrap_interval(data, shared_items=True, confidence=0.99)
    narrow = bootstrap_interval(data, shared_items=True, confidence=0.8)
    assert wide.interval[0] < narrow.interval[0] < narrow.interval[1] < wide.interval[1]
    assert wide.difference == narrow.difference == pytest.approx(data.mean())


def test_the_spread_of_resamples_is_the_analysis_of_variance_by_hand():
    # Rows 1 and 3, columns differ by 2, nothing else: MS of seeds 4 * 2 = 8... and no rest.
    data = np.array([[0.0, 2.0, 0.0, 2.0], [2.0, 4.0, 2.0, 4.0]])
    found = bootstrap_interval(data, shared_items=True, resamples=20_000)
    # Effects of seeds -1, 1: variance 2, over 2 seeds 1. Of items -1, 1, -1, 1: 4/3, over 4: 1/3.
    assert found.seed_share == pytest.approx(1 / (1 + 1 / 3))
    # Satterthwaite: (4/3)^2 / (1 / 1 + (1/3)^2 / 3).
    assert found.freedom == pytest.approx((16 / 9) / (1 + 1 / 27))
    assert found.difference == 2


def test_nested_seeds_without_own_spread_leave_it_to_the_items():
    # Every seed has mean 0 and items -1, 1: nothing between, items' variance 2 / 2 over 3 seeds.
    found = bootstrap_interval([[-1.0, 1.0]] * 3, shared_items=False, resamples=5000)
    assert found.seed_share == 0
    assert found.freedom == pytest.approx(3)  # one degree of each seed's pair
    assert found.interval[0] < 0 < found.interval[1]


def test_seeds_with_test_sets_of_different_size_count_the_same():
    found = bootstrap_interval([[1.0, 1.0], [3.0] * 6], shared_items=False)
    assert found.difference == 2
    assert found.seed_share == 1


def test_no_spread_is_a_point():
    assert bootstrap_interval(np.full((3, 5), 0.25), shared_items=True).interval == (0.25, 0.25)
    assert bootstrap_interval(np.full((3, 5), 0.25), shared_items=False).interval == (0.25, 0.25)


@pytest.mark.parametrize("shared", [True, False])
def test_draws_depend_on_the_generator_alone(shared):
    data = np.random.default_rng(0).normal(size=(3, 20))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, same, other = (
        bootstrap_interval(
            data, shared_items=shared, resamples=200, generator=np.random.default_rng(seed)
        )
        for seed in (1, 1, 2)
    )
    assert first == same
    assert first.interval != other.interval
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize("shared", [True, False])
def test_chunks_do_not_show(shared, monkeypatch):
    data = np.random.default_rng(0).normal(size=(3, 20))
    whole = bootstrap_interval(data, shared_items=shared, resamples=3000)
    monkeypatch.setattr("gradatim.compare.intervals.CHUNK", 20 * 700)
    parts = bootstrap_interval(data, shared_items=shared, resamples=3000)
    assert parts.interval == pytest.approx(whole.interval, abs=0.15)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([[1.0, 2.0]], {}, "those of at least two seeds. Got 1"),
        ([[1.0, 2.0], [1.0]], {}, "at least two a seed"),
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], {}, "Did every seed have its own test set"),
        ([[1.0, 2.0], [1.0, math.nan]], {}, "differences must be finite"),
        (np.ones((2, 2, 2)), {}, "one value per test item"),
        (np.ones((2, 2)), {"confidence": 1}, "confidence must be"),
        (np.ones((2, 2)), {"resamples": 10}, "resamples must be"),
    ],
)
def test_bad_differences_are_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(data, shared_items=True, **options)
