"""Rows: one picture each, with what a data set knows about it; the floor under every layout."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fer_ros.labels import EMOTIONS, FERPLUS_VOTES, to_emotion
from fer_ros.media import PICTURES

T = TypeVar("T")

SPLITS = ("train", "valid", "test")
_SPLIT_WORDS = {
    "train": ("train", "training", "fer2013train", "train_set"),
    "valid": ("valid", "val", "validation", "publictest", "fer2013valid", "val_set"),
    "test": ("test", "privatetest", "fer2013test"),
}
_SMALL = re.compile(r"\s*(\d{1,3})\s*", re.ASCII)
_MOST_VOTES = 255
_MOST_PX = 1e6
_MOST_SHOWN = 100


@dataclass(frozen=True)
class Row:
    """One picture. ``picture``: its file, or its row in the Parquet file.

    ``votes`` has ten numbers or none; ``label`` is a place in EMOTIONS or -1. Of what the data set
    knows about the face, in pixels of the picture: ``box_xyxy`` (4,), ``points_xy`` (5, 2) and
    ``points68_xy`` (68, 2), or empty arrays.
    """

    name: str
    picture: Path | int
    votes: tuple[int, ...] = ()
    label: int = -1
    identity: str = ""
    source: str = ""
    dup_group: int = -1
    box_xyxy: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    points_xy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    points68_xy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))


def read_files(rows: Sequence[Row]) -> Iterator[bytes]:
    """The encoded pictures of rows; a file that cannot be read is empty, and so undecodable."""
    return (_read(Path(str(row.picture))) for row in rows)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return b""


@dataclass(frozen=True, eq=False)
class Source:
    """The rows of a data set or of one of its splits, in an order that is always the same.

    ``dropped`` counts rows that were left out, by reason. ``tight``: faces fill their pictures.
    """

    kind: str
    dataset: str
    rows: list[Row]
    dropped: Counter[str] = field(default_factory=Counter)
    tight: bool = False
    split: str = ""
    classes: int = len(EMOTIONS)
    read: Callable[[Sequence[Row]], Iterator[bytes]] = read_files

    @cached_property
    def labels(self) -> str:
        """``votes``, ``label``, or empty when no row has any."""
        if any(row.votes for row in self.rows):
            return "votes"
        return "label" if any(row.label >= 0 for row in self.rows) else ""

    @cached_property
    def annotated(self) -> bool:
        """Whether the rows have 68 landmarks."""
        return any(len(row.points68_xy) for row in self.rows)

    def at(self, places: Iterable[int]) -> list[Row]:
        """The rows at these places, without those that a smaller source has not."""
        count = len(self.rows)
        return [self.rows[place] for place in places if 0 <= place < count]

    def pictures(self, start: int, stop: int) -> Iterator[tuple[int, Row, bytes]]:
        """Place, row and encoded picture of the rows ``start`` to ``stop``."""
        rows = self.rows[start:stop]
        return zip(range(start, start + len(rows)), rows, self.read(rows), strict=True)


@dataclass(frozen=True)
class Wanted:
    """What of a source is asked for; empty texts: whatever is there."""

    path: Path
    split: str = ""
    pictures: Path | None = None
    classes: int = len(EMOTIONS)

    def choose(self, splits: dict[str, T]) -> T:
        """The split that is asked for, or the only one. ValueError names those there are."""
        if not splits:
            raise ValueError(f"{self.path}: expected splits, found none")
        if not self.split and len(splits) == 1:
            return next(iter(splits.values()))
        known = ", ".join(splits)
        if not self.split:
            raise ValueError(f"{self.path}: holds {known}: choose one with --split")
        if self.split not in splits:
            raise ValueError(f"{self.path}: expected a split {self.split}, found {known}")
        return splits[self.split]


def split_of(word: str) -> str:
    """train, valid or test for what data sets call them; empty for other words."""
    found = [split for split, words in _SPLIT_WORDS.items() if word.strip().lower() in words]
    return found[0] if found else ""


def dataset_name(path: Path) -> str:
    """The name without words for a split: ``lfwx_train.parquet`` is of ``lfwx``."""
    words = [word for word in re.split(r"[_\-. ]+", path.stem) if word and not split_of(word)]
    parent = path.absolute().parent
    return "_".join(words) or (dataset_name(parent) if parent != path.absolute() else "faces")


def emotion_index(name: str, where: str) -> int:
    """Place in EMOTIONS of anybody's name; ValueError says where an unknown one stands."""
    try:
        return EMOTIONS.index(to_emotion(name))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def small_number(text: str) -> int:
    """A whole number from 0 to 999; -1 for any other text."""
    found = _SMALL.fullmatch(text)
    return int(found[1]) if found else -1


def ten_votes(cells: Sequence[object], where: str) -> tuple[int, ...]:
    """The votes of FER+'s columns; ValueError says where others stand."""
    votes = tuple(small_number(str(cell)) for cell in cells)
    if len(votes) != len(FERPLUS_VOTES) or not all(0 <= vote <= _MOST_VOTES for vote in votes):
        raise ValueError(
            f"{where}: expected {len(FERPLUS_VOTES)} numbers of votes from 0 to {_MOST_VOTES}, "
            f"found {shown(cells)}"
        )
    return votes


def coordinates(words: Sequence[str]) -> NDArray[np.float32]:
    """Pixels (N,) in as many texts; none (0,) when one is no number or far out of any picture."""
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        return np.zeros(0, np.float32)
    known = (np.abs(numbers) <= _MOST_PX).all()
    return (numbers if known else numbers[:0]).astype(np.float32)


def shown(value: object) -> str:
    """A value in a message: its beginning, when it is long."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def pictures_in(folder: Path, nested: bool = False) -> list[Path]:
    """Pictures of a folder, or below it, by name; hidden files, pipes and folders are none."""
    found = folder.rglob("*") if nested else folder.iterdir()
    named = [each for each in found if each.suffix.lower() in PICTURES and each.name[0] != "."]
    # a link to nothing is told where it is read
    return sorted(each for each in named if each.is_file() or not each.exists())


def read_table(
    path: Path, columns: Sequence[str], headless: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """``file:line`` and the cells of each line of a CSV file by column.

    ``headless``: the file has these columns and no header. ValueError names the file and what it
    lacks: a column, or cells of a line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a table with {', '.join(columns)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            names = columns if headless else None
            yield from _lines(path, csv.DictReader(text, names, skipinitialspace=True), columns)
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path}: expected a CSV file in UTF-8, found another file") from None


def _lines(
    path: Path, reader: "csv.DictReader[str]", columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    known = list(reader.fieldnames or [])
    missing = [name for name in columns if name not in known]
    if missing:
        found = shown(", ".join(known)) if known else "an empty file"
        raise ValueError(f"{path}: expected a column {missing[0]!r}, found {found}")
    for cells in reader:
        where = f"{path}:{reader.line_num}"
        if None in cells or None in cells.values():
            raise ValueError(f"{where}: expected {len(known)} cells, found more or fewer")
        yield where, cells


def header(path: Path) -> str:
    """The first line of a text file, empty for other files."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return ""
    with path.open(encoding="utf-8-sig", errors="replace") as text:
        return text.readline()


def folders_in(folder: Path) -> list[Path]:
    """Folders in a folder by name, without hidden ones."""
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")
