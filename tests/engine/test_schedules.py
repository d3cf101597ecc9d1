"""The cyclic cosine schedule (5.4): worked numbers, epochs that differ, resuming."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradatim as gr
from engine.probes import Samples
from gradatim.episodes import PAPER_EPISODES
from gradatim.schedules import CyclicCosine


class Sizes(gr.Method):
    """Leaves the first ``sizes[epoch]`` samples; tells so ahead, or not."""

    def __init__(self, sizes: tuple[int, ...], *, known: bool = True) -> None:
        self.sizes = sizes
        self.known = known

    def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
        return pool.keep(torch.arange(self.sizes[run.epoch]))

    def planned_size(self, size: int, epoch: int) -> int | None:
        return self.sizes[epoch] if self.known else None


class Training:
    """A loop over ``Samples``; ``rates`` are those of the batches, by epoch."""

    def __init__(self, *methods: gr.Method, size: int = 20, batch: int = 1, **options: Any) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.2)
        self.curriculum = gr.Curriculum(*methods)
        self.loader = self.curriculum.loader(Samples(size), batch_size=batch)
        self.scheduler = CyclicCosine(self.optimizer, self.curriculum, **options)
        self.rates: list[list[float]] = []

    def run(self, epochs: int, *, accumulate: int = 1, stop: int | None = None) -> Training:
        for _ in range(epochs):
            self.rates.append([])
            for number, x in enumerate(self.loader):
                self.rates[-1].append(self.optimizer.param_groups[0]["lr"])
                self.curriculum(self.weight * x).backward()
                if (number + 1) % accumulate == 0:
                    self.optimizer.step()
                    self.scheduler.step()
                if stop is not None and number + 1 == stop:
                    return self
        return self


def flat(rates: list[list[float]]) -> list[float]:
    return list(itertools.chain.from_iterable(rates))


def cosine(share: float, episode: int = 0, hi: float = 0.2, lo: float = 5e-4) -> float:
    """The equation itself, as methods.md prints it."""
    hi, lo = hi * 0.85**episode, lo * 0.85**episode
    return lo + (hi - lo) * (1 + math.cos(math.pi * share)) / 2


# ---------------------------------------------------------------- numbers


def by_step(steps_per_epoch: int, epochs: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = CyclicCosine(optimizer, None, steps_per_epoch=steps_per_epoch, **options)
    rates = []
    for _ in range(epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


HAND = {
    0: 0.2, 4: 0.019551, 5: 0.17, 7: 0.111413, 10: 0.1445, 20: 0.104401, 25: 0.052331,
    210: 0.039375, 299: 0.000110,
}  # fmt: skip


def test_zhou2020_rates_at_epoch_starts_by_hand() -> None:
    rates = by_step(3, 300)[::3]
    assert {epoch: round(rates[epoch], 6) for epoch in HAND} == HAND


def test_zhou2020_rates_by_hand_when_a_curriculum_is_followed() -> None:
    training = Training(size=6, batch=2).run(300)
    starts = [rates[0] for rates in training.rates]
    assert {epoch: round(starts[epoch], 6) for epoch in HAND} == HAND
    assert flat(training.rates) == pytest.approx(by_step(3, 300), rel=1e-9)


def test_peaks_shrink_by_the_decay_exactly() -> None:
    rates = by_step(1, 300)
    peaks = [rates[0], *(rates[end] for end in PAPER_EPISODES[:-1])]
    assert peaks == [0.2 * 0.85**episode for episode in range(11)]


def test_the_rate_rises_only_where_an_episode_ends() -> None:
    rates = by_step(2, 60)
    rises = [step + 1 for step, (a, b) in enumerate(itertools.pairwise(rates)) if b > a]
    assert rises == [2 * end for end in (5, 10, 15, 20, 30, 40)]


def test_after_the_last_end_the_rate_stays_at_the_last_low() -> None:
    assert by_step(2, 6, episodes=(2, 4))[8:] == [5e-4 * 0.85] * 4
    training = Training(size=4, batch=2, episodes=(2, 4)).run(6)
    assert flat(training.rates[4:]) == [5e-4 * 0.85] * 4


def test_the_codes_schedule_rises_first_and_raises_four_peaks() -> None:
    """lo + (hi - lo) s/L; then hi / .9^j to j = 4, hi .9^(j-8) after; lo .8^(j-4)."""
    rates = by_step(1, 300, schedule="code", low=0.1)
    assert rates[:5] == pytest.approx([0.1, 0.12, 0.14, 0.16, 0.18])
    peaks = [rates[end] for end in PAPER_EPISODES[:-1]]
    powers = (-1, -2, -3, -4, -3, -2, -1, 0, 1, 2)
    assert peaks == pytest.approx([0.2 * 0.9**power for power in powers])
    low = by_step(1000, 7, schedule="code", episodes=(1, 2, 3, 4, 5, 6, 7))[999::1000]
    assert low[0] == pytest.approx(0.2, rel=2e-3)
    assert low[1:] == pytest.approx([5e-4] * 4 + [4e-4, 3.2e-4], rel=2e-3)


def test_groups_keep_their_own_peaks_and_lows() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [
        {"params": [weights[0]], "lr": 0.2},
        {"params": [weights[1]], "lr": torch.tensor(0.02)},
    ]
    optimizer = torch.optim.SGD(groups)
    scheduler = CyclicCosine(optimizer, None, (2, 4), steps_per_epoch=1, low=[0.1, 0.0])
    seen = []
    for _ in range(3):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert seen == [
        pytest.approx(pair) for pair in ([0.2, 0.02], [0.15, 0.01], [0.2 * 0.85, 0.02 * 0.85])
    ]
    assert isinstance(optimizer.param_groups[1]["lr"], torch.Tensor)


def test_initial_rates_that_another_schedule_set_are_the_peaks() -> None:
    """LeRaC scales the rates of deep layers down and leaves the common one as initial_lr."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-7)
    optimizer.param_groups[0]["initial_lr"] = 0.2
    CyclicCosine(optimizer, None, steps_per_epoch=1)
    assert optimizer.param_groups[0]["lr"] == 0.2


# ---------------------------------------------------------------- epochs that differ in length


def test_subset_sizes_known_ahead_give_s_over_l() -> None:
    """Sizes 10, 6, 4: L = 20; then 3, 2: L = 5."""
    training = Training(Sizes((10, 6, 4, 3, 2)), size=10, episodes=(3, 5)).run(5)
    expected = [cosine(s / 20) for s in range(20)] + [cosine(s / 5, 1) for s in range(5)]
    assert flat(training.rates) == pytest.approx(expected, rel=1e-12)


def test_where_data_decide_epochs_are_equal_shares() -> None:
    """Every epoch is a third of the episode if each was as long as the one before it: here."""
    training = Training(Sizes((8, 8, 8, 4, 4), known=False), size=8, episodes=(3, 5)).run(5)
    expected = [cosine(s / 24) for s in range(24)] + [cosine(s / 8, 1) for s in range(8)]
    assert flat(training.rates) == pytest.approx(expected, rel=1e-12)


@given(
    st.lists(st.integers(1, 9), min_size=6, max_size=6),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([1, 2, 4]),
)
def test_jumps_only_at_episode_ends_whatever_the_sizes(
    sizes: list[int], end: int, known: bool, batch: int
) -> None:
    method = Sizes(tuple(sizes), known=known)
    training = Training(method, size=9, batch=batch, episodes=(end, 6)).run(6)
    for first, last, episode in ((0, end, 0), (end, 6, 1)):
        rates = flat(training.rates[first:last])
        assert rates[0] == pytest.approx(0.2 * 0.85**episode)
        shares = [math.acos(2 * (rate / 0.85**episode - 5e-4) / (0.2 - 5e-4) - 1) for rate in rates]
        assert all(a < b for a, b in itertools.pairwise(shares)), shares


def test_every_unforeseen_epoch_moves_by_the_rest_over_the_epochs_left() -> None:
    """Sizes unknown, 4 then 2 then 2: a third, then half of the rest, then all of it."""
    training = Training(Sizes((4, 2, 2), known=False), size=4, episodes=(3,)).run(3)
    expected = [0, 1 / 12, 2 / 12, 3 / 12, 1 / 3, 1 / 2, 2 / 3, 5 / 6]
    assert flat(training.rates) == pytest.approx([cosine(share) for share in expected])


def test_one_batch_per_epoch_moves_too() -> None:
    training = Training(Sizes((2,) * 4, known=False), size=2, batch=2, episodes=(4,)).run(4)
    assert flat(training.rates) == pytest.approx([cosine(s / 4) for s in range(4)])


def test_larger_batches_than_planned_still_end_the_episode_at_its_low() -> None:
    """Epochs of 4, 4 and, in larger batches, 1: the last starts at 8/12 or later and ends there."""

    class Large(gr.Method):
        def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
            return replace(pool, batch_scale=4 if run.epoch == 2 else 1)

        def planned_size(self, size: int, epoch: int) -> int | None:
            return size

    training = Training(Large(), size=4, episodes=(3, 4)).run(3)
    assert [len(rates) for rates in training.rates] == [4, 4, 1]
    assert flat(training.rates)[:8] == pytest.approx([cosine(s / 12) for s in range(8)])
    assert training.scheduler.get_last_lr() == [pytest.approx(0.2 * 0.85)]


def test_accumulated_gradients_change_no_rate_at_a_step() -> None:
    """Stepped every second batch, the scheduler is where single steps would have brought it."""
    one = flat(Training(size=8, episodes=(2, 4)).run(4).rates)
    two = flat(Training(size=8, episodes=(2, 4)).run(4, accumulate=2).rates)
    assert two == pytest.approx([one[number // 2 * 2] for number in range(32)])


def test_a_repeated_step_changes_nothing() -> None:
    training = Training(size=8, episodes=(2, 4)).run(1, stop=3)
    before = training.scheduler.get_last_lr()
    training.scheduler.step()
    assert training.scheduler.get_last_lr() == before == [pytest.approx(cosine(3 / 16))]


def test_an_epoch_broken_out_of_leaves_no_jump() -> None:
    """After 3 of 8 batches the epoch is over; the other 13/16 spread over the one that is left."""
    training = Training(size=8, episodes=(2,)).run(1, stop=3).run(1)
    rates = training.rates[1]
    assert rates[0] == pytest.approx(cosine(3 / 16))
    assert rates[-1] < cosine(0.8)


def test_no_plan_is_made_before_the_survey_it_rests_on() -> None:
    class Surveyed(gr.Method):
        def setup(self, run: gr.Run) -> None:
            self.epoch = -1

        def survey_due(self, run: gr.Run) -> bool:
            return True

        def observe(self, batch: gr.Batch, run: gr.Run) -> None:
            if batch.surveyed:
                self.epoch = run.epoch

        def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
            if self.epoch != run.epoch:
                raise RuntimeError("planned before the survey")
            return pool.keep(torch.arange(4))

    training = Training(Surveyed(), size=6, episodes=(3,))
    for _ in range(3):
        training.curriculum.survey(Samples(6), lambda batch: {"losses": batch})
        training.run(1)
    assert flat(training.rates) == pytest.approx([cosine(s / 12) for s in range(12)])


def test_it_may_stand_before_the_loader() -> None:
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=0.2)
    curriculum = gr.Curriculum(gr.Uniform())
    scheduler = CyclicCosine(optimizer, curriculum, (2,))
    loader = curriculum.loader(Samples(4), 1)
    rates = []
    for _ in range(2):
        for x in loader:
            rates.append(optimizer.param_groups[0]["lr"])
            curriculum(weight * x).backward()
            optimizer.step()
            scheduler.step()
    assert rates == pytest.approx([cosine(s / 8) for s in range(8)])


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("epochs", "stop"), [(1, 2), (2, 5), (2, 1), (3, 2), (4, 1)])
def test_a_resumed_run_has_the_same_rates(known: bool, epochs: int, stop: int) -> None:
    sizes, options = (6, 5, 4, 3, 2), {"size": 6, "episodes": (2, 5)}
    whole = Training(Sizes(sizes, known=known), **options).run(5)
    cut = Training(Sizes(sizes, known=known), **options).run(epochs - 1).run(1, stop=stop)
    parts = (cut.curriculum, cut.optimizer, cut.scheduler)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    other = Training(Sizes(sizes, known=known), **options)
    parts = (other.curriculum, other.optimizer, other.scheduler)
    for part, state in zip(parts, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    other.run(5 - other.curriculum.epoch)
    assert flat(cut.rates) + flat(other.rates) == flat(whole.rates)


def test_a_run_without_a_curriculum_resumes() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = CyclicCosine(optimizer, None, (2, 4), steps_per_epoch=3)
    for _ in range(7):
        optimizer.step()
        scheduler.step()
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    twin = CyclicCosine(other, None, (2, 4), steps_per_epoch=3)
    twin.load_state_dict(scheduler.state_dict())
    other.step()
    twin.step()
    optimizer.step()
    scheduler.step()
    assert twin.get_last_lr() == scheduler.get_last_lr() == [pytest.approx(cosine(2 / 6, 1))]


def test_longer_ends_prolong_a_resumed_run() -> None:
    cut = Training(size=4, episodes=(2,)).run(2)
    other = Training(size=4, episodes=(2, 4))
    other.curriculum.load_state_dict(cut.curriculum.state_dict())
    other.scheduler.load_state_dict(cut.scheduler.state_dict())
    other.scheduler.step()
    assert other.scheduler.get_last_lr() == [pytest.approx(0.2 * 0.85)]


def test_without_its_state_past_epochs_count_as_equal() -> None:
    cut = Training(size=4, episodes=(4,)).run(2)
    other = Training(size=4, episodes=(4,))
    other.curriculum.load_state_dict(cut.curriculum.state_dict())
    other.optimizer.step()
    other.scheduler.step()
    assert other.scheduler.get_last_lr() == [pytest.approx(cosine(1 / 2))]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"episodes": ()}, ValueError, r"episodes must be epochs above 0, .* Got \[\]"),
        ({"episodes": (5, 5)}, ValueError, r"Got \[5, 5\]. Are these the ep"),
        ({"episodes": (0, 5)}, ValueError, r"episodes must be .* Got \[0, 5\]"),
        ({"episodes": (5.0,)}, TypeError, r"episodes\[0\] must be a whole number"),
        ({"episodes": 5}, TypeError, "episodes must be epochs above 0"),
        ({"low": 0.3}, ValueError, "low must be at most the group's initial rate, 0.2. Got 0.3"),
        ({"low": -0.1}, ValueError, "low must be a finite number, at least 0"),
        ({"low": [0.1, 0.1]}, ValueError, "low must be one number, or one per group: 1. Got 2"),
        ({"decay": 0.0}, ValueError, "decay must be"),
        ({"decay": 1.1}, ValueError, "decay must be"),
        ({"schedule": "codes"}, ValueError, "schedule must be one of .* Did you mean 'code'"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be a whole number, at least 1"),
        ({"steps_per_epoch": None}, ValueError, "steps_per_epoch must be given without"),
    ],
)
def test_bad_settings_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    with pytest.raises(error, match=message):
        CyclicCosine(optimizer, None, **{"steps_per_epoch": 1, **options})
    assert "initial_lr" not in optimizer.param_groups[0]


def test_what_is_no_optimizer_or_curriculum_is_refused() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer"):
        CyclicCosine([0.1], None, steps_per_epoch=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"curriculum must be a gradatim.Curriculum"):
        CyclicCosine(optimizer, "curriculum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps_per_epoch must be None with a curriculum"):
        CyclicCosine(optimizer, gr.Curriculum(), steps_per_epoch=3)
