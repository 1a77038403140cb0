"""Pictures of single faces for others to look at; the networks see those of ``align``."""

import cv2
import numpy as np
from numpy.typing import NDArray

_EYES = ((36, 42), (42, 48))  # iBUG-68: where the points of each eye begin and end
_OPEN_EYE = 0.25  # height by width from which on a pupil is surely seen


def portrait(
    image_rgb: NDArray[np.uint8],
    box_xyxy: NDArray[np.float32],
    side_px: int,
    roll_rad: float = 0.0,
) -> NDArray[np.uint8]:
    """The square around a face (side_px, side_px, 3), black where the picture (H, W, 3) ends.

    ``box_xyxy`` (4,) in pixels; its longer side fills the square. The picture is turned back by
    ``roll_rad`` around the middle of the box.
    """
    low, high = box_xyxy[:2].astype(np.float64), box_xyxy[2:].astype(np.float64)
    face_px = max(float((high - low).max()), 1.0)
    # Reduced by area averaging first, as large as a turned square needs it.
    room_px = face_px * (np.sqrt(2) if roll_rad else 1.0)
    room = _padded(image_rgb, (low + high) / 2, room_px)
    side_of_room = round(side_px * room_px / face_px)
    reduced = cv2.resize(room, (side_of_room, side_of_room), interpolation=cv2.INTER_AREA)
    middle = ((side_of_room - 1) / 2, (side_of_room - 1) / 2)
    back = cv2.getRotationMatrix2D(middle, np.degrees(roll_rad), 1.0)
    back[:, 2] += (side_px - 1) / 2 - middle[0]
    return np.asarray(cv2.warpAffine(reduced, back, (side_px, side_px)), np.uint8)


def roll_rad(points_xy: NDArray[np.float32]) -> float:
    """The angle between the line of the eyes and the horizontal; clockwise is positive.

    ``points_xy``: 68 landmarks (68, 2).
    """
    left, right = eye_centres(points_xy)
    across = right - left
    return float(np.arctan2(across[1], across[0]))


def eye_centres(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middles (2, 2) of the eye on the left of the picture and of the one on the right."""
    return np.stack([points_xy[begin:end].mean(axis=0) for begin, end in _EYES])


def eye_openness(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Height by width (2,) of both eyes, about 0.3 open, 0 closed or where an eye has no width.

    The eye aspect ratio of Soukupova and Cech, Real-Time Eye Blink Detection using Facial
    Landmarks, 2016, equation 1.
    """
    ratios = np.zeros(2, np.float32)
    for i, (begin, end) in enumerate(_EYES):
        eye = points_xy[begin:end].astype(np.float64)
        width = np.linalg.norm(eye[3] - eye[0])
        heights = np.linalg.norm(eye[1] - eye[5]) + np.linalg.norm(eye[2] - eye[4])
        if width > 0:
            ratios[i] = heights / (2 * width)
    return ratios


def with_pupils(points_xy: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The points (70, 2) of REP-155 and how surely each is seen (70,), 0..1.

    68 landmarks (68, 2), which are there, and the pupils. A pupil is taken to be in the middle of
    its eye; the more the eye closes, the less of it is seen.
    """
    seen = (eye_openness(points_xy) / _OPEN_EYE).clip(0, 1)
    points = np.concatenate([points_xy, eye_centres(points_xy)])
    return points, np.concatenate([np.ones(len(points_xy), np.float32), seen])


def _padded(
    image: NDArray[np.uint8], middle_xy: NDArray[np.float64], side_px: float
) -> NDArray[np.uint8]:
    """The square of whole pixels around a point, black outside of the picture."""
    side = max(1, round(side_px))
    left, top = np.round(middle_xy - side / 2).astype(int)
    square = np.zeros((side, side, 3), np.uint8)
    height, width = image.shape[:2]
    x0, x1 = np.clip((left, left + side), 0, width)
    y0, y1 = np.clip((top, top + side), 0, height)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return square
