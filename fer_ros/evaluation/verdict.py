"""All figures of one or many recordings, as JSON that two runs write alike."""

import math
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from fer_ros.evaluation.metrics import FIGURES, count_bins, count_confusion, recalls
from fer_ros.evaluation.replay import Outcome
from fer_ros.evaluation.table import FaceTable
from fer_ros.evaluation.video import VideoCounts, count
from fer_ros.labels import EMOTIONS

FORMAT = 1
_DIGITS = 5
_PERCENTILES = (50, 95, 99)


def verdict(outcomes: Mapping[str, Outcome], failed: Mapping[str, str]) -> dict[str, Any]:
    """What is known of all recordings together, and of each by its name.

    ``failed``: names of recordings of which there is nothing, and why. Nothing in here depends on
    the clock, unless images were dropped as the node would have.
    """
    counts = {name: count(each.table, each.frames) for name, each in outcomes.items()}
    first = next(iter(outcomes.values()), None)
    return {
        "format": FORMAT,
        "model": first.model if first else "",
        "sha256": first.sha256 if first else "",
        "partial": bool(failed) or any(each.troubles for each in outcomes.values()),
        **_figures(
            [each.table for each in outcomes.values()],
            reduce(add, counts.values(), VideoCounts()),
            outcomes.values(),
        ),
        "bags": {
            name: {
                "image_topic": each.image_topic,
                "partial": bool(each.troubles),
                "troubles": each.troubles,
                "notes": each.notes,
                **_figures([each.table], counts[name], [each]),
            }
            for name, each in outcomes.items()
        },
        "failed": dict(failed),
    }


def _figures(
    tables: list[FaceTable], counts: VideoCounts, outcomes: Iterable[Outcome]
) -> dict[str, Any]:
    outcomes = list(outcomes)
    return {
        "duration_s": _rounded(sum(each.duration_s for each in outcomes)),
        "dropped": sum(each.dropped for each in outcomes),
        "video": {name: _rounded(value) for name, value in counts.figures().items()},
        "scores": scores(tables),
    }


def scores(tables: list[FaceTable]) -> dict[str, Any]:
    """How the faces that have a label were read.

    The figures are of the stable emotion, which is what a robot acts on; ``raw`` has those of each
    image alone, where they are known. Confidence is that of the most probable emotion.
    """
    tables = [table.where(table.scored) for table in tables]
    labels = _joined([table.label for table in tables])
    probabilities = _stacked([table.probabilities for table in tables])
    raw = _stacked([table.raw for table in tables])
    known = ~np.isnan(raw).any(axis=1)
    confusion = count_confusion(labels, _joined([table.emotion for table in tables]))
    bins = count_bins(labels, probabilities)
    own = dict(zip(EMOTIONS, recalls(confusion).tolist(), strict=True))
    return {
        "faces": len(labels),
        **_all_figures(confusion, bins),
        "recall": {name: _rounded(share) for name, share in own.items()},
        "confusion": confusion.tolist(),
        "bins": np.round(bins, _DIGITS).tolist(),
        "raw": _all_figures(
            count_confusion(labels[known], raw[known].argmax(axis=1)),
            count_bins(labels[known], raw[known]),
        ),
    }


def latencies(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Milliseconds of each stage, on the machine that evaluated, and the images dropped."""
    stages = list(dict.fromkeys(stage for each in outcomes.values() for stage in each.latency_ms))
    figures = {}
    for stage in stages:
        spent = _joined([np.array(each.latency_ms.get(stage, [])) for each in outcomes.values()])
        values = np.percentile(spent, _PERCENTILES) if len(spent) else []
        figures[stage] = {
            f"p{rank}": round(float(value), 3)
            for rank, value in zip(_PERCENTILES, values, strict=False)
        }
    return {"latency_ms": figures, "dropped": sum(each.dropped for each in outcomes.values())}


def _all_figures(confusion: Any, bins: Any) -> dict[str, Any]:
    return {name: _rounded(float(figure(confusion, bins))) for name, figure in FIGURES.items()}


def _joined(columns: list[Any]) -> Any:
    return np.concatenate(columns) if columns else np.zeros(0, np.int64)


def _stacked(columns: list[Any]) -> Any:
    return np.concatenate(columns) if columns else np.zeros((0, len(EMOTIONS)))


def _rounded(value: float | int | None) -> float | int | None:
    """Strict JSON has no NaN."""
    if value is None or isinstance(value, int):
        return value
    return round(value, _DIGITS) if math.isfinite(value) else None
