"""Several cameras with one network, classified in one batch."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import FakeClassifier

from fer_ros.config import (
    DetectorConfig,
    PipelineConfig,
    QualityConfig,
    SmootherConfig,
    TrackerConfig,
)
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import FaceDetections, Frame

SETTINGS = PipelineConfig(tracker=TrackerConfig(min_hits=1))
CAMERAS = ("front", "rear", "left")
SCORE = 0.9


class Counter:
    """A detector that finds as many faces as the first pixel says, in one row; 99: it fails.

    All faces have the same score; none is found where the threshold is higher.
    """

    config = DetectorConfig()

    def detect(self, image_rgb):
        count = int(image_rgb[0, 0, 0])
        if count == 99:
            raise RuntimeError("out of memory")
        count *= self.config.score_threshold <= SCORE
        lefts = 60.0 * np.arange(count)
        boxes = np.stack([lefts, 0 * lefts, lefts + 50, 0 * lefts + 50], axis=1)
        points = np.array([(10, 15), (40, 15), (25, 30), (12, 42), (38, 42)])
        return FaceDetections(
            boxes.astype(np.float32).reshape(-1, 4),
            np.full(count, SCORE, np.float32),
            (boxes[:, None, :2] + points).astype(np.float32),
        )


def frame(count, stamp_s=1.0, shade=0):
    image_rgb = np.full((60, 240, 3), shade, np.uint8)
    image_rgb[0, 0] = count
    return Frame(image_rgb, stamp_s)


class Network(FakeClassifier):
    """Is as sure of happiness as a crop is bright, so that predictions cannot be mixed up."""

    def classify(self, crops_rgb):
        predictions = super().classify(crops_rgb)
        predictions.probabilities[:, 1] = crops_rgb[:, 56, 56, 0] / 255
        return predictions


def make(network=None):
    return MultiCameraPipeline(CAMERAS, SETTINGS, Counter(), network or Network())


@pytest.mark.parametrize(
    ("counts", "batches"),
    [
        ({}, []),
        ({"front": 0}, []),
        ({"front": 2}, [2 * 2]),
        ({"front": 0, "rear": 0}, []),
        ({"front": 0, "rear": 2}, [2 * 2]),
        ({"front": 1, "rear": 2, "left": 3}, [2 * 6]),
    ],
)
def test_all_faces_go_through_the_network_at_once(counts, batches):
    """Twice as many crops as faces: new ones are averaged with their mirror images."""
    network = Network()
    results = make(network)({name: frame(count) for name, count in counts.items()})
    assert {name: len(result.faces) for name, result in results.items()} == counts
    assert [len(crops) for crops in network.seen] == batches


def test_each_camera_has_the_results_of_a_single_camera():
    """Over frames, with other faces on each and one that is left out now and then."""
    together = make()
    alone = {name: EmotionPipeline(SETTINGS, Counter(), Network()) for name in CAMERAS}
    random = np.random.default_rng(4)
    for step in range(20):
        frames = {
            name: frame(random.integers(4), step / 10, random.integers(60, 256))
            for name in CAMERAS
            if random.random() < 0.7
        }
        for name, result in together(frames).items():
            expected = alone[name](frames[name])
            assert [face.id for face in result.faces] == [face.id for face in expected.faces]
            for face, other in zip(result.faces, expected.faces, strict=True):
                np.testing.assert_array_equal(face.probabilities, other.probabilities)
                np.testing.assert_array_equal(face.points_xy, other.points_xy)
            assert result.latency_ms.keys() == expected.latency_ms.keys()


def test_a_failing_image_does_not_affect_the_others():
    results = make()({"front": frame(99), "rear": frame(1)})
    assert results["front"].error == "out of memory"
    assert len(results["rear"].faces) == 1


class Broken(Network):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def classify(self, crops_rgb):
        if self.error:
            raise self.error
        return super().classify(crops_rgb)


def test_a_failing_network_fails_the_images_of_the_batch():
    network = Broken(RuntimeError("out of memory"))
    pipeline = make(network)
    for names in (["front"], ["front", "rear"]):
        results = pipeline({name: frame(1) for name in names})
        assert {name: result.error for name, result in results.items()} == dict.fromkeys(
            names, "out of memory"
        )
    network.error = None
    results = pipeline({name: frame(1, 1.1) for name in CAMERAS})
    assert [len(result.faces) for result in results.values()] == [1, 1, 1]


def test_a_failing_network_does_not_affect_images_without_faces():
    results = make(Broken(RuntimeError("out of memory")))({"front": frame(1), "rear": frame(0)})
    assert results["front"].error == "out of memory"
    assert results["rear"].faces == []


def test_unexpected_errors_propagate():
    with pytest.raises(KeyError, match="odd"):
        make(Broken(KeyError("odd")))({"front": frame(1), "rear": frame(1)})


@pytest.mark.parametrize("config", [None, {}, "two_stream_small"])
def test_settings_of_another_type_are_rejected(config):
    says = f"config: expected a PipelineConfig, found {type(config).__name__}"
    with pytest.raises(TypeError, match=says):
        EmotionPipeline(config)
    with pytest.raises(TypeError, match=says):
        make().reconfigure(config)


def test_an_image_without_a_stamp_is_no_frame():
    pipeline = EmotionPipeline(SETTINGS, Counter(), Network())
    with pytest.raises(TypeError, match="frame: expected a Frame, found ndarray"):
        pipeline(frame(1).image_rgb)


def test_faces_of_one_camera_are_forgotten():
    pipeline = make()
    frames = {"front": frame(1), "rear": frame(1)}
    before = pipeline(frames)
    pipeline.reset("rear")
    after = pipeline({name: frame(1, 1.1) for name in frames})
    is_same = {
        name: before[name].faces[0].id == after[name].faces[0].id for name in ("front", "rear")
    }
    assert is_same == {"front": True, "rear": False}


def test_reconfigure_applies_to_all_cameras():
    pipeline = make()
    pipeline.reconfigure(PipelineConfig(quality=QualityConfig(min_size_px=500)))
    results = pipeline({name: frame(1) for name in CAMERAS})
    assert [result.faces for result in results.values()] == [[]] * 3  # min_hits is 2 again
    results = pipeline({name: frame(1, 1.1) for name in CAMERAS})
    assert [result.faces[0].is_readable for result in results.values()] == [False] * 3


def test_reconfigure_applies_to_the_next_detection_of_all_cameras():
    pipeline = make()
    for step, (threshold, count) in enumerate([(0.5, 1), (0.95, 0), (0.85, 1)]):
        detector = DetectorConfig(score_threshold=threshold)
        pipeline.reconfigure(replace(SETTINGS, detector=detector))
        results = pipeline({name: frame(1, 1 + step / 10) for name in CAMERAS})
        assert [len(result.faces) for result in results.values()] == [count] * 3


@pytest.mark.parametrize(("time_constant_s", "follows"), [(0.0, True), (60.0, False)])
def test_reconfigure_applies_to_the_next_average_of_all_cameras(time_constant_s, follows):
    """Over 1/10 s: without smoothing a face has the new probabilities, else about the old ones."""
    pipeline = make()
    before = pipeline({name: frame(1, 1.0, 60) for name in CAMERAS})
    pipeline.reconfigure(replace(SETTINGS, smoother=SmootherConfig(time_constant_s)))
    after = pipeline({name: frame(1, 1.1, 250) for name in CAMERAS})
    for name in CAMERAS:
        (old,), (new,) = before[name].faces, after[name].faces
        assert new.is_readable
        raw = (new if follows else old).raw_probabilities
        np.testing.assert_allclose(new.probabilities, raw / raw.sum(), atol=1e-3)
