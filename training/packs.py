"""Packs: the folders of aligned faces that ``training.prepare`` leaves.

``pack.yaml`` says what a pack is (``PackCard``); its faces lie in ``shard-00000.npz`` and so on.
Each shard has the same columns, one row a face:

=============  =====================  ============================================================
name           (N,) text              as the data set calls the picture
row            (N,) int32             place in the list of the source
canvas         (N, 144, 144) uint8    grey: the aligned crop of 112 px with 16 px on each side
frame_to_crop  (N, 2, 3) float32      from pixels of the picture to those of the crop
size_px        (N, 2) int32           width and height of the picture
found          (N,) bool              whether the detector found the face
canvas_hash    (N,) uint64            of the pixels of the canvas
pixel_hash     (N,) uint64            of the decoded pixels of the picture
votes          (N, 10) uint8          of FER+; or
label          (N,) int8              place in EMOTIONS; unlabelled packs have neither
identity       (N,) text              who it is, where known, unique in the data set; else empty
source         (N,) text              where the data set has it from; else empty
dup_group      (N,) int32             the same in pictures with equal pixels; else -1
points68       (N, 68, 2) float32     fractions of the crop, NaN: no face; of the data set, or of
                                      ``training.teacher``; other packs have none
=============  =====================  ============================================================

Beside the rows a shard names the pictures that are in no row: ``undecodable`` and ``faceless``.
This module knows no torch: the teacher has none.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fer_ros.align import TEMPLATE_XY
from fer_ros.config import Checked, from_dict, parse_yaml, setting
from fer_ros.errors import one_line
from fer_ros.files import whole_file
from fer_ros.labels import EMOTIONS, FERPLUS_VOTES
from fer_ros.types import CROP_SIZE_PX
from training.arrays import read_array, read_header

MARGIN_PX = 16
CANVAS_PX = CROP_SIZE_PX + 2 * MARGIN_PX
INSIDE = slice(MARGIN_PX, MARGIN_PX + CROP_SIZE_PX)
"""The crop, in rows and columns of a canvas."""
FORMAT = 1
CARD, PLAN = "pack.yaml", "pack.partial.yaml"
LEFT_OUT = ("undecodable", "faceless")
_LATER = "points68"  # does not change what a pack is
_COLUMNS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "name": (np.str_, ()),
    "row": (np.integer, ()),
    "canvas": (np.uint8, (CANVAS_PX, CANVAS_PX)),
    "frame_to_crop": (np.floating, (2, 3)),
    "size_px": (np.integer, (2,)),
    "found": (np.bool_, ()),
    "canvas_hash": (np.integer, ()),
    "pixel_hash": (np.integer, ()),
    "votes": (np.integer, (len(FERPLUS_VOTES),)),
    "label": (np.integer, ()),
    "identity": (np.str_, ()),
    "source": (np.str_, ()),
    "dup_group": (np.integer, ()),
    _LATER: (np.floating, (68, 2)),
    **dict.fromkeys(LEFT_OUT, (np.str_, ())),
}
"""Kind of the numbers in each column, and the shape of one row."""
_AGAIN = "make it again with training.prepare"


def crop_rule() -> dict[str, Any]:
    """What canvases depend on: those made by another rule do not fit the robot's crops."""
    return {"side_px": CROP_SIZE_PX, "margin_px": MARGIN_PX, "template_xy": TEMPLATE_XY.tolist()}


@dataclass(frozen=True)
class PackCard(Checked):
    """``pack.yaml``."""

    format: int = setting(FORMAT, "version of this page")
    kind: str = setting("", "layout of the source, a name in training.sources.KINDS")
    dataset: str = setting("", "packs of one name share identities and dup_groups")
    split: str = setting("", "train, valid or test, of a source that has several")
    classes: int = setting(8, "7: contempt is left out", 7, 8)
    tight: bool = setting(True, "faces fill the pictures")
    labels: str = setting("", "votes, label, or empty: unlabelled")
    count: int = setting(0, "faces", 0, 10**9)
    shards: int = setting(0, "files", 0, 10**6)
    crop: dict[str, Any] = field(default_factory=dict, metadata={"about": "the rule of the crop"})
    plan: str = setting("", "digest of the list that the pack was made from")
    sha256: str = setting("", "over the arrays of all shards, without points68")


def pixel_hash(picture: NDArray[np.uint8]) -> int:
    """64 bits of the sha256 of a picture's shape and pixels."""
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return int.from_bytes(digest.digest()[:8], "little")


def shard_path(folder: Path, index: int) -> Path:
    """File of a shard."""
    return folder / f"shard-{index:05d}.npz"


def in_rgb(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey crops (N, 112, 112) as the robot has them, (N, 112, 112, 3)."""
    return np.repeat(crops[..., None], 3, axis=3)


def write_shard(path: Path, columns: dict[str, NDArray]) -> None:
    """Writes a whole shard or, when the process is killed meanwhile, nothing."""
    objects = [key for key, values in columns.items() if values.dtype == object]
    if objects:
        raise ValueError(f"{path}: expected numbers and text, found objects in {objects[0]}")
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turns whatever is wrong inside of a shard into a line that names it.

    RuntimeError is zipfile's for what is encrypted, or was written in a way that it does not know.
    """
    try:
        yield
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path}: damaged ({one_line(error)}); delete the pack and {_AGAIN}"
        ) from None


class Shard:
    """The columns of a shard, each read when it is asked for; its length: faces.

    ValueError, one line, when the file is damaged, or its columns are not those of a shard.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        with _damage(path):
            self._archive = zipfile.ZipFile(file)
            size = file.seek(0, os.SEEK_END)
            self._entries = {
                entry.filename.removesuffix(".npy"): entry for entry in self._archive.infolist()
            }
            counts = {key: self._rows(key, entry, size) for key, entry in self._entries.items()}
            known = {counts[key] for key in counts.keys() & _COLUMNS.keys() - set(LEFT_OUT)}
            if len(known) != 1:
                found = ", ".join(map(str, sorted(known))) or "no column"
                raise ValueError(f"expected columns of one length, found {found}")
        (self._count,) = known

    def _rows(self, key: str, entry: zipfile.ZipInfo, size: int) -> int:
        """How many a column has, in an archive of ``size`` bytes. ValueError: not a shard's."""
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
            raise ValueError(f"expected {key} without compression")
        with self._archive.open(entry) as file:
            shape, dtype = read_header(file, entry.file_size)
        kind, one = _COLUMNS.get(key, (dtype.type, shape[1:]))
        if len(shape) == 0 or shape[1:] != one or not np.issubdtype(dtype, kind):
            expected = f"{kind.__name__} ({', '.join(map(str, ('N', *one)))})"
            raise ValueError(f"expected {key} as {expected}, found {dtype.name} {shape}")
        return shape[0]

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> NDArray:
        if key not in self._entries:
            hint = "; training.teacher adds them" if key == _LATER else ""
            raise ValueError(f"{self._path}: has no {key}{hint}")
        with _damage(self._path), self._archive.open(self._entries[key]) as file:
            return read_array(file)

    @property
    def files(self) -> list[str]:
        """Names of the columns."""
        return list(self._entries)


@contextmanager
def open_shard(path: Path) -> Iterator[Shard]:
    """A shard to read columns from. ValueError, one line, when it is missing or none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; the pack is incomplete: {_AGAIN}") from None
    with file:
        yield Shard(path, file)


def digest(folder: Path, shards: int) -> str:
    """Hexadecimal sha256 over the arrays of so many shards, without ``points68``."""
    total = hashlib.sha256()
    for index in range(shards):
        with open_shard(shard_path(folder, index)) as arrays:
            for key in sorted(set(arrays.files) - {_LATER}):
                values = np.ascontiguousarray(arrays[key])
                total.update(f"{key} {values.dtype.str} {values.shape}".encode())
                total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _faces(folder: Path, shards: int) -> int:
    """How many are in so many shards."""
    count = 0
    for index in range(shards):
        with open_shard(shard_path(folder, index)) as arrays:
            count += len(arrays)
    return count


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Writes a whole file or nothing."""
    with whole_file(path) as file:
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def seal(folder: Path, shards: int, **card: Any) -> PackCard:
    """Writes ``pack.yaml`` for the shards that are there; ``card``: the fields it cannot count."""
    sealed = PackCard(
        count=_faces(folder, shards),
        shards=shards,
        crop=crop_rule(),
        sha256=digest(folder, shards),
        **card,
    )
    write_yaml(folder / CARD, asdict(sealed))
    return sealed


def read_pack_card(folder: Path) -> PackCard:
    """What ``pack.yaml`` says. ValueError, one line, when this is no pack that can be used."""
    if folder.is_file():
        raise ValueError(f"{folder}: expected the folder of a pack, found a file: {_AGAIN}")
    path = folder / CARD
    if not path.is_file():
        begun = (folder / PLAN).is_file()
        todo = (
            "the same training.prepare goes on with it"
            if begun
            else "make it with training.prepare"
        )
        raise ValueError(f"{path}: no such file, so this is no complete pack: {todo}")
    try:
        values = parse_yaml(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path}: not a YAML file: {_AGAIN}") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path}: expected format {FORMAT}, found {found}: {_AGAIN}")
    card = from_dict(PackCard, values, str(path))
    if card.crop != crop_rule():
        raise ValueError(f"{path}: its canvases were cut for another crop template: {_AGAIN}")
    return card


@dataclass(frozen=True, eq=False)
class Pack:
    """A complete pack; columns are read when they are asked for."""

    folder: Path
    card: PackCard

    @classmethod
    def open(cls, folder: Path) -> "Pack":
        """ValueError, one line, when there is none, a damaged one, or one of another format."""
        card = read_pack_card(folder)
        found = _faces(folder, card.shards)
        if found != card.count:
            raise ValueError(f"{folder}: expected {card.count} faces, found {found}: {_AGAIN}")
        return cls(folder, card)

    def __len__(self) -> int:
        return self.card.count

    def __str__(self) -> str:
        return self.folder.name

    def verify(self) -> None:
        """ValueError when the arrays are not those that ``pack.yaml`` was written for."""
        found = digest(self.folder, self.card.shards)
        if found != self.card.sha256:
            raise ValueError(
                f"{self.folder}: expected arrays of sha256 {self.card.sha256[:12]}, found "
                f"{found[:12]}: delete it and {_AGAIN}"
            )

    def has(self, key: str) -> bool:
        """Whether there is a column of this name."""
        if self.card.shards == 0:
            return False
        with open_shard(shard_path(self.folder, 0)) as arrays:
            return key in arrays

    def column(self, key: str) -> NDArray:
        """A whole column. ValueError when the pack has none of this name."""
        parts = []
        for index in range(self.card.shards):
            with open_shard(shard_path(self.folder, index)) as arrays:
                parts.append(arrays[key])
        if not parts:
            raise ValueError(f"{self.folder}: expected faces, found no shard: {_AGAIN}")
        values = np.concatenate(parts)
        if key == "label" and not np.isin(values, range(len(EMOTIONS))).all():
            raise ValueError(f"{self.folder}: expected labels below {len(EMOTIONS)}: {_AGAIN}")
        return values

    def canvases(self, keep: NDArray[np.bool_], out: NDArray[np.uint8]) -> None:
        """Copies the canvases of the rows ``keep`` (N,) into ``out`` (kept, 144, 144)."""
        row, filled = 0, 0
        for index in range(self.card.shards):
            with open_shard(shard_path(self.folder, index)) as arrays:
                canvases = arrays["canvas"]
            chosen = canvases[keep[row : row + len(canvases)]]
            out[filled : filled + len(chosen)] = chosen
            row, filled = row + len(canvases), filled + len(chosen)


def gather(parts: Sequence[tuple[Pack, NDArray[np.bool_]]]) -> NDArray[np.uint8]:
    """Canvases (N, 144, 144) of the chosen rows of packs, in their order; in memory once."""
    counts = [int(keep.sum()) for _, keep in parts]
    canvases = np.empty((sum(counts), CANVAS_PX, CANVAS_PX), np.uint8)
    for (pack, keep), count, last in zip(parts, counts, np.cumsum(counts), strict=True):
        pack.canvases(keep, canvases[last - count : last])
    return canvases
