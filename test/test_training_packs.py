"""What a pack must be to be used."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from fuzz.models import Malicious
from fuzz.packs import LIES, npy, zipped
from pack_tools import write_pack

from training.packs import Pack, pixel_hash, shard_path, write_shard

BEYOND_UNICODE = npy(np.array(["ab", "c"])).replace(b"a\0\0\0", b"\xff\xff\xff\x7f")


def small(folder: Path, shards: int = 2) -> Path:
    canvas = np.arange(5, dtype=np.uint8)[:, None, None].repeat(144, 1).repeat(144, 2)
    return write_pack(folder / "set_train", shards=shards, canvas=canvas, label=np.arange(5))


@pytest.mark.parametrize("shards", [1, 2, 5, 7])
def test_columns_and_canvases_over_all_shards(tmp_path, shards):
    pack = Pack.open(small(tmp_path, shards))
    assert len(pack) == 5
    assert pack.column("label").tolist() == [0, 1, 2, 3, 4]
    keep = np.array([True, False, False, True, True])
    out = np.zeros((3, 144, 144), np.uint8)
    pack.canvases(keep, out)
    assert out[:, 0, 0].tolist() == [0, 3, 4]
    pack.verify()


def change_card(**values: object):
    def change(folder: Path) -> None:
        path = folder / "pack.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))

    return change


def other_crop(folder: Path) -> None:
    crop = yaml.safe_load((folder / "pack.yaml").read_text())["crop"]
    crop["template_xy"][0][0] += 0.5
    change_card(crop=crop)(folder)


def no_card(folder: Path) -> None:
    (folder / "pack.yaml").unlink()


def only_begun(folder: Path) -> None:
    (folder / "pack.yaml").rename(folder / "pack.partial.yaml")


def not_yaml(folder: Path) -> None:
    (folder / "pack.yaml").write_text("{")


def lost_shard(folder: Path) -> None:
    shard_path(folder, 1).unlink()


def torn_shard(folder: Path) -> None:
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


# what happens to a pack, words of the message
TROUBLES = (
    (no_card, "no complete pack: make it with training.prepare"),
    (only_begun, "no complete pack: the same training.prepare goes on with it"),
    (not_yaml, "not a YAML file"),
    (change_card(format=0), "expected format 1, found 0"),
    (change_card(colour="red"), "unknown key 'colour'"),
    (other_crop, "cut for another crop template: make it again"),
    (lost_shard, "shard-00001.npz: no such file"),
    (torn_shard, "shard-00001.npz: damaged"),
    (empty_shard, "shard-00001.npz: damaged"),
    (plain_array, "shard-00001.npz: damaged"),
    (compressed, "shard-00001.npz: damaged (expected name without compression)"),
    (
        other_columns(canvas=LIES["10^12 numbers"]),
        "damaged (expected the array that its header",
    ),
    (other_columns(name=npy(np.array([Malicious()] * 2, object))), "found 8 bytes of object"),
    (other_columns(name=npy(["a"] * 3)), "damaged (expected columns of one length, found 2, 3)"),
    (other_columns(name=npy("a")), "damaged (expected name as str_ (N), found str32 ())"),
    (other_columns(name=BEYOND_UNICODE), "damaged (expected text, found other data)"),
    (other_columns(canvas=npy(np.zeros((2, 9, 9), np.uint8))), "expected canvas as uint8 (N, 144"),
    (other_columns(canvas=None), "expected arrays of sha256"),
    (change_card(count=10**9), "expected 1000000000 faces, found 5"),
    (change_card(shards=1), "expected 5 faces, found 3"),
    (exchanged, "expected arrays of sha256"),
)


@pytest.mark.parametrize(("change", "words"), TROUBLES)
def test_what_cannot_be_used_is_one_line(tmp_path, change, words):
    folder = small(tmp_path)
    change(folder)
    with pytest.raises(ValueError, match="set_train") as caught:
        Pack.open(folder).verify()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_pack(tmp_path):
    np.savez(tmp_path / "old.npz", canvas=np.zeros(1))
    with pytest.raises(ValueError, match=r"old.npz: expected the folder of a pack, found a file"):
        Pack.open(tmp_path / "old.npz")


@pytest.mark.parametrize(
    ("key", "words"), [("votes", "has no votes$"), ("points68", "training.teacher adds them")]
)
def test_a_missing_column_is_named(tmp_path, key, words):
    with pytest.raises(ValueError, match=words):
        Pack.open(small(tmp_path)).column(key)


def test_a_column_that_is_missing_in_a_later_shard_is_named(tmp_path):
    folder = small(tmp_path)
    other_columns(canvas=None)(folder)
    with pytest.raises(ValueError, match=r"shard-00001.npz: has no canvas$"):
        Pack.open(folder).canvases(np.ones(5, np.bool_), np.zeros((5, 144, 144), np.uint8))


def test_labels_are_emotions(tmp_path):
    folder = small(tmp_path)
    other_columns(label=npy([3, 8]))(folder)
    with pytest.raises(ValueError, match="expected labels below 8: make it again"):
        Pack.open(folder).column("label")


def test_landmarks_do_not_make_it_another_pack(tmp_path):
    folder = small(tmp_path)
    path = shard_path(folder, 0)
    columns = dict(np.load(path, allow_pickle=False))
    write_shard(path, {**columns, "points68": np.zeros((len(columns["name"]), 68, 2))})
    Pack.open(folder).verify()
    with pytest.raises(ValueError, match=r"shard-00001.npz: has no points68"):
        Pack.open(folder).column("points68")


def test_objects_are_neither_written_nor_read(tmp_path):
    path = tmp_path / "shard-00000.npz"
    with pytest.raises(ValueError, match="found objects in name"):
        write_shard(path, {"name": np.array(["a", None], object)})
    assert not list(tmp_path.iterdir())


def test_equal_pixels_have_equal_hashes():
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert pixel_hash(picture) == pixel_hash(np.asfortranarray(picture)) < 2**64
    others = (picture.reshape(4, 2, 3), picture[:, ::-1], picture[:0])
    assert len({pixel_hash(each) for each in (picture, *others)}) == 4
