"""HTML pages of an evaluation and of a comparison, each one self-contained file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fer_ros.emotions import EMOTION_COLORS, EMOTIONS
from fer_ros.evaluation.comparison import SIGNIFICANCE, Run, warnings
from fer_ros.evaluation.metrics.error_segments import MAX_SEGMENTS
from fer_ros.evaluation.metrics.paired_bootstrap import BLOCK_S
from fer_ros.evaluation.replay import EvaluationResult
from fer_ros.evaluation.report.html import Image, Table, format_value, render
from fer_ros.evaluation.report.timelines import timeline_data

TEMPORAL = {
    "detection_recall": ("labeled faces detected", "share"),
    "readable_rate": ("labeled faces detected and readable", "share"),
    "frames_with_face": ("images with a face", "share"),
    "label_flips_per_min": ("label flips per minute and face", "number"),
    "mean_label_duration_s": ("mean duration of a predicted label", "seconds"),
    "id_switches": ("id switches of labeled faces", "count"),
    "label_changes": ("changes of a ground-truth label", "count"),
    "label_changes_missed": ("of these never predicted", "count"),
    "median_time_to_correct_s": ("median time from a change to its prediction", "seconds"),
}
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error (ECE)",
}


def evaluation_page(
    summary: dict[str, Any],
    latency: dict[str, Any],
    results: Mapping[str, EvaluationResult],
    plots: Mapping[str, bytes],
) -> str:
    """Render the report of one run. ``plots`` are PNG images by name."""
    timelines, sections = {}, []
    ids = {name: f"timeline{number}" for number, name in enumerate(results)}
    for name, result in results.items():
        timelines[ids[name]], notes = timeline_data(result.predictions, result.duration_s)
        sections.append({"id": ids[name], "title": name, "notes": notes})
    scores = summary["classification"]
    return render(
        "evaluation.html",
        summary=_summary_line(summary),
        messages=_messages(summary),
        partial=summary["partial"],
        scores=_scores_table(scores) if scores["faces"] else None,
        recall=_recall_table(scores),
        temporal=_temporal_table(summary["temporal"]),
        plots=[Image(png, name) for name, png in plots.items()],
        segments=_segments(results, ids),
        sections=sections,
        timelines=timelines,
        colors=EMOTION_COLORS,
        bags=_bags_table(summary["bags"]) if len(summary["bags"]) > 1 else None,
        latency=_latency_table(latency["latency_ms"]) if latency["latency_ms"] else None,
    )


def comparison_page(comparison: dict[str, Any], first: Run, second: Run) -> str:
    """Render a comparison with the timelines of both runs of each recording below each other."""
    timelines, sections = {}, []
    shared = [name for name in first.results if name in second.results]
    for number, name in enumerate(shared):
        for label, run in (("first", first), ("second", second)):
            result = run.results[name]
            id_ = f"timeline{number}_{label}"
            timelines[id_], notes = timeline_data(result.predictions, result.duration_s)
            title = f"{name}, {label} run"
            sections.append({"id": id_, "title": title, "notes": notes, "group": f"bag{number}"})
    runs = [
        [label, *(str(comparison[label][key]) for key in ("folder", "model", "code", "faces"))]
        for label in ("first", "second")
    ]
    return render(
        "comparison.html",
        runs=Table(["run", "folder", "model", "code", "predicted labeled faces"], runs),
        messages=warnings(comparison),
        metrics=_comparison_table(comparison["metrics"]),
        summary=f"{comparison['faces']} faces predicted in both runs, {comparison['num_blocks']} "
        f"blocks of {BLOCK_S:g} s.",
        temporal=_temporal_comparison(comparison["temporal"]),
        sections=sections,
        timelines=timelines,
        colors=EMOTION_COLORS,
    )


def _summary_line(summary: dict[str, Any]) -> str:
    model = "recorded predictions"
    if summary["model"]:
        model = f"model {summary['model']} ({summary['sha256'][:12]}...)"
    return (
        f"{len(summary['bags'])} recordings, {summary['duration_s']:.1f} s, {model}: "
        f"{summary['temporal']['frames']} images evaluated, {summary['dropped']} dropped, "
        f"{summary['classification']['faces']} labeled faces predicted."
    )


def _messages(summary: dict[str, Any]) -> list[str]:
    lines = [*summary["failed"].values()]
    for bag in summary["bags"].values():
        lines += [*bag["errors"], *bag["warnings"]]
    return lines


def _scores_table(scores: dict[str, Any]) -> Table:
    rows = [
        [text, format_value(scores[key], "share"), format_value(scores["raw"][key], "share")]
        for key, text in SCORES.items()
    ]
    return Table(["", "smoothed, as published", "each image alone"], rows)


def _recall_table(scores: dict[str, Any]) -> Table:
    rows = [
        [name, format_value(scores["per_class_recall"][name], "share"), str(int(np.sum(row)))]
        for name, row in zip(EMOTIONS, scores["confusion"], strict=True)
        if scores["per_class_recall"][name] is not None
    ]
    return Table(["emotion", "recall", "faces"], rows)


def _temporal_table(temporal: dict[str, Any]) -> Table:
    rows = [[text, format_value(temporal[key], unit)] for key, (text, unit) in TEMPORAL.items()]
    return Table([], rows)


def _temporal_comparison(temporal: dict[str, Any]) -> Table:
    rows = [
        [text, *(format_value(temporal[key][run], unit) for run in ("first", "second"))]
        for key, (text, unit) in TEMPORAL.items()
    ]
    return Table(["", "first", "second"], rows)


def _comparison_table(metrics: dict[str, Any]) -> Table:
    rows = [
        [
            SCORES[name],
            format_value(metric["first"], "share"),
            format_value(metric["second"], "share"),
            f"{metric['difference']:+.1%} ({metric['low']:+.1%} to {metric['high']:+.1%})",
            SIGNIFICANCE[metric["significant"]],
        ]
        for name, metric in metrics.items()
    ]
    return Table(["", "first", "second", "second - first, 95%", ""], rows)


def _bags_table(bags: dict[str, Any]) -> Table:
    rows = [
        [
            name,
            f"{bag['duration_s']:.1f}",
            str(bag["classification"]["faces"]),
            *(format_value(bag["classification"][key], "share") for key in SCORES),
            format_value(bag["temporal"]["detection_recall"], "share"),
        ]
        for name, bag in bags.items()
    ]
    return Table(["recording", "seconds", "faces", *SCORES.values(), "detection recall"], rows)


def _latency_table(latency_ms: dict[str, dict[str, float]]) -> Table:
    ranks = ["p50", "p95", "p99"]
    rows = [
        [stage, *(f"{values[rank]:.1f}" for rank in ranks)] for stage, values in latency_ms.items()
    ]
    return Table(["stage", *ranks], rows)


def _segments(
    results: Mapping[str, EvaluationResult], ids: Mapping[str, str]
) -> list[dict[str, Any]]:
    segments = [
        (name, segment) for name, result in results.items() for segment in result.error_segments
    ]
    segments = sorted(segments, key=lambda pair: -pair[1].weight)[:MAX_SEGMENTS]
    return [
        {
            "timeline": ids[name],
            "time_s": segment.stamp_s,
            "bag": name,
            "face": segment.id,
            "label": segment.label,
            "emotion": segment.emotion,
            "margin": segment.margin,
            "seconds": segment.seconds,
            "image": Image(segment.jpeg, segment.id, "jpeg") if segment.jpeg else None,
        }
        for name, segment in segments
    ]
