"""Blendshapes against those of a teacher, by hand."""

import json

import numpy as np
import pytest

from fer_ros.blendshapes import BLENDSHAPES
from training.metrics.blendshapes import blendshape_scores

JAW, BLINK = BLENDSHAPES.index("jawOpen"), BLENDSHAPES.index("eyeBlinkLeft")


def faces(count: int) -> np.ndarray:
    values = np.zeros((count, 52), np.float32)
    values[:, JAW] = np.linspace(0, 1, count)
    return values


@pytest.mark.parametrize("known", [0, 1])
def test_too_few_faces(known):
    teacher = faces(3)
    teacher[known:] = np.nan
    with pytest.raises(ValueError, match="expected faces with blendshapes of the teacher"):
        blendshape_scores(faces(3), teacher)


def test_the_teacher_has_no_error():
    teacher = faces(5)
    teacher[4] = np.nan
    metrics = blendshape_scores(faces(5), teacher)
    assert metrics["images"] == 4
    assert metrics["mean_absolute_error"] == 0
    assert metrics["correlation"] == {"jawOpen": 1.0}
    assert metrics["median_correlation"] == 1.0


def test_errors_and_correlations_match_hand_computation():
    teacher = faces(4)
    teacher[:, BLINK] = [0, 1, 0, 1]
    predicted = 1 - teacher
    predicted[:, BLINK] = 0.5
    metrics = blendshape_scores(predicted, teacher)
    assert metrics["active"] == 2
    assert metrics["correlation"] == {"eyeBlinkLeft": 0.0, "jawOpen": -1.0}
    assert metrics["median_correlation"] == -0.5
    assert metrics["absolute_error"]["eyeBlinkLeft"] == 0.5
    assert metrics["absolute_error"]["_neutral"] == 1.0
    json.dumps(metrics, allow_nan=False)


def test_constant_blendshapes_have_no_correlation():
    metrics = blendshape_scores(np.zeros((3, 52), np.float32), np.zeros((3, 52), np.float32))
    assert metrics["active"] == 0
    assert metrics["median_correlation"] is None
