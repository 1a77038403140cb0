"""Propagation of faces between two runs of the detector."""

import numpy as np
import pytest

from fer_ros.alignment import alignment_points
from fer_ros.landmark_propagation import LandmarkPropagator
from fer_ros.types import TEMPLATE_XY, TrackedFace

DETECTION_INTERVALS = 3
STEP_S = 1 / 15


def face(name="f1", shift=(0.0, 0.0), scale=1.0) -> TrackedFace:
    """Its box is that of the template, 112 px wide at scale 1."""
    box = np.array([0, 0, 112, 112]) * scale + np.tile(shift, 2)
    points = TEMPLATE_XY * scale + shift
    return TrackedFace(name, box.astype(np.float32), points.astype(np.float32), 0.9)


def landmarks(points_xy, *moves) -> np.ndarray:
    """68 points (N, 68, 2) for each (shift, scale, turn) of frontal ones around their middle."""
    middle = points_xy.mean(axis=0)
    transformed = []
    for shift, scale, turn in moves:
        rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
        transformed.append((points_xy - middle) @ rotation.T * scale + middle + shift)
    return np.array(transformed, np.float32).reshape(-1, 68, 2)


@pytest.fixture
def points_xy(fake_classifier) -> np.ndarray:
    return fake_classifier.points_xy


STILL = ((0.0, 0.0), 1.0, 0.0)


def seen(propagator, faces, points, stamp_s, num_detections=None):
    landmarks_xy = dict(zip((face.id for face in faces), points, strict=True))
    count = len(faces) if num_detections is None else num_detections
    return propagator.update(faces, landmarks_xy, stamp_s, count)


def test_without_a_previous_face_nothing_is_predicted(points_xy):
    propagator = LandmarkPropagator()
    assert propagator.predict(0.0, DETECTION_INTERVALS) is None
    assert seen(propagator, [], landmarks(points_xy), 0.0) == []
    boxes = propagator.predict(STEP_S, DETECTION_INTERVALS)
    assert (len(boxes), boxes.points_xy.shape) == (0, (0, 5, 2))


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_the_detector_runs_at_its_interval(points_xy, every):
    propagator, turns = LandmarkPropagator(), []
    for number in range(11):
        turns.append(propagator.predict(number * STEP_S, every) is None)
        seen(propagator, [face()], landmarks(points_xy, STILL), number * STEP_S)
    assert [number for number, turn in enumerate(turns) if turn] == [*range(0, 11, every)]


def test_detected_faces_are_not_moved(points_xy):
    """However far its points are from the landmarks."""
    propagator = LandmarkPropagator()
    detected = face(shift=(7, -5), scale=1.2)
    (moved_faces,) = seen(propagator, [detected], landmarks(points_xy, STILL), 0.0)
    assert moved_faces is detected
    boxes = propagator.predict(STEP_S, DETECTION_INTERVALS)
    np.testing.assert_array_equal(boxes.boxes_xyxy[0], detected.box_xyxy)
    np.testing.assert_array_equal(boxes.points_xy[0], detected.points_xy)
    assert boxes.scores[0] == np.float32(0.9)


@pytest.mark.parametrize(
    ("shift", "scale", "turn"),
    [((0, 0), 1, 0), ((12, -7), 1, 0), ((0, 0), 1.3, 0), ((3, 9), 0.8, 0.4), ((0, 0), 1, -1.2)],
)
def test_box_and_points_move_as_the_landmarks_do(points_xy, shift, scale, turn):
    propagator = LandmarkPropagator()
    start = landmarks(points_xy, STILL)
    # the detector's points lie on the landmarks, so that they have to move as these do
    first = TrackedFace("f1", face().box_xyxy, alignment_points(start)[0], 0.9)
    seen(propagator, [first], start, 0.0)
    propagator.predict(STEP_S, DETECTION_INTERVALS)
    moved = landmarks(points_xy, (shift, scale, turn))
    (moved_faces,) = seen(propagator, [first], moved, STEP_S)
    np.testing.assert_allclose(moved_faces.points_xy, alignment_points(moved)[0], atol=0.01)
    np.testing.assert_allclose(
        moved_faces.box_xyxy[2:] - moved_faces.box_xyxy[:2], 112 * scale, rtol=1e-4
    )
    pivot = points_xy.mean(axis=0)
    rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    center = rotation @ (np.array([56, 56]) - pivot) * scale + pivot + shift
    np.testing.assert_allclose(
        (moved_faces.box_xyxy[:2] + moved_faces.box_xyxy[2:]) / 2, center, atol=0.02
    )
    assert (moved_faces.id, moved_faces.score) == ("f1", 0.9)


def test_faces_are_matched_by_their_ids(points_xy):
    """The tracker may give them in another order, and leave one out."""
    propagator = LandmarkPropagator()
    faces = [face("a"), face("b", shift=(300, 0)), face("c", shift=(600, 0))]
    seen(propagator, faces, landmarks(points_xy, *[STILL] * 3), 0.0)
    propagator.predict(STEP_S, DETECTION_INTERVALS)
    moved = landmarks(points_xy, ((0, 10), 1, 0), ((20, 0), 1, 0))
    moved_faces = seen(propagator, [faces[2], faces[0]], moved, STEP_S)
    assert [face.id for face in moved_faces] == ["c", "a"]
    np.testing.assert_allclose(
        moved_faces[0].box_xyxy, faces[2].box_xyxy + np.float32([0, 10] * 2), atol=0.01
    )
    np.testing.assert_allclose(
        moved_faces[1].box_xyxy, faces[0].box_xyxy + np.float32([20, 0] * 2), atol=0.01
    )


@pytest.mark.parametrize("passed_s", [-0.01, 0.51, 1000.0])
def test_the_detector_runs_after_a_gap(points_xy, passed_s):
    propagator = LandmarkPropagator()
    seen(propagator, [face()], landmarks(points_xy, STILL), 5.0)
    assert propagator.predict(5.0 + passed_s, DETECTION_INTERVALS) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_invalid_landmarks_trigger_detection(points_xy, value):
    propagator = LandmarkPropagator()
    seen(propagator, [face()], np.full((1, 68, 2), value, np.float32), 0.0)
    assert propagator.predict(STEP_S, DETECTION_INTERVALS) is None
    seen(propagator, [face()], landmarks(points_xy, STILL), STEP_S)
    assert propagator.predict(2 * STEP_S, DETECTION_INTERVALS) is not None
    failed = np.full((1, 68, 2), value, np.float32)
    (moved_faces,) = seen(propagator, [face()], failed, 2 * STEP_S)
    assert np.isfinite(moved_faces.box_xyxy).all()


def test_an_unconfirmed_face_triggers_detection(points_xy):
    propagator = LandmarkPropagator()
    seen(propagator, [], landmarks(points_xy), 0.0, num_detections=1)
    assert propagator.predict(STEP_S, DETECTION_INTERVALS) is None


def test_reset_forgets_faces(points_xy):
    propagator = LandmarkPropagator()
    seen(propagator, [face()], landmarks(points_xy, STILL), 0.0)
    propagator.reset()
    assert propagator.predict(STEP_S, DETECTION_INTERVALS) is None


def test_a_face_without_landmarks_keeps_its_box_without_detection(points_xy):
    """One that was too small for the network, beside one that was not."""
    propagator = LandmarkPropagator()
    faces = [face("a"), face("small", shift=(300, 0), scale=0.1)]
    for number in range(2):
        landmarks_xy = {"a": landmarks(points_xy, ((12 * number, 0), 1, 0))[0]}
        moved = propagator.update(faces, landmarks_xy, number * STEP_S, 2)
        assert propagator.predict((number + 1) * STEP_S, DETECTION_INTERVALS) is not None
    np.testing.assert_array_equal(moved[1].box_xyxy, faces[1].box_xyxy)
    np.testing.assert_allclose(
        moved[0].box_xyxy, faces[0].box_xyxy + np.float32([12, 0, 12, 0]), atol=0.01
    )
