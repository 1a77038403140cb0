"""Ids of faces, over frames."""

import re

import numpy as np
import pytest
from conftest import frontal_points

from fer_ros.config import TrackerConfig
from fer_ros.ros.identities import Identities
from fer_ros.track import Tracker
from fer_ros.types import FaceBoxes, FaceEmotion, FrameEmotions

MISSED_S = 0.5


def frame(stamp_s, *names):
    shares = np.full(8, 1 / 8, np.float32)
    faces = [
        FaceEmotion(
            id=name,
            box_xyxy=np.zeros(4, np.float32),
            score=1.0,
            points_xy=frontal_points(),
            probabilities=shares,
            raw_probabilities=shares,
            emotion="neutral",
        )
        for name in names
    ]
    return FrameEmotions(stamp_s, faces, {})


@pytest.mark.parametrize(
    ("frames", "present"),
    [
        ([], []),
        ([(1.0,)], []),
        ([(1.0, "a")], ["f00001"]),
        ([(1.0, "a", "b")], ["f00001", "f00002"]),
        ([(1.0, "a"), (1.1,), (1.5,)], ["f00001"]),  # it may come back
        ([(1.0, "a"), (1.1,), (1.51,)], []),
        ([(1.0, "a"), (1.4, "a"), (1.8,)], ["f00001"]),
        ([(1.0, "a"), (9.0,)], ["f00001"]),  # the next frame, however slow it is
        ([(1.0, "a"), (9.0,), (9.1,)], []),
        ([(1.0, "a"), (0.9, "a"), (1.45,)], ["f00001"]),  # one overtook the other
        ([(1.0, "a"), (2.0, "b"), (2.6, "b")], ["f00002"]),
    ],
)
def test_who_is_there(frames, present):
    identities = Identities("f", deterministic=True)
    for stamp_s, *names in frames:
        identities.update(frame(stamp_s, *names), MISSED_S)
    assert identities.present == present


def test_ids_stay_and_are_not_used_again():
    identities = Identities("cam_", deterministic=True)
    first = identities.update(frame(1.0, "a", "b"), MISSED_S)
    again = identities.update(frame(1.1, "b", "a"), MISSED_S)
    assert [face.id for face in first.faces] == ["cam_00001", "cam_00002"]
    assert [face.id for face in again.faces] == ["cam_00002", "cam_00001"]
    identities.forget()
    assert identities.present == []
    (late,) = identities.update(frame(1.2, "a"), MISSED_S).faces
    assert late.id == "cam_00003"


def test_ids_are_unique_and_names_in_ros():
    names = [f"f{number}" for number in range(500)]
    ids = []
    for _ in range(2):  # two processes
        faces = Identities("f", deterministic=False).update(frame(1.0, *names), MISSED_S).faces
        ids += [face.id for face in faces]
    assert all(re.fullmatch(r"f[a-z]{5}", id) for id in ids)
    assert len(set(ids[:500])) == 500
    assert len(set(ids)) > 990


def test_fifty_faces_that_appear_and_leave_at_random():
    """What the tracker follows is present, and no id has two faces."""
    random = np.random.default_rng(3)
    tracker = Tracker(TrackerConfig(min_hits=1, max_missed_s=MISSED_S))
    identities = Identities("f", deterministic=False)
    names_of: dict[str, set[str]] = {}
    corners = np.stack(np.divmod(np.arange(50), 10), axis=1) * 100.0
    for step in range(300):
        there = random.random(50) < 0.3
        boxes = np.concatenate([corners, corners + 50], axis=1)[there].astype(np.float32)
        count = len(boxes)
        seen = FaceBoxes(boxes, np.ones(count, np.float32), np.zeros((count, 5, 2), np.float32))
        tracked = tracker.update(seen, step / 10)
        renamed = identities.update(frame(step / 10, *(face.id for face in tracked)), MISSED_S)
        for face, published in zip(tracked, renamed.faces, strict=True):
            names_of.setdefault(published.id, set()).add(face.id)
        assert len(identities.present) == len({*identities.present})
        assert {face.id for face in renamed.faces} <= {*identities.present}
        assert len(identities.present) == len(tracker._tracks)
    assert len(names_of) > 200
    assert all(len(names) == 1 for names in names_of.values())
