"""Formats of image files by their first bytes."""

import cv2
import numpy as np
import pytest

from fer_ros.io.image_format import image_format, image_format_of


@pytest.mark.parametrize("data", [b"", b"B", b"text", b"RIFF\0\0\0\0AVI LIST", b"P5"])
def test_other_files_have_no_format(data, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    assert image_format(data) is None
    assert image_format_of(tmp_path / "a.png") is None


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "JP2", "HDR"])
def test_formats_of_opencv(name, tmp_path):
    image = np.zeros((64, 64, 3), np.float32 if name == "HDR" else np.uint8)
    path = tmp_path / f"a.{name.lower()}"
    assert cv2.imwrite(str(path), image)
    assert image_format_of(path.rename(tmp_path / "a")) == name


def test_what_cannot_be_read_has_no_format(tmp_path):
    assert image_format_of(tmp_path) is None
    assert image_format_of(tmp_path / "missing") is None
