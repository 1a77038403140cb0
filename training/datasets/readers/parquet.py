"""A dataset in one Parquet file: columns of images and of their annotations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fer_ros.io.errors import single_line
from training.datasets.records import (
    DatasetSource,
    Sample,
    SourceRequest,
    dataset_name,
    emotion_index,
    parse_votes,
    truncated_repr,
)

_TEXT = frozenset({"string", "large_string", "string_view", "null"})
_BITS = (8, 16, 32, 64)
_WHOLE = frozenset({"null", *(f"{sign}int{bits}" for sign in ("", "u") for bits in _BITS)})
_COLUMNS: dict[str, tuple[str, frozenset[str]]] = {
    "name": ("text or whole numbers", _TEXT | _WHOLE),
    "image": ("encoded images", frozenset({"binary", "large_binary", "binary_view"})),
    "votes": ("lists of whole numbers", frozenset(f"list of {kind}" for kind in _WHOLE)),
    "label": ("text", _TEXT),
    "identity": ("text or whole numbers", _TEXT | _WHOLE),
    "source": ("text or whole numbers", _TEXT | _WHOLE),
    "dup_group": ("whole numbers", _WHOLE),
}
"""What each column contains: a description for messages, and the allowed types of Arrow."""
_MAX_DUP_GROUP = 2**31 - 1


@contextmanager
def _arrow(path: Path) -> Iterator[None]:
    """Raise Arrow's errors as ValueError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a Parquet file, or damaged: {single_line(error)}") from None


def read_parquet(request: SourceRequest) -> DatasetSource:
    """Samples of a Parquet file; images are read when they are needed."""
    request.refuse_split()
    path = request.path
    if path.is_dir():
        raise ValueError(f"{path}: not a Parquet file but a folder")
    with _arrow(path):
        file = pq.ParquetFile(path)
        schema, about = file.schema_arrow, file.metadata
        count = sum(about.row_group(group).num_rows for group in range(about.num_row_groups))
    size = path.stat().st_size
    if count > size:  # compression can repeat an image any number of times
        raise ValueError(f"{path}: expected images, found {count} rows in {size} bytes")
    keys = _columns(schema, path)
    with _arrow(path):
        table = file.read(columns=keys).to_pylist()
    samples = [_sample(index, cells, path) for index, cells in enumerate(table)]
    return DatasetSource(
        "parquet", dataset_name(path), samples, tight_crops=True, read=_image_reader(path)
    )


def _columns(schema: pa.Schema, path: Path) -> list[str]:
    """Names of the columns to read at once: all known ones but the images.

    Raises ValueError when a required column is missing, or a column has another type.
    """
    for key in ("name", "image"):
        if key not in schema.names:
            columns = truncated_repr(", ".join(schema.names))
            raise ValueError(f"{path}: expected a column {key}, found {columns}")
    keys = [key for key in _COLUMNS if key in schema.names]
    for key in keys:
        kinds = [_kind(schema.field(index).type) for index in schema.get_all_field_indices(key)]
        words, allowed = _COLUMNS[key]
        if len(kinds) != 1 or kinds[0] not in allowed:
            columns = " and ".join(kinds)
            raise ValueError(f"{path}: expected {words} in its column {key}, found {columns}")
    return [key for key in keys if key != "image"]


def _kind(type_: pa.DataType) -> str:
    """Name of a type, without dictionary encoding; ``list of TYPE`` for all kinds of lists."""
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if any(is_list(type_) for is_list in lists):
        return f"list of {type_.value_type}"
    return str(type_)


def _sample(index: int, cells: dict, path: Path) -> Sample:
    name = str(cells["name"])
    where = f"{path}: {name}"
    votes = parse_votes(cells["votes"], where) if cells.get("votes") else ()
    label = "" if votes else cells.get("label")
    known = {key: value for key, value in cells.items() if value is not None}
    dup_group = known.get("dup_group", -1)
    if not -1 <= dup_group <= _MAX_DUP_GROUP:
        raise ValueError(
            f"{where}: expected a dup_group from -1 to {_MAX_DUP_GROUP}, found {dup_group}"
        )
    return Sample(
        name,
        index,
        votes,
        emotion_index(label, where) if label else -1,
        identity=str(known.get("identity", "")),
        source=str(known.get("source", "")),
        dup_group=dup_group,
    )


def _image_reader(path: Path) -> Callable[[Sequence[Sample]], Iterator[bytes]]:
    """A function that reads one row group at a time: a file can be larger than the memory."""

    def images(samples: Sequence[Sample]) -> Iterator[bytes]:
        with _arrow(path):
            file, first = pq.ParquetFile(path), 0
        for group in range(file.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            indices = [int(str(sample.image)) for sample in samples]
            inside = [index - first for index in indices if first <= index < last]
            first = last
            if inside:
                with _arrow(path):
                    column = file.read_row_group(group, columns=["image"])["image"]
                    images = column.take(inside).to_pylist()
                yield from (image or b"" for image in images)

    return images


def is_parquet(path: Path) -> bool:
    """Whether its name ends in ``.parquet``."""
    return path.suffix == ".parquet"
