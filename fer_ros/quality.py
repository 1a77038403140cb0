"""Is this face good enough to be read, and if not, why."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.config import QualityConfig
from fer_ros.types import TrackedFace

_EYE_CORNERS, _NOSE_TIP = (36, 45), 30  # iBUG-68


def why_unusable(
    face: TrackedFace,
    points_xy: NDArray[np.float32],
    crop_rgb: NDArray[np.uint8],
    config: QualityConfig,
) -> str:
    """The first reason against reading the face, with what was found and needed; "" is usable.

    ``points_xy``: its 68 landmarks (68, 2), in pixels of the frame or of the crop; ``crop_rgb``:
    the face as the network sees it (112, 112, 3).
    """
    size_px = float((face.box_xyxy[2:] - face.box_xyxy[:2]).min())
    if size_px < config.min_size_px:
        return f"too small: {size_px:.0f} px, need {config.min_size_px:.0f}"
    if face.score < config.min_score:
        return f"unsure detection: score {face.score:.2f}, need {config.min_score:.2f}"
    if not np.isfinite(points_xy).all():
        return "no landmarks: the network gave no finite points"
    turn_deg = abs(yaw_deg(points_xy))
    if turn_deg > config.max_yaw_deg:
        return f"turned away: {turn_deg:.0f} degrees, at most {config.max_yaw_deg:.0f}"
    if config.min_sharpness > 0 and (found := sharpness(crop_rgb)) < config.min_sharpness:
        return f"blurred: sharpness {found:.0f}, need {config.min_sharpness:.0f}"
    return ""


def sharpness(crop_rgb: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of a face's luma (Pech-Pacheco et al., 2000), 0 and more."""
    grey = cv2.cvtColor(crop_rgb, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def yaw_deg(points_xy: NDArray[np.float32]) -> float:
    """Turn of the head in degrees, positive towards the right of the picture, in -90..90.

    Seen from above, the nose tip stands before the middle between the outer eye corners, on an
    average face about as far as each corner is from that middle. A turn by ``a`` moves the tip
    sideways by ``depth * sin(a)`` along the line of the eyes and shortens the half distance of the
    corners to ``half * cos(a)``; with ``depth = half`` their ratio is ``tan(a)``, whatever the size
    and the roll of the face.
    """
    left, right = points_xy[list(_EYE_CORNERS)].astype(np.float64)
    across = right - left
    middle_to_nose = points_xy[_NOSE_TIP] - (left + right) / 2
    return float(np.degrees(np.arctan2(middle_to_nose @ across, across @ across / 2)))
