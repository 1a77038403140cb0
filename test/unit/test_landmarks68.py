"""Landmark index sets."""

import pytest

from fer_ros.landmarks68 import FLIP


def test_flipping_twice_changes_nothing():
    assert sorted(FLIP) == [*range(68)]
    assert [FLIP[index] for index in FLIP] == [*range(68)]


# jaw ends, outer brows, outer eye corners, mouth corners, nose tip
@pytest.mark.parametrize(("left", "right"), [(0, 16), (17, 26), (36, 45), (48, 54), (30, 30)])
def test_flipped_landmarks_change_sides(left, right):
    assert (FLIP[left], FLIP[right]) == (right, left)
