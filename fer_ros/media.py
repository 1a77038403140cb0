"""Pictures and videos as a stream of RGB images: one file, or a folder of them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.decode import ConversionError, decode_picture
from fer_ros.errors import one_line

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
VIDEOS = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"}
_USUAL_FPS = 25.0  # for the rare video that does not say

# FFmpeg writes its own complaints to stderr, beside the one line that MediaError brings.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class MediaError(ValueError):
    """A path holds no picture or video that can be read; the message is one line."""


class MediaImage(NamedTuple):
    """One image (H, W, 3) uint8. ``stamp_s`` counts from the start of a video; pictures have 0."""

    name: str
    stamp_s: float
    image_rgb: NDArray[np.uint8]


def open_media(path: Path | str) -> Iterator[MediaImage]:
    """The images of a picture, a video, or all pictures and videos of a folder by name.

    Raises MediaError: at once when nothing is there, later at the first file that cannot be read.
    """
    files = media_files(path)
    return (image for file in files for image in read_file(file))


def media_files(path: Path | str) -> list[Path]:
    """``path`` itself when it is a file, else the pictures and videos of the folder, by name.

    Raises MediaError when there is no such path or the folder has none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MediaError(f"{path}: no such file or folder")
    files = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES | VIDEOS)
    if not files:
        raise MediaError(f"{path}: the folder holds no picture and no video")
    return files


def is_video(file: Path) -> bool:
    """By its name, or for other names because OpenCV does not know it as a picture."""
    suffix = file.suffix.lower()
    if suffix in PICTURES | VIDEOS:
        return suffix in VIDEOS
    return not cv2.haveImageReader(str(file))


def count_images(file: Path) -> int:
    """1 for a picture; what the file says for a video, 0 when it does not say."""
    if not is_video(file):
        return 1
    video = cv2.VideoCapture(str(file))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return max(0, count)


def read_file(file: Path) -> Iterator[MediaImage]:
    """The images of one file. Raises MediaError when it cannot be read."""
    if is_video(file):
        yield from _read_video(file)
    else:
        yield MediaImage(str(file), 0.0, _read_picture(file))


def _read_picture(file: Path) -> NDArray[np.uint8]:
    try:
        return decode_picture(file.read_bytes())
    except OSError as error:
        raise MediaError(f"{file}: cannot be read: {one_line(error)}") from None
    except ConversionError as error:
        raise MediaError(f"{file}: not a picture: {error}") from None


def _read_video(file: Path) -> Iterator[MediaImage]:
    video = cv2.VideoCapture(str(file))
    try:
        fps = video.get(cv2.CAP_PROP_FPS)
        fps = fps if np.isfinite(fps) and fps > 0 else _USUAL_FPS
        index = 0
        while (answer := video.read())[0]:
            image_rgb = np.asarray(cv2.cvtColor(answer[1], cv2.COLOR_BGR2RGB), np.uint8)
            yield MediaImage(str(file), index / fps, image_rgb)
            index += 1
    finally:
        video.release()
    if index == 0:
        raise MediaError(f"{file}: neither a picture nor a video that OpenCV can read")
