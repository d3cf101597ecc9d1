"""Staged mixes (methods.md 12.4): allocation, ramps, thresholds, sources that run dry."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradatim as gr
from gradatim.mixing import (
    RunningAllocation,
    Stage,
    StagedMix,
    largest_remainder,
    multinomial,
    temperature_weights,
)

OLD, NEW = [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]


def rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


# --- Allocation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "size", "counts"),
    [
        ([0.5, 0.3, 0.2], 7, [4, 2, 1]),
        ([1 / 3] * 3, 8, [3, 3, 2]),
        ([0.1 * 3, 0.7], 10, [3, 7]),
        ([0, 1, 0], 5, [0, 5, 0]),
        ([1, 1], 0, [0, 0]),
    ],
)
def test_largest_remainder_by_hand(weights: list[float], size: int, counts: list[int]) -> None:
    assert largest_remainder(weights, size).tolist() == counts
    if size:
        assert RunningAllocation(len(weights))(weights, size).tolist() == counts


def test_temperature_by_hand() -> None:
    """n = 1000, 100, 10; alpha = 0 is uniform, and an empty source stays at 0."""
    assert rounded(temperature_weights([1000, 100, 10], 0.5)) == [0.706101, 0.223289, 0.070610]
    assert rounded(temperature_weights([1000, 100, 10], 1)) == [0.900901, 0.090090, 0.009009]
    assert rounded(temperature_weights([1000, 0, 10], 0)) == [0.5, 0.0, 0.5]


weights_of = st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda w: sum(w) > 1e-3)


@given(weights_of, st.integers(0, 200))
def test_largest_remainder_is_within_one_of_the_quota(weights: list[float], size: int) -> None:
    counts = largest_remainder(weights, size)
    assert int(counts.sum()) == size
    quota = torch.tensor(weights, dtype=torch.float64) * size / sum(weights)
    assert float((counts - quota).abs().max()) < 1


@given(weights_of, st.integers(1, 40), st.integers(1, 60))
def test_long_run_shares_are_right_to_one_sample_at_any_time(
    weights: list[float], size: int, batches: int
) -> None:
    shares = RunningAllocation(len(weights))
    exact = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    given_out = torch.zeros(len(weights), dtype=torch.float64)
    for batch in range(1, batches + 1):
        counts = shares(weights, size)
        assert int(counts.sum()) == size
        given_out += counts
        assert float((given_out - exact * size * batch).abs().max()) < 1
    assert float(given_out[exact == 0].sum()) == 0


def test_long_run_shares_of_many_sources_one_at_a_time() -> None:
    """Giving to the largest deficit among those behind fails at the first of these, batch 107."""
    shares, given_out = RunningAllocation(5), torch.zeros(5, dtype=torch.float64)
    exact = torch.tensor([3, 89, 100, 1, 1], dtype=torch.float64) / 194
    for batch in range(1, 195):
        given_out += shares(exact, 1)
        assert float((given_out - exact * batch).abs().max()) < 1
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        exact = torch.rand(30, generator=generator, dtype=torch.float64).pow(4)
        exact /= exact.sum()
        shares, given_out = RunningAllocation(30), torch.zeros(30, dtype=torch.float64)
        for batch in range(1, 200):
            given_out += shares(exact, 1)
            assert float((given_out - exact * batch).abs().max()) < 1


def test_a_rare_source_comes_in_its_turn() -> None:
    """Of weight .01 in batches of 8: never by largest remainder alone, once in 12.5 batches."""
    shares = RunningAllocation(2)
    counts = torch.stack([shares([0.99, 0.01], 8) for _ in range(100)]).sum(0)
    assert counts.tolist() == [792, 8]


def test_multinomial_is_drawn_from_its_generator() -> None:
    counts = [
        multinomial([1, 0, 3], 4000, generator=torch.Generator().manual_seed(seed)).tolist()
        for seed in (0, 0, 1)
    ]
    assert counts[0] == counts[1] != counts[2]
    assert counts[0][1] == 0
    assert abs(counts[0][0] - 1000) < 5 * math.sqrt(4000 * 0.25 * 0.75)


# --- Stages -------------------------------------------------------------------------------------


def two_stages(**options: Any) -> StagedMix:
    return gr.StagedMix([Stage(0, OLD), Stage(1000, NEW, ramp=400, **options)])


def test_ramps_by_hand() -> None:
    """25 % of the way: linear .5, .3, .2; cosine .541421, .3, .158579."""
    assert rounded(two_stages().weights_at(1100)) == [0.5, 0.3, 0.2]
    assert rounded(two_stages(shape="cosine").weights_at(1100)) == [0.541421, 0.3, 0.158579]
    for shape in ("linear", "cosine"):
        mix = two_stages(shape=shape)
        assert rounded(mix.weights_at(999)) == rounded(mix.weights_at(1000)) == OLD
        assert rounded(mix.weights_at(1200)) == [0.4, 0.3, 0.3]
        assert rounded(mix.weights_at(1400)) == rounded(mix.weights_at(1e9)) == NEW


def test_without_a_ramp_the_weights_jump() -> None:
    mix = StagedMix([Stage(0, OLD), Stage(1000, NEW)])
    assert rounded(mix.weights_at(999.9)) == OLD
    assert rounded(mix.weights_at(1000)) == NEW


@given(st.floats(0, 5000), st.sampled_from(["linear", "cosine"]))
def test_weights_sum_to_1_at_every_token(position: float, shape: Any) -> None:
    weights = two_stages(shape=shape).weights_at(position)
    assert float(weights.sum()) == pytest.approx(1)
    assert float(weights.min()) >= 0


def test_tokens_are_advanced_and_steps_count_themselves() -> None:
    mix = StagedMix([Stage(0, [1, 0]), Stage(2, [0, 1])], unit="steps")
    assert [mix.allocate(4).tolist() for _ in range(4)] == [[4, 0], [4, 0], [0, 4], [0, 4]]
    with pytest.raises(ValueError, match="unit must be 'tokens'"):
        mix.advance(3)
    tokens = StagedMix([Stage(0, [1, 0]), Stage(100, [0, 1])])
    assert tokens.allocate(4).tolist() == [4, 0]
    tokens.advance(99)
    assert tokens.allocate(4).tolist() == [4, 0]
    tokens.advance(1)
    assert tokens.allocate(4).tolist() == [0, 4]


def test_long_run_allocation_of_a_stage_is_right_to_one_sample() -> None:
    mix = StagedMix([Stage(0, [0.62, 0.27, 0.11])])
    for batch in range(1, 300):
        mix.allocate(7)
        exact = torch.tensor([0.62, 0.27, 0.11], dtype=torch.float64) * 7 * batch
        assert float((mix.drawn - exact).abs().max()) < 1


def test_an_annealing_stage_lowers_the_rate_to_its_end() -> None:
    stages = [Stage(0, [1, 1]), Stage(80, [0, 1], learning_rate=0.5, final_learning_rate=0.0)]
    mix = StagedMix(stages, end=100)
    found = [mix.learning_rate_at(position) for position in (0, 79, 80, 90, 100, 120)]
    assert found == [1.0, 1.0, 0.5, 0.25, 0.0, 0.0]
    decaying = StagedMix([Stage(0, [1], final_learning_rate=0.2), Stage(10, [1])])
    assert decaying.learning_rate_at(5) == pytest.approx(0.6)


# --- Sources that run dry -----------------------------------------------------------------------


def test_a_source_repeats_max_epochs_then_the_others_take_its_share() -> None:
    """3 samples twice, of weight .5: 6 of the first 12; then .3 and .2 become .6 and .4."""
    mix = StagedMix([Stage(0, [0.5, 0.3, 0.2])], sizes=[3, 100, 100], max_epochs=2)
    for _ in range(3):
        mix.allocate(4)
    assert float(mix.drawn[0]) == 6
    assert rounded(mix.probabilities()) == [0.0, 0.6, 0.4]
    assert mix.allocate(10).tolist() == [0, 6, 4]


def test_within_a_batch_what_is_missing_comes_from_the_others() -> None:
    for allocation in ("largest_remainder", "multinomial"):
        mix = StagedMix(
            [Stage(0, [0.8, 0.1, 0.1])], sizes=[3, 50, 50], max_epochs=1, allocation=allocation
        )
        counts = mix.allocate(20)
        assert int(counts[0]) == 3
        assert int(counts.sum()) == 20


@pytest.mark.parametrize("allocation", ["largest_remainder", "multinomial"])
def test_when_all_are_dry_nothing_is_left(allocation: Any) -> None:
    mix = StagedMix([Stage(0, [1, 1, 0])], sizes=[3, 4, 9], max_epochs=2, allocation=allocation)
    drawn = [int(mix.allocate(5).sum()) for _ in range(5)]
    assert drawn == [5, 5, 4, 0, 0]
    assert mix.drawn.tolist() == [6, 8, 0]
    assert mix.probabilities().tolist() == [0, 0, 0]


# --- Quality ------------------------------------------------------------------------------------


def test_a_threshold_narrows_a_source_from_its_stage_on() -> None:
    scores = [torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0.7, 0.2])]
    mix = StagedMix([Stage(0, [1, 1]), Stage(10, [1, 1], quality=0.5)], scores=scores, max_epochs=1)
    assert mix.members(0) is None
    assert int(mix.allocate(10).sum()) == 5  # all of them once
    mix.advance(10)
    found = [mix.members(source) for source in (0, 1)]
    assert [part.tolist() for part in found if part is not None] == [[1, 2], [0]]
    assert int(mix.allocate(10).sum()) == 3  # counted anew


def test_thresholds_without_scores_or_above_them_are_refused() -> None:
    with pytest.raises(ValueError, match="scores must be given for stage 0's quality"):
        StagedMix([Stage(0, [1, 1], quality=0.5)])
    scores = [torch.tensor([0.1]), torch.tensor([0.7])]
    with pytest.raises(ValueError, match="quality must be passed by a sample of source 0"):
        StagedMix([Stage(0, [1, 1], quality=0.5)], scores=scores)
    assert StagedMix([Stage(0, [0, 1], quality=0.5)], scores=scores).members(1) is not None


# --- State and bad input ------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ["largest_remainder", "multinomial"])
def test_a_staged_mix_resumes_exactly_from_every_step(allocation: Any) -> None:
    def make() -> StagedMix:
        scores = [torch.arange(30.0), torch.arange(50.0), torch.arange(400.0)]
        stages = [Stage(0, OLD), Stage(60, NEW, ramp=40, quality=9.0), Stage(140, [1, 1, 1])]
        return StagedMix(stages, scores=scores, max_epochs=1, allocation=allocation, seed=5)

    whole, states, counts = make(), [], []
    for _ in range(30):
        states.append(whole.state_dict())
        counts.append(whole.allocate(7).tolist())
        whole.advance(7)
    for start, state in enumerate(states):
        part = make()
        part.load_state_dict(state)
        rest = []
        for _ in range(start, 30):
            rest.append(part.allocate(7).tolist())
            part.advance(7)
        assert rest == counts[start:]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages must be one at least"),
        ([Stage(5, [1])], r"stages\[0\].start must be 0"),
        ([Stage(0, [1]), Stage(0, [1])], r"stages\[1\].start must be after"),
        ([Stage(0, [1]), Stage(9, [1]), Stage(5, [1])], r"stages\[2\].start must be after"),
        ([Stage(0, [1]), Stage(5, [1], ramp=6), Stage(10, [1])], r"stages\[1\].ramp must be over"),
        ([Stage(0, [0, 0])], r"stages\[0\].weights must be above 0 for one"),
        ([Stage(0, [1, -1])], r"stages\[0\].weights must be at least 0"),
        ([Stage(0, [1, math.nan])], r"stages\[0\].weights must be finite"),
        ([Stage(0, [1, 1]), Stage(5, [1])], r"stages\[1\].weights must be one per source: 2"),
        ([Stage(0, [1], shape="sine")], r"stages\[0\].shape must be one of"),  # pyright: ignore
        ([Stage(0, [1], ramp=-1)], r"stages\[0\].ramp must be"),
        ([Stage(0, [1], learning_rate=0)], r"stages\[0\].learning_rate must be"),
        ([Stage(0, [1], final_learning_rate=0)], "end must be given"),
    ],
)
def test_plans_that_make_no_sense_are_refused(stages: list[Stage], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StagedMix(stages)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"unit": "epochs"}, "unit"),
        ({"allocation": "round"}, "allocation"),
        ({"max_epochs": 2}, "sizes"),
        ({"max_epochs": 0, "sizes": [1, 1]}, "max_epochs"),
        ({"sizes": [1]}, "sizes"),
        ({"scores": [torch.zeros(3)]}, "scores"),
        ({"end": 0}, "end"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        StagedMix([Stage(0, [1, 1])], **options)


def test_limits_and_weights_of_allocations_are_checked() -> None:
    shares = RunningAllocation(2)
    for weights, size, limits, name in (
        ([1], 3, None, "weights"),
        ([0, 0], 3, None, "weights"),
        ([1, 1], -1, None, "size"),
        ([1, 1], 3, [1], "limits"),
        ([1, 1], 3, [1, math.nan], "limits"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            shares(weights, size, limits=limits)
    assert shares.owed.tolist() == [0, 0]
    with pytest.raises(ValueError, match="alpha must be"):
        temperature_weights([1, 2], -1)
