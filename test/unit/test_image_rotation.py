"""Quarter turns of images, and results back in the image as it came."""

import numpy as np
import pytest

from fer_ros.config import ROTATIONS
from fer_ros.image_rotation import rotate_box_back, rotate_image, rotate_points_back

HEIGHT, WIDTH = 4, 7


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_rotated_points_map_back_to_the_original(degrees):
    image = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    rotated = rotate_image(image, degrees)
    rows, columns = np.indices(rotated.shape[:2])
    points_xy = np.stack([columns, rows], axis=-1).astype(np.float32)
    x, y = np.moveaxis(rotate_points_back(points_xy, degrees, (WIDTH, HEIGHT)).astype(int), -1, 0)
    np.testing.assert_array_equal(image[y, x], rotated)


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_a_box_covers_the_same_pixels(degrees):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[1:3, 2:6] = 255
    rows, columns = np.nonzero(rotate_image(image, degrees)[..., 0])
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    rotated = rotate_box_back(np.array(box, np.float32), degrees, (WIDTH, HEIGHT))
    np.testing.assert_array_equal(rotated, [2, 1, 6, 3])


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_no_points_and_points_that_are_not_finite(degrees):
    empty = np.zeros((0, 68, 2), np.float32)
    assert rotate_points_back(empty, degrees, (WIDTH, HEIGHT)).shape == (0, 68, 2)
    unknown = np.full((68, 2), np.nan, np.float32)
    assert np.isnan(rotate_points_back(unknown, degrees, (WIDTH, HEIGHT))).all()


def test_clockwise_means_that_the_top_row_becomes_the_right_column():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[0] = 9
    assert (rotate_image(image, 90)[:, -1] == 9).all()
