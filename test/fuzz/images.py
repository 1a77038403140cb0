"""Image messages, raw and compressed, whose fields contradict each other or hold no image."""

import struct
import zlib
from array import array

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from hypothesis import example, given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from fer_ros.io.image_decoding import ConversionError, UnknownEncodingError
from fer_ros.ros.convert import stamp_s, to_rgb
from fer_ros.types import Frame
from fuzz import only
from fuzz.damage import damaged

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_BYTES_PER_PIXEL = {
    **dict.fromkeys(("rgb8", "bgr8", "8UC3"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("mono8", "8UC1", "nv12", "nv21"), 1),
    **dict.fromkeys(("mono16", "yuv422", "uyvy", "yuv422_yuy2", "yuyv"), 2),
    **{f"bayer_{name}8": 1 for name in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{name}16": 2 for name in ("rggb", "bggr", "gbrg", "grbg")},
}
_UINT32 = st.integers(0, 2**32 - 1)
_SIDES = st.one_of(st.integers(0, 34), st.sampled_from([480, 640, 4320, 7680, 2**31, 2**32 - 1]))
_MAX_BYTES = 200_000  # of data that is really there
# 4 x 4 pixels
_GIF = (
    b"GIF87a\x04\0\x04\0\x80\0\0" + bytes(6) + b",\0\0\0\0\x04\0\x04\0\0\x08\t\0"
    b"\x01\x08\x1cH\xb0 \x80\x80\0;"
)
_HEADERS = st.builds(
    Header,
    stamp=st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=_UINT32),
    frame_id=st.text(max_size=8),
)


@st.composite
def raw_images(draw: st.DrawFn) -> Image:
    """An image that is right, or wrong in one or more of its fields."""
    encoding = draw(st.one_of(st.sampled_from(sorted(_BYTES_PER_PIXEL)), st.text(max_size=12)))
    width, height = draw(_SIDES), draw(_SIDES)
    row = width * _BYTES_PER_PIXEL.get(encoding, 3)
    step = draw(st.one_of(st.just(row), st.integers(row - 2, row + 9), _UINT32))
    step = min(2**32 - 1, max(0, step))
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    expected = min(step * rows, _MAX_BYTES)
    length = draw(st.one_of(st.just(expected), st.integers(0, min(expected + 3, _MAX_BYTES))))
    pattern = draw(st.binary(min_size=1, max_size=16))
    message = Image(
        header=draw(_HEADERS),
        height=height,
        width=width,
        encoding=encoding,
        step=step,
        is_bigendian=draw(st.integers(0, 255)),
    )
    message.data.frombytes((pattern * (length // len(pattern) + 1))[:length])
    return message


@given(raw_images())
@example(Image())
@example(Image(height=1, width=1, encoding="rgb8", step=2**32 - 1, data=array("B", bytes(3))))
@example(Image(height=4320, width=7680, encoding="bgr8", step=23040, data=array("B", bytes(9))))
def raw_image(message: Image) -> None:
    """The image has the size that the message names, and makes a frame."""
    with only(ConversionError, UnknownEncodingError):
        image_rgb = to_rgb(message)
        assert image_rgb.shape == (message.height, message.width, 3)
        assert np.isfinite(Frame(image_rgb, stamp_s(message.header)).stamp_s)


def _files() -> dict[str, bytes]:
    """A small image as a file of each kind that OpenCV reads."""
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    endings = ("jpg", "png", "webp", "bmp", "tiff", "ppm")
    files = {end: cv2.imencode(f".{end}", image)[1].tobytes() for end in endings}
    return files | {"gif": _GIF}


def compressed_images() -> st.SearchStrategy[CompressedImage]:
    """Bytes that were an image, or any."""
    files = st.sampled_from(sorted(_files().values())).flatmap(damaged)
    return st.builds(
        lambda header, form, data: CompressedImage(
            header=header, format=form, data=array("B", data)
        ),
        _HEADERS,
        st.text(max_size=20),
        st.one_of(files, files, files, st.binary(max_size=200)),
    )


@given(compressed_images())
@example(CompressedImage())
def compressed_image(message: CompressedImage) -> None:
    """An image in RGB, or a line about why there is none."""
    with only(ConversionError):
        image_rgb = to_rgb(message)
        assert (image_rgb.ndim, image_rgb.shape[2], image_rgb.dtype) == (3, 3, np.uint8)
        assert image_rgb.size > 0


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(side: int) -> bytes:
    """Animated, so that OpenCV allocates the whole image before it reads a pixel."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    animation = struct.pack(">II", 2, 0)
    frame = struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 10, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"acTL", animation),
        (b"fcTL", frame),
        (b"IDAT", b""),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _patched(content: bytes, after: bytes, skip: int, sides: bytes) -> bytes:
    """The file with other sides, some bytes after a mark of its header."""
    place = content.index(after) + len(after) + skip
    return content[:place] + sides + content[place + len(sides) :]


def _bmp(side: int) -> bytes:
    """Run-length encoded: the image may be longer than the file."""
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1078, 0, 0, 1078) + info + bytes(1024) + b"\0\1"


def _tiff(side: int) -> bytes:
    entries = ((256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1))
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)


def bombs(side: int) -> dict[str, bytes]:
    """Small files that claim a square image of this side, up to 65535."""
    little, big = struct.pack("<HH", side, side), struct.pack(">HH", side, side)
    files = _files()
    return {
        "jpeg": _patched(files["jpg"], b"\xff\xc0", 3, big),
        "png": _png(side),
        "gif": _patched(files["gif"], b"GIF87a", 0, little),
        "bmp": _bmp(side),
        "tiff": _tiff(side),
        "ppm": f"P6 {side} {side} 255\n".encode() + bytes(9),
    }
