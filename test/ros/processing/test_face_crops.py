"""Processing of another detector's face images: images in, expressions out.

The emotion node that ROS4HRI robots have had so far takes its publishers down all the time, leaves
headers and valence empty, and fails at contempt; each of these is a test here.
"""

import threading

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from hri_msgs.msg import Expression, IdsList
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_tools import (
    HeldClassifier,
    Listener,
    NodeClassifier,
    diagnostics_often,
    graph_of_a_test,
    header_at,
    image_at,
)
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from fer_ros.crop_pipeline import FaceCropPipeline
from fer_ros.emotions import EMOTIONS
from fer_ros.ros.node import EmotionNode

IMAGE_RGB = np.full((128, 128, 3), 90, np.uint8)


reports_often = diagnostics_often
ros = graph_of_a_test


class Detector:
    """Another node that finds faces."""

    def __init__(self, ros, prefix="/humans"):
        self.ros, self.prefix = ros, prefix
        self.node = ros.node(Node, "face_detect")
        self.tracked = self.node.create_publisher(IdsList, f"{prefix}/faces/tracked", 1)
        self.images = {}

    def sees(self, *ids):
        self.tracked.publish(IdsList(header=header_at(1.0), ids=ids))

    def offers(self, id, kind="cropped"):
        topic = f"{self.prefix}/faces/{id}/{kind}"
        self.images[id, kind] = self.node.create_publisher(Image, topic, 1)

    def has_subscribers(self, id, kind="cropped"):
        return self.images[id, kind].get_subscription_count() > 0

    def shows(self, id, stamp_s, kind="cropped", image=IMAGE_RGB):
        self.ros.until(lambda: self.has_subscribers(id, kind), f"{kind} of {id} is watched")
        self.images[id, kind].publish(image_at(stamp_s, image))


class Rig:
    """An active node beside a detector, and a subscriber."""

    def __init__(self, ros, classifier=None, **parameters):
        self.ros = ros
        self.classifier = classifier or NodeClassifier()
        self.node = ros.node(
            EmotionNode,
            pytest.fail,  # no detector of our own
            lambda config: FaceCropPipeline(config, self.classifier),
            input_source="ros4hri",
            **parameters,
        )
        self.node.start()
        self.detector = Detector(ros)
        self.client_node = ros.node(Node, "client")
        self.listener = Listener(self.client_node)
        self.emotions = self.listener.listen(Detection2DArray, "emotion_node/emotions")
        self.diagnostics = self.listener.listen(DiagnosticArray, "/diagnostics")
        ros.until(self.detector.tracked.get_subscription_count, "the node subscribes")
        ros.until(
            lambda: self.client_node.count_publishers("emotion_node/emotions"), "it offers emotions"
        )

    def meet(self, *ids):
        """Publish faces; return the messages of each."""
        for id in ids:
            self.detector.offers(id)
        self.detector.sees(*ids)
        self.ros.until(lambda: {*ids} <= self.offered(), "expressions are offered")
        return [self.listen(id) for id in ids]

    def listen(self, id):
        messages = self.listener.listen(Expression, f"/humans/faces/{id}/expression")
        publisher = self.publisher(id)
        self.ros.until(publisher.get_subscription_count, f"the expression of {id} is watched")
        return messages

    def publisher(self, id):
        topic = f"/humans/faces/{id}/expression"
        return next(
            publisher for publisher in self.node.publishers if publisher.topic_name == topic
        )

    def offered(self):
        """Ids of the faces that have an expression."""
        names = (publisher.topic_name.split("/") for publisher in self.node.publishers)
        return {name[-2] for name in names if name[-1] == "expression"}

    def watched(self):
        """Topics of images that the node subscribes to."""
        ours = {
            subscription.topic_name
            for subscription in self.node.subscriptions
            if "/faces/" in subscription.topic_name
        }
        return ours - {"/humans/faces/tracked"}


def test_no_face(ros):
    rig = Rig(ros)
    rig.detector.sees()
    rig.ros.until(lambda: rig.diagnostics, "a report")
    assert (rig.offered(), rig.watched()) == (set(), set())
    assert rig.diagnostics[-1].status[0].level == DiagnosticStatus.OK


def test_the_last_face_that_leaves_ends_the_emotions_at_once(ros):
    rig = Rig(ros)
    rig.meet("anna")
    rig.detector.shows("anna", 1.0)
    ros.until(lambda: rig.emotions, "emotions")
    rig.detector.sees()
    ros.until(lambda: len(rig.emotions) == 2, "a result without faces")
    assert [len(message.detections) for message in rig.emotions] == [1, 0]
    assert rig.emotions[1].header == header_at(1.0)


def test_faces_without_images_are_a_warning(ros):
    rig = Rig(ros, image_timeout_s=0.05)
    says = "no image of the faces on /humans/faces/tracked for "

    def status():
        return rig.diagnostics[-1].status[0] if rig.diagnostics else DiagnosticStatus()

    rig.detector.sees()
    ros.until(lambda: "frames/s" in status().message, "an empty list is normal")
    assert status().level == DiagnosticStatus.OK
    rig.meet("anna")
    ros.until(lambda: status().message.startswith(says), "a warning")
    assert status().level == DiagnosticStatus.WARN


def test_faces_go_with_the_detector(ros):
    rig = Rig(ros, image_timeout_s=0.05)
    rig.meet("anna")
    for publisher in (rig.detector.tracked, *rig.detector.images.values()):
        rig.detector.node.destroy_publisher(publisher)
    ros.until(lambda: not rig.offered(), "its expression is gone")
    assert rig.watched() == set()


def test_each_image_has_an_expression_with_its_header(ros):
    rig = Rig(ros)
    (messages,) = rig.meet("anna")
    for number in range(3):
        rig.detector.shows("anna", 1.5 + number)
        ros.until(lambda number=number: len(messages) > number, "an expression")
    assert [message.header for message in messages] == [
        header_at(1.5 + number) for number in range(3)
    ]
    for message in messages:
        assert message.expression == Expression.HAPPY
        assert message.confidence == pytest.approx(0.86)
        assert np.isnan([message.valence, message.arousal]).all()


def test_the_whole_distribution_is_published(ros):
    rig = Rig(ros)
    rig.meet("anna")
    rig.detector.shows("anna", 1.5)
    ros.until(lambda: rig.emotions, "emotions")
    (face,) = rig.emotions[0].detections
    assert rig.emotions[0].header == header_at(1.5)
    assert face.id == "anna"
    assert {result.hypothesis.class_id for result in face.results} == {*EMOTIONS}


def test_contempt_is_not_a_failure(ros):
    """The message has no value for it: the next best emotion is published with its probability."""
    rig = Rig(ros)
    rig.classifier.probabilities = np.full(8, 0.05, np.float32)
    rig.classifier.probabilities[[EMOTIONS.index("contempt"), EMOTIONS.index("anger")]] = 0.5, 0.2
    (messages,) = rig.meet("anna")
    rig.detector.shows("anna", 1.5)
    ros.until(lambda: messages and rig.emotions, "an expression")
    assert (messages[0].expression, messages[0].confidence) == (
        "angry",
        pytest.approx(0.2),
    )
    assert rig.emotions[0].detections[0].results[0].hypothesis.class_id == "contempt"


def test_publishers_exist_as_long_as_the_face(ros):
    rig = Rig(ros)
    rig.meet("anna", "bert")
    first = rig.publisher("anna")
    for number in range(5):
        rig.detector.shows("anna", 1.0 + number)
        ros.until(lambda number=number: len(rig.emotions) > number, "emotions")
        rig.detector.sees("anna", "bert")
    assert rig.publisher("anna") is first
    rig.detector.sees("bert")
    ros.until(lambda: rig.offered() == {"bert"}, "the expression of anna is gone")
    assert rig.watched() == {"/humans/faces/bert/cropped"}
    rig.detector.sees()
    ros.until(lambda: not rig.offered(), "all are gone")
    assert rig.watched() == set()


def test_pending_faces_are_one_batch(ros):
    rig = Rig(ros, HeldClassifier())
    messages = rig.meet("anna", "bert", "cleo")
    rig.detector.shows("anna", 1.0)
    ros.until(rig.classifier.entered.is_set, "the first image is in work")
    for id, stamp_s in (("bert", 2.0), ("cleo", 2.0), ("bert", 3.0)):
        statistics = rig.node._processor._statistics
        before = statistics._received
        rig.detector.shows(id, stamp_s)
        ros.until(lambda before=before, of=statistics: of._received > before, "an image")
    rig.classifier.go_on.set()
    ros.until(lambda: all(messages), "expressions")
    # for landmarks, then with the mirror images of new faces
    assert [len(crops) for crops in rig.classifier.seen] == [1, 2, 2, 4]
    assert [message.header.stamp.sec for message in messages[1]] == [
        3
    ]  # the newest image of each face
    values = {}

    def is_reported():
        if not rig.diagnostics:
            return False
        values.update((value.key, value.value) for value in rig.diagnostics[-1].status[0].values)
        return values.get("processed") == "2"

    ros.until(is_reported, "figures")
    assert (values["received"], values["dropped"], values["faces"]) == ("4", "1", "2")


def test_the_aligned_image_is_preferred(ros):
    rig = Rig(ros)
    (messages,) = rig.meet("anna")
    assert rig.watched() == {"/humans/faces/anna/cropped"}
    rig.detector.offers("anna", "aligned")
    ros.until(lambda: rig.watched() == {"/humans/faces/anna/aligned"}, "it changes")
    rig.detector.shows("anna", 1.0, "aligned")
    ros.until(lambda: messages, "an expression")
    rig.detector.node.destroy_publisher(rig.detector.images.pop(("anna", "aligned")))
    ros.until(lambda: rig.watched() == {"/humans/faces/anna/cropped"}, "it changes back")
    rig.detector.shows("anna", 2.0)
    ros.until(lambda: len(messages) == 2, "an expression")


def test_an_invalid_image_is_skipped_alone(ros, capfd):
    rig = Rig(ros)
    (messages,) = rig.meet("anna")
    ros.until(lambda: rig.detector.has_subscribers("anna"), "it is watched")
    rig.detector.images["anna", "cropped"].publish(Image())
    ros.until(
        lambda: any(
            "1 frames failed" in diagnostic.status[0].message for diagnostic in rig.diagnostics
        ),
        "",
    )
    rig.detector.shows("anna", 1.0)
    ros.until(lambda: messages, "an expression")
    assert "the image of face anna is lost: the image is empty" in capfd.readouterr().err


def test_a_network_error_costs_one_batch(ros, capfd):
    class Fails(NodeClassifier):
        def classify(self, crops_rgb):
            reply = super().classify(crops_rgb)
            if len(self.seen) == 1:
                raise RuntimeError("out of\nmemory")
            return reply

    rig = Rig(ros, Fails())
    (messages,) = rig.meet("anna")
    rig.detector.shows("anna", 1.0)
    ros.until(lambda: rig.classifier.seen, "the network fails")
    rig.detector.shows("anna", 2.0)
    ros.until(lambda: messages, "an expression")
    assert messages[0].header.stamp.sec == 2
    assert "a batch of 1 face images is lost: out of memory" in capfd.readouterr().err


def test_an_id_that_cannot_be_a_topic_is_reported(ros, capfd):
    rig = Rig(ros)
    rig.detector.offers("anna")
    for _ in range(2):
        rig.detector.sees("12", "anna")
    ros.until(lambda: rig.offered() == {"anna"}, "anna is there")
    assert capfd.readouterr().err.count("id '12' is ignored: it is not a valid topic name") == 1


def test_a_missing_face_detector_is_reported(ros, capfd):
    rig = Rig(ros, image_timeout_s=0.05)
    ros.remove(rig.detector.node)
    says = "no publisher on /humans/faces/tracked: is the face detector running?"

    def is_reported():
        last = rig.diagnostics[-1].status[0] if rig.diagnostics else None
        return last and (last.level, last.message) == (DiagnosticStatus.WARN, says)

    ros.until(is_reported, "a report")
    assert says in capfd.readouterr().err


def test_thresholds_can_change_while_active(ros):
    rig = Rig(ros)
    (messages,) = rig.meet("anna")
    rig.detector.shows("anna", 1.0)
    ros.until(lambda: messages, "an expression")
    rig.node.set_parameters([Parameter("quality.min_size_px", value=500.0)])
    rig.detector.shows("anna", 2.0)
    ros.until(lambda: len(rig.emotions) == 2, "emotions")
    assert len(rig.emotions[1].detections[0].results) == 0
    assert len(messages) == 1


def test_two_activations_leak_nothing(ros):
    threads = set(threading.enumerate())
    rig = Rig(ros)
    for stamp_s in (1.0, 2.0):
        rig.meet("anna")
        rig.detector.shows("anna", stamp_s)
        ros.until(lambda: rig.emotions, "emotions")
        rig.emotions.clear()
        rig.node.trigger_deactivate()
        assert (rig.offered(), rig.watched()) == (set(), set())
        assert set(threading.enumerate()) == threads
        rig.node.trigger_activate()
        ros.until(rig.detector.tracked.get_subscription_count, "the node subscribes")


def test_without_hri_msgs_configuration_fails_with_a_reason(ros, capfd, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ros.node(EmotionNode, input_source="ros4hri").start()
    output = capfd.readouterr().err
    assert (
        "cannot be configured: parameter input_source ros4hri: hri_msgs is not installed; "
        "sudo apt install ros-$ROS_DISTRO-hri-msgs" in output
    )
