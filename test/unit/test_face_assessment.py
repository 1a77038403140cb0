"""Faces whose predictions are given: rejected, unreadable, readable, new."""

import numpy as np
import pytest
from conftest import frontal_points

from fer_ros.config import PipelineConfig, SmootherConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.face_assessment import FaceAssessor
from fer_ros.types import FacePredictions, TrackedFace

HAPPINESS, ANGER = EMOTIONS.index("happiness"), EMOTIONS.index("anger")


def tracked(id):
    box_xyxy = np.array([10, 10, 90, 90], np.float32)
    return TrackedFace(id, box_xyxy, np.zeros((5, 2), np.float32), 0.9)


def predicted(*emotions):
    """Predictions of crops that show these emotions; all NaN for None."""
    probabilities = np.full((len(emotions), 8), 0.02, np.float32)
    for row, emotion in enumerate(emotions):
        probabilities[row] = np.nan if emotion is None else probabilities[row]
        if emotion is not None:
            probabilities[row, emotion] = 0.86
    blendshapes = np.arange(52 * len(emotions), dtype=np.float32).reshape(-1, 52)
    return FacePredictions(np.zeros((len(emotions), 68, 2), np.float32), probabilities, blendshapes)


def assess(assessor, ids, rejections, predictions, time_s=0.0):
    count = len(predictions)
    points_xy = np.tile(frontal_points(), (count, 1, 1))
    crops_rgb = np.zeros((count, 112, 112, 3), np.uint8)
    faces, times_s = [tracked(id) for id in ids], [time_s] * len(ids)
    return assessor.assess(faces, rejections, times_s, crops_rgb, predictions, points_xy)


@pytest.mark.parametrize(
    ("rejections", "predictions", "expected"),
    [
        ([], [], []),
        (["too small"], [], [(None, "too small", False)]),
        ([""], [HAPPINESS], [("happiness", "", True)]),
        (
            ["", "too small", "", ""],
            [HAPPINESS, None, ANGER],
            [
                ("happiness", "", True),
                (None, "too small", False),
                (None, "no probabilities: the network output is not finite", True),
                ("anger", "", True),
            ],
        ),
    ],
)
def test_each_classified_face_takes_the_next_prediction(rejections, predictions, expected):
    ids = [f"f{row}" for row in range(len(rejections))]
    faces = assess(FaceAssessor(PipelineConfig()), ids, rejections, predicted(*predictions))
    assert [face.id for face in faces] == ids
    found = [(face.emotion, face.rejection_reason, face.is_classified) for face in faces]
    assert found == expected
    classified = [face for face in faces if face.is_classified]
    assert [face.blendshapes[0] for face in classified] == [52 * n for n in range(len(predictions))]
    for face in faces:
        assert np.isfinite(face.points_xy).all() == face.is_classified


def test_a_face_is_new_until_it_was_classified():
    assessor = FaceAssessor(PipelineConfig(smoother=SmootherConfig(reset_after_s=1.0)))
    assert assessor.new_rows([]) == []
    assert assessor.new_rows(["ann", "bob"]) == [0, 1]
    assess(assessor, ["ann", "bob"], ["", "too small"], predicted(HAPPINESS))
    assert assessor.new_rows(["ann", "bob"]) == [1]
    assess(assessor, ["bob"], [""], predicted(HAPPINESS), 0.5)
    assert assessor.new_rows(["ann", "bob"]) == []
    assessor.forget_older(1.25)
    assert assessor.new_rows(["ann", "bob"]) == [0]
    assessor.reset()
    assert assessor.new_rows(["ann", "bob"]) == [0, 1]


def test_an_average_lasts_until_it_is_forgotten():
    config = PipelineConfig(smoother=SmootherConfig(reset_after_s=1.0))
    for forget_s, emotion in ((0.5, "happiness"), (5.0, "anger")):
        assessor = FaceAssessor(config)
        assess(assessor, ["ann"], [""], predicted(HAPPINESS))
        assessor.forget_older(forget_s)
        (face,) = assess(assessor, ["ann"], [""], predicted(ANGER), 0.01)
        assert face.emotion == emotion
