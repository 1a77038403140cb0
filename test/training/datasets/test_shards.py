"""Validation of datasets."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from dataset_tools import write_dataset
from fuzz.datasets import FALSE_HEADERS, npy, zipped
from fuzz.models import Malicious

from training.datasets.shards import FaceDataset, pixel_hash, shard_path, write_shard

BEYOND_UNICODE = npy(np.array(["ab", "c"])).replace(b"a\0\0\0", b"\xff\xff\xff\x7f")


def small(folder: Path, shards: int = 2) -> Path:
    padded_crop = np.arange(5, dtype=np.uint8)[:, None, None].repeat(144, 1).repeat(144, 2)
    return write_dataset(
        folder / "set_train", shards=shards, padded_crop=padded_crop, label=np.arange(5)
    )


@pytest.mark.parametrize("shards", [1, 2, 5, 7])
def test_columns_and_padded_crops_over_all_shards(tmp_path, shards):
    dataset = FaceDataset.open(small(tmp_path, shards))
    assert len(dataset) == 5
    assert dataset.column("label").tolist() == [0, 1, 2, 3, 4]
    keep = np.array([True, False, False, True, True])
    out = np.zeros((3, 144, 144), np.uint8)
    dataset.copy_padded_crops(keep, out)
    assert out[:, 0, 0].tolist() == [0, 3, 4]
    dataset.verify()


def change_metadata(**values: object):
    def change(folder: Path) -> None:
        path = folder / "dataset.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))

    return change


def other_crop(folder: Path) -> None:
    crop = yaml.safe_load((folder / "dataset.yaml").read_text())["crop"]
    crop["template_xy"][0][0] += 0.5
    change_metadata(crop=crop)(folder)


def no_metadata(folder: Path) -> None:
    (folder / "dataset.yaml").unlink()


def only_begun(folder: Path) -> None:
    (folder / "dataset.yaml").rename(folder / "dataset.partial.yaml")


def not_yaml(folder: Path) -> None:
    (folder / "dataset.yaml").write_text("{")


def lost_shard(folder: Path) -> None:
    shard_path(folder, 1).unlink()


def truncated_shard(folder: Path) -> None:
    path = shard_path(folder, 1)
    path.write_bytes(path.read_bytes()[:5000])


def empty_shard(folder: Path) -> None:
    shard_path(folder, 1).write_bytes(b"")


def plain_array(folder: Path) -> None:
    shard_path(folder, 1).write_bytes(npy([1, 2]))


def compressed(folder: Path) -> None:
    path = shard_path(folder, 1)
    np.savez_compressed(path, **dict(np.load(path, allow_pickle=False)))


def other_columns(**changes: bytes | None):
    """Columns of the second shard, which has two faces, are others or (None) are not there."""

    def change(folder: Path) -> None:
        path = shard_path(folder, 1)
        columns = dict(np.load(path, allow_pickle=False))
        files = {key: npy(values) for key, values in columns.items()} | changes
        path.write_bytes(zipped({f"{key}.npy": data for key, data in files.items() if data}))

    return change


def exchanged(folder: Path) -> None:
    shard_path(folder, 0).rename(folder / "shard-00002.npz")
    shard_path(folder, 1).rename(shard_path(folder, 0))
    (folder / "shard-00002.npz").rename(shard_path(folder, 1))


# what happens to a dataset, words of the message
ERRORS = (
    (no_metadata, "not a complete dataset: make it with training.prepare"),
    (only_begun, "not a complete dataset: run the same training.prepare again"),
    (not_yaml, "not a YAML file"),
    (change_metadata(format=0), "expected format 2, found 0"),
    (change_metadata(color="red"), "unknown key 'color'"),
    (other_crop, "dataset.yaml: crop: expected {"),
    (other_crop, "'template_xy': [[38.5, 40.0], "),
    (lost_shard, "shard-00001.npz: no such file"),
    (truncated_shard, "shard-00001.npz: damaged"),
    (empty_shard, "shard-00001.npz: damaged"),
    (plain_array, "shard-00001.npz: damaged"),
    (compressed, "shard-00001.npz: damaged (expected name without compression)"),
    (
        other_columns(padded_crop=FALSE_HEADERS["10^12 numbers"]),
        "damaged (expected 4000000000000 bytes of data ((1000000000000,), int32), found 8)",
    ),
    (other_columns(name=npy(np.array([Malicious()] * 2, object))), "found 8 bytes of object"),
    (other_columns(name=npy(["a"] * 3)), "damaged (expected columns of one length, found 2, 3)"),
    (other_columns(name=npy("a")), "damaged (expected name as str_ (N), found str32 ())"),
    (other_columns(name=BEYOND_UNICODE), "damaged (expected text, found other data)"),
    (
        other_columns(padded_crop=npy(np.zeros((2, 9, 9), np.uint8))),
        "expected padded_crop as uint8 (N, 144",
    ),
    (other_columns(padded_crop=None), "expected arrays of sha256"),
    (change_metadata(count=10**9), "expected 1000000000 faces, found 5"),
    (change_metadata(shards=1), "expected 5 faces, found 3"),
    (exchanged, "expected arrays of sha256"),
)


@pytest.mark.parametrize(("change", "words"), ERRORS)
def test_unusable_datasets_are_reported_in_one_line(tmp_path, change, words):
    folder = small(tmp_path)
    change(folder)
    with pytest.raises(ValueError, match="set_train") as caught:
        FaceDataset.open(folder).verify()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_dataset(tmp_path):
    np.savez(tmp_path / "old.npz", padded_crop=np.zeros(1))
    with pytest.raises(ValueError, match=r"old.npz: expected a dataset folder, found a file"):
        FaceDataset.open(tmp_path / "old.npz")


@pytest.mark.parametrize(
    ("key", "words"),
    [("votes", "has no votes$"), ("landmarks68", "training.label_landmarks adds them")],
)
def test_a_missing_column_is_named(tmp_path, key, words):
    with pytest.raises(ValueError, match=words):
        FaceDataset.open(small(tmp_path)).column(key)


def test_a_column_that_is_missing_in_a_later_shard_is_named(tmp_path):
    folder = small(tmp_path)
    other_columns(padded_crop=None)(folder)
    with pytest.raises(ValueError, match=r"shard-00001.npz: has no padded_crop$"):
        FaceDataset.open(folder).copy_padded_crops(
            np.ones(5, np.bool_), np.zeros((5, 144, 144), np.uint8)
        )


def test_labels_are_emotions(tmp_path):
    folder = small(tmp_path)
    other_columns(label=npy([3, 8]))(folder)
    with pytest.raises(ValueError, match="expected labels below 8: make it again"):
        FaceDataset.open(folder).column("label")


def test_landmarks_do_not_change_the_digest(tmp_path):
    folder = small(tmp_path)
    path = shard_path(folder, 0)
    columns = dict(np.load(path, allow_pickle=False))
    write_shard(path, {**columns, "landmarks68": np.zeros((len(columns["name"]), 68, 2))})
    FaceDataset.open(folder).verify()
    with pytest.raises(ValueError, match=r"shard-00001.npz: has no landmarks68"):
        FaceDataset.open(folder).column("landmarks68")


def test_objects_are_neither_written_nor_read(tmp_path):
    path = tmp_path / "shard-00000.npz"
    with pytest.raises(ValueError, match="found objects in name"):
        write_shard(path, {"name": np.array(["a", None], object)})
    assert not list(tmp_path.iterdir())


def test_equal_pixels_have_equal_hashes():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert pixel_hash(image) == pixel_hash(np.asfortranarray(image)) < 2**64
    others = (image.reshape(4, 2, 3), image[:, ::-1], image[:0])
    assert len({pixel_hash(pixels) for pixels in (image, *others)}) == 4
