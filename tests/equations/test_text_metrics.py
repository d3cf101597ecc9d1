"""Metrics of text classification: the worked numbers of section 7 of the specification."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradatim.compare.metrics import by_label_group, measure
from gradatim.compare.scoring import binary_f1, decided_f1, macro_f1, matthews, micro_f1

# Section 7, "hand metrics": Y = 101, 010, 110, 001 and P = 100, 010, 100, 011.
TRUTH = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float64)
FOUND = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1]])
LOGITS = np.where(FOUND == 1, 0.7, -0.7)


def test_section_7_f1_per_label():
    assert decided_f1(LOGITS, TRUTH) == pytest.approx([1, 0.5, 0.666667], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("macro_f1", 0.722222),
        ("micro_f1", 0.727273),
        ("subset_accuracy", 0.25),
        ("hamming_loss", 0.25),
    ],
)
def test_section_7_of_several_labels(name, value):
    assert measure("multilabel", LOGITS, TRUTH)[name] == pytest.approx(value, abs=1e-6)
    as_tensors = measure("multilabel", torch.tensor(LOGITS), torch.tensor(TRUTH))
    assert as_tensors[name] == pytest.approx(value, abs=1e-6)


def binary(tp, fn, fp, tn):
    """Logits and classes with these counts; class 1 is the positive one."""
    found = np.repeat([1, 0, 1, 0], [tp, fn, fp, tn])
    return np.eye(2)[found], np.repeat([1, 1, 0, 0], [tp, fn, fp, tn])


def test_section_7_of_two_classes():
    # TP, FN, FP, TN = 3, 1, 2, 4.
    scores = measure("classification", *binary(3, 1, 2, 4))
    assert scores["mcc"] == pytest.approx(0.408248, abs=1e-6)
    assert scores["f1"] == pytest.approx(0.666667, abs=1e-6)
    # (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)) = 10 / sqrt(600)
    assert scores["mcc"] == pytest.approx(10 / 600**0.5)


@pytest.mark.parametrize("counts", [(4, 0, 6, 0), (0, 4, 0, 6), (4, 6, 0, 0), (0, 0, 4, 6)])
def test_section_7_mcc_with_a_zero_margin_is_0(counts):
    assert matthews(*binary(*counts)) == 0.0


def test_section_7_f1_without_positives_and_predictions_is_0():
    assert binary_f1(*binary(0, 0, 0, 5)) == 0.0


def test_section_7_a_label_without_positives_and_predictions_counts_0_or_nothing():
    none = np.full((4, 1), -1.0)
    logits, truth = np.hstack([LOGITS, none]), np.hstack([TRUTH, np.zeros((4, 1))])
    assert macro_f1(logits, truth) == pytest.approx(0.722222 * 3 / 4, abs=1e-6)
    assert macro_f1(logits, truth, empty="skip") == pytest.approx(0.722222, abs=1e-6)
    assert measure("multilabel", logits, truth)["macro_f1"] == macro_f1(logits, truth)
    assert micro_f1(logits, truth) == pytest.approx(0.727273, abs=1e-6)
    assert macro_f1(none, np.zeros((4, 1))) == macro_f1(none, np.zeros((4, 1)), empty="skip") == 0
    # A label that does not occur but is predicted is wrong either way.
    assert macro_f1(-none, np.zeros((4, 1)), empty="skip") == 0


def test_section_7_54_labels_make_groups_of_14_14_13_and_13():
    found = by_label_group(np.ones((2, 54)), np.ones((2, 54)), range(54))
    assert found == {"1-14": 1.0, "15-28": 1.0, "29-41": 1.0, "42-54": 1.0}


def test_section_7_groups_follow_the_frequency_in_training():
    # F1 1, .5, .666667 of labels that occur 5, 20 and 10 times in training.
    found = by_label_group(LOGITS, TRUTH, [5, 20, 10], groups=2)
    assert found == pytest.approx({"1-2": (0.5 + 2 / 3) / 2, "3": 1.0})
    assert list(by_label_group(LOGITS, TRUTH, [5, 20, 10])) == ["1", "2", "3"]


def test_section_7_labels_of_equal_frequency_keep_their_order():
    found = by_label_group(LOGITS, TRUTH, [7, 7, 7], groups=3)
    assert list(found.values()) == pytest.approx([1, 0.5, 2 / 3])


def test_section_7_groups_may_skip_labels_that_nothing_is_known_of():
    logits, truth = np.hstack([LOGITS, -(LOGITS[:, :1] ** 2)]), np.hstack([TRUTH, TRUTH[:, :1] * 0])
    counts = [9, 8, 7, 6]
    zero, skip = (
        by_label_group(logits, truth, counts, groups=2, empty=empty) for empty in ("zero", "skip")
    )
    assert (zero["3-4"], skip["3-4"]) == pytest.approx((1 / 3, 2 / 3))
    assert by_label_group(logits, truth, counts, empty="skip")["4"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training_counts": [1, 2]}, "training_counts must be 3 numbers, one per label"),
        ({"groups": 0}, "groups must be a whole number, at least 1"),
        ({"empty": "skp"}, "empty must be one of 'zero', 'skip'"),
        ({"targets": TRUTH[:, :2]}, "targets must be of shape"),
    ],
)
def test_groups_refuse_what_does_not_fit(changes, message):
    given = {"outputs": LOGITS, "targets": TRUTH, "training_counts": [3, 2, 1]}
    with pytest.raises(ValueError, match=message):
        by_label_group(**(given | changes))
