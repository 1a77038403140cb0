"""Parquet files as rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_tools import write_lines

from training.datasets.readers.registry import open_source
from training.datasets.records import SourceRequest


def parquet_of(**columns: object):
    def make(top: Path) -> Path:
        table = {"name": ["x"], "image": [b"not looked at"], **columns}
        pq.write_table(pa.table(table), top / "a.parquet")
        return top / "a.parquet"

    return make


def no_parquet(top: Path) -> Path:
    return write_lines(top / "a.parquet", "nothing")


def empty_file(top: Path) -> Path:
    return write_lines(top / "a.parquet")


def no_image_column(top: Path) -> Path:
    pq.write_table(pa.table({"name": ["x"]}), top / "a.parquet")
    return top / "a.parquet"


def damaged_page(top: Path) -> Path:
    path = parquet_of(label=["happy"])(top)
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(40) + content[44:])
    return path


def other_encoding(top: Path) -> Path:
    names = pa.array(["größe".encode("latin-1")]).view(pa.string())
    return parquet_of(name=names)(top)


def name_twice(top: Path) -> Path:
    columns = [pa.array(["a"]), pa.array([b"x"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, ["name", "image", "name"]), top / "a.parquet")
    return top / "a.parquet"


def test_rows_of_several_row_groups(tmp_path):
    images = [bytes([i]) for i in range(10)]
    path = tmp_path / "many.parquet"
    pq.write_table(
        pa.table({"name": [str(i) for i in range(10)], "image": images}), path, row_group_size=3
    )
    source = open_source(SourceRequest(path))
    assert [data for _, _, data in source.images(2, 8)] == images[2:8]


# what is wrong, words of the message
ERRORS = (
    (empty_file, "a.parquet: not a Parquet file"),
    (
        parquet_of(name=[], image=pa.array([], pa.binary())),
        "expected images, found none as parquet",
    ),
    (parquet_of(name=["x"] * 10**5, image=[b"x"] * 10**5), "found 100000 rows in "),
    (no_parquet, "not a Parquet file"),
    (no_image_column, "expected a column image, found 'name'"),
    (damaged_page, "a.parquet: not a Parquet file, or damaged"),
    (other_encoding, "a.parquet: not a Parquet file, or damaged"),
    (name_twice, "expected text or whole numbers in its column name, found string and string"),
    (parquet_of(label=["bored"]), "a.parquet: x: unknown emotion 'bored'"),
    (parquet_of(name=["a\nb"], label=["bored"]), "a.parquet: a b: unknown emotion 'bored'"),
    (parquet_of(label=[3]), "expected text in its column label, found int64"),
    (parquet_of(votes=[3]), "expected lists of whole numbers in its column votes, found int64"),
    (parquet_of(votes=[[0.5] * 10]), "numbers in its column votes, found list of double"),
    (parquet_of(votes=[[300] * 10]), "x: expected 10 numbers of votes from 0 to 255"),
    (parquet_of(votes=[[1, None]]), "x: expected 10 numbers of votes from 0 to 255"),
    (parquet_of(dup_group=[2**40]), "x: expected a dup_group from -1 to 2147483647, found 10"),
    (parquet_of(dup_group=["b"]), "expected whole numbers in its column dup_group, found string"),
    (parquet_of(image=["x"]), "expected encoded images in its column image, found string"),
    (parquet_of(image=[{"bytes": b""}]), "in its column image, found struct<bytes: binary>"),
)


@pytest.mark.parametrize(("make", "words"), ERRORS)
def test_errors_are_reported_in_one_line(tmp_path, make, words):
    with pytest.raises(ValueError, match=r"a.parquet") as caught:
        open_source(SourceRequest(make(tmp_path)))
    assert type(caught.value) is ValueError
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_image_column_is_reported_in_one_line(tmp_path):
    path = parquet_of()(tmp_path)
    source = open_source(SourceRequest(path))
    path.write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(ValueError, match=r"a.parquet: not a Parquet file, or damaged"):
        list(source.images(0, 1))
