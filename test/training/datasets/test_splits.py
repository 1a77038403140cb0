"""Datasets as tensors: targets, mixing, and nothing that valid or test has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_tools import write_dataset

from fer_ros.config import from_dict
from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from training.datasets.splits import (
    DataConfig,
    DatasetUse,
    Faces,
    find_duplicates,
    load_balanced_valid,
    load_faces,
    load_splits,
)


def votes(**counts: int) -> list[int]:
    return [counts.get(name, 0) for name in FERPLUS_VOTES]


FEAR, ANGER, NOTHING = votes(fear=10), votes(anger=10), votes(NF=10)


def emotions(faces: Faces) -> list[str]:
    return [EMOTIONS[label] for label in faces.labels]


@pytest.fixture
def ferplus(tmp_path) -> Path:
    """Three images in each split; group 7 is in train and test, group 8 in train alone."""
    groups = {"train": [7, 8, -1], "valid": [-1, 9, -1], "test": [7, -1, -1]}
    for split, group in groups.items():
        folder = tmp_path / f"ferplus_{split}"
        write_dataset(folder, votes=[FEAR, ANGER, NOTHING], dup_group=group)
    return tmp_path


def make_lfwx(top: Path, split: str, people: list[str], **columns: object) -> Path:
    """Happy faces, but the last one shows contempt."""
    labels = [1] * (len(people) - 1) + [7]
    return write_dataset(top / f"lfwx_{split}", label=labels, identity=people, **columns)


LFWX = DataConfig(train=["lfwx_train"], valid="lfwx_valid", test="lfwx_test")


@pytest.fixture
def lfwx(tmp_path) -> Path:
    for split, people in (("train", ["a", "a", ""]), ("valid", ["c", ""]), ("test", ["d", "e"])):
        make_lfwx(tmp_path, split, people)
    return tmp_path


def test_ferplus_train_has_no_image_of_another_split(ferplus):
    train, valid = load_splits(DataConfig(), ferplus)
    assert emotions(train) == ["anger"]
    assert emotions(valid) == ["fear", "anger", "neutral"]
    assert find_duplicates(ferplus / "ferplus_test", ferplus / "ferplus_train").tolist() == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("kind", ["pixel_hash", "padded_crop_hash"])
def test_equal_pixels_are_dropped_from_ferplus_without_groups(tmp_path, kind):
    for split, hashes in (("train", [1, 2, 3]), ("valid", [4, 2, 5]), ("test", [3, 6, 7])):
        columns = {kind: np.array(hashes, np.uint64)}
        write_dataset(tmp_path / f"ferplus_{split}", votes=[FEAR, ANGER, FEAR], **columns)
    assert emotions(load_splits(DataConfig(), tmp_path)[0]) == ["fear"]


def test_dup_groups_of_another_dataset_are_ignored(ferplus):
    write_dataset(ferplus / "mine_train", votes=[FEAR, ANGER], dup_group=[7, 9])
    train, _ = load_splits(DataConfig(train=["mine_train"]), ferplus)
    assert emotions(train) == ["fear", "anger"]


def test_allow_overlap_keeps_shared_images_and_warns(ferplus, caplog):
    train, _ = load_splits(DataConfig(allow_overlap=True), ferplus)
    assert "allow_overlap: ferplus_train and ferplus_test share 1 images" in caplog.text
    assert emotions(train) == ["fear", "anger"]


@pytest.mark.parametrize(
    ("split", "changes", "words"),
    [
        ("valid", {"pixel_hash": [9, 8]}, "lfwx_valid share 1 images, such as lfwx_train_1"),
        ("test", {"padded_crop_hash": [8, 9]}, "lfwx_test share 1 images, such as lfwx_train_1"),
        ("valid", {"dup_group": [5, 6]}, "lfwx_valid share 1 images, such as lfwx_train_2"),
        ("valid", {"identity": ["a", "x"]}, "lfwx_valid share 1 persons, such as a"),
        ("test", {"identity": ["b", "a"]}, "lfwx_test share 2 persons, such as a"),
    ],
)
def test_shared_images_end_the_run(tmp_path, caplog, split, changes, words):
    hashes = np.array([7, 8, 10], np.uint64)
    columns = {"pixel_hash": hashes, "padded_crop_hash": hashes, "dup_group": [-1, -1, 5]}
    make_lfwx(tmp_path, "train", ["a", "b", ""], **columns)
    for other in ("valid", "test"):
        given = {key: np.array(value) for key, value in changes.items() if other == split}
        given |= {key: given[key].astype(np.uint64) for key in given if key.endswith("hash")}
        make_lfwx(tmp_path, other, given.pop("identity", ["x", ""]), **given)
    with pytest.raises(ValueError, match="lfwx_train and lfwx_") as caught:
        load_splits(LFWX, tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    allow_overlap = DataConfig(
        train=["lfwx_train"], valid="lfwx_valid", test="lfwx_test", allow_overlap=True
    )
    assert len(load_splits(allow_overlap, tmp_path)[0]) == 3
    assert words in caplog.text


def test_persons_of_another_dataset_are_distinct(lfwx):
    write_dataset(lfwx / "mine_valid", label=[1], identity=["a"])
    train, _ = load_splits(DataConfig(train=["lfwx_train"], valid="mine_valid", test=""), lfwx)
    assert len(train) == 3


def test_without_the_test_dataset_overlap_is_not_checked(lfwx, caplog):
    config = DataConfig(train=["lfwx_train"], valid="lfwx_valid", test="lfwx_later")
    load_splits(config, lfwx)
    assert (
        "lfwx_later: dataset not found: overlap with the training data is not checked"
        in caplog.text
    )


def test_datasets_are_mixed(ferplus, lfwx):
    mine = {"dataset": "lfwx_train", "weight": 0.3, "smoothing": 0.08}
    config = from_dict(DataConfig, {"train": ["ferplus_train", mine]})
    train, _ = load_splits(config, ferplus)
    assert emotions(train) == ["anger", "happiness", "happiness", "contempt"]
    torch.testing.assert_close(train.weights, torch.tensor([1.0, 0.3, 0.3, 0.3]))
    torch.testing.assert_close(train.targets.sum(dim=1), torch.ones(4))
    assert train.targets[1].max().item() == pytest.approx(0.93)
    assert train.targets[1].min().item() == pytest.approx(0.01)
    assert train.padded_crops.shape == (4, 144, 144)


def test_sources_can_be_selected(tmp_path):
    sources = np.array(["film", "lfw", "web"])
    write_dataset(tmp_path / "lfwx_train", label=[1, 2, 3], source=sources)
    write_dataset(tmp_path / "lfwx_valid", label=[0])
    use = {"dataset": "lfwx_train", "sources": ["lfw", "web"]}
    train, _ = load_splits(DataConfig(train=[use], valid="lfwx_valid", test=""), tmp_path)
    assert train.labels.tolist() == [2, 3]


def test_seven_classes_have_no_contempt(tmp_path):
    some = [votes(fear=6, contempt=4), votes(contempt=6, fear=4), FEAR]
    write_dataset(tmp_path / "ferplus_train", votes=some)
    make_lfwx(tmp_path, "train", ["", ""])
    write_dataset(tmp_path / "ferplus_valid", votes=[*some, NOTHING])
    uses = ["ferplus_train", {"dataset": "lfwx_train", "smoothing": 0.7}]
    train, valid = load_splits(DataConfig(train=uses, test="", classes=7), tmp_path)
    assert emotions(train) == ["fear", "fear", "happiness"]
    assert emotions(valid) == ["fear", "fear", "neutral"]
    for faces in (train, valid):
        assert (faces.targets[:, EMOTIONS.index("contempt")] == 0).all()
        torch.testing.assert_close(faces.targets.sum(dim=1), torch.ones(3))


def test_the_balanced_dataset_has_the_classes_of_the_experiment(tmp_path):
    make_lfwx(tmp_path, "valid", ["", "", ""])
    assert load_balanced_valid(DataConfig(), tmp_path) is None
    for classes, expected in ((8, ["happiness", "happiness", "contempt"]), (7, 2 * ["happiness"])):
        config = DataConfig(balanced_valid="lfwx_valid", classes=classes)
        assert emotions(load_balanced_valid(config, tmp_path)) == expected
        assert len(load_balanced_valid(config, tmp_path, max_samples=1)) == 1
        assert len(load_balanced_valid(config, tmp_path, max_samples=9)) == len(expected)


def test_a_balanced_dataset_without_a_face_of_its_classes_is_reported(tmp_path):
    make_lfwx(tmp_path, "valid", [""])
    config = DataConfig(balanced_valid="lfwx_valid", classes=7)
    with pytest.raises(ValueError, match=r"lfwx_valid: expected a face, found none$"):
        load_balanced_valid(config, tmp_path)


def test_a_damaged_balanced_dataset_is_reported(tmp_path):
    exchanged(tmp_path)
    with pytest.raises(ValueError, match="mine_train: expected arrays of sha256"):
        load_balanced_valid(DataConfig(balanced_valid="mine_train"), tmp_path)


def test_a_class_without_faces_is_reported(ferplus, caplog):
    load_splits(DataConfig(), ferplus)
    assert "no face to train on shows neutral, " in caplog.text
    assert " contempt: the network will never predict it" in caplog.text
    caplog.clear()
    write_dataset(ferplus / "all_train", label=range(7))
    load_splits(DataConfig(train=["all_train"], classes=7), ferplus)
    assert not caplog.records


# values of the YAML file, words of the message
SETTINGS = (
    ({"train": ["ferplus_valid"]}, "data.train: expected datasets other than valid and test"),
    (
        {"train": [{"weight": 2.0}]},
        "data.train: expected datasets other than valid and test, found ''",
    ),
    (
        {"train": [{"dataset": "a", "smooth": 0.1}]},
        "train[0]: unknown key 'smooth'; did you mean 'smoothing'",
    ),
    (
        {"train": ["a", {"dataset": "b", "smoothing": 2.0}]},
        "train[1].smoothing: expected 0.0 to 1.0",
    ),
    ({"train": [3]}, "train[0]: expected a mapping, found int"),
    ({"train": "ferplus_train"}, "data.train: expected list"),
    ({"classes": 6}, "data.classes: expected 7 to 8"),
)


@pytest.mark.parametrize(("values", "words"), SETTINGS)
def test_invalid_settings_are_reported(values, words):
    with pytest.raises(ValueError, match=r"train|classes") as caught:
        from_dict(DataConfig, values, "data")
    assert words in str(caught.value)


def test_default_settings_are_ferplus():
    config = from_dict(DataConfig, {})
    assert config.train == [DatasetUse("ferplus_train")]
    assert (config.valid, config.test, config.allow_overlap) == (
        "ferplus_valid",
        "ferplus_test",
        False,
    )


def unlabeled(top: Path) -> str:
    write_dataset(top / "celeba_train", detected=[True])
    return "celeba_train"


def exchanged(top: Path) -> str:
    folder = write_dataset(top / "mine_train", votes=[FEAR])
    write_dataset(top / "other", votes=[ANGER])
    (top / "other" / "shard-00000.npz").replace(folder / "shard-00000.npz")
    return "mine_train"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda top: "nothing", "nothing/dataset.yaml: no such file"),
        (unlabeled, "celeba_train: expected votes or labels, found a dataset without any"),
        (exchanged, "mine_train: expected arrays of sha256"),
    ],
)
def test_untrainable_datasets_are_reported_in_one_line(ferplus, make, words):
    with pytest.raises(ValueError, match=words) as caught:
        load_splits(DataConfig(train=[make(ferplus)]), ferplus)
    assert "\n" not in str(caught.value)


def test_all_faces_of_a_dataset_are_read(ferplus):
    assert emotions(load_faces(ferplus / "ferplus_test")) == ["fear", "anger", "neutral"]


def some_faces(count: int) -> Faces:
    numbers = torch.arange(count)
    padded_crops = numbers.to(torch.uint8)[:, None, None].expand(-1, 144, 144).contiguous()
    return Faces(padded_crops, torch.eye(8)[numbers % 8], numbers % 8, numbers.float())


@pytest.mark.parametrize(("count", "size", "kept"), [(0, 3, 0), (9, 0, 0), (9, 3, 3), (9, 20, 9)])
def test_a_subset_of_the_faces(count, size, kept):
    faces = some_faces(count).subset(size, seed=1)
    assert len(faces) == kept
    assert faces.weights.tolist() == sorted(set(faces.weights.tolist()))
    assert torch.equal(faces.padded_crops[:, 0, 0].float(), faces.weights)
    assert torch.equal(faces.targets.argmax(dim=1)[:kept], faces.labels)
    assert torch.equal(some_faces(count).subset(size, seed=1).weights, faces.weights)


def test_faces_are_counted_and_hashed():
    faces = some_faces(9)
    assert faces.counts().tolist() == [2, 1, 1, 1, 1, 1, 1, 1]
    assert faces.sha256() == some_faces(9).sha256()
    assert len({some_faces(8).sha256(), faces.sha256()}) == 2
    assert Faces(faces.padded_crops, faces.targets, faces.labels).weights.tolist() == [1.0] * 9
