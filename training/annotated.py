"""The layouts in which pictures with 68 landmarks come from their authors, 300-W and WFLW.

300-W (Sagonas et al., 2016) has a ``.pts`` file beside each picture; its splits are those of the
literature: AFW and the ``trainset`` of HELEN and LFPW to train on, both ``testset`` and IBUG to
test. WFLW (Wu et al., 2018) has a line for each face in ``list_98pt_rect_attr_train.txt``; of its
98 points those 68 are taken that stand where iBUG's do.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.align import five_points
from fer_ros.media import PICTURES
from training.rows import Row, Source, Wanted, coordinates, split_of

POINTS_OF_WFLW = (
    *(*range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 60)),  # jaw, brows, nose
    *(60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75, *range(76, 96)),  # eyes, mouth
)
"""For each of the 68 points its place among the 98 of WFLW."""

_SPLITS = {"afw": "train", "trainset": "train", "testset": "test", "ibug": "test"}
_TABLES, _IMAGES = "list_98pt_rect_attr_*.txt", "WFLW_images"
_WFLW_NUMBERS = 2 * 98


def _row(name: str, picture: Path, points_xy: NDArray[np.float32]) -> Row:
    box = np.concatenate([points_xy.min(axis=0), points_xy.max(axis=0)])
    five = five_points(points_xy[None])[0]
    return Row(name, picture, box_xyxy=box, points_xy=five, points68_xy=points_xy)


def _300w(wanted: Wanted) -> Source:
    splits: dict[str, list[Row]] = {}
    for file in sorted(wanted.path.rglob("*.pts")):
        inside = file.relative_to(wanted.path)
        found = [_SPLITS[part.lower()] for part in inside.parts if part.lower() in _SPLITS]
        row = _row(inside.with_suffix("").as_posix(), _picture_of(file), read_points(file))
        splits.setdefault(found[-1] if found else "all", []).append(row)
    return Source("300w", "300w", wanted.choose(splits))


def _picture_of(file: Path) -> Path:
    for suffix in sorted(PICTURES):
        if file.with_suffix(suffix).is_file():
            return file.with_suffix(suffix)
    raise ValueError(f"{file}: expected a picture of the same name beside it, found none")


def read_points(file: Path) -> NDArray[np.float32]:
    """The 68 points (68, 2) of a ``.pts`` file in pixels; there, the first pixel is number 1.

    ValueError, one line, when it has others.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    numbers = coordinates(text.partition("{")[2].partition("}")[0].split())
    if len(numbers) != 2 * 68:
        raise ValueError(f"{file}: expected 68 points between braces, found {len(numbers) / 2:g}")
    return numbers.reshape(68, 2) - 1


def _wflw(wanted: Wanted) -> Source:
    table = wanted.path
    if table.is_dir():
        tables = sorted(table.rglob(_TABLES))
        table = wanted.choose({split_of(each.stem.rpartition("_")[2]): each for each in tables})
    folder = wanted.pictures or _wflw_pictures(table)
    text, rows = table.read_text(encoding="utf-8", errors="replace"), []
    for number, line in enumerate(text.splitlines(), start=1):
        *words, name = line.split() or [""]
        numbers = coordinates(words[:_WFLW_NUMBERS])
        if len(numbers) != _WFLW_NUMBERS:
            raise ValueError(f"{table}:{number}: expected 98 points and a picture, found others")
        rows.append(_row(name, folder / name, numbers.reshape(98, 2)[list(POINTS_OF_WFLW)]))
    return Source("wflw", "wflw", rows)


def _wflw_pictures(table: Path) -> Path:
    for folder in table.absolute().parents[:3]:
        if (folder / _IMAGES).is_dir():
            return folder / _IMAGES
    raise ValueError(
        f"{table}: {_IMAGES} is not beside it: name the folder of its pictures with --pictures"
    )


def _looks_like_300w(path: Path) -> bool:
    return path.is_dir() and any(path.rglob("*.pts"))


def _looks_like_wflw(path: Path) -> bool:
    if path.is_dir():
        return any(path.rglob(_TABLES))
    return path.name.startswith("list_98pt_")


ANNOTATED: dict[str, tuple[Callable[[Path], bool], Callable[[Wanted], Source]]] = {
    "300w": (_looks_like_300w, _300w),
    "wflw": (_looks_like_wflw, _wflw),
}
"""As KINDS of ``training.sources``."""
