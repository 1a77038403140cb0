"""Head pose from landmarks."""

import cv2
import numpy as np
import pytest

from fer_ros.config import PipelineConfig, TrackerConfig
from fer_ros.head_pose import _MODEL_POINTS_M, CameraIntrinsics, estimate_head_pose
from fer_ros.landmarks68 import RIGID
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame

MATRIX = np.array([(600.0, 0, 320), (0, 600, 240), (0, 0, 1)])
PLAIN = CameraIntrinsics(MATRIX, np.zeros(0))
# A face that looks into the camera: forward is against its sight, left is right, up is up.
TOWARDS_US = np.array([(0.0, 1, 0), (0, 0, -1), (-1, 0, 0)])


def axes(quaternion_xyzw):
    """The axes of the face (3, 3), one in each column."""
    x, y, z, w = quaternion_xyzw
    return np.array(
        [
            (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
            (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
            (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
        ]
    )


def turned(about, degrees):
    turn = np.zeros(3)
    turn["xyz".index(about)] = np.radians(degrees)
    return cv2.Rodrigues(turn)[0] @ TOWARDS_US


def seen(rotation, position_m, camera=PLAIN):
    """68 landmarks (68, 2) of an average face; those that may move are anywhere."""
    turn, place = cv2.Rodrigues(rotation)[0], np.array(position_m, float)
    if camera.model == "equidistant":
        places = (_MODEL_POINTS_M @ rotation.T + place)[None]
        zero = np.zeros(3)
        pixels, _ = cv2.fisheye.projectPoints(places, zero, zero, camera.matrix, camera.distortion)
        pixels = pixels[0]
    else:
        pixels = cv2.projectPoints(_MODEL_POINTS_M, turn, place, camera.matrix, camera.distortion)[
            0
        ][:, 0]
    points_xy = np.full((68, 2), 7.0, np.float32)
    points_xy[list(RIGID)] = pixels
    return points_xy


@pytest.mark.parametrize(
    "points_xy",
    [
        np.full((68, 2), np.nan, np.float32),
        np.full((68, 2), np.inf, np.float32),
    ],
)
def test_without_landmarks_there_is_no_pose(points_xy):
    assert estimate_head_pose(points_xy, PLAIN) is None


def test_coincident_points_give_no_pose():
    pose = estimate_head_pose(np.zeros((68, 2), np.float32), PLAIN)
    assert pose is None or pose.position_m[2] > 0


@pytest.mark.parametrize("position_m", [(0, 0, 1), (-0.3, 0.2, 0.8), (1, -0.5, 4)])
@pytest.mark.parametrize(
    ("about", "degrees"), [("x", 0), ("x", 25), ("x", -25), ("y", 40), ("y", -40), ("z", 30)]
)
def test_the_pose_of_an_average_face_is_found(position_m, about, degrees):
    rotation = turned(about, degrees)
    pose = estimate_head_pose(seen(rotation, position_m), PLAIN)
    np.testing.assert_allclose(pose.position_m, position_m, atol=2e-3)
    assert np.linalg.norm(pose.quaternion_xyzw) == pytest.approx(1)
    np.testing.assert_allclose(axes(pose.quaternion_xyzw), rotation, atol=2e-2)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("", []),
        ("plumb_bob", [0.1, -0.2, 0.001, -0.002, 0.05]),
        ("rational_polynomial", [0.1, -0.2, 0.001, -0.002, 0.05, 0.01, 0.02, 0.03]),
        ("equidistant", [0.1, -0.05, 0.01, -0.002]),
    ],
)
def test_lens_distortion_is_removed(model, distortion):
    camera = CameraIntrinsics(MATRIX, np.array(distortion), model)
    rotation, position_m = turned("y", 20), (0.2, -0.1, 0.9)
    points_xy = seen(rotation, position_m, camera)
    pose = estimate_head_pose(points_xy, camera)
    np.testing.assert_allclose(pose.position_m, position_m, atol=2e-3)
    np.testing.assert_allclose(axes(pose.quaternion_xyzw), rotation, atol=2e-2)
    if distortion:
        straight = estimate_head_pose(points_xy, PLAIN)
        assert np.abs(straight.position_m - position_m).max() > 2e-3


@pytest.mark.parametrize(
    ("matrix", "model", "distortion", "says"),
    [
        (
            np.zeros((3, 3)),
            "plumb_bob",
            [],
            "the camera is not calibrated: its focal length is 0; calibrate the camera (camera_",
        ),
        (MATRIX, "omni", [1.0], "distortion model: expected plumb_bob, rational_polynomial, equi"),
        (MATRIX, "omni", [], ""),
        (MATRIX, "plumb_bob", [0.1] * 4, ""),
        (
            MATRIX,
            "plumb_bob",
            [0.1] * 3,
            "distortion of plumb_bob: expected 4, 5, 8, 12 or 14 coefficients, found 3",
        ),
        (MATRIX, "plumb_bob", [0.1] * 8, ""),
        (MATRIX, "rational_polynomial", [0.1] * 14, ""),
        (MATRIX, "rational_polynomial", [0.1] * 6, "distortion of rational_polynomial: expected "),
        (
            MATRIX,
            "equidistant",
            [0.1] * 5,
            "distortion of equidistant: expected 4 coefficients, found 5",
        ),
        (MATRIX, "plumb_bob", [np.nan] * 5, "the calibration is not finite; calibrate the camera"),
        (
            np.full((3, 3), np.inf),
            "plumb_bob",
            [],
            "the calibration is not finite; calibrate the camera",
        ),
    ],
)
def test_invalid_calibrations_are_rejected(matrix, model, distortion, says):
    if not says:
        CameraIntrinsics(matrix, np.array(distortion), model)
        return
    with pytest.raises(ValueError) as caught:
        CameraIntrinsics(matrix, np.array(distortion), model)
    assert str(caught.value).startswith(says)


def test_a_portrait_and_its_mirror_image(astronaut):
    """She looks into the camera; by the model that is shipped. The mirror turns left and right."""
    camera = CameraIntrinsics(np.array([(600.0, 0, 256), (0, 600, 256), (0, 0, 1)]), np.zeros(0))
    pipeline = EmotionPipeline(PipelineConfig(tracker=TrackerConfig(min_hits=1)))
    poses = []
    for number, image in enumerate((astronaut, np.ascontiguousarray(astronaut[:, ::-1]))):
        (face,) = pipeline(Frame(image, 10.0 * number)).faces
        poses.append(estimate_head_pose(face.points_xy, camera))
    for pose in poses:
        forward, left, up = axes(pose.quaternion_xyzw).T
        towards_us = -pose.position_m / np.linalg.norm(pose.position_m)
        assert forward @ towards_us > np.cos(np.radians(12))
        assert left[0] > 0.95
        assert up[1] < -0.9
    first, mirrored = (pose.position_m for pose in poses)
    np.testing.assert_allclose(first * (-1, 1, 1), mirrored, atol=0.03)


@pytest.mark.parametrize("count", range(1, 20))
@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_every_number_of_coefficients_gives_a_pose_or_one_line(model, count):
    try:
        camera = CameraIntrinsics(MATRIX, np.full(count, 0.01), model)
    except ValueError as error:
        assert f"found {count}" in str(error)
        return
    assert estimate_head_pose(seen(turned("y", 20), (0.0, 0.0, 1.0), camera), camera)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_degenerate_landmarks_have_no_pose(value):
    for camera in (PLAIN, CameraIntrinsics(MATRIX, np.full(5, 0.3))):
        assert estimate_head_pose(np.full((68, 2), value, np.float32), camera) is None
