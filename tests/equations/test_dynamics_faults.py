"""Faults that once could be put into the methods of training dynamics without a test failing.

Each test names what would go wrong, and holds the numbers of a case small enough to do by hand.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import gradatim as gr

NAN = math.nan


def ready(method: gr.Method, size: int, epoch: int, **tables: Any) -> gr.Run:
    """Set a method up as the engine would, in an epoch, with some tables' values (N,)."""
    run = gr.Run(size=size, seed=0, epoch=epoch)
    method.setup(run)
    for name, table in method.tables().items():
        if table.shape is not None:
            table.allocate(size)
        if name in tables:
            table.write(torch.arange(size), torch.as_tensor(tables[name]))
    return run


def rows(index: list[int], losses: list[float], **given: Any) -> gr.Batch:
    """Rows as `observe` gets them, at rate 1."""
    ones = torch.ones(len(index), dtype=torch.float64)
    given = {"clock": ones, "learning_rate": ones, "previous_rate": ones, **given}
    return gr.Batch(torch.tensor(index), torch.tensor(losses), **given)


# --------------------------------------------------------------------------------------- DIHCL


def drawn(method: gr.DIHCL, run: gr.Run, pool: gr.Pool | None = None) -> gr.Pool:
    found = method.plan(gr.Pool(torch.arange(run.size)) if pool is None else pool, run)
    method.start_epoch(run)
    return found


def exp(**settings: Any) -> gr.DIHCL:
    given = {"warmup_epochs": 1, "gamma": 0.0, "gamma_k": 0.5, "normalize": False, **settings}
    return gr.DIHCL("loss", "exp", **given)


def test_exp_divides_what_the_epoch_drew_and_not_what_a_survey_sees() -> None:
    """Equation 1 with a / p: p of a survey, which looks at everybody, is 1."""
    method = exp()
    run = ready(method, 4, 1, dih=[0.0, 1.0, 2.0, 4.0])
    drawn(method, run)
    method.observe(rows([0], [3.0], surveyed=True), run)
    assert method.dih.values[0] == 3.0
    method.observe(rows([0], [3.0]), run)
    assert method.dih.values[0] > 6.0, "the easiest is drawn with a chance below a half"


def test_chances_are_those_of_the_samples_drawn_from_a_narrower_pool() -> None:
    """A method before may leave a part of the data, in any order."""
    method = exp(p="draw")
    run = ready(method, 4, 1, dih=[0.0, 9.0, 0.0, 4.0])
    drawn(method, run, gr.Pool(torch.tensor([3, 1])))
    method.observe(rows([0, 1, 3], [1.0, 1.0, 1.0]), run)
    beta = math.sqrt(2 * math.log(2) / 2)
    share = 1 / (1 + math.exp(-5 * beta))
    assert method.dih.values[[0, 1, 3]].tolist() == pytest.approx([1, 1 / share, 1 / (1 - share)])


def test_a_visit_is_an_observation_that_could_be_made() -> None:
    """The plain mean of changes: a first look and a rate of 0 are no observations."""
    method = gr.DIHCL("loss_change", "ucb", warmup_epochs=2, gamma="mean", normalize=False)
    run = ready(method, 2, 0)
    for loss in (5.0, 1.0, 3.0):
        method.observe(rows([0], [loss]), run)
    assert method.visits.values.tolist() == [2, 0]
    assert method.dih.values.tolist() == [3.0, 1.0], "(4 + 2) / 2; never seen"


@pytest.mark.parametrize("selection", ["greedy", "rand", "exp", "beta", "ucb"])
def test_a_draw_that_was_asked_for_is_made_by_its_weights_in_its_size_and_once(
    selection: Any,
) -> None:
    method = gr.DIHCL("loss", selection, warmup_epochs=1, gamma_k=1.0, normalize=False)
    run = ready(method, 40, 1, dih=torch.linspace(4, 0.1, 40), visits=torch.full((40,), 3))
    never = torch.zeros(40)
    never[:30] = -math.inf
    left = method.plan(gr.Pool(torch.arange(40), log_weights=never, size=6), run)
    assert left.index.numel() == 6
    assert int(left.index.min()) >= 30, "the others are never to be drawn"
    assert left.log_weights is None
    assert left.size is None


@pytest.mark.parametrize("selection", ["rand", "exp"])
def test_weights_of_an_earlier_method_count_beside_hardness(selection: Any) -> None:
    method = gr.DIHCL("loss", selection, warmup_epochs=1, gamma_k=0.5, normalize=False)
    run = ready(method, 20, 1, dih=torch.ones(20))
    given = torch.where(torch.arange(20) < 10, 50.0, 0.0)
    left = method.plan(gr.Pool(torch.arange(20), log_weights=given), run)
    assert sorted(left.index.tolist()) == list(range(10)), "e^50 times as likely"


def test_ucb_takes_samples_without_a_visit_first() -> None:
    method = gr.DIHCL("loss", "ucb", warmup_epochs=1, gamma_k=0.25, k_min=0.1, exploration=0.0)
    run = ready(method, 4, 1, dih=[9.0, 0.1, 5.0, 1.0], visits=[3, 0, 2, 1])
    assert method.plan(gr.Pool(torch.arange(4)), run).index.tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "topk"),
    [(("loss", "rand"), False), (("flip", "beta"), True), (("loss", "exp"), False)],
)
def test_every_epoch_draws_anew(kind: tuple[Any, Any], topk: bool) -> None:
    method = gr.DIHCL(*kind, warmup_epochs=2, gamma_k=1e-9, k_min=0.5, topk=topk)
    run = ready(method, 60, 3, dih=torch.full((60,), 0.5))
    first = method.plan(gr.Pool(torch.arange(60)), run).index.sort().values
    run.epoch = 4
    second = method.plan(gr.Pool(torch.arange(60)), run).index.sort().values
    assert not torch.equal(first, second)


def test_chances_of_another_epochs_draw_are_not_taken() -> None:
    method = exp()
    run = ready(method, 4, 1, dih=[0.0, 1.0, 2.0, 4.0])
    method.plan(gr.Pool(torch.arange(4)), run)
    run.epoch = 2
    method.start_epoch(run)
    method.observe(rows([0], [3.0]), run)
    assert method.dih.values[0] == 3.0


def test_features_are_kept_in_the_last_epoch_of_the_warm_up_alone() -> None:
    method = gr.DIHCL("loss", "exp", warmup_epochs=3, prune=0.5)
    assert [method.collects(epoch) for epoch in range(5)] == [False, False, True, False, False]
    assert [method.records(epoch) for epoch in range(4)] == [False, False, True, False]


def test_several_labels_are_right_where_all_of_them_are() -> None:
    logits = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    method = gr.Dynamics(normalize=False)
    run = ready(method, 3, 0)
    for targets in ([[1, 0], [1, 0], [0, 0]], [[0, 0], [1, 1], [0, 0]]):
        signals = {"logits": logits, "targets": torch.tensor(targets)}
        seen = method.record(rows([0, 1, 2], [1.0] * 3, signals=signals), run)
        method.observe(rows([0, 1, 2], [1.0] * 3, signals=seen), run)
    assert seen["correct"].tolist() == [False, True, True]
    assert method.dih_flip.values.tolist() == pytest.approx([1.0, 1.0, 0.95])


def test_dynamics_keeps_three_hardnesses_apart() -> None:
    """Losses 3, 1 at clocks 0, 2 with rates .5: (A) 6, 2; (B) 2 / 2; (C) one flip / 2."""
    method = gr.Dynamics(gamma=0.0)
    run = ready(method, 1, 0)
    half = torch.tensor([0.5], dtype=torch.float64)
    for loss, right, clock in ((3.0, False, 0.0), (1.0, True, 2.0)):
        at = torch.tensor([clock], dtype=torch.float64)
        signals = {"correct": torch.tensor([right])}
        given = {"signals": signals, "clock": at, "learning_rate": 9 * half, "previous_rate": half}
        method.observe(rows([0], [loss], **given), run)
        if clock == 0.0:
            found = [float(t.values) for t in (method.dih_loss, method.dih_change, method.dih_flip)]
            assert found == [6.0, 1.0, 1.0], "nothing to compare with yet"
    found = [float(t.values) for t in (method.dih_loss, method.dih_change, method.dih_flip)]
    assert found == [2.0, 1.0, 0.5]
    assert float(method.stamp.values) == 2.0


def test_a_change_is_clipped_before_it_is_divided_by_the_rates() -> None:
    found = gr.dynamics.change_hardness(torch.tensor([50.0]), torch.tensor([0.0]), 0.1, clip=10.0)
    assert found.tolist() == pytest.approx([100.0])


def test_rates_below_0_are_refused_one_by_one() -> None:
    with pytest.raises(ValueError, match=r"elapsed must be at least 0\. Got -0\.5\."):
        gr.dynamics.flip_hardness(torch.ones(2), torch.zeros(2), torch.tensor([1.0, -0.5]))


# ------------------------------------------------------------------------------------ features


def test_a_batch_that_the_model_did_not_see_takes_no_other_batchs_features() -> None:
    model = torch.nn.Linear(2, 2)
    curriculum = gr.Curriculum(gr.DIHCL("loss", "exp", warmup_epochs=1, prune=0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = iter(curriculum.loader(torch.utils.data.TensorDataset(torch.randn(8, 2)), 4))
    curriculum.attach(model=model, optimizer=optimizer)
    curriculum(model(next(loader)[0]).square().sum(1))
    next(loader)
    with pytest.raises(RuntimeError, match="features must be seen"):
        curriculum(torch.ones(4))


def test_padding_at_the_end_of_a_batch_has_no_features() -> None:
    """The rows that only make ranks equal come last, and the model sees them too."""
    method = gr.DIHCL("loss", "exp", warmup_epochs=1, prune=0.5)
    run = ready(method, 3, 0)
    run.world = 2
    seen = {"features": torch.tensor([[1.0], [2.0], [9.0]])}
    kept = method.record(rows([0, 2], [1.0, 1.0], signals=seen), run)
    assert kept["features"].tolist() == [[1.0], [2.0]]


def test_features_of_half_precision_are_kept_in_single() -> None:
    method = gr.DIHCL("loss", "exp", warmup_epochs=1, prune=0.5)
    run = ready(method, 1, 0)
    seen = {"features": torch.full((1, 2), 0.1).bfloat16()}
    assert method.record(rows([0], [1.0], signals=seen), run)["features"].dtype == torch.float32


def test_stochastic_pruning_looks_at_other_candidates_in_each_epoch() -> None:
    draw = torch.Generator().manual_seed(0)
    method = gr.DIHCL(
        *("loss", "rand"),
        warmup_epochs=1,
        gamma_k=1.0,
        prune=0.3,
        diversity_decay=1.0,
        features=torch.randn(60, 3, generator=draw),
    )
    run = ready(method, 60, 1)
    first = method.plan(gr.Pool(torch.arange(60)), run).index
    run.epoch = 2
    assert not torch.equal(method.plan(gr.Pool(torch.arange(60)), run).index, first)


def test_pruning_takes_scores_and_features_of_the_samples_that_were_chosen() -> None:
    """Of samples 1, 2, 3 the second and third are alike; r decides between them, 0 is not theirs.

    Eq. 3 with k' = 2 of 3 and lambda 1: one of each direction.
    """
    features = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    method = gr.DIHCL(
        *("loss", "greedy"),
        warmup_epochs=1,
        gamma_k=0.75,
        prune=0.7,
        greedy="exact",
        features=features,
    )
    run = ready(method, 4, 1, dih=[0.0, 0.01, 0.01, 0.02])
    pool = gr.Pool(torch.tensor([0, 3, 2, 1]))
    assert sorted(method.plan(pool, run).index.tolist()) == [1, 3]


# ----------------------------------------------------------------------------------------- MCL


def test_a_last_choice_larger_than_k_is_not_kept() -> None:
    """A method before may leave fewer samples than the last epoch chose."""
    method = gr.MCL(start_fraction=0.5, reuse=True, reuse_share=1e-6, features=torch.ones(6, 2))
    run = ready(method, 6, 2, loss=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], trained_epoch=[1] * 6)
    with pytest.warns(UserWarning, match="features are all equal"):
        assert method.plan(gr.Pool(torch.tensor([0, 4, 2, 1])), run).index.tolist() == [4, 2]


def test_what_a_survey_sees_was_not_trained_on() -> None:
    method = gr.MCL(start_fraction=0.5, reuse=True, features=torch.ones(2, 2))
    run = ready(method, 2, 3)
    method.observe(rows([0, 1], [1.0, 1.0], epoch=3, surveyed=True), run)
    method.observe(rows([1], [1.0], epoch=3), run)
    assert method.trained_epoch.values.tolist() == [-1, 3]


def test_no_more_clusters_are_taken_than_hold_k_samples() -> None:
    """k = 2 of 5: the hardest cluster alone holds 3."""
    pytest.importorskip("sklearn")
    features = torch.tensor([[0.0], [0.1], [0.2], [50.0], [90.0]])
    method = gr.MCL(start_fraction=0.4, clusters=3, diversity=0.0, features=features)
    run = ready(method, 5, 1, loss=[1.0] * 5)
    assert method.plan(gr.Pool(torch.arange(5)), run).index.tolist() == [0, 1, 2]
