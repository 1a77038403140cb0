"""The synthetic video."""

import sys
from itertools import islice

import numpy as np
import pytest

from fer_ros.config import DetectorConfig
from fer_ros.detector import make_detector
from fer_ros.io.media import MediaError
from fer_ros.io.synthetic import COUNT, FPS, SIZE_WH, synthetic_face, synthetic_frames, tiled_faces

EMPTY = (0, 7, 68, 75, 82, 143, 149)  # before, between and after the flights
FLIGHTS = (range(8, 68), range(83, 143))


@pytest.fixture(scope="module")
def frames():
    return list(synthetic_frames())


def test_without_scikit_image_the_remedy_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(MediaError, match="pip install scikit-image, or choose another") as caught:
        synthetic_frames()  # not with the first frame
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", EMPTY)
def test_empty_frames_have_no_face(frames, number):
    assert synthetic_face(number) is None
    assert np.ptp(frames[number].image_rgb, axis=(1, 2)).max() == 0  # every row has one gray


def test_frames_have_the_format_of_a_camera(frames):
    width, height = SIZE_WH
    assert len(frames) == COUNT
    assert {(frame.image_rgb.shape, frame.image_rgb.dtype) for frame in frames} == {
        ((height, width, 3), np.dtype(np.uint8))
    }
    assert [frame.stamp_s for frame in frames] == [number / FPS for number in range(COUNT)]
    assert {frame.name for frame in frames} == {"sample"}


def test_frames_are_always_the_same(frames):
    for first, second in zip(frames, islice(synthetic_frames(), 40), strict=False):
        np.testing.assert_array_equal(first.image_rgb, second.image_rgb)


@pytest.mark.parametrize("flight", FLIGHTS)
def test_the_face_crosses_the_image(frames, flight):
    faces = [synthetic_face(number) for number in flight]
    middles = np.array([(face.box_xyxy[:2] + face.box_xyxy[2:]) / 2 for face in faces])
    heights = np.array([face.box_xyxy[3] - face.box_xyxy[1] for face in faces])
    visible = np.array([face.visible for face in faces])
    assert (np.diff(middles[:, 0]) > 0).all()
    assert visible[0] == visible[-1] == 0
    assert (visible == 1).sum() > len(flight) / 2
    assert 0 <= visible.min() <= visible.max() == 1
    assert heights.max() > 1.3 * heights.min()
    assert np.abs(np.diff(middles, axis=0)).max() < 60  # a tracker can follow it
    for number in flight:
        row = frames[number].image_rgb[200]
        assert (row != row[0]).any() or faces[number - flight[0]].visible < 1, number


def test_the_face_is_at_the_given_place(frames, astronaut):
    """The image in the box is the face of the portrait, mirrored in the second flight."""
    face = astronaut[58:178, 182:270].mean(axis=2)
    for number, mirrored in ((38, False), (113, True)):
        where = synthetic_face(number)
        left, top, right, bottom = where.box_xyxy.round().astype(int)
        shown = frames[number].image_rgb[top:bottom, left:right].mean(axis=2)
        rows = np.linspace(0, len(face) - 1, len(shown)).round().astype(int)
        columns = np.linspace(0, face.shape[1] - 1, shown.shape[1]).round().astype(int)
        same = np.corrcoef(face[np.ix_(rows, columns)].ravel(), shown.ravel())[0, 1]
        other = np.corrcoef(face[np.ix_(rows, columns[::-1])].ravel(), shown.ravel())[0, 1]
        right_way, wrong_way = (other, same) if mirrored else (same, other)
        assert right_way > 0.95 > wrong_way


@pytest.fixture(scope="module")
def detector():
    return make_detector(DetectorConfig(), threads=1)


@pytest.mark.parametrize("number", EMPTY)
def test_a_detector_finds_no_face_in_empty_frames(frames, detector, number):
    assert len(detector.detect(frames[number].image_rgb)) == 0


@pytest.mark.parametrize("number", [25, 38, 50, 100, 113, 125])
def test_a_detector_finds_the_face(frames, detector, number):
    where = synthetic_face(number)
    (detected,) = detector.detect(frames[number].image_rgb).boxes_xyxy
    low, high = (
        np.maximum(detected[:2], where.box_xyxy[:2]),
        np.minimum(detected[2:], where.box_xyxy[2:]),
    )
    common = np.prod(high - low)
    areas = [np.prod(box[2:] - box[:2]) for box in (detected, where.box_xyxy)]
    assert where.visible == 1
    assert common / (sum(areas) - common) > 0.6


@pytest.mark.parametrize("size_wh", [(640, 480), (1280, 720)])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 10])
def test_tiled_faces_have_the_requested_number(detector, size_wh, count):
    image_rgb = tiled_faces(count, size_wh)
    assert image_rgb.shape == (size_wh[1], size_wh[0], 3)
    scores = detector.detect(image_rgb).scores
    assert np.count_nonzero(scores > 0.7) == count
    assert len(scores) <= count + 1  # a collar between two portraits scores 0.504 in 1280x720
