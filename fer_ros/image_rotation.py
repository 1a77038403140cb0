"""Rotation of images by quarter turns, and of results back to the image as it came."""

import cv2
import numpy as np
from numpy.typing import NDArray

_CV2_CODES = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def rotate_image(image: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """Rotate an image (H, W, 3) clockwise by 0, 90, 180 or 270 degrees."""
    return np.asarray(cv2.rotate(image, _CV2_CODES[degrees]), np.uint8) if degrees else image


def rotate_points_back(
    points_xy: NDArray[np.float32], degrees: int, size_wh: tuple[int, int]
) -> NDArray[np.float32]:
    """Points (..., 2) of a rotated image in pixels of the original, whose size is ``size_wh``.

    Coordinates are those of pixel centers.
    """
    return _rotate_back(points_xy, degrees, size_wh[0] - 1, size_wh[1] - 1)


def rotate_box_back(
    box_xyxy: NDArray[np.float32], degrees: int, size_wh: tuple[int, int]
) -> NDArray[np.float32]:
    """A box (4,) of a rotated image in pixels of the original, whose size is ``size_wh``."""
    if not degrees:
        return box_xyxy
    corners = _rotate_back(box_xyxy.reshape(2, 2), degrees, *size_wh)
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def _rotate_back(
    points_xy: NDArray[np.float32], degrees: int, max_x: float, max_y: float
) -> NDArray[np.float32]:
    x, y = points_xy[..., 0], points_xy[..., 1]
    if degrees == 90:
        x, y = y, max_y - x
    elif degrees == 180:
        x, y = max_x - x, max_y - y
    elif degrees == 270:
        x, y = max_x - y, x
    return np.stack([x, y], axis=-1).astype(np.float32)
