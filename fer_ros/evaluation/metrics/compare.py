"""Compare two runs over the same recordings with a paired block bootstrap.

Faces are paired by recording, time and label. Consecutive frames are correlated, so blocks of five
seconds are resampled instead of single frames, and both runs get the same blocks. A difference is
significant when the 95 % interval of its resamples excludes zero. Fewer than eight blocks are not
enough to decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.metrics.classification import METRICS, calibration_bins, confusion_matrix
from fer_ros.evaluation.predictions import PredictionTable
from fer_ros.evaluation.replay import EvaluationResult
from fer_ros.evaluation.report.results import RESULTS
from fer_ros.evaluation.result_cache import load
from fer_ros.io.json_file import read_json

BLOCK_S = 5.0
MIN_BLOCKS = 8
NUM_RESAMPLES = 2000
_CHUNK = 250  # resamples at a time, to limit memory
_SEED = 0

_BlockCounts = tuple[NDArray, NDArray]
"""Confusion matrices (B, 8, 8) and calibration tables (B, 15, 3) of B blocks."""


class RunError(EvaluationError):
    """A folder holds no run that can be compared. The message is one line."""


@dataclass(frozen=True)
class Run:
    """The results document of a run, and the result of each recording by name."""

    folder: Path
    summary: dict[str, Any]
    results: dict[str, EvaluationResult]


def read_run(folder: Path) -> Run:
    """Read what ``fer evaluate-bag --out FOLDER`` wrote. Raises RunError."""
    try:
        summary = read_json(folder / RESULTS)
        names = [*summary["bags"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{folder}: expected a run with {RESULTS}, found none; create one with "
            f"fer evaluate-bag --out {folder}"
        ) from None
    results = {}
    for name in names:
        result = load(folder / "bags" / name)
        if result is None:
            raise RunError(f"{folder}: bags/{name} is damaged or missing; evaluate it again")
        results[name] = result
    return Run(folder, summary, results)


def compare(first: Run, second: Run) -> dict[str, Any]:
    """Compare both runs on the faces that both predicted.

    Raises RunError when there is no such face.
    """
    pairs = [
        _pair_faces(first.results[name].predictions, second.results[name].predictions)
        for name in first.results
        if name in second.results
    ]
    pairs = [pair for pair in pairs if len(pair[0])]
    if not pairs:
        raise RunError(
            f"{first.folder} and {second.folder}: no labeled face of the same recording and time "
            "was predicted in both"
        )
    counts = [_count_blocks([pair[k] for pair in pairs]) for k in (0, 1)]
    differences = _bootstrap_differences(counts)
    only = {
        "first": sorted(set(first.results) - set(second.results)),
        "second": sorted(set(second.results) - set(first.results)),
    }
    return {
        "first": _describe(first),
        "second": _describe(second),
        "only_in": only,
        "faces": sum(len(faces) for faces, _ in pairs),
        "num_blocks": len(counts[0][0]),
        "metrics": {name: _metric(name, counts, differences[name]) for name in METRICS},
        "temporal": {
            name: {"first": value, "second": second.summary["temporal"][name]}
            for name, value in first.summary["temporal"].items()
        },
    }


def _describe(run: Run) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "model": run.summary["model"],
        "sha256": run.summary["sha256"],
        "code": run.summary.get("code", ""),
        "partial": run.summary["partial"],
        "faces": run.summary["classification"]["faces"],
    }


def _pair_faces(
    first: PredictionTable, second: PredictionTable
) -> tuple[PredictionTable, PredictionTable]:
    """Rows of the faces that both predicted, in the same order."""
    first, second = (table.where(table.is_scored) for table in (first, second))
    row_of = {key: row for row, key in enumerate(_keys(second))}
    rows = [(row, row_of[key]) for row, key in enumerate(_keys(first)) if key in row_of]
    first_rows, second_rows = np.array(rows, np.int64).reshape(-1, 2).T
    return first.where(first_rows), second.where(second_rows)


def _keys(table: PredictionTable) -> list[tuple[float, str, int]]:
    columns = table.stamp_s.tolist(), table.target_face.tolist(), table.label.tolist()
    return list(zip(*columns, strict=True))


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


def warnings(comparison: Mapping[str, Any]) -> list[str]:
    """What makes the comparison incomplete or unfair, one line each."""
    lines = []
    if comparison["first"]["code"] != comparison["second"]["code"]:
        lines.append("the runs were evaluated by different versions of the code")
    for run in ("first", "second"):
        if comparison[run]["partial"]:
            lines.append(f"the {run} run is partial: not everything could be evaluated")
        names = comparison["only_in"][run]
        if names:
            lines.append(
                f"{len(names)} recordings are in the {run} run only and not compared, such as "
                f"{names[0]}"
            )
    return lines


def to_text(comparison: Mapping[str, Any]) -> str:
    """Format the comparison as a plain-text table."""
    runs = [comparison[run] for run in ("first", "second")]
    models = [f"model {run['model']}" if run["model"] else "recorded predictions" for run in runs]
    lines = [
        f"first:  {runs[0]['folder']}, {models[0]}",
        f"second: {runs[1]['folder']}, {models[1]}",
        f"{comparison['faces']} faces predicted in both runs, {comparison['num_blocks']} blocks of "
        f"{BLOCK_S:g} s",
    ]
    lines += [f"note: {line}" for line in warnings(comparison)]
    lines += ["", f"{'':<26} {'first':>8} {'second':>8} {'second - first, 95 %':>27}"]
    for name, metric in comparison["metrics"].items():
        interval = f"{metric['difference']:+.1%} ({metric['low']:+.1%} to {metric['high']:+.1%})"
        lines.append(
            f"{name:<26} {metric['first']:8.1%} {metric['second']:8.1%} {interval:>27}  "
            f"{SIGNIFICANCE[metric['significant']]}"
        )
    for name, values in comparison["temporal"].items():
        first, second = ("-" if value is None else f"{value:g}" for value in values.values())
        lines.append(f"{name:<26} {first:>8} {second:>8}")
    return "\n".join(lines)


SIGNIFICANCE = {True: "significant", False: "not significant", None: "too few blocks"}
"""In words, by the value of ``significant``."""
