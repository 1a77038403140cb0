"""WFLW (Wu et al., 2018): images with 98 landmarks.

``list_98pt_rect_attr_train.txt`` has a line for each face; of its 98 points those 68 are taken that
correspond to iBUG's.
"""

from pathlib import Path

from training.datasets.readers.w300 import landmark_sample
from training.datasets.records import (
    DatasetSource,
    SourceRequest,
    coordinates,
    split_of,
    truncated_repr,
)

POINTS_OF_WFLW = (
    *(*range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 60)),  # jaw, brows, nose
    *(60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75, *range(76, 96)),  # eyes, mouth
)
"""For each of the 68 points its index among the 98 of WFLW."""

_TABLES, _IMAGES = "list_98pt_rect_attr_*.txt", "WFLW_images"
_NUM_COORDINATES = 2 * 98


def read_wflw(request: SourceRequest) -> DatasetSource:
    """One of the two tables and ``WFLW_images``."""
    table = request.path
    if table.is_dir():
        tables = sorted(table.rglob(_TABLES))
        table = request.choose(
            {split_of(table_file.stem.rpartition("_")[2]): table_file for table_file in tables}
        )
    folder = request.images or _wflw_images(table)
    text, samples = table.read_text(encoding="utf-8", errors="replace"), []
    for number, line in enumerate(text.splitlines(), start=1):
        *words, name = line.split() or [""]
        numbers = coordinates(words[:_NUM_COORDINATES])
        if len(numbers) != _NUM_COORDINATES:
            raise ValueError(
                f"{table}:{number}: expected 98 points and an image, found {truncated_repr(line)}"
            )
        samples.append(
            landmark_sample(name, folder / name, numbers.reshape(98, 2)[list(POINTS_OF_WFLW)])
        )
    return DatasetSource("wflw", "wflw", samples)


def _wflw_images(table: Path) -> Path:
    for folder in table.absolute().parents[:3]:
        if (folder / _IMAGES).is_dir():
            return folder / _IMAGES
    raise ValueError(
        f"{table}: {_IMAGES} is not next to it: name the folder of its images with --images"
    )


def is_wflw(path: Path) -> bool:
    """Whether it is, or holds, one of the tables."""
    if path.is_dir():
        return any(path.rglob(_TABLES))
    return path.name.startswith("list_98pt_")
