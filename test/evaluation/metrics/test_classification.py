"""Classification metrics against those of torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MulticlassRecall,
)

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.metrics.classification import (
    METRICS,
    accuracy,
    balanced_accuracy,
    calibration_bins,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    per_class_recall,
)

CLASSES = len(EMOTIONS)


def faces(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and probabilities (N, 8) that know something of them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, number)
    scores = random.normal(size=(number, CLASSES)) + 2 * np.eye(CLASSES)[labels]
    shares = np.exp(2 * scores)
    return labels, shares / shares.sum(axis=1, keepdims=True)


def tables(labels, probabilities) -> tuple[np.ndarray, np.ndarray]:
    return (
        confusion_matrix(labels, probabilities.argmax(axis=1)),
        calibration_bins(labels, probabilities),
    )


def test_metrics_of_no_faces_are_nan():
    counts = tables(np.zeros(0, int), np.zeros((0, CLASSES)))
    assert [np.isnan(figure(*counts)) for figure in METRICS.values()] == [True] * 4
    assert np.isnan(per_class_recall(counts[0])).all()


@pytest.mark.parametrize("number", [200, 5000])
def test_metrics_equal_those_of_torchmetrics(number):
    labels, probabilities = faces(number)
    confusion, bins = tables(labels, probabilities)
    given = torch.from_numpy(probabilities), torch.from_numpy(labels)
    for ours, theirs in (
        (accuracy(confusion), MulticlassAccuracy(CLASSES, average="micro")),
        (balanced_accuracy(confusion), MulticlassRecall(CLASSES, average="macro")),
        (per_class_recall(confusion), MulticlassRecall(CLASSES, average="none")),
        (macro_f1(confusion), MulticlassF1Score(CLASSES, average="macro")),
        (expected_calibration_error(bins), MulticlassCalibrationError(CLASSES, n_bins=15)),
    ):
        np.testing.assert_allclose(ours, theirs(*given).numpy(), atol=1e-5)


def test_emotions_without_labels_have_no_recall():
    confusion = confusion_matrix(np.array([1, 1, 3, 3]), np.array([1, 2, 3, 3]))
    assert per_class_recall(confusion)[[1, 3]].tolist() == [0.5, 1.0]
    assert balanced_accuracy(confusion) == 0.75
    assert macro_f1(confusion) == pytest.approx((2 / 3 + 0 + 1) / 3)  # 2 was read, too often


def test_counts_add_up():
    parts = [faces(50, seed) for seed in range(4)]
    merged = tables(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    each = [tables(*part) for part in parts]
    for k in (0, 1):
        np.testing.assert_allclose(sum(table[k] for table in each), merged[k])
    stacked = [np.stack([table[k] for table in each]) for k in (0, 1)]
    for figure in METRICS.values():
        one_by_one = [float(figure(*table)) for table in each]
        np.testing.assert_allclose(figure(*stacked), one_by_one)


def test_a_confidence_of_1_is_in_the_last_bin():
    bins = calibration_bins(np.array([0, 1]), np.eye(CLASSES)[:2])
    assert bins[-1].tolist() == [2, 2, 2]
    assert expected_calibration_error(bins) == 0
