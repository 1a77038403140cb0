"""The pixels of image messages: any object with their fields."""

import io
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_ros.io.image_decoding import (
    ConversionError,
    UnknownEncodingError,
    decode_compressed,
    decode_image_file,
    decode_raw,
    encode_jpeg,
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
    """Rows in which the samples of one pixel, or of two neighbors, repeat."""
    return np.tile(np.array(samples, dtype), (HEIGHT, WIDTH * 4))[:, : WIDTH * len(samples)]


def bayer(pattern: str, dtype=np.uint8, gain: int = 1) -> np.ndarray:
    """What a sensor with this pattern, read from the top left, says about one color."""
    value = {"r": RED, "g": GREEN, "b": BLUE}
    tile = np.array([value[name] for name in pattern], dtype).reshape(2, 2) * gain
    return np.tile(tile, (HEIGHT // 2, WIDTH // 2)).astype(dtype)


def planes(first: int, second: int, luma: int) -> np.ndarray:
    """NV12 or NV21: rows of gray, then half as many of two alternating colors."""
    gray = np.full((HEIGHT, WIDTH), luma, np.uint8)
    color = np.tile(np.array([first, second], np.uint8), (HEIGHT // 2, WIDTH // 2))
    return np.concatenate([gray, color])


# Rec. 601 of the color RED, GREEN, BLUE: luma 16..235, blue and red difference around 128.
Y, U, V = 123, 91, 175
COLOR, GRAY = (RED, GREEN, BLUE), (GREEN, GREEN, GREEN)
ENCODINGS = {
    "rgb8": (flat(RED, GREEN, BLUE), COLOR),
    "bgr8": (flat(BLUE, GREEN, RED), COLOR),
    "BGR8": (flat(BLUE, GREEN, RED), COLOR),
    "8UC3": (flat(BLUE, GREEN, RED), COLOR),
    "rgba8": (flat(RED, GREEN, BLUE, 7), COLOR),
    "bgra8": (flat(BLUE, GREEN, RED, 7), COLOR),
    "mono8": (flat(GREEN), GRAY),
    "8UC1": (flat(GREEN), GRAY),
    "mono16": (flat(GREEN * 257, dtype="<u2"), GRAY),
    "rgb16": (flat(*(257 * c for c in (RED, GREEN, BLUE)), dtype="<u2"), COLOR),
    "bgr16": (flat(*(257 * c for c in (BLUE, GREEN, RED)), dtype="<u2"), COLOR),
    "rgba16": (flat(*(257 * c for c in (RED, GREEN, BLUE, 7)), dtype="<u2"), COLOR),
    "bgra16": (flat(*(257 * c for c in (BLUE, GREEN, RED, 7)), dtype="<u2"), COLOR),
    "8UC4": (flat(BLUE, GREEN, RED, 7), COLOR),
    "16UC1": (flat(GREEN * 257, dtype="<u2"), GRAY),
    "16UC3": (flat(*(257 * c for c in (BLUE, GREEN, RED)), dtype="<u2"), COLOR),
    "16UC4": (flat(*(257 * c for c in (BLUE, GREEN, RED, 7)), dtype="<u2"), COLOR),
    "yuv422": (flat(U, Y, V, Y)[:, : WIDTH * 2], COLOR),
    "uyvy": (flat(U, Y, V, Y)[:, : WIDTH * 2], COLOR),
    "yuv422_yuy2": (flat(Y, U, Y, V)[:, : WIDTH * 2], COLOR),
    "yuyv": (flat(Y, U, Y, V)[:, : WIDTH * 2], COLOR),
    "nv12": (planes(U, V, Y), COLOR),
    "nv21": (planes(V, U, Y), COLOR),
    **{f"bayer_{name}8": (bayer(name), COLOR) for name in ("rggb", "bggr", "gbrg", "grbg")},
    **{
        f"bayer_{name}16": (bayer(name, "<u2", 257), COLOR)
        for name in ("rggb", "bggr", "gbrg", "grbg")
    },
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_color_in_every_encoding(encoding, padding):
    rows, color = ENCODINGS[encoding]
    image_rgb = decode_raw(message(encoding, rows, padding))
    assert (image_rgb.shape, image_rgb.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.abs(image_rgb.astype(int) - color).max() <= 2, image_rgb[0, 0]


REFERENCES = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", REFERENCES)
def test_every_pixel_is_where_opencv_decodes_it(encoding, padding):
    channels, code = REFERENCES[encoding]
    samples = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    expected = samples if code is None else cv2.cvtColor(samples, code)
    np.testing.assert_array_equal(decode_raw(message(encoding, samples, padding)), expected)


@pytest.mark.parametrize(("encoding", "code"), [("nv12", "NV12"), ("nv21", "NV21")])
def test_chroma_planes_follow_the_padded_luma_rows(encoding, code):
    rows = np.random.default_rng(0).integers(0, 256, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    expected = cv2.cvtColor(rows, getattr(cv2, f"COLOR_YUV2RGB_{code}"))
    np.testing.assert_array_equal(decode_raw(message(encoding, rows, 5)), expected)


@pytest.mark.parametrize(("order", "is_bigendian"), [("<u2", 0), (">u2", 1)])
def test_sixteen_bits_in_both_byte_orders(order, is_bigendian):
    gray = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    samples = (gray.astype(np.uint16) * 257).astype(order)
    image_rgb = decode_raw(message("mono16", samples, 3, is_bigendian=is_bigendian))
    np.testing.assert_array_equal(image_rgb, np.repeat(gray[..., None], 3, axis=2))


RGB_ROWS = flat(RED, GREEN, BLUE)
ROW = WIDTH * 3


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (message("", RGB_ROWS, height=0, width=0), "the image is empty: 0 x 0 pixels"),
        (message("rgb8", RGB_ROWS, height=0), "the image is empty: 8 x 0 pixels"),
        (message("rgb8", RGB_ROWS, width=0), "the image is empty: 0 x 6 pixels"),
        (message("", RGB_ROWS), "unknown encoding ''"),
        (message("h264", RGB_ROWS), "unknown encoding 'h264'; without cv_bridge, supported are"),
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
def test_a_message_without_an_image_is_rejected(bad, says):
    with pytest.raises(ConversionError) as caught:
        decode_raw(bad)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_last_row_needs_no_padding():
    image = message("rgb8", RGB_ROWS, 5)
    image.data = image.data[:-5]
    assert (decode_raw(image) == COLOR).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "format 'jpeg', 0 bytes: OpenCV cannot read 0 bytes"),
        (b"no jpeg", "format 'jpeg', 7 bytes: "),
    ],
)
def test_a_compressed_message_without_an_image_is_rejected(data, says):
    with pytest.raises(ConversionError) as caught:
        decode_compressed(SimpleNamespace(format="jpeg", data=data))
    assert says in str(caught.value)


def claims(side_px: int) -> bytes:
    """A PNG file whose header says how large its image is."""
    data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    header = b"IHDR" + struct.pack(">II", side_px, side_px) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "OpenCV cannot read 0 bytes"),
        (b"not images", "OpenCV cannot read 10 bytes"),
        (claims(4)[:-1], "damaged PNG of 78 bytes: its end is missing"),
        (claims(4)[:-17] + b"?" + claims(4)[-16:], "damaged PNG of 79 bytes: wrong checksum"),
        (
            claims(60_000),
            "PNG with too many pixels: the limit is 67108864: reduce the image, or raise "
            "OPENCV_IO_MAX_IMAGE_PIXELS",
        ),
    ],
)
def test_bytes_of_no_image_file_are_rejected(data, says):
    with pytest.raises(ConversionError) as caught:
        decode_image_file(data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exif_rotates_files_but_not_messages(astronaut):
    exif = bytes.fromhex(
        "45786966000049492a00080000000100120103000100000006000000"
    )  # by 90 degrees
    jpeg = encode_jpeg(astronaut[:256]).tobytes()
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 6) + exif + bytes(4) + jpeg[2:]
    assert decode_image_file(data).shape == (512, 256, 3)
    assert decode_compressed(SimpleNamespace(format="jpeg", data=data)).shape == (256, 512, 3)


def test_only_unknown_encodings_raise_unknown_encoding_error():
    """Another program may decode this one; the others are damaged."""
    for bad, kind in (("h264", UnknownEncodingError), ("rgb8", ConversionError)):
        with pytest.raises(ConversionError) as caught:
            decode_raw(message(bad, RGB_ROWS, step=1))
        assert type(caught.value) is kind


def test_any_bytes_buffer_is_accepted(astronaut):
    data = encode_jpeg(astronaut)
    images = [
        decode_compressed(SimpleNamespace(format="jpeg", data=buffer))
        for buffer in (data, data.tobytes(), memoryview(data))
    ]
    assert np.abs(images[0].astype(int) - astronaut).mean() < 5
    assert all((image_array == images[0]).all() for image_array in images)


@pytest.mark.parametrize(
    ("largest", "scale", "warning"),
    [
        (0, 0, ""),
        (1, 255 / 1023, "10 of 16 bits"),
        (1023, 255 / 1023, "10 of 16 bits"),
        (1024, 255 / 4095, "12 of 16 bits"),
        (4095, 255 / 4095, "12 of 16 bits"),
        (16383, 255 / 16383, "14 of 16 bits"),
        (16384, 1 / 257, ""),
        (65535, 1 / 257, ""),
    ],
)
@pytest.mark.parametrize("kind", ["mono16", "16UC1", "bayer_rggb16", "png", "compressed png"])
def test_sixteen_bit_images_with_unused_bits_are_stretched(kind, largest, scale, warning):
    samples = np.linspace(0, largest, HEIGHT * WIDTH).astype("<u2").reshape(HEIGHT, WIDTH)
    warnings = []
    if "png" in kind:
        data = cv2.imencode(".png", samples)[1]
        compressed = SimpleNamespace(format="mono16; png compressed", data=data)
        decode = decode_compressed if kind == "compressed png" else decode_image_file
        image_rgb = decode(compressed if kind == "compressed png" else data, warnings.append)
    else:
        image_rgb = decode_raw(message(kind, samples), warnings.append)
    if "bayer" not in kind:
        np.testing.assert_allclose(image_rgb[..., 1], samples * scale, atol=0.51)
    assert (image_rgb.max() > 200) == (largest in (1023, 4095, 16383, 65535))
    assert [warning in text for text in warnings] == [True] * bool(warning)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 2), (2, 4)])
def test_the_smallest_images_are_decoded_or_refused_in_one_line(encoding, height, width):
    data = bytes(range(200))
    small = SimpleNamespace(
        encoding=encoding, data=data, height=height, width=width, step=8 * width, is_bigendian=0
    )
    try:
        assert decode_raw(small).shape == (height, width, 3)
    except ConversionError as error:
        assert "\n" not in str(error)


def jpeg(astronaut):
    return encode_jpeg(astronaut).tobytes()


@pytest.mark.parametrize("missing", [2, 3, 50, 20_000])
def test_a_truncated_jpeg_is_rejected(astronaut, missing, capfd):
    """Also where OpenCV would fill the rest with gray."""
    data = jpeg(astronaut)[:-missing]
    with pytest.raises(ConversionError, match="truncated"):
        decode_image_file(data)
    assert capfd.readouterr().err == ""


def test_a_damaged_jpeg_writes_nothing_to_stderr(astronaut, capfd):
    """libjpeg tells every extraneous byte."""
    encoded = jpeg(astronaut)
    data = encoded[:-2] + bytes(60) + encoded[-2:]
    np.testing.assert_array_equal(decode_image_file(data), decode_image_file(encoded))
    assert capfd.readouterr().err == ""


def test_trailing_bytes_of_a_jpeg_are_ignored(astronaut):
    encoded = jpeg(astronaut)
    np.testing.assert_array_equal(
        decode_image_file(encoded + bytes(512)), decode_image_file(encoded)
    )


def test_jpeg_pixels_equal_those_of_opencv(astronaut):
    data = encode_jpeg(astronaut)
    expected = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(decode_image_file(data), expected)


def test_a_webcam_jpeg_without_huffman_tables_is_decoded(astronaut):
    encoded = jpeg(astronaut)
    data, place = encoded[:2], 2
    while encoded[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
        data += encoded[place:end] if encoded[place + 1] != 0xC4 else b""
        place = end
    np.testing.assert_array_equal(
        decode_image_file(data + encoded[place:]), decode_image_file(encoded)
    )


def test_a_jpeg_that_claims_too_many_pixels_is_refused(astronaut):
    encoded = jpeg(astronaut)
    place = encoded.index(b"\xff\xc0") + 5
    data = encoded[:place] + b"\xff\xff\xff\xff" + encoded[place + 4 :]
    with pytest.raises(ConversionError, match="65535 x 65535 pixels: the limit is"):
        decode_image_file(data)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_color_spaces(astronaut, mode):
    buffer = io.BytesIO()
    Image.fromarray(astronaut).convert(mode).save(buffer, "JPEG", quality=95)
    expected = np.asarray(Image.fromarray(astronaut).convert(mode).convert("RGB"), int)
    assert np.abs(decode_image_file(buffer.getvalue()) - expected).mean() < 4


def test_floating_point_files_are_rejected():
    data = cv2.imencode(".tiff", np.full((5, 6, 3), 100.0, np.float32))[1]
    with pytest.raises(ConversionError, match="expected 8 or 16 bits per sample, found float32"):
        decode_image_file(data)
