"""Differences of the metrics of two sets of predictions, with a paired block bootstrap.

Faces are paired by recording, time and the face that the label names. Consecutive frames are
correlated, so blocks of five seconds are resampled instead of single frames, and both sets get the
same blocks. A difference is significant when the 95% interval of its resamples excludes zero. Fewer
than eight blocks are not enough to decide.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_ros.evaluation.metrics.classification import METRICS, calibration_bins, confusion_matrix
from fer_ros.evaluation.predictions import PredictionTable

BLOCK_S = 5.0
MIN_BLOCKS = 8
NUM_RESAMPLES = 2000
_CHUNK = 250  # resamples at a time, to limit memory
_SEED = 0

_BlockCounts = tuple[NDArray, NDArray]
"""Confusion matrices (B, 8, 8) and calibration tables (B, 15, 3) of B blocks."""


class PairedComparison(NamedTuple):
    """``faces`` that both predicted, in ``num_blocks`` blocks of five seconds.

    ``relabeled`` is the number of faces that have another label in the second predictions; they are
    not among ``faces``.
    ``metrics`` has for each of METRICS the values ``first``, ``second``, ``difference``, its 95%
    interval ``low`` to ``high``, and ``significant``, None with too few blocks.
    """

    faces: int
    relabeled: int
    num_blocks: int
    metrics: dict[str, dict[str, Any]]


def compare_predictions(
    predictions: Sequence[tuple[PredictionTable, PredictionTable]],
) -> PairedComparison:
    """Compare the first and the second predictions of each recording.

    Without a face that both predicted, ``faces`` is 0 and ``metrics`` empty.
    """
    paired = [_pair_faces(first, second) for first, second in predictions]
    relabeled = sum(count for _, _, count in paired)
    pairs = [(first, second) for first, second, _ in paired if len(first)]
    if not pairs:
        return PairedComparison(0, relabeled, 0, {})
    counts = [_count_blocks([pair[k] for pair in pairs]) for k in (0, 1)]
    differences = _bootstrap_differences(counts)
    return PairedComparison(
        sum(len(faces) for faces, _ in pairs),
        relabeled,
        len(counts[0][0]),
        {name: _metric(name, counts, differences[name]) for name in METRICS},
    )


def _pair_faces(
    first: PredictionTable, second: PredictionTable
) -> tuple[PredictionTable, PredictionTable, int]:
    """Rows of the faces that both predicted, in the same order; the number of relabeled ones."""
    first, second = (table.where(table.is_scored) for table in (first, second))
    row_of = {key: row for row, key in enumerate(_keys(second))}
    rows = [(row, row_of[key]) for row, key in enumerate(_keys(first)) if key in row_of]
    first_rows, second_rows = np.array(rows, np.int64).reshape(-1, 2).T
    first, second = first.where(first_rows), second.where(second_rows)
    is_same = first.label == second.label
    return first.where(is_same), second.where(is_same), int((~is_same).sum())


def _keys(table: PredictionTable) -> list[tuple[float, str]]:
    return list(zip(table.stamp_s.tolist(), table.target_face.tolist(), strict=True))


def _count_blocks(tables: list[PredictionTable]) -> _BlockCounts:
    confusions, bins = [], []
    for table in tables:
        block = (table.stamp_s // BLOCK_S).astype(int)
        for number in np.unique(block):
            part = table.where(block == number)
            confusions.append(confusion_matrix(part.label, part.emotion))
            bins.append(calibration_bins(part.label, part.probabilities))
    return np.array(confusions), np.array(bins)


def _bootstrap_differences(counts: list[_BlockCounts]) -> dict[str, NDArray[np.float64]]:
    """Differences (NUM_RESAMPLES,) of each metric, second minus first."""
    random = np.random.default_rng(_SEED)
    num_blocks = len(counts[0][0])
    differences: dict[str, list[NDArray]] = {name: [] for name in METRICS}
    for _ in range(0, NUM_RESAMPLES, _CHUNK):
        weights = random.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=_CHUNK)
        resampled = [[np.tensordot(weights, table, 1) for table in run] for run in counts]
        for name, metric in METRICS.items():
            differences[name].append(metric(*resampled[1]) - metric(*resampled[0]))
    return {name: np.concatenate(chunks) for name, chunks in differences.items()}


def _metric(
    name: str, counts: list[_BlockCounts], differences: NDArray[np.float64]
) -> dict[str, Any]:
    first, second = (float(METRICS[name](*(table.sum(axis=0) for table in run))) for run in counts)
    low, high = np.nanpercentile(differences, (2.5, 97.5)).tolist()
    has_enough_blocks = len(counts[0][0]) >= MIN_BLOCKS
    return {
        "first": round(first, 5),
        "second": round(second, 5),
        "difference": round(second - first, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "significant": (low > 0 or high < 0) if has_enough_blocks else None,
    }
