"""FER2013 (Goodfellow et al., 2013): one CSV file with the pixels of all images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import EMOTIONS
from fer_ros.io.progress import progress_bar
from training.datasets.readers.folders import NUMBERINGS
from training.datasets.records import (
    DatasetSource,
    Sample,
    SourceRequest,
    header,
    parse_small_int,
    read_table,
    split_of,
    truncated_repr,
)

_SIDE_PX = 48
_TABLE = "fer2013.csv"


def read_fer2013(request: SourceRequest) -> DatasetSource:
    """One ``Usage`` of the file. Samples are named as in FER+, by their line.

    Raises ValueError for a line without 48 x 48 pixels, an emotion of 0 to 6, or a known usage.
    """
    table = _table(request.path)
    splits: dict[str, list[Sample]] = {}
    images: list[NDArray[np.uint8]] = []
    for where, cells in progress_bar(
        read_table(table, ("emotion", "pixels")), description=table.name
    ):
        usage = cells.get("Usage", "")
        split = split_of(usage)
        if usage and not split:
            raise ValueError(f"{where}: expected Training, PublicTest or PrivateTest in Usage")
        emotion = NUMBERINGS["fer2013"].get(parse_small_int(cells["emotion"]))
        if emotion is None:
            value = truncated_repr(cells["emotion"])
            raise ValueError(f"{where}: expected an emotion of 0 to 6, found {value}")
        index = len(images)
        images.append(_pixels(cells["pixels"], where))
        sample = Sample(f"fer{index:07d}", index, label=EMOTIONS.index(emotion))
        splits.setdefault(split or "all", []).append(sample)

    def read(samples: Sequence[Sample]) -> Iterator[bytes]:
        return (
            cv2.imencode(".png", images[int(str(sample.image))])[1].tobytes() for sample in samples
        )

    samples = request.choose(splits) if splits else []
    return DatasetSource("fer2013", "fer2013", samples, tight_crops=True, read=read)


def _table(path: Path) -> Path:
    return path / _TABLE if path.is_dir() else path


def _pixels(text: str, where: str) -> NDArray[np.uint8]:
    """The gray image (48, 48) of a cell."""
    values = [parse_small_int(word) for word in text.split()]
    if len(values) != _SIDE_PX**2 or not all(0 <= value <= 255 for value in values):
        raise ValueError(
            f"{where}: expected {_SIDE_PX**2} pixels from 0 to 255, found {len(values)} values: "
            f"{truncated_repr(text)}"
        )
    return np.array(values, np.uint8).reshape(_SIDE_PX, _SIDE_PX)


def is_fer2013(path: Path) -> bool:
    """Whether the header names the columns."""
    return {"emotion", "pixels"} <= {name.strip() for name in header(_table(path)).split(",")}
