"""The whole road, with the real detector; the network's answers are made up."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fer_ros.align import five_points
from fer_ros.config import (
    DetectorConfig,
    PipelineConfig,
    QualityConfig,
    SmootherConfig,
    TrackerConfig,
)
from fer_ros.detect import DetectorError, make_detector
from fer_ros.labels import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import FaceBoxes, Frame
from fer_ros.weights import ModelError

STAGES = ["detect", "track", "align", "classify", "smooth"]
AT_ONCE = PipelineConfig(tracker=TrackerConfig(min_hits=1))
EYES = [(202, 101), (246, 103.5)]  # of the portrait


class Given:
    """A detector that finds what it is told, whatever the image."""

    def __init__(self, *frames):
        self.frames = list(frames)

    def detect(self, image_rgb):
        return self.frames.pop(0)


def at(*centres, side=60.0, score=0.9):
    """Frontal faces around ``centres``."""
    middle = np.array(centres, np.float32).reshape(-1, 1, 2)
    eyes_nose_mouth = np.array([(-18, -20), (18, -20), (0, 0), (-15, 20), (15, 20)], np.float32)
    corners = np.concatenate([middle - side / 2, middle + side / 2], axis=2)[:, 0]
    scores = np.full(len(middle), score, np.float32)
    return FaceBoxes(corners, scores, middle + eyes_nose_mouth * np.float32(side / 80))


def frame(stamp_s=0.0, height=240, width=320):
    return Frame(np.full((height, width, 3), 90, np.uint8), stamp_s)


@pytest.fixture(scope="module")
def detector():
    return make_detector(DetectorConfig(), threads=1)


@pytest.fixture
def make(fake_classifier):
    """A pipeline of the fake classifier with these detections."""

    def pipeline(*detections, config=AT_ONCE):
        return EmotionPipeline(config, Given(*detections), fake_classifier)

    return pipeline


def test_no_face_is_an_empty_list_with_all_stages(make, fake_classifier):
    result = make(FaceBoxes.empty())(frame(3.5))
    assert (result.faces, result.stamp_s) == ([], 3.5)
    assert list(result.latency_ms) == STAGES
    assert fake_classifier.seen == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (480, 640)])
def test_no_face_in_a_real_picture(detector, fake_classifier, shape):
    pipeline = EmotionPipeline(AT_ONCE, detector, fake_classifier)
    result = pipeline(frame(0.0, *shape))
    assert result.faces == []
    assert list(result.latency_ms) == STAGES
    assert all(spent >= 0 for spent in result.latency_ms.values())


def test_the_portrait(detector, fake_classifier, astronaut):
    pipeline = EmotionPipeline(AT_ONCE, detector, fake_classifier)
    result = pipeline(Frame(astronaut, 1.0))
    (face,) = result.faces
    assert (face.id, face.emotion, face.usable, face.why) == ("f00001", "happiness", True, "")
    np.testing.assert_allclose(face.probabilities, fake_classifier.probabilities, rtol=1e-4)
    np.testing.assert_array_equal(face.raw_probabilities, fake_classifier.probabilities)
    eyes = face.points_xy[36:42].mean(axis=0), face.points_xy[42:48].mean(axis=0)
    np.testing.assert_allclose(eyes, EYES, atol=7)
    assert list(result.latency_ms) == STAGES


def test_the_crop_shows_the_face_upright_and_in_colour(detector, fake_classifier, astronaut):
    """Bright skin between the eyes of the template, whatever the roll of the camera."""
    turned = cv2.warpAffine(astronaut, cv2.getRotationMatrix2D((225, 120), 25, 1.0), (512, 512))
    pipeline = EmotionPipeline(AT_ONCE, detector, fake_classifier)
    pipeline(Frame(astronaut, 0.0))
    pipeline.reset()
    pipeline(Frame(turned, 0.0))
    straight, rolled = (cv2.GaussianBlur(crops[0], (0, 0), 4) for crops in fake_classifier.seen)
    red, green, blue = straight[50, 56].astype(int)
    assert red > green > blue > 100
    middle = np.s_[20:95, 20:92]
    assert np.abs(straight[middle].astype(int) - rolled[middle]).mean() < 12


def test_all_faces_go_through_the_network_at_once(make, fake_classifier):
    result = make(at((50, 60), (150, 120), (250, 180)))(frame())
    assert [crops.shape for crops in fake_classifier.seen] == [(3, 112, 112, 3)]
    assert len({face.id for face in result.faces}) == 3


def test_answers_belong_to_their_faces(make, fake_classifier, monkeypatch):
    """Each crop's answer goes to the face that it shows, whatever the order."""
    image_rgb = np.zeros((240, 320, 3), np.uint8)
    emotions = ["fear", "anger", "sadness"]
    for i in range(3):
        image_rgb[:, 100 * i : 100 * (i + 1)] = 50 * (i + 1)

    def by_brightness(crops_rgb):
        which = np.round(crops_rgb[:, 56, 56, 0] / 50).astype(int) - 1
        indices = [EMOTIONS.index(emotions[i]) for i in which]
        return np.tile(fake_classifier.points_xy, (len(which), 1, 1)), np.eye(8, dtype=np.float32)[
            indices
        ]

    monkeypatch.setattr(fake_classifier, "classify", by_brightness)
    found = at((250, 100), (50, 100), (150, 100))
    found = replace(found, scores=np.array([0.7, 0.8, 0.9], np.float32))
    faces = make(found)(Frame(image_rgb, 0.0)).faces
    assert [face.score for face in faces] == pytest.approx([0.9, 0.8, 0.7])
    read = {round(float(face.box_xyxy[0])): face.emotion for face in faces}
    assert read == {20: "fear", 120: "anger", 220: "sadness"}


def test_landmarks_come_back_in_frame_pixels(make):
    """The made-up face lies on the five points of the detector, at any roll and size."""
    found = at((80, 80), (200, 130), (500, 300))
    turn = np.radians([0, 40, -90])
    sizes = np.array([1.0, 0.4, 5.0])
    rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    nose = found.points_xy[:, 2:3]
    placed = nose + np.einsum("ijn,npj,n->npi", rotation, found.points_xy - nose, sizes)
    found = replace(found, points_xy=placed.astype(np.float32))
    faces = make(found)(frame(0.0, 480, 640)).faces
    for face, points, size in zip(faces, placed, sizes, strict=True):
        np.testing.assert_allclose(five_points(face.points_xy[None])[0], points, atol=2 * size)


def test_a_face_keeps_its_id_and_its_emotion_is_smoothed(make, fake_classifier):
    pipeline = make(*[at((100 + i, 100)) for i in range(10)])
    for i in range(9):
        (face,) = pipeline(frame(i / 15)).faces
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("fear")]
    (face,) = pipeline(frame(9 / 15)).faces
    assert (face.id, face.emotion) == ("f00001", "happiness")
    assert face.raw_probabilities[EMOTIONS.index("fear")] == 1
    assert face.probabilities[EMOTIONS.index("fear")] < 0.5


def test_a_lasting_change_shows_by_the_time_of_the_images(make, fake_classifier):
    pipeline = make(*[at((100, 100))] * 2)
    pipeline(frame(0.0))
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("fear")]
    (face,) = pipeline(frame(0.8)).faces
    assert (face.id, face.emotion) == ("f00001", "fear")


def test_an_unusable_face_keeps_its_smoothed_emotion(make, fake_classifier):
    """What the network says of a face that cannot be read does not count, now or later."""
    config = replace(AT_ONCE, smoother=SmootherConfig(time_constant_s=1.0))
    readable, unsure = at((100, 100)), at((100, 100), score=0.2)
    pipeline = make(*[readable] * 2, *[unsure] * 3, readable, config=config)
    for i in range(2):
        (before,) = pipeline(frame(i / 15)).faces
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("anger")]
    for i in range(2, 5):
        (unread,) = pipeline(frame(i / 15)).faces
        assert (unread.usable, unread.emotion, unread.id) == (False, None, before.id)
        assert unread.why == "unsure detection: score 0.20, need 0.50"
    fake_classifier.probabilities = before.raw_probabilities
    (after,) = pipeline(frame(5 / 15)).faces
    np.testing.assert_allclose(after.probabilities, before.probabilities, rtol=1e-5)
    assert (after.emotion, after.usable, after.why) == ("happiness", True, "")


def test_the_settings_of_quality_are_used(make):
    config = replace(AT_ONCE, quality=QualityConfig(min_size_px=80))
    (face,) = make(at((100, 100)), config=config)(frame()).faces
    assert face.why == "too small: 60 px, need 80"


def test_the_settings_of_smoothing_are_used(make, fake_classifier):
    instant = SmootherConfig(time_constant_s=0.0, min_dwell_s=0.0)
    pipeline = make(*[at((100, 100))] * 2, config=replace(AT_ONCE, smoother=instant))
    pipeline(frame(0.0))
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("anger")]
    assert pipeline(frame(0.01)).faces[0].emotion == "anger"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_fails_gives_faces_that_cannot_be_read(make, fake_classifier, value):
    fake_classifier.points_xy = np.full((68, 2), value, np.float32)
    fake_classifier.probabilities = np.full(8, value, np.float32)
    (face,) = make(at((100, 100)))(frame()).faces
    assert (face.usable, face.emotion) == (False, None)
    assert face.why.startswith("no landmarks")


def test_reset_forgets_faces_and_emotions(make, fake_classifier):
    pipeline = make(at((100, 100)), at((100, 100)))
    (before,) = pipeline(frame(0.0)).faces
    pipeline.reset()
    assert len(pipeline._smoother) == 0
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("anger")]
    (after,) = pipeline(frame(0.1)).faces
    assert before.id != after.id
    assert (before.emotion, after.emotion) == ("happiness", "anger")


def test_lost_faces_are_forgotten(make):
    pipeline = make(at((100, 100)), *[FaceBoxes.empty()] * 30)
    for i in range(31):
        pipeline(frame(i / 10))
    assert len(pipeline._smoother) == 0
    assert pipeline._tracker._tracks == []


@pytest.mark.parametrize("jump_s", [-1000.0, 1000.0])
def test_time_may_jump(make, jump_s):
    pipeline = make(at((100, 100)), at((100, 100)))
    pipeline(frame(5000.0))
    (face,) = pipeline(frame(5000.0 + jump_s)).faces
    assert (face.id, face.emotion) == ("f00002", "happiness")


def test_the_image_stays_as_it_is(detector, fake_classifier, astronaut):
    """The portrait is read-only: writing into it would raise."""
    assert not astronaut.flags.writeable
    assert EmotionPipeline(AT_ONCE, detector, fake_classifier)(Frame(astronaut, 0.0)).faces


def test_a_wrong_detector_is_named(fake_classifier):
    config = PipelineConfig(detector=DetectorConfig(model_path="none.onnx"))
    with pytest.raises(DetectorError, match=r"none\.onnx: no such file"):
        EmotionPipeline(config, classifier=fake_classifier)


def test_a_wrong_model_is_named():
    config = replace(AT_ONCE, classifier=replace(AT_ONCE.classifier, model="two_stream_smal"))
    with pytest.raises(ModelError, match="unknown model 'two_stream_smal'") as caught:
        EmotionPipeline(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("every", "turns"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6])])
def test_the_detector_rests_and_faces_keep_their_ids(make, every, turns):
    config = replace(AT_ONCE, detector=DetectorConfig(every=every))
    pipeline = make(*[at((100, 100), (200, 120))] * len(turns), config=config)
    faces = [pipeline(frame(number / 15)).faces for number in range(7)]
    assert pipeline._detector.frames == []
    assert {tuple(sorted(face.id for face in each)) for each in faces} == {("f00001", "f00002")}


def test_a_face_is_followed_by_its_landmarks(detector, fake_classifier, astronaut):
    """They say that it went to the right, whatever the detector would say."""
    config = replace(AT_ONCE, detector=DetectorConfig(every=2))
    pipeline = EmotionPipeline(config, detector, fake_classifier)
    (first,) = pipeline(Frame(astronaut, 0.0)).faces
    fake_classifier.points_xy = fake_classifier.points_xy + np.float32([10, 0])
    (second,) = pipeline(Frame(astronaut, 1 / 15)).faces
    (third,) = pipeline(Frame(astronaut, 2 / 15)).faces
    (side,) = np.unique((second.box_xyxy - first.box_xyxy)[[0, 2]].round(1))
    assert side > 5
    np.testing.assert_array_equal(third.box_xyxy, first.box_xyxy)
    assert first.id == second.id == third.id
