"""300-W (Sagonas et al., 2016): images with 68 landmarks.

Each image has a ``.pts`` file next to it. The splits are those of the literature: AFW and the
``trainset`` of HELEN and LFPW to train on, both ``testset`` and IBUG to test.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import alignment_points
from fer_ros.io.media import IMAGE_SUFFIXES
from training.datasets.records import DatasetSource, Sample, SourceRequest, coordinates

_SPLITS = {"afw": "train", "trainset": "train", "testset": "test", "ibug": "test"}


def landmark_sample(name: str, image: Path, points_xy: NDArray[np.float32]) -> Sample:
    """A sample with 68 landmarks (68, 2), and the box around them."""
    box = np.concatenate([points_xy.min(axis=0), points_xy.max(axis=0)])
    five = alignment_points(points_xy[None])[0]
    return Sample(name, image, box_xyxy=box, points_xy=five, landmarks68_xy=points_xy)


def read_300w(request: SourceRequest) -> DatasetSource:
    """All ``.pts`` files below a folder and the images of the same names."""
    splits: dict[str, list[Sample]] = {}
    for file in sorted(request.path.rglob("*.pts")):
        inside = file.relative_to(request.path)
        parts = [_SPLITS[part.lower()] for part in inside.parts if part.lower() in _SPLITS]
        sample = landmark_sample(
            inside.with_suffix("").as_posix(), _image_of(file), read_points(file)
        )
        splits.setdefault(parts[-1] if parts else "all", []).append(sample)
    return DatasetSource("300w", "300w", request.choose(splits))


def _image_of(file: Path) -> Path:
    for suffix in sorted(IMAGE_SUFFIXES):
        if file.with_suffix(suffix).is_file():
            return file.with_suffix(suffix)
    raise ValueError(f"{file}: expected an image of the same name next to it, found none")


def read_points(file: Path) -> NDArray[np.float32]:
    """The 68 points (68, 2) of a ``.pts`` file in pixels from 0; the file counts from 1.

    Raises ValueError when it has another number of points.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    numbers = coordinates(text.partition("{")[2].partition("}")[0].split())
    if len(numbers) != 2 * 68:
        raise ValueError(f"{file}: expected 68 points between braces, found {len(numbers) / 2:g}")
    return numbers.reshape(68, 2) - 1


def is_300w(path: Path) -> bool:
    """Whether there are ``.pts`` files."""
    return path.is_dir() and any(path.rglob("*.pts"))
