"""RHO-Loss by hand, and irreducible losses that no sample's own model gave."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import gradatim as gr


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chosen(irreducible: Any, losses: Any, k: int) -> list[int]:
    batch = gr.Batch(torch.arange(len(losses)), torch.as_tensor(losses))
    return gr.RHOLoss(irreducible).select(batch, k, gr.Run(size=len(losses), seed=0)).tolist()


def test_scores_by_hand_and_the_first_pick() -> None:
    """l = 2, .5, 3, 1.2 less IL = .1, .4, 2.9, 1.5: 1.9, .1, .1, -.3; the loss would pick 2.

    Mindermann et al. 2022, Eq. 3.
    """
    losses, irreducible = torch.tensor([2.0, 0.5, 3.0, 1.2]), [0.1, 0.4, 2.9, 1.5]
    batch = gr.Batch(torch.arange(4), losses)
    scores = gr.RHOLoss(irreducible).scores(batch)
    assert scores.tolist() == pytest.approx([1.9, 0.1, 0.1, -0.3], abs=1e-6)
    assert chosen(irreducible, losses, 1) == [0]
    assert chosen([0.0] * 4, losses, 1) == [2]


def test_irreducible_losses_belong_to_samples_not_to_rows() -> None:
    batch = gr.Batch(torch.tensor([3, 1]), torch.tensor([1.0, 1.0]))
    scores = gr.RHOLoss([0.0, 0.25, 0.0, 4.0]).scores(batch)
    assert scores.tolist() == [-3.0, 0.75]


def test_zeros_are_the_top_losses_and_a_constant_changes_nothing() -> None:
    losses = torch.rand(40, generator=seeded())
    irreducible = torch.rand(40, generator=seeded(1))
    assert chosen(torch.zeros(40), losses, 7) == losses.topk(7).indices.sort().values.tolist()
    assert chosen(irreducible + 5, losses, 7) == chosen(irreducible, losses, 7)
    assert chosen(irreducible - 5, losses, 7) == chosen(irreducible, losses, 7)
    assert chosen(irreducible, losses, 40) == list(range(40))


def test_training_goes_through_the_selected_alone() -> None:
    curriculum = gr.Curriculum(gr.RHOLoss([0.0, 3.0, 0.0, 0.0, 5.0, 0.0]), seed=0)
    (index,) = curriculum.loader(range(6), batch_size=6)
    losses = index.float()
    kept = curriculum.select(losses, 2)
    assert sorted(index[kept].tolist()) == [3, 5]  # 3 - 0 and 5 - 0; 4 - 5 is below 0
    assert float(curriculum(losses[kept])) == 4.0


def test_losses_that_are_skipped_are_not_chosen() -> None:
    assert chosen([0.0] * 3, [math.nan, -1.0, -2.0], 2) == [1, 2]


@pytest.mark.parametrize("missing", [math.nan, math.inf])
def test_a_sample_without_an_irreducible_loss_is_refused_by_position(missing: float) -> None:
    values = torch.ones(30)
    values[[4, 7]] = missing
    with pytest.raises(ValueError, match=r"irreducible must be finite .* Got 2 .* index \[4, 7\]"):
        gr.RHOLoss(values)
    values[10:25] = missing
    with pytest.raises(ValueError, match=r"index \[4, 7, 10, .*, \.\.\.\]\. Those of a holdout"):
        gr.RHOLoss(values)


def test_another_number_of_samples_is_refused_by_the_loader() -> None:
    with pytest.raises(ValueError, match="irreducible must be one value per sample: 5 of them"):
        gr.Curriculum(gr.RHOLoss([0.1] * 4)).loader(range(5), batch_size=2)


def test_more_than_the_candidates_are_not_asked_for() -> None:
    curriculum = gr.Curriculum(gr.RHOLoss([0.0] * 5))
    sizes = []
    for index in curriculum.loader(range(5), batch_size=3):
        kept = curriculum.select(index.float(), 9)
        sizes.append(len(kept))
        curriculum(index[kept].float())
    assert sizes == [3, 2]


def test_an_epoch_without_a_selection_is_noticed() -> None:
    curriculum = gr.Curriculum(gr.RHOLoss([0.0] * 4))
    loader = curriculum.loader(range(4), batch_size=4)
    index = next(iter(loader))
    with pytest.warns(UserWarning, match="RHOLoss chose nothing"):
        curriculum(index.float())


def test_nothing_in_a_step_waits_for_the_device() -> None:
    batch = gr.Batch(torch.arange(4), torch.zeros(4, device="meta"))
    assert gr.RHOLoss([0.0] * 4).select(batch, 2, gr.Run(size=4, seed=0)).is_meta


# ------------------------------------------------------------------------ irreducible losses


def seen_by(size: int, **options: Any) -> tuple[torch.Tensor, list[tuple[set[int], set[int]]]]:
    """The result, and what each model was trained on and asked about."""
    pairs: list[tuple[set[int], set[int]]] = []

    def losses(model: set[int], index: torch.Tensor) -> torch.Tensor:
        pairs.append((model, set(index.tolist())))
        return index.double()

    def fit(index: torch.Tensor) -> set[int]:
        trained = set(index.tolist())
        index.zero_()  # a copy, which may be written to
        return trained

    return gr.scores.irreducible_loss(size, fit, losses, generator=seeded(), **options), pairs


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_crossing_parts_scores_each_sample_once_by_a_model_that_never_saw_it(parts: int) -> None:
    il, pairs = seen_by(11, parts=parts)
    assert il.dtype == torch.float32
    assert il.tolist() == list(range(11))
    assert len(pairs) == parts
    for trained, asked in pairs:
        assert not trained & asked
        assert trained | asked == set(range(11))
        assert abs(len(asked) - 11 / parts) < 1
    assert sum(len(asked) for _, asked in pairs) == 11
    first = min(pairs[0][1])
    assert seen_by(11, parts=parts)[1] == pairs, "the generator alone decides"
    assert first >= 0


def test_a_holdout_scores_the_others_and_itself_not_at_all() -> None:
    il, pairs = seen_by(6, holdout=[4, 1])
    assert pairs == [({1, 4}, {0, 2, 3, 5})]
    assert il.isnan().tolist() == [False, True, False, False, True, False]
    with pytest.raises(ValueError, match=r"at index \[1, 4\]"):
        gr.RHOLoss(il)
    others = torch.tensor([0, 2, 3, 5])
    assert gr.RHOLoss(il[others]).irreducible.tolist() == [0.0, 2.0, 3.0, 5.0]


def test_scoring_builds_no_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    il = gr.scores.irreducible_loss(
        4, lambda index: None, lambda model, index: weight * index, generator=seeded()
    )
    assert not il.requires_grad


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 1}, "size must be"),
        ({"parts": 1}, "parts must be"),
        ({"parts": 9}, "parts must be"),
        ({"holdout": [0, 0]}, "holdout must be distinct"),
        ({"holdout": [0, 8]}, r"holdout must be int64 positions in \[0, 8\)"),
        ({"holdout": [0.5]}, "holdout must be int64"),
        ({"holdout": range(8)}, "holdout must be some samples and not all"),
        ({"holdout": torch.zeros(0).long()}, "holdout must be some samples and not all"),
        ({"losses": lambda model, index: torch.zeros(())}, "reduction='none'"),
        ({"losses": lambda model, index: torch.zeros(2)}, r"of shape \(4,\)"),
        ({"losses": lambda model, index: index / 0}, "must be finite"),
    ],
)
def test_bad_input_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    given = {"size": 8, "fit": lambda index: None, "losses": lambda model, index: index * 1.0}
    with pytest.raises(ValueError, match=message):
        gr.scores.irreducible_loss(**{**given, "generator": seeded(), **changed})


@pytest.mark.parametrize("name", ["fit", "losses", "generator"])
def test_what_cannot_be_called_or_draw_is_refused_by_name(name: str) -> None:
    given: dict[str, Any] = {"fit": len, "losses": len, "generator": seeded(), name: 3}
    with pytest.raises(TypeError, match=f"{name} must be"):
        gr.scores.irreducible_loss(8, **given)


def test_a_holdout_and_its_subset_train_together() -> None:
    data = TensorDataset(torch.arange(10.0))
    il = gr.scores.irreducible_loss(
        10, lambda index: 3.0, lambda model, index: index - model, holdout=[0], generator=seeded()
    )
    others = torch.arange(1, 10)
    curriculum = gr.Curriculum(gr.RHOLoss(il[others]), seed=0)
    loader = curriculum.loader(torch.utils.data.Subset(data, others.tolist()), batch_size=9)
    for (x,) in loader:
        kept = curriculum.select(torch.where(x == 7, 50.0, x), 1)
        assert x[kept].tolist() == [7.0]
        curriculum(x[kept])
    assert curriculum.epoch == 1
