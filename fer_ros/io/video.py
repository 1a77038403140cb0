"""Read videos to their end, past damaged parts."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_EDITED_SUFFIXES = {".mp4", ".m4v", ".mov"}
_COUNTED_SUFFIXES = _EDITED_SUFFIXES | {".avi"}  # they store the number of their images
_MAX_EDITED = 2  # images that an edit list may leave out without damage
# In containers without a frame count, audio may exceed the images by these.
_MAX_UNCOUNTED_S = 1.0
_MAX_UNCOUNTED_SHARE = 0.1
_MAX_FAILED_READS = 250  # in sequence, in a damaged part
_DEFAULT_FPS = 25.0

# MediaError says the same as FFmpeg's own lines on stderr.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class MediaError(ValueError):
    """A path holds no image or video that can be read; the message is one line."""


class IncompleteMediaError(MediaError):
    """Images of a file are missing; those that can be read were read before."""


class MediaImage(NamedTuple):
    """An image (H, W, 3) uint8; ``stamp_s`` counts from the start of a video, else it is 0."""

    name: str
    stamp_s: float
    image_rgb: NDArray[np.uint8]


def open_video(source: Path | str) -> cv2.VideoCapture:
    """Open a video file or a stream.

    Raises MediaError for a name that is not UTF-8, which would crash OpenCV.
    """
    name = str(source)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise MediaError(f"{name}: the name of the video is not UTF-8: rename it") from None
    return cv2.VideoCapture(name)


def promised_count(video: cv2.VideoCapture) -> int:
    """Return the number of images in the header of a video; 0 if it has none."""
    count = video.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if np.isfinite(count) and count > 0 else 0


class VideoReader:
    """Yields the images of a video file.

    Raises MediaError when there are none, IncompleteMediaError after the last if some are missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamps_s: list[float] = []
        self._first_damage_s: float | None = None

    def __iter__(self) -> Iterator[MediaImage]:
        video = open_video(self._file)
        try:
            fps = video.get(cv2.CAP_PROP_FPS)
            period_s = 1 / fps if np.isfinite(fps) and fps > 0 else 1 / _DEFAULT_FPS
            promised = promised_count(video)
            failed_reads = 0
            while failed_reads < _MAX_FAILED_READS:
                is_read, image_bgr = video.read()
                if not is_read:
                    failed_reads += 1
                    if self._is_complete(promised):
                        break
                    continue
                if failed_reads and self._first_damage_s is None:
                    self._first_damage_s = self._stamps_s[-1] if self._stamps_s else 0.0
                failed_reads = 0
                stamp_s = self._add_stamp(video.get(cv2.CAP_PROP_POS_MSEC), period_s)
                image_rgb = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
                yield MediaImage(str(self._file), stamp_s, image_rgb)
        finally:
            video.release()
        self._check_complete(promised, period_s)

    def _add_stamp(self, position_ms: float, period_s: float) -> float:
        """Take the video's clock, or a regular one where it does not advance."""
        previous_s = self._stamps_s[-1] if self._stamps_s else None
        is_valid = np.isfinite(position_ms) and position_ms >= 0
        position_s = round(position_ms / 1000, 6) if is_valid else 0.0
        if previous_s is not None and position_s <= previous_s:
            position_s = round(previous_s + period_s, 6)
        self._stamps_s.append(position_s)
        return position_s

    def _is_complete(self, promised: int) -> bool:
        return promised > 0 and len(self._stamps_s) >= promised

    def _check_complete(self, promised: int, period_s: float) -> None:
        """Raise if there are no images, or fewer than the file header states."""
        count = len(self._stamps_s)
        if not count:
            raise MediaError(f"{self._file}: not an image or video that OpenCV can read")
        is_counted = self._file.suffix.lower() in _COUNTED_SUFFIXES
        if is_counted and not promised:
            raise IncompleteMediaError(
                f"{self._file}: the file does not say how many images it has: {count} were read, "
                "others may be missing"
            )
        missing = promised - count if is_counted else 0
        if self._first_damage_s is not None:
            amount = f"{missing} of {promised} images are" if missing > 0 else "a part is"
            raise IncompleteMediaError(
                f"{self._file}: damaged after {self._first_damage_s:.2f} s: {amount} missing"
            )
        last_s, duration_s = self._stamps_s[-1], promised * period_s
        is_cut = not is_counted and duration_s - last_s - period_s > _max_uncounted_s(duration_s)
        allowed = _MAX_EDITED if self._file.suffix.lower() in _EDITED_SUFFIXES else 0
        if missing > allowed or is_cut:
            amount = f"{missing} of {promised} images are" if is_counted else "the end is"
            raise IncompleteMediaError(
                f"{self._file}: ends at {last_s:.2f} of {duration_s:.2f} s: {amount} missing"
            )


def _max_uncounted_s(duration_s: float) -> float:
    return min(_MAX_UNCOUNTED_S, _MAX_UNCOUNTED_SHARE * duration_s)
