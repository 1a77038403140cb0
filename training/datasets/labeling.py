"""Shared code of the commands that add pseudo-labels to the shards of a dataset.

The teachers need a margin around the face. Tight crops are placed in a gray frame of twice their
size; in uncropped images the face of the dataset is rotated upright, with its surroundings. This
module does not import torch, which the environment of the teachers lacks.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import warp
from fer_ros.io.progress import ProgressBar, progress_bar
from fer_ros.types import CROP_SIZE_PX
from training.datasets.localization import decode_image, fit_size, pad_to_frame
from training.datasets.readers.registry import open_source
from training.datasets.records import DatasetSource, SourceRequest
from training.datasets.shards import FaceDataset, Shard, open_shard, shard_path, write_shard

VIEW_PX = 384
"""Side of a view of a face, which a teacher gets."""
_FACE_PX = 192

View = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Input of a teacher (384, 384, 3), and the map (2, 3) from pixels of the image to it."""
Measure = Callable[[View, NDArray[np.float32]], NDArray[np.float32]]


def tight_view(image_rgb: NDArray[np.uint8]) -> View:
    """The whole image in the middle of gray."""
    scale, size = fit_size(image_rgb, _FACE_PX)
    frame, corner = pad_to_frame(image_rgb, size, (VIEW_PX, VIEW_PX), cv2.INTER_CUBIC)
    shift = 0.5 * scale + corner - 0.5  # scaling keeps edges of pixels in place, not their centers
    return frame, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)


def photo_view(image_rgb: NDArray[np.uint8], frame_to_crop: NDArray[np.float32]) -> View:
    """The face upright in the middle of its surroundings; the map (2, 3) is that of the dataset."""
    scale, corner = _FACE_PX / CROP_SIZE_PX, (VIEW_PX - _FACE_PX) / 2
    to_view = frame_to_crop * np.float32(scale)
    to_view[:, 2] += 0.5 * scale + corner - 0.5
    return warp(image_rgb, to_view, VIEW_PX), to_view


def label_shard(
    path: Path,
    source: DatasetSource,
    column: str,
    measure: Measure,
    bar: ProgressBar,
    constants: Mapping[str, int] = MappingProxyType({}),
) -> NDArray[np.float32]:
    """Add a ``column`` of measurements to a shard, unless it is there; return it.

    ``measure`` gets the view of a face and its map (2, 3) from pixels of the image to the crop.
    ``constants`` are columns that say how it measured. Raises ValueError when the faces of the
    shard are not those of the source, or were measured in another way.
    """
    with open_shard(path) as arrays:
        if column in arrays.files:
            _check_constants(path, arrays, constants)
            bar.update(len(arrays))
            return arrays[column]
        columns = {key: arrays[key] for key in arrays.files}
    maps, samples = columns["frame_to_crop"], source.at(columns["index"])
    if [sample.name for sample in samples] != columns["name"].tolist():
        raise ValueError(f"{path}: expected faces of the source, found others: which one is it of?")
    values = []
    for frame_to_crop, sample, data in zip(maps, samples, source.read(samples), strict=True):
        image_rgb = decode_image(data, sample.name)
        view = tight_view(image_rgb) if source.tight_crops else photo_view(image_rgb, frame_to_crop)
        values.append(measure(view, frame_to_crop))
        bar.update()
    columns[column] = np.stack(values)
    columns |= {name: np.full(len(values), value) for name, value in constants.items()}
    write_shard(path, columns)
    return columns[column]


def _check_constants(path: Path, arrays: Shard, constants: Mapping[str, int]) -> None:
    """Raise ValueError unless a labeled shard has these columns; one that lacks them has 1."""
    for name, expected in constants.items():
        found = int(arrays[name][0]) if name in arrays.files and len(arrays[name]) else 1
        if found != expected:
            raise ValueError(
                f"{path}: expected {name} {expected}, found labels of {found}: label it as before, "
                "or make the dataset again with training.prepare"
            )


def label_dataset(
    source: Path,
    images: Path | None,
    folder: Path,
    label: Callable[[DatasetSource, Path, ProgressBar], NDArray[np.float32]],
) -> int:
    """Call ``label`` for each shard of a dataset made from ``source``; the number of NaN."""
    dataset = FaceDataset.open(folder)
    metadata = dataset.metadata
    opened = open_source(
        SourceRequest(source, metadata.split, images, metadata.classes, metadata.numbering),
        metadata.kind,
        metadata.tight_crops,
    )
    missing = 0
    with progress_bar(total=len(dataset), description=folder.name) as bar:
        for index in range(metadata.shards):
            values = label(opened, shard_path(folder, index), bar)
            missing += int(np.isnan(values.reshape(len(values), -1)).any(axis=1).sum())
    return missing


def make_parser(about: str) -> argparse.ArgumentParser:
    """Arguments of a command that labels a dataset: ``source``, ``dataset`` and ``images``."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("dataset", type=Path)
    arguments.add_argument("--images", type=Path, help="image folder given to training.prepare")
    return arguments
