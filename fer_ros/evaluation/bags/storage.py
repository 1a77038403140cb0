"""Find and open the storage files of a bag: mcap and sqlite3, complete or truncated.

Only the names of the files and the number of messages are taken from ``metadata.yaml``. Topics,
types and compression come from the files themselves: ``ros2 bag reindex``, ``ros2 bag convert``
and people rewrite the metadata, each in the format of their distribution.
"""

import re
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import apsw
from backports import zstd
from rosbags.rosbag2 import Reader, ReaderError

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.bags.messages import BYTES_ERRORS
from fer_ros.evaluation.bags.truncated import TruncatedMcapReader, TruncatedSqliteReader
from fer_ros.io.errors import single_line
from fer_ros.io.yaml_file import parse_yaml

METADATA = "metadata.yaml"
ZSTD_SUFFIX = ".zstd"
_TRUNCATED_READERS = {".mcap": TruncatedMcapReader, ".db3": TruncatedSqliteReader}
_ROS1_MAGIC = b"#ROSBAG V"

READ_ERRORS = (
    ReaderError,
    apsw.Error,
    zstd.ZstdError,
    OSError,
    EOFError,
    RuntimeError,  # lz4
    MemoryError,  # a damaged length field, as are the next ones
    OverflowError,
    AssertionError,
    AttributeError,
    *BYTES_ERRORS,
)
"""What the reader and its libraries raise on damaged files."""


class BagError(EvaluationError):
    """A bag cannot be used. The message is one line."""


class Metadata(NamedTuple):
    """The part of ``metadata.yaml`` that is used.

    ``error`` is the reason why the file cannot be used, empty if it can.
    """

    file_names: list[str]
    counts: dict[str, int]
    types: dict[str, str]
    error: str = ""


def read_metadata(folder: Path) -> Metadata:
    """Read the file names, message counts and types of the topics of a bag folder."""
    path = folder / METADATA
    if not path.is_file():
        return Metadata([], {}, {}, f"{METADATA} is missing")
    try:
        content = parse_yaml(path.read_bytes(), allow_aliases=True)  # some writers use them
        info = content["rosbag2_bagfile_information"]
        names = [PurePath(str(name)).name for name in info["relative_file_paths"]]
        counts: dict[str, int] = {}
        types: dict[str, str] = {}
        for row in info["topics_with_message_count"]:
            topic = str(row["topic_metadata"]["name"])
            types[topic] = str(row["topic_metadata"]["type"])
            counts[topic] = counts.get(topic, 0) + max(0, int(row["message_count"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        return Metadata([], {}, {}, f"{METADATA} cannot be used: {single_line(error)}")
    if not names:
        return Metadata([], counts, types, f"{METADATA} names no file")
    return Metadata(names, counts, types)


class Storage:
    """The opened files of a bag, in the order of writing.

    ``errors`` are lines about what cannot be read, ``warnings`` about what is unusual. Raises
    BagError when nothing can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.files: list[Any] = []
        if not path.exists():
            raise BagError(f"{path}: no such bag")
        self.metadata = read_metadata(path) if path.is_dir() else Metadata([], {}, {})
        with ExitStack() as self._stack:
            self._open_files(self._find_files())
            self._stack = self._stack.pop_all()  # keeps the files open

    def close(self) -> None:
        """Close all files and delete decompressed copies."""
        self._stack.close()

    def _find_files(self) -> list[Path]:
        if not self.path.is_dir():
            self._refuse_ros1([self.path])
            return [self.path]
        inside = {file.name: file for file in sorted(self.path.iterdir(), key=_natural_order)}
        storage_names = [name for name in inside if _storage_suffix(name)]
        if not storage_names:
            self._refuse_ros1(list(inside.values()))
            raise BagError(f"{self.path}: not a bag that can be read: {self._reason()}")
        if self.metadata.error:
            return [inside[name] for name in storage_names]
        listed = [_existing(name, inside) for name in self.metadata.file_names]
        missing = [
            name for name, file in zip(self.metadata.file_names, listed, strict=True) if not file
        ]
        if missing:
            self.errors.append(
                f"{self.path}: {len(missing)} of {len(listed)} files are missing, the first "
                f"{missing[0]}: their messages are lost"
            )
        used = [name for name in listed if name]
        unlisted = {name for name in storage_names if _stem(name) not in map(_stem, used)}
        if unlisted:
            self.warnings.append(
                f"{self.path}: {len(unlisted)} files that {METADATA} does not name are ignored, "
                f"the first {min(unlisted)}"
            )
        return [inside[name] for name in used]

    def _refuse_ros1(self, files: list[Path]) -> None:
        for file in files:
            if file.suffix == ".bag" and _begins_with(file, _ROS1_MAGIC):
                raise BagError(
                    f"{file}: a bag of ROS 1; convert it first: rosbags-convert --src {file} --dst "
                    f"{file.with_suffix('')}"
                )

    def _reason(self) -> str:
        return self.metadata.error or "it has no .mcap or .db3 file"

    def _open_files(self, paths: list[Path]) -> None:
        reasons = [self._open_file(path) for path in paths]
        unreadable = [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]
        if not self.files:
            reason = unreadable[0][1] if unreadable else self._reason()
            raise BagError(f"{self.path}: not a bag that can be read: {reason}")
        for path, reason in unreadable:
            self.errors.append(f"{path}: cannot be read: {reason}")
        if self.metadata.error:
            self.warnings.append(
                f"{self.path}: {self.metadata.error}; its files are read without it"
            )

    def _open_file(self, path: Path) -> str:
        """Open one file. Returns the reason why nothing of it can be read, else an empty string."""
        try:
            storage_path = self._decompress(path) if path.suffix == ZSTD_SUFFIX else path
        except (zstd.ZstdError, OSError, EOFError) as error:
            return single_line(error)
        try:
            reader: Any = Reader(storage_path)
            reader.open()
        except READ_ERRORS as error:
            reason = single_line(error)
        else:
            self._add(path, reader)
            return ""
        truncated_reader = _TRUNCATED_READERS.get(storage_path.suffix)
        if truncated_reader:
            with suppress(*READ_ERRORS):
                reader = truncated_reader(storage_path)
                reader.open()
                self._add(path, reader)
                self.errors.append(
                    f"{path}: truncated or damaged, read as far as possible: {reason}"
                )
                return ""
        return reason

    def _add(self, path: Path, reader: Any) -> None:
        self._stack.callback(reader.close)
        self.files.append(reader)
        log = path.with_name(f"{path.name}-wal")
        if log.is_file() and log.stat().st_size:
            self.errors.append(
                f"{log}: messages that were not written to the database yet are not read; merge "
                f"them first: sqlite3 {path} 'PRAGMA wal_checkpoint'"
            )

    def _decompress(self, path: Path) -> Path:
        folder = self._stack.enter_context(TemporaryDirectory(prefix="fer_bag_"))
        target = Path(folder, path.name.removesuffix(ZSTD_SUFFIX))
        with zstd.open(path, "rb") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
        return target


def _storage_suffix(name: str) -> str:
    suffix = PurePath(name.removesuffix(ZSTD_SUFFIX)).suffix
    return suffix if suffix in _TRUNCATED_READERS else ""


def _stem(name: str) -> str:
    return name.removesuffix(ZSTD_SUFFIX)


def _existing(name: str, inside: dict[str, Path]) -> str:
    """The file of this name, compressed or not; empty if there is none."""
    stem = _stem(name)
    return next((option for option in (name, stem, stem + ZSTD_SUFFIX) if option in inside), "")


def _natural_order(path: Path) -> list[Any]:
    """bag_2.mcap before bag_10.mcap."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _begins_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(magic)) == magic
