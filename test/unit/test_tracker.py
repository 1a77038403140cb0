"""Ids over time."""

import re

import numpy as np
import pytest

from fer_ros.config import TrackerConfig
from fer_ros.face_ids import random_ids, sequential_ids
from fer_ros.stream_clock import StreamClock
from fer_ros.tracker import Tracker
from fer_ros.types import FaceDetections

AT_ONCE = TrackerConfig(min_hits=1)
FPS = 15.0


def boxes(*centers, side=60.0, scores=None):
    """Square detections around ``centers``; the x of the first point marks which one it was."""
    middle = np.array(centers, np.float32).reshape(-1, 2)
    points = np.zeros((len(middle), 5, 2), np.float32)
    points[:, 0] = middle
    return FaceDetections(
        np.concatenate([middle - side / 2, middle + side / 2], axis=1),
        np.full(len(middle), 0.9, np.float32) if scores is None else np.array(scores, np.float32),
        points,
    )


def ids(faces):
    """Ids in the order of their places, left to right."""
    return [face.id for face in sorted(faces, key=lambda face: face.points_xy[0, 0])]


def follow(tracker, frames, fps=FPS):
    """The results for detections at ``fps`` frames per second."""
    return [tracker.update(detections, i / fps) for i, detections in enumerate(frames)]


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_no_face(frames):
    assert follow(Tracker(AT_ONCE), [FaceDetections.empty()] * frames) == [[]] * frames


@pytest.mark.parametrize("min_hits", [1, 2, 5])
def test_a_face_is_reported_after_so_many_detections(min_hits):
    results = follow(Tracker(TrackerConfig(min_hits=min_hits)), [boxes((100, 100))] * 8)
    assert [len(faces) for faces in results] == [0] * (min_hits - 1) + [1] * (9 - min_hits)


def test_a_single_false_detection_is_never_reported_and_costs_no_id():
    tracker = Tracker(TrackerConfig(min_hits=2))
    frames = [boxes((100, 100)), *[FaceDetections.empty()] * 10, *[boxes((400, 300))] * 2]
    results = follow(tracker, frames)
    assert [len(faces) for faces in results] == [0] * 12 + [1]
    assert results[-1][0].id == "f00001"


def test_ids_are_valid_ros_names():
    faces = Tracker(AT_ONCE).update(boxes(*((100 * i, 50) for i in range(30))), 0.0)
    assert all(re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", name) for name in ids(faces))
    assert len(set(ids(faces))) == 30


def test_results_are_of_this_frame_best_score_first():
    detections = boxes((100, 50), (200, 60), (300, 70), scores=[0.6, 0.9, 0.7])
    faces = Tracker(AT_ONCE).update(detections, 0.0)
    assert [round(face.score, 3) for face in faces] == [0.9, 0.7, 0.6]
    for face, i in zip(faces, (1, 2, 0), strict=True):
        np.testing.assert_array_equal(face.box_xyxy, detections.boxes_xyxy[i])
        np.testing.assert_array_equal(face.points_xy, detections.points_xy[i])


PATHS = {
    "still": lambda t: (200, 200),
    "trembling": lambda t: (200 + 6 * np.sin(97 * t), 200 + 6 * np.cos(89 * t)),
    "walking": lambda t: (50 + 150 * t, 200),
    "running": lambda t: (50 + 600 * t, 200 - 100 * t),
    "turning back": lambda t: (300 + 200 * np.sin(3 * t), 200),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_one_face_keeps_one_id(path):
    results = follow(Tracker(AT_ONCE), [boxes(path(i / FPS)) for i in range(30)])
    assert {face.id for faces in results for face in faces} == {"f00001"}


@pytest.mark.parametrize("growth", [1.05, 1 / 1.05])
def test_an_approaching_face_keeps_its_id(growth):
    frames = [boxes((200, 200), side=80 * growth**i) for i in range(30)]
    assert {name for faces in follow(Tracker(AT_ONCE), frames) for name in ids(faces)} == {"f00001"}


def test_the_order_of_detections_does_not_matter():
    rng = np.random.default_rng(0)
    places = np.array([(100, 100), (250, 110), (400, 90), (550, 105)])
    results = follow(Tracker(AT_ONCE), [boxes(*rng.permutation(places)) for _ in range(10)])
    assert len({tuple(ids(faces)) for faces in results}) == 1
    assert len(ids(results[-1])) == 4


@pytest.mark.parametrize(
    ("missed_s", "same"), [(0.0, True), (0.3, True), (0.5, True), (0.6, False), (1.5, False)]
)
@pytest.mark.parametrize("fps", [10.0, 30.0])
def test_a_face_is_found_again_within_half_a_second(missed_s, same, fps):
    tracker = Tracker(AT_ONCE)
    (before,) = ids(tracker.update(boxes((200, 200)), 10.0))
    for i in range(1, round(missed_s * fps)):
        assert tracker.update(FaceDetections.empty(), 10.0 + i / fps) == []
    (after,) = ids(tracker.update(boxes((205, 200)), 10.0 + max(missed_s, 1 / fps)))
    assert (after == before) == same


def test_each_gap_is_measured_separately():
    """A face that is missed now and then for long is not forgotten by adding up its gaps."""
    seen = boxes((200, 200))
    frames = [seen if i % 5 == 0 else FaceDetections.empty() for i in range(200)]
    assert {name for faces in follow(Tracker(AT_ONCE), frames) for name in ids(faces)} == {"f00001"}


def test_a_missed_face_is_matched_at_its_predicted_position():
    """It walked on, and another one stands where it was last seen."""
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((100 + 20 * i, 200)), i / FPS)
    assert tracker.update(FaceDetections.empty(), 10 / FPS) == []
    assert tracker.update(FaceDetections.empty(), 11 / FPS) == []
    detections = boxes((100 + 20 * 9, 200), (100 + 20 * 12, 200))
    assert ids(tracker.update(detections, 12 / FPS)) == ["f00002", "f00001"]


def test_a_missed_face_that_stopped_is_matched():
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((100 + 20 * i, 200)), i / FPS)
    assert ids(tracker.update(boxes((100 + 20 * 9, 200)), 13 / FPS)) == ["f00001"]


def test_overlap_with_the_last_box_beats_nearness_to_the_prediction():
    """It stopped while it was missed; another one came close to where it would be by now."""
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((100 + 20 * i, 200)), i / FPS)
    detections = boxes((100 + 20 * 9, 200), (100 + 20 * 12 + 30, 200))
    assert ids(tracker.update(detections, 12 / FPS)) == ["f00001", "f00002"]


def test_a_face_that_enters_where_another_left_has_a_new_id():
    tracker = Tracker(AT_ONCE)
    for i in range(10):
        tracker.update(boxes((200 - 20 * i, 200)), i / FPS)
    assert tracker.update(FaceDetections.empty(), 10 / FPS) == []
    assert ids(tracker.update(boxes((30, 200)), 11 / FPS)) == ["f00002"]


def test_a_visible_face_is_matched_before_a_hidden_one():
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


def test_an_overlapping_face_is_matched_before_a_nearer_larger_one():
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((200, 200), (283, 200), side=np.array([[60], [115]], np.float32)), 0.0)
    assert ids(tracker.update(boxes((233, 200)), 0.1)) == ["f00001"]


@pytest.mark.parametrize("side_ratio", [0.3, 3.0])
def test_another_size_at_the_same_place_is_another_face(side_ratio):
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((200, 200), side=60), 0.0)
    assert ids(tracker.update(boxes((200, 200), side=60 * side_ratio), 0.1)) == ["f00002"]


def test_a_distant_detection_is_another_face():
    tracker = Tracker(AT_ONCE)
    tracker.update(boxes((100, 100)), 0.0)
    assert ids(tracker.update(boxes((300, 100)), 0.1)) == ["f00002"]


def test_faces_of_a_crowd_keep_their_ids():
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


def test_ids_are_not_reused_after_a_reset():
    tracker = Tracker(AT_ONCE)
    before = ids(tracker.update(boxes((100, 100), (300, 100)), 0.0))
    tracker.reset()
    after = ids(tracker.update(boxes((100, 100), (300, 100)), 0.1))
    assert set(before).isdisjoint(after)


def through_clock(tracker, frames):
    """Ids of each (stamp_s, detections) with the time of a StreamClock, as the pipeline does it."""
    clock, results = StreamClock(), []
    for stamp_s, detections in frames:
        time = clock.update(stamp_s)
        if time.event.starts_stream:
            tracker.reset()
        results.append(ids(tracker.update(detections, time.time_s)))
    return results


@pytest.mark.parametrize(
    ("step_s", "same"),
    [
        (0.0, True),  # two images of one stamp
        (-0.2, True),  # overtaken on the way
        (-5.0, False),  # the bag was started again
        (1.9, True),  # a slow camera
        (60.0, False),  # a pause
    ],
)
def test_steps_in_time(step_s, same):
    frames = [(1000.0, boxes((100, 100))), (1000.0 + step_s, boxes((102, 100)))]
    assert (through_clock(Tracker(AT_ONCE), frames)[1] == ["f00001"]) == same


@pytest.mark.parametrize(("missed_s", "same"), [(4.0, True), (6.0, False)])
def test_a_larger_max_age_bridges_a_pause_between_frames(missed_s, same):
    tracker = Tracker(TrackerConfig(min_hits=1, max_age_s=5.0))
    for stamp_s in (0.0, 0.1):
        tracker.update(boxes((100, 100)), stamp_s)
    assert tracker.update(FaceDetections.empty(), 0.2) == []
    assert (ids(tracker.update(boxes((100, 100)), 0.1 + missed_s)) == ["f00001"]) == same


def test_after_a_backward_jump_faces_are_tracked_again():
    frames = [(1000.0, boxes((100, 100)))]
    frames += [(i / FPS, boxes((100 + i, 100))) for i in range(20)]
    assert through_clock(Tracker(AT_ONCE), frames)[1:] == [["f00002"]] * 20


@np.errstate(all="raise")
def test_late_images_do_not_distort_the_velocity():
    order = (0, 1, 2, 4, 3, 5, 7, 6, 8, 8, 9)
    frames = [(i / FPS, boxes((100 + 10 * i, 100))) for i in order]
    assert through_clock(Tracker(AT_ONCE), frames) == [["f00001"]] * len(order)


def test_a_late_image_does_not_shorten_max_age():
    frames = [(stamp_s, boxes((100, 100))) for stamp_s in (1.0, 0.6)]
    frames += [(stamp_s, FaceDetections.empty()) for stamp_s in (1.1, 1.2, 1.3)]
    results = through_clock(Tracker(AT_ONCE), [*frames, (1.4, boxes((100, 100)))])
    assert results == [["f00001"]] * 2 + [[]] * 3 + [["f00001"]]


def test_forgotten_faces_are_freed():
    tracker = Tracker(AT_ONCE)
    for i in range(300):
        tracker.update(boxes((200 * (i % 7), 300 * (i % 5))), i / FPS)
    assert len(tracker._tracks) <= 0.5 * FPS + 1


@np.errstate(all="raise")
def test_boxes_without_area_are_tracked():
    flat = FaceDetections(
        np.array([(10, 10, 10, 10), (50, 50, 90, 50)], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.zeros((2, 5, 2), np.float32),
    )
    results = follow(Tracker(AT_ONCE), [flat] * 3)
    assert [[face.id for face in faces] for faces in results] == [["f00001", "f00002"]] * 3


@pytest.mark.parametrize(
    ("frames", "live"),
    [
        ([], []),
        ([(1.0, 0)], []),
        ([(1.0, 1)], ["f00001"]),
        ([(1.0, 2)], ["f00001", "f00002"]),
        ([(1.0, 1), (1.1, 0), (1.5, 0)], ["f00001"]),  # it may come back
        ([(1.0, 1), (1.1, 0), (1.51, 0)], []),
        ([(1.0, 1), (1.4, 1), (1.8, 0)], ["f00001"]),
        ([(1.0, 1), (9.0, 0)], ["f00001"]),  # the next frame, however slow it is
        ([(1.0, 1), (9.0, 0), (9.1, 0)], []),
    ],
)
def test_live_ids_include_faces_that_may_come_back(frames, live):
    tracker = Tracker(AT_ONCE)
    for stamp_s, count in frames:
        tracker.update(boxes(*((100 + 200 * i, 100) for i in range(count))), stamp_s)
    assert tracker.live_ids == live


def test_a_face_that_is_not_confirmed_is_not_live():
    tracker = Tracker(TrackerConfig(min_hits=2))
    tracker.update(boxes((100, 100)), 0.0)
    assert tracker.live_ids == []


def test_ids_come_from_the_factory():
    new_id = sequential_ids("front_")
    first = ids(Tracker(AT_ONCE, new_id).update(boxes((100, 100), (300, 100)), 0.0))
    assert first == ["front_00001", "front_00002"]
    assert ids(Tracker(AT_ONCE, new_id).update(boxes((100, 100)), 0.0)) == ["front_00003"]


def test_an_id_that_is_in_use_is_not_given_again():
    drawn = iter(["a", "a", "a", "b"])
    faces = Tracker(AT_ONCE, lambda: next(drawn)).update(boxes((100, 100), (300, 100)), 0.0)
    assert ids(faces) == ["a", "b"]


def test_random_ids_are_unique_and_names_in_ros():
    """Of two processes."""
    given = [random_ids("f")() for _ in range(1000)]
    assert all(re.fullmatch(r"f[a-z]{5}", id) for id in given)
    assert len(set(given)) > 990


def test_fifty_faces_that_appear_and_leave_at_random():
    """No id is given to two faces, and all reported ids are live."""
    random = np.random.default_rng(3)
    tracker = Tracker(AT_ONCE)
    places = np.stack(np.divmod(np.arange(50), 10), axis=1) * 100.0 + 50
    places_of: dict[str, set[float]] = {}
    for step in range(300):
        faces = tracker.update(boxes(*places[random.random(50) < 0.3]), step / 10)
        for face in faces:
            places_of.setdefault(face.id, set()).add(tuple(face.box_xyxy.tolist()))
        assert len(tracker.live_ids) == len(set(tracker.live_ids))
        assert {face.id for face in faces} <= {*tracker.live_ids}
    assert len(places_of) > 200
    assert all(len(there) == 1 for there in places_of.values())


def test_the_assignment_is_globally_optimal():
    """The best pair first would leave the other face without one."""
    tracker = Tracker(AT_ONCE)
    before = ids(tracker.update(boxes((100, 100), (130, 100)), 0.0))
    assert ids(tracker.update(boxes((122, 100), (158, 100)), 0.1)) == before


@np.errstate(all="ignore")
def test_boxes_that_are_not_finite_do_not_affect_others():
    tracker = Tracker(AT_ONCE)
    for step in range(4):
        detections = boxes((100, 100), (300, 100))
        detections.boxes_xyxy[1] = (np.nan, 3e38, -np.inf, 5)[step]
        assert len(tracker.update(detections, step / FPS)) == 2
    assert tracker.live_ids[0] == "f00001"
