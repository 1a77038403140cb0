"""Frames of animated GIF, PNG, WebP and AVIF files, of which OpenCV decodes the first only."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fer_ros.io.errors import single_line
from fer_ros.io.image_decoding import MAX_PIXELS, PILLOW_ERRORS, ConversionError
from fer_ros.io.image_format import image_format_of

_ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF")
_PAGED_FORMATS = ("TIFF",)
_GIF_TRAILER = b"\x3b"
_MIN_DURATION_MS = 20  # browsers replace shorter durations by the default below
_DEFAULT_DURATION_MS = 100
_OPEN_ERRORS = (*PILLOW_ERRORS, UnidentifiedImageError, Image.DecompressionBombError)


def is_animated(file: Path) -> bool:
    """Whether the file is an animation of two or more frames. False if Pillow cannot open it."""
    return image_format_of(file) in _ANIMATED_FORMATS and count_frames(file) > 1


def count_frames(file: Path) -> int:
    """Number of frames of an animation, or of pages of a TIFF file; 1 for every other file."""
    if image_format_of(file) not in _ANIMATED_FORMATS + _PAGED_FORMATS:
        return 1
    try:
        with Image.open(file, formats=_ANIMATED_FORMATS + _PAGED_FORMATS) as image:
            width, height = image.size
            return getattr(image, "n_frames", 1) if width * height <= MAX_PIXELS else 1
    except _OPEN_ERRORS:
        return 1  # decoding reports why


def read_frames(file: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield the time in seconds since the first frame, and the frame as RGB (H, W, 3).

    Raises ConversionError at the first frame that cannot be decoded, and after the last one when
    the end of the file is missing.
    """
    form = image_format_of(file)
    stamp_ms = 0.0
    try:
        with Image.open(file, formats=_ANIMATED_FORMATS) as image:
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                image_rgb = np.array(image.convert("RGB"), np.uint8)
                yield round(stamp_ms / 1000, 6), image_rgb
                duration_ms = float(image.info.get("duration", 0))
                is_shown = duration_ms >= _MIN_DURATION_MS
                stamp_ms += duration_ms if is_shown else _DEFAULT_DURATION_MS
    except _OPEN_ERRORS as error:
        raise ConversionError(f"{form} animation: {single_line(error)}") from None
    if form == "GIF" and not file.read_bytes().rstrip(b"\0").endswith(_GIF_TRAILER):
        raise ConversionError("GIF animation: the end of the file is missing")
