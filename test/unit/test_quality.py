"""The quality gate and its rejection reasons."""

import cv2
import numpy as np
import pytest
from conftest import frontal_points

from fer_ros.config import QualityConfig
from fer_ros.quality import (
    detection_rejection,
    landmark_rejection,
    laplacian_variance,
    yaw_deg,
)
from fer_ros.types import TrackedFace

CONFIG = QualityConfig(min_size_px=24, min_score=0.5, max_yaw_deg=60, min_laplacian_variance=100)
SHARP = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
FLAT = np.full((112, 112, 3), 90, np.uint8)


def face(width=60.0, height=80.0, score=0.9):
    box = np.array([100, 50, 100 + width, 50 + height], np.float32)
    return TrackedFace("f00001", box, np.zeros((5, 2), np.float32), score)


def turned(degrees, roll=0.0, scale=1.0):
    """Outer eye corners and nose tip of an average head, seen after a turn; the rest stays 0."""
    turn, tilt = np.radians([degrees, roll])
    half, depth = 30.0 * scale, 30.0 * scale
    points = np.zeros((68, 2))
    points[36], points[45] = (-half * np.cos(turn), 0), (half * np.cos(turn), 0)
    points[30] = (depth * np.sin(turn), 25 * scale)
    rotation = np.array([(np.cos(tilt), -np.sin(tilt)), (np.sin(tilt), np.cos(tilt))])
    return (points @ rotation.T + (300, 200)).astype(np.float32)


@pytest.mark.parametrize("degrees", [0, 10, -35, 59, -59])
@pytest.mark.parametrize("roll", [0, 30, -90, 180])
@pytest.mark.parametrize("scale", [0.2, 4.0])
def test_yaw_at_any_roll_and_size(degrees, roll, scale):
    assert yaw_deg(turned(degrees, roll, scale)) == pytest.approx(degrees, abs=0.1)


def test_yaw_of_a_symmetric_face_and_of_no_face():
    assert yaw_deg(frontal_points()) == pytest.approx(0, abs=1)
    assert yaw_deg(np.zeros((68, 2), np.float32)) == 0


NOT_FINITE = frontal_points()
NOT_FINITE[67, 1] = np.nan


@pytest.mark.parametrize(
    ("tracked", "points_xy", "why"),
    [
        (face(), frontal_points(), ""),
        (face(width=24, height=24, score=0.5), turned(59.9), ""),
        (face(width=18.2), frontal_points(), "too small: 18 px, minimum 24"),
        (face(height=5), frontal_points(), "too small: 5 px, minimum 24"),
        (face(width=0), frontal_points(), "too small: 0 px, minimum 24"),
        (face(score=0.421), frontal_points(), "low detection score: 0.42, minimum 0.50"),
        (face(), turned(70), "turned away: 70 degrees, maximum 60"),
        (face(), turned(-85), "turned away: 85 degrees, maximum 60"),
        (face(), np.full((68, 2), np.nan, np.float32), ""),  # of a network without landmarks
        (face(), NOT_FINITE, "no landmarks: the network output is not finite"),
        (face(), np.full((68, 2), np.inf, np.float32), "no landmarks: the network output"),
    ],
)
def test_rejection_reasons(tracked, points_xy, why):
    reason = detection_rejection(tracked, CONFIG) or landmark_rejection(points_xy, SHARP, CONFIG)
    assert reason.startswith(why)
    assert bool(reason) == bool(why)
    assert "\n" not in reason


def test_without_limits_every_face_passes():
    config = QualityConfig(min_size_px=0, min_score=0, max_yaw_deg=90)
    assert detection_rejection(face(width=1, height=1, score=0.0), config) == ""
    assert landmark_rejection(turned(88), FLAT, config) == ""


@pytest.mark.parametrize(
    ("crop_rgb", "why"),
    [
        (FLAT, "blurred: Laplacian variance 0, minimum 100"),
        (cv2.GaussianBlur(SHARP, (0, 0), 4), "blurred: Laplacian variance "),
        (SHARP, ""),
    ],
)
def test_blurred_faces(crop_rgb, why):
    reason = landmark_rejection(frontal_points(), crop_rgb, CONFIG)
    assert reason.startswith(why)
    assert bool(reason) == bool(why)


def test_the_laplacian_is_that_of_the_luma():
    stripes = np.zeros((112, 112, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)  # red, luma 76
    assert laplacian_variance(stripes) == pytest.approx((4 * 76) ** 2 / 4, rel=0.02)
    assert laplacian_variance(FLAT) == 0
