"""Datasets with damaged, inconsistent or foreign shards."""

import io
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fer_ros.emotions import EMOTIONS
from fuzz import limited_memory, only
from fuzz.damage import damaged
from fuzz.models import Malicious
from fuzz.settings import ANYTHING, BAD_YAML, yaml_files
from training.datasets.shards import (
    METADATA_FILE,
    DatasetMetadata,
    FaceDataset,
    crop_rule,
    finalize,
    shard_path,
)

_HUGE = 10**12
_KEYS = ("votes", "label")


def npy(values: Any) -> bytes:
    """An array as NumPy writes it, objects as well."""
    file = io.BytesIO()
    np.save(file, np.asarray(values), allow_pickle=True)
    return file.getvalue()


def claims(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """A file in NumPy's format with any header."""
    text = header.encode("latin-1", "replace")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def _header(descr: object, shape: object, order: object = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}\n"


# What a header can claim though it is not there, or is no array, or no header.
FALSE_HEADERS = {
    "10^12 numbers": claims(_header("<i4", (_HUGE,)), bytes(8)),
    "10^12 words": claims(_header("<U8", (_HUGE,)), bytes(64)),
    "words of no letter": claims(_header("<U0", (_HUGE,))),
    "nothing": claims(_header("|V0", (_HUGE,))),
    "less than nothing": claims(_header("<i4", (-1, -2)), bytes(8)),
    "more than 64 bits": claims(_header("<i4", (2**32, 2**32))),
    "a shape of text": claims(_header("<i4", "ab"), bytes(8)),
    "a shape of truth": claims(_header("<i4", (True,)), bytes(4)),
    "another order": claims(_header("<i4", (1,), 3), bytes(4)),
    "arrays of arrays": claims(_header("(1000000,)<i4", (1,)), bytes(8)),
    "records": claims(_header([("a", "<i4")], (2,)), bytes(8)),
    "beyond Unicode": claims(_header("<U1", (1,)), b"\xff\xff\xff\x7f"),
    "objects": claims(_header("|O", (1,)), b"\x80\x04."),
    "a pickle": npy(np.array([Malicious()], object)),
    "a list as key": claims("{[]: 1}"),
    "mixed keys": claims("{1: 2, 'a': 3}"),
    "braces": claims("{" * 900),
    "brackets": claims("(" * 5000),
    "an open text": claims("'''"),
    "a long number": claims("1" * 5000),
    "a long header": claims(" " * 20_000 + _header("<i4", (2,)), bytes(8)),
    "version 3": claims(_header("<i4", (2,)), bytes(8), version=3),
    "version 4": claims("", version=4),
    "empty": b"",
}
# These are strange, but true.
UNUSUAL_HEADERS = {
    "none of 10^12": claims(_header("<i4", (0, _HUGE))),
    "half a pair": claims(_header("<U1", (1,)), b"\x00\xd8\x00\x00"),
    "Python 2": claims("{'descr': '<i4', 'fortran_order': False, 'shape': (2L,), }", bytes(8)),
    "version 2": claims(_header("<i4", (2,)), bytes(8), version=2),
}


def npy_files(content: bytes) -> st.SearchStrategy[bytes]:
    """This array, or it damaged, or another header before any data, or bytes."""
    descr = st.sampled_from(["<i4", "<U2", "|b1", "|u1", "<f8", ">f4", "|O", "<M8[s]", "|V4", "x"])
    places = st.integers(0, 3) | st.integers(-3, 2**65)
    headers = st.builds(
        _header,
        descr | st.text(max_size=6),
        st.lists(places, max_size=3).map(tuple) | ANYTHING,
        st.booleans() | ANYTHING,
    )
    built = st.builds(claims, headers, st.binary(max_size=24), st.integers(0, 4))
    strange = st.sampled_from([*FALSE_HEADERS.values(), *UNUSUAL_HEADERS.values()])
    return st.just(content) | damaged(content) | built | strange | st.binary(max_size=40)


def _columns(count: int, labels: str) -> dict[str, Any]:
    """Those of a shard that is right."""
    values = {"votes": np.full((count, 10), 1, np.uint8), "label": np.full(count, 3, np.int8)}
    return {
        "name": np.full(count, "a", np.str_),
        "index": np.arange(count, dtype=np.int32),
        "padded_crop": np.zeros((count, 144, 144), np.uint8),
        "padded_crop_hash": np.arange(count, dtype=np.uint64),
        "pixel_hash": np.arange(count, dtype=np.uint64),
        "frame_to_crop": np.zeros((count, 2, 3), np.float32),
        "size_px": np.ones((count, 2), np.int32),
        "detected": np.ones(count, np.bool_),
        "identity": np.full(count, "", np.str_),
        "source": np.full(count, "", np.str_),
        "dup_group": np.full(count, -1, np.int32),
        "undecodable": np.array([], np.str_),
        "undetected": np.array(["b"], np.str_),
        labels: values[labels],
    }


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of files; those of a shard are stored as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def _shard(count: int = 1, labels: str = "label", **changes: bytes | None) -> bytes:
    """A shard with other columns in the place of some; None: without it."""
    columns = {key: npy(values) for key, values in _columns(count, labels).items()} | changes
    return zipped({f"{key}.npy": data for key, data in columns.items() if data is not None})


def _patched(content: bytes, place: int, field: bytes) -> bytes:
    """The archive with another field in the last entry of its table of contents."""
    begin = content.rindex(b"PK\x01\x02") + place
    return content[:begin] + field + content[begin + len(field) :]


@st.composite
def shards(draw: st.DrawFn) -> bytes:
    """A shard that is whole, or wrong in some of its columns, or as an archive."""
    count, labels = draw(st.integers(0, 2)), draw(st.sampled_from(_KEYS))
    columns = {key: npy(values) for key, values in _columns(count, labels).items()}
    for key in draw(st.lists(st.sampled_from(sorted(columns)), max_size=2)):
        other = draw(st.sampled_from(sorted(columns)))
        longer = npy(_columns(count + 1, labels)[key])
        columns[key] = draw(npy_files(columns[key]) | st.sampled_from([longer, columns[other]]))
    if draw(st.booleans()):
        del columns[draw(st.sampled_from(sorted(columns)))]
    names = {f"{key}.npy": data for key, data in columns.items()}
    if draw(st.booleans()):
        names[draw(st.text(max_size=8))] = draw(st.binary(max_size=8))
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    archive = zipped(names, draw(st.sampled_from(kinds)))
    return draw(st.just(archive) | damaged(archive))


@contextmanager
def _folder(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), limited_memory():
        warnings.simplefilter("ignore")  # of the parser of headers, about what it sees there
        path = Path(folder) / "set_train"
        path.mkdir()
        shard_path(path, 0).write_bytes(content)
        yield path


@given(shards() | st.binary(max_size=60))
@example(b"")
@example(_shard(0))
@example(_shard(2, "votes"))
@example(npy([1, 2]))
@example(_shard(name=npy(np.array([Malicious()], object))))
@example(_shard(identity=npy(np.array([Malicious()], object))))
@example(_shard(padded_crop=FALSE_HEADERS["10^12 numbers"]))
@example(_shard(name=FALSE_HEADERS["10^12 words"]))
@example(_shard(name=FALSE_HEADERS["words of no letter"]))
@example(_shard(name=FALSE_HEADERS["beyond Unicode"]))
@example(_shard(name=UNUSUAL_HEADERS["half a pair"]))
@example(_shard(name=npy("a")))
@example(_shard(name=None))
@example(_shard(padded_crop=None))
@example(_shard(label=npy([3, 3])))
@example(_shard(label=npy([8])))
@example(_shard(label=npy([0.5])))
@example(_shard(row=npy([1.5])))
@example(_shard(padded_crop=npy(np.zeros((1, 8, 8), np.uint8))))
@example(zipped({}))
@example(zipped({"name.npy": npy(["a"])}, zipfile.ZIP_DEFLATED))
@example(_patched(_shard(), 10, b"\x63\0"))  # an unknown compression method
@example(_patched(_shard(), 8, b"\1\0"))  # encrypted
@example(_patched(_shard(), 8, b"\x20\0"))  # a patch
@example(_patched(_shard(), 6, b"\xff\0"))  # of a later version
@example(_patched(_shard(), 20, b"\xff\xff\xff\x7f" * 2))  # sizes
@example(_patched(_shard(), 42, b"\xff\xff\xff\x7f"))  # place of the data
def dataset_shard(content: bytes) -> None:
    """Columns of one length, of the kinds that a dataset has, or one line about the shard."""
    with _folder(content) as folder:
        about = shard_path(folder, 0)
        with only(ValueError, about=about):
            finalize(folder, 1, kind="parquet", name="set", labels="label")
            dataset = FaceDataset.open(folder)
            dataset.verify()
            for key in _columns(0, "label"):
                with only(ValueError, about=folder):
                    _check_column(key, dataset.column(key), len(dataset))
            out = np.zeros((len(dataset), 144, 144), np.uint8)
            dataset.copy_padded_crops(np.ones(len(dataset), np.bool_), out)


def _check_column(key: str, values: Any, count: int) -> None:
    whole = _columns(0, "label")[key]
    assert values.dtype.kind in {whole.dtype.kind, *("iu" if whole.dtype.kind in "iu" else "")}
    assert values.shape[1:] == whole.shape[1:]
    if key not in ("undecodable", "undetected"):
        assert len(values) == count
    if key == "label":
        assert ((values >= 0) & (values < len(EMOTIONS))).all()
    assert str(values.tolist()).strip()


_METADATA = asdict(DatasetMetadata(kind="parquet", name="set", count=1, shards=1, crop=crop_rule()))


@st.composite
def _manifests(draw: st.DrawFn) -> dict[str, Any]:
    """A manifest that is right, or wrong in some of its keys."""
    manifest = dict(_METADATA)
    for key in draw(st.lists(st.sampled_from(sorted(manifest)), max_size=2)):
        manifest[key] = draw(ANYTHING | st.integers(0, 2**40))
    return manifest


def _manifest(**changes: Any) -> bytes:
    return yaml.safe_dump(_METADATA | changes).encode()


@given(yaml_files(_manifests()))
@example(b"")
@example(_manifest())
@example(_manifest(count=10**9))
@example(_manifest(shards=10**6))
@example(_manifest(count=10**9, shards=0))
@example(_manifest(count=0, shards=0))
@example(_manifest(name="a\nb"))
@example(_manifest(crop={"side_px": 112}))
@example(BAD_YAML[2])
@example(BAD_YAML[-1])
def dataset_metadata(content: bytes) -> None:
    """A dataset of as many faces as its manifest says, or one line about it."""
    with _folder(_shard()) as folder:
        (folder / METADATA_FILE).write_bytes(content)
        with only(ValueError, about=folder):
            dataset = FaceDataset.open(folder)
            assert len(dataset) == dataset.metadata.shards in (0, 1)
            assert len(dataset.column("label")) == len(dataset)
