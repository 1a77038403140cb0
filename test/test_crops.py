"""Faces that somebody else cut out."""

import numpy as np
import pytest
from conftest import FakeClassifier, frontal_points

from fer_ros.config import PipelineConfig, QualityConfig, SmootherConfig, TrackerConfig
from fer_ros.crops import CropPipeline, FaceCrop
from fer_ros.labels import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from fer_ros.portrait import portrait
from fer_ros.types import Frame


def crop(name="anna", picture=None, stamp_s=1.0):
    if picture is None:
        picture = np.random.default_rng(7).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    return FaceCrop(name, Frame(picture, stamp_s))


@pytest.fixture
def pipeline(fake_classifier):
    return CropPipeline(classifier=fake_classifier)


def test_no_crops(pipeline):
    faces, latency_ms = pipeline([])
    assert faces == []
    assert list(latency_ms) == ["align", "classify", "smooth"]


def test_all_go_through_the_network_at_once_and_twice(pipeline):
    faces, _ = pipeline([crop("anna"), crop("bert"), crop("cleo")])
    assert [face.id for face in faces] == ["anna", "bert", "cleo"]
    assert [len(seen) for seen in pipeline.classifier.seen] == [3, 3]
    assert {face.emotion for face in faces} == {"happiness"}


@pytest.mark.parametrize("size_hw", [(112, 112), (128, 128), (300, 300), (128, 64), (1, 1)])
def test_places_are_those_of_the_crop(fake_classifier, size_hw):
    """The fake network sees the same points in both looks: in the middle of the picture."""
    height, width = size_hw
    pipeline = CropPipeline(
        PipelineConfig(quality=QualityConfig(min_size_px=0)), classifier=fake_classifier
    )
    (face,), _ = pipeline([crop(picture=np.zeros((height, width, 3), np.uint8))])
    assert face.box_xyxy.tolist() == [0, 0, width, height]
    scale, middle = max(size_hw) / 112, np.array([width - 1, height - 1]) / 2
    expected = (frontal_points() - 55.5) * scale + middle
    assert np.abs(face.points_xy - expected).max() < 3 * scale  # the template is not quite it


class Lost(FakeClassifier):
    """Sees no landmarks at the first look."""

    def classify(self, crops_rgb):
        points_xy, probabilities = super().classify(crops_rgb)
        if len(self.seen) == 1:
            points_xy = np.full_like(points_xy, np.nan)
        return points_xy, probabilities


def test_without_landmarks_the_picture_stays_as_it_came():
    pipeline = CropPipeline(classifier=Lost())
    (face,), _ = pipeline([crop()])
    first, second = pipeline.classifier.seen
    assert np.abs(first.astype(int) - second).max() <= 1
    assert face.emotion == "happiness"


def test_a_face_that_cannot_be_read_has_a_reason(fake_classifier):
    config = PipelineConfig(quality=QualityConfig(min_size_px=500))
    (face,), _ = CropPipeline(config, fake_classifier)([crop()])
    assert (face.emotion, face.why) == (None, "too small: 128 px, need 500")


def test_emotions_are_smoothed_for_each_face(pipeline):
    pipeline([crop("anna", stamp_s=1.0)])
    pipeline.classifier.probabilities = np.roll(pipeline.classifier.probabilities, 1)
    (anna, bert), _ = pipeline([crop("anna", stamp_s=1.01), crop("bert", stamp_s=1.01)])
    assert (anna.emotion, bert.emotion) == ("happiness", "sadness")
    pipeline.reset()
    (anna,), _ = pipeline([crop("anna", stamp_s=1.02)])
    assert anna.emotion == "sadness"


def test_thresholds_can_change(pipeline):
    pipeline.reconfigure(PipelineConfig(quality=QualityConfig(min_size_px=500)))
    (face,), _ = pipeline([crop()])
    assert not face.usable


def test_a_crop_is_read_like_the_frame_that_it_is_of(astronaut):
    """By the model that is shipped, its landmarks within 3 % of the distance of the eyes."""
    config = PipelineConfig(
        tracker=TrackerConfig(min_hits=1), smoother=SmootherConfig(time_constant_s=0)
    )
    whole = EmotionPipeline(config)
    (wanted,) = whole(Frame(astronaut, 1.0)).faces
    picture = portrait(astronaut, wanted.box_xyxy, 128)
    (face,), _ = CropPipeline(config, whole.classifier)([crop(picture=picture)])
    low, high = wanted.box_xyxy[:2], wanted.box_xyxy[2:]
    side = (high - low).max()
    points_xy = face.points_xy * side / 128 + (low + high - side) / 2
    eyes_px = np.linalg.norm(wanted.points_xy[45] - wanted.points_xy[36])
    off = np.linalg.norm(points_xy - wanted.points_xy, axis=1) / eyes_px
    assert off.mean() < 0.03
    assert face.emotion == wanted.emotion == "happiness"
    shift = np.abs(face.raw_probabilities - wanted.raw_probabilities)
    assert shift.max() < 0.1, dict(zip(EMOTIONS, shift, strict=True))
