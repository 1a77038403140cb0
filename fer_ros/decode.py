"""The pixels of image messages, without ROS.

Works on whatever has the fields of ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``: the
messages of a running robot and those that were read from a bag. NumPy and OpenCV are enough;
cv_bridge breaks wherever its NumPy is not the one that is installed.
"""

from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.errors import one_line

_JPEG_QUALITY = 90


class ConversionError(ValueError):
    """An image message holds no image; the message is one line."""


class UnknownEncodingError(ConversionError):
    """The encoding is none of those that are decoded here."""


class RawImage(Protocol):
    """The fields of ``sensor_msgs/Image`` that count; ``data`` is a buffer of bytes."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedPicture(Protocol):
    """The fields of ``sensor_msgs/CompressedImage`` that count; ``data`` is a buffer of bytes."""

    format: str
    data: Any


class _Encoding(NamedTuple):
    """``to_rgb`` is OpenCV's colour code, None for RGB; ``block`` is what sides are multiples of.

    ``chroma_rows``: below the rows of grey stand half as many rows of colour.
    """

    channels: int
    to_rgb: int | None
    block: tuple[int, int] = (1, 1)
    dtype: type = np.uint8
    chroma_rows: bool = False


# ROS names a Bayer pattern by its first four pixels, OpenCV's codes by those one row and column on.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_ENCODINGS = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "8uc3": _Encoding(3, cv2.COLOR_BGR2RGB),  # colours without a name come from OpenCV
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8uc1": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, dtype=np.uint16),
    "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, (2, 1)),
    "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, (2, 1)),
    "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, (2, 1)),
    "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, (2, 1)),
    "nv12": _Encoding(1, cv2.COLOR_YUV2RGB_NV12, (2, 2), chroma_rows=True),
    "nv21": _Encoding(1, cv2.COLOR_YUV2RGB_NV21, (2, 2), chroma_rows=True),
    **{f"bayer_{name}8": _Encoding(1, code, (2, 2)) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": _Encoding(1, code, (2, 2), np.uint16) for name, code in _BAYER.items()},
}


def to_rgb(message: RawImage) -> NDArray[np.uint8]:
    """The picture (H, W, 3), RGB; it may share the memory of the message.

    Of 16 bits per sample the upper eight are kept. ``8UC3`` is taken for BGR. Raises
    ConversionError when the message contradicts itself, UnknownEncodingError for other encodings.
    """
    if message.width == 0 or message.height == 0:
        raise ConversionError(f"the image is empty: {message.width} x {message.height} pixels")
    encoding = _ENCODINGS.get(message.encoding.lower())
    if encoding is None:
        raise UnknownEncodingError(
            f"unknown encoding {message.encoding!r}; without cv_bridge these are known: "
            f"{', '.join(_ENCODINGS)}"
        )
    samples = _samples(message, encoding)
    if encoding.dtype is np.uint16:
        samples = cv2.convertScaleAbs(samples, alpha=1 / 257)  # 65535 becomes 255
    if encoding.to_rgb is None:
        return np.ascontiguousarray(samples, np.uint8)
    return np.asarray(cv2.cvtColor(samples, encoding.to_rgb), np.uint8)


def decompress(message: CompressedPicture) -> NDArray[np.uint8]:
    """The picture (H, W, 3), RGB. Raises ConversionError when OpenCV cannot read it."""
    try:
        # The orientation that some cameras note in JPEG does not belong to the image of ROS.
        return decode_picture(message.data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except ConversionError as error:
        size = len(message.data)
        raise ConversionError(
            f"{size} bytes of format {message.format!r} are no picture: {error}"
        ) from None


def decode_picture(data: Any, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """The picture (H, W, 3), RGB, of the bytes of a picture file; ``flags`` are OpenCV's.

    Raises ConversionError when OpenCV cannot read it. One that claims more than 2**26 pixels is
    refused before it takes memory; the environment variable OPENCV_IO_MAX_IMAGE_PIXELS sets another
    limit. (Whoever imports cv2 before fer_ros has OpenCV's own, 2**30.)
    """
    encoded = np.frombuffer(data, np.uint8)
    image_bgr, reason = None, ""
    try:
        if len(encoded):
            image_bgr = cv2.imdecode(encoded, flags)
    except cv2.error as error:
        reason = f": {one_line(error.err)}"
    if image_bgr is None:
        raise ConversionError(f"OpenCV cannot read {len(encoded)} bytes{reason}")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _samples(message: RawImage, encoding: _Encoding) -> NDArray:
    """A view (rows, W, channels) of the message's data, without the padding of its rows."""
    width, height = message.width, message.height
    if width % encoding.block[0] or height % encoding.block[1]:
        raise ConversionError(
            f"{message.encoding} comes in blocks of {encoding.block[0]} x {encoding.block[1]} "
            f"pixels, the image has {width} x {height}"
        )
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    pixel_bytes = encoding.channels * dtype.itemsize
    if message.step < width * pixel_bytes:
        raise ConversionError(
            f"step is {message.step} bytes, but a row of {width} {message.encoding} pixels has "
            f"{width * pixel_bytes}"
        )
    rows = height * 3 // 2 if encoding.chroma_rows else height
    needed = message.step * (rows - 1) + width * pixel_bytes
    if len(message.data) < needed:
        raise ConversionError(
            f"data has {len(message.data)} bytes, but {width} x {height} {message.encoding} pixels "
            f"with a step of {message.step} need {needed}"
        )
    strides = (message.step, pixel_bytes, dtype.itemsize)
    shape = (rows, width, encoding.channels)
    view: NDArray = np.ndarray(shape, dtype, memoryview(message.data), strides=strides)
    # OpenCV takes padded rows of bytes, but neither rows at odd bytes nor a foreign byte order.
    return view if encoding.dtype is np.uint8 else view.astype(encoding.dtype)


def to_jpeg(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bytes (N,) of a JPEG file of the picture (H, W, 3)."""
    image_bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return np.ascontiguousarray(data, np.uint8).reshape(-1)
