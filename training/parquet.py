"""A data set in one Parquet file: pictures as columns, beside what is known about them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fer_ros.errors import one_line
from training.rows import Row, Source, Wanted, dataset_name, emotion_index, shown, ten_votes

_TEXT = frozenset({"string", "large_string", "string_view", "null"})
_BITS = (8, 16, 32, 64)
_WHOLE = frozenset({"null", *(f"{sign}int{bits}" for sign in ("", "u") for bits in _BITS)})
_COLUMNS: dict[str, tuple[str, frozenset[str]]] = {
    "name": ("text or whole numbers", _TEXT | _WHOLE),
    "image": ("encoded pictures", frozenset({"binary", "large_binary", "binary_view"})),
    "votes": ("lists of whole numbers", frozenset(f"list of {each}" for each in _WHOLE)),
    "label": ("text", _TEXT),
    "identity": ("text or whole numbers", _TEXT | _WHOLE),
    "source": ("text or whole numbers", _TEXT | _WHOLE),
    "dup_group": ("whole numbers", _WHOLE),
}
"""Of each column that is read, what is in it, in words and as types of Arrow."""
_MOST_DUP_GROUP = 2**31 - 1


@contextmanager
def _arrow(path: Path) -> Iterator[None]:
    """Turns what Arrow says about a file into a line that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a Parquet file, or damaged: {one_line(error)}") from None


def _parquet(wanted: Wanted) -> Source:
    path = wanted.path
    if path.is_dir():
        raise ValueError(f"{path}: not a Parquet file but a folder")
    with _arrow(path):
        file = pq.ParquetFile(path)
        schema, about = file.schema_arrow, file.metadata
        count = sum(about.row_group(group).num_rows for group in range(about.num_row_groups))
    size = path.stat().st_size
    if count > size:  # a few bytes can say the same picture any number of times
        raise ValueError(f"{path}: expected pictures, found {count} rows in {size} bytes")
    keys = _parquet_columns(schema, path)
    with _arrow(path):
        table = file.read(columns=keys).to_pylist()
    rows = [_parquet_row(place, cells, path) for place, cells in enumerate(table)]
    return Source("parquet", dataset_name(path), rows, tight=True, read=_parquet_images(path))


def _parquet_columns(schema: pa.Schema, path: Path) -> list[str]:
    """Those to be read at once, without the pictures. ValueError: one lacks or is another."""
    for key in ("name", "image"):
        if key not in schema.names:
            found = shown(", ".join(schema.names))
            raise ValueError(f"{path}: expected a column {key}, found {found}")
    keys = [key for key in _COLUMNS if key in schema.names]
    for key in keys:
        kinds = [_kind(schema.field(place).type) for place in schema.get_all_field_indices(key)]
        words, allowed = _COLUMNS[key]
        if len(kinds) != 1 or kinds[0] not in allowed:
            found = " and ".join(kinds)
            raise ValueError(f"{path}: expected {words} in its column {key}, found {found}")
    return [key for key in keys if key != "image"]


def _kind(type_: pa.DataType) -> str:
    """Its name; of a dictionary, that of its values; of all lists, ``list of`` and its values'."""
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if any(is_list(type_) for is_list in lists):
        return f"list of {type_.value_type}"
    return str(type_)


def _parquet_row(place: int, cells: dict, path: Path) -> Row:
    name = str(cells["name"])
    where = f"{path}: {name}"
    votes = ten_votes(cells["votes"], where) if cells.get("votes") else ()
    label = "" if votes else cells.get("label")
    known = {key: value for key, value in cells.items() if value is not None}
    dup_group = known.get("dup_group", -1)
    if not -1 <= dup_group <= _MOST_DUP_GROUP:
        raise ValueError(
            f"{where}: expected a dup_group from -1 to {_MOST_DUP_GROUP}, found {dup_group}"
        )
    return Row(
        name,
        place,
        votes,
        emotion_index(label, where) if label else -1,
        identity=str(known.get("identity", "")),
        source=str(known.get("source", "")),
        dup_group=dup_group,
    )


def _parquet_images(path: Path) -> Callable[[Sequence[Row]], Iterator[bytes]]:
    """Reads one row group at a time: a file can be larger than the memory."""

    def images(rows: Sequence[Row]) -> Iterator[bytes]:
        with _arrow(path):
            file, first = pq.ParquetFile(path), 0
        for group in range(file.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            places = [int(str(row.picture)) for row in rows]
            inside = [place - first for place in places if first <= place < last]
            first = last
            if inside:
                with _arrow(path):
                    column = file.read_row_group(group, columns=["image"])["image"]
                    pictures = column.take(inside).to_pylist()
                yield from (picture or b"" for picture in pictures)

    return images


PARQUET: dict[str, tuple[Callable[[Path], bool], Callable[[Wanted], Source]]] = {
    "parquet": (lambda path: path.suffix == ".parquet", _parquet),
}
"""As KINDS of ``training.sources``."""
