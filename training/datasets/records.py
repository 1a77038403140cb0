"""Samples of datasets, and what the readers of all layouts share."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES, to_emotion
from fer_ros.io.media import IMAGE_SUFFIXES

T = TypeVar("T")

SPLITS = ("train", "valid", "test")
_SPLIT_WORDS = {
    "train": ("train", "training", "fer2013train", "train_set"),
    "valid": ("valid", "val", "validation", "publictest", "fer2013valid", "val_set"),
    "test": ("test", "privatetest", "fer2013test"),
}
_SMALL_INT = re.compile(r"\s*(\d{1,3})\s*", re.ASCII)
_OTHER_IMAGE_SUFFIXES = {
    *(".heic", ".heif", ".avif", ".gif", ".jfif", ".jxl", ".jp2", ".psd"),
    *(".dng", ".cr2", ".nef", ".arw", ".mpo", ".exr"),
}
"""Formats of images that not every build of OpenCV reads."""
_MAX_VOTES = 255
_MAX_COORDINATE_PX = 1e6
_MAX_REPR_LENGTH = 100


@dataclass(frozen=True)
class Sample:
    """One image and its annotations in the source.

    ``image``: its file, or its index in the file that holds all images. ``votes``: ten numbers, or
    none. ``label``: index in EMOTIONS, or -1. In pixels of the image: ``box_xyxy`` (4,),
    ``points_xy`` (5, 2) and ``landmarks68_xy`` (68, 2), or empty arrays.
    """

    name: str
    image: Path | int
    votes: tuple[int, ...] = ()
    label: int = -1
    identity: str = ""
    source: str = ""
    dup_group: int = -1
    box_xyxy: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    points_xy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    landmarks68_xy: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, 2), np.float32)
    )


def read_files(samples: Sequence[Sample]) -> Iterator[bytes]:
    """The encoded images of samples; empty for a file that cannot be read."""
    return (_read(Path(str(sample.image))) for sample in samples)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return b""


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """The samples of a dataset or of one of its splits, always in the same order.

    ``dropped`` counts samples without a use, by reason. ``skipped`` counts files that should have
    been used but could not be, by reason: the source is incomplete. ``tight_crops``: faces fill
    their images.
    """

    kind: str
    name: str
    samples: list[Sample]
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    tight_crops: bool = False
    split: str = ""
    classes: int = len(EMOTIONS)
    numbering: str = ""
    read: Callable[[Sequence[Sample]], Iterator[bytes]] = read_files

    @cached_property
    def labels(self) -> str:
        """``votes``, ``label``, or empty when no sample has any."""
        if any(sample.votes for sample in self.samples):
            return "votes"
        return "label" if any(sample.label >= 0 for sample in self.samples) else ""

    @cached_property
    def has_landmarks(self) -> bool:
        """Whether the samples have 68 landmarks."""
        return any(len(sample.landmarks68_xy) for sample in self.samples)

    def at(self, indices: Iterable[int]) -> list[Sample]:
        """The samples with these indices, without those that a smaller source does not have."""
        count = len(self.samples)
        return [self.samples[index] for index in indices if 0 <= index < count]

    def images(self, start: int, stop: int) -> Iterator[tuple[int, Sample, bytes]]:
        """Index, sample and encoded image of the samples ``start`` to ``stop``."""
        samples = self.samples[start:stop]
        indices = range(start, start + len(samples))
        return zip(indices, samples, self.read(samples), strict=True)


@dataclass(frozen=True)
class SourceRequest:
    """What to read: a path, and what of it; empty values: whatever is there."""

    path: Path
    split: str = ""
    images: Path | None = None
    classes: int = len(EMOTIONS)
    numbering: str = ""

    def choose(self, splits: dict[str, T]) -> T:
        """The requested split, or the only one. Raises ValueError that names those there are."""
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

    def refuse_split(self) -> None:
        """Raise ValueError when a split is requested of a source that has none.

        A source whose own name is that of the split is the split.
        """
        words = re.split(r"[_\-. ]+", self.path.stem)
        if self.split and self.split not in map(split_of, words):
            raise ValueError(
                f"{self.path}: expected a split {self.split}, found a source without splits: leave "
                "--split out, or sort the images into folders train, valid and test"
            )


def split_of(word: str) -> str:
    """``train``, ``valid`` or ``test`` for what datasets call them; empty for other words."""
    key = word.strip().lower()
    return next((split for split, words in _SPLIT_WORDS.items() if key in words), "")


def dataset_name(path: Path) -> str:
    """The name without words for a split: ``lfwx_train.parquet`` is of ``lfwx``."""
    words = [word for word in re.split(r"[_\-. ]+", path.stem) if word and not split_of(word)]
    parent = path.absolute().parent
    return "_".join(words) or (dataset_name(parent) if parent != path.absolute() else "faces")


def emotion_index(name: str, where: str) -> int:
    """Index in EMOTIONS of an emotion's name. Raises ValueError that starts with ``where``."""
    try:
        return EMOTIONS.index(to_emotion(name))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def parse_small_int(text: str) -> int:
    """A whole number from 0 to 999; -1 for any other text."""
    match = _SMALL_INT.fullmatch(text)
    return int(match[1]) if match else -1


def parse_votes(cells: Sequence[object], where: str) -> tuple[int, ...]:
    """The votes in FER+'s ten columns. Raises ValueError that starts with ``where``."""
    votes = tuple(parse_small_int(str(cell)) for cell in cells)
    if len(votes) != len(FERPLUS_VOTES) or not all(0 <= vote <= _MAX_VOTES for vote in votes):
        raise ValueError(
            f"{where}: expected {len(FERPLUS_VOTES)} numbers of votes from 0 to {_MAX_VOTES}, "
            f"found {truncated_repr(cells)}"
        )
    return votes


def coordinates(words: Sequence[str]) -> NDArray[np.float32]:
    """Pixels (N,) in as many texts; none (0,) when one is no number or far out of any image."""
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        return np.zeros(0, np.float32)
    known = (np.abs(numbers) <= _MAX_COORDINATE_PX).all()
    return (numbers if known else numbers[:0]).astype(np.float32)


def truncated_repr(value: object) -> str:
    """The beginning of a value's repr, for messages."""
    text = repr(value)
    return text if len(text) <= _MAX_REPR_LENGTH else f"{text[:_MAX_REPR_LENGTH]}..."


def is_image_file(file: Path) -> bool:
    """Whether the name of a file is that of an image that OpenCV reads."""
    suffix = file.suffix.lower()
    if suffix in _OTHER_IMAGE_SUFFIXES:
        return file.is_file() and cv2.haveImageReader(str(file))
    return suffix in IMAGE_SUFFIXES


def image_files(folder: Path, nested: bool = False) -> list[Path]:
    """Images of a folder, or below it, by name; without hidden files, pipes and folders."""
    # a broken link is reported where it is read
    return [
        file
        for file in _visible(folder, nested)
        if (file.is_file() or not file.exists()) and is_image_file(file)
    ]


def unreadable_images(folder: Path, nested: bool = False) -> Counter[str]:
    """Number of image files that OpenCV cannot read, such as HEIC, by reason."""
    return Counter(
        f"unsupported {file.suffix.lower()} file"
        for file in _visible(folder, nested)
        if file.suffix.lower() in _OTHER_IMAGE_SUFFIXES
        and file.is_file()
        and not is_image_file(file)
    )


def _visible(folder: Path, nested: bool) -> list[Path]:
    files = folder.rglob("*") if nested else folder.iterdir()
    return sorted(file for file in files if file.name[0] != ".")


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
        header = truncated_repr(", ".join(known)) if known else "an empty file"
        raise ValueError(f"{path}: expected a column {missing[0]!r}, found {header}")
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


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder by name, without hidden ones."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
