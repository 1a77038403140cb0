"""The pixels of image messages: any object with their fields."""

import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fer_ros.decode import (
    ConversionError,
    UnknownEncodingError,
    decode_picture,
    decompress,
    to_jpeg,
    to_rgb,
)

HEIGHT, WIDTH = 6, 8
RED, GREEN, BLUE = 200, 100, 50


def message(encoding: str, rows: np.ndarray, padding: int = 0, **fields) -> SimpleNamespace:
    """An image of WIDTH pixels whose rows have ``padding`` more bytes at their ends."""
    rows = rows.reshape(len(rows), -1).view(np.uint8)
    junk = np.full((len(rows), padding), 0xAB, np.uint8)
    data = np.concatenate([rows, junk], axis=1).tobytes()
    shape = {"height": HEIGHT, "width": WIDTH, "step": rows.shape[1] + padding, "is_bigendian": 0}
    return SimpleNamespace(encoding=encoding, data=data, **shape | fields)


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
        (message("", RGB_ROWS, height=0, width=0), "the image is empty: 0 x 0 pixels"),
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


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "0 bytes of format 'jpeg' are no picture"), (b"no jpeg", "7 bytes of format 'jpeg'")],
)
def test_a_compressed_message_that_holds_no_image(data, says):
    with pytest.raises(ConversionError) as caught:
        decompress(SimpleNamespace(format="jpeg", data=data))
    assert says in str(caught.value)


def claims(side_px: int) -> bytes:
    """A PNG file whose header says how large its picture is."""
    data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    header = b"IHDR" + struct.pack(">II", side_px, side_px) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "OpenCV cannot read 0 bytes"),
        (b"no picture", "OpenCV cannot read 10 bytes"),
        (claims(4)[:40], "OpenCV cannot read 40 bytes"),
        (claims(60_000), "bytes: "),  # and OpenCV says which of its limits that is
    ],
)
def test_bytes_that_are_no_picture_file(data, says):
    with pytest.raises(ConversionError) as caught:
        decode_picture(data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_file_is_turned_as_it_says_and_a_message_is_not(astronaut):
    exif = bytes.fromhex(
        "45786966000049492a00080000000100120103000100000006000000"
    )  # by 90 degrees
    jpeg = to_jpeg(astronaut[:256]).tobytes()
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 6) + exif + bytes(4) + jpeg[2:]
    assert decode_picture(data).shape == (512, 256, 3)
    assert decompress(SimpleNamespace(format="jpeg", data=data)).shape == (256, 512, 3)


def test_only_an_encoding_that_is_not_known_is_an_unknown_one():
    """Somebody else may know it; nobody can mend the others."""
    for bad, kind in (("h264", UnknownEncodingError), ("rgb8", ConversionError)):
        with pytest.raises(ConversionError) as caught:
            to_rgb(message(bad, RGB_ROWS, step=1))
        assert type(caught.value) is kind


def test_any_buffer_of_bytes_will_do(astronaut):
    data = to_jpeg(astronaut)
    pictures = [
        decompress(SimpleNamespace(format="jpeg", data=each))
        for each in (data, data.tobytes(), memoryview(data))
    ]
    assert np.abs(pictures[0].astype(int) - astronaut).mean() < 5
    assert all((each == pictures[0]).all() for each in pictures)
