"""The whole pipeline, with the real detector; the network's predictions are made up."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fer_ros.alignment import alignment_points
from fer_ros.config import DetectorConfig, PipelineConfig, QualityConfig, SmootherConfig
from fer_ros.detector import DetectorError, make_detector
from fer_ros.emotions import EMOTIONS
from fer_ros.inference.model_store import ModelError
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import FaceDetections, FacePredictions, Frame

STAGES = ["detect", "track", "align", "classify", "smooth"]
AT_ONCE = PipelineConfig().for_still_images()
EYES = [(202, 101), (246, 103.5)]  # of the portrait


class Given:
    """A detector with given results for any image."""

    def __init__(self, *frames):
        self.frames = list(frames)

    def detect(self, image_rgb):
        return self.frames.pop(0)


def at(*centers, side=60.0, score=0.9):
    """Frontal faces around ``centers``."""
    middle = np.array(centers, np.float32).reshape(-1, 1, 2)
    eyes_nose_mouth = np.array([(-18, -20), (18, -20), (0, 0), (-15, 20), (15, 20)], np.float32)
    corners = np.concatenate([middle - side / 2, middle + side / 2], axis=2)[:, 0]
    scores = np.full(len(middle), score, np.float32)
    return FaceDetections(corners, scores, middle + eyes_nose_mouth * np.float32(side / 80))


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
    result = make(FaceDetections.empty())(frame(3.5))
    assert (result.faces, result.stamp_s) == ([], 3.5)
    assert list(result.latency_ms) == STAGES
    assert fake_classifier.seen == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (480, 640)])
def test_a_real_image_without_a_face_has_no_result(detector, fake_classifier, shape):
    pipeline = EmotionPipeline(AT_ONCE, detector, fake_classifier)
    result = pipeline(frame(0.0, *shape))
    assert result.faces == []
    assert list(result.latency_ms) == STAGES
    assert all(spent >= 0 for spent in result.latency_ms.values())


def test_a_portrait_has_one_smiling_face(detector, fake_classifier, astronaut):
    pipeline = EmotionPipeline(AT_ONCE, detector, fake_classifier)
    result = pipeline(Frame(astronaut, 1.0))
    (face,) = result.faces
    assert (face.id, face.emotion, face.is_readable, face.rejection_reason) == (
        "f00001",
        "happiness",
        True,
        "",
    )
    np.testing.assert_allclose(face.probabilities, fake_classifier.probabilities, rtol=1e-4)
    np.testing.assert_array_equal(face.raw_probabilities, fake_classifier.probabilities)
    eyes = face.points_xy[36:42].mean(axis=0), face.points_xy[42:48].mean(axis=0)
    np.testing.assert_allclose(eyes, EYES, atol=7)
    assert list(result.latency_ms) == STAGES


@pytest.mark.parametrize(("config", "count"), [(PipelineConfig(), 0), (AT_ONCE, 1)])
def test_one_still_image_gives_its_face(config, count, detector, fake_classifier, astronaut):
    result = EmotionPipeline(config, detector, fake_classifier)(Frame(astronaut, 0.0))
    assert [face.emotion for face in result.faces] == ["happiness"] * count


def test_the_crop_shows_the_face_upright_and_in_color(detector, fake_classifier, astronaut):
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
    assert [crops.shape for crops in fake_classifier.seen] == [(2 * 3, 112, 112, 3)]
    assert len({face.id for face in result.faces}) == 3


def test_predictions_belong_to_their_faces(make, fake_classifier, monkeypatch):
    """Each crop's result goes to the face that it shows, whatever the order."""
    image_rgb = np.zeros((240, 320, 3), np.uint8)
    emotions = ["fear", "anger", "sadness"]
    for i in range(3):
        image_rgb[:, 100 * i : 100 * (i + 1)] = 50 * (i + 1)

    def by_brightness(crops_rgb):
        which = np.round(crops_rgb[:, 56, 56, 0] / 50).astype(int) - 1
        indices = [EMOTIONS.index(emotions[i]) for i in which]
        points_xy = np.tile(fake_classifier.points_xy, (len(which), 1, 1))
        return FacePredictions(points_xy, np.eye(8, dtype=np.float32)[indices])

    monkeypatch.setattr(fake_classifier, "classify", by_brightness)
    detections = at((250, 100), (50, 100), (150, 100))
    detections = replace(detections, scores=np.array([0.7, 0.8, 0.9], np.float32))
    faces = make(detections)(Frame(image_rgb, 0.0)).faces
    assert [face.score for face in faces] == pytest.approx([0.9, 0.8, 0.7])
    read = {round(float(face.box_xyxy[0])): face.emotion for face in faces}
    assert read == {20: "fear", 120: "anger", 220: "sadness"}


def test_landmarks_are_in_frame_pixels(make):
    """The made-up face lies on the five points of the detector, at any roll and size."""
    detections = at((80, 80), (200, 130), (500, 300))
    turn = np.radians([0, 40, -90])
    sizes = np.array([1.0, 0.4, 5.0])
    rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    nose = detections.points_xy[:, 2:3]
    placed = nose + np.einsum("ijn,npj,n->npi", rotation, detections.points_xy - nose, sizes)
    detections = replace(detections, points_xy=placed.astype(np.float32))
    faces = make(detections)(frame(0.0, 480, 640)).faces
    for face, points, size in zip(faces, placed, sizes, strict=True):
        np.testing.assert_allclose(alignment_points(face.points_xy[None])[0], points, atol=2 * size)


def test_a_face_keeps_its_id_and_its_emotion_is_smoothed(make, fake_classifier):
    pipeline = make(*[at((100 + i, 100)) for i in range(10)])
    for i in range(9):
        (face,) = pipeline(frame(i / 15)).faces
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("fear")]
    (face,) = pipeline(frame(9 / 15)).faces
    assert (face.id, face.emotion) == ("f00001", "happiness")
    assert face.raw_probabilities[EMOTIONS.index("fear")] == 1
    assert face.probabilities[EMOTIONS.index("fear")] < 0.5


def test_a_label_change_follows_the_image_stamps(make, fake_classifier):
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
        assert (unread.is_readable, unread.emotion, unread.id) == (False, None, before.id)
        assert unread.rejection_reason == "low detection score: 0.20, minimum 0.50"
    fake_classifier.probabilities = before.raw_probabilities
    (after,) = pipeline(frame(5 / 15)).faces
    np.testing.assert_allclose(after.probabilities, before.probabilities, rtol=1e-5)
    assert (after.emotion, after.is_readable, after.rejection_reason) == ("happiness", True, "")


def test_quality_settings_are_applied(make):
    config = replace(AT_ONCE, quality=QualityConfig(min_size_px=80))
    (face,) = make(at((100, 100)), config=config)(frame()).faces
    assert face.rejection_reason == "too small: 60 px, minimum 80"


def test_smoother_settings_are_applied(make, fake_classifier):
    instant = SmootherConfig(time_constant_s=0.0, min_label_duration_s=0.0)
    pipeline = make(*[at((100, 100))] * 2, config=replace(AT_ONCE, smoother=instant))
    pipeline(frame(0.0))
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("anger")]
    assert pipeline(frame(0.01)).faces[0].emotion == "anger"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_invalid_network_outputs_give_unreadable_faces(make, fake_classifier, value):
    fake_classifier.points_xy = np.full((68, 2), value, np.float32)
    fake_classifier.probabilities = np.full(8, value, np.float32)
    (face,) = make(at((100, 100)))(frame()).faces
    assert (face.is_readable, face.emotion) == (False, None)
    assert face.rejection_reason == "no probabilities: the network output is not finite"


def test_reset_forgets_faces_and_emotions(make, fake_classifier):
    pipeline = make(at((100, 100)), at((100, 100)))
    (before,) = pipeline(frame(0.0)).faces
    pipeline.reset()
    assert pipeline.live_ids == []
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("anger")]
    (after,) = pipeline(frame(0.1)).faces
    assert before.id != after.id
    assert (before.emotion, after.emotion) == ("happiness", "anger")


def test_lost_faces_are_forgotten(make):
    pipeline = make(at((100, 100)), *[FaceDetections.empty()] * 30)
    for i in range(31):
        pipeline(frame(i / 10))
    assert pipeline.live_ids == []


@pytest.mark.parametrize("jump_s", [-1000.0, 1000.0])
def test_a_stamp_jump_starts_a_new_stream(make, jump_s):
    pipeline = make(at((100, 100)), at((100, 100)))
    pipeline(frame(5000.0))
    (face,) = pipeline(frame(5000.0 + jump_s)).faces
    assert (face.id, face.emotion) == ("f00002", "happiness")


def test_the_image_is_not_modified(detector, fake_classifier, astronaut):
    """The portrait is read-only: writing into it would raise."""
    assert not astronaut.flags.writeable
    assert EmotionPipeline(AT_ONCE, detector, fake_classifier)(Frame(astronaut, 0.0)).faces


def test_an_invalid_detector_is_reported(fake_classifier):
    config = PipelineConfig(detector=DetectorConfig(model_path="none.onnx"))
    with pytest.raises(DetectorError, match=r"detector\.model_path: none\.onnx: no such file"):
        EmotionPipeline(config, classifier=fake_classifier)


def test_an_invalid_model_is_reported():
    config = replace(AT_ONCE, classifier=replace(AT_ONCE.classifier, model="two_stream_smal"))
    with pytest.raises(ModelError, match="unknown model 'two_stream_smal'") as caught:
        EmotionPipeline(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("every", "turns"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6])])
def test_the_detector_skips_frames_and_faces_keep_their_ids(fake_classifier, every, turns):
    config = replace(AT_ONCE, detector=DetectorConfig(interval=every))
    detector = Given(*[at((100, 100), (200, 120))] * len(turns))
    pipeline = EmotionPipeline(config, detector, fake_classifier)
    faces = [pipeline(frame(number / 15)).faces for number in range(7)]
    assert detector.frames == []
    assert {tuple(sorted(face.id for face in frame_faces)) for frame_faces in faces} == {
        ("f00001", "f00002")
    }


def test_a_face_is_propagated_by_its_landmarks(detector, fake_classifier, astronaut):
    """They say that it went to the right, whatever the detector would say."""
    config = replace(AT_ONCE, detector=DetectorConfig(input_size_px=320, interval=2))
    pipeline = EmotionPipeline(config, detector, fake_classifier)
    (first,) = pipeline(Frame(astronaut, 0.0)).faces
    fake_classifier.points_xy = fake_classifier.points_xy + np.float32([10, 0])
    (second,) = pipeline(Frame(astronaut, 1 / 15)).faces
    (third,) = pipeline(Frame(astronaut, 2 / 15)).faces
    (side,) = np.unique((second.box_xyxy - first.box_xyxy)[[0, 2]].round(1))
    assert side > 5
    np.testing.assert_array_equal(third.box_xyxy, first.box_xyxy)
    assert first.id == second.id == third.id


@pytest.mark.parametrize(("side", "score"), [(20.0, 0.9), (60.0, 0.3)])
def test_a_face_that_is_too_small_or_uncertain_costs_no_inference(
    make, fake_classifier, side, score
):
    result = make(at((100, 100), side=side, score=score))(frame())
    (face,) = result.faces
    assert fake_classifier.seen == []
    assert (face.is_classified, face.is_readable, face.emotion) == (False, False, None)
    assert np.isnan(face.points_xy).all()
    assert np.isnan(face.probabilities).all()
    assert list(result.latency_ms) == STAGES


def test_only_the_faces_that_pass_go_through_the_network(make, fake_classifier):
    sides = np.array([[60.0], [10.0], [60.0]], np.float32)
    detections = at((50, 60), (150, 120), (250, 180), side=sides[:, None])
    faces = make(replace(detections, scores=np.array([0.9, 0.8, 0.7], np.float32)))(frame()).faces
    assert [len(crops) for crops in fake_classifier.seen] == [2 * 2]
    assert [face.emotion for face in faces] == ["happiness", None, "happiness"]
    assert faces[1].rejection_reason == "too small: 10 px, minimum 24"


def test_confidence_is_the_probability_of_the_published_emotion(make, fake_classifier):
    pipeline = make(*[at((100, 100))] * 2, at((100, 100), score=0.1))
    pipeline(frame(0.0))
    fake_classifier.probabilities = np.eye(8, dtype=np.float32)[EMOTIONS.index("anger")]
    (face,) = pipeline(frame(0.2)).faces
    assert face.emotion == "happiness"  # held back by hysteresis
    assert face.confidence == face.probabilities[EMOTIONS.index("happiness")]
    assert pipeline(frame(0.3)).faces[0].confidence == 0


FEAR = np.eye(8, dtype=np.float32)[EMOTIONS.index("fear")]


def labels_after_a_change(make, fake_classifier, stamps_s, arrivals_s=None):
    """Ids and labels of one face that changes from happiness to fear after the tenth image."""
    pipeline = make(*[at((100, 100))] * len(stamps_s))
    faces = []
    for i, stamp_s in enumerate(stamps_s):
        if i == 10:
            fake_classifier.probabilities = FEAR
        image = frame(0.0).image_rgb
        arrival_s = None if arrivals_s is None else arrivals_s[i]
        faces += pipeline(Frame(image, stamp_s, arrival_s)).faces
    return {face.id for face in faces}, [face.emotion for face in faces]


ARRIVALS_S = 5e8 + np.arange(30) / 15
STAMPS_S = 1000 + np.arange(30) / 15


@pytest.mark.parametrize(
    ("stamps_s", "ids"),
    [
        pytest.param(STAMPS_S, 1, id="regular"),
        pytest.param(np.zeros(30), 1, id="no stamps"),
        pytest.param(np.where(np.arange(30) % 7 == 3, 0, STAMPS_S), 1, id="some without"),
        pytest.param(np.where(np.arange(30) >= 8, STAMPS_S - 0.6, STAMPS_S), 1, id="NTP step"),
        pytest.param(np.arange(30) / 15, 1, id="simulation from zero"),
        pytest.param(
            np.where((np.arange(30) > 5) & (np.arange(30) < 9), STAMPS_S + 5, STAMPS_S),
            3,
            id="ahead by 5 s and back",
        ),
    ],
)
def test_the_label_follows_the_face_whatever_the_stamps(make, fake_classifier, stamps_s, ids):
    named, labels = labels_after_a_change(make, fake_classifier, stamps_s, ARRIVALS_S)
    assert (len(named), len(labels)) == (ids, 30)
    assert (labels[0], labels[9]) == ("happiness", "happiness")
    assert set(labels[18:]) == {"fear"}


def test_images_two_and_a_half_seconds_apart_have_faces(make):
    pipeline = make(*[at((100, 100))] * 10, config=PipelineConfig())
    counts = [len(pipeline(frame(1000 + 2.5 * i)).faces) for i in range(10)]
    assert counts == [0, 0] + [1] * 8


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_camera_finds_the_same_face_in_pixels_of_its_image(
    detector, fake_classifier, astronaut, degrees
):
    upright = np.ascontiguousarray(astronaut[:, 40:])  # not square
    (expected,) = EmotionPipeline(AT_ONCE, detector, fake_classifier)(Frame(upright, 0.0)).faces
    turned = np.ascontiguousarray(np.rot90(upright, degrees // 90))  # counterclockwise
    config = replace(AT_ONCE, image_rotation=degrees)
    (face,) = EmotionPipeline(config, detector, fake_classifier)(Frame(turned, 0.0)).faces
    np.testing.assert_allclose(
        mean_color(turned, face.box_xyxy), mean_color(upright, expected.box_xyxy), atol=1
    )
    for eye in (range(36, 42), range(42, 48)):
        np.testing.assert_array_equal(
            color_at(turned, face.points_xy[list(eye)]),
            color_at(upright, expected.points_xy[list(eye)]),
        )


def mean_color(image_rgb, box_xyxy):
    left, top, right, bottom = box_xyxy.round().astype(int)
    return image_rgb[top:bottom, left:right].mean(axis=(0, 1))


def color_at(image_rgb, points_xy):
    x, y = points_xy.mean(axis=0).round().astype(int)
    return image_rgb[y, x]


def test_a_new_rotation_resets_the_faces(make):
    pipeline = make(*[at((100, 100))] * 2)
    assert [face.id for face in pipeline(frame(0.0)).faces] == ["f00001"]
    pipeline.reconfigure(replace(AT_ONCE, image_rotation=90))
    assert [face.id for face in pipeline(frame(0.1)).faces] == ["f00002"]
