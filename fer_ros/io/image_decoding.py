"""Decode image messages and image files to RGB, without ROS.

Takes any object with the fields of ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``: the
messages of a running robot and those that were read from a bag. cv_bridge is not needed; it breaks
wherever its NumPy is not the one that is installed.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile

from fer_ros.io.errors import single_line
from fer_ros.io.image_format import HEAD_BYTES, image_format
from fer_ros.single_pixel import widen_single_pixel

WarningCallback: TypeAlias = Callable[[str], object]
"""Takes one line about an image whose bit depth was inferred."""

_JPEG_QUALITY = 90
_PNG_SIGNATURE_BYTES = 8
MAX_PIXELS = int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 2**26))
"""Larger images are refused."""
_LIMIT_CHECK = "CV_IO_MAX_IMAGE_PIXELS"  # in OpenCV's message
_LIMIT = f"the limit is {MAX_PIXELS}: reduce the image, or raise OPENCV_IO_MAX_IMAGE_PIXELS"
_BIT_DEPTHS = (10, 12, 14)  # of sensors whose samples come in 16 bits
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    struct.error,
)
"""What Pillow raises for damaged files."""


class ConversionError(ValueError):
    """An image message or file cannot be decoded; the message is one line."""


class UnknownEncodingError(ConversionError):
    """The encoding of a message is not supported here."""


def ignore_warning(text: str) -> None:
    """Drop a warning: for callers whose users cannot do anything about it."""


class RawImage(Protocol):
    """Fields of ``sensor_msgs/Image`` that are read; ``data`` is a buffer of bytes."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImageLike(Protocol):
    """Fields of ``sensor_msgs/CompressedImage`` that are read; ``data`` is a buffer of bytes."""

    format: str
    data: Any


class _Encoding(NamedTuple):
    """How the samples of a pixel are stored.

    ``to_rgb`` is OpenCV's color code, None for RGB; width and height are multiples of
    ``pixel_multiple``. With ``is_semi_planar``, rows of luma are followed by half as many of
    interleaved chroma.
    """

    channels: int
    to_rgb: int | None
    pixel_multiple: tuple[int, int] = (1, 1)
    dtype: type = np.uint8
    is_semi_planar: bool = False


# ROS names a Bayer pattern by its first four pixels, OpenCV by those one row and column further.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_ENCODINGS = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "rgb16": _Encoding(3, None, dtype=np.uint16),
    "bgr16": _Encoding(3, cv2.COLOR_BGR2RGB, dtype=np.uint16),
    "rgba16": _Encoding(4, cv2.COLOR_RGBA2RGB, dtype=np.uint16),
    "bgra16": _Encoding(4, cv2.COLOR_BGRA2RGB, dtype=np.uint16),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, dtype=np.uint16),
    # OpenCV's types carry no color order; its own images are BGR.
    "8uc1": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8uc3": _Encoding(3, cv2.COLOR_BGR2RGB),
    "8uc4": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "16uc1": _Encoding(1, cv2.COLOR_GRAY2RGB, dtype=np.uint16),
    "16uc3": _Encoding(3, cv2.COLOR_BGR2RGB, dtype=np.uint16),
    "16uc4": _Encoding(4, cv2.COLOR_BGRA2RGB, dtype=np.uint16),
    "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, (2, 1)),
    "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, (2, 1)),
    "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, (2, 1)),
    "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, (2, 1)),
    "nv12": _Encoding(1, cv2.COLOR_YUV2RGB_NV12, (2, 2), is_semi_planar=True),
    "nv21": _Encoding(1, cv2.COLOR_YUV2RGB_NV21, (2, 2), is_semi_planar=True),
    **{f"bayer_{name}8": _Encoding(1, code, (2, 2)) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": _Encoding(1, code, (2, 2), np.uint16) for name, code in _BAYER.items()},
}


def decode_raw(message: RawImage, warn: WarningCallback = ignore_warning) -> NDArray[np.uint8]:
    """Decode an image message to RGB (H, W, 3); the result may share its memory.

    16 bits per sample are reduced to 8. Where only the lower 10, 12 or 14 bits are used, as by
    infrared cameras, these are scaled to 8 bits and ``warn`` is called. OpenCV's ``8UC3`` and
    similar types are read as BGR.

    Raises:
        UnknownEncodingError: the encoding is not supported.
        ConversionError: the fields of the message contradict each other, or it is empty.
    """
    if message.width == 0 or message.height == 0:
        raise ConversionError(f"the image is empty: {message.width} x {message.height} pixels")
    encoding = _ENCODINGS.get(message.encoding.lower())
    if encoding is None:
        raise UnknownEncodingError(
            f"unknown encoding {message.encoding!r}; without cv_bridge, supported are "
            f"{', '.join(_ENCODINGS)}"
        )
    samples = _as_strided_array(message, encoding)
    try:
        if encoding.dtype is np.uint16:
            samples = _reduce_to_8_bits(samples, message.encoding, warn)
        if encoding.to_rgb is None:
            return np.ascontiguousarray(samples, np.uint8)
        return np.asarray(cv2.cvtColor(samples, encoding.to_rgb), np.uint8)
    except cv2.error as error:
        raise ConversionError(
            f"OpenCV cannot convert {message.width} x {message.height} {message.encoding} pixels: "
            f"{single_line(error.err)}"
        ) from None


def decode_compressed(
    message: CompressedImageLike, warn: WarningCallback = ignore_warning
) -> NDArray[np.uint8]:
    """Decode a compressed image message to RGB (H, W, 3); otherwise as ``decode_image_file``.

    The EXIF orientation that some cameras write is ignored: ROS images have none.
    """
    try:
        return decode_image_file(message.data, warn, ignore_orientation=True)
    except ConversionError as error:
        size = len(message.data)
        raise ConversionError(f"format {message.format!r}, {size} bytes: {error}") from None


def decode_image_file(
    data: Any, warn: WarningCallback = ignore_warning, ignore_orientation: bool = False
) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to RGB (H, W, 3), rotated by its EXIF orientation.

    ``warn`` is called as by ``decode_raw``. Files that claim more than 2**26 pixels are refused
    before memory is allocated; the environment variable OPENCV_IO_MAX_IMAGE_PIXELS sets another
    limit.

    Raises:
        ConversionError: the file is not a supported image, is truncated, or claims too many pixels.
    """
    encoded = np.frombuffer(data, np.uint8)
    form = image_format(encoded[:HEAD_BYTES].tobytes())
    if form == "JPEG":
        return _decode_jpeg(encoded.tobytes(), ignore_orientation)
    if form == "PNG":
        _check_png(encoded.tobytes())
    flags = cv2.IMREAD_IGNORE_ORIENTATION if ignore_orientation else 0
    image_bgr = _imdecode(encoded, form, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | flags)
    if image_bgr.dtype == np.uint16:
        image_bgr = _reduce_to_8_bits(image_bgr, "16-bit file", warn)
    elif image_bgr.dtype != np.uint8:
        raise ConversionError(f"expected 8 or 16 bits per sample, found {image_bgr.dtype}")
    image_rgb = cv2.cvtColor(widen_single_pixel(image_bgr), cv2.COLOR_BGR2RGB)
    return np.asarray(image_rgb[:, : image_bgr.shape[1]], np.uint8)


def _imdecode(encoded: NDArray[np.uint8], form: str | None, flags: int) -> NDArray:
    image_bgr, reason = None, ""
    try:
        if len(encoded):
            image_bgr = cv2.imdecode(encoded, flags)
    except cv2.error as error:
        reason = f": {single_line(error.err)}"
    if image_bgr is None:
        if _LIMIT_CHECK in reason:
            raise ConversionError(f"{form} with too many pixels: {_LIMIT}")
        is_decodable = form and cv2.haveImageWriter(f"a.{form}")  # old releases have no AVIF
        problem = f"damaged {form}: " if is_decodable else ""
        raise ConversionError(f"{problem}OpenCV cannot read {len(encoded)} bytes{reason}")
    return np.asarray(image_bgr)


def _check_png(data: bytes) -> None:
    """Raise ConversionError for a damaged file, about which libpng writes to stderr."""
    start, name = _PNG_SIGNATURE_BYTES, b""
    while name != b"IEND":
        head = data[start : start + 8].ljust(8, b"\0")
        length, name = struct.unpack(">I4s", head)
        end = start + 8 + length
        if end + 4 > len(data):
            raise ConversionError(f"damaged PNG of {len(data)} bytes: its end is missing")
        checksum = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        if name[:1].isupper() and data[end : end + 4] != checksum:  # of a critical chunk
            raise ConversionError(f"damaged PNG of {len(data)} bytes: wrong checksum")
        start = end + 4


def _decode_jpeg(data: bytes, ignore_orientation: bool) -> NDArray[np.uint8]:
    """Decode with Pillow: the same pixels as OpenCV's, but a truncated file is an error.

    OpenCV lets libjpeg write about every damaged file to stderr, and its older releases fill the
    missing part of a truncated one with gray.
    """
    try:
        image: Image = JpegImageFile(io.BytesIO(data))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ConversionError(f"JPEG of {width} x {height} pixels: {_LIMIT}")
        if not ignore_orientation:
            image = ImageOps.exif_transpose(image)
        return np.array(image.convert("RGB"), np.uint8)
    except PILLOW_ERRORS as error:
        if isinstance(error, ConversionError):
            raise
        raise ConversionError(f"damaged JPEG of {len(data)} bytes: {single_line(error)}") from None


def _reduce_to_8_bits(samples: NDArray, name: str, warn: WarningCallback) -> NDArray[np.uint8]:
    """Scale 16-bit samples to 8 bits by their bit depth: that of their largest value."""
    largest = int(samples.max())
    bits = next((depth for depth in _BIT_DEPTHS if largest < 2**depth), 16)
    if bits < 16 and largest > 0:
        warn(f"{name}: only {bits} of 16 bits are used; the range is stretched")
    # 65535 becomes 255
    return np.asarray(cv2.convertScaleAbs(samples, alpha=255 / (2**bits - 1)), np.uint8)


def _as_strided_array(message: RawImage, encoding: _Encoding) -> NDArray:
    """View (rows, W, channels) of the message's data, without the padding of its rows."""
    width, height = message.width, message.height
    multiple_x, multiple_y = encoding.pixel_multiple
    if width % multiple_x or height % multiple_y:
        raise ConversionError(
            f"{message.encoding} comes in blocks of {multiple_x} x {multiple_y} pixels, the image "
            f"has {width} x {height}"
        )
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    pixel_bytes = encoding.channels * dtype.itemsize
    if message.step < width * pixel_bytes:
        raise ConversionError(
            f"step is {message.step} bytes, but a row of {width} {message.encoding} pixels has "
            f"{width * pixel_bytes}"
        )
    rows = height * 3 // 2 if encoding.is_semi_planar else height
    required = message.step * (rows - 1) + width * pixel_bytes
    if len(message.data) < required:
        raise ConversionError(
            f"data has {len(message.data)} bytes, but {width} x {height} {message.encoding} pixels "
            f"with a step of {message.step} need {required}"
        )
    strides = (message.step, pixel_bytes, dtype.itemsize)
    shape = (rows, width, encoding.channels)
    view: NDArray = np.ndarray(shape, dtype, memoryview(message.data), strides=strides)
    # OpenCV takes padded rows of bytes, but neither rows at odd bytes nor a foreign byte order.
    return view if encoding.dtype is np.uint8 else view.astype(encoding.dtype)


def encode_jpeg(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encode an image (H, W, 3) as the bytes (N,) of a JPEG file."""
    image_bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return np.ascontiguousarray(data, np.uint8).reshape(-1)
