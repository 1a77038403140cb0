"""Accuracy against coverage of the quality gate."""

import cv2
import numpy as np
import pytest

from fer_ros.config import DetectorConfig, PipelineConfig, QualityConfig, TrackerConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from training.metrics.risk_coverage import (
    GateMeasurements,
    accuracy_by_coverage,
    draw,
    gate_metrics,
    markdown_lines,
    measure,
    scene,
)

NAN = float("nan")
OPEN = PipelineConfig(
    detector=DetectorConfig(score_threshold=0.3),
    tracker=TrackerConfig(min_hits=1),
    quality=QualityConfig(min_size_px=0, min_score=0),
)


def measurements(sizes, correct):
    criteria = np.repeat(np.array(sizes, float)[:, None], 5, axis=1)
    return GateMeasurements(criteria, np.array(correct, np.bool_))


@pytest.mark.parametrize(
    ("sizes", "correct", "threshold", "expected"),
    [
        ([NAN], [False], 10, (0.0, NAN)),
        ([30.0], [True], 40, (0.0, NAN)),
        ([30.0, 40.0], [True, False], 40, (0.5, 0.0)),
        ([30.0, 40.0, NAN, 50.0], [False, True, False, True], 30, (0.75, 2 / 3)),
        ([30.0, 40.0, NAN, 50.0], [False, True, False, True], 31, (0.5, 1.0)),
    ],
)
def test_coverage_and_accuracy_of_a_threshold(sizes, correct, threshold, expected):
    np.testing.assert_equal(gate_metrics(measurements(sizes, correct), 0, threshold), expected)


def test_a_curve_begins_with_the_best_face():
    faces = measurements([20.0, NAN, 60.0, 40.0], [False, False, True, True])
    coverage, accuracy = accuracy_by_coverage(faces, 0)
    assert coverage.tolist() == [0.25, 0.5, 0.75]
    assert accuracy.tolist() == [1.0, 1.0, 2 / 3]


def test_a_scene_has_one_image_per_cell():
    padded_crops = np.full((5, 144, 144), 250, np.uint8)
    scene_rgb = scene(padded_crops, np.array([100, 16, 16, 16, 50]), np.zeros(5))
    assert scene_rgb.shape == (424, 636, 3)
    inside = scene_rgb[:212, :212, 0] == 250
    assert (inside.sum(), inside[56:156, 56:156].all()) == (100**2, True)
    assert (scene_rgb[212:, 212:424, 0] == 250).sum() == 50**2
    assert (scene_rgb[212:, 424:] == 128).all()


def test_detected_faces_are_measured(fake_classifier, astronaut, tmp_path):
    """Every second image is uniform; the network predicts happiness."""
    face = cv2.resize(cv2.cvtColor(astronaut[20:220, 125:325], cv2.COLOR_RGB2GRAY), (144, 144))
    padded_crops = np.stack([face, np.full_like(face, 90)] * 12)
    labels = np.array([EMOTIONS.index(name) for name in ("happiness", "fear", "anger", "fear")] * 6)
    pipeline = EmotionPipeline(OPEN, classifier=fake_classifier)
    measured = measure(pipeline, padded_crops, labels)
    detected = np.isfinite(measured.criteria[:, 0])
    assert not detected[1::2].any()
    assert detected[::2].sum() >= 4
    is_happiness = labels == EMOTIONS.index("happiness")
    np.testing.assert_array_equal(measured.correct, detected & is_happiness)
    assert measured.criteria[detected, 0].min() > 10
    table = [*markdown_lines(measured)]
    assert len({line.count("|") for line in table}) == 1
    draw(measured, tmp_path / "risk.png")
    assert (tmp_path / "risk.png").stat().st_size > 10_000
