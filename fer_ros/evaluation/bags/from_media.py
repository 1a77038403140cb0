"""Create bags from videos and images, with labels from folders that are named like emotions."""

import csv
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer

from fer_ros.emotions import to_emotion
from fer_ros.evaluation.bags.messages import (
    COMPRESSED,
    IMAGE,
    make,
    make_header,
    to_bytes,
    typestore,
)
from fer_ros.evaluation.bags.writer import BAG_VERSION
from fer_ros.io.errors import WarningCounter, single_line
from fer_ros.io.image_decoding import encode_jpeg
from fer_ros.io.json_file import add_path_to_oserror
from fer_ros.io.media import (
    MediaError,
    MediaImage,
    is_video,
    list_media,
    media_files,
    read_file,
    skipped_errors,
)
from fer_ros.io.synthetic import FPS, synthetic_face, synthetic_frames

SAMPLE = "sample"
LABELS = "labels.csv"
TOPIC = "/camera/image_raw"
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

_FIRST_NS = 1_000_000_000 * 10**9  # fixed, so that two bags of one source are identical
_STILL_FPS = 10.0
_PAUSE_S = 2.5  # long enough for the tracker to drop the faces of the previous file
_FRAME_ID = "camera"


class LabeledImage(NamedTuple):
    """One image (H, W, 3) RGB.

    ``stamp_s`` counts from the first image; ``emotion`` is its label, or None.
    """

    stamp_s: float
    image_rgb: NDArray[np.uint8]
    emotion: str | None


@dataclass(frozen=True)
class BagSummary:
    """Content of a new bag.

    ``skipped_folders`` are not named like emotions; ``errors`` are lines about images that are
    missing or have an inferred bit depth.
    """

    images: int
    duration_s: float
    labels: int
    topic: str
    skipped_folders: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def make_bag(
    source: str, out: Path, storage: str = "mcap", raw: bool = False, image_duration_s: float = 2.0
) -> BagSummary:
    """Create a bag from a video, an image, a folder of them, or ``sample``, the synthetic video.

    Files in a subfolder that is named like an emotion get it as their label. Labels are written to
    ``labels.csv`` in the bag.

    Args:
        storage: ``mcap`` or ``sqlite3``.
        raw: Write raw images instead of JPEG.
        image_duration_s: How long an image file is shown.

    Raises:
        MediaError: No image can be read, or ``out`` exists.
        OSError: The bag cannot be written.
    """
    if source == SAMPLE:
        return record_images(synthetic_images(), out, storage, raw)
    files, skipped, errors = _labeled_files(Path(source))
    guesses = WarningCounter()
    images = _read_files(files, image_duration_s, errors, guesses)
    summary = record_images(images, out, storage, raw)
    return replace(summary, skipped_folders=tuple(skipped), errors=(*errors, *guesses.lines))


def record_images(
    images: Iterator[LabeledImage], out: Path, storage: str = "mcap", raw: bool = False
) -> BagSummary:
    """Write images and their labels to a new bag. No incomplete bag is left after an error.

    Raises:
        MediaError: ``out`` exists, or SQLite cannot write it.
        OSError: The bag cannot be written. It names a path.
    """
    if out.exists():
        raise MediaError(f"{out}: exists already; choose another name or remove it")
    topic = TOPIC if raw else f"{TOPIC}/compressed"
    try:
        with add_path_to_oserror(out):
            with Writer(out, version=BAG_VERSION, storage_plugin=STORAGES[storage]) as writer:
                summary, intervals = _write_images(writer, topic, raw, images)
            intervals.write(out / LABELS)
    except sqlite3.Error as error:
        shutil.rmtree(out, ignore_errors=True)
        raise MediaError(f"{out}: cannot be written: {single_line(error)}") from None
    except (MediaError, OSError):
        shutil.rmtree(out, ignore_errors=True)
        raise
    return summary


def _write_images(
    writer: Writer, topic: str, raw: bool, images: Iterator[LabeledImage]
) -> "tuple[BagSummary, _LabelIntervals]":
    kind = IMAGE if raw else COMPRESSED
    connection = writer.add_connection(topic, kind, typestore=typestore())
    count, intervals, stamp_s = 0, _LabelIntervals(), 0.0
    for stamp_s, image_rgb, emotion in images:
        stamp_ns = _FIRST_NS + round(stamp_s * 1e9)
        writer.write(connection, stamp_ns, _image_message(stamp_ns, image_rgb, raw))
        intervals.add(stamp_s, emotion)
        count += 1
    return BagSummary(count, stamp_s, len(intervals.intervals), topic), intervals


def _image_message(stamp_ns: int, image_rgb: NDArray[np.uint8], raw: bool) -> memoryview:
    header = make_header(stamp_ns, _FRAME_ID)
    if not raw:
        message = make(COMPRESSED, header, "rgb8; jpeg compressed bgr8", encode_jpeg(image_rgb))
        return to_bytes(COMPRESSED, message)
    height, width = image_rgb.shape[:2]
    data = np.ascontiguousarray(image_rgb).reshape(-1)
    return to_bytes(IMAGE, make(IMAGE, header, height, width, "rgb8", 0, 3 * width, data))


def synthetic_images() -> Iterator[LabeledImage]:
    """The synthetic video, labeled happiness while the whole face is visible."""
    for number, image in enumerate(synthetic_frames()):
        face = synthetic_face(number)
        is_whole = face is not None and face.visible == 1
        yield LabeledImage(number / FPS, image.image_rgb, "happiness" if is_whole else None)


def _read_files(
    files: list[tuple[Path, str | None]],
    image_duration_s: float,
    errors: list[str],
    guesses: WarningCounter,
) -> Iterator[LabeledImage]:
    """All files in sequence, with pauses between them; ``errors`` takes what is missing.

    Raises MediaError after the last file if none has an image.
    """
    start_s, num_images = 0.0, 0
    for file, emotion in files:
        stamp_s = None
        has_clock = is_video(file)
        for image in _read_past_damage(file, errors, guesses):
            for stamp_s in [image.stamp_s] if has_clock else _still_stamps_s(image_duration_s):
                yield LabeledImage(start_s + stamp_s, image.image_rgb, emotion)
                num_images += 1
        if stamp_s is not None:
            start_s += stamp_s + _PAUSE_S
    if not num_images:
        raise MediaError(errors[0])


def _read_past_damage(
    file: Path, errors: list[str], guesses: WarningCounter
) -> Iterator[MediaImage]:
    try:
        yield from read_file(file, guesses.about(file))
    except MediaError as error:
        errors.append(str(error))


def _still_stamps_s(duration_s: float) -> list[float]:
    return [k / _STILL_FPS for k in range(max(1, round(duration_s * _STILL_FPS)))]


def _labeled_files(source: Path) -> tuple[list[tuple[Path, str | None]], list[str], list[str]]:
    """Files of the subfolders that are named like emotions, else all files without a label.

    Returns the names of the other subfolders as well, if their files are left out, and one line
    about each kind of skipped file.
    """
    folders = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    labeled: list[tuple[Path, str | None]] = []
    skipped = []
    for folder in folders:
        try:
            emotion = to_emotion(folder.name)
        except ValueError:
            skipped.append(folder.name)
            continue
        labeled += [(file, emotion) for file in list_media(folder).files]
    listing = list_media(source)
    errors = skipped_errors(source, listing)
    if labeled:
        loose = [file for file in listing.files if file.parent == source]
        if loose:
            errors.append(
                f"{source}: {len(loose)} files outside the emotion folders are left out, the "
                f"first {loose[0].name}"
            )
        return labeled, skipped, errors
    if not listing.files:
        media_files(source)  # raises
    return [(file, None) for file in listing.files], [], errors


class _LabelIntervals:
    """Merges the labels of consecutive images into intervals."""

    def __init__(self) -> None:
        self.intervals: list[tuple[float, float, str]] = []
        self._last_s = 0.0
        self._emotion: str | None = None

    def add(self, stamp_s: float, emotion: str | None) -> None:
        is_continued = emotion == self._emotion and stamp_s - self._last_s < _PAUSE_S
        if emotion and is_continued:
            start_s, _, _ = self.intervals.pop()
            self.intervals.append((start_s, stamp_s, emotion))
        elif emotion:
            self.intervals.append((stamp_s, stamp_s, emotion))
        self._last_s, self._emotion = stamp_s, emotion

    def write(self, path: Path) -> None:
        """Write a label file, or none without labels. Intervals end just after their last image."""
        if not self.intervals:
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["start_s", "end_s", "emotion"])
            for start_s, end_s, emotion in self.intervals:
                writer.writerow([f"{start_s:.3f}", f"{end_s + 0.01:.3f}", emotion])
