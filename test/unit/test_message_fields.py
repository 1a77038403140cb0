"""Field values of published messages."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import frontal_points

from fer_ros.blendshapes import ACTION_UNITS, BLENDSHAPES
from fer_ros.message_fields import (
    bounding_box,
    corners_xyxy,
    facial_action_units,
    normalized_landmarks,
)
from fer_ros.types import FaceEmotion


def face(blendshapes=None):
    probabilities = np.full(8, 0.125, np.float32)
    return FaceEmotion(
        id="f00001",
        box_xyxy=np.array([-10, 20, 50, 300], np.float32),
        score=0.8,
        points_xy=frontal_points(),
        probabilities=probabilities,
        raw_probabilities=probabilities,
        emotion="neutral",
        blendshapes=blendshapes,
    )


def test_the_corners_of_a_box_are_those_of_the_face():
    box = bounding_box(face())
    center = SimpleNamespace(position=SimpleNamespace(x=box.center_x, y=box.center_y))
    message = SimpleNamespace(center=center, size_x=box.size_x, size_y=box.size_y)
    assert corners_xyxy(message) == (-10, 20, 50, 300)


def test_a_face_without_blendshapes_has_no_action_units():
    assert facial_action_units(face()) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"_neutral": 1.0}, {}),
        ({"eyeBlinkLeft": 0.9, "eyeBlinkRight": 0.7, "jawOpen": 0.4}, {43: 0.8, 26: 0.4}),
    ],
)
def test_action_units_are_at_their_number(values, expected):
    blendshapes = np.array([values.get(name, 0) for name in BLENDSHAPES], np.float32)
    units = facial_action_units(face(blendshapes))
    assert [field.shape for field in units] == [(99,), (99,)]
    assert [field.dtype for field in units] == [np.float32, np.float32]
    assert np.flatnonzero(units.intensity).tolist() == sorted(expected)
    for unit, intensity in expected.items():
        assert units.intensity[unit] == pytest.approx(intensity)
    measured = np.isin(np.arange(99), [*ACTION_UNITS])
    np.testing.assert_array_equal(units.confidence, np.where(measured, np.float32(0.8), 0))


def test_landmarks_outside_the_image_are_at_its_border_without_confidence():
    points_xy = frontal_points()
    left, top = points_xy.min(axis=0)
    width, height = np.ceil(points_xy.max(axis=0) + 1)
    inside = normalized_landmarks(face(), (height, width))
    assert [point.c for point in inside[:68]] == [pytest.approx(0.8)] * 68
    shifted = replace(face(), points_xy=points_xy - np.array([left + 5, top + 5], np.float32))
    for point, (x, y) in zip(
        normalized_landmarks(shifted, (height, width)), shifted.points_xy, strict=False
    ):
        assert (point.x, point.y) == (pytest.approx(max(x / width, 0)), max(y / height, 0))
        assert (point.c > 0) == (x >= 0 and y >= 0)
    assert any(point.c == 0 for point in normalized_landmarks(shifted, (height, width))[:68])
    assert normalized_landmarks(replace(face(), points_xy=points_xy * np.nan), (9, 9)) == []
