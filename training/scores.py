"""How good probabilities are against labels, with intervals of 95 %.

A recall has Wilson's interval (Wilson, 1927, Journal of the American Statistical Association
22:209), which holds for few pictures and for shares of 0 and 1, too. Accuracy and mean recall have
the percentile interval of a bootstrap over the pictures (Efron and Tibshirani, 1993, chapter 13):
``RESAMPLES`` of them with a fixed seed. Which pictures a resample holds matters to both only by
their counts in the confusion, so those are what is drawn.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.evaluation.metrics import (
    FIGURES,
    accuracy,
    bin_confidences,
    calibration_error,
    count_bins,
    count_confusion,
    mean_recall,
    recalls,
)
from fer_ros.labels import EMOTIONS

RESAMPLES = 2000
SEED = 0
FLOOR = 1e-9  # a probability of 0 would cost infinitely much
_LEVELS = (2.5, 97.5)  # percentiles
_Z = 1.959964  # of the normal distribution, for 95 %
_DIGITS = 4

Floats = NDArray[np.floating]


def scores(
    probabilities: Floats, labels: NDArray[np.int64], votes: Floats | None = None
) -> dict[str, Any]:
    """The figures of probabilities (N, 8) against labels (N,), places in EMOTIONS.

    ``votes`` (N, 8): the distribution over the emotions that people saw; with it there are
    ``ece_to_votes``, where an answer is as right as the share of people who gave it (FER-C,
    arXiv 2312.11542), and ``kl_to_votes``. ``nll`` and that divergence are in nats, ``brier`` is
    in 0..2. Rows of the confusion are labels; ``bins`` as in ``fer_ros.evaluation.metrics``. What
    there is no picture for is None. ValueError when there is no picture at all.
    """
    if len(labels) == 0:
        raise ValueError("expected labelled faces to score, found none")
    confusion = count_confusion(labels, probabilities.argmax(axis=1))
    bins = count_bins(labels, probabilities)
    found: dict[str, Any] = {"pictures": len(labels)}
    found |= {name: _rounded(figure(confusion, bins)) for name, figure in FIGURES.items()}
    found |= {f"{name}_interval": both for name, both in bootstrap(confusion).items()}
    found |= _of_probabilities(probabilities.astype(np.float64), labels, votes)
    ends = zip(*wilson(np.diagonal(confusion), confusion.sum(axis=1)), strict=True)
    intervals = [[_rounded(low), _rounded(high)] for low, high in ends]
    return found | {
        "recall": dict(zip(EMOTIONS, map(_rounded, recalls(confusion)), strict=True)),
        "recall_interval": dict(zip(EMOTIONS, intervals, strict=True)),
        "confusion": confusion.tolist(),
        "bins": np.round(bins, _DIGITS).tolist(),
    }


def wilson(right: NDArray[np.integer], total: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Both ends (N,) of the interval of the shares right / total (N,); NaN where total is 0."""
    right, total = np.asarray(right, np.float64), np.where(total > 0, total, np.nan)
    middle = right + _Z**2 / 2
    spread = _Z * np.sqrt(right * (total - right) / total + _Z**2 / 4)
    low, high = ((middle + sign * spread) / (total + _Z**2) for sign in (-1, 1))
    return low.clip(0, 1), high.clip(0, 1)


def bootstrap(confusion: NDArray[np.int64]) -> dict[str, list[float | None]]:
    """Both ends of the intervals of accuracy and mean recall, from a confusion (8, 8)."""
    total = int(confusion.sum())
    random = np.random.default_rng(SEED)
    drawn = random.multinomial(total, confusion.ravel() / total, size=RESAMPLES)
    tables = drawn.reshape(-1, *confusion.shape)
    figures = {"accuracy": accuracy(tables), "mean_recall": mean_recall(tables)}
    return {
        name: [_rounded(end) for end in np.percentile(values, _LEVELS)]
        for name, values in figures.items()
    }


def _of_probabilities(
    probabilities: Floats, labels: NDArray[np.int64], votes: Floats | None
) -> dict[str, float | None]:
    surprise = -np.log(probabilities.clip(FLOOR))
    off = probabilities - np.eye(len(EMOTIONS))[labels]
    found = {
        "nll": _rounded(surprise[np.arange(len(labels)), labels].mean()),
        "brier": _rounded((off**2).sum(axis=1).mean()),
    }
    if votes is not None:
        agreed = votes[np.arange(len(votes)), probabilities.argmax(axis=1)]
        error = calibration_error(bin_confidences(agreed, probabilities))
        found["ece_to_votes"] = _rounded(error)
        divergence = votes * (np.log(votes.clip(FLOOR)) + surprise)
        found["kl_to_votes"] = _rounded(divergence.sum(axis=1).mean())
    return found


def _rounded(value: Floats | float) -> float | None:
    """Strict JSON has no NaN."""
    return None if np.isnan(value) else round(float(value), _DIGITS)


SCORE_HEAD = (
    "pictures",
    "accuracy (95 %)",
    "mean recall (95 %)",
    "macro F1",
    "ECE",
    "ECE to the votes",
    "NLL",
    "Brier",
    "KL to the votes",
)
"""Over ``score_cells``."""

RECALL_HEAD = ("emotion", "pictures", "recall (95 %)", "most often taken for")
"""Over ``recall_rows``."""


def score_cells(found: dict[str, Any]) -> list[str]:
    """The figures of ``scores`` as a row of a table."""
    ranges = (_range(found[key], found[f"{key}_interval"]) for key in ("accuracy", "mean_recall"))
    numbers = (found.get(key) for key in ("ece", "ece_to_votes", "nll", "brier", "kl_to_votes"))
    return [
        str(found["pictures"]),
        *ranges,
        f"{found['macro_f1']:.1%}",
        *("-" if number is None else f"{number:.3f}" for number in numbers),
    ]


def recall_rows(found: dict[str, Any]) -> list[list[str]]:
    """Of the figures of ``scores``, a row for each emotion that there are pictures of."""
    rows = []
    for index, (row, name) in enumerate(zip(found["confusion"], EMOTIONS, strict=True)):
        others = [*row[:index], 0, *row[index + 1 :]]
        taken_for = EMOTIONS[int(np.argmax(others))] if any(others) else "-"
        if sum(row):
            recall = _range(found["recall"][name], found["recall_interval"][name])
            rows.append([name, str(sum(row)), recall, taken_for])
    return rows


def confusions(found: dict[str, Any], most: int) -> list[str]:
    """Of the figures of ``scores``, the largest shares of a label that were read as another one.

    In words, the largest first, with intervals; so many at most.
    """
    counts = np.array(found["confusion"])
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    total = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    shares = wrong / np.maximum(total, 1)
    low, high = wilson(wrong, total)
    places = [divmod(int(place), len(counts)) for place in np.argsort(-shares, axis=None)[:most]]
    return [
        f"{EMOTIONS[label]} is read as {EMOTIONS[seen]} in "
        f"{_range(shares[label, seen], [low[label, seen], high[label, seen]])} of its "
        f"{total[label, seen]} pictures"
        for label, seen in places
        if wrong[label, seen]
    ]


def told_recalls(found: dict[str, Any], least: int, most: float = math.inf) -> list[str]:
    """Of the figures of ``scores``, in words, some recalls with their intervals.

    Of the emotions that have at least ``least`` pictures and fewer than ``most``.
    """
    rows = zip(found["confusion"], EMOTIONS, strict=True)
    return [
        f"{name} {_range(found['recall'][name], found['recall_interval'][name])} of {sum(row)}"
        for row, name in rows
        if least <= sum(row) < most
    ]


def _range(share: float, ends: list[float]) -> str:
    low, high = (f"{100 * end:.1f}" for end in ends)
    return f"{share:.1%} ({low} to {high})"
