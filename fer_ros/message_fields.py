"""Field values of the published messages, without ROS. The node and the bag writer share them."""

from collections.abc import Container
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_ros.blendshapes import ACTION_UNITS, action_units
from fer_ros.emotions import EMOTIONS
from fer_ros.face_images import append_pupils
from fer_ros.types import FaceEmotion

_NUM_ACTION_UNITS = 99  # size of the arrays of hri_msgs/FacialActionUnits


class BoundingBox2D(NamedTuple):
    """Fields of ``vision_msgs/BoundingBox2D``, in pixels."""

    center_x: float
    center_y: float
    size_x: float
    size_y: float


class NormalizedPoint(NamedTuple):
    """Fields of ``hri_msgs/NormalizedPointOfInterest2D``: fractions of the image, confidence."""

    x: float
    y: float
    c: float


class FacialActionUnits(NamedTuple):
    """Fields of ``hri_msgs/FacialActionUnits``: (99,) each, 0..1, by the number of the unit."""

    intensity: NDArray[np.float32]
    confidence: NDArray[np.float32]


def bounding_box(face: FaceEmotion) -> BoundingBox2D:
    """The box of a face."""
    left, top, right, bottom = (float(edge) for edge in face.box_xyxy)
    return BoundingBox2D((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def corners_xyxy(box: Any) -> tuple[float, float, float, float]:
    """Corners of a ``vision_msgs/BoundingBox2D`` message, in pixels."""
    x, y = box.center.position.x, box.center.position.y
    return (
        x - box.size_x / 2,
        y - box.size_y / 2,
        x + box.size_x / 2,
        y + box.size_y / 2,
    )


def sorted_hypotheses(face: FaceEmotion) -> list[tuple[str, float]]:
    """Return the emotions of a face and their probabilities; empty if it is not readable.

    The label is first, also when another emotion is more probable for the moment. The others
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

    This is the label of the face if it is in ``expressible``, else the most probable emotion that
    is. None if the face is not readable.
    """
    return next((pair for pair in sorted_hypotheses(face) if pair[0] in expressible), None)


def normalized_region(
    face: FaceEmotion, size_hw: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax of ``hri_msgs/NormalizedRegionOfInterest2D``, clipped to 0..1."""
    height, width = size_hw
    xmin, ymin, xmax, ymax = (face.box_xyxy / [width, height, width, height]).clip(0, 1).tolist()
    return xmin, ymin, xmax, ymax


def normalized_landmarks(face: FaceEmotion, size_hw: tuple[int, ...]) -> list[NormalizedPoint]:
    """The 70 points of ``hri_msgs/FacialLandmarks``: iBUG-68 and both pupils.

    The confidence of a landmark is that of the face. A pupil is assumed at the center of its eye;
    its confidence falls to 0 as the eye closes. A landmark outside the image is moved to its border
    and has a confidence of 0. Empty when a landmark is not finite.
    """
    if not np.isfinite(face.points_xy).all():
        return []
    height, width = size_hw
    points_xy, visibility = append_pupils(face.points_xy)
    places = points_xy / [width, height]
    clipped = places.clip(0, 1)
    confidences = face.score * visibility * (places == clipped).all(axis=1)
    return [
        NormalizedPoint(x, y, c)
        for (x, y), c in zip(clipped.tolist(), confidences.tolist(), strict=True)
    ]


def facial_action_units(face: FaceEmotion) -> FacialActionUnits | None:
    """Intensity of each FACS action unit that the blendshapes of a face measure.

    Confidence is the score of the face for these units, and 0 for all others. None for a face
    without blendshapes.
    """
    if face.blendshapes is None:
        return None
    units = [*ACTION_UNITS]
    intensity = np.zeros(_NUM_ACTION_UNITS, np.float32)
    confidence = np.zeros(_NUM_ACTION_UNITS, np.float32)
    intensity[units] = action_units(face.blendshapes)
    confidence[units] = face.score
    return FacialActionUnits(intensity, confidence)
