"""Where a head is and where it faces, from its landmarks and the calibration of the camera.

Perspective-n-point on the landmarks that no expression moves. Their places on an average face are
those of MediaPipe's canonical face model (Apache-2.0), which is in centimetres; the landmarks are
its vertices 168, 197, 5, 4, 98, 2, 327, 33, 133, 362 and 263.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_RIGID = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)  # iBUG-68: nose and corners of the eyes
_CANONICAL_CM = np.array(  # to the person's left, up, forward
    [
        (0.0, 3.271, 5.236),
        (0.0, 1.728, 6.317),
        (0.0, 0.366, 7.243),
        (0.0, -0.463, 7.587),
        (-1.406, -1.714, 5.241),
        (0.0, -2.089, 6.058),
        (1.406, -1.714, 5.241),
        (-4.446, 2.664, 3.173),
        (-1.856, 2.585, 3.758),
        (1.856, 2.585, 3.758),
        (4.446, 2.664, 3.173),
    ]
)
# From the sellion, in metres: forward, to the left, up, as REP-155 has the frame of a face.
_FACE_M = (_CANONICAL_CM - _CANONICAL_CM[0])[:, [2, 0, 1]] / 100
_FISHEYE, _PINHOLE = "equidistant", ("plumb_bob", "rational_polynomial")


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera: matrix (3, 3), distortion (D,) of the model that ROS calls ``model``.

    Raises ValueError, one line, when it is not calibrated or the model is unknown.
    """

    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    model: str = "plumb_bob"

    def __post_init__(self) -> None:
        if self.matrix[0, 0] <= 0 or self.matrix[1, 1] <= 0:
            raise ValueError("the camera is not calibrated: its focal length is 0")
        if len(self.distortion) and self.model not in (_FISHEYE, *_PINHOLE):
            known = ", ".join((*_PINHOLE, _FISHEYE))
            raise ValueError(f"distortion model: expected {known}, got {self.model!r}")

    def rays(self, points_xy: NDArray[np.float32]) -> NDArray[np.float64]:
        """Pixels (N, 2) as they would be at distance 1 without distortion."""
        points = points_xy.astype(np.float64)[:, None]
        if not len(self.distortion):
            flat = cv2.undistortPoints(points, self.matrix, None)
        elif self.model == _FISHEYE:
            flat = cv2.fisheye.undistortPoints(points, self.matrix, self.distortion)
        else:
            flat = cv2.undistortPoints(points, self.matrix, self.distortion)
        return np.asarray(flat[:, 0], np.float64)


@dataclass(frozen=True, eq=False)
class HeadPose:
    """A face as the camera sees it.

    ``position_m`` (3,) of the sellion, the root of the nose, in the optical frame of REP-103: to
    the right, down, forward. ``quaternion_xyzw`` (4,) turns the axes of the face, which are
    forward out of the face, to the person's left and up, into that frame.
    """

    position_m: NDArray[np.float64]
    quaternion_xyzw: NDArray[np.float64]


def head_pose(points_xy: NDArray[np.float32], camera: Camera) -> HeadPose | None:
    """The pose that explains 68 landmarks (68, 2) in pixels best; None when none does.

    Distances are those of a face of average size.
    """
    rays = camera.rays(points_xy[list(_RIGID)])
    if not np.isfinite(rays).all():
        return None
    eye = np.eye(3)
    try:
        found, turn, shift = cv2.solvePnP(_FACE_M, rays, eye, None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:  # points in one place
        return None
    if not found:
        return None
    turn, shift = cv2.solvePnPRefineLM(_FACE_M, rays, eye, None, turn, shift)
    if not np.isfinite([turn, shift]).all() or shift[2] <= 0:
        return None
    return HeadPose(shift[:, 0], _quaternion(turn[:, 0]))


def _quaternion(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a rotation vector (3,): an axis as long as the angle."""
    angle = float(np.linalg.norm(turn))
    axis = turn / angle if angle else turn
    return np.append(axis * np.sin(angle / 2), np.cos(angle / 2))
