"""Votes to targets and labels, and which images a protocol counts."""

import numpy as np
import pytest

from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from training.datasets.ferplus_votes import (
    PROTOCOLS,
    distribution,
    has_emotion_votes,
    majority,
)


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


# votes, label or None where the image does not count: all, argmax of ten, official
CASES = (
    (votes(), "neutral", "neutral", None),
    (votes(NF=10), "neutral", None, None),
    (votes(happiness=10), "happiness", "happiness", "happiness"),
    (votes(anger=5, unknown=5), "anger", "anger", None),
    (votes(anger=4, unknown=6), "anger", None, None),
    (votes(sadness=5, neutral=5), "neutral", "neutral", None),
    (
        votes(fear=3, anger=1, neutral=1, disgust=1, surprise=1, sadness=3),
        "sadness",
        "sadness",
        None,
    ),
    (votes(fear=4, sadness=3, anger=1, neutral=1, disgust=1), "fear", "fear", "fear"),
    (votes(contempt=1), "contempt", "contempt", None),
)


@pytest.mark.parametrize(("row", "every", "argmax10", "official"), CASES)
def test_protocols(row, every, argmax10, official):
    for name, label in zip(PROTOCOLS, (every, argmax10, official), strict=True):
        keep = PROTOCOLS[name](row)
        labels = majority(row[keep])
        assert keep.tolist() == [label is not None]
        assert [EMOTIONS[index] for index in labels] == ([label] if label else [])


@pytest.mark.parametrize("keep", PROTOCOLS.values(), ids=PROTOCOLS)
def test_labels_belong_to_the_rows_that_count(keep):
    rows = np.concatenate([votes(NF=10), votes(fear=10), votes(sadness=10)])
    labels = majority(rows[keep(rows)])
    assert [EMOTIONS[label] for label in labels[-2:]] == ["fear", "sadness"]


def test_no_row_at_all():
    none = np.zeros((0, 10), np.int64)
    assert distribution(none).shape == (0, 8)
    assert majority(none).shape == has_emotion_votes(none).shape == (0,)
    for keep in PROTOCOLS.values():
        assert keep(none).shape == (0,)
