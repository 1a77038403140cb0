"""Aggregate evaluation results into one JSON document. Two runs write identical bytes."""

import math
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.metrics.classification import (
    METRICS,
    calibration_bins,
    confusion_matrix,
    per_class_recall,
)
from fer_ros.evaluation.metrics.temporal import TemporalCounts, count
from fer_ros.evaluation.predictions import PredictionTable
from fer_ros.evaluation.replay import EvaluationResult

FORMAT = 2
_DIGITS = 5
_PERCENTILES = (50, 95, 99)


def summarize(results: Mapping[str, EvaluationResult], failed: Mapping[str, str]) -> dict[str, Any]:
    """Compute the metrics of all recordings together and of each by its name.

    docs/evaluation.md describes the keys, with their units.
    Nothing in the document depends on the clock, unless images were dropped in realtime mode.

    Args:
        results: Evaluation result of each recording, by name.
        failed: Name of each recording without a result, and its error.
    """
    counts = {name: count(result.predictions, result.frames) for name, result in results.items()}
    first = next(iter(results.values()), None)
    return {
        "format": FORMAT,
        "model": first.model if first else "",
        "sha256": first.sha256 if first else "",
        "code": first.code if first else "",
        "partial": bool(failed) or any(result.errors for result in results.values()),
        **_metrics(results.values(), reduce(add, counts.values(), TemporalCounts())),
        "bags": {
            name: {
                "image_topic": result.image_topic,
                "partial": bool(result.errors),
                "errors": result.errors,
                "warnings": result.warnings,
                **_metrics([result], counts[name]),
            }
            for name, result in results.items()
        },
        "failed": dict(failed),
    }


def _metrics(results: Iterable[EvaluationResult], counts: TemporalCounts) -> dict[str, Any]:
    results = list(results)
    return {
        "images": sum(result.frames for result in results),
        "duration_s": _rounded(sum(result.duration_s for result in results)),
        "dropped": sum(result.dropped for result in results),
        "temporal": {name: _rounded(value) for name, value in counts.metrics().items()},
        "classification": classification([result.predictions for result in results]),
    }


def classification(tables: list[PredictionTable]) -> dict[str, Any]:
    """Compute the classification metrics of all labeled faces that have a prediction.

    The metrics are of the label of the face, which the node publishes; ``raw`` has those of each
    frame alone, where known. Confidence is the largest probability of a face.
    """
    table = PredictionTable.concatenate([table.where(table.is_scored) for table in tables])
    is_raw_known = ~np.isnan(table.raw).any(axis=1)
    raw, raw_labels = table.raw[is_raw_known], table.label[is_raw_known]
    confusion = confusion_matrix(table.label, table.emotion)
    bins = calibration_bins(table.label, table.probabilities)
    recall = zip(EMOTIONS, per_class_recall(confusion).tolist(), strict=True)
    return {
        "faces": len(table),
        **_classification_metrics(confusion, bins),
        "per_class_recall": {name: _rounded(value) for name, value in recall},
        "confusion": confusion.tolist(),
        "calibration_bins": np.round(bins, _DIGITS).tolist(),
        "raw": _classification_metrics(
            confusion_matrix(raw_labels, raw.argmax(axis=1)), calibration_bins(raw_labels, raw)
        ),
    }


def latencies(results: Mapping[str, EvaluationResult]) -> dict[str, Any]:
    """Latency percentiles of each stage in ms on this machine, and the number of dropped images."""
    stages = dict.fromkeys(stage for result in results.values() for stage in result.latency_ms)
    percentiles = {}
    for stage in stages:
        values_ms = np.concatenate(
            [np.array(result.latency_ms.get(stage, [])) for result in results.values()]
        )
        ranks = np.percentile(values_ms, _PERCENTILES) if len(values_ms) else []
        percentiles[stage] = {
            f"p{rank}": round(float(value), 3)
            for rank, value in zip(_PERCENTILES, ranks, strict=False)
        }
    dropped = sum(result.dropped for result in results.values())
    return {"latency_ms": percentiles, "dropped": dropped}


def _classification_metrics(confusion: Any, bins: Any) -> dict[str, Any]:
    return {name: _rounded(float(metric(confusion, bins))) for name, metric in METRICS.items()}


def _rounded(value: float | int | None) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    return round(value, _DIGITS) if math.isfinite(value) else None  # JSON has no NaN
