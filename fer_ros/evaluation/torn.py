"""What there is of files of recordings whose end is missing, as after a loss of power.

Both have of the readers of ``rosbags`` what is used here, and raise its errors at the torn end.
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

_TEAR_ERRORS = (
    ReaderError,
    ZstdError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,  # a length that was damaged; of the same kind is
    OverflowError,
)


class TornMcap(McapReader):
    """An mcap file without its index: everything in front of the tear, in the order of writing."""

    start_time = 0

    def _open(self) -> None:
        try:
            super()._open()
        except (*_TEAR_ERRORS, OSError):
            if not self.data_start:
                raise
        self.chunks.clear()  # what the index promises may be missing
        self.data_end = self.path.stat().st_size
        with suppress(*_TEAR_ERRORS):
            self.meta_scan()
        if not self.connections:
            raise ReaderError("nothing is left of it")

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[Message, None, None]:
        """The messages of these topics up to the tear."""
        return self.messages_scan(connections, start, stop)


class TornSqlite:
    """An sqlite3 file that is shorter than its first page says."""

    start_time = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self.connections: list[Connection] = []

    def open(self) -> None:
        """Raises apsw.Error when not even the list of topics is left."""
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        self._database = apsw.Connection(f"file:{self._path}?immutable=1", flags=flags)
        self._database.execute("PRAGMA writable_schema=ON")  # or it refuses torn files
        for number, topic, kind, form in self._database.execute(
            "SELECT id, name, type, serialization_format FROM topics"
        ):
            nothing = MessageDefinition(MessageDefinitionFormat.NONE, "")
            kinds = ConnectionExtRosbag2(form, [])
            self.connections.append(Connection(number, topic, kind, nothing, "", 0, kinds, self))

    def messages(self, connections: Collection[Connection]) -> Generator[Message, None, None]:
        """The messages of these topics, in the order of writing, up to the tear."""
        by_number = {each.id: each for each in connections}
        rows = self._database.execute(
            "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid"
        )
        for number, recorded_ns, data in rows:
            if number in by_number:
                yield by_number[number], recorded_ns, data

    def close(self) -> None:
        """Lets the file go."""
        self._database.close()
