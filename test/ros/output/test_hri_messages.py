"""A face in the messages of ROS4HRI."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import frontal_points
from ros_tools import header_at

from fer_ros.blendshapes import ACTION_UNITS, BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.ros.output.hri_publishers import (
    EXPRESSION_VALUES,
    expression_names,
    to_action_units,
    to_expression,
    to_landmarks,
    to_region,
)
from fer_ros.ros.parameters import label_names
from fer_ros.types import FaceEmotion

HEADER = header_at(12.5)


def face(emotion="happiness", **shares):
    probabilities = np.array([shares.get(name, 0.0) for name in EMOTIONS], np.float32)
    return FaceEmotion(
        id="f00001",
        box_xyxy=np.array([-10, 20, 50, 300], np.float32),
        score=0.8,
        points_xy=frontal_points(),
        probabilities=probabilities,
        raw_probabilities=probabilities,
        emotion=emotion,
        is_readable=emotion is not None,
        rejection_reason="" if emotion else "too small",
    )


@pytest.mark.parametrize(
    ("label_map", "seen", "says"),
    [
        ("", face(None), None),
        ("", face("happiness", happiness=0.6, neutral=0.4), ("happy", 0.6)),
        ("", face("neutral", happiness=0.6, neutral=0.4), ("neutral", 0.4)),  # the label
        ("", face("contempt", contempt=0.6, anger=0.3, fear=0.1), ("angry", 0.3)),
        ("contempt:annoyed", face("contempt", contempt=0.6, anger=0.4), ("annoyed", 0.6)),
        ("contempt:scorn", face("contempt", contempt=0.6, anger=0.4), ("angry", 0.4)),
        ("fear:horrified", face("fear", fear=0.9), ("horrified", 0.9)),
        ("fear:afraid", face("fear", fear=0.9), ("scared", 0.9)),  # readers know the words only
    ],
)
def test_expressions(label_map, seen, says):
    message = to_expression(seen, HEADER, expression_names(label_names(label_map)))
    if says is None:
        assert message is None
        return
    assert (message.expression, message.confidence) == (says[0], pytest.approx(says[1]))
    assert message.header == HEADER
    assert np.isnan([message.valence, message.arousal]).all()
    assert message.expression in EXPRESSION_VALUES


def test_every_expression_is_defined_by_the_message():
    assert len(EXPRESSION_VALUES) == 25
    assert {*expression_names(label_names("")).values()} <= EXPRESSION_VALUES


def test_a_region_does_not_leave_the_image():
    region = to_region(face(), HEADER, (100, 200))
    edges = [region.xmin, region.ymin, region.xmax, region.ymax]
    np.testing.assert_allclose(edges, [0, 0.2, 0.25, 1], rtol=1e-6)
    assert (region.header, region.c) == (HEADER, pytest.approx(0.8))


@pytest.mark.parametrize(("shut", "sure"), [((), (0.8, 0.8)), ((37, 38, 40, 41), (0, 0.8))])
def test_pupils_are_centered_with_the_confidence_of_eye_openness(shut, sure):
    seen = face()
    seen.points_xy[[*shut], 1] = 40
    message = to_landmarks(seen, HEADER, (160, 200))
    assert (message.header, message.height, message.width) == (HEADER, 160, 200)
    assert len(message.landmarks) == 70
    places = np.array([(point.x * 200, point.y * 160) for point in message.landmarks])
    np.testing.assert_allclose(places[:68], seen.points_xy, atol=1e-4)
    np.testing.assert_allclose(places[68:], [(38, 40), (74, 40)], atol=1e-4)
    assert [point.c for point in message.landmarks[:68]] == pytest.approx([0.8] * 68)
    assert [point.c for point in message.landmarks[68:]] == pytest.approx(sure)


def test_action_units():
    blendshapes = np.zeros(len(BLENDSHAPES), np.float32)
    for name, intensity in (("eyeBlinkLeft", 0.9), ("eyeBlinkRight", 0.7), ("jawOpen", 0.4)):
        blendshapes[BLENDSHAPES.index(name)] = intensity
    message = to_action_units(replace(face(), blendshapes=blendshapes), HEADER)
    assert message.header == HEADER
    assert message.intensity[43] == pytest.approx(0.8)
    assert message.intensity[26] == pytest.approx(0.4)
    measured = np.flatnonzero(message.confidence)
    assert measured.tolist() == sorted(ACTION_UNITS)
    assert message.confidence[43] == pytest.approx(0.8)
    assert np.flatnonzero(message.intensity).tolist() == [26, 43]
