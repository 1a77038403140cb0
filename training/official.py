"""The layouts in which FER+ and AffectNet come from their authors."""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.align import five_points
from fer_ros.labels import EMOTIONS, FERPLUS_VOTES
from training.arrays import load_array
from training.rows import (
    Row,
    Source,
    Wanted,
    coordinates,
    folders_in,
    header,
    pictures_in,
    read_table,
    shown,
    small_number,
    split_of,
    ten_votes,
)

_FERPLUS_TABLE = "fer2013new.csv"
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
_LOOKED_FOR = 100  # pictures of a table, to find their folder


def _ferplus(wanted: Wanted) -> Source:
    """One of the three folders. Rows stand in the order of ``label.csv``."""
    if (wanted.path / "label.csv").is_file() or split_of(wanted.path.name):
        folder = wanted.path
    else:
        inside = folders_in(wanted.path) if wanted.path.is_dir() else []
        folder = wanted.choose({split_of(each.name): each for each in inside if _is_ferplus(each)})
    table = folder / "label.csv"
    if not table.is_file():
        raise ValueError(f"{table}: no such file; expected FER+'s names, boxes and ten votes")
    rows = []
    for where, cells in read_table(table, ("name", "box", *FERPLUS_VOTES), headless=True):
        votes = ten_votes([cells[name] for name in FERPLUS_VOTES], where)
        rows.append(Row(Path(cells["name"]).stem, folder / cells["name"], votes))
    return Source("ferplus", "ferplus", rows, tight=True)


def _is_ferplus(folder: Path) -> bool:
    return folder.name.lower().startswith("fer2013") and bool(split_of(folder.name))


def _ferplus_csv(wanted: Wanted) -> Source:
    """One Usage of the table. Of rows with the same name the last counts."""
    table = wanted.path if wanted.path.is_file() else wanted.path / _FERPLUS_TABLE
    files = {each.name: each for each in pictures_in(wanted.pictures or table.parent, nested=True)}
    splits: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for where, cells in read_table(table, ("Usage", "Image name", *FERPLUS_VOTES)):
        split = split_of(cells["Usage"])
        if not split:
            raise ValueError(f"{where}: expected Training, PublicTest or PrivateTest in Usage")
        votes = ten_votes([cells[name] for name in FERPLUS_VOTES], where)
        splits.setdefault(split, []).append((cells["Image name"].strip(), votes))
    lines = wanted.choose(splits)
    named = {name: votes for name, votes in lines if name}
    dropped = Counter({"no picture name": sum(not name for name, _ in lines)})
    dropped["name occurs again"] = len(lines) - dropped["no picture name"] - len(named)
    rows = [
        Row(Path(name).stem, files.get(name, table.parent / name), votes)
        for name, votes in named.items()
    ]
    return Source("ferplus-csv", "ferplus", rows, dropped, tight=True)


def _affectnet_csv(wanted: Wanted) -> Source:
    table = wanted.path
    if table.is_dir():
        found = ((split, _affectnet_table(table, split)) for split in _AFFECTNET_TABLES)
        table = wanted.choose({split: path for split, path in found if path.is_file()})
    folder = _affectnet_pictures(table, wanted.pictures)
    headless = not header(table).startswith(_AFFECTNET_COLUMNS[0])  # as in some copies
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    for where, cells in tqdm(read_table(table, _AFFECTNET_COLUMNS, headless), desc=table.name):
        label = _expression(cells["expression"], where, dropped)
        if label >= 0:
            name = cells["subDirectory_filePath"]
            rows.append(
                Row(
                    name,
                    folder / name,
                    label=label,
                    box_xyxy=_box([cells[key] for key in _AFFECTNET_COLUMNS[1:5]]),
                    points_xy=_five(cells["facial_landmarks"].split(";")),
                )
            )
    return Source("affectnet-csv", "affectnet", rows, dropped)


def _affectnet_table(folder: Path, split: str) -> Path:
    name = _AFFECTNET_TABLES[split]
    return folder / _LISTS / name if (folder / _LISTS).is_dir() else folder / name


def _affectnet_pictures(table: Path, given: Path | None) -> Path:
    """The folder that the paths of a table start from."""
    if given is not None:
        return given
    around = [table.parent, table.parent / _IMAGES, table.parent.parent / _IMAGES]
    with table.open(encoding="utf-8-sig", errors="replace") as lines:
        names = [line.split(",")[0] for line in islice(lines, _LOOKED_FOR)]
    for folder in around:
        if any(_is_file(folder / name) for name in names):
            return folder
    raise ValueError(f"{table}: its pictures are not beside it: name their folder with --pictures")


def _is_file(path: Path) -> bool:
    """False as well for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def _affectnet(wanted: Wanted) -> Source:
    folder = wanted.path
    if not (folder / "annotations").is_dir():
        inside = folders_in(folder) if folder.is_dir() else []
        sets = {split_of(each.name): each for each in inside if (each / "annotations").is_dir()}
        folder = wanted.choose(sets)
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    files = pictures_in(folder / "images")
    files.sort(key=lambda file: (len(file.stem), file.stem))  # 2.jpg before 10.jpg
    for file in tqdm(files, desc=folder.name):
        expression = folder / "annotations" / f"{file.stem}_exp.npy"
        if not expression.is_file():
            raise ValueError(f"{expression}: no such file; expected the label of {file.name}")
        label = _expression(" ".join(_texts(expression)), str(expression), dropped)
        if label >= 0:
            landmarks = expression.with_name(f"{file.stem}_lnd.npy")
            texts = _texts(landmarks) if landmarks.is_file() else []
            box, points_xy = _bounds(texts), _five(texts)
            rows.append(Row(file.stem, file, label=label, box_xyxy=box, points_xy=points_xy))
    return Source("affectnet", "affectnet", rows, dropped)


def _texts(path: Path) -> list[str]:
    """The values of a ``.npy`` file; there, AffectNet's numbers are texts."""
    return [str(value) for value in load_array(path).reshape(-1)]


def _expression(text: str, where: str, dropped: Counter[str]) -> int:
    """Place in EMOTIONS, which has AffectNet's order; -1 and counted when it is no emotion."""
    value = small_number(text)
    if value in _NO_EMOTION:
        dropped[f"expression {value} ({_NO_EMOTION[value]})"] += 1
        return -1
    if not 0 <= value < len(EMOTIONS):
        raise ValueError(f"{where}: expected an expression of 0 to 10, found {shown(text)}")
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


def _five(texts: list[str]) -> NDArray[np.float32]:
    points = _landmarks(texts)
    return five_points(points[None])[0] if len(points) else points


def _bounds(texts: list[str]) -> NDArray[np.float32]:
    points = _landmarks(texts)
    return (
        np.concatenate([points.min(axis=0), points.max(axis=0)]) if len(points) else points[0:0, 0]
    )


def _looks_like_ferplus(path: Path) -> bool:
    if not path.is_dir():
        return False
    return _is_ferplus(path) or any(_is_ferplus(each) for each in folders_in(path))


def _looks_like_ferplus_csv(path: Path) -> bool:
    table = path / _FERPLUS_TABLE if path.is_dir() else path
    return header(table).startswith("Usage,Image name")


def _looks_like_affectnet_csv(path: Path) -> bool:
    if path.is_dir():
        return any(
            header(_affectnet_table(path, split)).startswith(_AFFECTNET_COLUMNS[0])
            for split in _AFFECTNET_TABLES
        )
    return header(path).startswith(_AFFECTNET_COLUMNS[0])


def _looks_like_affectnet(path: Path) -> bool:
    inside = [path, *folders_in(path)] if path.is_dir() else []
    return any((each / "annotations").is_dir() and (each / "images").is_dir() for each in inside)


OFFICIAL: dict[str, tuple[Callable[[Path], bool], Callable[[Wanted], Source]]] = {
    "ferplus-csv": (_looks_like_ferplus_csv, _ferplus_csv),
    "ferplus": (_looks_like_ferplus, _ferplus),
    "affectnet-csv": (_looks_like_affectnet_csv, _affectnet_csv),
    "affectnet": (_looks_like_affectnet, _affectnet),
}
"""As KINDS of ``training.sources``. ``fer2013new.csv`` comes first: both may lie side by side."""
