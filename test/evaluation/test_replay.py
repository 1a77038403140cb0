"""One recording through the pipeline."""

import resource
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from bag_tools import (
    TOPIC,
    NamedClassifier,
    at,
    jpeg_bag,
    jpeg_image,
    portrait_bag,
    raw_image,
    write_bag,
)
from conftest import FakeClassifier
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from fer_ros.blendshapes import ACTION_UNITS as FACS
from fer_ros.blendshapes import BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.bags.messages import (
    ACTION_UNITS,
    COMPRESSED,
    DETECTIONS,
    EXPRESSION,
    IMAGE,
    LABEL_INFO,
    LANDMARKS,
    REGION,
    STRING,
    make,
    to_bytes,
    typestore,
)
from fer_ros.evaluation.bags.reader import Bag, BagError, BagImage
from fer_ros.evaluation.ground_truth import Label
from fer_ros.evaluation.predictions import NO_LABEL
from fer_ros.evaluation.realtime import RealtimeClock, drop_stale
from fer_ros.evaluation.replay import EvaluationTask, evaluate
from fer_ros.ros.convert import stamp_s
from fer_ros.types import Frame

HAPPY, SAD = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")


@pytest.fixture(autouse=True)
def classifier(monkeypatch) -> NamedClassifier:
    """No network: what becomes of its answers is tested here."""
    fake = NamedClassifier()
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: fake)
    return fake


def test_a_recording_without_images(tmp_path):
    wall = np.full((90, 120, 3), 128, np.uint8)
    path = jpeg_bag(tmp_path / "bag", [(0, wall)])
    outcome = evaluate(EvaluationTask(path))
    assert (len(outcome.predictions), outcome.frames, outcome.errors) == (0, 1, [])
    rows = [(TOPIC, COMPRESSED, 0, jpeg_image(0, wall)), ("/w", STRING, 0, make(STRING, ""))]
    truncated = write_bag(tmp_path / "truncated", rows)
    with pytest.raises(BagError, match="no topic /nothing"):
        evaluate(EvaluationTask(truncated, image_topic="/nothing"))


def test_a_topic_without_messages_is_reported(tmp_path):
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection(TOPIC, IMAGE, typestore=typestore())
    outcome = evaluate(
        EvaluationTask(tmp_path / "bag", labels=(Label(0, 1, HAPPY),), with_images=True)
    )
    assert (outcome.frames, outcome.duration_s, outcome.warnings) == (0, 0, [])
    assert outcome.errors == [f"{tmp_path / 'bag'}: topic {TOPIC} has no messages"]


def test_unknown_types_are_ignored(tmp_path, astronaut):
    """What else the robot recorded, with definitions of its own."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg("float32 volts", "robot_msgs/msg/Battery"))
    battery = store.types["robot_msgs/msg/Battery"](12.5)
    image = jpeg_image(0, np.ascontiguousarray(astronaut[::2, ::2]))
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        power = writer.add_connection("/power", "robot_msgs/msg/Battery", typestore=store)
        camera = writer.add_connection("/camera", COMPRESSED, typestore=typestore())
        writer.write(power, at(0), store.serialize_cdr(battery, "robot_msgs/msg/Battery"))
        writer.write(camera, at(0), to_bytes(COMPRESSED, image))
    outcome = evaluate(EvaluationTask(tmp_path / "bag"))
    assert (outcome.frames, outcome.errors) == (1, [])
    with pytest.raises(BagError, match="/power is of type robot_msgs/msg/Battery, not of images"):
        evaluate(EvaluationTask(tmp_path / "bag", image_topic="/power"))


def test_every_image_is_read_and_labeled(tmp_path, astronaut):
    path = portrait_bag(tmp_path / "bag", astronaut)
    labels = (Label(0, 0.55, HAPPY), Label(0.55, 9, SAD))
    done: list[int] = []
    outcome = evaluate(EvaluationTask(path, labels=labels), done.append)
    table = outcome.predictions
    assert (outcome.frames, outcome.dropped, sum(done)) == (12, 0, 12)
    assert (outcome.model, outcome.duration_s) == ("fake", pytest.approx(1.1))
    assert table.stamp_s.tolist() == pytest.approx([k / 10 for k in range(12)])
    # The tracker reports a face from its second image on.
    assert table.id.tolist() == ["", *["f00001"] * 11]
    assert table.emotion.tolist() == [NO_LABEL, *[HAPPY] * 11]
    assert table.label.tolist() == [HAPPY] * 6 + [SAD] * 6
    assert {len(spent) for spent in outcome.latency_ms.values()} == {12}
    assert [*outcome.latency_ms] == [
        "decode", "detect", "track", "align", "classify", "smooth", "total"
    ]  # fmt: skip


def test_replay_equals_the_pipeline_of_the_node(tmp_path, astronaut, classifier):
    """The same images give the same faces, whether they come from a bag or a camera."""
    from fer_ros.pipeline import EmotionPipeline

    path = portrait_bag(tmp_path / "bag", astronaut, 4)
    table = evaluate(EvaluationTask(path)).predictions
    pipeline = EmotionPipeline(classifier=classifier)
    with Bag(path) as bag:
        faces = [
            face
            for image in bag.images(TOPIC)
            for face in pipeline(Frame(image.decode()[0], image.stamp_ns * 1e-9)).faces
        ]
    boxes = np.array([face.box_xyxy for face in faces])
    np.testing.assert_allclose(table.box_xyxy, boxes, atol=0.01)
    np.testing.assert_allclose(table.raw, [face.raw_probabilities for face in faces], atol=1e-5)


def test_long_recordings_are_stored_in_chunks(tmp_path, astronaut, monkeypatch):
    path = portrait_bag(tmp_path / "bag", astronaut, 7)
    unchunked = evaluate(EvaluationTask(path)).predictions
    monkeypatch.setattr("fer_ros.evaluation.replay._TABLE_ROWS", 2)
    parts = evaluate(EvaluationTask(path)).predictions
    assert parts.stamp_s.tolist() == unchunked.stamp_s.tolist()
    np.testing.assert_array_equal(parts.raw, unchunked.raw)


def test_images_that_the_network_rejects_are_skipped_alone(
    tmp_path, astronaut, classifier, monkeypatch
):
    def classify(crops_rgb):
        if len(classifier.seen) == 3:  # the call before the first image, and two faces
            classifier.seen.append(crops_rgb)
            raise RuntimeError("out of\nmemory")
        return FakeClassifier.classify(classifier, crops_rgb)

    monkeypatch.setattr(classifier, "classify", classify)
    outcome = evaluate(EvaluationTask(portrait_bag(tmp_path / "bag", astronaut, 6)))
    assert (outcome.frames, len(outcome.predictions)) == (5, 4)
    (error,) = outcome.errors
    assert (
        error == f"{tmp_path / 'bag'}: 1 images cannot be read, the first at 0.300 s: out of memory"
    )


def test_undecodable_images_are_skipped_alone(tmp_path, astronaut):
    small = astronaut[::2, ::2]
    rows = [
        (TOPIC, IMAGE, k / 10, raw_image(k / 10, small, "h264" if k in (2, 3) else "rgb8"))
        for k in range(6)
    ]
    outcome = evaluate(EvaluationTask(write_bag(tmp_path / "bag", rows)))
    assert (outcome.frames, len(outcome.predictions)) == (4, 3)
    (error,) = outcome.errors
    assert "2 images cannot be read, the first at 0.200 s: unknown encoding 'h264'" in error


def test_labels_outside_the_recording_are_reported(tmp_path, astronaut):
    path = portrait_bag(tmp_path / "bag", astronaut, 3)
    outcome = evaluate(EvaluationTask(path, labels=(Label(0, 1, HAPPY), Label(7, 8, SAD))))
    (error,) = outcome.errors
    assert "1 of 2 labels hold for no image of the recording, which lasts 0.200 s" in error
    assert error.endswith("the first starts at 7.000 s")


def test_error_segments_have_images_on_request(tmp_path, astronaut):
    path = portrait_bag(tmp_path / "bag", astronaut, 5)
    task = EvaluationTask(path, labels=(Label(0, 9, SAD),))
    (segment,) = evaluate(task).error_segments
    assert (segment.label, segment.emotion, segment.jpeg) == ("sadness", "happiness", b"")
    assert segment.margin == pytest.approx(0.84, abs=1e-4)
    (segment,) = evaluate(replace(task, with_images=True)).error_segments
    assert segment.jpeg.startswith(b"\xff\xd8")


def at_once(*stamps_s: float) -> list[BagImage]:
    return [BagImage(at(stamp_s), at(stamp_s), 0, IMAGE, b"") for stamp_s in stamps_s]


@pytest.mark.parametrize(
    ("milliseconds", "taken"),
    [
        (0, [0, 1, 2, 3, 4, 5]),
        (100, [0, 1, 2, 3, 4, 5]),
        (160, [0, 1, 3, 4, 5]),  # done at 160 and 320, when the image of 300 has come
        (260, [0, 2, 5]),
        (900, [0, 5]),
    ],
)
def test_realtime_mode_processes_the_newest_image(milliseconds, taken):
    busy = RealtimeClock()
    seen = []
    for image in drop_stale(iter(at_once(0, 0.1, 0.2, 0.3, 0.4, 0.5)), busy):
        seen.append(round((image.stamp_ns - at(0)) / 1e8))
        busy.advance(image.stamp_ns, milliseconds)
    assert seen == taken
    assert busy.dropped == 6 - len(taken)


def test_a_slow_robot_drops_images(tmp_path, astronaut, classifier, monkeypatch):
    path = portrait_bag(tmp_path / "bag", astronaut)
    monkeypatch.setattr(
        "fer_ros.evaluation.realtime.RealtimeClock.advance",
        lambda busy, stamp_ns, _: setattr(busy, "busy_until_ns", stamp_ns + 250_000_000),
    )
    outcome = evaluate(EvaluationTask(path, realtime=True))
    assert outcome.frames + outcome.dropped == 12
    assert outcome.dropped == 5


def test_recorded_messages_equal_those_of_the_node(tmp_path, astronaut):
    path = portrait_bag(tmp_path / "bag", astronaut, 4)
    record = tmp_path / "out" / "emotions"
    first = evaluate(EvaluationTask(path, record=record))
    with Bag(record) as bag:
        assert bag.topics == {
            "/emotion_node/emotions/labels": LABEL_INFO,
            "/emotion_node/emotions": DETECTIONS,
            "/humans/faces/tracked": "hri_msgs/msg/IdsList",
            "/humans/faces/f00001/roi": REGION,
            "/humans/faces/f00001/landmarks": LANDMARKS,
            "/humans/faces/f00001/expression": EXPRESSION,
        }
        messages = list(bag.messages("/emotion_node/emotions"))
        assert [recorded_ns for recorded_ns, _ in messages] == [at(k / 10) for k in range(4)]
        assert [message.header.frame_id for _, message in messages] == ["eye"] * 4
        assert [len(message.detections) for _, message in messages] == [0, 1, 1, 1]
        (expression, *_) = [each for _, each in bag.messages("/humans/faces/f00001/expression")]
    assert (expression.expression, expression.confidence) == ("happy", pytest.approx(0.86))
    assert np.isnan(expression.valence)
    scored = evaluate(
        EvaluationTask(record, predictions_topic="/emotion_node/emotions")
    ).predictions
    assert scored.id.tolist() == first.predictions.id.tolist()
    np.testing.assert_allclose(scored.probabilities, first.predictions.probabilities, atol=1e-5)


def ros_type(kind: str) -> type:
    package, _, name = kind.split("/")
    return getattr(import_module(f"{package}.msg"), name)


def test_ros_reads_what_is_recorded(tmp_path, astronaut):
    """As ``ros2 bag play`` would: from bytes, by the name of the type."""
    evaluate(
        EvaluationTask(
            portrait_bag(tmp_path / "bag", astronaut, 3), record=tmp_path / "predictions"
        )
    )
    with Bag(tmp_path / "predictions") as bag:
        read = {
            topic: [deserialize_message(data, ros_type(kind)) for _, data in bag._raw(topic)]
            for topic, kind in bag.topics.items()
        }
    seen = {topic: len(messages) for topic, messages in read.items()}
    assert seen.pop("/emotion_node/emotions/labels") == 1
    assert seen.pop("/emotion_node/emotions") == seen.pop("/humans/faces/tracked") == 3
    assert len(seen) == 3
    assert set(seen.values()) == {2}
    last = [messages[-1].header for topic, messages in read.items() if not topic.endswith("labels")]
    assert [stamp_s(header) for header in last] == pytest.approx([at(0.2) * 1e-9] * 5)
    (face,) = read["/emotion_node/emotions"][-1].detections
    assert (face.id, face.results[0].hypothesis.class_id) == ("f00001", "happiness")
    output = read["/humans/faces/f00001/expression"][-1]
    assert (output.expression, output.confidence) == ("happy", pytest.approx(0.86))


def test_action_units_are_recorded_from_models_with_blendshapes(
    tmp_path, astronaut, classifier, monkeypatch
):
    blendshapes = np.zeros(len(BLENDSHAPES), np.float32)
    blendshapes[BLENDSHAPES.index("jawOpen")] = 0.4
    classify = classifier.classify

    def with_blendshapes(crops_rgb):
        rows = np.tile(blendshapes, (len(crops_rgb), 1))
        return replace(classify(crops_rgb), blendshapes=rows)

    monkeypatch.setattr(classifier, "classify", with_blendshapes)
    record, topic = tmp_path / "predictions", "/humans/faces/f00001/facs"
    evaluate(EvaluationTask(portrait_bag(tmp_path / "bag", astronaut, 3), record=record))
    with Bag(record) as bag:
        assert bag.topics[topic] == ACTION_UNITS
        data = [data for _, data in bag._raw(topic)]
        own = [message for _, message in bag.messages(topic)]
        scores = [region.c for _, region in bag.messages("/humans/faces/f00001/roi")]
    by_ros = [deserialize_message(each, ros_type(ACTION_UNITS)) for each in data]
    assert len(own) == len(by_ros) == 2
    stamps_s = [stamp_s(message.header) for message in by_ros]
    assert stamps_s == pytest.approx([at(0.1) * 1e-9, at(0.2) * 1e-9])
    for message, score in zip(own + by_ros, scores * 2, strict=True):
        assert np.flatnonzero(message.intensity).tolist() == [26]
        assert message.intensity[26] == pytest.approx(0.4)
        assert np.flatnonzero(message.confidence).tolist() == sorted(FACS)
        assert message.confidence[26] == pytest.approx(score)


def test_the_pupil_of_a_closed_eye_is_invisible(tmp_path, astronaut, classifier):
    classifier.points_xy[[37, 38, 40, 41], 1] = classifier.points_xy[36, 1]
    evaluate(
        EvaluationTask(
            portrait_bag(tmp_path / "bag", astronaut, 2), record=tmp_path / "predictions"
        )
    )
    with Bag(tmp_path / "predictions") as bag:
        ((_, message),) = bag.messages("/humans/faces/f00001/landmarks")
        ((_, region),) = bag.messages("/humans/faces/f00001/roi")
    sure = [point.c for point in message.landmarks]
    assert sure == pytest.approx([region.c] * 68 + [0, region.c], abs=1e-5)


def test_non_finite_points_are_not_recorded(tmp_path, astronaut, classifier):
    classifier.points_xy[:] = np.nan
    outcome = evaluate(
        EvaluationTask(
            portrait_bag(tmp_path / "bag", astronaut, 2), record=tmp_path / "predictions"
        )
    )
    assert outcome.errors == []
    with Bag(tmp_path / "predictions") as bag:
        assert "/humans/faces/f00001/roi" in bag.topics
        assert "/humans/faces/f00001/landmarks" not in bag.topics


def test_predictions_are_detections(tmp_path, astronaut):
    path = portrait_bag(tmp_path / "bag", astronaut, 2)
    with pytest.raises(BagError, match="predictions: expected a topic"):
        evaluate(EvaluationTask(path, predictions_topic=TOPIC))


FULL_DISK = """
import sys, resource
sys.path.insert(0, "test")
from pathlib import Path
import fer_ros.multi_camera
from bag_tools import NamedClassifier
from fer_ros.evaluation.replay import EvaluationTask, evaluate
fer_ros.multi_camera.Classifier = lambda config: NamedClassifier()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
outcome = evaluate(EvaluationTask(Path(sys.argv[1]), record=Path(sys.argv[2])))
print(outcome.frames, len(outcome.errors), outcome.errors[0])
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits of file sizes")
def test_a_full_disk_ends_the_recording_only(tmp_path, astronaut):
    path = portrait_bag(tmp_path / "bag", astronaut, 10)
    command = [sys.executable, "-c", FULL_DISK, path, tmp_path / "out"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.startswith(
        f"10 1 {tmp_path / 'out'}: cannot be written any further: File too large"
    )


def test_ctrl_c_keeps_the_evaluated_images(tmp_path, astronaut):
    path = portrait_bag(tmp_path / "bag", astronaut, 6)
    count = iter(range(100))

    def progress(images: int) -> None:
        if next(count) == 3:
            raise KeyboardInterrupt

    outcome = evaluate(EvaluationTask(path, labels=(Label(0.5, 1, HAPPY),)), progress)
    assert (outcome.interrupted, outcome.frames) == (True, 4)
    assert outcome.errors == [f"{path}: interrupted"]
    assert outcome.warnings == []  # the label does not lie outside of the recording
