import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from gradatim.compare.metrics import (
    METRICS,
    PRIMARY,
    by_class,
    by_frequency,
    measure,
    per_item,
)

# Four items, three classes: predictions 0, 1, 1, 2; right, right, wrong, wrong.
LOGITS = np.log([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.3, 0.6, 0.1], [0.1, 0.2, 0.7]])
CLASSES = np.array([0, 1, 0, 1])


def test_classification_by_hand():
    scores = measure("classification", LOGITS, CLASSES)
    assert scores["accuracy"] == scores["micro_f1"] == 0.5
    assert scores["balanced_accuracy"] == 0.5  # recalls 1/2 and 1/2; class 2 is not there
    # F1 of class 0: 2/(1 + 2); of class 1: 2/(2 + 2); class 2 was predicted once, wrongly: 0.
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert scores["cross_entropy"] == pytest.approx(-math.log(0.8 * 0.5 * 0.3 * 0.2) / 4)
    # Confidences .8, .5, .6, .7 lie in four bins: gaps .2, .5, -.6, -.7.
    assert scores["calibration_error"] == pytest.approx((0.2 + 0.5 + 0.6 + 0.7) / 4)


def test_calibration_error_pools_the_items_of_a_bin():
    # Four times .74, in the bin from 11/15 to 12/15; three are right: the gap is .75 - .74.
    logits = np.log([[0.74, 0.26]] * 4)
    assert measure("classification", logits, np.array([0, 0, 0, 1]))[
        "calibration_error"
    ] == pytest.approx(0.01)


def test_calibration_bins_are_closed_above():
    # 9/15 and a little less share a bin and cancel: .6 - 1 and .59 - 0 are not added up singly.
    logits = np.log([[0.6, 0.4], [0.59, 0.41]])
    found = measure("classification", logits, np.array([0, 1]))["calibration_error"]
    assert found == pytest.approx(abs((1 - 0.6) + (0 - 0.59)) / 2)


def test_multilabel_by_hand():
    outputs = np.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    targets = np.array([[1, 0, 0], [1, 1, 0]], dtype=np.float32)
    scores = measure("multilabel", outputs, targets)
    assert scores["hamming_loss"] == pytest.approx(1 / 6)
    assert scores["subset_accuracy"] == 0.5
    assert scores["micro_f1"] == pytest.approx(2 * 3 / (4 + 3))
    assert scores["macro_f1"] == pytest.approx(2 / 3)  # 1, 1 and 0
    assert per_item("subset_accuracy", outputs, targets).tolist() == [0, 1]
    assert per_item("hamming_loss", outputs, targets) == pytest.approx([1 / 3, 0])


def test_a_logit_of_zero_is_no_yes():
    scores = measure("multilabel", np.zeros((2, 2)), np.ones((2, 2)))
    assert (scores["micro_f1"], scores["hamming_loss"]) == (0, 1)


def test_one_label_is_a_label_and_not_two_classes():
    # Found 1 of 2, no false alarm: F1 = 2/3. scikit-learn would average in the F1 of "absent".
    scores = measure("multilabel", np.array([[1.0], [-1.0], [-1.0]]), np.array([[1], [1], [0]]))
    assert scores["macro_f1"] == scores["micro_f1"] == pytest.approx(2 / 3)


def test_regression_by_hand():
    scores = measure("regression", np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]))
    assert scores["mae"] == 1
    assert scores["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert scores["r2"] == pytest.approx(1 - 5 / 2)
    assert scores["spearman"] == pytest.approx(0.5)


def test_regression_with_several_targets_averages_them():
    outputs = np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 3.0]])
    targets = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    scores = measure("regression", outputs, targets)
    assert scores["mae"] == pytest.approx((1 + 1) / 2)
    assert scores["rmse"] == pytest.approx((math.sqrt(5 / 3) + math.sqrt(3)) / 2)
    assert scores["spearman"] == pytest.approx(0.25)  # the second target never varies
    assert per_item("mae", outputs, targets) == pytest.approx([0, 0.5, 2.5])


def test_a_column_and_a_vector_are_the_same_numbers():
    # Broadcast against each other they would give 9 differences.
    one = measure("regression", np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 3.0, 2.0]))
    assert one == measure("regression", np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]))


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_classification_agrees_with_scikit_learn(classes, size, seed):
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(size, classes)), rng.integers(0, classes, size)
    scores = measure("classification", logits, targets)
    predictions = logits.argmax(1)
    expected = oracle.recall_score(
        targets, predictions, labels=np.unique(targets), average="macro", zero_division=0
    )
    assert scores["balanced_accuracy"] == pytest.approx(expected)
    assert scores["micro_f1"] == oracle.accuracy_score(targets, predictions)
    f1 = oracle.f1_score(targets, predictions, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(f1)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = oracle.log_loss(targets, probabilities, labels=np.arange(classes))
    assert scores["cross_entropy"] == pytest.approx(loss)
    assert 0 <= scores["calibration_error"] <= 1


@given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_multilabel_agrees_with_scikit_learn(labels, size, seed):
    rng = np.random.default_rng(seed)
    outputs, targets = rng.normal(size=(size, labels)), rng.integers(0, 2, (size, labels))
    scores = measure("multilabel", outputs, targets)
    predictions = (outputs > 0).astype(int)
    for average in ("micro", "macro"):
        expected = oracle.f1_score(targets, predictions, average=average, zero_division=0)
        assert scores[f"{average}_f1"] == pytest.approx(expected)
    assert scores["hamming_loss"] == pytest.approx(oracle.hamming_loss(targets, predictions))
    assert scores["subset_accuracy"] == oracle.accuracy_score(targets, predictions)


@pytest.mark.parametrize("kind", PRIMARY)
def test_every_metric_of_a_kind_is_measured_and_the_primary_is_among_them(kind):
    outputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    targets = {
        "classification": torch.tensor([0, 1, 2, 0, 1]),
        "multilabel": torch.eye(5, 3),
        "regression": torch.eye(5, 3),
    }[kind]
    scores = measure(kind, outputs, targets)
    known = {name for name, metric in METRICS.items() if kind in metric.kinds}
    assert set(scores) == known - {"f1"}  # of two classes alone
    assert PRIMARY[kind] in scores
    assert METRICS[PRIMARY[kind]].higher_is_better
    assert all(type(value) is float and math.isfinite(value) for value in scores.values())
    assert scores == measure(kind, outputs.numpy(), targets.numpy())


@pytest.mark.parametrize("name", METRICS)
def test_values_per_item_average_to_the_metric(name):
    metric = METRICS[name]
    rng = np.random.default_rng(1)
    kind = metric.kinds[0]
    targets = {
        "classification": rng.integers(0, 3, 20),
        "multilabel": rng.integers(0, 2, (20, 3)),
        "regression": rng.normal(size=(20, 3)),
    }[kind]
    outputs = rng.normal(size=(20, 3))
    items = per_item(name, outputs, targets)
    if name in (
        "accuracy",
        "cross_entropy",
        "subset_accuracy",
        "hamming_loss",
        "mae",
        "top_target",
    ):
        assert items.shape == (20,)
        assert items.mean() == pytest.approx(measure(kind, outputs, targets)[name])
    else:
        assert items is None
    assert metric.scale == (100 if metric.unit == "points" else 1)


def test_constant_predictions_have_defined_scores():
    constant = measure("classification", np.tile([1.0, 0.0], (4, 1)), np.array([0, 0, 1, 1]))
    assert (constant["mcc"], constant["accuracy"]) == (0, 0.5)
    one_class = measure("classification", np.tile([1.0, 0.0], (4, 1)), np.zeros(4, dtype=int))
    assert (one_class["mcc"], one_class["accuracy"]) == (0, 1)
    flat = measure("regression", np.ones(4), np.array([1.0, 2.0, 3.0, 4.0]))
    assert flat["spearman"] == 0
    assert measure("regression", np.arange(4.0), np.ones(4))["r2"] == 0
    assert measure("regression", np.ones(4), np.ones(4))["r2"] == 1
    assert measure("regression", np.ones(1), np.zeros(1))["r2"] == 0
    nothing = measure("multilabel", -np.ones((3, 2)), np.zeros((3, 2)))
    assert (nothing["micro_f1"], nothing["macro_f1"], nothing["subset_accuracy"]) == (0, 0, 1)


def test_mcc_by_hand():
    # TP 1, TN 2, FP 1, FN 0: (1 * 2 - 1 * 0) / sqrt(2 * 1 * 3 * 2).
    logits = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    scores = measure("classification", logits, np.array([1, 0, 0, 0]))
    assert scores["mcc"] == pytest.approx(2 / math.sqrt(12))


def test_huge_logits_stay_finite():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], dtype=np.float32)
    scores = measure("classification", logits, np.array([0, 0]))
    assert scores["cross_entropy"] == pytest.approx(5e3)
    assert scores["calibration_error"] == 0.5


def test_by_class_leaves_out_what_the_data_does_not_have():
    assert by_class("classification", LOGITS, CLASSES, ["cat", "dog", "<b>"]) == {
        "cat": 0.5,
        "dog": 0.5,
    }
    labels = by_class("multilabel", np.array([[1.0, 1.0]]), np.array([[1, 0]]), ["a", "b"])
    assert labels == {"a": 1.0}


def test_by_frequency_takes_thirds_of_the_classes():
    logits = 9 * np.eye(6)[[0, 1, 2, 0, 4, 0]]
    targets = np.arange(6)
    # Right: 0, 1, 2, 4. By count: 4 and 1; 0 and 2; 3 and 5.
    found = by_frequency("classification", logits, targets, [30, 40, 20, 10, 50, 5])
    assert found == {"many": 1.0, "medium": 1.0, "few": 0.0}


def test_classes_of_equal_frequency_stay_together():
    logits, targets = 9 * np.eye(4)[[0, 1, 0, 3]], np.arange(4)
    # Ranks 0, 0, 0, 3: three "many" classes, and one that is "few".
    found = by_frequency("classification", logits, targets, [9, 9, 9, 1])
    assert found == {"many": pytest.approx(2 / 3), "few": 1.0}
    assert by_frequency("classification", logits, targets, [9, 9, 9, 9]) == {}


def test_groups_need_a_class_twice_as_frequent_as_another():
    logits, targets = np.eye(2), np.array([0, 1])
    assert by_frequency("classification", logits, targets, [19, 10]) == {}
    assert by_frequency("classification", logits, targets, [20, 10]) == {"many": 1.0, "few": 1.0}


def test_two_classes_are_many_and_few():
    found = by_frequency("classification", np.eye(2), np.array([0, 0]), [90, 10])
    assert found == {"many": 0.5}
    found = by_frequency("classification", np.eye(2), np.array([1, 1]), [90, 10])
    assert found == {"few": 0.5}


def test_by_frequency_of_labels_averages_f1():
    outputs, targets = np.array([[1.0, 1, 1], [1, -1, -1]]), np.array([[1, 1, 1], [1, 0, 1]])
    found = by_frequency("multilabel", outputs, targets, [9, 5, 1])
    assert found == {"many": 1.0, "medium": 1.0, "few": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure("clasification", LOGITS, CLASSES), "Did you mean 'classification'"),
        (lambda: measure("classification", LOGITS, CLASSES[:2]), r"targets must be of shape \(4,"),
        (lambda: measure("classification", LOGITS, CLASSES + 2), r"targets must be classes in"),
        (lambda: measure("classification", LOGITS[:0], CLASSES[:0]), "N at least 1"),
        (lambda: measure("classification", LOGITS * np.nan, CLASSES), "Did training diverge"),
        (lambda: measure("regression", np.ones(2), np.array([1, np.nan])), "targets must be fin"),
        (lambda: measure("regression", np.ones(2), np.ones((2, 2))), "targets must be of shape"),
        (lambda: per_item("acuracy", LOGITS, CLASSES), "Did you mean 'accuracy'"),
        (lambda: by_class("classification", LOGITS, CLASSES, ["a"]), "3 different names"),
        (lambda: by_class("classification", LOGITS, CLASSES, [1, "1", 2]), "2 of them different"),
        (lambda: by_class("regression", LOGITS, LOGITS, ["a"]), "has no classes"),
        (lambda: by_frequency("classification", LOGITS, CLASSES, [1]), "3 numbers, one per"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_largest_target_is_an_accuracy_of_several_targets_only() -> None:
    """Distillation: two of three largest outputs agree. A single target has no largest one."""
    outputs = np.array([[0.2, 0.9], [3.0, 1.0], [-1.0, -2.0]])
    targets = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert measure("regression", outputs, targets)["top_target"] == pytest.approx(2 / 3)
    assert per_item("top_target", outputs, targets).tolist() == [1.0, 0.0, 1.0]  # type: ignore[union-attr]
    assert "top_target" not in measure("regression", outputs[:, :1], targets[:, :1])
