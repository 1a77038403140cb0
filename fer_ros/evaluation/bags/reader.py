"""Read ROS 2 bags: sqlite3 and mcap, with or without zstd compression, complete or truncated.

Images come in the order of their time and are read as needed: a bag of any length needs the memory
of about a second of it.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from backports import zstd
from numpy.typing import NDArray
from rosbags.interfaces import Connection

from fer_ros.evaluation.bags.messages import BYTES_ERRORS, COMPRESSED, IMAGE, from_bytes
from fer_ros.evaluation.bags.storage import READ_ERRORS, BagError, Storage, read_metadata
from fer_ros.evaluation.bags.timeline import Timeline
from fer_ros.io.errors import single_line
from fer_ros.io.image_decoding import (
    ConversionError,
    WarningCallback,
    decode_compressed,
    decode_raw,
    ignore_warning,
)

__all__ = ["Bag", "BagError", "BagImage", "expected_images"]

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # a serialized message begins with 0
_MAX_LISTED = 6


class BagImage(NamedTuple):
    """One serialized image message.

    Attributes:
        time_ns: Stream time. It never decreases, and equals ``stamp_ns`` unless the clock was set.
        stamp_ns: Header stamp, estimated if missing.
        recorded_ns: Time of receipt by the recorder.
    """

    time_ns: int
    stamp_ns: int
    recorded_ns: int
    type: str
    data: bytes

    def decode(self, warn: WarningCallback = ignore_warning) -> tuple[NDArray[np.uint8], str]:
        """Decode to RGB (H, W, 3) and the frame id.

        ``warn`` takes one line where the bit depth of the image was inferred. Raises
        ConversionError.
        """
        try:
            message = from_bytes(self.type, self.data)
        except BYTES_ERRORS as error:
            raise ConversionError(
                f"{self.type} of {len(self.data)} bytes: {single_line(error)}"
            ) from None
        decode = decode_compressed if self.type == COMPRESSED else decode_raw
        return decode(message, warn), message.header.frame_id


class Bag:
    """A bag: its folder, or one of its files. Use it in a ``with`` statement.

    ``errors`` are lines about messages that are missing or cannot be read, ``warnings`` about what
    is unusual. Both grow while the bag is read. Raises BagError when it cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._storage: Storage | None = None

    def __enter__(self) -> "Bag":
        self._storage = Storage(self.path)
        self.errors, self.warnings = self._storage.errors, self._storage.warnings
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._storage:
            self._storage.close()

    @property
    def _files(self) -> list[Any]:
        return self._storage.files if self._storage else []

    @property
    def topics(self) -> dict[str, str]:
        """Type of each topic."""
        return {
            connection.topic: connection.msgtype
            for file in self._files
            for connection in file.connections
        }

    def count(self, topic: str) -> int:
        """Number of messages according to the metadata, else according to the files."""
        metadata = self._storage.metadata if self._storage else None
        if metadata and topic in metadata.counts:
            return metadata.counts[topic]
        return sum(
            connection.msgcount for file in self._files for connection in _connections(file, topic)
        )

    def is_compressed(self) -> bool:
        """Whether the file, or the first message of one of its topics, is compressed with zstd."""
        return self.path.suffix == ".zstd" or any(
            data[:4] == _ZSTD_MAGIC
            for file in self._files
            for connection in file.connections
            for _, _, data in islice(file.messages([connection]), 1)
        )

    def image_topic(self, requested: str | None) -> str:
        """``requested`` if it has images, else the only image topic. Raises BagError."""
        topics = self.topics
        with_images = [name for name, kind in topics.items() if kind in (IMAGE, COMPRESSED)]
        if not with_images:
            raise BagError(
                f"{self.path}: no image topic; expected one of {IMAGE} or {COMPRESSED}, found "
                f"{_list_topics(topics)}"
            )
        listed = ", ".join(sorted(with_images))
        if requested is None:
            if len(with_images) != 1:
                raise BagError(
                    f"{self.path}: several image topics; name one with --image-topic: {listed}"
                )
            return with_images[0]
        if requested not in topics:
            raise BagError(f"{self.path}: no topic {requested}; its image topics: {listed}")
        if requested not in with_images:
            raise BagError(
                f"{self.path}: topic {requested} is of type {topics[requested]}, not of images; "
                f"its image topics: {listed}"
            )
        return requested

    def images(self, topic: str) -> Iterator[BagImage]:
        """Images of a topic in the order of their time.

        Missing stamps are estimated and reported in ``warnings``. Images that are skipped because
        of their stamps are reported in ``errors``.
        """
        kind = self.topics[topic]
        timeline = Timeline()
        for message in timeline.order(self._raw(topic)):
            yield BagImage(
                message.time_ns, message.stamp_ns, message.recorded_ns, kind, message.data
            )
        _extend(self.errors, [f"{self.path}: {topic}: {line}" for line in timeline.errors])
        _extend(self.warnings, [f"{self.path}: {topic}: {line}" for line in timeline.warnings])

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Time of receipt in ns and message, of a topic of a supported type."""
        kind = self.topics[topic]
        num_invalid, first_error = 0, ""
        for recorded_ns, data in self._raw(topic):
            try:
                message = from_bytes(kind, data)
            except BYTES_ERRORS as error:
                num_invalid += 1
                first_error = first_error or single_line(error)
                continue
            yield recorded_ns, message
        if num_invalid:
            line = f"{self.path}: {num_invalid} messages of {topic} are no {kind}: {first_error}"
            _extend(self.errors, [line])

    def _raw(self, topic: str) -> Iterator[tuple[int, bytes]]:
        num_read = 0
        for file in self._files:
            for message in self._raw_messages(file, topic):
                num_read += 1
                yield message
        expected = self.count(topic)
        if num_read < expected:
            line = f"{self.path}: {topic}: only {num_read} of {expected} messages can be read"
            _extend(self.errors, [line])

    def _raw_messages(self, file: Any, topic: str) -> Iterator[tuple[int, bytes]]:
        connections = _connections(file, topic)
        if not connections:
            return
        try:
            for _, recorded_ns, data in file.messages(connections):
                is_compressed = data[:4] == _ZSTD_MAGIC
                yield recorded_ns, zstd.decompress(data) if is_compressed else data
        except READ_ERRORS as error:
            line = f"{self.path}: {topic} cannot be read any further: {single_line(error)}"
            _extend(self.errors, [line])


def expected_images(path: Path, topic: str | None) -> int:
    """Number of images that the metadata states, without opening the bag. 0 if unknown."""
    metadata = read_metadata(path)
    return sum(
        count
        for name, count in metadata.counts.items()
        if name == topic or (topic is None and metadata.types[name] in (IMAGE, COMPRESSED))
    )


def _connections(file: Any, topic: str) -> list[Connection]:
    return [connection for connection in file.connections if connection.topic == topic]


def _list_topics(topics: dict[str, str]) -> str:
    listed = [f"{name} ({kind})" for name, kind in sorted(topics.items())]
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return (", ".join(listed[:_MAX_LISTED]) or "no topic") + more


def _extend(lines: list[str], new: list[str]) -> None:
    """Add the lines that are new: a bag may be read twice."""
    lines += [line for line in new if line not in lines]
