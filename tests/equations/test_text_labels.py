"""Labels by frequency, F1 per label and per group (methods.md 7, metrics), by hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from gradatim.analysis import group_means, label_f1, label_frequencies, label_groups

TRUTH = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
FOUND = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1]])


def test_54_labels_make_groups_of_14_14_13_13_most_frequent_first() -> None:
    groups = label_groups(np.arange(54))
    assert [len(group) for group in groups] == [14, 14, 13, 13]
    assert np.concatenate(groups).tolist() == list(range(53, -1, -1))
    assert all(group.dtype == np.int64 for group in groups)


def test_labels_as_frequent_as_each_other_go_by_their_number() -> None:
    groups = label_groups(torch.tensor([2, 7, 2, 7, 2]), groups=3)
    assert [group.tolist() for group in groups] == [[1, 3], [0, 2], [4]]


@pytest.mark.parametrize("groups", [1, 5])
def test_there_may_be_one_group_or_one_per_label(groups: int) -> None:
    found = label_groups([3, 1, 4, 1, 5], groups)
    assert len(found) == groups
    assert np.concatenate(found).tolist() == [4, 2, 0, 1, 3]


def test_frequencies_count_classes_and_columns() -> None:
    assert label_frequencies(torch.tensor([2, 0, 2])).tolist() == [1, 0, 2]
    assert label_frequencies([2, 0, 2], classes=5).tolist() == [1, 0, 2, 0, 0]
    assert label_frequencies(TRUTH).tolist() == [2, 2, 2]
    assert label_frequencies(torch.tensor(TRUTH, dtype=torch.bfloat16)).dtype == np.int64
    assert label_frequencies(TRUTH.astype(bool), multilabel=True).tolist() == [2, 2, 2]


def test_f1_of_each_label_is_1_half_and_two_thirds() -> None:
    """Y = 101, 010, 110, 001 and P = 100, 010, 100, 011."""
    f1 = label_f1(TRUTH, torch.tensor(FOUND))
    assert f1.tolist() == pytest.approx([1, 0.5, 2 / 3])
    assert f1.mean() == pytest.approx(0.722222, abs=1e-6)


def test_f1_of_class_numbers_is_that_of_their_indicators() -> None:
    truth, found = np.array([0, 1, 2, 2, 1, 0]), np.array([0, 2, 2, 1, 1, 3])
    one = np.eye(5, dtype=int)
    assert label_f1(truth, found, 5).tolist() == label_f1(one[truth], one[found]).tolist()
    assert label_f1(truth, found).tolist() == pytest.approx([2 / 3, 0.5, 0.5, 0])


def test_f1_of_a_label_that_nobody_has_or_predicts_is_0() -> None:
    assert label_f1([[1, 0, 0]], [[1, 0, 1]]).tolist() == [1, 0, 0]


def test_means_of_groups_are_macro_f1_per_group() -> None:
    groups = label_groups([9, 5, 7], groups=2)
    assert group_means(label_f1(TRUTH, FOUND), groups).tolist() == pytest.approx([5 / 6, 0.5])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: label_groups([]), ValueError, "counts must be of shape (L,), not empty"),
        (lambda: label_groups([[1, 2]]), ValueError, "counts must be of shape (L,)"),
        (lambda: label_groups([1, np.nan] * 3), ValueError, "counts must be finite and at least 0"),
        (lambda: label_groups([1, -1, 2, 3]), ValueError, "at least 0. Got [-1.0]"),
        (lambda: label_groups([1, np.inf, 2, 3]), ValueError, "at least 0. Got [inf]"),
        (lambda: label_groups([1, 2, 3]), ValueError, "groups must be a whole number, at least 1"),
        (lambda: label_groups([1, 2], 0), ValueError, "groups must be"),
        (lambda: label_groups([1, 2], 1.5), TypeError, "groups must be"),  # type: ignore[arg-type]
        (lambda: label_groups(["a"]), TypeError, "counts must be real numbers"),
        (lambda: label_frequencies([0, -1]), ValueError, "labels must be class numbers"),
        (lambda: label_frequencies([0.5]), ValueError, "labels must be class numbers"),
        (lambda: label_frequencies([0, 3], classes=3), ValueError, "classes must be"),
        (lambda: label_frequencies([[0, 2]]), ValueError, "0 or 1 everywhere. Got 2.0"),
        (lambda: label_frequencies([[0, 1]], classes=3), ValueError, "classes must be 2"),
        (lambda: label_frequencies([0], multilabel=True), ValueError, "of shape (N, L)"),
        (lambda: label_frequencies([[0]], multilabel=False), ValueError, "of shape (N,), not"),
        (lambda: label_frequencies([]), ValueError, "not empty"),
        (lambda: label_f1([0, 1], [0]), ValueError, "predictions must be of shape (2,)"),
        (lambda: label_f1([[1, 0]], [[1, 0.3]]), ValueError, "0 or 1 everywhere"),
        (lambda: group_means([0.1, np.nan], [[0]]), ValueError, "values must be finite"),
        (lambda: group_means([0.1], []), ValueError, "groups must be one group or more"),
        (lambda: group_means([0.1], [[]]), ValueError, "groups[0] must be labels in [0, 1)"),
        (lambda: group_means([0.1], [[0], [1]]), ValueError, "groups[1] must be labels"),
    ],
)
def test_what_cannot_be_counted_is_refused(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
