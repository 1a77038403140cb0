"""An active node: images in, emotions out, whatever the images are like."""

import sys
import threading

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from hri_msgs.msg import IdsList
from rclpy.node import Node
from rclpy.qos import QoSProfile
from ros_tools import (
    BRIGHT,
    DARK,
    LIMIT_S,
    Listener,
    diagnostics_often,
    fake_pipeline,
    graph_of_a_test,
    header_at,
    image_at,
    quick_pipeline,
)
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from fer_ros.emotions import EMOTIONS
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.convert import to_compressed
from fer_ros.ros.node import EmotionNode

STAGES = ["convert", "detect", "track", "align", "classify", "smooth", "publish", "draw", "total"]


reports_often = diagnostics_often


class Rig:
    """An active node that reports a face at once, a camera, and a subscriber."""

    def __init__(self, ros, make=None, kind=Image, topic="image", **parameters):
        self.ros = ros
        settings = {"tracker__min_hits": 1, "deterministic_ids": True} | parameters
        self.node = ros.node(EmotionNode, make or quick_pipeline(), **settings)
        self.node.start()
        client_node = ros.node(Node, "client")
        self.camera = client_node.create_publisher(kind, topic, QoSProfile(depth=50))
        listener = Listener(client_node)
        self.emotions = listener.listen(Detection2DArray, "emotion_node/emotions")
        self.diagnostics = listener.listen(DiagnosticArray, "/diagnostics")
        ros.until(self.camera.get_subscription_count, "the node subscribes")
        ros.until(
            lambda: client_node.count_publishers("emotion_node/emotions"), "it offers emotions"
        )

    def reply(self, message):
        """What the node says to an image."""
        before = len(self.emotions)
        self.camera.publish(message)
        self.ros.until(lambda: len(self.emotions) > before, "the emotions of an image")
        assert len(self.emotions) == before + 1
        return self.emotions[-1]

    def figures(self, **expected):
        """Waits for a report with these figures; all of its status, and its figures."""

        def found():
            for message in self.diagnostics:
                values = {value.key: value.value for value in message.status[0].values}
                if all(values.get(key) == value for key, value in expected.items()):
                    return message.status[0], values
            return None

        self.ros.until(found, f"a report with {expected}")
        return found()

    def received(self, count):
        """Waits until the node has got so many images."""
        self.ros.until(
            lambda: self.node._processor._cameras[""].statistics._received == count,
            f"{count} images",
        )


ros = graph_of_a_test


@pytest.fixture
def rig(ros):
    return Rig(ros)


def test_an_image_without_a_face_has_a_result(rig):
    message = image_at(12.345678901, DARK)
    reply = rig.reply(message)
    assert (reply.header, len(reply.detections)) == (message.header, 0)


def test_each_image_has_one_result_with_its_header(rig):
    for number, image in enumerate([BRIGHT, DARK, BRIGHT]):
        header = header_at(1.0 + number / 3, frame_id=f"eye {number}")
        message = image_at(0.0, image)
        message.header = header
        reply = rig.reply(message)
        assert reply.header == header
        assert all(face.header == header for face in reply.detections)
    assert [len(emotion.detections) for emotion in rig.emotions] == [1, 0, 1]


def test_a_face_has_all_emotions_best_first(rig):
    (face,) = rig.reply(image_at(1.0, BRIGHT)).detections
    scores = [result.hypothesis.score for result in face.results]
    assert sorted(result.hypothesis.class_id for result in face.results) == sorted(EMOTIONS)
    assert face.results[0].hypothesis.class_id == "happiness"
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1.0, abs=1e-3)
    assert (face.bbox.center.position.x, face.bbox.size_x) == (80, 60)


def test_a_face_keeps_its_id(rig):
    ids = [rig.reply(image_at(1 + number / 10, BRIGHT)).detections[0].id for number in range(4)]
    assert ids == ["f00001"] * 4


def test_a_face_that_cannot_be_read_has_no_emotions(ros):
    rig = Rig(ros, quality__min_size_px=100)
    (face,) = rig.reply(image_at(1.0, BRIGHT)).detections
    assert (face.id, len(face.results)) == ("f00001", 0)
    _, figures = rig.figures(processed="1")
    assert (figures["faces"], figures["rejected.too small"]) == ("1", "1")


def test_a_real_portrait(ros, astronaut):
    rig = Rig(ros, fake_pipeline)
    (face,) = rig.reply(image_at(1.0, astronaut)).detections
    box = face.bbox
    assert abs(box.center.position.x - 224) < 15
    assert abs(box.center.position.y - 117) < 25


def bad_raw(**fields):
    message = image_at(2.0, BRIGHT)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


BAD = {
    "empty": (Image(), "the image is empty: 0 x 0 pixels"),
    "unknown encoding": (bad_raw(encoding="h264"), "unknown encoding 'h264'"),
    "wrong step": (bad_raw(step=7), "step is 7 bytes, but a row of 160 rgb8 pixels has 480"),
    "too few bytes": (bad_raw(data=bytes(9)), "data has 9 bytes, but 160 x 120 rgb8 pixels"),
}


@pytest.mark.parametrize(("bad", "says"), BAD.values(), ids=BAD)
def test_an_invalid_image_is_skipped_alone(rig, capfd, monkeypatch, bad, says):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)  # robots have it, with another error
    check_loss(rig, capfd, bad, image_at(3.0, BRIGHT), f"image on /image is lost: {says}")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_a_truncated_jpeg_does_not_affect_other_images(ros, capfd, astronaut, share):
    rig = Rig(ros, kind=CompressedImage, topic="image/compressed", image_transport="compressed")
    good = to_compressed(astronaut, header_at(3.0))
    truncated = to_compressed(astronaut, header_at(2.0))
    truncated.data = truncated.data[: int(len(truncated.data) * share)]
    says = "image on /image/compressed is lost: format 'rgb8; jpeg compressed bgr8', "
    says += f"{len(truncated.data)} bytes: "
    check_loss(rig, capfd, truncated, good, says)


def check_loss(rig, capfd, bad, good, says):
    rig.camera.publish(bad)
    rig.received(1)
    status, figures = rig.figures(failed="1")
    assert status.level == DiagnosticStatus.WARN
    assert status.message == f"1 frames failed, last error: {figures['last_failure']}"
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert says in warning
    assert figures["last_failure"].startswith(says.partition("lost: ")[2])
    assert rig.reply(good).header == good.header
    rig.figures(failed="1", processed="1")


def test_a_warning_does_not_hide_another_one(rig, capfd):
    for stamp in (0.0, 0.0):
        rig.reply(image_at(stamp, DARK))
    rig.camera.publish(Image())
    rig.figures(failed="1")
    warnings = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert len(warnings) == 2
    assert "header.stamp is zero" in warnings[0]
    assert "the image is empty" in warnings[1]


def test_a_network_error_costs_one_frame(ros, capfd):
    def fail(image_rgb):
        if image_rgb.min() == 99:
            raise RuntimeError("out of memory\nTried to allocate 2 GiB")

    rig = Rig(ros, quick_pipeline(fail))
    rig.camera.publish(image_at(1.0, np.full_like(BRIGHT, 99)))
    rig.figures(failed="1", last_failure="out of memory Tried to allocate 2 GiB")
    assert "image on /image is lost: out of memory Tried" in capfd.readouterr().err
    assert len(rig.reply(image_at(2.0, BRIGHT)).detections) == 1


def test_no_face_is_present_while_all_images_fail(ros, monkeypatch):
    """Not for as long as images arrive, but for as long as some are processed."""
    monkeypatch.setattr("fer_ros.ros.processing.images.MAX_GAP_S", 0.0)

    def fail(image_rgb):
        if image_rgb.min() == 99:
            raise RuntimeError("out of memory")

    rig = Rig(ros, quick_pipeline(fail))
    lists = Listener(ros.node(Node, "follower")).listen(IdsList, "/humans/faces/tracked")
    ros.until(lambda: rig.node.count_subscribers("/humans/faces/tracked"), "the list is followed")
    rig.reply(image_at(1.0, BRIGHT))
    ros.until(lambda: lists and [*lists[-1].ids] == ["f00001"], "a face is present")
    rig.camera.publish(image_at(2.0, np.full_like(BRIGHT, 99)))
    ros.until(lambda: [*lists[-1].ids] == [], "no face is present")
    rig.reply(image_at(2.1, BRIGHT))
    ros.until(lambda: [*lists[-1].ids] == ["f00001"], "it is present again")


class Gate:
    """Holds the worker in its first frame until it is opened."""

    def __init__(self):
        self.busy, self.open = threading.Event(), threading.Event()

    def __call__(self, image_rgb):
        self.busy.set()
        assert self.open.wait(LIMIT_S)


def test_a_slow_network_processes_the_first_and_the_newest_image(ros):
    gate = Gate()
    rig = Rig(ros, quick_pipeline(gate))
    for number in range(1, 8):
        rig.camera.publish(image_at(float(number), BRIGHT))
        rig.received(number)
        assert gate.busy.wait(LIMIT_S)
    gate.open.set()
    ros.until(lambda: len(rig.emotions) == 2, "two results")
    assert [emotion.header.stamp.sec for emotion in rig.emotions] == [1, 7]
    rig.figures(received="7", processed="2", dropped="5", failed="0")


def test_deactivation_finishes_the_frame_in_progress(ros):
    gate = Gate()
    rig = Rig(ros, quick_pipeline(gate))
    rig.camera.publish(image_at(1.0, BRIGHT))
    ros.until(gate.busy.is_set, "the frame is in work")
    processor = rig.node._processor
    buffer = processor._worker.buffer
    # The gate opens when the node has begun to deactivate: take() then returns None.
    opener = threading.Thread(target=lambda: (buffer.take(), gate.open.set()))
    opener.start()
    rig.node.trigger_deactivate()
    assert processor._cameras[""].statistics._processed == 1
    opener.join()
    ros.until(lambda: rig.emotions, "its emotions")


@pytest.mark.parametrize(
    ("stamps", "ids"),
    [
        ((5000.0, 5000.1), ["f00001", "f00001"]),
        ((5000.0, 4999.9), ["f00001", "f00001"]),  # one overtook the other
        ((5000.0, 1000.0, 1000.1), ["f00001", "f00002", "f00002"]),  # a bag starts again
        ((5000.0, 9000.0), ["f00001", "f00002"]),
    ],
)
def test_a_stamp_jump_gives_new_ids(rig, stamps, ids):
    assert [rig.reply(image_at(stamp, BRIGHT)).detections[0].id for stamp in stamps] == ids


def test_a_new_activation_starts_with_new_statistics(rig):
    before = rig.reply(image_at(1.0, BRIGHT)).detections[0].id
    rig.node.trigger_deactivate()
    rig.node.trigger_activate()
    rig.diagnostics.clear()
    rig.figures(received="0")
    rig.ros.until(rig.camera.get_subscription_count, "the node subscribes")
    assert rig.reply(image_at(1.1, BRIGHT)).detections[0].id != before


def test_a_fallback_is_a_warning(rig, monkeypatch):
    rig.reply(image_at(1.0, BRIGHT))
    status, _ = rig.figures(processed="1", fallback="")
    assert status.level == DiagnosticStatus.OK
    monkeypatch.setattr(MultiCameraPipeline, "fallback", "no memory on cuda; the CPU computes")
    status, _ = rig.figures(fallback="no memory on cuda; the CPU computes")
    assert status.level == DiagnosticStatus.WARN
    assert status.message.endswith("frames/s; no memory on cuda; the CPU computes")


def test_diagnostics_have_the_statistics(rig):
    rig.reply(image_at(1.0, BRIGHT))
    status, figures = rig.figures(processed="1")
    assert (status.name, status.level) == ("/emotion_node: frames", DiagnosticStatus.OK)
    assert (figures["model"], figures["sha256"], figures["device"]) == ("fake", "0" * 64, "cpu")
    assert (figures["reason"], figures["fallback"]) == ("fake on cpu: made up", "")
    assert (figures["provider"], figures["precision"]) == ("CPUExecutionProvider", "fp32")
    counts = {key: figures[key] for key in ("received", "dropped", "failed", "faces")}
    assert counts == {"received": "1", "dropped": "0", "failed": "0", "faces": "1"}
    times = {key: float(value) for key, value in figures.items() if key.startswith("latency_ms.")}
    assert list(times) == [f"latency_ms.{stage}.{p}" for stage in STAGES for p in ("p50", "p95")]
    assert min(times.values()) >= 0
    assert float(figures["last_image_age_s"]) >= 0
    assert float(figures["frames_per_s"]) >= 0


def test_missing_images_are_reported_with_their_cause(ros, capfd):
    rig = Rig(ros, image_timeout_s=0.05)
    stale = (DiagnosticStatus.STALE, "no image for 0 s")

    def is_reported():
        return stale in [
            (diagnostic.status[0].level, diagnostic.status[0].message)
            for diagnostic in rig.diagnostics
        ]

    ros.until(is_reported, "a stale report")
    warned = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert any("no image on /image for 0.05 s: " in line for line in warned)


def test_a_crashed_worker_ends_the_node(ros):
    def die(image_rgb):
        raise KeyError("unforeseen")

    rig = Rig(ros, quick_pipeline(die))
    rig.camera.publish(image_at(1.0, BRIGHT))
    with pytest.raises(KeyError, match="unforeseen"):
        rig.figures(processed="1")


def test_a_bgr_image_is_converted(ros):
    seen = []
    rig = Rig(ros, quick_pipeline(seen.append))
    image = np.zeros_like(BRIGHT)
    image[:] = (200, 100, 50)
    message = image_at(1.0, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    message.encoding = "bgr8"
    rig.reply(message)
    assert tuple(seen[0][0, 0]) == (200, 100, 50)
