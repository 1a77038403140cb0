"""Emotions are of their image and face while faces enter, cross and leave."""

import numpy as np
import pytest
from scripted import (
    FPS,
    SECONDS,
    ScriptedClassifier,
    ScriptedDetector,
    random_walkers,
    render,
    visible_boxes,
)

from fer_ros.config import PipelineConfig, TrackerConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame

STAMPS_S = np.arange(0, SECONDS, 1 / FPS).tolist()


def check_scene(seed, stamps_s):
    """How often each walker was seen; every answer is checked against the image."""
    walkers = random_walkers(seed)
    config = PipelineConfig(tracker=TrackerConfig(min_hits=1))
    pipeline = EmotionPipeline(config, ScriptedDetector(), ScriptedClassifier())
    number_of, count = {}, [0] * len(walkers)
    for stamp_s in stamps_s:
        image_rgb = render(walkers, stamp_s)
        result = pipeline(Frame(image_rgb, stamp_s))
        there = {box: number for number, box in visible_boxes(image_rgb).items()}
        assert result.stamp_s == stamp_s
        for face in result.faces:
            number = there.pop(tuple(face.box_xyxy.astype(int).tolist()))
            shown = walkers[number].emotion
            assert EMOTIONS[face.raw_probabilities.argmax()] == face.emotion == shown
            assert face.probabilities.max() > 0.99  # nothing of another face is left in it
            assert number_of.setdefault(face.id, number) == number
            count[number] += 1
        assert there == {}
    return count


def test_a_scene_without_people_has_no_faces():
    assert check_scene(0, []) == [0] * 10


@pytest.mark.parametrize("seed", range(8))
def test_emotions_belong_to_crossing_faces(seed):
    assert min(check_scene(seed, STAMPS_S)) > 10


@pytest.mark.parametrize("stall", [(30, 36), (30, 75)])
def test_after_a_stall_the_newest_image_is_processed(stall):
    """Where the frames of some time are missing, also so long that all faces are new."""
    begin, end = stall
    check_scene(1, STAMPS_S[:begin] + STAMPS_S[end:])
