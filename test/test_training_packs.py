"""What a pack must be to be used."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from pack_tools import write_pack

from training.packs import Pack, pixel_hash, shard_path, write_shard


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
