"""Faces that were cropped elsewhere."""

import numpy as np
import pytest
from conftest import FakeClassifier, frontal_points

from fer_ros.config import PipelineConfig, QualityConfig, SmootherConfig, TrackerConfig
from fer_ros.crop_pipeline import FaceCrop, FaceCropPipeline
from fer_ros.emotions import EMOTIONS
from fer_ros.face_images import crop_face_square
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame


def crop(name="anna", image=None, stamp_s=1.0):
    if image is None:
        image = np.random.default_rng(7).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    return FaceCrop(name, Frame(image, stamp_s))


@pytest.fixture
def pipeline(fake_classifier):
    return FaceCropPipeline(classifier=fake_classifier)


def test_no_crops(pipeline):
    faces, latency_ms = pipeline([])
    assert faces == []
    assert list(latency_ms) == ["align", "classify", "smooth"]


def test_all_crops_are_classified_in_one_batch_twice(pipeline):
    faces, _ = pipeline([crop("anna"), crop("bert"), crop("cleo")])
    assert [face.id for face in faces] == ["anna", "bert", "cleo"]
    assert [len(seen) for seen in pipeline.classifier.seen] == [3, 2 * 3]
    assert {face.emotion for face in faces} == {"happiness"}


@pytest.mark.parametrize("size_hw", [(112, 112), (128, 128), (300, 300), (128, 64), (1, 1)])
def test_coordinates_are_in_crop_pixels(fake_classifier, size_hw):
    """The fake network sees the same points in both looks: in the middle of the image."""
    height, width = size_hw
    pipeline = FaceCropPipeline(
        PipelineConfig(quality=QualityConfig(min_size_px=0)), classifier=fake_classifier
    )
    (face,), _ = pipeline([crop(image=np.zeros((height, width, 3), np.uint8))])
    assert face.box_xyxy.tolist() == [0, 0, width, height]
    scale, middle = max(size_hw) / 112, np.array([width - 1, height - 1]) / 2
    expected = (frontal_points() - 55.5) * scale + middle
    assert np.abs(face.points_xy - expected).max() < 3 * scale  # the template is not quite it


class NoLandmarks(FakeClassifier):
    """Finds no landmarks in the first pass."""

    def classify(self, crops_rgb):
        predictions = super().classify(crops_rgb)
        if len(self.seen) == 1:
            predictions.points_xy[:] = np.nan
        return predictions


def test_without_landmarks_the_crop_is_used_as_is():
    pipeline = FaceCropPipeline(classifier=NoLandmarks())
    (face,), _ = pipeline([crop()])
    first, second = pipeline.classifier.seen
    assert np.abs(first.astype(int) - second[:1]).max() <= 1
    assert face.emotion == "happiness"


def test_a_face_that_cannot_be_read_has_a_reason(fake_classifier):
    config = PipelineConfig(quality=QualityConfig(min_size_px=500))
    (face,), _ = FaceCropPipeline(config, fake_classifier)([crop()])
    assert (face.emotion, face.rejection_reason) == (None, "too small: 128 px, minimum 500")


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
    assert not face.is_readable


def test_a_crop_gives_the_same_emotion_as_its_frame(astronaut):
    """By the model that is shipped, its landmarks within 3% of the distance of the eyes."""
    config = PipelineConfig(
        tracker=TrackerConfig(min_hits=1), smoother=SmootherConfig(time_constant_s=0)
    )
    frame_pipeline = EmotionPipeline(config)
    (expected_value,) = frame_pipeline(Frame(astronaut, 1.0)).faces
    image = crop_face_square(astronaut, expected_value.box_xyxy, 128)
    (face,), _ = FaceCropPipeline(config, frame_pipeline.classifier)([crop(image=image)])
    low, high = expected_value.box_xyxy[:2], expected_value.box_xyxy[2:]
    side = (high - low).max()
    points_xy = face.points_xy * side / 128 + (low + high - side) / 2
    eyes_px = np.linalg.norm(expected_value.points_xy[45] - expected_value.points_xy[36])
    off = np.linalg.norm(points_xy - expected_value.points_xy, axis=1) / eyes_px
    assert off.mean() < 0.03
    assert face.emotion == expected_value.emotion == "happiness"
    shift = np.abs(face.raw_probabilities - expected_value.raw_probabilities)
    assert shift.max() < 0.1, dict(zip(EMOTIONS, shift, strict=True))
