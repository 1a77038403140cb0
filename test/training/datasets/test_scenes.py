"""Frames made of photographs and portraits."""

import numpy as np
import pytest

from training.datasets.scenes import add_portrait, textured_frame


@pytest.mark.parametrize("size_wh", [(640, 480), (1920, 1080)])
@pytest.mark.parametrize("face_px", [12, 160, 450])
def test_a_portrait_is_placed_in_the_frame(size_wh, face_px):
    for number in range(4):
        random = np.random.default_rng(number)
        background = textured_frame(random, size_wh)
        frame, box = add_portrait(background, face_px, random, number)
        assert frame.shape == background.shape == (size_wh[1], size_wh[0], 3)
        assert box[3] - box[1] == pytest.approx(face_px, rel=1e-3)
        assert (box >= 0).all()
        assert (box[2:] <= size_wh).all()
        x, y = ((box[:2] + box[2:]) / 2).astype(int)
        assert (frame[y, x] != background[y, x]).any()
