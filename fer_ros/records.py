"""Results as plain numbers for JSON lines: the same record from files and from the robot."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.labels import EMOTIONS
from fer_ros.types import FaceEmotion


def to_record(source: str, stamp_s: float, faces: list[FaceEmotion]) -> dict[str, Any]:
    """One image as a JSON object: its name, its time and its faces. Pixels are of the frame."""
    return {
        "source": source,
        "stamp_s": round(stamp_s, 6),
        "faces": [_face(face) for face in faces],
    }


def _face(face: FaceEmotion) -> dict[str, Any]:
    return {
        "id": face.id,
        "box": _numbers(face.box_xyxy, 2),
        "score": round(face.score, 4),
        "emotion": face.emotion,
        "probabilities": dict(zip(EMOTIONS, _numbers(face.probabilities, 5), strict=True)),
        "landmarks": _numbers(face.points_xy, 2) if np.isfinite(face.points_xy).all() else None,
        "usable": face.usable,
        "why": face.why,
    }


def _numbers(values: NDArray[np.float32], digits: int) -> list:
    return values.astype(np.float64).round(digits).tolist()
