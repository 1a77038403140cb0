"""Classification metrics, computed from additive counts.

Every metric is a function of two count tables. Counts of frames, bags or bootstrap resamples are
merged by addition. All functions accept tables with any number of leading axes:

* ``confusion`` (..., 8, 8): number of faces by label (row) and predicted emotion (column);
* ``bins`` (..., 15, 3): per confidence bin the number of faces, the number predicted correctly
  and the sum of their confidences.

A metric of an empty table is NaN.
"""

import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import EMOTIONS

BINS = 15
"""Number of equal-width confidence bins over 0..1."""

_CLASSES = len(EMOTIONS)


def confusion_matrix(
    labels: NDArray[np.integer], emotions: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Count labels (N,) against predicted emotions (N,), both indices into EMOTIONS.

    Returns:
        Confusion matrix (8, 8), labels in rows.
    """
    flat = np.asarray(labels, np.int64) * _CLASSES + emotions
    return np.bincount(flat, minlength=_CLASSES**2).reshape(_CLASSES, _CLASSES)


def calibration_bins(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Bin the top-1 confidence of probabilities (N, 8) against labels (N,).

    Returns:
        Calibration table (15, 3).
    """
    return confidence_bins(probabilities.argmax(axis=1) == labels, probabilities)


def confidence_bins(correct: NDArray, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Bin the top-1 confidence of probabilities (N, 8).

    Args:
        correct: (N,) whether the top-1 emotion is correct, or the fraction of annotators who
            chose it.
        probabilities: (N, 8).

    Returns:
        Calibration table (15, 3).
    """
    confidences = probabilities.max(axis=1, initial=0).astype(np.float64)
    number = (confidences * BINS).astype(int).clip(0, BINS - 1)
    columns = (np.ones(len(correct)), correct, confidences)
    return np.stack([np.bincount(number, column, BINS) for column in columns], axis=1)


def accuracy(confusion: NDArray) -> NDArray[np.float64]:
    """Fraction of all faces predicted correctly."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def per_class_recall(confusion: NDArray) -> NDArray[np.float64]:
    """Recall (..., 8) of each emotion. NaN for an emotion without labels."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1))


def balanced_accuracy(confusion: NDArray) -> NDArray[np.float64]:
    """Mean recall over the emotions that have labels (unweighted average recall)."""
    return _nanmean(per_class_recall(confusion))


def macro_f1(confusion: NDArray) -> NDArray[np.float64]:
    """Mean F1 over the emotions that were labeled or predicted."""
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _nanmean(_ratio(2 * correct, confusion.sum(axis=-1) + confusion.sum(axis=-2)))


def expected_calibration_error(bins: NDArray) -> NDArray[np.float64]:
    """Mean absolute difference of confidence and accuracy, weighted by bin size (ECE)."""
    faces, correct, confidence = np.moveaxis(bins, -1, 0)
    return _ratio(np.abs(correct - confidence).sum(axis=-1), faces.sum(axis=-1))


METRICS = {
    "accuracy": lambda confusion, bins: accuracy(confusion),
    "balanced_accuracy": lambda confusion, bins: balanced_accuracy(confusion),
    "macro_f1": lambda confusion, bins: macro_f1(confusion),
    "ece": lambda confusion, bins: expected_calibration_error(bins),
}
"""Each takes ``confusion`` and ``bins`` with the same leading axes."""


def _ratio(part: NDArray, total: NDArray) -> NDArray[np.float64]:
    part, total = np.asarray(part, np.float64), np.asarray(total, np.float64)
    return np.divide(part, total, out=np.full(total.shape, np.nan), where=total > 0)


def _nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
