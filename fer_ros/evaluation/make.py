"""Recordings from videos and pictures, with labels where the names of folders are emotions."""

import csv
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer

from fer_ros.decode import to_jpeg
from fer_ros.errors import one_line
from fer_ros.evaluation.messages import COMPRESSED, IMAGE, make, make_header, to_bytes, typestore
from fer_ros.evaluation.record import VERSION
from fer_ros.evaluation.store import named
from fer_ros.labels import to_emotion
from fer_ros.media import MediaError, is_video, media_files, read_file
from fer_ros.sample import FPS, sample_face, sample_frames

SAMPLE = "sample"
LABELS = "labels.csv"
TOPIC = "/camera/image_raw"
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

_FIRST_NS = 1_000_000_000 * 10**9  # some time in 2001, always the same
_PICTURE_FPS = 10.0
_BETWEEN_S = 2.5  # long enough for nobody to be taken for the face of the file before
_FRAME = "camera"


class Shot(NamedTuple):
    """One image (H, W, 3) at ``stamp_s`` since the first; ``emotion`` is its label, if any."""

    stamp_s: float
    image_rgb: NDArray[np.uint8]
    emotion: str | None


@dataclass(frozen=True)
class Made:
    """What is in a new recording."""

    images: int
    duration_s: float
    labels: int
    topic: str


def make_bag(
    source: str, out: Path, storage: str = "mcap", raw: bool = False, picture_s: float = 2.0
) -> Made:
    """Records a video, a picture, a folder of them, or ``sample``, the made-up camera.

    Each file of a subfolder that is named like an emotion has it as its label; they go to
    ``labels.csv`` in the bag. A picture is shown for ``picture_s`` seconds. Raises MediaError when
    a file cannot be read or ``out`` exists.
    """
    shots = sample_shots() if source == SAMPLE else _files(Path(source), picture_s)
    return record_shots(shots, out, storage, raw)


def record_shots(
    shots: Iterator[Shot], out: Path, storage: str = "mcap", raw: bool = False
) -> Made:
    """Records images and their labels.

    Raises MediaError when ``out`` exists or SQLite cannot write it, OSError, which names a path,
    when the disk does not take it.
    """
    if out.exists():
        raise MediaError(f"{out}: is there already; choose another name or remove it")
    topic = TOPIC if raw else f"{TOPIC}/compressed"
    try:
        with named(out):
            with Writer(out, version=VERSION, storage_plugin=STORAGES[storage]) as writer:
                made, spans = _record(writer, topic, raw, shots)
            spans.write(out / LABELS)
    except sqlite3.Error as error:
        shutil.rmtree(out, ignore_errors=True)
        raise MediaError(f"{out}: cannot be written: {one_line(error)}") from None
    except (MediaError, OSError):
        shutil.rmtree(out, ignore_errors=True)  # half a recording is of no use
        raise
    return made


def _record(writer: Writer, topic: str, raw: bool, shots: Iterator[Shot]) -> "tuple[Made, _Spans]":
    kind = IMAGE if raw else COMPRESSED
    connection = writer.add_connection(topic, kind, typestore=typestore())
    count, spans, stamp_s = 0, _Spans(), 0.0
    for stamp_s, image_rgb, emotion in shots:
        stamp_ns = _FIRST_NS + round(stamp_s * 1e9)
        writer.write(connection, stamp_ns, _message(stamp_ns, image_rgb, raw))
        spans.add(stamp_s, emotion)
        count += 1
    return Made(count, stamp_s, len(spans.done), topic), spans


def _message(stamp_ns: int, image_rgb: NDArray[np.uint8], raw: bool) -> memoryview:
    header = make_header(stamp_ns, _FRAME)
    if not raw:
        message = make(COMPRESSED, header, "rgb8; jpeg compressed bgr8", to_jpeg(image_rgb))
        return to_bytes(COMPRESSED, message)
    height, width = image_rgb.shape[:2]
    data = np.ascontiguousarray(image_rgb).reshape(-1)
    return to_bytes(IMAGE, make(IMAGE, header, height, width, "rgb8", 0, 3 * width, data))


def sample_shots() -> Iterator[Shot]:
    """The made-up camera. The astronaut smiles, which is a label while the whole face is there."""
    for number, image in enumerate(sample_frames()):
        face = sample_face(number)
        whole = face is not None and face.visible == 1
        yield Shot(number / FPS, image.image_rgb, "happiness" if whole else None)


def _files(source: Path, picture_s: float) -> Iterator[Shot]:
    """All files one after the other, with pauses between them."""
    start_s = 0.0
    for file, emotion in _labelled_files(source):
        stamp_s = 0.0
        for image in read_file(file):
            stamps = [image.stamp_s] if is_video(file) else _still(picture_s)
            for stamp_s in stamps:
                yield Shot(start_s + stamp_s, image.image_rgb, emotion)
        start_s += stamp_s + _BETWEEN_S


def _still(picture_s: float) -> list[float]:
    return [k / _PICTURE_FPS for k in range(max(1, round(picture_s * _PICTURE_FPS)))]


def _labelled_files(source: Path) -> list[tuple[Path, str | None]]:
    """The files of a folder and of those subfolders that are named like emotions."""
    inside = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    found: list[tuple[Path, str | None]] = []
    for folder in inside:
        try:
            emotion = to_emotion(folder.name)
        except ValueError:
            continue
        found += [(file, emotion) for file in media_files(folder)]
    if found:
        return found
    return [(file, None) for file in media_files(source)]


class _Spans:
    """Labels as intervals, from one image after the other."""

    def __init__(self) -> None:
        self.done: list[tuple[float, float, str]] = []
        self._last_s = 0.0
        self._emotion: str | None = None

    def add(self, stamp_s: float, emotion: str | None) -> None:
        goes_on = emotion == self._emotion and stamp_s - self._last_s < _BETWEEN_S
        if emotion and goes_on:
            start_s, _, _ = self.done.pop()
            self.done.append((start_s, stamp_s, emotion))
        elif emotion:
            self.done.append((stamp_s, stamp_s, emotion))
        self._last_s, self._emotion = stamp_s, emotion

    def write(self, path: Path) -> None:
        """Nothing when there are none. Intervals end just after their last image."""
        if not self.done:
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["start_s", "end_s", "emotion"])
            for start_s, end_s, emotion in self.done:
                rows.writerow([f"{start_s:.3f}", f"{end_s + 0.01:.3f}", emotion])
