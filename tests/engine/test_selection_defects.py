"""What other code for choosing and pruning samples does wrong, and ours must never do."""

from __future__ import annotations

import math
import pickle
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import gradatim as gr

SIZE = 48


def data() -> TensorDataset:
    features = torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(7))
    return TensorDataset(features, features[:, :3].argmax(1), torch.arange(SIZE))


def selected(method: gr.Method, epochs: int, *, seed: int = 0, batch: int = 16, k: int = 4) -> Any:
    """Train a network with BatchNorm on k of each batch; per epoch the samples chosen."""
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    curriculum = gr.Curriculum(method, seed=seed).attach(model=model, optimizer=optimizer)
    loader = curriculum.loader(data(), batch_size=batch)
    chosen = []
    for _ in range(epochs):
        chosen.append([])
        for x, y, number in loader:
            with method.scoring_pass():  # type: ignore[attr-defined]
                losses = F.cross_entropy(model(x), y, reduction="none")
            kept = curriculum.select(losses, k)
            loss = curriculum(F.cross_entropy(model(x[kept]), y[kept], reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            chosen[-1].append(number[kept].tolist())
    return curriculum, chosen


def pruned(planned_epochs: int | None, epochs: int, **options: Any) -> Any:
    """InfoBatch, told that a sample's loss is its number: per epoch (announced, rows, weights)."""
    seed, batch, size = options.pop("seed", 0), options.pop("batch", 8), options.pop("size", SIZE)
    curriculum = gr.Curriculum(gr.InfoBatch(planned_epochs, **options), seed=seed)
    loader = curriculum.loader(TensorDataset(torch.arange(float(size))), batch_size=batch)
    found = []
    for _ in range(epochs):
        announced, rows, weights = len(loader), [], []
        for (losses,) in loader:
            own, _ = curriculum.weigh(losses)
            rows.append(losses.long().tolist())
            weights.append(own.tolist())
        found.append((announced, rows, weights))
    return found


def flat(lists: Any) -> list[Any]:
    return [entry for part in lists for entry in part]


# --- RHO-Loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [gr.RHOLoss(torch.zeros(SIZE)), gr.SelectiveBackprop(history=20), gr.OHEM()],
    ids=lambda method: type(method).__name__,
)
def test_d31_what_is_remembered_does_not_grow_with_the_steps(method: Any) -> None:
    """D31: a peer's cross-fitted RHO-Loss cannot run; its log copies all of history in each step.

    That is 16 ms a step at 10 M selected samples. What ours holds after 30 epochs is as large as
    after two, and every epoch runs.
    """
    sizes = []
    for epochs in (2, 30):
        twin = pickle.loads(pickle.dumps(method))
        curriculum, chosen = selected(twin, epochs)
        assert [len(flat(epoch)) for epoch in chosen] == [12] * epochs
        curriculum.detach()
        state = curriculum.state_dict()
        sizes.append((len(pickle.dumps(twin)), len(pickle.dumps(state["methods"]))))
    for few, many in zip(*sizes, strict=True):
        assert abs(many - few) < 20, "numbers of steps and epochs may take a byte more"


def test_d31_two_models_that_score_each_others_half_give_losses_for_all() -> None:
    il = gr.scores.irreducible_loss(
        6,
        lambda index: frozenset(index.tolist()),
        lambda model, index: torch.tensor([float(len(model - {i})) for i in index.tolist()]),
        generator=torch.Generator().manual_seed(0),
    )
    assert il.tolist() == [3.0] * 6, "none was among the three that its model was fitted to"
    assert len(flat(selected(gr.RHOLoss(torch.zeros(SIZE)), 2)[1])) == 6


# --- Random choice ----------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
def test_d32_random_choice_hangs_on_seed_and_epoch_alone(
    rank: int, monkeypatch: pytest.MonkeyPatch, watch_global_rng: Any
) -> None:
    """D32: peers reseed NumPy from the system, or themselves by the clock, so ranks disagree."""
    pace = gr.pacing.Linear(start_fraction=0.3, epochs=9)

    def drawn(method: gr.Method, *, seed: int = 0, epoch: int = 2, rank: int = 0) -> list[int]:
        run = gr.Run(size=40, seed=seed, epoch=epoch, world=2, rank=rank)
        method.setup(run)
        return sorted(method.plan(gr.Pool(torch.arange(40)), run).index.tolist())

    moved = watch_global_rng()
    first = drawn(gr.PacedRandom(pace=pace))
    assert moved() == [], "neither read nor seeded"
    monkeypatch.setattr(time, "time", lambda: 12345.0)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    moved = watch_global_rng()
    assert drawn(gr.PacedRandom(pace=pace), rank=rank) == first, "ranks agree, at any hour"
    assert moved() == []
    assert drawn(gr.PacedRandom(pace=pace), seed=1) != first
    assert drawn(gr.PacedRandom(pace=pace), epoch=3) != first


def test_d32_a_loader_says_what_it_lacks() -> None:
    """D32: a peer's loader looks up attributes of a loader that does not exist yet, for ever."""
    loader = gr.Curriculum(gr.Uniform()).loader(data(), batch_size=8)
    with pytest.raises(AttributeError, match="subset_loader"):
        loader.subset_loader  # type: ignore[attr-defined]  # noqa: B018


# --- InfoBatch --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bernoulli", "fixed"])
@pytest.mark.parametrize("unbiased", ["epoch", "step"])
@pytest.mark.parametrize("planned_epochs", [3, 8, 10, 30, 90, 100])
def test_d42_the_last_epochs_are_whole_and_weigh_one_at_any_length(
    planned_epochs: int, unbiased: Any, mode: Any
) -> None:
    """D42: where epochs * delta is no integer a peer never resets its weights: 29 % weigh 2.

    .875 of 10, 30, 90 and 100 epochs are 8.75, 26.25, 78.75 and 87.5: complete from 9, 27, 79 and
    88 on, and after the plan's end.
    """
    # 8 samples are pruned in all epochs between: found by the weights that are not 1.
    epochs = pruned(planned_epochs, planned_epochs + 2, unbiased=unbiased, mode=mode, size=8)
    first = math.ceil(0.875 * planned_epochs)
    for epoch, (_, rows, weights) in enumerate(epochs):
        if epoch == 0 or epoch >= first:
            assert sorted(flat(rows)) == list(range(8)), epoch
            assert set(flat(weights)) == {1.0}, epoch
    between = [set(flat(weights)) != {1.0} for _, _, weights in epochs[1:first]]
    assert sum(between) >= 0.8 * len(between), "with chance 1/16 all four low ones are left out"


def test_d43_seeds_prune_differently_and_nobody_elses_generator_moves(
    watch_global_rng: Any,
) -> None:
    """D43: a peer seeds NumPy by the epoch: every user seed prunes alike, augmentation repeats."""
    moved = watch_global_rng()
    one, again, other = (pruned(None, 4, seed=seed) for seed in (0, 0, 1))
    assert moved() == []
    kept = [[frozenset(flat(rows)) for _, rows, _ in epochs] for epochs in (one, again, other)]
    assert kept[0] == kept[1]
    assert kept[0][0] == kept[2][0] == frozenset(range(SIZE))
    assert all(a != b for a, b in zip(kept[0][1:], kept[2][1:], strict=True))
    assert len(set(kept[0])) == 4, "each epoch anew"


@pytest.mark.parametrize("batch", [7, 8])
def test_d45_the_length_is_that_of_the_coming_epoch(batch: int) -> None:
    """D45: a peer's length is the last epoch's: 10 batches announced, 7 delivered."""
    epochs = pruned(8, 8, batch=batch)
    assert [announced for announced, _, _ in epochs] == [len(rows) for _, rows, _ in epochs]
    assert epochs[0][0] == -(-SIZE // batch)
    assert epochs[1][0] < epochs[0][0], "the first that is pruned is announced as such"
    assert epochs[7][0] == epochs[0][0], "and the first that is whole again"


def test_d49_an_epochs_sum_or_each_step_is_unbiased_by_hand() -> None:
    """D49: a peer's steps are x1.46 the mean loss, by accident. Ours says which sum is right.

    Losses 0 to 4 in one batch: 0 and 1 are low, ``fixed`` keeps one, weight 2. Four of five are
    trained on. ``"epoch"``: (2 l + 2 + 3 + 4) / 4, 1.25 times the mean of its five. ``"step"``:
    (2 l + 9) / 5, whose mean over l = 0, 1 is 2, that of 0 to 4.
    """
    for unbiased, size in (("epoch", 4), ("step", 5)):
        low = set()
        for seed in range(12):
            options: Any = {"mode": "fixed", "unbiased": unbiased}
            curriculum = gr.Curriculum(gr.InfoBatch(None, **options), seed=seed)
            loader = curriculum.loader(TensorDataset(torch.arange(5.0)), batch_size=5)
            for (losses,) in loader:
                assert float(curriculum(losses)) == 2.0
            for (losses,) in loader:
                kept = int(losses.min())
                expected = (2 * kept + 2 + 3 + 4) / size
                assert float(curriculum(losses)) == pytest.approx(expected, rel=1e-6)
                low.add(kept)
        assert low == {0, 1}


@pytest.mark.parametrize("unbiased", ["epoch", "step"])
def test_d49_sums_over_an_epoch_and_means_of_a_step(unbiased: Any) -> None:
    """Over 200 epochs: the batches' summed weighted losses, or their means, are the full data's.

    The other one is off by the share of samples kept. Errors of both means are below .01, as seen
    from the values: 4 of them, so by chance less than once in 10^4.
    """
    losses = torch.randn(200, generator=torch.Generator().manual_seed(1)).exp()
    curriculum = gr.Curriculum(gr.InfoBatch(None, unbiased=unbiased), seed=0)
    loader = curriculum.loader(TensorDataset(losses), batch_size=10)
    totals, steps = [], []
    for _ in range(201):
        total = 0.0
        for (part,) in loader:
            loss = float(curriculum(part))
            total += loss * len(part)
            steps.append(loss)
        totals.append(total)
    assert totals[0] == pytest.approx(float(losses.sum()), rel=1e-5), "the first epoch is whole"
    kept = 1 - 0.5 * float((losses < losses.mean()).double().mean())
    assert 0.6 < kept < 0.7
    summed = np.array(totals[1:]) / float(losses.sum())
    mean = np.array(steps[20:]) / float(losses.mean())
    assert max(summed.std() / 200**0.5, mean.std() / len(mean) ** 0.5) < 0.01
    expected = (1, 1 / kept) if unbiased == "epoch" else (kept, 1)
    assert (summed.mean(), mean.mean()) == pytest.approx(expected, abs=0.04)


# --- Selective backprop -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"beta": 9.0}, {"beta": 9.0, "exactly": False}, {"draw": "rank"}],
    ids=["exactly", "by toss", "rank"],
)
def test_d50_a_last_batch_of_one_trains_on_it(settings: dict[str, Any]) -> None:
    """D50: a peer keeps none of a last batch of 1, and the mean of none is NaN."""
    method = gr.SelectiveBackprop(history=8, **settings)
    curriculum = gr.Curriculum(method, seed=0)
    loader = curriculum.loader(TensorDataset(torch.arange(9.0)), batch_size=4)
    for epoch in range(4):
        sizes = []
        for (losses,) in loader:
            if len(losses) == 1:
                losses = torch.tensor([-1.0])  # below all others: its chance is 0
            kept = curriculum.select(losses, max(1, len(losses) // 2))
            assert math.isfinite(float(curriculum(losses[kept])))
            sizes.append(kept.numel())
        assert sizes[-1] == 1
        assert min(sizes) >= 1
        assert curriculum.epoch == epoch + 1


def test_d50_scoring_moves_no_batch_norm_and_no_global_generator(watch_global_rng: Any) -> None:
    """D50: a peer's scoring pass moves BatchNorm, and it chooses by NumPy's global generator."""
    method = gr.SelectiveBackprop()
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(norm, nn.Dropout(0.5), nn.Linear(4, 3))
    curriculum = gr.Curriculum(method, seed=0).attach(model=model)
    loader = curriculum.loader(data(), batch_size=16)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    moved = watch_global_rng()
    for x, y, _ in loader:
        with method.scoring_pass():
            losses = F.cross_entropy(model(x), y, reduction="none")
        kept = curriculum.select(losses, 8)
        curriculum(losses[kept])
    assert moved() == []
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_d50_what_trains_moves_batch_norm_once_per_step() -> None:
    _, chosen = selected(method := gr.SelectiveBackprop(), 2)
    assert len(flat(chosen)) == 6
    assert method._model is not None
    assert int(method._model[1].num_batches_tracked) == 6  # type: ignore[index]
