"""Messages to pictures and results to messages."""

import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from conftest import frontal_points
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from fer_ros.labels import EMOTIONS
from fer_ros.ros.convert import (
    ConversionError,
    stamp_s,
    to_compressed,
    to_detections,
    to_image,
    to_label_info,
    to_rgb,
)
from fer_ros.types import FaceEmotion

HEIGHT, WIDTH = 6, 8
HEADER = Header(stamp=Time(sec=12, nanosec=345_678_901), frame_id="eye")
RED, GREEN, BLUE = 200, 100, 50


def message(encoding: str, rows: np.ndarray, padding: int = 0, **fields) -> Image:
    """An image of WIDTH pixels whose rows have ``padding`` more bytes at their ends."""
    rows = rows.reshape(len(rows), -1).view(np.uint8)
    junk = np.full((len(rows), padding), 0xAB, np.uint8)
    data = np.concatenate([rows, junk], axis=1).tobytes()
    fields = {"height": HEIGHT, "width": WIDTH, "step": rows.shape[1] + padding} | fields
    return Image(header=HEADER, encoding=encoding, data=data, **fields)


def flat(*samples: int, dtype=np.uint8) -> np.ndarray:
    """Rows in which the samples of one pixel, or of two neighbours, repeat."""
    return np.tile(np.array(samples, dtype), (HEIGHT, WIDTH * 4))[:, : WIDTH * len(samples)]


def bayer(pattern: str, dtype=np.uint8, gain: int = 1) -> np.ndarray:
    """What a sensor with this pattern, read from the top left, says about one colour."""
    value = {"r": RED, "g": GREEN, "b": BLUE}
    tile = np.array([value[name] for name in pattern], dtype).reshape(2, 2) * gain
    return np.tile(tile, (HEIGHT // 2, WIDTH // 2)).astype(dtype)


def planes(first: int, second: int, luma: int) -> np.ndarray:
    """NV12 or NV21: rows of grey, then half as many of two alternating colours."""
    grey = np.full((HEIGHT, WIDTH), luma, np.uint8)
    colour = np.tile(np.array([first, second], np.uint8), (HEIGHT // 2, WIDTH // 2))
    return np.concatenate([grey, colour])


# Rec. 601 of the colour RED, GREEN, BLUE: luma 16..235, blue and red difference around 128.
Y, U, V = 123, 91, 175
COLOUR, GREY = (RED, GREEN, BLUE), (GREEN, GREEN, GREEN)
ENCODINGS = {
    "rgb8": (flat(RED, GREEN, BLUE), COLOUR),
    "bgr8": (flat(BLUE, GREEN, RED), COLOUR),
    "BGR8": (flat(BLUE, GREEN, RED), COLOUR),
    "8UC3": (flat(BLUE, GREEN, RED), COLOUR),
    "rgba8": (flat(RED, GREEN, BLUE, 7), COLOUR),
    "bgra8": (flat(BLUE, GREEN, RED, 7), COLOUR),
    "mono8": (flat(GREEN), GREY),
    "8UC1": (flat(GREEN), GREY),
    "mono16": (flat(GREEN * 257, dtype="<u2"), GREY),
    "yuv422": (flat(U, Y, V, Y)[:, : WIDTH * 2], COLOUR),
    "uyvy": (flat(U, Y, V, Y)[:, : WIDTH * 2], COLOUR),
    "yuv422_yuy2": (flat(Y, U, Y, V)[:, : WIDTH * 2], COLOUR),
    "yuyv": (flat(Y, U, Y, V)[:, : WIDTH * 2], COLOUR),
    "nv12": (planes(U, V, Y), COLOUR),
    "nv21": (planes(V, U, Y), COLOUR),
    **{f"bayer_{name}8": (bayer(name), COLOUR) for name in ("rggb", "bggr", "gbrg", "grbg")},
    **{
        f"bayer_{name}16": (bayer(name, "<u2", 257), COLOUR)
        for name in ("rggb", "bggr", "gbrg", "grbg")
    },
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_colour_in_every_encoding(encoding, padding):
    rows, colour = ENCODINGS[encoding]
    image_rgb = to_rgb(message(encoding, rows, padding))
    assert (image_rgb.shape, image_rgb.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.abs(image_rgb.astype(int) - colour).max() <= 2, image_rgb[0, 0]


REFERENCES = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB),
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", REFERENCES)
def test_every_pixel_stands_where_opencv_puts_it(encoding, padding):
    channels, code = REFERENCES[encoding]
    samples = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    wanted = samples if code is None else cv2.cvtColor(samples, code)
    np.testing.assert_array_equal(to_rgb(message(encoding, samples, padding)), wanted)


@pytest.mark.parametrize(("encoding", "code"), [("nv12", "NV12"), ("nv21", "NV21")])
def test_colour_planes_stand_below_the_padded_grey_rows(encoding, code):
    rows = np.random.default_rng(0).integers(0, 256, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    wanted = cv2.cvtColor(rows, getattr(cv2, f"COLOR_YUV2RGB_{code}"))
    np.testing.assert_array_equal(to_rgb(message(encoding, rows, 5)), wanted)


@pytest.mark.parametrize(("order", "is_bigendian"), [("<u2", 0), (">u2", 1)])
def test_sixteen_bits_in_both_byte_orders(order, is_bigendian):
    grey = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    samples = (grey.astype(np.uint16) * 257).astype(order)
    image_rgb = to_rgb(message("mono16", samples, 3, is_bigendian=is_bigendian))
    np.testing.assert_array_equal(image_rgb, np.repeat(grey[..., None], 3, axis=2))


RGB_ROWS = flat(RED, GREEN, BLUE)
ROW = WIDTH * 3


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Image(), "the image is empty: 0 x 0 pixels"),
        (message("rgb8", RGB_ROWS, height=0), "the image is empty: 8 x 0 pixels"),
        (message("rgb8", RGB_ROWS, width=0), "the image is empty: 0 x 6 pixels"),
        (message("", RGB_ROWS), "unknown encoding ''"),
        (message("h264", RGB_ROWS), "unknown encoding 'h264'; without cv_bridge these are known"),
        (message("rgb8", RGB_ROWS, step=0), "step is 0 bytes, but a row of 8 rgb8 pixels has 24"),
        (message("rgb8", RGB_ROWS, step=ROW - 1), "step is 23 bytes, but a row of 8 rgb8"),
        (message("mono16", RGB_ROWS, step=15), "step is 15 bytes, but a row of 8 mono16 pixels"),
        (message("rgb8", RGB_ROWS[:5]), "data has 120 bytes, but 8 x 6 rgb8 pixels with a step"),
        (message("rgb8", RGB_ROWS, step=ROW + 1), "with a step of 25 need 149"),
        (
            message("nv12", flat(1)),
            "data has 48 bytes, but 8 x 6 nv12 pixels with a step of 8",
        ),
        (message("nv12", planes(1, 1, 1), height=5), "nv12 comes in blocks of 2 x 2 pixels"),
        (message("yuv422", flat(1, 1), width=7), "yuv422 comes in blocks of 2 x 1 pixels"),
        (CompressedImage(), "0 bytes of format '' are no picture"),
        (CompressedImage(format="jpeg", data=b"no jpeg"), "7 bytes of format 'jpeg' are no pic"),
    ],
)
def test_a_message_that_holds_no_image(bad, says):
    with pytest.raises(ConversionError) as caught:
        to_rgb(bad)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_last_row_needs_no_padding():
    image = message("rgb8", RGB_ROWS, 5)
    image.data = image.data[:-5]
    assert (to_rgb(image) == COLOUR).all()


def test_unusual_encodings_go_to_cv_bridge(monkeypatch):
    bridge = ModuleType("cv_bridge")

    class CvBridgeError(TypeError):
        pass

    class CvBridge:
        def imgmsg_to_cv2(self, image, wanted):
            if image.encoding == "odd":
                raise CvBridgeError("two\nlines")
            assert wanted == "rgb8"
            return np.full((HEIGHT, WIDTH, 3), 9, np.uint8)

    bridge.CvBridge, bridge.CvBridgeError = CvBridge, CvBridgeError
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    assert (to_rgb(message("32FC1", RGB_ROWS)) == 9).all()
    with pytest.raises(ConversionError, match="cv_bridge on encoding 'odd': two lines"):
        to_rgb(message("odd", RGB_ROWS))


def test_pictures_to_messages_and_back(astronaut):
    view = astronaut[10:110, 20:140]  # not contiguous
    image = to_image(view, HEADER)
    assert (image.header, image.encoding, image.step) == (HEADER, "rgb8", 360)
    np.testing.assert_array_equal(to_rgb(image), view)
    compressed = to_compressed(view, HEADER)
    assert compressed.header == HEADER
    assert np.abs(to_rgb(compressed).astype(int) - view).mean() < 5


def test_seconds_of_a_stamp():
    assert stamp_s(Header()) == 0
    assert stamp_s(HEADER) == pytest.approx(12.345678901, abs=1e-9)


def face(emotion: str | None = "sadness", **fields) -> FaceEmotion:
    shares = np.array([0.3, 0.1, 0.25, 0.05, 0.08, 0.02, 0.15, 0.05], np.float32)
    usable = {"usable": emotion is not None, "why": "" if emotion else "too small: 9 px"}
    values = {"id": "f00001", "score": 0.9, "points_xy": frontal_points()} | usable | fields
    box = np.array([10, 20, 50, 100], np.float32)
    return FaceEmotion(
        box_xyxy=box, probabilities=shares, raw_probabilities=shares, emotion=emotion, **values
    )


def test_no_face_is_an_empty_array():
    detections = to_detections([], HEADER)
    assert (detections.header, len(detections.detections)) == (HEADER, 0)


def test_a_face_as_a_detection():
    (detection,) = to_detections([face()], HEADER).detections
    assert (detection.header, detection.id) == (HEADER, "f00001")
    box = detection.bbox
    assert (box.center.position.x, box.center.position.y, box.center.theta) == (30, 60, 0)
    assert (box.size_x, box.size_y) == (40, 80)


def test_all_emotions_the_stable_label_first_the_others_by_probability():
    (detection,) = to_detections([face("sadness")], HEADER).detections
    names = [each.hypothesis.class_id for each in detection.results]
    scores = [each.hypothesis.score for each in detection.results]
    assert sorted(names) == sorted(EMOTIONS)
    assert names[:3] == ["sadness", "neutral", "anger"]  # neutral is ahead, but not for long enough
    assert scores[1:] == sorted(scores[1:], reverse=True)
    np.testing.assert_allclose(scores[:3], [0.25, 0.3, 0.15], rtol=1e-6)


def test_a_face_that_cannot_be_read_has_no_hypotheses():
    first, second = to_detections([face(None, id="f00002"), face()], HEADER).detections
    assert (first.id, len(first.results), len(second.results)) == ("f00002", 0, 8)


def test_labels():
    info = to_label_info(HEADER)
    assert info.header == HEADER
    assert [each.class_id for each in info.class_map] == list(range(8))
    assert tuple(each.class_name for each in info.class_map) == EMOTIONS
