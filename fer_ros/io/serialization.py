"""Serialize results to JSON: the same record from files and from the robot.

Strict JSON has no NaN: a number that is not finite becomes null. Landmarks that are not all finite
are null as a whole.
"""

import math
from collections.abc import Container
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.blendshapes import BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.types import FaceEmotion


def frame_record(source: str, stamp_s: float, faces: list[FaceEmotion]) -> dict[str, Any]:
    """Return a JSON object of one frame: source, stamp, faces. Coordinates are in frame pixels."""
    return {
        "source": source,
        "stamp_s": round(stamp_s, 6),
        "faces": [_face(face) for face in faces],
    }


def sorted_hypotheses(face: FaceEmotion) -> list[tuple[str, float]]:
    """Return the emotions of a face and their probabilities; empty if it cannot be read.

    The stable label is first, also when another emotion is more probable for the moment. The others
    follow by descending probability.
    """
    if face.emotion is None:
        return []
    hypotheses = zip(EMOTIONS, face.probabilities.tolist(), strict=True)
    return sorted(hypotheses, key=lambda pair: (pair[0] != face.emotion, -pair[1]))


def best_expressible_emotion(
    face: FaceEmotion, expressible: Container[str]
) -> tuple[str, float] | None:
    """Return the emotion to publish where only some can be expressed, and its probability.

    This is the stable label if it is in ``expressible``, else the most probable emotion that is.
    None if the face cannot be read.
    """
    return next((pair for pair in sorted_hypotheses(face) if pair[0] in expressible), None)


def _face(face: FaceEmotion) -> dict[str, Any]:
    record = {
        "id": face.id,
        "box": _numbers(face.box_xyxy, 2),
        "score": _number(face.score, 4),
        "emotion": face.emotion,
        "probabilities": dict(zip(EMOTIONS, _numbers(face.probabilities, 5), strict=True)),
        "landmarks": _points(face.points_xy) if np.isfinite(face.points_xy).all() else None,
        "is_readable": face.is_readable,
        "rejection_reason": face.rejection_reason,
    }
    if face.blendshapes is not None:
        values = _numbers(face.blendshapes, 4)
        record["blendshapes"] = dict(zip(BLENDSHAPES, values, strict=True))
    return record


def _points(points_xy: NDArray[np.float32]) -> list[list[float | None]]:
    return [_numbers(point, 2) for point in points_xy]


def _numbers(values: NDArray[np.float32], digits: int) -> list[float | None]:
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
