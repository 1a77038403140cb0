"""Recognize image files by their first bytes."""

import re
from pathlib import Path

HEAD_BYTES = 16
"""Bytes at the start of a file that tell its format."""

# By the suffix of the format, which is Pillow's name for it as well. Recent OpenCV decodes all.
_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "AVIF": rb"....ftypavi[fs]",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "BMP": rb"BM",
    "PPM": rb"P[1-6]\s",
    "JP2": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "HDR": rb"#\?R",
}
_PATTERNS = {name: re.compile(pattern, re.DOTALL) for name, pattern in _SIGNATURES.items()}


def image_format(data: bytes) -> str | None:
    """Return the name of the format that the bytes of a file begin like; None for no image."""
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(data)), None)


def image_format_of(file: Path) -> str | None:
    """Return the format of a file by its content; None if it is no image or cannot be read."""
    try:
        with file.open("rb") as stream:
            return image_format(stream.read(HEAD_BYTES))
    except OSError:
        return None  # reading the file reports why
