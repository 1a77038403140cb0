"""Emotions are those of their picture and of their face, whoever comes, crosses and goes."""

import numpy as np
import pytest
from scripted import FPS, SECONDS, Eyes, Reader, picture, seen, street

from fer_ros.config import PipelineConfig, TrackerConfig
from fer_ros.labels import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame

STAMPS_S = np.arange(0, SECONDS, 1 / FPS).tolist()


def check_street(seed, stamps_s):
    """How often each walker was seen; every answer is checked against the picture."""
    walkers = street(seed)
    config = PipelineConfig(tracker=TrackerConfig(min_hits=1))
    pipeline = EmotionPipeline(config, Eyes(), Reader())
    number_of, count = {}, [0] * len(walkers)
    for stamp_s in stamps_s:
        image_rgb = picture(walkers, stamp_s)
        result = pipeline(Frame(image_rgb, stamp_s))
        there = {box: number for number, box in seen(image_rgb).items()}
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


def test_an_empty_street():
    assert check_street(0, []) == [0] * 10


@pytest.mark.parametrize("seed", range(8))
def test_who_comes_crosses_and_goes(seed):
    assert min(check_street(seed, STAMPS_S)) > 10


@pytest.mark.parametrize("stall", [(30, 36), (30, 75)])
def test_after_a_stall(stall):
    """Where the frames of some time are missing, also so long that all faces are new."""
    begin, end = stall
    check_street(1, STAMPS_S[:begin] + STAMPS_S[end:])
