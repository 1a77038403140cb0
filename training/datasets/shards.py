"""Datasets of aligned faces: the folders that ``training.prepare`` writes.

``dataset.yaml`` describes a dataset (``DatasetMetadata``); its faces are in ``shard-00000.npz`` and
so on. All shards have the same columns, with one entry for each face:

================  =====================  =========================================================
name              (N,) text              name of the image in its source
index             (N,) int32             index of the sample in its source
padded_crop       (N, 144, 144) uint8    gray: the aligned crop of 112 px with 16 px on each side
frame_to_crop     (N, 2, 3) float32      from pixels of the image to those of the crop
size_px           (N, 2) int32           width and height of the image
detected          (N,) bool              whether the detector found the face
padded_crop_hash  (N,) uint64            of the pixels of the padded crop
pixel_hash        (N,) uint64            of the decoded pixels of the image
votes             (N, 10) uint8          of FER+; or
label             (N,) int8              index in EMOTIONS; unlabeled datasets have neither
identity          (N,) text              person, unique in the source; empty: unknown
source            (N,) text              where the source has the image from; empty: unknown
dup_group         (N,) int32             the same in images with equal pixels; else -1
landmarks68       (N, 68, 2) float32     fractions of the crop, NaN: no face; of the source, or of
                                         ``training.label_landmarks``; others have none
================  =====================  =========================================================

A shard also lists the names of images that were excluded: ``undecodable`` and ``undetected``. This
module does not import torch, which the environment of ``training.label_landmarks`` lacks.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from reprlib import repr as short
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fer_ros.blendshapes import NUM_BLENDSHAPES
from fer_ros.config import ValidatedConfig, config_field, from_dict
from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from fer_ros.io.atomic_write import atomic_write
from fer_ros.io.errors import single_line
from fer_ros.io.yaml_file import parse_yaml
from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.types import CROP_SIZE_PX, TEMPLATE_XY
from training.datasets.safe_npy import read_array, read_header

MARGIN_PX = 16
PADDED_CROP_PX = CROP_SIZE_PX + 2 * MARGIN_PX
CROP_SLICE = slice(MARGIN_PX, MARGIN_PX + CROP_SIZE_PX)
"""The crop, in rows and columns of a padded crop."""
FORMAT = 2
METADATA_FILE, PARTIAL_FILE = "dataset.yaml", "dataset.partial.yaml"
EXCLUDED_COLUMNS = ("undecodable", "undetected")
_OPTIONAL_COLUMNS = {  # columns that are not part of the digest, and the commands that add them
    "landmarks68": "training.label_landmarks",
    "blendshapes": "training.label_blendshapes",
    "blendshape_views": "training.label_blendshapes",
}
_COLUMNS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "name": (np.str_, ()),
    "index": (np.integer, ()),
    "padded_crop": (np.uint8, (PADDED_CROP_PX, PADDED_CROP_PX)),
    "frame_to_crop": (np.floating, (2, 3)),
    "size_px": (np.integer, (2,)),
    "detected": (np.bool_, ()),
    "padded_crop_hash": (np.integer, ()),
    "pixel_hash": (np.integer, ()),
    "votes": (np.integer, (len(FERPLUS_VOTES),)),
    "label": (np.integer, ()),
    "identity": (np.str_, ()),
    "source": (np.str_, ()),
    "dup_group": (np.integer, ()),
    "landmarks68": (np.floating, (NUM_LANDMARKS, 2)),
    "blendshapes": (np.floating, (NUM_BLENDSHAPES,)),
    "blendshape_views": (np.integer, ()),
    **dict.fromkeys(EXCLUDED_COLUMNS, (np.str_, ())),
}
"""Type of each column, and the shape of one entry."""
_REBUILD = "make it again with training.prepare"


def crop_rule() -> dict[str, Any]:
    """How padded crops are cut. Those cut differently do not fit the crops of the robot."""
    return {"side_px": CROP_SIZE_PX, "margin_px": MARGIN_PX, "template_xy": TEMPLATE_XY.tolist()}


@dataclass(frozen=True)
class DatasetMetadata(ValidatedConfig):
    """``dataset.yaml``."""

    format: int = config_field(FORMAT, "version of the format")
    kind: str = config_field(
        "", "layout of the source, a name in training.datasets.readers.registry.KINDS"
    )
    name: str = config_field("", "datasets of one name share identities and dup_groups")
    split: str = config_field("", "train, valid or test, of a source that has several")
    classes: int = config_field(8, "7: without contempt", 7, 8)
    numbering: str = config_field("", "numbering of class folders whose names are numbers")
    tight_crops: bool = config_field(True, "faces fill their images")
    labels: str = config_field("", "votes, label, or empty: unlabeled")
    count: int = config_field(0, "faces", 0, 10**9)
    shards: int = config_field(0, "files", 0, 10**6)
    crop: dict[str, Any] = field(
        default_factory=dict, metadata={"description": "how padded crops were cut"}
    )
    source_digest: str = config_field("", "digest of the samples that it was made from")
    sha256: str = config_field(
        "", "sha256 of the arrays of all shards, without landmarks and blendshapes of teachers"
    )


def pixel_hash(image: NDArray[np.uint8]) -> int:
    """64 bits of the sha256 of an image's shape and pixels."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return int.from_bytes(digest.digest()[:8], "little")


def shard_path(folder: Path, index: int) -> Path:
    """File of a shard."""
    return folder / f"shard-{index:05d}.npz"


def gray_to_rgb(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gray crops (N, 112, 112) as RGB crops (N, 112, 112, 3)."""
    return np.repeat(crops[..., None], 3, axis=3)


def write_shard(path: Path, columns: dict[str, NDArray]) -> None:
    """Write a shard atomically. Raises ValueError when a column contains Python objects."""
    objects = [key for key, values in columns.items() if values.dtype == object]
    if objects:
        raise ValueError(f"{path}: expected numbers and text, found objects in {objects[0]}")
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn errors inside a shard into a ValueError with one line that names it.

    zipfile raises RuntimeError for encrypted files and unknown compression methods.
    """
    try:
        yield
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path}: damaged ({single_line(error)}); delete the dataset and {_REBUILD}"
        ) from None


class Shard:
    """Columns of a shard, read on access; its length is the number of faces.

    Raises ValueError, one line, when the file is damaged, or its columns are not those of a shard.
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
            known = {counts[key] for key in counts.keys() & _COLUMNS.keys() - set(EXCLUDED_COLUMNS)}
            if len(known) != 1:
                lengths = ", ".join(map(str, sorted(known))) or "no column"
                raise ValueError(f"expected columns of one length, found {lengths}")
        (self._count,) = known

    def _rows(self, key: str, entry: zipfile.ZipInfo, size: int) -> int:
        """Number of rows of a column, in an archive of ``size`` bytes.

        Raises ValueError when a shard has no such column, or has it with another type or shape.
        """
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
            raise ValueError(f"expected {key} without compression")
        with self._archive.open(entry) as file:
            shape, dtype = read_header(file, entry.file_size)
        kind, entry_shape = _COLUMNS.get(key, (dtype.type, shape[1:]))
        if len(shape) == 0 or shape[1:] != entry_shape or not np.issubdtype(dtype, kind):
            expected = f"{kind.__name__} ({', '.join(map(str, ('N', *entry_shape)))})"
            raise ValueError(f"expected {key} as {expected}, found {dtype.name} {shape}")
        return shape[0]

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> NDArray:
        if key not in self._entries:
            hint = f"; {_OPTIONAL_COLUMNS[key]} adds them" if key in _OPTIONAL_COLUMNS else ""
            raise ValueError(f"{self._path}: has no {key}{hint}")
        with _damage(self._path), self._archive.open(self._entries[key]) as file:
            return read_array(file)

    @property
    def files(self) -> list[str]:
        """Names of the columns."""
        return list(self._entries)


@contextmanager
def open_shard(path: Path) -> Iterator[Shard]:
    """Open a shard for reading columns. Raises ValueError when it is missing or damaged."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; the dataset is incomplete: {_REBUILD}") from None
    with file:
        yield Shard(path, file)


def digest(folder: Path, shards: int) -> str:
    """Hexadecimal sha256 of the arrays of all shards, without ``_OPTIONAL_COLUMNS``."""
    total = hashlib.sha256()
    for index in range(shards):
        with open_shard(shard_path(folder, index)) as arrays:
            for key in sorted(set(arrays.files) - _OPTIONAL_COLUMNS.keys()):
                values = np.ascontiguousarray(arrays[key])
                total.update(f"{key} {values.dtype.str} {values.shape}".encode())
                total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _count_faces(folder: Path, shards: int) -> int:
    """Number of faces in the first ``shards`` shards."""
    count = 0
    for index in range(shards):
        with open_shard(shard_path(folder, index)) as arrays:
            count += len(arrays)
    return count


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write a YAML file atomically."""
    with atomic_write(path) as file:
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def finalize(folder: Path, shards: int, **fields: Any) -> DatasetMetadata:
    """Write ``dataset.yaml`` for complete shards; ``fields``: what the shards do not contain."""
    metadata = DatasetMetadata(
        count=_count_faces(folder, shards),
        shards=shards,
        crop=crop_rule(),
        sha256=digest(folder, shards),
        **fields,
    )
    write_yaml(folder / METADATA_FILE, asdict(metadata))
    return metadata


def read_metadata(folder: Path) -> DatasetMetadata:
    """Read ``dataset.yaml``. Raises ValueError when the folder is no complete dataset."""
    if folder.is_file():
        raise ValueError(f"{folder}: expected a dataset folder, found a file: {_REBUILD}")
    path = folder / METADATA_FILE
    if not path.is_file():
        if (folder / PARTIAL_FILE).is_file():
            remedy = "run the same training.prepare again to complete it"
        else:
            remedy = "make it with training.prepare"
        raise ValueError(f"{path}: no such file: not a complete dataset: {remedy}")
    try:
        values = parse_yaml(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}: {_REBUILD}") from None
    version = values.get("format") if isinstance(values, dict) else None
    if version != FORMAT:
        raise ValueError(f"{path}: expected format {FORMAT}, found {version}: {_REBUILD}")
    metadata = from_dict(DatasetMetadata, values, str(path))
    if metadata.crop != crop_rule():
        raise ValueError(
            f"{path}: crop: expected {short(crop_rule())}, found {short(metadata.crop)}: {_REBUILD}"
        )
    return metadata


@dataclass(frozen=True, eq=False)
class FaceDataset:
    """A complete dataset; columns are read on demand."""

    folder: Path
    metadata: DatasetMetadata

    @classmethod
    def open(cls, folder: Path) -> "FaceDataset":
        """Open a dataset. Raises ValueError when it is missing, damaged or of another format."""
        metadata = read_metadata(folder)
        count = _count_faces(folder, metadata.shards)
        if count != metadata.count:
            raise ValueError(
                f"{folder}: expected {metadata.count} faces, found {count}: {_REBUILD}"
            )
        return cls(folder, metadata)

    def __len__(self) -> int:
        return self.metadata.count

    def __str__(self) -> str:
        return self.folder.name

    def verify(self) -> None:
        """Raise ValueError when the arrays do not have the digest in ``dataset.yaml``."""
        sha256 = digest(self.folder, self.metadata.shards)
        if sha256 != self.metadata.sha256:
            raise ValueError(
                f"{self.folder}: expected arrays of sha256 {self.metadata.sha256[:12]}, found "
                f"{sha256[:12]}: delete it and {_REBUILD}"
            )

    def has(self, key: str) -> bool:
        """Whether there is a column of this name."""
        if self.metadata.shards == 0:
            return False
        with open_shard(shard_path(self.folder, 0)) as arrays:
            return key in arrays

    def column(self, key: str) -> NDArray:
        """A column over all shards. Raises ValueError when the dataset does not have it."""
        parts = []
        for index in range(self.metadata.shards):
            with open_shard(shard_path(self.folder, index)) as arrays:
                parts.append(arrays[key])
        if not parts:
            raise ValueError(f"{self.folder}: expected faces, found no shard: {_REBUILD}")
        values = np.concatenate(parts)
        if key == "label" and not np.isin(values, range(len(EMOTIONS))).all():
            raise ValueError(f"{self.folder}: expected labels below {len(EMOTIONS)}: {_REBUILD}")
        return values

    def copy_padded_crops(self, keep: NDArray[np.bool_], out: NDArray[np.uint8]) -> None:
        """Copy the padded crops of the samples ``keep`` (N,) to ``out`` (n, 144, 144)."""
        start, filled = 0, 0
        for index in range(self.metadata.shards):
            with open_shard(shard_path(self.folder, index)) as arrays:
                padded_crops = arrays["padded_crop"]
            chosen = padded_crops[keep[start : start + len(padded_crops)]]
            out[filled : filled + len(chosen)] = chosen
            start, filled = start + len(padded_crops), filled + len(chosen)


def load_padded_crops(parts: Sequence[tuple[FaceDataset, NDArray[np.bool_]]]) -> NDArray[np.uint8]:
    """Padded crops (N, 144, 144) of the selected samples of datasets, without a second copy."""
    counts = [int(keep.sum()) for _, keep in parts]
    padded_crops = np.empty((sum(counts), PADDED_CROP_PX, PADDED_CROP_PX), np.uint8)
    for (dataset, keep), count, last in zip(parts, counts, np.cumsum(counts), strict=True):
        dataset.copy_padded_crops(keep, padded_crops[last - count : last])
    return padded_crops
