"""Quality gate: decide whether a face is readable.

Size and detection score are checked before the network, so that a rejected face costs no inference.
Head yaw and blur need landmarks and the aligned crop, and are checked after it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.config import QualityConfig
from fer_ros.landmarks68 import NOSE_TIP, OUTER_EYE_CORNERS
from fer_ros.types import TrackedFace


def detection_rejection(face: TrackedFace, config: QualityConfig) -> str:
    """Return why a detection is too small or too uncertain to be readable; "" if it is neither."""
    size_px = float((face.box_xyxy[2:] - face.box_xyxy[:2]).min())
    if size_px < config.min_size_px:
        return f"too small: {size_px:.0f} px, minimum {config.min_size_px:.0f}"
    if face.score < config.min_score:
        return f"low detection score: {face.score:.2f}, minimum {config.min_score:.2f}"
    return ""


def landmark_rejection(
    points_xy: NDArray[np.float32], crop_rgb: NDArray[np.uint8], config: QualityConfig
) -> str:
    """Return why a face is not readable by its landmarks and crop; "" if it is.

    Args:
        points_xy: 68 landmarks (68, 2), in pixels of the frame or of the crop; NaN from a network
            without landmarks, whose faces have no yaw.
        crop_rgb: aligned crop (112, 112, 3) of the face.
    """
    if not np.isnan(points_xy).all():
        if not np.isfinite(points_xy).all():
            return "no landmarks: the network output is not finite"
        turn_deg = abs(yaw_deg(points_xy))
        if turn_deg > config.max_yaw_deg:
            return f"turned away: {turn_deg:.0f} degrees, maximum {config.max_yaw_deg:.0f}"
    if config.min_laplacian_variance > 0:
        variance = laplacian_variance(crop_rgb)
        if variance < config.min_laplacian_variance:
            minimum = config.min_laplacian_variance
            return f"blurred: Laplacian variance {variance:.0f}, minimum {minimum:.0f}"
    return ""


def laplacian_variance(crop_rgb: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of a crop's luma (Pech-Pacheco et al., 2000), 0 and more."""
    gray = cv2.cvtColor(crop_rgb, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(gray, cv2.CV_32F).var())


def yaw_deg(points_xy: NDArray[np.float32]) -> float:
    """Estimate the yaw of the head in degrees, -90..90, positive towards the right of the image.

    Seen from above, the nose tip of an average face is about as far in front of the midpoint of the
    outer eye corners as each corner is from that midpoint. A turn by ``a`` moves the tip sideways
    by ``depth * sin(a)`` along the eye line and shortens the half distance of the corners to
    ``half * cos(a)``. With ``depth = half`` their ratio is ``tan(a)``, at any scale and roll.

    Args:
        points_xy: 68 landmarks (68, 2).
    """
    left, right = points_xy[list(OUTER_EYE_CORNERS)].astype(np.float64)
    eye_line = right - left
    midpoint_to_nose = points_xy[NOSE_TIP] - (left + right) / 2
    return float(np.degrees(np.arctan2(midpoint_to_nose @ eye_line, eye_line @ eye_line / 2)))
