"""Stratified folds and out-of-fold scores against scikit-learn and against their definition."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from gradatim import scores


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    folds = draw(st.integers(2, 5))
    counts = draw(st.lists(st.integers(folds, 12), min_size=1, max_size=4))
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return torch.tensor(draw(st.permutations(labels))), folds


@given(labelled(), st.integers(0, 9))
def test_every_fold_has_its_share_of_every_class(data: tuple[torch.Tensor, int], seed: int) -> None:
    labels, folds = data
    fold = scores.stratified_folds(labels, folds, generator=seeded(seed))
    assert fold.dtype == torch.int64
    assert fold.shape == labels.shape
    sizes = torch.bincount(fold, minlength=folds)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1
    for label in labels.unique():
        shares = torch.bincount(fold[labels == label], minlength=folds)
        assert shares.max() - shares.min() <= 1


def test_class_counts_per_fold_match_scikit_learn() -> None:
    labels = torch.tensor([0] * 20 + [1] * 10 + [2] * 5)
    fold = scores.stratified_folds(labels, 5, generator=seeded())
    splits = StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)
    theirs = sorted(np.bincount(labels[held]).tolist() for _, held in splits)
    ours = sorted(torch.bincount(labels[fold == k]).tolist() for k in range(5))
    assert ours == theirs


def test_folds_follow_the_seed_and_no_global_state() -> None:
    labels = torch.arange(2).repeat(50)
    before = torch.get_rng_state()
    first = scores.stratified_folds(labels, 5, generator=seeded(1))
    assert torch.equal(first, scores.stratified_folds(labels, 5, generator=seeded(1)))
    assert not torch.equal(first, scores.stratified_folds(labels, 5, generator=seeded(2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_membership_is_drawn_and_not_dealt_by_position() -> None:
    """Which fold the first sample lands in, over 2000 draws, is uniform over 4 folds.

    Each share has standard error .0097; 5 of them: failure below 4 * 6e-7 for a right draw.
    """
    labels = torch.zeros(8, dtype=torch.int64)
    generator = seeded()
    firsts = [int(scores.stratified_folds(labels, 4, generator=generator)[0]) for _ in range(2000)]
    shares = np.bincount(firsts, minlength=4) / 2000
    assert np.abs(shares - 0.25).max() < 5 * 0.0097


@given(labelled())
def test_no_sample_is_judged_by_a_model_that_saw_it(data: tuple[torch.Tensor, int]) -> None:
    labels, folds = data
    size = len(labels)
    held: list[int] = []

    def fit_predict(train: torch.Tensor, held_out: torch.Tensor) -> torch.Tensor:
        assert not set(train.tolist()) & set(held_out.tolist())
        assert sorted(train.tolist() + held_out.tolist()) == list(range(size))
        assert train.tolist() == sorted(train.tolist())
        assert held_out.tolist() == sorted(held_out.tolist())
        assert set(labels[train].tolist()) == set(labels.tolist())
        held.extend(held_out.tolist())
        # What is withheld from the label tells which sample a row was for.
        doubt = (held_out.double() + 1) / (size + 1)
        classes = 4
        own = torch.nn.functional.one_hot(labels[held_out], classes).double()
        return own * (1 - doubt).unsqueeze(1) + (1 - own) * (doubt / (classes - 1)).unsqueeze(1)

    result = scores.out_of_fold(labels, fit_predict, folds=folds, generator=seeded())
    assert sorted(held) == list(range(size))
    expected = (torch.arange(size).double() + 1) / (size + 1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def two_gaussians(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, 500)
    x = generator.normal(size=(500, 2)) + 4 * truth[:, None]
    flipped = generator.random(500) < 0.2
    return x, np.where(flipped, 1 - truth, truth), flipped


@pytest.mark.parametrize("seed", range(5))
def test_northcutt2021_out_of_fold_separates_flipped_labels(seed: int) -> None:
    """Two Gaussians four standard deviations apart along each axis, a fifth of labels flipped.

    The score's AUROC for the flipped labels must exceed 0.9 (0.97 to 0.99 is usual); the folds are
    seeded, so the outcome is fixed.
    """
    x, labels, flipped = two_gaussians(seed)

    def fit_predict(train: torch.Tensor, held_out: torch.Tensor) -> np.ndarray:
        return LogisticRegression().fit(x[train], labels[train]).predict_proba(x[held_out])

    result = scores.out_of_fold(labels, fit_predict, generator=seeded(seed))
    assert result.dtype == torch.float64
    assert roc_auc_score(flipped, result.numpy()) > 0.9


def test_out_of_fold_equals_a_plain_loop_over_its_folds() -> None:
    x, labels, _ = two_gaussians(0)
    fold = scores.stratified_folds(labels, 3, generator=seeded(4)).numpy()
    expected = np.empty(500)
    for k in range(3):
        model = LogisticRegression().fit(x[fold != k], labels[fold != k])
        rows = model.predict_proba(x[fold == k])
        expected[fold == k] = 1 - rows[np.arange(len(rows)), labels[fold == k]]

    def fit_predict(train: torch.Tensor, held_out: torch.Tensor) -> np.ndarray:
        return LogisticRegression().fit(x[train], labels[train]).predict_proba(x[held_out])

    result = scores.out_of_fold(labels, fit_predict, folds=3, generator=seeded(4))
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-9)
    other = scores.out_of_fold(labels, fit_predict, folds=3, generator=seeded(5))
    assert not torch.equal(result, other)


def test_five_folds_unless_told_otherwise() -> None:
    calls = []

    def fit_predict(train: torch.Tensor, held_out: torch.Tensor) -> torch.Tensor:
        calls.append(len(held_out))
        return torch.full((len(held_out), 2), 0.5)

    scores.out_of_fold(torch.arange(2).repeat(10), fit_predict, generator=seeded())
    assert calls == [4] * 5


LABELS = torch.tensor([0, 0, 0, 2, 2, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: scores.stratified_folds(LABELS, 1, generator=seeded()),
            "folds must be a whole number, at least 2. Got 1.",
        ),
        (
            lambda: scores.stratified_folds(LABELS[:5], 3, generator=seeded()),
            "labels must be at least 3 of every class, one per fold. Got 2 of class 2. Take fewer",
        ),
        (
            lambda: scores.stratified_folds([], 2, generator=seeded()),
            "labels must be one class number per sample, at least one. Got none.",
        ),
        (
            lambda: scores.stratified_folds(torch.tensor([0, 0, -1, -1]), 2, generator=seeded()),
            "labels must be class numbers, at least 0. Got -1 at index [2]. Ignored or missing",
        ),
        (
            lambda: scores.stratified_folds(torch.zeros(4), 2, generator=seeded()),
            "labels must be whole class numbers.",
        ),
        (
            lambda: scores.out_of_fold(
                LABELS,
                lambda train, held: torch.ones(len(train), 3) / 3,
                folds=3,
                generator=seeded(),
            ),
            "fit_predict(train_index, held_out_index) must be of shape (2, C), one row per held",
        ),
        (
            lambda: scores.out_of_fold(
                LABELS, lambda train, held: torch.ones(len(held)), folds=3, generator=seeded()
            ),
            "fit_predict(train_index, held_out_index) must be of shape (2, C), one row per held",
        ),
        (
            lambda: scores.out_of_fold(
                LABELS,
                lambda train, held: torch.ones(len(held), 2) / 2,
                folds=3,
                generator=seeded(),
            ),
            "must be of shape (n, C) with C at least 3, one column per class number. Got a tensor "
            "of shape (2, 2) and dtype float32. Does the classifier number the classes anew?",
        ),
        (
            lambda: scores.out_of_fold(
                LABELS, lambda train, held: torch.ones(len(held), 3), folds=3, generator=seeded()
            ),
            "probabilities must be rows that sum to 1 within 0.001. Got a sum of 3",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_folds_need_a_generator_and_a_function() -> None:
    labels = torch.arange(2).repeat(4)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator"):
        scores.stratified_folds(labels, 2, generator=None)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator"):
        scores.out_of_fold(labels, lambda train, held: None, folds=2, generator=0)
    with pytest.raises(TypeError, match="fit_predict must be callable"):
        scores.out_of_fold(labels, "fit", folds=2, generator=seeded())
