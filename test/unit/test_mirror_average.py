"""Predictions for new faces: the mean over the crop and its mirror image."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import FakeClassifier

from fer_ros.blendshapes import BLENDSHAPES
from fer_ros.config import PipelineConfig, QualityConfig, TrackerConfig
from fer_ros.crop_pipeline import FaceCrop, FaceCropPipeline
from fer_ros.mirror_average import add_mirrored, average_mirrored
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import FaceDetections, FacePredictions, Frame

LEFT, RIGHT = BLENDSHAPES.index("eyeBlinkLeft"), BLENDSHAPES.index("eyeBlinkRight")


def random_predictions(count, seed=0, blendshapes=True):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(8), count).astype(np.float32).reshape(count, 8)
    shapes = random.random((count, 52), np.float32) if blendshapes else None
    return FacePredictions(random.random((count, 68, 2), np.float32), probabilities, shapes)


@pytest.mark.parametrize(
    ("count", "rows"), [(0, []), (1, []), (1, [0]), (3, [1]), (3, [0, 2]), (3, [0, 1, 2])]
)
def test_mirror_images_of_the_rows_follow_the_crops(count, rows):
    crops = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    batch = add_mirrored(crops, rows)
    assert len(batch) == count + len(rows)
    np.testing.assert_array_equal(batch[:count], crops)
    for place, row in enumerate(rows, start=count):
        np.testing.assert_array_equal(batch[place], crops[row][:, ::-1])


@pytest.mark.parametrize("blendshapes", [True, False])
@pytest.mark.parametrize(("count", "rows"), [(0, []), (2, []), (1, [0]), (3, [0, 2])])
def test_only_the_rows_are_averaged(count, rows, blendshapes):
    predictions = random_predictions(count + len(rows), blendshapes=blendshapes)
    averaged = average_mirrored(predictions, rows)
    assert len(averaged) == count
    np.testing.assert_array_equal(averaged.points_xy, predictions.points_xy[:count])
    expected = predictions.probabilities[:count].copy()
    for place, row in enumerate(rows, start=count):
        expected[row] = (expected[row] + predictions.probabilities[place]) / 2
    np.testing.assert_allclose(averaged.probabilities, expected, rtol=1e-6)
    assert (averaged.blendshapes is None) == (not blendshapes)


def test_sides_of_blendshapes_are_exchanged():
    predictions = random_predictions(2)
    predictions.blendshapes[:] = 0
    predictions.blendshapes[0, LEFT] = predictions.blendshapes[1, RIGHT] = 0.8
    averaged = average_mirrored(predictions, [0])
    assert averaged.blendshapes[0, LEFT] == pytest.approx(0.8)
    assert averaged.blendshapes[0, RIGHT] == 0


def test_the_predictions_given_stay_as_they_are():
    predictions = random_predictions(2)
    before = predictions.probabilities.copy()
    average_mirrored(predictions, [0])
    np.testing.assert_array_equal(predictions.probabilities, before)


class SideReader(FakeClassifier):
    """Happiness where the left half is the brighter one, else anger."""

    def classify(self, crops_rgb):
        predictions = super().classify(crops_rgb)
        is_left = crops_rgb[:, :, :56].mean((1, 2, 3)) > crops_rgb[:, :, 56:].mean((1, 2, 3))
        probabilities = np.zeros((len(crops_rgb), 8), np.float32)
        probabilities[:, 1], probabilities[:, 6] = is_left, ~is_left
        return replace(predictions, probabilities=probabilities)


class Detections:
    """As many faces as ``counts`` says, from frame to frame."""

    def __init__(self, *counts):
        self._counts = list(counts)

    def detect(self, image_rgb):
        points = np.array([(82, 100), (118, 100), (100, 120), (85, 140), (115, 140)], np.float32)
        shifts = 200 * np.arange(self._counts.pop(0), dtype=np.float32)[:, None]
        boxes = np.array([[60, 60, 140, 160]], np.float32) + shifts * np.array([1, 0, 1, 0])
        points = points + np.stack([shifts, 0 * shifts], axis=2)
        return FaceDetections(
            boxes.astype(np.float32), np.full(len(boxes), 0.9, np.float32), points.astype("f4")
        )


def read_frames(counts):
    image = np.full((240, 640, 3), 90, np.uint8)
    image[:, :100] = image[:, 200:300] = 200  # the left halves of both faces
    config = PipelineConfig(tracker=TrackerConfig(min_hits=1), quality=QualityConfig(min_size_px=0))
    pipeline = EmotionPipeline(config, Detections(*counts), SideReader())
    frames = [pipeline(Frame(image, number / 30)) for number in range(len(counts))]
    happiness = [[face.raw_probabilities[1] for face in result.faces] for result in frames]
    return happiness, [len(crops) for crops in pipeline.classifier.seen]


def test_each_face_is_averaged_in_its_first_frame_only():
    happiness, batches = read_frames([0, 1, 1, 2, 2])
    assert batches == [2, 1, 3, 2]
    assert happiness == [[], [0.5], [1.0], [1.0, 0.5], [1.0, 1.0]]


def test_a_forgotten_face_is_new_again():
    config = PipelineConfig(tracker=TrackerConfig(min_hits=1))
    pipeline = EmotionPipeline(config, Detections(1, 1), SideReader())
    for stamp_s in (0.0, 0.1):
        pipeline(Frame(np.full((240, 320, 3), 90, np.uint8), stamp_s))
        pipeline.reset()
    assert [len(crops) for crops in pipeline.classifier.seen] == [2, 2]


def test_a_face_without_a_prediction_yet_stays_new():
    """The batch of its first frame cannot be computed."""

    class Failing(SideReader):
        def classify(self, crops_rgb):
            predictions = super().classify(crops_rgb)
            if len(self.seen) == 1:
                raise RuntimeError("out of memory")
            return predictions

    config = PipelineConfig(tracker=TrackerConfig(min_hits=1))
    pipeline = EmotionPipeline(config, Detections(1, 1), Failing())
    frame = Frame(np.full((240, 320, 3), 90, np.uint8), 0.0)
    with pytest.raises(RuntimeError, match="out of memory"):
        pipeline(frame)
    pipeline(replace(frame, stamp_s=0.1))
    assert [len(crops) for crops in pipeline.classifier.seen] == [2, 2]


def test_crops_of_faces_that_take_turns_are_averaged_once():
    """Another detector may publish the images of its faces one by one."""
    image = np.full((128, 128, 3), 90, np.uint8)
    pipeline = FaceCropPipeline(classifier=FakeClassifier())
    for number, id in enumerate(["anna", "bert", "anna", "bert", "anna"]):
        pipeline([FaceCrop(id, Frame(image, 1 + number / 10))])
    assert [len(crops) for crops in pipeline.classifier.seen] == [1, 2, 1, 2, 1, 1, 1, 1, 1, 1]


def test_crops_of_other_detectors_are_averaged_once():
    image = np.full((128, 128, 3), 90, np.uint8)
    pipeline = FaceCropPipeline(classifier=FakeClassifier())
    for stamp_s in (1.0, 1.1):
        pipeline([FaceCrop("anna", Frame(image, stamp_s))])
    pipeline.reset()
    pipeline([FaceCrop("anna", Frame(image, 1.2))])
    # each time aligned first, by landmarks of the crop as it came
    assert [len(crops) for crops in pipeline.classifier.seen] == [1, 2, 1, 1, 1, 2]
