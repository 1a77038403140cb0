"""Metrics of probabilities against labels, with 95% intervals.

Images of one person are not independent. Where persons are known, all intervals are percentile
intervals of a bootstrap over persons, each with all of its images (cluster bootstrap; Field and
Welsh, 2007, Journal of the Royal Statistical Society B 69:369). Otherwise accuracy and balanced
accuracy have those of a bootstrap over images (Efron and Tibshirani, 1993, chapter 13), and recalls
have Wilson's interval (Wilson, 1927, Journal of the American Statistical Association 22:209), which
is valid for few images and for fractions of 0 and 1. The bootstrap has ``RESAMPLES`` resamples and
a fixed seed; metrics are computed from the confusion matrix of each resample.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.metrics.classification import (
    METRICS,
    accuracy,
    balanced_accuracy,
    calibration_bins,
    confidence_bins,
    confusion_matrix,
    expected_calibration_error,
    per_class_recall,
)

RESAMPLES = 2000
SEED = 0
MIN_PROBABILITY = 1e-9  # the logarithm of 0 is infinite
_LEVELS = (2.5, 97.5)  # percentiles
_Z = 1.959964  # of the normal distribution, for 95%
_DIGITS = 4


def scores(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    votes: NDArray[np.floating] | None = None,
    persons: NDArray[np.str_] | None = None,
) -> dict[str, Any]:
    """Score probabilities (N, 8) against labels (N,), indices into EMOTIONS.

    Args:
        probabilities: (N, 8).
        labels: (N,).
        votes: (N, 8) distributions of the annotators' votes; adds ``ece_to_votes``, which counts a
            prediction as correct by the fraction of annotators who chose it (FER-C, arXiv
            2312.11542), and ``kl_to_votes``.
        persons: (N,) ids, "" where unknown. With two or more of them, intervals are over persons.

    Returns:
        Metrics by name. ``nll`` and ``kl_to_votes`` are in nats, ``brier`` is in 0..2; rows of
        ``confusion`` are labels; ``bins`` as in ``fer_ros.evaluation.metrics.classification``. A
        metric without images is None.

    Raises ValueError when N is 0.
    """
    if len(labels) == 0:
        raise ValueError("expected labeled faces to score, found none")
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1))
    bins = calibration_bins(labels, probabilities)
    metrics: dict[str, Any] = {"images": len(labels)}
    metrics |= {name: _rounded(metric(confusion, bins)) for name, metric in METRICS.items()}
    metrics |= _probability_metrics(probabilities.astype(np.float64), labels, votes)
    metrics["recall"] = dict(zip(EMOTIONS, map(_rounded, per_class_recall(confusion)), strict=True))
    if persons is not None and len(np.unique(persons[persons != ""])) > 1:
        matrices = confusions_of_persons(labels, probabilities.argmax(axis=1), persons)
        metrics |= {"persons": len(matrices), **bootstrap_persons(matrices)}
    else:
        intervals = bootstrap(confusion)
        metrics |= {f"{name}_interval": interval for name, interval in intervals.items()}
        ends = zip(*wilson(np.diagonal(confusion), confusion.sum(axis=1)), strict=True)
        metrics["recall_interval"] = _by_emotion(ends)
    return metrics | {"confusion": confusion.tolist(), "bins": np.round(bins, _DIGITS).tolist()}


def _by_emotion(intervals: Iterable[Sequence[float]]) -> dict[str, list[float | None]]:
    rounded = [[_rounded(low), _rounded(high)] for low, high in intervals]
    return dict(zip(EMOTIONS, rounded, strict=True))


def confusions_of_persons(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], persons: NDArray[np.str_]
) -> NDArray[np.int64]:
    """Confusion matrices (P, 8, 8) of P persons; each image of an unknown person counts as one."""
    _, group = np.unique(persons, return_inverse=True)
    unknown = np.flatnonzero(persons == "")
    group[unknown] = group.max() + 1 + np.arange(len(unknown))
    _, group = np.unique(group, return_inverse=True)
    matrices = np.zeros((group.max() + 1, len(EMOTIONS), len(EMOTIONS)), np.int64)
    np.add.at(matrices, (group, labels, predictions), 1)
    return matrices


def bootstrap_persons(matrices: NDArray[np.int64]) -> dict[str, Any]:
    """Intervals of accuracy, balanced accuracy and recalls from matrices (P, 8, 8) of P persons."""
    count = len(matrices)
    counts = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    tables = (counts @ matrices.reshape(count, -1)).reshape(-1, *matrices.shape[1:])
    intervals: dict[str, Any] = _intervals(tables)
    recall = np.array([per_class_recall(table) for table in tables])
    known = np.isfinite(recall).any(axis=0)
    ends = np.full((len(_LEVELS), len(EMOTIONS)), np.nan)
    ends[:, known] = np.nanpercentile(recall[:, known], _LEVELS, axis=0)
    return {f"{name}_interval": interval for name, interval in intervals.items()} | {
        "recall_interval": _by_emotion(ends.T)
    }


def wilson(
    count: NDArray[np.integer], total: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Both ends (N,) of the interval of the fractions count / total (N,); NaN where total is 0."""
    count, total = np.asarray(count, np.float64), np.where(total > 0, total, np.nan)
    center = count + _Z**2 / 2
    half_width = _Z * np.sqrt(count * (total - count) / total + _Z**2 / 4)
    low, high = ((center + sign * half_width) / (total + _Z**2) for sign in (-1, 1))
    return low.clip(0, 1), high.clip(0, 1)


def bootstrap(confusion: NDArray[np.int64]) -> dict[str, list[float | None]]:
    """Intervals of accuracy and balanced accuracy from a confusion matrix (8, 8)."""
    total = int(confusion.sum())
    random = np.random.default_rng(SEED)
    resamples = random.multinomial(total, confusion.ravel() / total, size=RESAMPLES)
    tables = resamples.reshape(-1, *confusion.shape)
    return _intervals(tables)


def _intervals(tables: NDArray[np.int64]) -> dict[str, list[float | None]]:
    metrics = {"accuracy": accuracy(tables), "balanced_accuracy": balanced_accuracy(tables)}
    return {
        name: [_rounded(end) for end in np.percentile(values, _LEVELS)]
        for name, values in metrics.items()
    }


def _probability_metrics(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    votes: NDArray[np.floating] | None,
) -> dict[str, float | None]:
    surprisal = -np.log(probabilities.clip(MIN_PROBABILITY))
    difference = probabilities - np.eye(len(EMOTIONS))[labels]
    metrics = {
        "nll": _rounded(surprisal[np.arange(len(labels)), labels].mean()),
        "brier": _rounded((difference**2).sum(axis=1).mean()),
    }
    if votes is not None:
        agreement = votes[np.arange(len(votes)), probabilities.argmax(axis=1)]
        error = expected_calibration_error(confidence_bins(agreement, probabilities))
        metrics["ece_to_votes"] = _rounded(error)
        divergence = votes * (np.log(votes.clip(MIN_PROBABILITY)) + surprisal)
        metrics["kl_to_votes"] = _rounded(divergence.sum(axis=1).mean())
    return metrics


def _rounded(value: NDArray[np.floating] | float) -> float | None:
    """Rounded; None for NaN, which strict JSON lacks."""
    return None if np.isnan(value) else round(float(value), _DIGITS)


SCORE_HEAD = (
    "images",
    "accuracy (95%)",
    "balanced accuracy (95%)",
    "macro F1",
    "ECE",
    "ECE to the votes",
    "NLL",
    "Brier",
    "KL to the votes",
)
"""Header of ``score_cells``."""

RECALL_HEAD = ("emotion", "images", "recall (95%)", "most often taken for")
"""Header of ``recall_rows``."""


def score_cells(metrics: dict[str, Any]) -> list[str]:
    """The results of ``scores`` as a row of a table."""
    ranges = (
        _range(metrics[key], metrics[f"{key}_interval"])
        for key in ("accuracy", "balanced_accuracy")
    )
    numbers = (metrics.get(key) for key in ("ece", "ece_to_votes", "nll", "brier", "kl_to_votes"))
    return [
        str(metrics["images"]),
        *ranges,
        f"{metrics['macro_f1']:.1%}",
        *("-" if number is None else f"{number:.3f}" for number in numbers),
    ]


def recall_rows(metrics: dict[str, Any]) -> list[list[str]]:
    """Recall and most frequent confusion of each emotion with images; ``metrics`` of ``scores``."""
    rows = []
    for index, (row, name) in enumerate(zip(metrics["confusion"], EMOTIONS, strict=True)):
        off_diagonal = [*row[:index], 0, *row[index + 1 :]]
        confused_with = EMOTIONS[int(np.argmax(off_diagonal))] if any(off_diagonal) else "-"
        if sum(row):
            recall = _range(metrics["recall"][name], metrics["recall_interval"][name])
            rows.append([name, str(sum(row)), recall, confused_with])
    return rows


def confusions(metrics: dict[str, Any], max_count: int) -> list[str]:
    """The most frequent confusions with their intervals, as text; ``metrics`` of ``scores``."""
    counts = np.array(metrics["confusion"])
    errors = counts * (1 - np.eye(len(counts), dtype=np.int64))
    total = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    fractions = errors / np.maximum(total, 1)
    low, high = wilson(errors, total)
    order = np.argsort(-fractions, axis=None)[:max_count]
    cells = [divmod(int(index), len(counts)) for index in order]
    return [
        f"{EMOTIONS[cell[0]]} is classified as {EMOTIONS[cell[1]]} in "
        f"{_range(fractions[cell], [low[cell], high[cell]])} of its {total[cell]} images"
        for cell in cells
        if errors[cell]
    ]


def format_recalls(
    metrics: dict[str, Any], min_images: int, max_images: float = math.inf
) -> list[str]:
    """Recalls with intervals, as text; ``metrics`` of ``scores``.

    Of emotions with at least ``min_images`` and fewer than ``max_images`` images.
    """
    rows = zip(metrics["confusion"], EMOTIONS, strict=True)
    return [
        f"{name} {_range(metrics['recall'][name], metrics['recall_interval'][name])} of {sum(row)}"
        for row, name in rows
        if min_images <= sum(row) < max_images
    ]


def _range(fraction: float, ends: list[float]) -> str:
    low, high = (f"{100 * end:.1f}" for end in ends)
    return f"{fraction:.1%} ({low} to {high})"
