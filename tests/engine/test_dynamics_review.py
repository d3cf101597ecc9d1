"""What a hostile review of the dynamics methods found, each held down by a test."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradatim as gr
from gradatim.methods.dynamics import correctness
from gradatim.methods.features import WithFeatures, last_linear

DATA = torch.utils.data.TensorDataset(torch.arange(12))


def bound(*methods: gr.Method, batch: int = 4, **options: Any) -> Any:
    curriculum = gr.Curriculum(*methods, learning_rate=lambda: 0.1, **options)
    return curriculum, curriculum.loader(DATA, batch_size=batch)


def test_d2_correctness_is_not_whether_the_label_is_zero() -> None:
    one = torch.tensor([[2.0], [-1.0], [3.0]])
    assert correctness(one, torch.tensor([1, 0, 0])).tolist() == [True, True, False]
    assert correctness(one, torch.tensor([[1.0], [1.0], [0.0]])).tolist() == [True, False, False]
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 1.0, 3.0]])
    assert correctness(logits, torch.tensor([1, 2])).tolist() == [False, True]


def test_one_hot_and_soft_targets_are_classes_and_several_labels_are_not() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 1.0, 3.0]])
    one_hot = F.one_hot(torch.tensor([0, 1]), 3)
    assert correctness(logits, one_hot.float()).tolist() == [True, False]
    assert correctness(logits, 0.9 * one_hot + 0.1 / 3).tolist() == [True, False]
    several = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert correctness(logits, several).tolist() == [True, False]
    assert correctness(logits, several.bool()).tolist() == [True, False]


def test_chances_are_those_of_the_draw_that_is_trained_on() -> None:
    """A peek makes a plan, a survey discards it: the chances must be the second draw's."""
    method = gr.DIHCL("loss", "exp", warmup_epochs=1, gamma=0.0, k_min=0.3, normalize=False)
    curriculum, loader = bound(method)
    for (index,) in loader:
        curriculum(index.float() + 1)
    next(iter(loader))
    peeked = method._chances
    curriculum.survey(DATA, lambda batch: {"losses": 12.0 - batch[0]})
    next(iter(loader))
    assert peeked is not None
    assert method._chances is not None
    r = method.dih.values.double()
    logits = math.sqrt(2 * math.log(12) / 12) * r
    fresh = gr.selection.inclusion_probabilities((logits - logits.max()).exp(), 10).clamp(min=0.01)
    assert torch.allclose(method._chances.double(), fresh, atol=1e-5)
    assert not torch.allclose(peeked.double(), fresh, atol=1e-2)


def _negative(batch: Any) -> dict[str, torch.Tensor]:
    logits = torch.zeros(len(batch[0]), 2)
    return {"losses": -1.0 - batch[0], "logits": logits, "targets": torch.zeros_like(batch[0])}


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_negative_losses_are_refused_in_the_call_on_every_way(nonfinite: Any) -> None:
    for method in (gr.DIHCL("loss", normalize=False), gr.Dynamics(normalize=False)):
        curriculum, loader = bound(method, nonfinite=nonfinite)
        given = {"logits": torch.zeros(4, 2), "targets": torch.zeros(4, dtype=torch.int64)}
        bad = torch.tensor([1.0, 2.0, -3.0, 1.0])
        if nonfinite == "skip":
            bad[0] = math.nan
        for _ in loader:
            with pytest.raises(ValueError, match=r"losses must be at least 0 for D.* Got -3.0"):
                curriculum(bad, **given)
            with pytest.raises(ValueError, match="observed losses must be at least 0"):
                curriculum(torch.ones(4), observed={"losses": bad, **given}, **given)
            curriculum.skip()
        with pytest.raises(ValueError, match="losses must be at least 0"):
            curriculum.survey(DATA, _negative)


def test_skip_forgets_rows_whose_outputs_are_not_finite() -> None:
    curriculum, loader = bound(gr.DoCL(episodes=(1, 3), batch_mul=1), nonfinite="skip")
    for _ in range(2):
        for (index,) in loader:
            logits = torch.stack([index.float(), torch.zeros(len(index))], 1)
            logits[index == 5] = -math.inf
            losses = curriculum.criterion(logits, index % 2).nan_to_num()
            curriculum(losses, logits=logits, targets=index % 2)
    scores = curriculum.scores()["DoCL.score"]
    assert curriculum.epoch == 2
    assert bool(scores[5].isnan())


def test_an_epoch_without_batches_left_ends_when_training_goes_on() -> None:
    """An error at the very end of an epoch, a checkpoint taken in its handler, a resume."""

    class Failing(gr.Method):
        failed = False

        def observe(self, batch: gr.Batch, run: gr.Run) -> None:
            if not self.failed:
                self.failed = True
                raise ValueError("no")

    curriculum, loader = bound(Failing())
    stream = iter(loader)
    for _ in range(2):
        curriculum(next(stream)[0].float())
    last = next(stream)[0].float()
    with pytest.raises(ValueError, match="no"):
        curriculum(last)
    state = curriculum.state_dict()
    method = Failing()
    method.failed = True
    resumed, loader = bound(method)
    resumed.load_state_dict(state)
    passes = []
    while resumed.epoch < 3:
        passes.append(0)
        for (index,) in loader:
            resumed(index.float())
            passes[-1] += 1
        assert len(passes) < 5
    assert passes == [3, 3]


class Features(WithFeatures):
    def __init__(self) -> None:
        super().__init__(None, None)

    def collects(self, epoch: int) -> bool:
        return True


def test_attention_has_no_last_linear_layer_of_its_own() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)
            self.attention = nn.MultiheadAttention(4, 1)

    model = Model()
    assert last_linear(model) is model.head


def test_a_layer_that_was_not_called_is_named() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2))
    curriculum, loader = bound(Features())
    curriculum.attach(model=model)
    for _ in loader:
        with pytest.raises(RuntimeError, match=r"reads them from Linear.* which was not called"):
            curriculum(torch.ones(4))
        curriculum.skip()


def test_rows_of_another_forward_pass_are_refused() -> None:
    model = nn.Linear(1, 2)
    curriculum, loader = bound(Features())
    curriculum.attach(model=model)
    for _ in loader:
        model(torch.zeros(8, 1))  # unlabelled samples beside the four of the batch
        with pytest.raises(ValueError, match=r"features must be one row per sample: 4.*another"):
            curriculum(torch.ones(4))
        with pytest.raises(TypeError, match="features must be a tensor"):
            curriculum(torch.ones(4), features=[[0.0]] * 4)
        curriculum.skip()


def test_features_that_are_not_finite_are_refused_with_their_samples() -> None:
    curriculum, loader = bound(Features(), batch=12)
    (index,) = next(iter(loader))
    rows = torch.ones(12, 2)
    rows[index == 7, 0] = math.nan
    with pytest.raises(ValueError, match=r"features must be finite.*7"):
        curriculum(torch.ones(12), features=rows)
    with pytest.raises(ValueError, match=r"features must be finite.*\b3\b"):
        gr.DIHCL(prune=0.5, features=torch.ones(12, 5).index_fill(0, torch.tensor(3), math.nan))


def test_a_method_in_another_curriculum_starts_anew() -> None:
    method = gr.MCL(clusters=3, inner_epochs=1, features=torch.rand(12, 2))
    curriculum, loader = bound(method)
    for _ in range(2):
        for (index,) in loader:
            curriculum(index.float())
    assert method.state_dict()["clusters"] is not None
    bound(method)
    assert method.state_dict()["clusters"] is None


def test_a_pool_of_a_size_bounds_the_minimax_choice() -> None:
    class Sized(gr.Method):
        def plan(self, pool: gr.Pool, run: gr.Run) -> gr.Pool:
            pool.size = 6
            return pool

        def planned_size(self, size: int, epoch: int) -> int:
            return 6

    mcl = gr.MCL(start_fraction=0.5, diversity=0.0, inner_epochs=9)
    curriculum, loader = bound(Sized(), mcl, batch=1)
    for (index,) in loader:
        curriculum(index.float())
    assert curriculum.planned_steps(1) == len(loader) == 3


@pytest.mark.parametrize("rate", [math.nan, -0.1, None, [0.1], "0.1"])
def test_a_callable_that_gives_no_rate_is_refused_by_name(rate: Any) -> None:
    curriculum = gr.Curriculum(gr.DIHCL("loss"), learning_rate=lambda: rate)
    loader = curriculum.loader(DATA, batch_size=4)
    for _ in loader:
        with pytest.raises((ValueError, TypeError), match=r"learning_rate\(\) must be"):
            curriculum(torch.ones(4))
        curriculum.skip()


def test_messages_name_a_method_by_what_was_chosen() -> None:
    assert str(gr.DIHCL("flip", "beta", k_min=0.5)) == (
        "DIHCL(hardness='flip', selection='beta', k_min=0.5)"
    )
    assert str(gr.Uniform()) == "Uniform()"
