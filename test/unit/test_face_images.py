"""Images of single faces."""

import numpy as np
import pytest
from conftest import frontal_points

from fer_ros.face_images import (
    append_pupils,
    crop_face_square,
    eye_aspect_ratio,
    eye_centers,
    roll_rad,
)

WHITE = np.full((60, 80, 3), 255, np.uint8)


def box(*edges):
    return np.array(edges, np.float32)


@pytest.mark.parametrize(
    ("edges", "share"),
    [
        ((200, 200, 240, 240), 0.0),  # nothing of the face is in the image
        ((20, 20, 20, 20), 1.0),  # a box without a size
        ((10, 10, 50, 50), 1.0),
        ((10, 10, 30, 50), 1.0),  # the longer side fills the square
        ((-20, 10, 20, 50), 0.5),
        ((60, 40, 100, 80), 0.25),
    ],
)
@pytest.mark.parametrize("side_px", [16, 128])
def test_the_crop_is_black_outside_the_image(edges, share, side_px):
    image_rgb = crop_face_square(WHITE, box(*edges), side_px)
    assert (image_rgb.shape, image_rgb.dtype) == ((side_px, side_px, 3), np.uint8)
    assert (image_rgb > 127).mean() == pytest.approx(share, abs=0.04)


def test_the_face_is_in_the_middle(astronaut):
    left, top = 184, 70
    image_rgb = crop_face_square(astronaut, box(left, top, left + 128, top + 128), 128)
    np.testing.assert_array_equal(image_rgb, astronaut[top : top + 128, left : left + 128])


@pytest.mark.parametrize("degrees", [-40, -5, 0, 5, 40])
def test_a_rolled_face_is_rotated_upright(degrees):
    """A red dot for the eye on the left and a blue one for the other, on a line that is tilted."""
    image = np.zeros((200, 200, 3), np.uint8)
    turn = np.radians(degrees)
    for color, side in ((0, -30), (2, 30)):
        x, y = 100 + side * np.cos(turn), 100 + side * np.sin(turn)
        image[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4, color] = 255
    image_rgb = crop_face_square(image, box(50, 50, 150, 150), 100, turn)
    for color, x in ((0, 20), (2, 80)):
        rows, columns = np.nonzero(image_rgb[..., color] > 127)
        assert abs(rows.mean() - 49.5) < 1.5
        assert abs(columns.mean() - x) < 1.5


def turned(degrees):
    turn = np.radians(degrees)
    matrix = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    return (frontal_points() @ matrix.T).astype(np.float32)


@pytest.mark.parametrize("degrees", [0, 10, -30, 90])
def test_roll(degrees):
    assert np.degrees(roll_rad(turned(degrees))) == pytest.approx(degrees, abs=1e-3)


def test_eyes():
    points = frontal_points()
    np.testing.assert_allclose(eye_centers(points), [(38, 40), (74, 40)], atol=1e-4)
    assert eye_aspect_ratio(np.zeros((68, 2), np.float32)).tolist() == [0, 0]
    np.testing.assert_allclose(eye_aspect_ratio(points), 6 / 18, atol=1e-4)
    points[42:48, 1] = 40  # one is shut
    np.testing.assert_allclose(eye_aspect_ratio(points), [6 / 18, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("height", "seen"),
    [(0.0, 0.0), (1.0, 4 / 9), (3.0, 1.0), (9.0, 1.0)],  # of half an eye that is 18 px wide
)
def test_pupil_visibility_follows_eye_openness(height, seen):
    points = frontal_points()
    points[37:39, 1], points[40:42, 1] = 40 - height, 40 + height
    places, sure = append_pupils(points)
    np.testing.assert_array_equal(places[:68], points)
    np.testing.assert_allclose(places[68:], [(38, 40), (74, 40)], atol=1e-4)
    assert sure[:68].tolist() == [1] * 68
    np.testing.assert_allclose(sure[68:], [seen, 1], atol=1e-5)
