"""Where pictures and labels come from: each layout of a data set as a list of rows.

``open_source`` recognises the layout by what is there, or is told its kind:

==============  =================================================================================
parquet         a Parquet file with ``name``, ``image`` (encoded), and ``votes`` or ``label``,
                ``identity``, ``source``, ``dup_group`` where it has them
ferplus-csv     ``fer2013new.csv`` with its column Usage, and the pictures anywhere below its folder
ferplus         FER2013Train, FER2013Valid, FER2013Test, each with pictures and ``label.csv``
affectnet-csv   ``training.csv``, ``validation.csv``: picture, face box, 68 landmarks, expression
affectnet       ``train_set``, ``val_set``: ``images/N.jpg``, ``annotations/N_exp.npy``, ``N_lnd``
folders         one folder of pictures for each emotion, in a folder of the split or not
csv             columns ``path``, ``label``, and ``identity``, ``split``, ``source`` if known
300w            landmarks: a ``.pts`` file beside each picture, in one folder or nested ones
wflw            landmarks: ``list_98pt_rect_attr_train.txt``, ``_test``, and ``WFLW_images``
faces           pictures without labels, in one folder or nested ones, as in CelebA
==============  =================================================================================

The layouts of FER+ and AffectNet are their authors' (Barsoum et al., 2016; Mollahosseini et al.,
2019). Rows without a use, such as AffectNet's "uncertain", are dropped and counted by reason.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fer_ros.errors import one_line
from fer_ros.labels import EMOTIONS, to_emotion
from fer_ros.media import PICTURES
from training.annotated import ANNOTATED
from training.official import OFFICIAL
from training.parquet import PARQUET
from training.rows import (
    SPLITS,
    Row,
    Source,
    Wanted,
    dataset_name,
    emotion_index,
    folders_in,
    header,
    pictures_in,
    read_table,
    split_of,
)

_CONTEMPT = EMOTIONS.index("contempt")


def _folders(wanted: Wanted) -> Source:
    top = wanted.path
    if not _emotion_folders(top):
        splits = {split_of(each.name): each for each in folders_in(top) if split_of(each.name)}
        top = wanted.choose(splits)
    rows = []
    for folder in folders_in(top):
        label = emotion_index(folder.name, str(folder))
        files = pictures_in(folder, nested=True)
        if not files:
            raise ValueError(f"{folder}: expected pictures, found none; remove the folder")
        rows += [Row(file.relative_to(top).as_posix(), file, label=label) for file in files]
    return Source("folders", dataset_name(top), rows)


def _emotion_folders(folder: Path) -> bool:
    """Whether some folder has the name of an emotion."""
    for each in folders_in(folder) if folder.is_dir() else []:
        try:
            to_emotion(each.name)
        except ValueError:
            continue
        return True
    return False


def _csv(wanted: Wanted) -> Source:
    folder = wanted.pictures or wanted.path.parent
    splits: dict[str, list[Row]] = {}
    for where, cells in read_table(wanted.path, ("path", "label")):
        split = split_of(cells.get("split", ""))
        if cells.get("split") and not split:
            raise ValueError(f"{where}: expected {', '.join(SPLITS)}, found {cells['split']!r}")
        row = Row(
            cells["path"],
            folder / cells["path"],
            label=emotion_index(cells["label"], where),
            identity=cells.get("identity", "").strip(),
            source=cells.get("source", "").strip(),
        )
        splits.setdefault(split or "all", []).append(row)
    return Source("csv", dataset_name(wanted.path), wanted.choose(splits) if splits else [])


def _faces(wanted: Wanted) -> Source:
    files = pictures_in(wanted.path, nested=True)
    rows = [Row(file.relative_to(wanted.path).as_posix(), file) for file in files]
    return Source("faces", dataset_name(wanted.path), rows)


def _looks_like_csv(path: Path) -> bool:
    return {"path", "label"} <= {name.strip() for name in header(path).split(",")}


def _looks_like_folders(path: Path) -> bool:
    inside = folders_in(path) if path.is_dir() else []
    return _emotion_folders(path) or any(
        split_of(each.name) and _emotion_folders(each) for each in inside
    )


def _looks_like_faces(path: Path) -> bool:
    return path.is_dir() and any(each.suffix.lower() in PICTURES for each in path.rglob("*"))


KINDS: dict[str, tuple[Callable[[Path], bool], Callable[[Wanted], Source]]] = {
    **PARQUET,
    **OFFICIAL,
    "folders": (_looks_like_folders, _folders),
    "csv": (_looks_like_csv, _csv),
    **ANNOTATED,
    "faces": (_looks_like_faces, _faces),
}
"""For each kind, in the order in which they are tried: is it there, and how it is read."""


OPTIONS = ("kind", "split", "pictures", "classes", "tight")
"""What a command line can say about a source."""


def open_source(wanted: Wanted, kind: str = "", tight: bool | None = None) -> Source:
    """The rows that are asked for; ``kind`` empty: what is recognised; ``tight`` None: usual.

    With seven classes, pictures labelled contempt are dropped. ValueError, one line, when the
    layout is none of KINDS, lacks something or has no picture.
    """
    if not wanted.path.exists():
        raise ValueError(f"{wanted.path}: no such file or folder")
    try:
        source = KINDS[kind or _recognise(wanted.path)][1](wanted)
    except ValueError as error:
        raise ValueError(one_line(error)) from None  # names of files may have several lines
    if not source.rows:
        raise ValueError(f"{wanted.path}: expected pictures, found none as {source.kind}")
    kept, dropped = source.rows, Counter(source.dropped)
    if source.labels:
        kept = [row for row in source.rows if row.votes or row.label >= 0]
        dropped["no label"] = len(source.rows) - len(kept)
    if wanted.classes < len(EMOTIONS):
        dropped["contempt"] = sum(row.label == _CONTEMPT for row in kept)
        kept = [row for row in kept if row.label != _CONTEMPT]
    return replace(
        source,
        rows=kept,
        dropped=+dropped,  # without zeros
        tight=source.tight if tight is None else tight,
        split=wanted.split,
        classes=wanted.classes,
    )


def _recognise(path: Path) -> str:
    for kind, (is_there, _) in KINDS.items():
        if is_there(path):
            return kind
    raise ValueError(
        f"{path}: expected one of the layouts {', '.join(KINDS)}, recognised none: see "
        "training/sources.py, or name one with --kind"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A source, and what a command line can say about it."""
    parser.add_argument("source", type=Path, help="file or folder; training/sources.py lists kinds")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a command line can say about a source that is named elsewhere: OPTIONS."""
    parser.add_argument("--kind", choices=KINDS, default="", help="if it is not recognised")
    parser.add_argument("--split", choices=SPLITS, default="", help="of a source with several")
    parser.add_argument("--pictures", type=Path, help="folder that a table's paths start from")
    parser.add_argument("--classes", type=int, choices=(7, 8), default=8, help="7: no contempt")
    parser.add_argument(
        "--tight",
        action=argparse.BooleanOptionalAction,
        help="faces fill their pictures; usual for Parquet and FER+",
    )


def from_arguments(arguments: argparse.Namespace) -> Source:
    """The source that a command line asks for. ValueError, one line, when there is none."""
    wanted = Wanted(arguments.source, arguments.split, arguments.pictures, arguments.classes)
    return open_source(wanted, arguments.kind, arguments.tight)
