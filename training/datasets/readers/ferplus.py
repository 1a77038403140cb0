"""FER+ (Barsoum et al., 2016) as its authors publish it."""

from collections import Counter
from pathlib import Path

from fer_ros.emotions import FERPLUS_VOTES
from training.datasets.records import (
    DatasetSource,
    Sample,
    SourceRequest,
    header,
    image_files,
    parse_votes,
    read_table,
    split_of,
    subfolders,
)

_TABLE = "fer2013new.csv"


def read_ferplus(request: SourceRequest) -> DatasetSource:
    """One of FER2013Train, FER2013Valid and FER2013Test, with ``label.csv`` and images."""
    if (request.path / "label.csv").is_file() or split_of(request.path.name):
        folder = request.path
    else:
        inside = subfolders(request.path) if request.path.is_dir() else []
        folder = request.choose(
            {split_of(part.name): part for part in inside if _is_split_folder(part)}
        )
    table = folder / "label.csv"
    if not table.is_file():
        raise ValueError(f"{table}: no such file; expected FER+'s names, boxes and ten votes")
    samples = []
    for where, cells in read_table(table, ("name", "box", *FERPLUS_VOTES), headless=True):
        votes = parse_votes([cells[name] for name in FERPLUS_VOTES], where)
        samples.append(Sample(Path(cells["name"]).stem, folder / cells["name"], votes))
    return DatasetSource("ferplus", "ferplus", samples, tight_crops=True)


def _is_split_folder(folder: Path) -> bool:
    return folder.name.lower().startswith("fer2013") and bool(split_of(folder.name))


def read_ferplus_csv(request: SourceRequest) -> DatasetSource:
    """One Usage of ``fer2013new.csv``; of lines with the same image name the last one is taken."""
    table = request.path if request.path.is_file() else request.path / _TABLE
    files = {file.name: file for file in image_files(request.images or table.parent, nested=True)}
    splits: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for where, cells in read_table(table, ("Usage", "Image name", *FERPLUS_VOTES)):
        split = split_of(cells["Usage"])
        if not split:
            raise ValueError(f"{where}: expected Training, PublicTest or PrivateTest in Usage")
        votes = parse_votes([cells[name] for name in FERPLUS_VOTES], where)
        splits.setdefault(split, []).append((cells["Image name"].strip(), votes))
    lines = request.choose(splits)
    named = {name: votes for name, votes in lines if name}
    dropped = Counter({"no image name": sum(not name for name, _ in lines)})
    dropped["name occurs again"] = len(lines) - dropped["no image name"] - len(named)
    samples = [
        Sample(Path(name).stem, files.get(name, table.parent / name), votes)
        for name, votes in named.items()
    ]
    return DatasetSource("ferplus-csv", "ferplus", samples, dropped, tight_crops=True)


def is_ferplus(path: Path) -> bool:
    """Whether it is, or holds, one of the three folders."""
    if not path.is_dir():
        return False
    return _is_split_folder(path) or any(_is_split_folder(folder) for folder in subfolders(path))


def is_ferplus_csv(path: Path) -> bool:
    """Whether the header is that of ``fer2013new.csv``."""
    table = path / _TABLE if path.is_dir() else path
    return header(table).startswith("Usage,Image name")
