"""Datasets in every layout whose tables, annotations, names or pages are wrong."""

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given
from hypothesis import strategies as st

from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from fuzz import limited_memory, only
from fuzz.damage import damaged
from fuzz.datasets import FALSE_HEADERS, npy, npy_files
from training.datasets.readers.registry import open_source
from training.datasets.records import Sample, SourceRequest

_OVERLONG = "x" * 300 + ".png"
_WORDS = st.one_of(
    st.sampled_from(
        ["", "0", "7", "255", "256", "1.5", "-1", "nan", "1e39", "1e999", " 2 ", "0x1"]
    ),
    st.sampled_from(["²", "٣", "9" * 5000, "a\0b", "a\nb", '"', "\ud800", _OVERLONG, "/", ".."]),
    st.sampled_from([*EMOTIONS, "happy", "Training", "PrivateTest", "val"]),
    st.text(max_size=6),
)
_PIXELS = st.floats(width=32).map(str) | st.integers(0, 200).map(str)
_NAMES = st.sampled_from(["a.png", "b/c.png", "", _OVERLONG, "a\0b", "../a.png"])
_VOTES = dict.fromkeys(FERPLUS_VOTES, st.integers(0, 10).map(str))


@st.composite
def tables(
    draw: st.DrawFn, cells: dict[str, st.SearchStrategy[str]], headless: bool = False
) -> bytes:
    """A table in CSV that is right, or wrong in a cell, a line, its header or its bytes."""
    lines = [] if headless else [list(cells)]
    lines += [[draw(cell) for cell in cells.values()] for _ in range(draw(st.integers(0, 3)))]
    for _ in range(draw(st.integers(0, 2)) if lines else 0):
        line = draw(st.sampled_from(lines))
        place = draw(st.integers(0, len(line)))
        line[place : place + draw(st.integers(0, 2))] = [draw(_WORDS)]
    quote = draw(st.booleans())
    text = "\n".join(",".join(f'"{cell}"' if quote else cell for cell in line) for line in lines)
    content = text.encode("utf-8", "surrogatepass") + b"\n"
    return draw(st.just(content) | damaged(content) | st.binary(max_size=60))


def _check_rows(folder: Path, request: SourceRequest, kind: str = "") -> None:
    """Rows are as ``training.datasets.records`` promises, or there is one line about this data
    set."""
    with warnings.catch_warnings(), limited_memory(), only(ValueError, about=folder):
        warnings.simplefilter("error", RuntimeWarning)
        source = open_source(request, kind)
        for row in source.samples:
            _check_row(row)
        with only(ValueError, about=folder):
            assert all(isinstance(data, bytes) for _, _, data in source.images(0, 4))


def _check_row(row: Sample) -> None:
    np.array(row.votes, np.uint8)
    np.array(row.dup_group, np.int32)
    assert len(row.votes) in (0, 10)
    assert -1 <= row.label < len(EMOTIONS)
    assert all(isinstance(text, str) for text in (row.name, row.identity, row.source))
    boxes_points = ((row.box_xyxy, {(0,), (4,)}), (row.points_xy, {(0, 2), (5, 2)}))
    for values, shapes in (*boxes_points, (row.landmarks68_xy, {(0, 2), (68, 2)})):
        assert values.shape in shapes
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert (row.box_xyxy[2:] >= row.box_xyxy[:2]).all()


def _check_file(name: str, content: bytes, kind: str, *others: str) -> None:
    """A dataset of this one file, and of empty ones."""
    with tempfile.TemporaryDirectory() as folder:
        for file_name in (name, *others):
            path = Path(folder) / file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if file_name == name else b"")
        _check_rows(Path(folder), SourceRequest(Path(folder) / name), kind)
        _check_rows(Path(folder), SourceRequest(Path(folder)))


_FER = ",".join(["Usage", "Image name", *FERPLUS_VOTES])


@given(tables({"Usage": st.just("Training"), "Image name": _NAMES, **_VOTES}))
@example(b"")
@example(f"{_FER}\nTraining,a.png,{'0,' * 9}²\n".encode())
@example(f"{_FER}\nTraining,a.png,{'0,' * 9}{'9' * 5000}\n".encode())
@example(f"{_FER}\nTraining,a.png,{'0,' * 9}256\n".encode())
@example(f"{_FER}\nTraining,a\0.png,{'0,' * 9}1\n".encode())
@example(b'Usage,"Image name\n",happiness\n')
def source_ferplus_csv(content: bytes) -> None:
    """``fer2013new.csv``: ten votes of each image."""
    _check_file("fer2013new.csv", content, "ferplus-csv", "a.png")


@given(tables({"name": _NAMES, "box": st.just('"(0, 0, 4, 4)"'), **_VOTES}, headless=True))
@example(b"")
@example(f"a.png,0,{'0,' * 9}²\n".encode())
@example(f"a.png,0,{'0,' * 9}256\n".encode())
def source_ferplus(content: bytes) -> None:
    """``label.csv`` of FER2013Train: ten votes of each image."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "FER2013Train"
        folder.mkdir()
        (folder / "label.csv").write_bytes(content)
        _check_rows(Path(top), SourceRequest(Path(top)))


_POINTS = st.lists(_PIXELS, min_size=1, max_size=3).map(lambda few: ";".join((few * 136)[:136]))
_AFFECTNET = {
    "subDirectory_filePath": _NAMES,
    **dict.fromkeys(("face_x", "face_y", "face_width", "face_height"), _PIXELS),
    "facial_landmarks": _POINTS,
    "expression": st.integers(0, 11).map(str),
    "valence": st.just("0.1"),
    "arousal": st.just("0.1"),
}
_HEAD = ",".join(_AFFECTNET)


@given(tables(_AFFECTNET) | tables(_AFFECTNET, headless=True))
@example(b"")
@example(f"{_HEAD}\na.png,0,0,9,9,,²,0,0\n".encode())
@example(f"{_HEAD}\na.png,0,0,9,9,,{'1' * 5000},0,0\n".encode())
@example(f"{_HEAD}\na.png,3e38,0,3e38,9,{';'.join(['3e38'] * 136)},1,0,0\n".encode())
@example(f"{_HEAD}\na.png,5,5,-9,-9,,1,0,0\n".encode())
@example(f"{_HEAD}\n{_OVERLONG},0,0,9,9,,1,0,0\na.png,0,0,9,9,,1,0,0\n".encode())
@example(f"{_HEAD}\na\0b.png,0,0,9,9,,1,0,0\na.png,0,0,9,9,,1,0,0\n".encode())
def source_affectnet_csv(content: bytes) -> None:
    """``training.csv`` of AffectNet: expressions, boxes and landmarks."""
    _check_file("training.csv", content, "affectnet-csv", "a.png")


_LANDMARKS = npy(np.linspace(0, 99, 136).astype(str))


@given(npy_files(npy("3")), npy_files(_LANDMARKS))
@example(npy("3"), _LANDMARKS)
@example(npy("²"), _LANDMARKS)
@example(npy("3" * 5000), _LANDMARKS)
@example(npy("3"), npy(np.full(136, "3e38")))
@example(npy("3"), npy(np.full(136, 1e300)))
@example(FALSE_HEADERS["10^12 numbers"], b"")
@example(npy("3"), FALSE_HEADERS["10^12 numbers"])
@example(npy("3"), FALSE_HEADERS["10^12 words"])
def source_affectnet(expression: bytes, landmarks: bytes) -> None:
    """``annotations`` of AffectNet: arrays in NumPy's format."""
    with tempfile.TemporaryDirectory() as top:
        for name in ("annotations", "images"):
            (Path(top) / name).mkdir()
        (Path(top) / "images" / "0.jpg").touch()
        (Path(top) / "annotations" / "0_exp.npy").write_bytes(expression)
        (Path(top) / "annotations" / "0_lnd.npy").write_bytes(landmarks)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of headers of Python 2
            _check_rows(Path(top), SourceRequest(Path(top)))


_FILE_NAMES = st.sampled_from(["Happy", "sad", "train", "val", "a.jpg", "2.png", "x\ny", ".h"])


@given(st.lists(st.lists(_FILE_NAMES | st.text(max_size=4), min_size=1, max_size=3), max_size=4))
@example([])
@example([["happy", "a.jpg"], ["x\ny", "a.jpg"]])
@example([["happy", "a.jpg", "b.jpg"]])
@example([["train", "happy", "\udce4.jpg"]])
def source_folders(paths: list[list[str]]) -> None:
    """Folders of emotions, of splits, or of anything; an image may be a folder."""
    with tempfile.TemporaryDirectory() as top:
        for parts in paths:
            if all(part not in ("", ".", "..") and not set("/\0") & set(part) for part in parts):
                _make_file(Path(top).joinpath(*parts))
        for kind in ("", "folders", "faces"):
            _check_rows(Path(top), SourceRequest(Path(top)), kind)


def _make_file(path: Path) -> None:
    """Unless it is there already, something above it is a file, or no file has such a name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except (OSError, UnicodeEncodeError):
        return


_CSV = {"path": _NAMES, "label": st.sampled_from(["happy", "Sad", "fear"]), "split": st.just("val")}


@given(tables(_CSV) | tables({**_CSV, "identity": _WORDS, "source": _WORDS}))
@example(b"")
@example(b"path,label\na\0b.png,happy\n")
@example(b'path,label,"a\nb"\nx,happy,')
@example(b'"a\nb",label\nx,happy\n')
@example(b"path,label,path\na.png,happy,b.png\n")
def source_csv(content: bytes) -> None:
    """A table of paths and emotions."""
    _check_file("list.csv", content, "csv", "a.png")


def _parquet(table: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(table), file, **options)
    return file.getvalue()


_TABLE = {"name": ["a", "b", "b"], "image": [b"x", b"y", None], "dup_group": [None, 3, 3]}
_VOTED = _TABLE | {"votes": [[1] * 10, [0] * 10, [2] * 10]}
_LABELLED = _TABLE | {"label": ["Sad", "fear", None], "identity": [7, 8, 9], "source": ["x"] * 3}
_FILES = tuple(
    _parquet(table, compression=compression, use_dictionary=dictionary, row_group_size=2)
    for table in (_VOTED, _LABELLED)
    for compression, dictionary in (("none", False), ("snappy", True), ("zstd", True))
)
_CELLS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=2, max_size=2),
    st.lists(st.text(max_size=4) | st.just("a\nb") | st.none(), min_size=2, max_size=2),
    st.lists(st.binary(max_size=4) | st.none(), min_size=2, max_size=2),
    st.lists(st.floats() | st.none(), min_size=2, max_size=2),
    st.lists(
        st.lists(st.integers(-1, 300) | st.none(), min_size=9, max_size=10) | st.none(),
        min_size=2,
        max_size=2,
    ),
    st.just([{"bytes": b"x"}] * 2),
)


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    """A table that is right, wrong in some columns, or damaged."""
    if draw(st.booleans()):
        return draw(damaged(draw(st.sampled_from(_FILES))))
    table = {key: values[:2] for key, values in draw(st.sampled_from([_VOTED, _LABELLED])).items()}
    for key in draw(st.lists(st.sampled_from(sorted(table)), max_size=2)):
        table[key] = draw(_CELLS)
    if draw(st.booleans()):
        del table[draw(st.sampled_from(sorted(table)))]
    return _parquet(table)


def _no_text() -> bytes:
    """Names that are not in UTF-8."""
    names = pa.array([b"\xff\xfe"]).view(pa.string())
    return _parquet({"name": names, "image": [b"x"]})


def _twice() -> bytes:
    file = io.BytesIO()
    columns = [pa.array(["a"]), pa.array([b"x"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, ["name", "image", "name"]), file)
    return file.getvalue()


@given(parquet_files())
@example(b"")
@example(b"PAR1")
@example(_FILES[0])
@example(_parquet({"name": ["a"] * 10**5, "image": [b"x"] * 10**5}))
@example(_no_text())
@example(_twice())
@example(_parquet({"a\nb": [1]}))
@example(_parquet({"name": ["a\nb"], "image": [b"x"], "label": ["bored"]}))
@example(_parquet({"name": ["a"], "image": [b"x"], "label": [3]}))
@example(_parquet({"name": ["a"], "image": [b"x"], "votes": [3]}))
@example(_parquet({"name": ["a"], "image": [b"x"], "votes": [[0.5] * 10]}))
@example(_parquet({"name": ["a"], "image": [b"x"], "votes": [[300] * 10]}))
@example(_parquet({"name": ["a"], "image": [b"x"], "dup_group": [2**40]}))
@example(_parquet({"name": ["a"], "image": [b"x"], "dup_group": ["b"]}))
@example(_parquet({"name": ["a"], "image": ["x"]}))
@example(_parquet({"name": ["a"], "image": [{"bytes": b"x"}]}))
def source_parquet(content: bytes) -> None:
    """A Parquet file: names, images, votes or labels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set_train.parquet"
        path.write_bytes(content)
        _check_rows(path, SourceRequest(path))


def _pts(points: int, word: str = "1.5") -> bytes:
    lines = "".join(f"{word} {place}\n" for place in range(points))
    return f"version: 1\nn_points: {points}\n{{\n{lines}}}\n".encode("utf-8", "surrogatepass")


@given(
    st.builds(_pts, st.integers(66, 69), _PIXELS | _WORDS)
    | damaged(_pts(68))
    | st.binary(max_size=60)
)
@example(b"")
@example(_pts(68))
@example(_pts(68, "3e38"))
@example(_pts(68, "1e999"))
@example(_pts(68, "nan"))
@example(_pts(68, "9" * 5000))
def source_300w(content: bytes) -> None:
    """A ``.pts`` file: 68 points of an image."""
    _check_file("a.pts", content, "300w", "a.png")


_LINE = " ".join(["5"] * 196)


@st.composite
def wflw_lists(draw: st.DrawFn) -> bytes:
    """Lines of 98 points and more, that are right or wrong in a word."""
    lines = [f"{_LINE} 5 6 20 30 0 0 0 0 0 0 a.png".split() for _ in range(draw(st.integers(0, 2)))]
    for line in lines:
        if draw(st.booleans()):
            line[draw(st.integers(0, len(line) - 1))] = draw(_WORDS | _PIXELS)
    text = "\n".join(map(" ".join, lines)).encode("utf-8", "surrogatepass")
    return draw(st.just(text) | damaged(text + b"\n"))


@given(wflw_lists() | st.binary(max_size=60))
@example(b"")
@example(f"{_LINE} a.png\n".encode())
@example(f"{_LINE} {_OVERLONG}\n".encode())
@example(f"{_LINE} a\0b\n".encode())
@example(_LINE.replace("5", "3e38").encode() + b" a.png")
def source_wflw(content: bytes) -> None:
    """A list of WFLW: 98 points of each face."""
    _check_file("list_98pt_rect_attr_train.txt", content, "wflw", "WFLW_images/a.png")
