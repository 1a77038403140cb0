"""Results as plain numbers for JSON lines: the same record from files and from the robot.

Strict JSON has no NaN: a number that is not finite becomes null, and landmarks that are not all
finite are null as a whole.
"""

import math
from collections.abc import Container
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


def ranked(face: FaceEmotion) -> list[tuple[str, float]]:
    """The emotions of a face with their probabilities; none when it cannot be read.

    The first is the stable label, which a close second does not replace at once; the others follow
    by their probabilities.
    """
    if face.emotion is None:
        return []
    shares = zip(EMOTIONS, face.probabilities.tolist(), strict=True)
    return sorted(shares, key=lambda pair: (pair[0] != face.emotion, -pair[1]))


def told(face: FaceEmotion, words: Container[str]) -> tuple[str, float] | None:
    """The emotion that is told where only some have ``words``, with its own probability.

    The stable label or, without a word for it, the most probable one of the others. None when the
    face cannot be read.
    """
    return next((pair for pair in ranked(face) if pair[0] in words), None)


def _face(face: FaceEmotion) -> dict[str, Any]:
    return {
        "id": face.id,
        "box": _numbers(face.box_xyxy, 2),
        "score": _number(face.score, 4),
        "emotion": face.emotion,
        "probabilities": dict(zip(EMOTIONS, _numbers(face.probabilities, 5), strict=True)),
        "landmarks": _points(face.points_xy) if np.isfinite(face.points_xy).all() else None,
        "usable": face.usable,
        "why": face.why,
    }


def _points(points_xy: NDArray[np.float32]) -> list[list[float | None]]:
    return [_numbers(point, 2) for point in points_xy]


def _numbers(values: NDArray[np.float32], digits: int) -> list[float | None]:
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
