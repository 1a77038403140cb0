"""Tracking metrics, by hand."""

import numpy as np
import pytest

from fer_ros.evaluation.tracking_benchmark import TrackingScore, main, score
from fer_ros.types import FaceDetections, TrackedFace


class GivenIds:
    """A tracker that returns given ids, frame by frame; None omits a face."""

    def __init__(self, frames):
        self.frames = iter(frames)

    def update(self, detections, stamp_s):
        pairs = zip(next(self.frames), detections.boxes_xyxy, detections.points_xy, strict=True)
        return [TrackedFace(id, box, points, 0.9) for id, box, points in pairs if id]


def scene(*frames):
    """Each frame lists the numbers of its people; -1 is a false detection."""
    detections = []
    for people in frames:
        points = np.zeros((len(people), 5, 2), np.float32)
        points[:, 0, 0] = people
        boxes, scores = np.zeros((len(people), 4), np.float32), np.ones(len(people), np.float32)
        detections.append(FaceDetections(boxes, scores, points))
    return detections


@pytest.mark.parametrize(
    ("people", "given_ids", "mota", "idf1", "switches"),
    [
        pytest.param([], [], 1.0, 0.0, 0, id="no frame"),
        pytest.param([[0]] * 4, [["a"]] * 4, 1.0, 1.0, 0, id="one id"),
        pytest.param([[0]] * 4, [["a"], ["a"], ["b"], ["b"]], 0.75, 0.5, 1, id="a switch"),
        pytest.param([[0]] * 4, [[None], ["a"], ["a"], ["a"]], 0.75, 6 / 7, 0, id="one missed"),
        pytest.param([[0, -1]] * 2, [["a", "b"]] * 2, 0.0, 2 / 3, 0, id="false ones"),
        pytest.param(
            [[0, 1]] * 4, [["a", "b"]] * 2 + [["b", "a"]] * 2, 0.75, 0.5, 2, id="ids exchanged"
        ),
    ],
)
def test_metrics(people, given_ids, mota, idf1, switches):
    result = score(scene(*people), GivenIds(given_ids))
    assert (result.mota, result.idf1) == (pytest.approx(mota), pytest.approx(idf1))
    assert result.num_switches == switches


def test_people_and_ids_of_two_scenes_are_distinct():
    total = TrackingScore()
    for _ in range(2):
        score(scene([0], [0]), GivenIds([["a"], ["a"]]), total)
    assert (total.idf1, total.num_switches, len(total.num_ids)) == (1.0, 0, 2)


def test_the_command_prints_a_table(capsys):
    assert main(["--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 8 + 2
    assert all(line.count("|") == 6 for line in lines)
