"""Geometry of boxes."""

import numpy as np
import pytest

from fer_ros.boxes import areas, centers, iou


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.zeros((0, 4)), np.zeros((0, 4)), np.zeros((0, 0))),
        (np.zeros((0, 4)), [(0, 0, 2, 2)], np.zeros((0, 1))),
        (
            [(0, 0, 2, 2)],
            [(0, 0, 2, 2), (1, 0, 3, 2), (2, 0, 4, 2), (9, 9, 11, 11)],
            [[1, 1 / 3, 0, 0]],
        ),
        ([(0, 0, 4, 4)], [(1, 1, 3, 3)], [[0.25]]),
        ([(5, 5, 5, 5)], [(0, 0, 9, 9), (5, 5, 5, 5)], [[0, 0]]),  # no area
        ([(3, 3, 1, 1)], [(0, 0, 4, 4)], [[0]]),  # inside out
    ],
)
def test_iou(first, second, expected):
    ious = iou(np.array(first, np.float32), np.array(second, np.float32))
    np.testing.assert_allclose(ious, expected, atol=1e-9)


def test_centers_and_areas():
    boxes = np.array([(0, 0, 4, 2), (10, 20, 20, 50)], np.float32)
    np.testing.assert_array_equal(centers(boxes), [(2, 1), (15, 35)])
    np.testing.assert_allclose(areas(boxes), [8, 300])
