"""How good emotions are, from counts that add up.

Every figure comes from two tables of counts, so that frames, bags and the resamples of a bootstrap
are merged by adding their tables; the functions take tables with any number of leading axes:

* ``confusion`` (..., 8, 8): how often a label (row) was read as an emotion (column);
* ``bins`` (..., 15, 3): per bin of confidence the faces, those read rightly, and the sum of their
  confidences.

A figure of nothing is NaN.
"""

import numpy as np
from numpy.typing import NDArray

from fer_ros.labels import EMOTIONS

BINS = 15
"""Of equal width over confidences 0..1."""

_CLASSES = len(EMOTIONS)

Floats = NDArray[np.float64]


def count_confusion(
    labels: NDArray[np.integer], emotions: NDArray[np.integer]
) -> NDArray[np.int64]:
    """The table (8, 8) of labels (N,) and what they were read as (N,), indices into EMOTIONS."""
    flat = np.asarray(labels, np.int64) * _CLASSES + emotions
    return np.bincount(flat, minlength=_CLASSES**2).reshape(_CLASSES, _CLASSES)


def count_bins(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Floats:
    """The table (15, 3) of labels (N,) and probabilities (N, 8); the most probable one counts."""
    return bin_confidences(probabilities.argmax(axis=1) == labels, probabilities)


def bin_confidences(right: NDArray, probabilities: NDArray[np.floating]) -> Floats:
    """The table (15, 3) of probabilities (N, 8) whose most probable emotion is ``right`` (N,).

    ``right`` is yes or no, or the share of people who say so.
    """
    confidences = probabilities.max(axis=1, initial=0).astype(np.float64)
    number = (confidences * BINS).astype(int).clip(0, BINS - 1)
    columns = (np.ones(len(right)), right, confidences)
    return np.stack([np.bincount(number, column, BINS) for column in columns], axis=1)


def accuracy(confusion: NDArray) -> Floats:
    """The share of all faces that were read rightly."""
    return _share(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def recalls(confusion: NDArray) -> Floats:
    """Per emotion (..., 8) the share of its faces that were read rightly."""
    return _share(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1))


def mean_recall(confusion: NDArray) -> Floats:
    """The mean of the recalls over the emotions that have labels."""
    return _mean(recalls(confusion))


def macro_f1(confusion: NDArray) -> Floats:
    """The mean of F1 over the emotions that were labelled or read at all."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _mean(_share(2 * right, confusion.sum(axis=-1) + confusion.sum(axis=-2)))


def calibration_error(bins: NDArray) -> Floats:
    """Expected calibration error: how far confidence is from accuracy, over all faces."""
    faces, right, confidence = np.moveaxis(bins, -1, 0)
    return _share(np.abs(right - confidence).sum(axis=-1), faces.sum(axis=-1))


FIGURES = {
    "accuracy": lambda confusion, bins: accuracy(confusion),
    "mean_recall": lambda confusion, bins: mean_recall(confusion),
    "macro_f1": lambda confusion, bins: macro_f1(confusion),
    "ece": lambda confusion, bins: calibration_error(bins),
}
"""Each takes ``confusion`` and ``bins`` with the same leading axes."""


def _share(part: NDArray, whole: NDArray) -> Floats:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: Floats) -> Floats:
    """The mean over the last axis of what is not NaN."""
    known = ~np.isnan(values)
    return _share(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
