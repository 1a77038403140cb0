"""The made-up camera frames."""

import numpy as np
import pytest

from fer_ros.config import DetectorConfig
from fer_ros.detect import make_detector
from fer_ros.sample import COUNT, FPS, SIZE_WH, sample_face, sample_frames


@pytest.fixture(scope="module")
def frames():
    return list(sample_frames())


def test_they_are_as_many_and_as_large_as_promised(frames):
    assert len(frames) == COUNT == 150
    assert all(frame.image_rgb.shape == (SIZE_WH[1], SIZE_WH[0], 3) for frame in frames)
    stamps = [frame.stamp_s for frame in frames]
    assert stamps == pytest.approx([number / FPS for number in range(COUNT)])


def test_they_are_always_the_same(frames):
    for frame, again in zip(frames, sample_frames(), strict=True):
        assert np.array_equal(frame.image_rgb, again.image_rgb)


@pytest.mark.parametrize("number", [0, 5, 70, 80, COUNT - 1])
def test_there_are_stretches_without_a_face(frames, number):
    face = sample_face(number)
    assert face is None or face.visible == 0.0
    assert len(make_detector(DetectorConfig()).detect(frames[number].image_rgb)) == 0


@pytest.mark.parametrize("number", [25, 37, 50, 100, 112, 125])
def test_the_face_is_where_it_is_said_to_be(frames, number):
    where = sample_face(number)
    assert where.visible == 1.0
    (found,) = make_detector(DetectorConfig()).detect(frames[number].image_rgb).boxes_xyxy
    low, high = np.maximum(found[:2], where.box_xyxy[:2]), np.minimum(found[2:], where.box_xyxy[2:])
    common = np.prod(high - low)
    areas = [np.prod(box[2:] - box[:2]) for box in (found, where.box_xyxy)]
    assert common / (sum(areas) - common) > 0.6


def test_the_second_flight_is_mirrored(frames):
    """The face looks to the other side: its halves change places."""
    first, second = (
        frames[number].image_rgb[:, :, 0].astype(float)[:, 220:420] for number in (37, 112)
    )
    same, mirrored = (
        np.corrcoef(first.ravel(), each.ravel())[0, 1] for each in (second, second[:, ::-1])
    )
    assert mirrored > same + 0.1
