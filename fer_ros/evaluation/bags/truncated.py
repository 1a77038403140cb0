"""Read bag files whose end is missing, such as after a power failure.

Both readers have the subset of the interface of ``rosbags`` readers that is used here, and raise
its errors at the truncation.
"""

from collections.abc import Collection, Generator
from contextlib import suppress
from pathlib import Path

import apsw
from backports.zstd import ZstdError
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader

Message = tuple[Connection, int, bytes]

_TRUNCATION_ERRORS = (
    ReaderError,
    ZstdError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,  # a damaged length field, as is the next
    OverflowError,
)


class TruncatedMcapReader(McapReader):
    """An mcap file without its index. Messages come in the order of writing."""

    start_time = 0

    def _open(self) -> None:
        try:
            super()._open()
        except (*_TRUNCATION_ERRORS, OSError):
            if not self.data_start:
                raise
        self.chunks.clear()  # the chunks of the index may be missing
        self.data_end = self.path.stat().st_size
        with suppress(*_TRUNCATION_ERRORS):
            self.meta_scan()
        if not self.connections:
            raise ReaderError("no topic can be recovered")

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[Message, None, None]:
        """Messages of these topics up to the truncation."""
        return self.messages_scan(connections, start, stop)


class TruncatedSqliteReader:
    """An sqlite3 file that is shorter than its header states."""

    start_time = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self.connections: list[Connection] = []

    def open(self) -> None:
        """Read the list of topics. Raises apsw.Error when it cannot be recovered."""
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        self._database = apsw.Connection(f"file:{self._path}?immutable=1", flags=flags)
        self._database.execute("PRAGMA writable_schema=ON")  # or SQLite refuses truncated files
        for number, topic, kind, form in self._database.execute(
            "SELECT id, name, type, serialization_format FROM topics"
        ):
            definition = MessageDefinition(MessageDefinitionFormat.NONE, "")
            ext = ConnectionExtRosbag2(form, [])
            self.connections.append(Connection(number, topic, kind, definition, "", 0, ext, self))

    def messages(self, connections: Collection[Connection]) -> Generator[Message, None, None]:
        """Messages of these topics up to the truncation, in the order of writing."""
        connection_of = {connection.id: connection for connection in connections}
        rows = self._database.execute(
            "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid"
        )
        for number, recorded_ns, data in rows:
            if number in connection_of:
                yield connection_of[number], recorded_ns, data

    def close(self) -> None:
        """Close the file."""
        self._database.close()
