"""SPDCL (methods.md 7): Eq. 2, Algorithm 1, and what the paper leaves open."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradatim as gr

D1 = (5.0, 3.0, 8.0, 1.0, 7.0, 2.0)
D2 = (4.0, 3.5, 5.0, 1.2, 7.5, 0.0)


def texts(norms: Any) -> dict[str, torch.Tensor]:
    """One token of one dimension has its absolute value for a norm."""
    hidden = torch.as_tensor(norms, dtype=torch.float64).reshape(-1, 1, 1)
    return {"hidden": hidden, "mask": torch.ones(len(hidden), 1)}


class Session:
    """A curriculum over samples whose norms are told, epoch by epoch."""

    def __init__(self, method: gr.SPDCL, size: int, *before: gr.Method, **options: Any) -> None:
        self.method = method
        self.size = size
        self.curriculum = gr.Curriculum(*before, method, **options)
        self.loader = self.curriculum.loader(range(size), batch_size=4)

    def survey(self, norms: Any) -> None:
        known = texts(norms)
        self.curriculum.survey(
            range(self.size),
            lambda index: {
                "losses": torch.zeros(len(index)),
                **{name: values[index] for name, values in known.items()},
            },
            batch_size=3,
        )

    def epoch(self, norms: Any = None) -> list[int]:
        """Train for an epoch; with ``norms`` the call is given hidden states."""
        visited = []
        for index in self.loader:
            known: dict[str, Any] = {} if norms is None else texts(torch.as_tensor(norms)[index])
            self.curriculum(torch.zeros(len(index)), **known)
            visited += index.tolist()
        return sorted(visited)


def order_of(session: Session) -> list[int]:
    return session.method._order(torch.arange(session.size), session.curriculum.run).tolist()


# ------------------------------------------------------------------------------ worked numbers


def test_eq_1_first_order_is_by_ascending_norm() -> None:
    session = Session(gr.SPDCL(3, tie="index"), 6)
    session.survey(D1)
    assert order_of(session) == [3, 5, 1, 0, 4, 2]
    assert session.epoch() == [3, 5]


@pytest.mark.parametrize(
    ("change", "order"), [("signed", [1, 4, 3, 0, 5, 2]), ("abs", [2, 5, 0, 1, 4, 3])]
)
def test_eq_2_later_orders_are_by_descending_change(change: Any, order: list[int]) -> None:
    session = Session(gr.SPDCL(3, change=change, tie="index"), 6)
    session.survey(D1)
    session.epoch()
    session.survey(D2)
    changes = session.method.changes.values.tolist()
    assert changes == pytest.approx([-1, 0.5, -3, 0.2, 0.5, -2], abs=1e-6)
    assert session.method.norms.values.tolist() == pytest.approx(D2)
    assert session.method.before.values.tolist() == pytest.approx(D1)
    assert order_of(session) == order
    assert session.epoch() == sorted(order[:4])


def test_algorithm_1_line_3_ten_samples_in_four_shares_become_visible_as_3_6_8_10() -> None:
    method = gr.SPDCL(4)
    session = Session(method, 10)
    sizes = []
    for _ in range(6):
        if session.curriculum.survey_due:
            session.survey(torch.rand(10))
        sizes.append(len(session.epoch()))
    assert sizes == [3, 6, 8, 10, 10, 10]
    assert [method.planned_size(10, epoch) for epoch in range(6)] == sizes


# --------------------------------------------------------------------------- the slow reference


def states(size: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of `epoch`, and a mask with holes and padding that is always the same."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(size, 7, generator=generator) < 0.6).long()
    mask[:, 2] = 1
    generator.manual_seed(100 + epoch)
    hidden = torch.randn(size, 7, 5, generator=generator, dtype=torch.float64)
    return hidden.masked_fill(mask.unsqueeze(2) == 0, math.nan), mask


def algorithm_1(size: int, shares: int, epochs: int, change: str) -> list[list[int]]:
    """The windows of Algorithm 1 in plain loops, with the decisions of methods.md 7."""
    windows = []
    previous: list[float] = []
    for t in range(1, epochs + 1):
        hidden, mask = states(size, t)
        norms = []
        for i in range(size):
            rows = [hidden[i, j].numpy() for j in range(7) if mask[i, j]]
            norms.append(float(np.linalg.svd(np.stack(rows), compute_uv=False).sum()))
        if t == 1:
            order = sorted(range(size), key=lambda i: norms[i])
        else:
            delta = [norms[i] - previous[i] for i in range(size)]
            if change == "abs":
                delta = [abs(value) for value in delta]
            order = sorted(range(size), key=lambda i: -delta[i])
        previous = norms
        bins: list[list[int]] = []
        start = 0
        for k in range(shares):
            count = size // shares + (1 if k < size % shares else 0)
            bins.append(order[start : start + count])
            start += count
        window: list[int] = []
        for k in range(min(t, shares)):
            window += bins[k]
        windows.append(sorted(window))
    return windows


@pytest.mark.parametrize("change", ["signed", "abs"])
@pytest.mark.parametrize("shares", [1, 3, 5, 8, 23])
def test_algorithm_1_over_8_epochs(change: Any, shares: int) -> None:
    size = 23
    method = gr.SPDCL(shares, change=change)
    curriculum = gr.Curriculum(method, seed=3)
    loader = curriculum.loader(range(size), batch_size=5)
    windows, surveys = [], []
    for epoch in range(8):
        if curriculum.survey_due:
            hidden, mask = states(size, epoch + 1)
            surveys.append(epoch)
            curriculum.survey(
                range(size),
                lambda index, hidden=hidden, mask=mask: {
                    "losses": torch.zeros(len(index)),
                    "hidden": hidden[index],
                    "mask": mask[index],
                },
                batch_size=7,
            )
        assert method.planned_size(size, epoch) == len(algorithm_1(size, shares, 8, change)[epoch])
        visited: list[int] = []
        for index in loader:
            curriculum(torch.zeros(len(index)))
            visited += index.tolist()
        windows.append(sorted(visited))
    assert windows == algorithm_1(size, shares, 8, change)
    # One pass per epoch until all is visible, and none from then on.
    assert surveys == list(range(min(8, shares - 1)))


# ---------------------------------------------------------------------------------- the review


@pytest.mark.parametrize(("review", "counts"), [(1.0, 8), (0.5, 6), (0.34, 6), (0.1, 4), (0.0, 2)])
def test_review_keeps_a_random_part_of_each_earlier_share(review: float, counts: int) -> None:
    """n = 10, K = 4: at t = 3 shares of 3, 3 and 2 are visible; of the first two, a part."""
    drawn = set()
    for seed in range(12):
        method = gr.SPDCL(4, review=review, tie="index")
        session = Session(method, 10, seed=seed)
        session.survey(torch.arange(10.0))
        assert session.epoch() == [0, 1, 2]
        session.survey(torch.zeros(10))
        session.epoch()
        session.survey(-(torch.arange(10.0) ** 2))  # as absolute values: the last grew most
        assert order_of(session) == list(range(9, -1, -1))
        visited = session.epoch()
        assert len(visited) == counts == method.planned_size(10, 2)
        assert {2, 3} <= set(visited)
        earlier = [[i for i in visited if i in share] for share in ((7, 8, 9), (4, 5, 6))]
        assert len(earlier[0]) == len(earlier[1]) == (counts - 2) / 2
        drawn.add(tuple(visited))
        assert session.epoch() == list(range(10))  # from t = K on, all of the data
    assert (len(drawn) > 1) == (0 < review < 1)


def test_reviews_are_drawn_anew_each_epoch_and_alike_when_asked_twice() -> None:
    method = gr.SPDCL(10, review=0.3, tie="index")
    run = gr.Run(size=200, seed=0)
    method.setup(run)
    for table in method.tables().values():
        if table.per_sample:
            table.allocate(200)
    method.norms.write(torch.arange(200), torch.arange(200.0))
    method.changes.write(torch.arange(200), -torch.arange(200.0))
    found = []
    for epoch in (4, 5):
        run.epoch = epoch
        method.surveyed.write(epoch)
        pool = gr.Pool(torch.arange(200))
        first, again = (method.plan(pool, run).index.tolist() for _ in range(2))
        assert first == again
        found.append([i for i in first if i < 80])
    assert len(found[0]) == len(found[1]) == 24
    assert found[0] != found[1]


# ------------------------------------------------------------------------------ the measurement


def test_a_survey_repeated_before_one_epoch_is_compared_to_the_epoch_before() -> None:
    session = Session(gr.SPDCL(4), 6)
    session.survey(D1)
    session.survey(D1)
    assert bool(session.method.changes.values.isnan().all())
    session.epoch()
    session.survey([100.0] * 6)
    session.survey(D2)
    assert session.method.changes.values.tolist() == pytest.approx([-1, 0.5, -3, 0.2, 0.5, -2])


def test_only_a_norm_and_a_length_are_kept_of_a_text() -> None:
    method = gr.SPDCL(2)
    run = gr.Run(size=4, seed=0)
    method.setup(run)
    known = {"hidden": torch.ones(4, 5, 6), "mask": torch.ones(4, 5)}
    batch = gr.Batch(torch.arange(4), torch.zeros(4), known, surveyed=True)
    record = method.record(batch, run)
    assert {name: column.shape for name, column in record.items()} == {"norm": (4,), "tokens": (4,)}
    batch.surveyed = False
    assert method.record(batch, run) == {}


def test_training_shows_nothing_where_a_survey_measures() -> None:
    session = Session(gr.SPDCL(3), 6)
    session.survey(D1)
    session.epoch(torch.full((6,), 50.0))
    assert session.method.norms.values.tolist() == pytest.approx(D1)


def test_norms_from_training_need_one_survey_and_unseen_samples_count_as_the_median() -> None:
    session = Session(gr.SPDCL(6, measure="training", tie="index"), 6)
    session.survey(D1)  # order 3, 5, 1, 0, 4, 2
    assert session.epoch([9.0] * 6) == [3]
    assert session.method.norms.values.tolist() == pytest.approx([5, 3, 8, 9, 7, 2])
    assert not session.curriculum.survey_due
    # D of 3 is 8, so is the median: all count as 8, by their norms as last seen.
    assert order_of(session) == [5, 1, 0, 4, 2, 3]
    assert session.epoch([9.0, 9.0, 9.0, 9.0, 9.0, 0.0]) == [1, 5]
    # D of 3, 5, 1 is 8, -2, 6, the median 6: unseen 0, 4, 2 (norms 5, 7, 8), then 1 (norm 9).
    assert order_of(session) == [3, 0, 4, 2, 1, 5]
    assert session.epoch([9.0] * 6) == [0, 3, 4]
    assert session.method.seen.values.tolist() == [5, 3, 0, 5, 5, 3]


def test_norms_from_training_stop_when_no_order_is_left_to_be_made() -> None:
    session = Session(gr.SPDCL(3, measure="training"), 6)
    session.survey(D1)
    session.epoch(D2)
    for _ in range(2):  # the call needs no hidden states any more
        session.epoch()
    assert int(session.method.seen.values.max()) == 1


class Encoder(nn.Module):
    """A transformer encoder in small, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.3, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.encoder(self.embed(ids), src_key_padding_mask=ids == 0)
        return self.head(hidden[:, 0]), hidden


@pytest.mark.parametrize("shares", [3, 4])
def test_surveys_of_a_model_with_dropout_agree_and_leave_it_as_it_was(
    shares: int, watch_global_rng: Any
) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 30, (16, 9), generator=generator)
    ids[torch.arange(9) >= torch.randint(2, 10, (16, 1), generator=generator)] = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Encoder().train()
    curriculum = gr.Curriculum(method := gr.SPDCL(shares), seed=0)
    loader = curriculum.loader(range(16), batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    curriculum.attach(model=model, optimizer=optimizer)
    modes: list[bool] = []

    def forward(index: torch.Tensor) -> dict[str, torch.Tensor]:
        modes.append(model.training)
        logits, hidden = model(ids[index])
        losses = nn.functional.cross_entropy(logits, index % 3, reduction="none")
        return {"losses": losses, "hidden": hidden, "mask": ids[index] > 0}

    moved = watch_global_rng()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    curriculum.survey(range(16), forward, batch_size=16)
    norms = method.norms.values.clone()
    curriculum.survey(range(16), forward, batch_size=5)
    torch.testing.assert_close(method.norms.values, norms, rtol=1e-5, atol=0)
    assert not any(modes)
    assert model.training
    assert moved() == []
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.random.fork_rng():
        noisy = [forward(torch.arange(16))["hidden"].detach() for _ in range(2)]
    assert not torch.equal(*noisy)  # so dropout would have shown
    for index in loader:
        curriculum(forward(index)["losses"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    curriculum.survey(range(16), forward)
    assert float(method.changes.values.abs().min()) > 0


# ------------------------------------------------------------------------------ in a pipeline


def test_shares_are_of_what_the_methods_before_left() -> None:
    even = gr.Predefined(
        torch.arange(12) % 2 + torch.rand(12) / 10, pace=gr.pacing.Constant(0.5), tie="index"
    )
    session = Session(gr.SPDCL(3), 12, even)
    session.survey(torch.arange(12.0) + 1)
    assert session.epoch() == [0, 2]
    session.survey(torch.arange(12.0) * 3 + 1)
    assert session.epoch() == [4, 6, 8, 10]


def test_a_pool_of_fewer_samples_than_shares_is_all_visible_sooner() -> None:
    method = gr.SPDCL(6, review=0.0)
    session = Session(method, 8)
    session.survey(torch.arange(8.0))
    pool, run = gr.Pool(torch.tensor([7, 1, 5])), session.curriculum.run
    assert method.plan(pool, run).index.tolist() == [1]
    session.epoch()
    session.survey(2 * torch.arange(8.0))
    run = session.curriculum.run
    assert method.plan(pool, run).index.tolist() == [5]
    run.epoch = 4
    method.surveyed.write(4)
    assert method.plan(pool, run).index.tolist() == [7, 1, 5]
    assert [method.planned_size(3, epoch) for epoch in range(6)] == [1, 1, 3, 3, 3, 3]


def test_ties_are_broken_by_norm_then_by_seed_or_position() -> None:
    def first(seed: int, **options: Any) -> list[int]:
        session = Session(gr.SPDCL(2, **options), 40, seed=seed)
        session.survey(torch.ones(40))
        return session.epoch()

    assert first(0, tie="index") == list(range(20))
    assert first(0) == first(0) != first(1)
    session = Session(gr.SPDCL(3, tie="index"), 4)
    session.survey([3.0, 2.0, 1.0, 4.0])
    session.epoch()
    session.survey([4.0, 3.0, 2.0, 5.0])  # all by 1
    assert order_of(session) == [2, 1, 0, 3]


# ---------------------------------------------------------------------------------- bad input


def test_fewer_planned_epochs_than_shares_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"planned_epochs is 3, below shares=6: not all of the"):
        gr.SPDCL(planned_epochs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gr.SPDCL(planned_epochs=6).planned_epochs == 6


@pytest.mark.parametrize("shares", [7, 100])
def test_more_shares_than_samples_are_refused(shares: int) -> None:
    curriculum = gr.Curriculum(gr.SPDCL(shares))
    with pytest.raises(ValueError, match=rf"shares must be at most .* samples, 6. Got {shares}"):
        curriculum.loader(range(6), batch_size=2)


@pytest.mark.parametrize("missing", ["hidden", "mask"])
@pytest.mark.parametrize("given", [{}, {"hidden": None, "mask": None}])
def test_missing_states_say_which_argument_turns_them_on(missing: str, given: Any) -> None:
    session = Session(gr.SPDCL(3, measure="training"), 6)
    turned_on = {"hidden": "output_hidden_states=True", "mask": "attention_mask"}[missing]

    def told(index: torch.Tensor) -> dict[str, Any]:
        known = {**texts(torch.ones(len(index))), "losses": torch.zeros(len(index))}
        known.pop(missing)
        return {**given, **known}

    with pytest.raises(ValueError, match=rf"forward\(batch\) must return '{missing}'.*{turned_on}"):
        session.curriculum.survey(range(6), told)
    session.survey(D1)
    for index in session.loader:
        known = told(index)
        with pytest.raises(ValueError, match=rf"call must be given '{missing}'.*{turned_on}"):
            session.curriculum(known.pop("losses"), **known)
        break


def test_another_methods_survey_needs_no_hidden_states_when_none_is_due() -> None:
    session = Session(gr.SPDCL(3), 6)
    session.survey(D1)
    session.epoch()
    session.survey(D2)
    for _ in range(2):
        session.epoch() if not session.curriculum.survey_due else session.survey(D1)
    session.curriculum.survey(range(6), lambda index: {"losses": torch.ones(len(index))})
    assert session.method.norms.values.tolist() == pytest.approx(D2)


def test_a_survey_that_was_not_made_is_asked_for() -> None:
    session = Session(gr.SPDCL(3), 6)
    with pytest.raises(RuntimeError, match=r"survey must run before epoch 0.*curriculum\.survey"):
        len(session.loader)
    session.survey(D1)
    session.epoch()
    assert session.curriculum.survey_due
    with pytest.raises(RuntimeError, match=r"survey must run before epoch 1"):
        len(session.loader)


def test_whether_a_survey_is_due_may_be_asked_before_there_is_a_loader() -> None:
    assert gr.Curriculum(gr.SPDCL()).survey_due
    assert not gr.Curriculum(gr.SPDCL(1)).survey_due


def test_bad_states_are_named_by_sample_and_change_nothing() -> None:
    session = Session(gr.SPDCL(3), 6)
    spoilt = torch.tensor(D1)
    spoilt[4] = math.nan
    with pytest.raises(ValueError, match=r"hidden must be finite. Got 1 .* at index \[4\]"):
        session.survey(spoilt)
    assert bool(session.method.norms.values.isnan().all())
    assert session.curriculum.survey_due

    def masked(index: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "losses": torch.zeros(len(index)),
            "hidden": torch.ones(len(index), 2, 2),
            "mask": torch.ones(len(index), 2) * (index != 4).unsqueeze(1),
        }

    with pytest.raises(ValueError, match=r"mask must be 1 at least once .* at index \[4\]"):
        session.curriculum.survey(range(6), masked, batch_size=4)
    with pytest.raises(ValueError, match=r"hidden must be one row per sample: 6 of them"):
        session.curriculum.survey(
            range(6), lambda index: {"losses": torch.zeros(6), **texts(torch.ones(5))}
        )
    session.survey(D1)
    assert session.epoch() == [3, 5]


def test_samples_that_are_skipped_as_not_finite_come_last() -> None:
    session = Session(gr.SPDCL(3), 6, nonfinite="skip")
    spoilt = torch.tensor(D1)
    spoilt[3] = math.inf
    session.survey(spoilt)
    assert order_of(session) == [5, 1, 0, 4, 2, 3]
    assert session.epoch() == [1, 5]
