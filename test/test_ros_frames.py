"""From an image message to what the node publishes: nothing lost, nothing late, nothing made up."""

import json
import threading

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_tools import Listener, NodeClassifier, fake_pipeline, graph, header_at, image_at
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from fer_ros.labels import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from fer_ros.ros.diagnostics import Monitor
from fer_ros.ros.node import EmotionNode

WALL = np.full((120, 160, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def reports_often(monkeypatch):
    monkeypatch.setattr("fer_ros.ros.node._REPORT_S", 0.05)


@pytest.fixture
def ros():
    with graph() as opened:
        yield opened


@pytest.fixture
def face(astronaut):
    """A small picture of one face."""
    return np.ascontiguousarray(astronaut[:256, 64:384])


class Scene:
    """An emotion node, a camera that the test holds, and a listener."""

    def __init__(self, ros, make_pipeline=fake_pipeline, **parameters):
        self.ros = ros
        parameters = {"tracker__min_hits": 1, "image_timeout_s": 0.0, **parameters}
        self.node = ros.node(EmotionNode, make_pipeline, **parameters)
        self.outside = ros.node(Node, "outside")
        self.listener = Listener(self.outside)
        self.emotions = self.listener.listen(Detection2DArray, "/emotion_node/emotions")
        self.reports = self.listener.listen(DiagnosticArray, "/diagnostics")
        self.camera = self.outside.create_publisher(Image, "image", 10)

    def start(self):
        self.node.start()
        self.ros.until(
            lambda: (
                self.camera.get_subscription_count()
                and self.outside.count_publishers("/emotion_node/emotions")
            ),
            "node and camera find each other",
        )
        return self

    def answer_to(self, message):
        """The result of the image; a stamp is not used twice in a test."""
        self.camera.publish(message)
        stamp = message.header.stamp
        answers = []

        def answered():
            answers[:] = [each for each in self.emotions if each.header.stamp == stamp]
            return answers

        self.ros.until(answered, "the result of an image")
        return answers[0]

    def report(self, condition, what):
        """Status and values of the first report that fulfils the condition."""
        found = []

        def look():
            for report in self.reports:
                values = {each.key: each.value for each in report.status[0].values}
                if condition(report.status[0], values):
                    found.append((report.status[0], values))
            return found

        self.ros.until(look, what)
        return found[0]


def test_headers_pass_through_and_every_image_is_answered(ros, face):
    scene = Scene(ros).start()
    for stamp_s, picture in ((1.000000001, WALL), (1.25, face), (1.5, WALL)):
        message = image_at(stamp_s, picture)
        message.header.frame_id = f"eye at {stamp_s}"
        answer = scene.answer_to(message)
        assert answer.header == message.header
        assert len(answer.detections) == (picture is face)
        assert all(each.header == message.header for each in answer.detections)


def test_a_face_has_an_id_a_box_and_eight_emotions(ros, face):
    scene = Scene(ros).start()
    (found,) = scene.answer_to(image_at(1.0, face)).detections
    assert found.id == "f00001"
    names = [each.hypothesis.class_id for each in found.results]
    scores = [each.hypothesis.score for each in found.results]
    assert sorted(names) == sorted(EMOTIONS)
    assert names[0] == "happiness"
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-4)
    centre = found.bbox.center.position
    assert (centre.x, centre.y) == (pytest.approx(160, abs=12), pytest.approx(118, abs=12))
    assert 60 < found.bbox.size_x < 130


def test_a_face_that_cannot_be_read_has_no_emotion(ros, face):
    scene = Scene(ros, quality__min_size_px=1000.0).start()
    (found,) = scene.answer_to(image_at(1.0, face)).detections
    assert found.results == []
    assert found.id
    _, values = scene.report(lambda _, values: values.get("rejected.too small"), "the reason")
    assert values["rejected.too small"] == "1"


def test_labels_are_latched(ros):
    Scene(ros).start()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    late = Listener(ros.node(Node, "latecomer"))
    heard = late.listen(LabelInfo, "/emotion_node/emotions/labels", latched)
    ros.until(lambda: heard, "labels for a latecomer")
    classes = [(each.class_id, each.class_name) for each in heard[0].class_map]
    assert classes == list(enumerate(EMOTIONS))


def test_nothing_is_drawn_unless_somebody_looks(ros, face, monkeypatch):
    drawn = []

    def draw(image_rgb, faces):
        drawn.append(len(faces))
        return image_rgb

    monkeypatch.setattr("fer_ros.ros.outputs.draw", draw)
    scene = Scene(ros).start()
    scene.answer_to(image_at(1.0, face))
    assert drawn == []
    images = scene.listener.listen(Image, "/emotion_node/debug_image", 1)
    ros.until(lambda: scene.node.count_subscribers("/emotion_node/debug_image"), "a spectator")
    message = image_at(1.1, face)
    scene.answer_to(message)
    ros.until(lambda: images, "a debug image")
    assert drawn == [1]
    assert images[0].header == message.header


def test_notes_are_taken_where_asked_and_hold_no_picture(ros, face, tmp_path):
    log = tmp_path / "log.jsonl"
    scene = Scene(ros, log_path=str(log)).start()
    for stamp_s, picture in ((1.0, WALL), (1.1, face)):
        scene.answer_to(image_at(stamp_s, picture))
    ros.until(lambda: log.read_text().count("\n") == 2, "two lines")
    empty, one = map(json.loads, log.read_text().splitlines())
    assert (empty["source"], empty["stamp_s"], empty["faces"]) == ("/image", 1.0, [])
    (found,) = one["faces"]
    assert set(found["probabilities"]) == set(EMOTIONS)
    assert np.shape(found["landmarks"]) == (68, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    assert log.stat().st_size < 10_000


def spoiled(**changes):
    message = image_at(1.5, WALL)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


BAD = {
    "empty": (spoiled(width=0), "the image is empty"),
    "encoding": (spoiled(encoding="32SC7"), "unknown encoding '32SC7'"),
    "step": (spoiled(step=10), "step is 10 bytes"),
    "bytes": (spoiled(data=b"123"), "data has 3 bytes"),
}


@pytest.mark.parametrize(("bad", "words"), BAD.values(), ids=BAD)
def test_a_bad_image_costs_itself_alone(ros, capfd, face, bad, words):
    scene = Scene(ros).start()
    scene.answer_to(image_at(1.0, face))
    scene.camera.publish(bad)
    _, values = scene.report(lambda _, values: values.get("failed") == "1", "the bad image")
    assert words in values["last_failure"]
    assert len(scene.answer_to(image_at(2.0, face)).detections) == 1
    warnings = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert len(warnings) == 1
    assert f"image on /image is lost: {words}" in warnings[0]


def test_a_broken_jpeg_costs_itself_alone(ros, face):
    scene = Scene(ros, image_transport="compressed")
    camera = scene.outside.create_publisher(CompressedImage, "image/compressed", 10)
    scene.node.start()
    ros.until(camera.get_subscription_count, "a subscriber")
    jpeg = cv2.imencode(".jpg", face[..., ::-1])[1].tobytes()
    for failed, data in (("1", b""), ("2", jpeg[:60])):
        header = header_at(1.0 + int(failed))
        camera.publish(CompressedImage(header=header, format="jpeg", data=data))
        scene.report(lambda _, values, n=failed: values.get("failed") == n, "a bad image")
    camera.publish(CompressedImage(header=header_at(3.5), format="jpeg", data=jpeg))
    ros.until(lambda: scene.emotions, "the good image")
    assert scene.emotions[0].detections[0].results[0].hypothesis.class_id == "happiness"


class SlowClassifier(NodeClassifier):
    """Waits in its first frame until the test lets it go on."""

    def __init__(self):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def classify(self, crops_rgb):
        self.begun.set()
        assert self.go_on.wait(30)
        return super().classify(crops_rgb)


def test_only_the_newest_image_waits(ros, face, monkeypatch):
    came = []
    received = Monitor.received
    monkeypatch.setattr(Monitor, "received", lambda self: (came.append(1), received(self)))
    slow = SlowClassifier()
    scene = Scene(ros, lambda config: EmotionPipeline(config, classifier=slow)).start()
    scene.camera.publish(image_at(1.0, face))
    ros.until(slow.begun.is_set, "the first image is in work")
    for number in range(1, 6):
        scene.camera.publish(image_at(1.0 + number / 10, face))
        ros.until(lambda count=number + 1: len(came) == count, "the image has come")
    slow.go_on.set()
    ros.until(lambda: len(scene.emotions) == 2, "two answers")
    _, values = scene.report(lambda _, values: values.get("processed") == "2", "two are done")
    assert (values["dropped"], values["failed"]) == ("4", "0")
    assert [each.header.stamp.nanosec for each in scene.emotions] == [0, 500_000_000]


def test_a_network_that_fails_costs_one_image(ros, face):
    """As when a GPU's memory is full."""
    classifier = NodeClassifier()
    scene = Scene(ros, lambda config: EmotionPipeline(config, classifier=classifier)).start()
    answer = classifier.classify

    def fails(crops_rgb):
        classifier.classify = answer
        raise RuntimeError("CUDA out of\nmemory")

    classifier.classify = fails
    scene.camera.publish(image_at(1.0, face))
    status, values = scene.report(lambda _, values: values.get("failed") == "1", "the failure")
    assert values["last_failure"] == "CUDA out of memory"
    assert status.level == DiagnosticStatus.WARN
    assert scene.answer_to(image_at(1.1, face)).detections


@pytest.mark.parametrize(
    ("second_s", "same"), [(1.1, True), (0.5, True), (-3600.0, False), (3600.0, False)]
)
def test_when_time_jumps_faces_are_new(ros, face, second_s, same):
    scene = Scene(ros).start()
    ids = [
        scene.answer_to(image_at(10_000.0 + stamp_s, face)).detections[0].id
        for stamp_s in (1.0, second_s)
    ]
    assert (ids[0] == ids[1]) == same


def test_diagnostics_say_what_computes_and_where_time_goes(ros, face):
    scene = Scene(ros).start()
    scene.answer_to(image_at(1.0, face))
    status, values = scene.report(lambda _, values: values.get("processed") == "1", "one is done")
    assert status.name == "/emotion_node: frames"
    assert (values["model"], values["device"], values["sha256"]) == ("fake", "cpu", "0" * 64)
    assert (values["received"], values["faces"]) == ("1", "1")
    for stage in ("convert", "detect", "track", "align", "classify", "smooth", "publish", "total"):
        assert float(values[f"latency_ms.{stage}.p50"]) >= 0
        assert f"latency_ms.{stage}.p95" in values


def test_silence_is_told_with_its_reason(ros, capfd):
    scene = Scene(ros, image_timeout_s=0.2)
    scene.outside.destroy_publisher(scene.camera)
    scene.node.start()
    stale = DiagnosticStatus.STALE
    status, _ = scene.report(lambda status, _: status.level == stale, "it is stale")
    assert status.message.startswith("no image for ")
    reason = "no image on /image for 0.2 s: no publisher (asking for sensor_data)"
    assert reason in capfd.readouterr().err


def test_a_publisher_that_does_not_fit_is_told(ros, capfd):
    """One that sends each image once, to a node that wants lost ones again."""
    scene = Scene(ros, image_qos="reliable")
    scene.outside.create_publisher(Image, "image", qos_profile_sensor_data)
    scene.node.start()
    said = []

    def told():
        said.append(capfd.readouterr().err)
        return "set image_qos to 'sensor_data'" in "".join(said)

    ros.until(told, "the advice")
    assert "/image: a publisher offers another RELIABILITY" in "".join(said)
