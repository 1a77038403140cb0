"""Results as JSON."""

import json

import numpy as np
import pytest

from fer_ros.blendshapes import BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.io.serialization import frame_record
from fer_ros.types import FaceEmotion


def face(**changes) -> FaceEmotion:
    values = {
        "id": "face_1",
        "box_xyxy": np.array([1.234, 2, 3, 4], np.float32),
        "score": 0.98765,
        "points_xy": np.full((68, 2), 5.678, np.float32),
        "probabilities": np.array([0.3] + [0.1] * 7, np.float32),
        "raw_probabilities": np.full(8, 0.125, np.float32),
        "emotion": "neutral",
    }
    return FaceEmotion(**values | changes)


UNREADABLE = {
    "points_xy": np.full((68, 2), np.nan, np.float32),
    "probabilities": np.full(8, np.nan, np.float32),
    "emotion": None,
    "is_readable": False,
    "rejection_reason": "no landmarks",
}


@pytest.mark.parametrize("faces", [[], [face()], [face(), face(id="face_2", **UNREADABLE)]])
def test_a_record_is_strict_json(faces):
    record = frame_record("a.png", 1.23456789, faces)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["source"], record["stamp_s"]) == ("a.png", 1.234568)
    assert [face["id"] for face in record["faces"]] == [face.id for face in faces]


def test_a_readable_face():
    record = frame_record("a.png", 0.0, [face()])["faces"][0]
    assert record["box"] == [1.23, 2, 3, 4]
    assert record["score"] == 0.9877
    assert record["landmarks"] == [[5.68, 5.68]] * 68
    assert record["probabilities"] == {name: 0.3 if name == "neutral" else 0.1 for name in EMOTIONS}
    assert (record["emotion"], record["is_readable"], record["rejection_reason"]) == (
        "neutral",
        True,
        "",
    )


def test_blendshapes_are_named_where_a_model_has_them():
    values = np.linspace(0, 1, 52, dtype=np.float32)
    record = frame_record("a.png", 0.0, [face(blendshapes=values)])["faces"][0]
    assert list(record["blendshapes"]) == list(BLENDSHAPES)
    assert list(record["blendshapes"].values()) == pytest.approx(values, abs=1e-4)
    assert "blendshapes" not in frame_record("a.png", 0.0, [face()])["faces"][0]


def test_a_face_without_landmarks():
    record = frame_record("a.png", 0.0, [face(**UNREADABLE)])["faces"][0]
    assert record["landmarks"] is None
    assert record["probabilities"] == dict.fromkeys(EMOTIONS)
    assert (record["emotion"], record["is_readable"], record["rejection_reason"]) == (
        None,
        False,
        "no landmarks",
    )
