"""Serialize results to JSON: the same record from files and from the robot.

Strict JSON has no NaN: a number that is not finite becomes null. Landmarks that are not all finite
are null as a whole.
"""

import math
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
