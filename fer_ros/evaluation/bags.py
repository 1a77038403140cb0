"""Reads recordings of ROS 2: sqlite3 and mcap, compressed with zstd or not, whole or torn.

Images come in the order of their stamps, however they were recorded, and a few at a time: a
recording of any length needs the memory of less than a second of it.
"""

import heapq
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import apsw
import numpy as np
from backports.zstd import ZstdError
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.serde import SerdeError

from fer_ros.config import parse_yaml
from fer_ros.decode import ConversionError, decompress, to_rgb
from fer_ros.errors import one_line
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.messages import COMPRESSED, IMAGE, from_bytes, header_stamp_ns
from fer_ros.evaluation.torn import TornMcap, TornSqlite

_TORN = {".mcap": TornMcap, ".db3": TornSqlite}
_WAIT_NS = 500_000_000  # messages overtake each other by less
_WAIT_IMAGES = 32

_BYTES_ERRORS = (SerdeError, struct.error, ValueError, TypeError, IndexError, KeyError)
# What damaged files make the reader and its libraries say; a bag costs a bag, not the program.
_READ_ERRORS = (
    ReaderError,
    apsw.Error,
    ZstdError,
    OSError,
    EOFError,
    RuntimeError,  # lz4
    MemoryError,  # a length that was damaged; of the same kind is
    OverflowError,
    AssertionError,
    AttributeError,
    *_BYTES_ERRORS,
)


class BagError(EvaluationError):
    """A recording cannot be used; the message is one line."""


class BagImage(NamedTuple):
    """One image message of this ``type``, still in bytes; nanoseconds of stamp and recording."""

    stamp_ns: int
    recorded_ns: int
    type: str
    data: bytes

    def decode(self) -> tuple[NDArray[np.uint8], str]:
        """The picture (H, W, 3), RGB, and its frame. Raises ConversionError when it holds none."""
        try:
            message = from_bytes(self.type, self.data)
        except _BYTES_ERRORS as error:
            raise ConversionError(f"{self.type} of {len(self.data)} bytes: {error}") from None
        image_rgb = decompress(message) if self.type == COMPRESSED else to_rgb(message)
        return image_rgb, message.header.frame_id


class Bag:
    """A recording: its folder, or one of its files. Open it with ``with``.

    ``troubles`` are lines about what could not be read, ``notes`` about what is unusual; both grow
    while it is read. Raises BagError when it cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.troubles: list[str] = []
        self.notes: list[str] = []
        self._files: list[Any] = []

    def __enter__(self) -> "Bag":
        self._files = sorted(self._open(), key=lambda file: file.start_time)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.close()

    @property
    def topics(self) -> dict[str, str]:
        """The type of each topic."""
        return {each.topic: each.msgtype for file in self._files for each in file.connections}

    def count(self, topic: str) -> int:
        """How many messages the recording says it has."""
        return sum(each.msgcount for file in self._files for each in _of_topic(file, topic))

    def image_topic(self, wanted: str | None) -> str:
        """``wanted`` when it has images, else the only topic that has. Raises BagError."""
        with_images = [name for name, kind in self.topics.items() if kind in (IMAGE, COMPRESSED)]
        listed = ", ".join(sorted(with_images)) or "none"
        if wanted is None:
            if len(with_images) != 1:
                raise BagError(
                    f"{self.path}: which image topic? Name one with --image-topic: {listed}"
                )
            return with_images[0]
        if wanted not in self.topics:
            raise BagError(f"{self.path}: no topic {wanted}; its image topics: {listed}")
        if wanted not in with_images:
            raise BagError(
                f"{self.path}: topic {wanted} is of type {self.topics[wanted]}, not of images; its "
                f"image topics: {listed}"
            )
        return wanted

    def images(self, topic: str) -> Iterator[BagImage]:
        """The images of a topic in the order of their stamps.

        An image without a stamp has the time of its recording. One whose stamp jumps back by more
        than half a second is skipped and told in ``troubles``.
        """
        kind = self.topics[topic]
        waiting: list[tuple[int, int, int, bytes]] = []
        last_ns, late = 0, _Late()
        for number, (recorded_ns, data) in enumerate(self._raw(topic)):
            stamp_ns = self._stamp_ns(recorded_ns, data)
            if stamp_ns < last_ns:
                late.add(last_ns - stamp_ns)
                continue
            heapq.heappush(waiting, (stamp_ns, number, recorded_ns, data))
            while waiting[0][0] < stamp_ns - _WAIT_NS or len(waiting) > _WAIT_IMAGES:
                last_ns, _, recorded_ns, data = heapq.heappop(waiting)
                yield BagImage(last_ns, recorded_ns, kind, data)
        for stamp_ns, _, recorded_ns, data in sorted(waiting):
            yield BagImage(stamp_ns, recorded_ns, kind, data)
        if late.count:
            self.troubles.append(f"{self.path}: {late}")

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Nanoseconds of recording and message; the type of the topic is one that is known here."""
        kind = self.topics[topic]
        for recorded_ns, data in self._raw(topic):
            try:
                message = from_bytes(kind, data)
            except _BYTES_ERRORS as error:
                self.troubles.append(f"{self.path}: a message of {topic} is no {kind}: {error}")
                continue
            yield recorded_ns, message

    def _raw(self, topic: str) -> Iterator[tuple[int, bytes]]:
        for file in self._files:
            yield from self._raw_of(file, topic)

    def _raw_of(self, file: Any, topic: str) -> Iterator[tuple[int, bytes]]:
        try:
            for _, recorded_ns, data in file.messages(_of_topic(file, topic)):
                yield recorded_ns, data
        except _READ_ERRORS as error:
            self.troubles.append(f"{self.path}: cannot be read any further: {one_line(error)}")

    def _stamp_ns(self, recorded_ns: int, data: bytes) -> int:
        stamp_ns = 0
        with suppress(struct.error):  # it will not be decoded either, and is told then
            stamp_ns = header_stamp_ns(data)
        if stamp_ns <= 0:
            note = f"{self.path}: images without a stamp have the time of their recording"
            if note not in self.notes:
                self.notes.append(note)
        return stamp_ns if stamp_ns > 0 else recorded_ns

    def _open(self) -> list[Any]:
        if not self.path.exists():
            raise BagError(f"{self.path}: no such bag")
        trouble = "metadata.yaml is missing"
        try:
            if not self.path.is_dir() or (self.path / "metadata.yaml").is_file():
                return [_opened(Reader(self.path))]
        except _READ_ERRORS as error:
            trouble = one_line(error)
        return self._open_one_by_one(trouble)

    def _open_one_by_one(self, trouble: str) -> list[Any]:
        """The files for themselves, where they do not open as a bag because of ``trouble``."""
        inside = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        paths = [path for path in inside if path.suffix in _TORN]
        files = [file for path in paths if (file := self._open_file(path, trouble))]
        if not files:
            raise BagError(f"{self.path}: not a bag that can be read: {trouble}")
        if len(files) < len(paths):
            self.troubles.append(f"{self.path}: one of its files cannot be read: {trouble}")
        elif not self.troubles:
            self.notes.append(
                f"{self.path}: {trouble}; read without it (`ros2 bag reindex` mends it)"
            )
        return files

    def _open_file(self, path: Path, trouble: str) -> Any:
        """None when nothing of it can be read."""
        with suppress(*_READ_ERRORS):
            return _opened(Reader(path))
        with suppress(*_READ_ERRORS):
            file = _opened(_TORN[path.suffix](path))
            self.troubles.append(f"{path}: its end is missing: {trouble}")
            return file
        return None


class _Late:
    """Images whose stamps jump back."""

    def __init__(self) -> None:
        self.count = 0
        self._back_s = 0.0

    def add(self, back_ns: int) -> None:
        self.count += 1
        self._back_s = self._back_s or back_ns * 1e-9

    def __str__(self) -> str:
        return (
            f"stamps jump back, first by {self._back_s:.3f} s; {self.count} images with stamps "
            "before those of images that came earlier were skipped"
        )


def expected_images(path: Path, topic: str | None) -> int:
    """How many images a recording promises, without opening it; 0 when it does not say."""
    try:
        content = (path / "metadata.yaml").read_bytes()
        rows = parse_yaml(content)["rosbag2_bagfile_information"]["topics_with_message_count"]
        return sum(
            int(row["message_count"])
            for row in rows
            if topic == (each := row["topic_metadata"])["name"]
            or (topic is None and each["type"] in (IMAGE, COMPRESSED))
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0


def _opened(file: Any) -> Any:
    file.open()
    return file


def _of_topic(file: Any, topic: str) -> list[Connection]:
    return [each for each in file.connections if each.topic == topic]
