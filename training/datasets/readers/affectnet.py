"""AffectNet (Mollahosseini et al., 2019) as its authors publish it, in two layouts."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import alignment_points
from fer_ros.emotions import EMOTIONS
from fer_ros.io.progress import progress_bar
from training.datasets.records import (
    DatasetSource,
    Sample,
    SourceRequest,
    coordinates,
    header,
    image_files,
    parse_small_int,
    read_table,
    split_of,
    subfolders,
    truncated_repr,
)
from training.datasets.safe_npy import load_array

_NO_EMOTION = {8: "none", 9: "uncertain", 10: "no face"}  # AffectNet's expressions after ours
_AFFECTNET_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
_AFFECTNET_TABLES = {"train": "training.csv", "valid": "validation.csv"}
_LISTS, _IMAGES = "Manually_Annotated_file_lists", "Manually_Annotated_Images"
_MAX_LOOKUPS = 100  # images of a table, to find their folder


def read_affectnet_csv(request: SourceRequest) -> DatasetSource:
    """``training.csv`` and ``validation.csv``: image, face box, 68 landmarks, expression."""
    table = request.path
    if table.is_dir():
        tables = ((split, _affectnet_table(table, split)) for split in _AFFECTNET_TABLES)
        table = request.choose({split: path for split, path in tables if path.is_file()})
    folder = _affectnet_images(table, request.images)
    headless = not header(table).startswith(_AFFECTNET_COLUMNS[0])  # as in some copies
    samples: list[Sample] = []
    dropped: Counter[str] = Counter()
    for where, cells in progress_bar(
        read_table(table, _AFFECTNET_COLUMNS, headless), description=table.name
    ):
        label = _expression(cells["expression"], where, dropped)
        if label >= 0:
            name = cells["subDirectory_filePath"]
            samples.append(
                Sample(
                    name,
                    folder / name,
                    label=label,
                    box_xyxy=_box([cells[key] for key in _AFFECTNET_COLUMNS[1:5]]),
                    points_xy=_five_points(cells["facial_landmarks"].split(";")),
                )
            )
    return DatasetSource("affectnet-csv", "affectnet", samples, dropped)


def _affectnet_table(folder: Path, split: str) -> Path:
    name = _AFFECTNET_TABLES[split]
    return folder / _LISTS / name if (folder / _LISTS).is_dir() else folder / name


def _affectnet_images(table: Path, folder: Path | None) -> Path:
    """The folder that the paths of a table start from."""
    if folder is not None:
        return folder
    around = [table.parent, table.parent / _IMAGES, table.parent.parent / _IMAGES]
    with table.open(encoding="utf-8-sig", errors="replace") as lines:
        names = [line.split(",")[0] for line in islice(lines, _MAX_LOOKUPS)]
    for folder in around:
        if any(_is_file(folder / name) for name in names):
            return folder
    raise ValueError(f"{table}: its images are not next to it: name their folder with --images")


def _is_file(path: Path) -> bool:
    """False, too, for names that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_affectnet(request: SourceRequest) -> DatasetSource:
    """``train_set`` and ``val_set``: images and NumPy files with their annotations."""
    folder = request.path
    if not (folder / "annotations").is_dir():
        inside = subfolders(folder) if folder.is_dir() else []
        sets = {split_of(part.name): part for part in inside if (part / "annotations").is_dir()}
        folder = request.choose(sets)
    samples: list[Sample] = []
    dropped: Counter[str] = Counter()
    files = image_files(folder / "images")
    files.sort(key=lambda file: (len(file.stem), file.stem))  # 2.jpg before 10.jpg
    for file in progress_bar(files, description=folder.name):
        expression = folder / "annotations" / f"{file.stem}_exp.npy"
        if not expression.is_file():
            raise ValueError(f"{expression}: no such file; expected the label of {file.name}")
        label = _expression(" ".join(_texts(expression)), str(expression), dropped)
        if label >= 0:
            landmarks = expression.with_name(f"{file.stem}_lnd.npy")
            texts = _texts(landmarks) if landmarks.is_file() else []
            box, points_xy = _bounds(texts), _five_points(texts)
            samples.append(Sample(file.stem, file, label=label, box_xyxy=box, points_xy=points_xy))
    return DatasetSource("affectnet", "affectnet", samples, dropped)


def _texts(path: Path) -> list[str]:
    """The values of a ``.npy`` file; there, AffectNet's numbers are texts."""
    return [str(value) for value in load_array(path).reshape(-1)]


def _expression(text: str, where: str, dropped: Counter[str]) -> int:
    """Index in EMOTIONS, whose order is AffectNet's; -1, and counted, when it is no emotion."""
    value = parse_small_int(text)
    if value in _NO_EMOTION:
        dropped[f"expression {value} ({_NO_EMOTION[value]})"] += 1
        return -1
    if not 0 <= value < len(EMOTIONS):
        raise ValueError(
            f"{where}: expected an expression of 0 to 10, found {truncated_repr(text)}"
        )
    return value


def _box(texts: list[str]) -> NDArray[np.float32]:
    """Corners (4,) of left, top, width and height; none (0,) when they span no box."""
    box = coordinates(texts)
    box[2:] += box[:2]
    return box if (box[2:] > box[:2]).all() else box[:0]


def _landmarks(texts: list[str]) -> NDArray[np.float32]:
    """68 points (68, 2), or none (0, 2) when the texts are not 136 numbers."""
    values = coordinates(texts)
    return (values if len(values) == 136 else values[:0]).reshape(-1, 2)


def _five_points(texts: list[str]) -> NDArray[np.float32]:
    points = _landmarks(texts)
    return alignment_points(points[None])[0] if len(points) else points


def _bounds(texts: list[str]) -> NDArray[np.float32]:
    points = _landmarks(texts)
    return (
        np.concatenate([points.min(axis=0), points.max(axis=0)]) if len(points) else points[0:0, 0]
    )


def is_affectnet_csv(path: Path) -> bool:
    """Whether the header of a table is AffectNet's."""
    if path.is_dir():
        return any(
            header(_affectnet_table(path, split)).startswith(_AFFECTNET_COLUMNS[0])
            for split in _AFFECTNET_TABLES
        )
    return header(path).startswith(_AFFECTNET_COLUMNS[0])


def is_affectnet(path: Path) -> bool:
    """Whether it is, or holds, a folder with images and annotations."""
    inside = [path, *subfolders(path)] if path.is_dir() else []
    return any(
        (folder / "annotations").is_dir() and (folder / "images").is_dir() for folder in inside
    )
