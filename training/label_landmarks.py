"""``python -m training.label_landmarks SOURCE DATASET``: add 68 landmarks to a dataset.

DATASET was made from SOURCE by ``training.prepare``. The teacher is MediaPipe's face mesh (wheel
0.10.21, Apache-2.0). It needs NumPy 1 and therefore its own environment:
``requirements/mediapipe.txt``. Adds ``landmarks68`` (N, 68, 2) to the shards of the dataset:
fractions of the crop, NaN where it detects no face. Run the same command again to resume one that
was killed.

The mesh needs a margin around the face. Tight crops are placed in a gray frame of twice their size;
in photographs the face of the dataset is rotated upright, with its surroundings.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import crop_to_frame, warp
from fer_ros.io.progress import ProgressBar, progress_bar
from fer_ros.types import CROP_SIZE_PX
from training.datasets.localization import decode, fit_size, pad_to_frame, to_crop_fractions
from training.datasets.readers.registry import open_source
from training.datasets.records import DatasetSource, SourceRequest
from training.datasets.shards import FaceDataset, Shard, open_shard, shard_path, write_shard
from training.pretrained.mediapipe import MESH_TO_68

if TYPE_CHECKING:
    import mediapipe

_FACE_PX, _FRAMED_PX = 192, 384

View = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Input of the face mesh (384, 384, 3), and the map (2, 3) from pixels of the image to it."""
Measure = Callable[[View, NDArray[np.float32]], NDArray[np.float32]]


def tight_view(image_rgb: NDArray[np.uint8]) -> View:
    """The whole image in the middle of gray."""
    scale, size = fit_size(image_rgb, _FACE_PX)
    frame, corner = pad_to_frame(image_rgb, size, (_FRAMED_PX, _FRAMED_PX), cv2.INTER_CUBIC)
    shift = 0.5 * scale + corner - 0.5  # scaling keeps edges of pixels in place, not their centers
    return frame, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)


def photo_view(image_rgb: NDArray[np.uint8], frame_to_crop: NDArray[np.float32]) -> View:
    """The face upright in the middle of its surroundings; the map (2, 3) is that of the dataset."""
    scale, corner = _FACE_PX / CROP_SIZE_PX, (_FRAMED_PX - _FACE_PX) / 2
    to_view = frame_to_crop * np.float32(scale)
    to_view[:, 2] += 0.5 * scale + corner - 0.5
    return warp(image_rgb, to_view, _FRAMED_PX), to_view


def landmarks(mesh: "mediapipe.solutions.face_mesh.FaceMesh", view: View) -> NDArray[np.float32]:
    """68 points (68, 2) in pixels of the image; NaN where no face is found."""
    view_rgb, to_view = view
    faces = mesh.process(view_rgb).multi_face_landmarks
    if not faces:
        return np.full((68, 2), np.nan, np.float32)
    vertices = np.array([(point.x, point.y) for point in faces[0].landmark], np.float32)
    points = vertices[list(MESH_TO_68)] * _FRAMED_PX - 0.5  # edge coordinates: centers at + 0.5
    return crop_to_frame(points[None], to_view[None])[0]


def add_landmarks_to_shard(
    mesh: "mediapipe.solutions.face_mesh.FaceMesh",
    source: DatasetSource,
    path: Path,
    bar: ProgressBar,
) -> NDArray[np.float32]:
    """The landmarks (n, 68, 2) of a shard, which are in it afterwards.

    ValueError when its faces are not those of the source.
    """

    def measure(view: View, frame_to_crop: NDArray[np.float32]) -> NDArray[np.float32]:
        return to_crop_fractions(landmarks(mesh, view)[None], frame_to_crop[None])[0]

    return label_shard(path, source, "landmarks68", measure, bar)


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
        image_rgb = decode(data, sample.name)
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


def add_landmarks(source: Path, images: Path | None, folder: Path) -> str:
    """Add the landmarks to a dataset; return a one-line summary."""
    import mediapipe

    options = {"static_image_mode": True, "max_num_faces": 1, "min_detection_confidence": 0.3}
    with mediapipe.solutions.face_mesh.FaceMesh(**options) as mesh:
        missing = label_dataset(
            source, images, folder, lambda *shard: add_landmarks_to_shard(mesh, *shard)
        )
    return f"{folder}: no landmarks found in {missing} faces"


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


def parser(about: str) -> argparse.ArgumentParser:
    """Arguments of a command that labels a dataset: ``source``, ``dataset`` and ``images``."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("dataset", type=Path)
    arguments.add_argument("--images", type=Path, help="as it was given to training.prepare")
    return arguments


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__.split("\n\n")[0]).parse_args()
    try:
        print(add_landmarks(arguments.source, arguments.images, arguments.dataset))
    except (ValueError, OSError) as error:
        sys.exit(f"label_landmarks: {error}")


if __name__ == "__main__":
    main()
