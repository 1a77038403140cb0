"""Image files, animations and videos whose bytes are damaged."""

import io
import re
import tempfile
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from fer_ros.io.media import IncompleteMediaError, MediaError, count_images, read_file
from fuzz import only
from fuzz.damage import damaged

_NUM_FRAMES = 12
_FPS = 10.0
_IMAGE_SUFFIXES = ("png", "jpg", "webp", "bmp", "tiff", "ppm", "gif")
_HAS_CHECKSUM = {"png"}


@cache
def _image() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))


@cache
def _image_file(suffix: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_image()).save(file, {"jpg": "jpeg"}.get(suffix, suffix))
    return file.getvalue()


@cache
def _animation() -> bytes:
    frames = [Image.fromarray(np.roll(_image(), 4 * k, axis=1)) for k in range(_NUM_FRAMES)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=1000 / _FPS)
    return file.getvalue()


@cache
def _video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), _FPS, (32, 24))
        for k in range(_NUM_FRAMES):
            writer.write(np.roll(_image(), 4 * k, axis=1))
        writer.release()
        return Path(path).read_bytes()


def _read(name: str, content: bytes) -> tuple[list[float], list[np.ndarray], bool]:
    """Times and images of a file, and whether an error was raised."""
    stamps_s, images = [], []
    is_complete = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        assert count_images(path) >= 0
        with only(MediaError, IncompleteMediaError, about=path):
            for image in read_file(path):
                stamps_s.append(image.stamp_s)
                images.append(image.image_rgb)
            is_complete = True
    assert stamps_s == sorted(set(stamps_s))
    return stamps_s, images, is_complete


@given(st.sampled_from(_IMAGE_SUFFIXES), st.data())
def image_file(suffix: str, data: st.DataObject) -> None:
    """A file whose end is missing, or whose checksums are wrong, is no image."""
    original = _image_file(suffix)
    _, (expected,), _ = _read(f"a.{suffix}", original)
    end = data.draw(st.integers(0, len(original)))
    content = data.draw(damaged(original)) if suffix in _HAS_CHECKSUM else original[:end]
    _, images, is_complete = _read(f"a.{suffix}", content)
    assert len(images) == is_complete
    if images:
        np.testing.assert_array_equal(images[0], expected)


@given(st.data())
def video_file(data: st.DataObject) -> None:
    """All images are there, or an error names the file."""
    original = _video()
    end = st.integers(0, len(original))
    content = (
        data.draw(damaged(original)) if data.draw(st.booleans()) else original[: data.draw(end)]
    )
    _, images, is_complete = _read("a.avi", content)
    assert not is_complete or len(images) >= _NUM_FRAMES, "images are missing in silence"


def _ends_of_frames() -> list[int]:
    """Where an animation can end without a truncated frame: before the extension of each frame."""
    return [match.start() for match in re.finditer(re.escape(b"!\xf9\x04"), _animation())]


@given(st.integers(0, len(_animation())) | st.sampled_from(_ends_of_frames()))
@example(len(_animation()))
@example(_ends_of_frames()[-1])
def animated_file(end: int) -> None:
    """All frames are there and right, or an error names the file."""
    whole_s, expected, _ = _read("a.gif", _animation())
    assert len(expected) == _NUM_FRAMES
    stamps_s, images, is_complete = _read("a.gif", _animation()[:end])
    assert stamps_s == whole_s[: len(stamps_s)]
    np.testing.assert_array_equal(images, expected[: len(images)])
    assert not is_complete or len(images) == _NUM_FRAMES, "images are missing in silence"
