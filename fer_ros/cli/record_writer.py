"""Write the results of images as JSON lines to stdout or to a file."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from fer_ros.io.json_file import add_path_to_oserror
from fer_ros.io.media import MediaError
from fer_ros.io.progress import write_line

STDOUT = Path("stdout")
"""Name of stdout in errors."""


class RecordWriter:
    """Writes one line for each record. Raises OSError, which names the file."""

    def __init__(self, stream: TextIO, name: Path) -> None:
        self._stream = stream
        self._name = name
        self.num_records = self.num_bytes = 0

    @property
    def is_terminal(self) -> bool:
        """Whether the lines appear on a terminal."""
        return self._stream.isatty()

    def write(self, record: dict[str, Any]) -> None:
        """Write a record as one line."""
        line = json.dumps(record) + "\n"  # in ASCII
        with add_path_to_oserror(self._name):
            self._stream.write(line)
            self._stream.flush()
        self.num_records += 1
        self.num_bytes += len(line)


@contextmanager
def open_records(out: str | None, is_endless: bool) -> Iterator[RecordWriter]:
    """Open the file ``out``, or stdout if it is None.

    A file gets its name when it is complete. After an error or an interruption its complete lines
    stay in ``OUT.PID.partial``, which is reported. The file of an endless source, which always ends
    by an interruption, has its name from the start. Raises OSError, and MediaError if stdout is
    closed.
    """
    if out is None:
        if sys.__stdout__ is None:
            raise MediaError("stdout is closed: redirect it, or use --json OUT.jsonl")
        yield RecordWriter(sys.stdout, STDOUT)
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_device = path.exists() and not path.is_file()  # or a pipe; neither can be replaced
    if is_endless or is_device:
        with add_path_to_oserror(path), path.open("w", encoding="utf-8") as stream:
            yield RecordWriter(stream, path)
        return
    target = path.resolve()  # a link remains a link
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with add_path_to_oserror(path), partial.open("w", encoding="utf-8") as stream:
            records = RecordWriter(stream, path)
            yield records
        partial.replace(target)
    finally:
        if partial.exists():
            _keep_complete_lines(partial, path, records)


def _keep_complete_lines(partial: Path, path: Path, records: RecordWriter) -> None:
    if not records.num_records:
        partial.unlink()
        return
    os.truncate(partial, records.num_bytes)
    write_line(f"fer: {path}: incomplete: its first {records.num_records} lines are in {partial}")
