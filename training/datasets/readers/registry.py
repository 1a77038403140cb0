"""Layouts of datasets: how each is recognized and read.

``open_source`` recognizes the layout, or takes its kind:

==============  =================================================================================
parquet         a Parquet file with ``name``, ``image`` (encoded), and ``votes`` or ``label``,
                ``identity``, ``source``, ``dup_group`` if known
ferplus-csv     ``fer2013new.csv`` with its column Usage, and the images anywhere below its folder
ferplus         FER2013Train, FER2013Valid, FER2013Test, each with images and ``label.csv``
fer2013         ``fer2013.csv``: ``emotion``, ``pixels`` and, if known, ``Usage``
affectnet-csv   ``training.csv``, ``validation.csv``: image, face box, 68 landmarks, expression
affectnet       ``train_set``, ``val_set``: ``images/N.jpg``, ``annotations/N_exp.npy``, ``N_lnd``
folders         one folder of images for each emotion, in a folder of the split or not; names in
                several languages (Freude), with a number (0_angry), or numbers of AffectNet,
                FER2013 or RAF-DB
csv             columns ``path``, ``label``, and ``identity``, ``split``, ``source`` if known
300w            landmarks: a ``.pts`` file next to each image, in one folder or nested ones
wflw            landmarks: ``list_98pt_rect_attr_train.txt``, ``_test``, and ``WFLW_images``
faces           images without labels, in one folder or nested ones, as in CelebA
==============  =================================================================================

The layouts of FER+ and AffectNet are their authors' (Barsoum et al., 2016; Mollahosseini et al.,
2019). Samples without a use, such as AffectNet's "uncertain", are dropped and counted by reason.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fer_ros.emotions import EMOTIONS
from fer_ros.io.errors import single_line
from training.datasets.readers.affectnet import (
    is_affectnet,
    is_affectnet_csv,
    read_affectnet,
    read_affectnet_csv,
)
from training.datasets.readers.csv import is_csv, read_csv
from training.datasets.readers.fer2013 import is_fer2013, read_fer2013
from training.datasets.readers.ferplus import (
    is_ferplus,
    is_ferplus_csv,
    read_ferplus,
    read_ferplus_csv,
)
from training.datasets.readers.folders import (
    NUMBERINGS,
    is_class_folders,
    is_faces,
    read_faces,
    read_folders,
)
from training.datasets.readers.parquet import is_parquet, read_parquet
from training.datasets.readers.w300 import is_300w, read_300w
from training.datasets.readers.wflw import is_wflw, read_wflw
from training.datasets.records import SPLITS, DatasetSource, SourceRequest

_CONTEMPT = EMOTIONS.index("contempt")

KINDS: dict[str, tuple[Callable[[Path], bool], Callable[[SourceRequest], DatasetSource]]] = {
    "parquet": (is_parquet, read_parquet),
    "ferplus-csv": (is_ferplus_csv, read_ferplus_csv),
    "ferplus": (is_ferplus, read_ferplus),
    "fer2013": (is_fer2013, read_fer2013),
    "affectnet-csv": (is_affectnet_csv, read_affectnet_csv),
    "affectnet": (is_affectnet, read_affectnet),
    "folders": (is_class_folders, read_folders),
    "csv": (is_csv, read_csv),
    "300w": (is_300w, read_300w),
    "wflw": (is_wflw, read_wflw),
    "faces": (is_faces, read_faces),
}
"""For each kind, in the order in which they are tried: whether it is there, and its reader.

``fer2013new.csv`` is tried before the folders of FER+, which may be in the same folder.
"""

OPTIONS = ("kind", "split", "images", "classes", "tight_crops", "numbering")
"""Options of a command line about a source."""


def open_source(
    request: SourceRequest, kind: str = "", tight_crops: bool | None = None
) -> DatasetSource:
    """Read a source; ``kind`` empty: recognize it; ``tight_crops`` None: the default of its kind.

    With seven classes, images labeled contempt are dropped. Raises ValueError when the layout is
    none of KINDS, is incomplete or has no image.
    """
    if not request.path.exists():
        raise ValueError(f"{request.path}: no such file or folder")
    try:
        source = KINDS[kind or _recognize(request.path)][1](request)
    except ValueError as error:
        raise ValueError(single_line(error)) from None  # names of files may have several lines
    if not source.samples:
        unreadable = ", ".join(f"{count} {reason}" for reason, count in source.skipped.items())
        reason = f"found {unreadable}" if unreadable else f"found none as {source.kind}"
        raise ValueError(f"{request.path}: expected images, {reason}")
    samples, dropped = source.samples, Counter(source.dropped)
    if source.labels:
        samples = [sample for sample in source.samples if sample.votes or sample.label >= 0]
        dropped["no label"] = len(source.samples) - len(samples)
    if request.classes < len(EMOTIONS):
        dropped["contempt"] = sum(sample.label == _CONTEMPT for sample in samples)
        samples = [sample for sample in samples if sample.label != _CONTEMPT]
    return replace(
        source,
        samples=samples,
        dropped=+dropped,  # without zeros
        tight_crops=source.tight_crops if tight_crops is None else tight_crops,
        split=request.split,
        classes=request.classes,
        numbering=request.numbering,
    )


def _recognize(path: Path) -> str:
    for kind, (is_there, _) in KINDS.items():
        if is_there(path):
            return kind
    raise ValueError(
        f"{path}: expected one of the layouts {', '.join(KINDS)}, recognized none: see "
        "training/datasets/readers/registry.py, or name one with --kind"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``source`` and its options to a parser."""
    parser.add_argument(
        "source",
        type=Path,
        help="file or folder; training/datasets/readers/registry.py lists kinds",
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add OPTIONS to a parser."""
    parser.add_argument("--kind", choices=KINDS, default="", help="layout, if it is not recognized")
    parser.add_argument(
        "--split", choices=SPLITS, default="", help="split to read, where the source has several"
    )
    parser.add_argument("--images", type=Path, help="folder that a table's paths start from")
    parser.add_argument(
        "--numbering",
        choices=NUMBERINGS,
        default="",
        help="numbering of class folders whose names are numbers",
    )
    parser.add_argument("--classes", type=int, choices=(7, 8), default=8, help="7: no contempt")
    parser.add_argument(
        "--tight-crops",
        action=argparse.BooleanOptionalAction,
        help="faces fill their images; default for Parquet, FER2013 and FER+",
    )


def from_arguments(arguments: argparse.Namespace) -> DatasetSource:
    """Read the source of a command line. Raises ValueError when there is none."""
    request = SourceRequest(
        arguments.source,
        arguments.split,
        arguments.images,
        arguments.classes,
        arguments.numbering,
    )
    return open_source(request, arguments.kind, arguments.tight_crops)
