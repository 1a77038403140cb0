"""Square images of single faces for other nodes (REP-155), and the state of the eyes."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.landmarks68 import LEFT_EYE, RIGHT_EYE
from fer_ros.single_pixel import widen_single_pixel

_OPEN_EYE_RATIO = 0.25  # above it a pupil is visible for certain


def crop_face_square(
    image_rgb: NDArray[np.uint8],
    box_xyxy: NDArray[np.float32],
    side_px: int,
    roll_rad: float = 0.0,
) -> NDArray[np.uint8]:
    """Crop the square around a face (side_px, side_px, 3), black outside the image (H, W, 3).

    The longer side of ``box_xyxy`` (4,), in pixels, fills the square. The image is rotated back by
    ``roll_rad`` around the center of the box.
    """
    low, high = box_xyxy[:2].astype(np.float64), box_xyxy[2:].astype(np.float64)
    face_px = max(float((high - low).max()), 1.0)
    # Reduce by area averaging first, with a margin for the corners of a rotated square.
    source_px = face_px * (np.sqrt(2) if roll_rad else 1.0)
    source = _crop_padded(image_rgb, (low + high) / 2, source_px)
    reduced_side = max(1, round(side_px * source_px / face_px))
    source = widen_single_pixel(source)
    reduced = cv2.resize(source, (reduced_side, reduced_side), interpolation=cv2.INTER_AREA)
    center = ((reduced_side - 1) / 2, (reduced_side - 1) / 2)
    rotation = cv2.getRotationMatrix2D(center, np.degrees(roll_rad), 1.0)
    rotation[:, 2] += (side_px - 1) / 2 - center[0]
    return np.asarray(cv2.warpAffine(reduced, rotation, (side_px, side_px)), np.uint8)


def roll_rad(points_xy: NDArray[np.float32]) -> float:
    """Angle of the eye line to the horizontal, clockwise positive, from 68 landmarks (68, 2)."""
    left, right = eye_centers(points_xy)
    eye_line = right - left
    return float(np.arctan2(eye_line[1], eye_line[0]))


def eye_centers(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centers (2, 2) of the eye on the left of the image and of the one on the right."""
    return np.stack([points_xy[list(eye)].mean(axis=0) for eye in (LEFT_EYE, RIGHT_EYE)])


def eye_aspect_ratio(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Height divided by width (2,) of both eyes: about 0.3 open, 0 closed or without width.

    Eye aspect ratio of Soukupova and Cech, Real-Time Eye Blink Detection using Facial
    Landmarks, 2016, equation 1.
    """
    ratios = np.zeros(2, np.float32)
    for i, indices in enumerate((LEFT_EYE, RIGHT_EYE)):
        eye = points_xy[list(indices)].astype(np.float64)
        width = np.linalg.norm(eye[3] - eye[0])
        heights = np.linalg.norm(eye[1] - eye[5]) + np.linalg.norm(eye[2] - eye[4])
        if width > 0:
            ratios[i] = heights / (2 * width)
    return ratios


def append_pupils(
    points_xy: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Append the pupils to 68 landmarks (68, 2), as REP-155 defines them.

    A pupil is assumed in the center of its eye; the more the eye closes, the less it is visible.

    Returns:
        Points (70, 2) and the visibility of each (70,), 0..1.
    """
    visibility = (eye_aspect_ratio(points_xy) / _OPEN_EYE_RATIO).clip(0, 1)
    points = np.concatenate([points_xy, eye_centers(points_xy)])
    return points, np.concatenate([np.ones(len(points_xy), np.float32), visibility])


def _crop_padded(
    image: NDArray[np.uint8], center_xy: NDArray[np.float64], side_px: float
) -> NDArray[np.uint8]:
    """Crop a square of whole pixels around a point, black outside the image."""
    side = max(1, round(side_px))
    left, top = np.round(center_xy - side / 2).astype(int)
    square = np.zeros((side, side, 3), np.uint8)
    height, width = image.shape[:2]
    x0, x1 = np.clip((left, left + side), 0, width)
    y0, y1 = np.clip((top, top + side), 0, height)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return square
