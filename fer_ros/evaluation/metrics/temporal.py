"""Temporal metrics: detection recall, label stability and latency, from additive counts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from fer_ros.evaluation.predictions import NO_LABEL, PredictionTable

MAX_GAP_S = 1.0
"""A longer pause between two frames of a face starts a new segment."""


@dataclass(frozen=True)
class TemporalCounts:
    """Counts of one recording, or the sum of several.

    Attributes:
        labeled_faces: Labels that hold for a frame; ``detected_faces`` of these were detected,
            ``readable_faces`` have a predicted emotion as well.
        predicted_s: Seconds during which a face had an emotion.
        segments: Number of segments of one emotion; ``label_flips`` of these followed another
            emotion of the same face without a gap.
        id_switches: Times a labeled face continued under another track id.
        label_changes: Transitions from one ground-truth label of a face to the next.
        time_to_correct_s: For each transition that was predicted correctly before the label ended:
            seconds until the first correct prediction.
    """

    frames: int = 0
    frames_with_face: int = 0
    labeled_faces: int = 0
    detected_faces: int = 0
    readable_faces: int = 0
    predicted_s: float = 0.0
    segments: int = 0
    label_flips: int = 0
    id_switches: int = 0
    label_changes: int = 0
    time_to_correct_s: list[float] = field(default_factory=list)

    def __add__(self, other: "TemporalCounts") -> "TemporalCounts":
        names = [column.name for column in fields(self)]
        return TemporalCounts(*(getattr(self, name) + getattr(other, name) for name in names))

    def metrics(self) -> dict[str, float | int | None]:
        """Metrics by name (docs/evaluation.md); None where there is nothing to measure."""
        latencies = self.time_to_correct_s
        return {
            "frames": self.frames,
            "frames_with_face": _ratio(self.frames_with_face, self.frames),
            "detection_recall": _ratio(self.detected_faces, self.labeled_faces),
            "readable_rate": _ratio(self.readable_faces, self.labeled_faces),
            "label_flips_per_min": _ratio(60 * self.label_flips, self.predicted_s),
            "mean_label_duration_s": _ratio(self.predicted_s, self.segments),
            "id_switches": self.id_switches if self.labeled_faces else None,
            "label_changes": self.label_changes,
            "label_changes_missed": self.label_changes - len(latencies),
            "median_time_to_correct_s": float(np.median(latencies)) if latencies else None,
        }


def count(table: PredictionTable, frames: int) -> TemporalCounts:
    """Count one recording that has ``frames`` frames."""
    labeled = table.label != NO_LABEL
    stability = [_label_stability(table.where(rows)) for rows in _groups(table.id, table.detected)]
    targets = [table.where(rows) for rows in _groups(table.target_face, labeled)]
    latency = [_label_latency(target) for target in targets]
    return TemporalCounts(
        frames=frames,
        frames_with_face=len(np.unique(table.stamp_s[table.detected])),
        labeled_faces=int(labeled.sum()),
        detected_faces=int((labeled & table.detected).sum()),
        readable_faces=int(table.is_scored.sum()),
        predicted_s=sum(seconds for seconds, _, _ in stability),
        segments=sum(segments for _, segments, _ in stability),
        label_flips=sum(flips for _, _, flips in stability),
        id_switches=sum(_id_switches(target) for target in targets),
        label_changes=sum(changes for changes, _ in latency),
        time_to_correct_s=[seconds for _, times_s in latency for seconds in times_s],
    )


def segments(table: PredictionTable, values: NDArray) -> list[NDArray[np.int64]]:
    """Split the rows of one face, in time order, where ``values`` (N,) change or time pauses."""
    cuts = (values[1:] != values[:-1]) | (np.diff(table.stamp_s) > MAX_GAP_S)
    return np.split(np.arange(len(table)), np.flatnonzero(cuts) + 1) if len(table) else []


def _groups(names: NDArray[np.str_], keep: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    for name in np.unique(names[keep]):
        yield np.flatnonzero(keep & (names == name))


def _label_stability(table: PredictionTable) -> tuple[float, int, int]:
    """Seconds with an emotion, segments of one emotion, and label flips of one track."""
    table = table.where(table.emotion != NO_LABEL)
    presences = segments(table, np.zeros(len(table)))
    seconds = sum(float(table.stamp_s[rows[-1]] - table.stamp_s[rows[0]]) for rows in presences)
    num_segments = len(segments(table, table.emotion))
    return round(seconds, 6), num_segments, num_segments - len(presences)


def _id_switches(table: PredictionTable) -> int:
    switches = 0
    for rows in segments(table, np.zeros(len(table))):
        ids = table.id[rows][table.detected[rows]]
        switches += int((ids[1:] != ids[:-1]).sum())
    return switches


def _label_latency(table: PredictionTable) -> tuple[int, list[float]]:
    """Label transitions of one labeled face, and the seconds to each first correct prediction.

    The first segment, and the first one after a gap, are no transitions.
    """
    changes, times_s = 0, []
    for presence in segments(table, np.zeros(len(table))):
        face = table.where(presence)
        for rows in segments(face, face.label)[1:]:
            changes += 1
            correct = rows[face.emotion[rows] == face.label[rows]]
            if len(correct):
                times_s.append(round(float(face.stamp_s[correct[0]] - face.stamp_s[rows[0]]), 6))
    return changes, times_s


def _ratio(part: float, total: float) -> float | None:
    return part / total if total else None
