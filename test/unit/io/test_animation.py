"""Animations as short videos, and files of several pages."""

import numpy as np
import pytest
from media_tools import partial
from PIL import Image, features

from fer_ros.io.media import count_images, is_video, read_file

ORANGE_RGB = (230, 120, 20)
GRAYS = (10, 110, 210)
FORMATS = [
    "gif",
    "png",
    "webp",
    pytest.param(
        "avif", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
    ),
]


def animation(path, durations_ms):
    """Frames of one gray each."""
    first, *others = [Image.fromarray(np.full((16, 24, 3), gray, np.uint8)) for gray in GRAYS]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=durations_ms, **options)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_animation_is_a_video_with_its_own_timing(tmp_path, suffix):
    path = animation(tmp_path / f"a.{suffix}", [100, 400, 100])
    assert (is_video(path), count_images(path)) == (True, 3)
    images = list(read_file(path))
    assert [image.stamp_s for image in images] == [0.0, 0.1, 0.5]
    assert {(image.name, image.image_rgb.shape) for image in images} == {(str(path), (16, 24, 3))}
    np.testing.assert_allclose([image.image_rgb.mean() for image in images], GRAYS, atol=3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a", "a.mp4"])
def test_an_animation_is_recognized_by_content(tmp_path, name):
    path = animation(tmp_path / "a.gif", [100, 400, 100]).rename(tmp_path / name)
    assert (is_video(path), count_images(path)) == (True, 3)
    assert [image.stamp_s for image in read_file(path)] == [0.0, 0.1, 0.5]


def test_frames_without_a_duration_last_as_long_as_in_browsers(tmp_path):
    path = animation(tmp_path / "a.gif", 0)
    assert [image.stamp_s for image in read_file(path)] == [0.0, 0.1, 0.2]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_a_file_of_one_frame_is_an_image(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.full((16, 24, 3), ORANGE_RGB, np.uint8)).save(path)
    assert (is_video(path), count_images(path)) == (False, 1)
    (image,) = read_file(path)
    np.testing.assert_allclose(image.image_rgb.mean(axis=(0, 1)), ORANGE_RGB, atol=6)


@pytest.mark.parametrize(("suffix", "missing"), [("gif", 1), ("gif", 30), ("png", 45)])
def test_a_truncated_animation_is_reported(tmp_path, suffix, missing):
    path = animation(tmp_path / f"a.{suffix}", 100)
    path.write_bytes(path.read_bytes()[:-missing])
    images, error = partial(path)
    assert 1 <= len(images) <= 3
    assert error.startswith(f"{path}: ends after image {len(images)}: {suffix.upper()} animation")


def test_further_pages_of_a_tiff_are_reported(tmp_path):
    path = animation(tmp_path / "a.tiff", 0)
    images, error = partial(path)
    assert error == f"{path}: the first of 3 pages is read: split the file into one for each page"
    assert [image.image_rgb.mean() for image in images] == [GRAYS[0]]
