"""Data of the interactive timelines of a report."""

from typing import Any

import numpy as np

from fer_ros.evaluation.predictions import NO_LABEL, PredictionTable

MAX_FACES = 8
"""Faces in one timeline: those with the most frames."""
MAX_POINTS = 5000
"""Points of one face; of more frames, every n-th is shown."""


def longest_faces(table: PredictionTable) -> list[str]:
    """Track ids of the faces with the most frames, sorted by name."""
    names, counts = np.unique(table.id[table.detected], return_counts=True)
    return sorted(names[np.argsort(-counts, kind="stable")][:MAX_FACES].tolist())


def timeline_data(table: PredictionTable, duration_s: float) -> tuple[dict[str, Any], list[str]]:
    """Timeline of one recording as JSON, and notes about what it leaves out.

    Emotions and labels are indices into EMOTIONS, NO_LABEL for none.
    """
    faces = longest_faces(table)
    num_faces = len(np.unique(table.id[table.detected]))
    notes = []
    if num_faces > len(faces):
        notes.append(f"The {len(faces)} faces with the most frames of {num_faces}.")
    step = 1
    tracks = []
    for name in faces:
        face = table.where(table.id == name)
        face_step = -(-len(face) // MAX_POINTS)
        step = max(step, face_step)
        tracks.append(_track(name, face.where(np.arange(0, len(face), face_step))))
    if step > 1:
        notes.append(f"Of the longest face, one frame in {step} is shown.")
    missed = table.where((table.label != NO_LABEL) & ~table.detected)
    if len(missed):
        notes.append(f"{len(missed)} labels of faces that were not detected are not shown.")
    return {"duration_s": max(duration_s, 0.1), "faces": tracks}, notes


def _track(name: str, face: PredictionTable) -> dict[str, Any]:
    rounded = np.round(face.probabilities, 3)
    return {
        "id": name,
        "times": np.round(face.stamp_s, 3).tolist(),
        "emotions": face.emotion.tolist(),
        "labels": face.label.tolist(),
        "probabilities": [
            [None if np.isnan(value) else float(value) for value in row] for row in rounded
        ],
    }
