"""Make videos, and read media files that may be incomplete."""

from pathlib import Path

import cv2
import numpy as np

from fer_ros.io.media import IncompleteMediaError, MediaImage, read_file


def partial(path: Path) -> tuple[list[MediaImage], str]:
    """The images of a file, and the error after them."""
    images = []
    try:
        for image in read_file(path):
            images.append(image)  # noqa: PERF402  (an error would take the list with it)
    except IncompleteMediaError as error:
        return images, str(error)
    return images, ""


def write_video(path: Path, frames: int = 6, fps: float = 4.0) -> Path:
    """Ever brighter frames of one color."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((48, 64, 3), (10 * i, 20 * i, 40 * i), np.uint8))  # BGR
    writer.release()
    return path
