"""Faces between two turns of the detector."""

import numpy as np
import pytest

from fer_ros.align import TEMPLATE_XY, five_points
from fer_ros.follow import Follower
from fer_ros.types import TrackedFace

EVERY = 3
STEP_S = 1 / 15


def face(name="f1", shift=(0.0, 0.0), scale=1.0) -> TrackedFace:
    """Its box is that of the template, 112 px wide at scale 1."""
    box = np.array([0, 0, 112, 112]) * scale + np.tile(shift, 2)
    points = TEMPLATE_XY * scale + shift
    return TrackedFace(name, box.astype(np.float32), points.astype(np.float32), 0.9)


def landmarks(points_xy, *moves) -> np.ndarray:
    """68 points (N, 68, 2) for each (shift, scale, turn) of frontal ones around their middle."""
    middle = points_xy.mean(axis=0)
    made = []
    for shift, scale, turn in moves:
        rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
        made.append((points_xy - middle) @ rotation.T * scale + middle + shift)
    return np.array(made, np.float32).reshape(-1, 68, 2)


@pytest.fixture
def points_xy(fake_classifier) -> np.ndarray:
    return fake_classifier.points_xy


STILL = ((0.0, 0.0), 1.0, 0.0)


def seen(follower, faces, points, stamp_s, found=None):
    return follower.update(faces, points, stamp_s, len(faces) if found is None else found)


def test_nobody_is_expected_where_nobody_was(points_xy):
    follower = Follower()
    assert follower.expected(0.0, EVERY) is None
    assert seen(follower, [], landmarks(points_xy), 0.0) == []
    boxes = follower.expected(STEP_S, EVERY)
    assert (len(boxes), boxes.points_xy.shape) == (0, (0, 5, 2))


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_the_detector_has_its_turns(points_xy, every):
    follower, turns = Follower(), []
    for number in range(11):
        turns.append(follower.expected(number * STEP_S, every) is None)
        seen(follower, [face()], landmarks(points_xy, STILL), number * STEP_S)
    assert [number for number, turn in enumerate(turns) if turn] == [*range(0, 11, every)]


def test_what_the_detector_found_stays_where_it_is(points_xy):
    """However far its points are from the landmarks."""
    follower = Follower()
    found = face(shift=(7, -5), scale=1.2)
    (told,) = seen(follower, [found], landmarks(points_xy, STILL), 0.0)
    assert told is found
    boxes = follower.expected(STEP_S, EVERY)
    np.testing.assert_array_equal(boxes.boxes_xyxy[0], found.box_xyxy)
    np.testing.assert_array_equal(boxes.points_xy[0], found.points_xy)
    assert boxes.scores[0] == np.float32(0.9)


@pytest.mark.parametrize(
    ("shift", "scale", "turn"),
    [((0, 0), 1, 0), ((12, -7), 1, 0), ((0, 0), 1.3, 0), ((3, 9), 0.8, 0.4), ((0, 0), 1, -1.2)],
)
def test_box_and_points_move_as_the_landmarks_do(points_xy, shift, scale, turn):
    follower = Follower()
    start = landmarks(points_xy, STILL)
    # the detector's points lie on the landmarks, so that they have to move as these do
    first = TrackedFace("f1", face().box_xyxy, five_points(start)[0], 0.9)
    seen(follower, [first], start, 0.0)
    follower.expected(STEP_S, EVERY)
    moved = landmarks(points_xy, (shift, scale, turn))
    (told,) = seen(follower, [first], moved, STEP_S)
    np.testing.assert_allclose(told.points_xy, five_points(moved)[0], atol=0.01)
    np.testing.assert_allclose(told.box_xyxy[2:] - told.box_xyxy[:2], 112 * scale, rtol=1e-4)
    pivot = points_xy.mean(axis=0)
    rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    centre = rotation @ (np.array([56, 56]) - pivot) * scale + pivot + shift
    np.testing.assert_allclose((told.box_xyxy[:2] + told.box_xyxy[2:]) / 2, centre, atol=0.02)
    assert (told.id, told.score) == ("f1", 0.9)


def test_faces_are_told_apart_by_their_ids(points_xy):
    """The tracker may give them in another order, and leave one out."""
    follower = Follower()
    faces = [face("a"), face("b", shift=(300, 0)), face("c", shift=(600, 0))]
    seen(follower, faces, landmarks(points_xy, *[STILL] * 3), 0.0)
    follower.expected(STEP_S, EVERY)
    moved = landmarks(points_xy, ((0, 10), 1, 0), ((20, 0), 1, 0))
    told = seen(follower, [faces[2], faces[0]], moved, STEP_S)
    assert [each.id for each in told] == ["c", "a"]
    np.testing.assert_allclose(
        told[0].box_xyxy, faces[2].box_xyxy + np.float32([0, 10] * 2), atol=0.01
    )
    np.testing.assert_allclose(
        told[1].box_xyxy, faces[0].box_xyxy + np.float32([20, 0] * 2), atol=0.01
    )


@pytest.mark.parametrize("passed_s", [-0.01, 0.51, 1000.0])
def test_after_a_pause_it_is_the_detectors_turn(points_xy, passed_s):
    follower = Follower()
    seen(follower, [face()], landmarks(points_xy, STILL), 5.0)
    assert follower.expected(5.0 + passed_s, EVERY) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_landmarks_that_failed_call_the_detector(points_xy, value):
    follower = Follower()
    seen(follower, [face()], np.full((1, 68, 2), value, np.float32), 0.0)
    assert follower.expected(STEP_S, EVERY) is None
    seen(follower, [face()], landmarks(points_xy, STILL), STEP_S)
    assert follower.expected(2 * STEP_S, EVERY) is not None
    failed = np.full((1, 68, 2), value, np.float32)
    (told,) = seen(follower, [face()], failed, 2 * STEP_S)
    assert np.isfinite(told.box_xyxy).all()


def test_a_face_that_is_not_confirmed_calls_the_detector(points_xy):
    follower = Follower()
    seen(follower, [], landmarks(points_xy), 0.0, found=1)
    assert follower.expected(STEP_S, EVERY) is None


def test_reset_forgets_faces(points_xy):
    follower = Follower()
    seen(follower, [face()], landmarks(points_xy, STILL), 0.0)
    follower.reset()
    assert follower.expected(STEP_S, EVERY) is None
