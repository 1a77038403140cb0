"""Beside another detector: its pictures of faces in, their expressions out.

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

from fer_ros.crops import CropPipeline
from fer_ros.labels import EMOTIONS
from fer_ros.ros.node import EmotionNode

PICTURE = np.full((128, 128, 3), 90, np.uint8)


reports_often = diagnostics_often
ros = graph_of_a_test


class Detector:
    """Another node that finds faces."""

    def __init__(self, ros, prefix="/humans"):
        self.ros, self.prefix = ros, prefix
        self.node = ros.node(Node, "face_detect")
        self.tracked = self.node.create_publisher(IdsList, f"{prefix}/faces/tracked", 1)
        self.pictures = {}

    def sees(self, *ids):
        self.tracked.publish(IdsList(header=header_at(1.0), ids=ids))

    def offers(self, id, kind="cropped"):
        topic = f"{self.prefix}/faces/{id}/{kind}"
        self.pictures[id, kind] = self.node.create_publisher(Image, topic, 1)

    def is_watched(self, id, kind="cropped"):
        return self.pictures[id, kind].get_subscription_count() > 0

    def shows(self, id, stamp_s, kind="cropped", picture=PICTURE):
        self.ros.until(lambda: self.is_watched(id, kind), f"{kind} of {id} is watched")
        self.pictures[id, kind].publish(image_at(stamp_s, picture))


class Rig:
    """An active node beside a detector, and somebody who listens."""

    def __init__(self, ros, classifier=None, **parameters):
        self.ros = ros
        self.classifier = classifier or NodeClassifier()
        self.node = ros.node(
            EmotionNode,
            pytest.fail,  # no detector of our own
            lambda config: CropPipeline(config, self.classifier),
            source="ros4hri",
            **parameters,
        )
        self.node.start()
        self.detector = Detector(ros)
        self.peer = ros.node(Node, "peer")
        self.listener = Listener(self.peer)
        self.emotions = self.listener.listen(Detection2DArray, "emotion_node/emotions")
        self.diagnostics = self.listener.listen(DiagnosticArray, "/diagnostics")
        ros.until(self.detector.tracked.get_subscription_count, "the node subscribes")
        ros.until(lambda: self.peer.count_publishers("emotion_node/emotions"), "it offers emotions")

    def meet(self, *ids):
        """Faces come; what is told of each."""
        for id in ids:
            self.detector.offers(id)
        self.detector.sees(*ids)
        self.ros.until(lambda: {*ids} <= self.offered(), "expressions are offered")
        return [self.listen(id) for id in ids]

    def listen(self, id):
        heard = self.listener.listen(Expression, f"/humans/faces/{id}/expression")
        publisher = self.publisher(id)
        self.ros.until(publisher.get_subscription_count, f"the expression of {id} is watched")
        return heard

    def publisher(self, id):
        topic = f"/humans/faces/{id}/expression"
        return next(each for each in self.node.publishers if each.topic_name == topic)

    def offered(self):
        """Ids of the faces that have an expression."""
        names = (each.topic_name.split("/") for each in self.node.publishers)
        return {name[-2] for name in names if name[-1] == "expression"}

    def watched(self):
        """Topics of pictures that the node subscribes to."""
        ours = {each.topic_name for each in self.node.subscriptions if "/faces/" in each.topic_name}
        return ours - {"/humans/faces/tracked"}


def test_nobody_is_there(ros):
    rig = Rig(ros)
    rig.detector.sees()
    rig.ros.until(lambda: rig.diagnostics, "a report")
    assert (rig.offered(), rig.watched()) == (set(), set())
    assert rig.diagnostics[-1].status[0].level == DiagnosticStatus.OK


def test_each_picture_has_an_expression_under_its_own_header(ros):
    rig = Rig(ros)
    (heard,) = rig.meet("anna")
    for number in range(3):
        rig.detector.shows("anna", 1.5 + number)
        ros.until(lambda number=number: len(heard) > number, "an expression")
    assert [each.header for each in heard] == [header_at(1.5 + number) for number in range(3)]
    for message in heard:
        assert message.expression == Expression.HAPPY
        assert message.confidence == pytest.approx(0.86)
        assert np.isnan([message.valence, message.arousal]).all()


def test_the_whole_distribution_is_told_as_well(ros):
    rig = Rig(ros)
    rig.meet("anna")
    rig.detector.shows("anna", 1.5)
    ros.until(lambda: rig.emotions, "emotions")
    (face,) = rig.emotions[0].detections
    assert rig.emotions[0].header == header_at(1.5)
    assert face.id == "anna"
    assert {each.hypothesis.class_id for each in face.results} == {*EMOTIONS}


def test_contempt_is_no_failure(ros):
    """The message has no word for it: the next best is told, with its own probability."""
    rig = Rig(ros)
    rig.classifier.probabilities = np.full(8, 0.05, np.float32)
    rig.classifier.probabilities[[EMOTIONS.index("contempt"), EMOTIONS.index("anger")]] = 0.5, 0.2
    (heard,) = rig.meet("anna")
    rig.detector.shows("anna", 1.5)
    ros.until(lambda: heard and rig.emotions, "an expression")
    assert (heard[0].expression, heard[0].confidence) == ("angry", pytest.approx(0.2))
    assert rig.emotions[0].detections[0].results[0].hypothesis.class_id == "contempt"


def test_publishers_stay_as_long_as_the_face_does(ros):
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


def test_all_faces_that_wait_go_through_the_network_at_once(ros):
    rig = Rig(ros, HeldClassifier())
    heard = rig.meet("anna", "bert", "cleo")
    rig.detector.shows("anna", 1.0)
    ros.until(rig.classifier.entered.is_set, "the first picture is in work")
    for id, stamp_s in (("bert", 2.0), ("cleo", 2.0), ("bert", 3.0)):
        before = rig.node._session._monitor._received
        rig.detector.shows(id, stamp_s)
        ros.until(lambda before=before: rig.node._session._monitor._received > before, "a picture")
    rig.classifier.go_on.set()
    ros.until(lambda: all(heard), "expressions")
    assert [len(crops) for crops in rig.classifier.seen] == [1, 1, 2, 2]
    assert [each.header.stamp.sec for each in heard[1]] == [3]  # the newest picture of each face
    values = {}

    def told():
        if not rig.diagnostics:
            return False
        values.update((each.key, each.value) for each in rig.diagnostics[-1].status[0].values)
        return values.get("processed") == "2"

    ros.until(told, "figures")
    assert (values["received"], values["dropped"], values["faces"]) == ("4", "1", "2")


def test_the_aligned_picture_is_better(ros):
    rig = Rig(ros)
    (heard,) = rig.meet("anna")
    assert rig.watched() == {"/humans/faces/anna/cropped"}
    rig.detector.offers("anna", "aligned")
    ros.until(lambda: rig.watched() == {"/humans/faces/anna/aligned"}, "it changes")
    rig.detector.shows("anna", 1.0, "aligned")
    ros.until(lambda: heard, "an expression")
    rig.detector.node.destroy_publisher(rig.detector.pictures.pop(("anna", "aligned")))
    ros.until(lambda: rig.watched() == {"/humans/faces/anna/cropped"}, "it changes back")
    rig.detector.shows("anna", 2.0)
    ros.until(lambda: len(heard) == 2, "an expression")


def test_a_bad_picture_costs_itself_only(ros, capfd):
    rig = Rig(ros)
    (heard,) = rig.meet("anna")
    ros.until(lambda: rig.detector.is_watched("anna"), "it is watched")
    rig.detector.pictures["anna", "cropped"].publish(Image())
    ros.until(lambda: any("1 unusable" in each.status[0].message for each in rig.diagnostics), "")
    rig.detector.shows("anna", 1.0)
    ros.until(lambda: heard, "an expression")
    assert "the picture of face anna is lost: the image is empty" in capfd.readouterr().err


def test_an_error_in_the_network_costs_one_round(ros, capfd):
    class Fails(NodeClassifier):
        def classify(self, crops_rgb):
            answer = super().classify(crops_rgb)
            if len(self.seen) == 1:
                raise RuntimeError("out of\nmemory")
            return answer

    rig = Rig(ros, Fails())
    (heard,) = rig.meet("anna")
    rig.detector.shows("anna", 1.0)
    ros.until(lambda: rig.classifier.seen, "the network fails")
    rig.detector.shows("anna", 2.0)
    ros.until(lambda: heard, "an expression")
    assert heard[0].header.stamp.sec == 2
    assert "the pictures of 1 faces is lost: out of memory" in capfd.readouterr().err


def test_an_id_that_cannot_be_a_topic_is_told(ros, capfd):
    rig = Rig(ros)
    rig.detector.offers("anna")
    for _ in range(2):
        rig.detector.sees("12", "anna")
    ros.until(lambda: rig.offered() == {"anna"}, "anna is there")
    assert capfd.readouterr().err.count("the id '12' cannot be part of a topic") == 1


def test_nobody_who_finds_faces_is_told(ros, capfd):
    rig = Rig(ros, image_timeout_s=0.05)
    ros.remove(rig.detector.node)
    says = "no publisher on /humans/faces/tracked: does the face detector run?"

    def told():
        last = rig.diagnostics[-1].status[0] if rig.diagnostics else None
        return last and (last.level, last.message) == (DiagnosticStatus.WARN, says)

    ros.until(told, "a report")
    assert says in capfd.readouterr().err


def test_thresholds_change_while_it_runs(ros):
    rig = Rig(ros)
    (heard,) = rig.meet("anna")
    rig.detector.shows("anna", 1.0)
    ros.until(lambda: heard, "an expression")
    rig.node.set_parameters([Parameter("quality.min_size_px", value=500.0)])
    rig.detector.shows("anna", 2.0)
    ros.until(lambda: len(rig.emotions) == 2, "emotions")
    assert len(rig.emotions[1].detections[0].results) == 0
    assert len(heard) == 1


def test_two_lives_leave_nothing_behind(ros):
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


def test_without_hri_msgs_it_says_so(ros, capfd, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ros.node(EmotionNode, source="ros4hri").start()
    said = capfd.readouterr().err
    assert "cannot be configured: parameter source ros4hri: hri_msgs is not installed" in said
