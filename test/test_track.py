"""Ids over time."""

import re

import numpy as np
import pytest

from fer_ros.config import TrackerConfig
from fer_ros.track import Tracker
from fer_ros.types import FaceBoxes

AT_ONCE = TrackerConfig(min_hits=1)
FPS = 15.0


def boxes(*centres, side=60.0, scores=None):
    """Square detections around ``centres``; the x of the first point marks which one it was."""
    middle = np.array(centres, np.float32).reshape(-1, 2)
    points = np.zeros((len(middle), 5, 2), np.float32)
    points[:, 0] = middle
    return FaceBoxes(
        np.concatenate([middle - side / 2, middle + side / 2], axis=1),
        np.full(len(middle), 0.9, np.float32) if scores is None else np.array(scores, np.float32),
        points,
    )


def ids(faces):
    """Ids in the order of their places, left to right."""
    return [face.id for face in sorted(faces, key=lambda face: face.points_xy[0, 0])]


def follow(tracker, frames, fps=FPS):
    """The answers for detections at ``fps`` frames per second."""
    return [tracker.update(found, i / fps) for i, found in enumerate(frames)]


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_nobody(frames):
    assert follow(Tracker(AT_ONCE), [FaceBoxes.empty()] * frames) == [[]] * frames


@pytest.mark.parametrize("min_hits", [1, 2, 5])
def test_a_face_is_reported_after_so_many_detections(min_hits):
    answers = follow(Tracker(TrackerConfig(min_hits=min_hits)), [boxes((100, 100))] * 8)
    assert [len(faces) for faces in answers] == [0] * (min_hits - 1) + [1] * (9 - min_hits)


def test_a_single_false_detection_is_never_reported_and_costs_no_id():
    tracker = Tracker(TrackerConfig(min_hits=2))
    frames = [boxes((100, 100)), *[FaceBoxes.empty()] * 10, *[boxes((400, 300))] * 2]
    answers = follow(tracker, frames)
    assert [len(faces) for faces in answers] == [0] * 12 + [1]
    assert answers[-1][0].id == "f00001"


def test_ids_are_valid_ros_names():
    faces = Tracker(AT_ONCE).update(boxes(*((100 * i, 50) for i in range(30))), 0.0)
    assert all(re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", name) for name in ids(faces))
    assert len(set(ids(faces))) == 30


def test_the_answer_is_of_this_frame_best_score_first():
    found = boxes((100, 50), (200, 60), (300, 70), scores=[0.6, 0.9, 0.7])
    faces = Tracker(AT_ONCE).update(found, 0.0)
    assert [round(face.score, 3) for face in faces] == [0.9, 0.7, 0.6]
    for face, i in zip(faces, (1, 2, 0), strict=True):
        np.testing.assert_array_equal(face.box_xyxy, found.boxes_xyxy[i])
        np.testing.assert_array_equal(face.points_xy, found.points_xy[i])


PATHS = {
    "still": lambda t: (200, 200),
    "trembling": lambda t: (200 + 6 * np.sin(97 * t), 200 + 6 * np.cos(89 * t)),
    "walking": lambda t: (50 + 150 * t, 200),
    "running": lambda t: (50 + 600 * t, 200 - 100 * t),
    "turning back": lambda t: (300 + 200 * np.sin(3 * t), 200),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_one_face_keeps_one_id(path):
    answers = follow(Tracker(AT_ONCE), [boxes(path(i / FPS)) for i in range(30)])
    assert {face.id for faces in answers for face in faces} == {"f00001"}


@pytest.mark.parametrize("growth", [1.05, 1 / 1.05])
def test_a_face_that_comes_nearer_keeps_its_id(growth):
    frames = [boxes((200, 200), side=80 * growth**i) for i in range(30)]
    assert {name for faces in follow(Tracker(AT_ONCE), frames) for name in ids(faces)} == {"f00001"}


def test_the_order_of_detections_does_not_matter():
    rng = np.random.default_rng(0)
    places = np.array([(100, 100), (250, 110), (400, 90), (550, 105)])
    answers = follow(Tracker(AT_ONCE), [boxes(*rng.permutation(places)) for _ in range(10)])
    assert len({tuple(ids(faces)) for faces in answers}) == 1
    assert len(ids(answers[-1])) == 4


@pytest.mark.parametrize(
    ("missed_s", "same"), [(0.0, True), (0.3, True), (0.5, True), (0.6, False), (1.5, False)]
)
@pytest.mark.parametrize("fps", [10.0, 30.0])
def test_a_face_is_found_again_within_half_a_second(missed_s, same, fps):
    tracker = Tracker(AT_ONCE)
    (before,) = ids(tracker.update(boxes((200, 200)), 10.0))
    for i in range(1, round(missed_s * fps)):
        assert tracker.update(FaceBoxes.empty(), 10.0 + i / fps) == []
    (after,) = ids(tracker.update(boxes((205, 200)), 10.0 + max(missed_s, 1 / fps)))
    assert (after == before) == same


def test_every_gap_counts_anew():
    """A face that is missed now and then for long is not forgotten by adding up its gaps."""
    seen = boxes((200, 200))
    frames = [seen if i % 5 == 0 else FaceBoxes.empty() for i in range(200)]
    assert {name for faces in follow(Tracker(AT_ONCE), frames) for name in ids(faces)} == {"f00001"}


def test_a_missed_face_is_looked_for_where_it_went():
    """It walked on, and another one stands where it was last seen."""
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((100 + 20 * i, 200)), i / FPS)
    assert tracker.update(FaceBoxes.empty(), 10 / FPS) == []
    assert tracker.update(FaceBoxes.empty(), 11 / FPS) == []
    found = boxes((100 + 20 * 9, 200), (100 + 20 * 12, 200))
    assert ids(tracker.update(found, 12 / FPS)) == ["f00002", "f00001"]


def test_a_missed_face_that_stopped_is_found_too():
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((100 + 20 * i, 200)), i / FPS)
    assert ids(tracker.update(boxes((100 + 20 * 9, 200)), 13 / FPS)) == ["f00001"]


def test_who_stands_where_a_face_was_seen_is_preferred_to_who_is_near_where_it_would_be():
    """It stopped while it was missed; another one came close to where it would be by now."""
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((100 + 20 * i, 200)), i / FPS)
    found = boxes((100 + 20 * 9, 200), (100 + 20 * 12 + 30, 200))
    assert ids(tracker.update(found, 12 / FPS)) == ["f00001", "f00002"]


def test_who_comes_in_where_another_one_left_is_somebody_else():
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((200 - 20 * i, 200)), i / FPS)
    assert tracker.update(FaceBoxes.empty(), 10 / FPS) == []
    assert ids(tracker.update(boxes((30, 200)), 11 / FPS)) == ["f00002"]


def test_a_face_that_is_there_goes_before_one_that_is_hidden():
    """One walks towards the place where the other one, behind it, would be by now."""
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        (first, second) = ids(tracker.update(boxes((20 * i, 200), (440 - 20 * i, 200)), i / FPS))
    assert ids(tracker.update(boxes((240, 200)), 10 / FPS)) == [second]
    assert ids(tracker.update(boxes((222, 200)), 11 / FPS)) == [second]
    assert ids(tracker.update(boxes((200, 200), (240, 200)), 12 / FPS)) == [second, first]


@pytest.mark.parametrize("apart_px", [0, 20, 45])
def test_faces_that_cross_keep_their_ids(apart_px):
    """Side by side or with one in front for some frames (then only one is detected)."""
    tracker = Tracker(AT_ONCE)
    for i in range(31):
        left, right = (80 + 12 * i, 200), (80 + 12 * (30 - i), 200 + apart_px)
        hidden = apart_px == 0 and abs(left[0] - right[0]) < 40
        faces = tracker.update(boxes(left) if hidden else boxes(left, right), i / FPS)
        assert len({face.id for face in faces}) == len(faces)
        if i == 0:
            start = ids(faces)
    assert ids(faces) == start[::-1]


def test_two_detections_of_one_face_never_share_its_id():
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((200, 200)), 0.0)
    faces = tracker.update(boxes((203, 200), (190, 205), (215, 195)), 0.1)
    assert len(set(ids(faces))) == 3


def test_one_detection_between_two_faces_takes_one_of_them():
    tracker = Tracker(AT_ONCE)
    both = ids(tracker.update(boxes((200, 200), (240, 200)), 0.0))
    (one,) = ids(tracker.update(boxes((215, 200)), 0.1))
    assert one == both[0]
    assert ids(tracker.update(boxes((200, 200), (240, 200)), 0.2)) == both


def test_the_face_that_overlaps_goes_before_a_larger_one_that_is_only_near():
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((200, 200), (283, 200), side=np.array([[60], [115]], np.float32)), 0.0)
    assert ids(tracker.update(boxes((233, 200)), 0.1)) == ["f00001"]


@pytest.mark.parametrize("side_ratio", [0.3, 3.0])
def test_another_size_at_the_same_place_is_another_face(side_ratio):
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((200, 200), side=60), 0.0)
    assert ids(tracker.update(boxes((200, 200), side=60 * side_ratio), 0.1)) == ["f00002"]


def test_far_away_is_another_face():
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((100, 100)), 0.0)
    assert ids(tracker.update(boxes((300, 100)), 0.1)) == ["f00002"]


def test_a_crowd_that_comes_and_goes():
    """Random detections: ids differ within a frame, and one that was forgotten never returns."""
    rng = np.random.default_rng(1)
    tracker = Tracker(AT_ONCE)
    last_seen: dict[str, float] = {}
    for i in range(150):
        named = ids(tracker.update(boxes(*rng.uniform(0, 600, (rng.integers(0, 25), 2))), i / FPS))
        assert len(set(named)) == len(named)
        for name in named:
            assert i / FPS - last_seen.get(name, i / FPS) <= 0.5 + 1e-9
            last_seen[name] = i / FPS
    assert len(last_seen) > 100


def test_no_id_is_used_twice_after_a_reset():
    tracker = Tracker(AT_ONCE)
    before = ids(tracker.update(boxes((100, 100), (300, 100)), 0.0))
    tracker.reset()
    after = ids(tracker.update(boxes((100, 100), (300, 100)), 0.1))
    assert set(before).isdisjoint(after)


@pytest.mark.parametrize(
    ("step_s", "same"),
    [
        (0.0, True),  # two images of one stamp
        (-0.2, True),  # overtaken on the way
        (-5.0, False),  # the bag was started again
        (1.9, True),  # a slow camera
        (60.0, False),  # a pause
        (float("nan"), False),
    ],
)
def test_steps_in_time(step_s, same):
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((100, 100)), 1000.0)
    assert (ids(tracker.update(boxes((102, 100)), 1000.0 + step_s)) == ["f00001"]) == same


@pytest.mark.parametrize(("missed_s", "same"), [(4.0, True), (6.0, False)])
def test_a_patient_tracker_waits_through_a_pause_between_frames(missed_s, same):
    tracker = Tracker(TrackerConfig(min_hits=1, max_missed_s=5.0))
    for stamp_s in (0.0, 0.1):
        tracker.update(boxes((100, 100)), stamp_s)
    assert tracker.update(FaceBoxes.empty(), 0.2) == []
    assert (ids(tracker.update(boxes((100, 100)), 0.1 + missed_s)) == ["f00001"]) == same


def test_after_a_jump_back_faces_are_followed_again():
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((100, 100)), 1000.0)
    named = [ids(tracker.update(boxes((100 + i, 100)), i / FPS)) for i in range(20)]
    assert named == [["f00002"]] * 20


@np.errstate(all="raise")
def test_overtaken_images_do_not_lend_a_wrong_speed():
    tracker = Tracker(AT_ONCE)
    for i in (0, 1, 2, 4, 3, 5, 7, 6, 8, 8, 9):
        assert ids(tracker.update(boxes((100 + 10 * i, 100)), i / FPS)) == ["f00001"]


def test_an_overtaken_image_does_not_make_a_face_forgotten_earlier():
    tracker = Tracker(AT_ONCE)
    for stamp_s in (1.0, 0.6):
        tracker.update(boxes((100, 100)), stamp_s)
    for stamp_s in (1.1, 1.2, 1.3):
        assert tracker.update(FaceBoxes.empty(), stamp_s) == []
    assert ids(tracker.update(boxes((100, 100)), 1.4)) == ["f00001"]


def test_forgotten_faces_take_no_memory():
    tracker = Tracker(AT_ONCE)
    for i in range(300):
        tracker.update(boxes((200 * (i % 7), 300 * (i % 5))), i / FPS)
    assert len(tracker._tracks) <= 0.5 * FPS + 1


@np.errstate(all="raise")
def test_boxes_without_area_are_followed_like_others():
    flat = FaceBoxes(
        np.array([(10, 10, 10, 10), (50, 50, 90, 50)], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.zeros((2, 5, 2), np.float32),
    )
    answers = follow(Tracker(AT_ONCE), [flat] * 3)
    assert [[face.id for face in faces] for faces in answers] == [["f00001", "f00002"]] * 3
