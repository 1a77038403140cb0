"""Messages to images and results to messages."""

import sys
from types import ModuleType

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from conftest import frontal_points
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from fer_ros.emotions import EMOTIONS
from fer_ros.ros.convert import (
    ConversionError,
    stamp_s,
    to_compressed,
    to_detection_array,
    to_image,
    to_label_info,
    to_rgb,
    to_time,
)
from fer_ros.types import FaceEmotion

HEADER = Header(stamp=Time(sec=12, nanosec=345_678_901), frame_id="eye")


def image(encoding: str = "rgb8", **fields) -> Image:
    return Image(header=HEADER, encoding=encoding, height=2, width=2, **fields)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Image(), "the image is empty: 0 x 0 pixels"),
        (image("h264"), "unknown encoding 'h264'; without cv_bridge, supported are"),
        (image(step=6, data=bytes(11)), "data has 11 bytes, but 2 x 2 rgb8 pixels with a step"),
        (CompressedImage(), "format '', 0 bytes: OpenCV cannot read 0 bytes"),
        (
            CompressedImage(format="jpeg", data=b"no jpeg"),
            "format 'jpeg', 7 bytes: OpenCV cannot read",
        ),
    ],
)
def test_a_message_without_an_image_is_rejected(monkeypatch, bad, says):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)  # a robot has it
    with pytest.raises(ConversionError) as caught:
        to_rgb(bad)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unusual_encodings_go_to_cv_bridge(monkeypatch):
    bridge = ModuleType("cv_bridge")

    class CvBridgeError(TypeError):
        pass

    class CvBridge:
        def imgmsg_to_cv2(self, requested, expected):
            if requested.encoding == "odd":
                raise CvBridgeError("two\nlines")
            assert expected == "rgb8"
            return np.full((2, 2, 3), 9, np.uint8)

    bridge.CvBridge, bridge.CvBridgeError = CvBridge, CvBridgeError
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    assert (to_rgb(image("32FC1")) == 9).all()
    with pytest.raises(ConversionError, match="cv_bridge on encoding 'odd': two lines"):
        to_rgb(image("odd"))


@pytest.mark.parametrize(
    "error",
    [
        TypeError("buffer is too small for requested array"),
        ImportError("numpy.core.multiarray failed to import"),
        AttributeError("_ARRAY_API not found"),
        SystemError("returned a result with an exception set"),
        KeyError("64FC5"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_cv_bridge_raises_costs_one_image(monkeypatch, error):
    bridge = ModuleType("cv_bridge")

    class CvBridge:
        def imgmsg_to_cv2(self, requested, expected):
            raise error

    bridge.CvBridge = CvBridge
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    with pytest.raises(ConversionError, match="cv_bridge on encoding '32FC1': "):
        to_rgb(image("32FC1"))


def test_images_convert_to_messages_and_back(astronaut):
    view = astronaut[10:110, 20:140]  # not contiguous
    raw = to_image(view, HEADER)
    assert (raw.header, raw.encoding, raw.step) == (HEADER, "rgb8", 360)
    np.testing.assert_array_equal(to_rgb(raw), view)
    compressed = to_compressed(view, HEADER)
    assert compressed.header == HEADER
    assert np.abs(to_rgb(compressed).astype(int) - view).mean() < 5


def test_seconds_of_a_stamp():
    assert stamp_s(Header()) == 0
    assert stamp_s(HEADER) == pytest.approx(12.345678901, abs=1e-9)


@pytest.mark.parametrize("seconds", [0.0, 12.345678901, 1_700_000_000.999999999])
def test_seconds_become_a_stamp(seconds):
    assert stamp_s(Header(stamp=to_time(seconds))) == pytest.approx(seconds, abs=1e-6)


def face(emotion: str | None = "sadness", **fields) -> FaceEmotion:
    shares = np.array([0.3, 0.1, 0.25, 0.05, 0.08, 0.02, 0.15, 0.05], np.float32)
    usable = {
        "is_readable": emotion is not None,
        "rejection_reason": "" if emotion else "too small: 9 px",
    }
    values = {"id": "f00001", "score": 0.9, "points_xy": frontal_points()} | usable | fields
    box = np.array([10, 20, 50, 100], np.float32)
    return FaceEmotion(
        box_xyxy=box, probabilities=shares, raw_probabilities=shares, emotion=emotion, **values
    )


def test_no_face_is_an_empty_array():
    detections = to_detection_array([], HEADER)
    assert (detections.header, len(detections.detections)) == (HEADER, 0)


def test_a_face_as_a_detection():
    (detection,) = to_detection_array([face()], HEADER).detections
    assert (detection.header, detection.id) == (HEADER, "f00001")
    box = detection.bbox
    assert (box.center.position.x, box.center.position.y, box.center.theta) == (30, 60, 0)
    assert (box.size_x, box.size_y) == (40, 80)


def test_all_emotions_the_stable_label_first_the_others_by_probability():
    (detection,) = to_detection_array([face("sadness")], HEADER).detections
    names = [result.hypothesis.class_id for result in detection.results]
    scores = [result.hypothesis.score for result in detection.results]
    assert sorted(names) == sorted(EMOTIONS)
    assert names[:3] == ["sadness", "neutral", "anger"]  # neutral is ahead, but not for long enough
    assert scores[1:] == sorted(scores[1:], reverse=True)
    np.testing.assert_allclose(scores[:3], [0.25, 0.3, 0.15], rtol=1e-6)


def test_a_face_that_cannot_be_read_has_no_hypotheses():
    first, second = to_detection_array([face(None, id="f00002"), face()], HEADER).detections
    assert (first.id, len(first.results), len(second.results)) == ("f00002", 0, 8)


def test_labels():
    info = to_label_info(HEADER)
    assert info.header == HEADER
    assert [entry.class_id for entry in info.class_map] == list(range(8))
    assert tuple(entry.class_name for entry in info.class_map) == EMOTIONS
