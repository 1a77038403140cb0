"""Estimate the head pose from landmarks and the calibration of the camera.

Perspective-n-point on the landmarks that no expression moves. Their positions on an average face
are those of MediaPipe's canonical face model (Apache-2.0), which is in centimeters; the landmarks
are its vertices 168, 197, 5, 4, 98, 2, 327, 33, 133, 362 and 263.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fer_ros.landmarks68 import RIGID

_CANONICAL_CM = np.array(  # left, up, forward
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
# Origin at the sellion, in meters: forward, left, up, the axes of a face in REP-155.
_MODEL_POINTS_M = (_CANONICAL_CM - _CANONICAL_CM[0])[:, [2, 0, 1]] / 100

_FISHEYE = "equidistant"
_CALIBRATE = "calibrate the camera (camera_calibration)"
_MIN_DISTANCE_M, _MAX_DISTANCE_M = 0.01, 1000.0  # of a head; other solutions are none
_NUM_COEFFICIENTS = {
    "plumb_bob": (4, 5, 8, 12, 14),
    "rational_polynomial": (4, 5, 8, 12, 14),
    _FISHEYE: (4,),
}


@dataclass(frozen=True, eq=False)
class CameraIntrinsics:
    """Calibration of a camera.

    ``matrix`` (3, 3); ``distortion`` (D,) are the coefficients of ``model``, one of the distortion
    models of ``sensor_msgs/CameraInfo``; none means that there is no distortion.

    Raises:
        ValueError: the camera is not calibrated, the model is unknown, or the number of
            coefficients is not one of this model.
    """

    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    model: str = "plumb_bob"

    def __post_init__(self) -> None:
        if not np.isfinite(self.matrix).all() or not np.isfinite(self.distortion).all():
            raise ValueError(f"the calibration is not finite; {_CALIBRATE}")
        if self.matrix[0, 0] <= 0 or self.matrix[1, 1] <= 0:
            raise ValueError(f"the camera is not calibrated: its focal length is 0; {_CALIBRATE}")
        count = len(self.distortion)
        if not count:
            return
        if self.model not in _NUM_COEFFICIENTS:
            known = ", ".join(_NUM_COEFFICIENTS)
            raise ValueError(f"distortion model: expected {known}, found {self.model!r}")
        if count not in _NUM_COEFFICIENTS[self.model]:
            *others, last = map(str, _NUM_COEFFICIENTS[self.model])
            expected = f"{', '.join(others)} or {last}" if others else last
            raise ValueError(
                f"distortion of {self.model}: expected {expected} coefficients, found {count}"
            )

    def undistort_normalized(self, points_xy: NDArray[np.float32]) -> NDArray[np.float64]:
        """Pixels (N, 2) as undistorted coordinates at distance 1."""
        points = points_xy.astype(np.float64)[:, None]
        if not len(self.distortion):
            normalized = cv2.undistortPoints(points, self.matrix, None)
        elif self.model == _FISHEYE:
            normalized = cv2.fisheye.undistortPoints(points, self.matrix, self.distortion)
        else:
            normalized = cv2.undistortPoints(points, self.matrix, self.distortion)
        return np.asarray(normalized[:, 0], np.float64)


@dataclass(frozen=True, eq=False)
class HeadPose:
    """Pose of a head in the optical frame of the camera (REP-103): right, down, forward.

    ``position_m`` (3,) is that of the sellion, the root of the nose. ``quaternion_xyzw`` (4,)
    rotates the axes of the face, which are forward, left and up, into the optical frame.
    """

    position_m: NDArray[np.float64]
    quaternion_xyzw: NDArray[np.float64]


def estimate_head_pose(points_xy: NDArray[np.float32], camera: CameraIntrinsics) -> HeadPose | None:
    """Estimate the pose from 68 landmarks (68, 2) in pixels; None if there is no solution.

    Distances are those of a face of average size.
    """
    if not np.isfinite(points_xy).all():
        return None
    identity = np.eye(3)
    try:
        normalized = camera.undistort_normalized(points_xy[list(RIGID)])
        if not np.isfinite(normalized).all():
            return None
        is_solved, rvec, tvec = cv2.solvePnP(
            _MODEL_POINTS_M, normalized, identity, None, flags=cv2.SOLVEPNP_SQPNP
        )
        if not is_solved:
            return None
        rvec, tvec = cv2.solvePnPRefineLM(_MODEL_POINTS_M, normalized, identity, None, rvec, tvec)
    except cv2.error:  # such as all points being equal
        return None
    if not np.isfinite([rvec, tvec]).all():
        return None
    if tvec[2] < _MIN_DISTANCE_M or np.abs(tvec).max() > _MAX_DISTANCE_M:
        return None
    return HeadPose(tvec[:, 0], Rotation.from_rotvec(rvec[:, 0]).as_quat())
