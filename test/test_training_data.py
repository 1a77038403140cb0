"""Votes to targets and labels, and the splits' common pictures."""

import numpy as np
import pytest

from fer_ros.labels import EMOTIONS, FERPLUS_VOTES
from training.data import distribution, load_ferplus, majority


def votes(**counts: int) -> np.ndarray:
    return np.array([[counts.get(name, 0) for name in FERPLUS_VOTES]])


# votes, expected distribution, expected label
VOTES = (
    (votes(), dict.fromkeys(EMOTIONS, 0.125), "neutral"),
    (votes(NF=10), dict.fromkeys(EMOTIONS, 0.125), "neutral"),
    (votes(fear=10), {"fear": 1.0}, "fear"),
    (votes(surprise=6, sadness=2, unknown=2), {"surprise": 0.75, "sadness": 0.25}, "surprise"),
    (votes(anger=9, contempt=1), {"anger": 1.0}, "anger"),
    (votes(disgust=1, unknown=9), {"disgust": 1.0}, "disgust"),
    (votes(surprise=5, sadness=5), {"surprise": 0.5, "sadness": 0.5}, "surprise"),
    (votes(sadness=5, anger=5), {"sadness": 0.5, "anger": 0.5}, "sadness"),
)


@pytest.mark.parametrize(("row", "shares", "label"), VOTES)
def test_votes(row, shares, label):
    expected = [shares.get(name, 0.0) for name in EMOTIONS]
    np.testing.assert_allclose(distribution(row), [expected])
    assert EMOTIONS[majority(row)[0]] == label


def test_no_row_at_all():
    none = np.zeros((0, 10), np.int64)
    assert distribution(none).shape == (0, 8)
    assert majority(none).shape == (0,)


@pytest.fixture
def packs(tmp_path):
    """Three pictures in each split; group 7 is in train and test, group 8 in train alone."""
    groups = {"train": [7, 8, -1], "valid": [-1, 9, -1], "test": [7, -1, -1]}
    for split, group in groups.items():
        np.savez(
            tmp_path / f"ferplus_{split}.npz",
            canvas=np.zeros((3, 144, 144), np.uint8),
            votes=np.concatenate([votes(fear=10), votes(anger=10), votes(NF=10)]),
            dup_group=np.array(group),
        )
    return tmp_path


@pytest.mark.parametrize(
    ("split", "labels"), [("train", ["anger"]), ("valid", None), ("test", None)]
)
def test_train_has_no_picture_of_another_split(packs, split, labels):
    found = [EMOTIONS[label] for label in load_ferplus(packs, split).labels]
    assert found == (labels or ["fear", "anger", "neutral"])
