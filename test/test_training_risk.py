"""What the quality gate is worth: accuracy against coverage."""

import cv2
import numpy as np
import pytest

from fer_ros.config import DetectorConfig, PipelineConfig, QualityConfig, TrackerConfig
from fer_ros.labels import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from training.risk import Found, curve, draw, lines, measure, passing, scene

NAN = float("nan")
OPEN = PipelineConfig(
    detector=DetectorConfig(min_score=0.3),
    tracker=TrackerConfig(min_hits=1),
    quality=QualityConfig(min_size_px=0, min_score=0),
)


def found(sizes, right):
    measures = np.full((len(sizes), 5), NAN)
    measures[:] = np.array(sizes, float)[:, None]
    return Found(measures, np.array(right, np.bool_))


@pytest.mark.parametrize(
    ("sizes", "right", "threshold", "expected"),
    [
        ([NAN], [False], 10, (0.0, NAN)),
        ([30.0], [True], 40, (0.0, NAN)),
        ([30.0, 40.0], [True, False], 40, (0.5, 0.0)),
        ([30.0, 40.0, NAN, 50.0], [False, True, False, True], 30, (0.75, 2 / 3)),
        ([30.0, 40.0, NAN, 50.0], [False, True, False, True], 31, (0.5, 1.0)),
    ],
)
def test_a_gate_leaves_so_many_and_so_good_ones(sizes, right, threshold, expected):
    np.testing.assert_equal(passing(found(sizes, right), 0, threshold), expected)


def test_a_curve_begins_with_the_best():
    coverage, accuracy = curve(found([20.0, NAN, 60.0, 40.0], [False, False, True, True]), 0)
    assert coverage.tolist() == [0.25, 0.5, 0.75]
    assert accuracy.tolist() == [1.0, 1.0, 2 / 3]


def test_a_scene_has_each_picture_in_its_cell():
    canvases = np.full((5, 144, 144), 250, np.uint8)
    made = scene(canvases, np.array([100, 16, 16, 16, 50]), np.zeros(5))
    assert made.shape == (424, 636, 3)
    inside = made[:212, :212, 0] == 250
    assert (inside.sum(), inside[56:156, 56:156].all()) == (100**2, True)
    assert (made[212:, 212:424, 0] == 250).sum() == 50**2
    assert (made[212:, 424:] == 128).all()


def test_faces_are_found_and_told_apart(fake_classifier, astronaut, tmp_path):
    """Every second picture is a wall; the network says happiness."""
    face = cv2.resize(cv2.cvtColor(astronaut[20:220, 125:325], cv2.COLOR_RGB2GRAY), (144, 144))
    canvases = np.stack([face, np.full_like(face, 90)] * 12)
    labels = np.array([EMOTIONS.index(name) for name in ("happiness", "fear", "anger", "fear")] * 6)
    pipeline = EmotionPipeline(OPEN, classifier=fake_classifier)
    seen = measure(pipeline, canvases, labels)
    is_found = np.isfinite(seen.measures[:, 0])
    assert not is_found[1::2].any()
    assert is_found[::2].sum() >= 4
    np.testing.assert_array_equal(seen.right, is_found & (labels == EMOTIONS.index("happiness")))
    assert seen.measures[is_found, 0].min() > 10
    table = [*lines(seen)]
    assert len({line.count("|") for line in table}) == 1
    draw(seen, tmp_path / "risk.png")
    assert (tmp_path / "risk.png").stat().st_size > 10_000
