"""Faces as REP-155 has them: topics that come and go with the faces."""

import sys
import threading

import numpy as np
import pytest
from hri_msgs.msg import Expression, FacialLandmarks, IdsList, NormalizedRegionOfInterest2D
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_tools import (
    BRIGHT,
    DARK,
    Listener,
    NodeClassifier,
    fake_pipeline,
    graph_of_a_test,
    header_at,
    image_at,
    quick_pipeline,
)
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from fer_ros.cameras import CamerasPipeline
from fer_ros.labels import EMOTIONS
from fer_ros.ros.convert import to_rgb
from fer_ros.ros.humans import (
    OF_A_FACE,
    FaceTopics,
)
from fer_ros.ros.node import EmotionNode
from fer_ros.types import FaceBoxes

ros = graph_of_a_test


class Rig:
    """An active node that reports a face at once, a camera, and somebody who listens."""

    def __init__(self, ros, make=None, **parameters):
        self.ros = ros
        settings = {"tracker__min_hits": 1, "deterministic_ids": True} | parameters
        self.node = ros.node(EmotionNode, make or quick_pipeline(), **settings)
        self.peer = ros.node(Node, "peer")
        self.camera = self.peer.create_publisher(Image, "image", 10)
        self.prefix = parameters.get("humans_prefix", "/humans")
        self.listener = Listener(self.peer)
        self.tracked = self.listener.listen(IdsList, f"{self.prefix}/faces/tracked")
        self.emotions = self.listener.listen(Detection2DArray, "emotion_node/emotions")
        self.node.start()
        ros.until(self.camera.get_subscription_count, "the node subscribes")
        for topic in ("emotion_node/emotions", f"{self.prefix}/faces/tracked"):
            ros.until(lambda topic=topic: self.peer.count_publishers(topic), topic)

    def show(self, stamp_s, picture=BRIGHT):
        """The emotions of an image, and who is there."""
        before = len(self.emotions), len(self.tracked)
        self.camera.publish(image_at(stamp_s, picture))
        self.ros.until(
            lambda: len(self.emotions) > before[0] and len(self.tracked) > before[1],
            f"answers to the image at {stamp_s}",
        )
        return self.emotions[-1], [*self.tracked[-1].ids]

    def listen(self, name, face="f00001"):
        """The messages of a topic of a face, once the node has found the listener."""
        heard = self.listener.listen(OF_A_FACE[name], f"{self.prefix}/faces/{face}/{name}")
        self.until_watched(name, face)
        return heard

    def until_watched(self, name, face="f00001", count=1):
        topic = f"{self.prefix}/faces/{face}/{name}"
        (publisher,) = [each for each in self.node.publishers if each.topic_name == topic]
        self.ros.until(lambda: publisher.get_subscription_count() == count, f"{topic} is watched")

    def until_worked(self, count):
        """Waits until so many images are done, with all that there is to say about them."""
        monitor = self.node._session._cameras[""].monitor
        self.ros.until(lambda: monitor._processed == count, f"{count} images")

    def topics(self):
        """The topics of faces that the node offers."""
        below = f"{self.prefix}/faces/"
        return {
            each.topic_name.removeprefix(below)
            for each in self.node.publishers
            if each.topic_name.startswith(below)
        }


def test_nobody_is_there(ros):
    rig = Rig(ros)
    _, ids = rig.show(1.0, DARK)
    assert ids == []
    assert rig.tracked[0].header == header_at(1.0)
    assert rig.topics() == {"tracked"}


def test_topics_come_with_a_face_and_go_when_it_is_gone_for_good(ros):
    rig = Rig(ros)
    of_the_face = {f"f00001/{name}" for name in OF_A_FACE}
    assert rig.show(1.0)[1] == ["f00001"]
    assert rig.topics() == {"tracked"} | of_the_face
    assert rig.show(1.4, DARK)[1] == ["f00001"]  # it may come back
    assert rig.topics() == {"tracked"} | of_the_face
    assert rig.show(1.6, DARK)[1] == []
    assert rig.topics() == {"tracked"}
    assert rig.show(1.7)[1] == ["f00002"]
    seen = {name for name, _ in rig.peer.get_topic_names_and_types() if "f00001" in name}
    ros.until(lambda: not any(map(rig.peer.count_publishers, seen)), "nobody offers them")


def test_a_face_has_the_same_id_everywhere(ros):
    emotions, ids = Rig(ros, deterministic_ids=False, id_prefix="front_").show(1.0)
    (face,) = emotions.detections
    assert [face.id] == ids
    assert face.id.startswith("front_")
    assert len(face.id) == len("front_") + 5


def test_two_nodes_give_different_ids(ros):
    first = Rig(ros, deterministic_ids=False)
    _, (id,) = first.show(1.0)
    ros.remove(first.node)
    _, (other,) = Rig(ros, deterministic_ids=False).show(1.0)
    assert id != other


def test_what_is_told_of_a_face(ros):
    rig = Rig(ros, humans_prefix="/robot/people")
    rig.show(1.0)
    regions, landmarks, expressions = map(rig.listen, ("roi", "landmarks", "expression"))
    rig.show(1.1)
    heard = (regions, landmarks, expressions)
    ros.until(lambda: all(each and each[-1].header == header_at(1.1) for each in heard), "all")
    region = regions[-1]
    edges = [region.xmin, region.ymin, region.xmax, region.ymax]
    np.testing.assert_allclose(edges, [50 / 160, 30 / 120, 110 / 160, 90 / 120], rtol=1e-6)
    assert region.c == pytest.approx(0.9)
    assert (landmarks[-1].width, landmarks[-1].height) == (160, 120)
    nose = landmarks[-1].landmarks[FacialLandmarks.NOSE]
    assert (nose.x * 160, nose.y * 120) == pytest.approx((80, 60), abs=2)
    assert expressions[-1].expression == Expression.HAPPY
    assert expressions[-1].confidence == pytest.approx(0.86)


def test_a_face_that_cannot_be_read_has_no_expression(ros):
    """Its region comes after where the expression would have: one that came would be there."""
    rig = Rig(ros, quality__min_size_px=100)
    rig.show(1.0)
    expressions, regions = rig.listen("expression"), rig.listen("roi")
    for stamp in (1.1, 1.2):
        rig.show(stamp)
    ros.until(lambda: len(regions) == 2, "regions")
    assert expressions == []


def test_no_picture_leaves_the_node_where_privacy_is_on(ros, capfd, monkeypatch):
    def no_picture(*_):
        raise AssertionError("a picture was made")

    monkeypatch.setattr("fer_ros.ros.humans.portrait", no_picture)
    monkeypatch.setattr("fer_ros.ros.outputs.draw", no_picture)
    rig = Rig(ros)
    rig.show(1.0)
    pictures = [rig.listen("cropped"), rig.listen("aligned")]
    pictures.append(rig.listener.listen(Image, "emotion_node/debug_image"))
    (debug,) = [each for each in rig.node.publishers if "debug_image" in each.topic_name]
    ros.until(debug.get_subscription_count, "the debug image is watched")
    for stamp in (1.1, 1.2):
        rig.show(stamp)
    assert pictures == [[], [], []]
    said = capfd.readouterr().err
    assert said.count("/emotion_node/debug_image is watched, but the parameter privacy") == 1


def test_pictures_are_for_those_who_watch(ros, astronaut, monkeypatch):
    made = []

    def spy(image_rgb, *rest):
        made.append(rest)
        return image_rgb[:128, :128]

    with monkeypatch.context() as patch:
        patch.setattr("fer_ros.ros.humans.portrait", spy)
        rig = Rig(ros, fake_pipeline, privacy=False)
        rig.show(1.0, astronaut)
        rig.show(1.1, astronaut)
        rig.until_worked(2)
        assert made == []
    cropped, aligned = rig.listen("cropped"), rig.listen("aligned")
    rig.show(1.2, astronaut)
    for pictures in (cropped, aligned):
        ros.until(lambda heard=pictures: any(heard), "a picture")
        message = pictures[-1]
        assert message.header == header_at(1.2)
        assert (message.width, message.height, message.encoding) == (128, 128, "rgb8")
    face = to_rgb(cropped[-1])
    assert face.std() > 30
    # Her head is a little tilted: the two differ, and not by much.
    assert 0 < np.abs(face.astype(int) - to_rgb(aligned[-1])).mean() < 40


def test_privacy_can_be_switched_on_but_not_off(ros):
    rig = Rig(ros, privacy=False)
    rig.show(1.0)
    cropped = rig.listen("cropped")
    rig.show(1.1)
    ros.until(lambda: cropped, "a picture")
    (result,) = rig.node.set_parameters([Parameter("privacy", value=True)])
    assert result.successful, result.reason
    regions = rig.listen("roi")
    for stamp in (1.2, 1.3):
        rig.show(stamp)
    ros.until(lambda: regions and regions[-1].header == header_at(1.3), "regions")
    assert all(each.header in (header_at(1.0), header_at(1.1)) for each in cropped)
    (result,) = rig.node.set_parameters([Parameter("privacy", value=False)])
    assert result.reason == (
        "privacy: can be switched on but not off; start the node with privacy:=false"
    )


def test_it_can_be_switched_off_and_on(ros):
    rig = Rig(ros)
    rig.show(1.0)
    rig.node.set_parameters([Parameter("publish_humans", value=False)])
    assert rig.show(1.1)[1] == []
    assert rig.topics() == {"tracked"}
    rig.node.set_parameters([Parameter("publish_humans", value=True)])
    assert rig.show(1.2)[1] == ["f00001"]


@pytest.mark.parametrize("end", ["trigger_deactivate", "destroy_node"])
def test_a_node_that_rests_takes_its_faces_down(ros, end):
    rig = Rig(ros)
    rig.show(1.0)
    if end == "destroy_node":
        ros.remove(rig.node)
    else:
        rig.node.trigger_deactivate()
        assert rig.topics() == {"tracked"}
    ros.until(lambda: [*rig.tracked[-1].ids] == [], "nobody is tracked")


def test_a_camera_that_falls_silent_leaves_nobody(ros, monkeypatch):
    monkeypatch.setattr("fer_ros.ros.node._REPORT_S", 0.05)
    rig = Rig(ros, image_timeout_s=0.3)
    rig.show(1.0)
    ros.until(lambda: [*rig.tracked[-1].ids] == [], "nobody is tracked")
    ros.until(lambda: rig.topics() == {"tracked"}, "its topics are gone")
    before = len(rig.tracked)
    rig.show(1.1)
    assert [*rig.tracked[before].ids] == ["f00001"]  # soon it is silent again


def test_a_clock_that_runs_back_leaves_nobody_of_before(ros):
    rig = Rig(ros)
    rig.show(1000.0)
    assert rig.show(10.0)[1] == ["f00002"]
    assert {name.split("/")[0] for name in rig.topics()} == {"tracked", "f00002"}


class Crowd:
    """A detector that finds a face at each bright square of 16 px in an 8 x 8 grid."""

    def detect(self, image_rgb):
        rows, columns = np.nonzero(image_rgb[8::32, 8::32, 0] > 100)
        boxes = np.stack([columns, rows, columns + 0.75, rows + 0.75], axis=1) * 32.0
        points = np.array([(8, 9), (16, 9), (12, 13), (9, 17), (15, 17)])
        return FaceBoxes(
            boxes.astype(np.float32),
            np.full(len(boxes), 0.9, np.float32),
            (boxes[:, None, :2] + points).astype(np.float32),
        )


def crowd(random, share):
    """An image (256, 256, 3) with a face in about this share of the 64 places."""
    there = random.random((8, 8)) < share
    return np.kron(there[..., None], np.full((32, 32, 3), 200, np.uint8)).astype(np.uint8)


def test_many_faces_appear_and_leave_at_random(ros):
    """The topics are those of who is there, after each image, and nothing is left in the end."""
    threads = set(threading.enumerate())
    rig = Rig(
        ros, lambda cameras, config: CamerasPipeline(cameras, config, Crowd(), NodeClassifier())
    )
    random = np.random.default_rng(5)
    seen = set()
    for step in range(25):
        emotions, ids = rig.show(1 + step / 3, crowd(random, 0.4))
        assert {face.id for face in emotions.detections} <= {*ids}
        assert rig.topics() == {"tracked"} | {f"{id}/{name}" for id in ids for name in OF_A_FACE}
        seen |= {*ids}
    assert len(seen) > 100
    rig.show(100.0, np.zeros((256, 256, 3), np.uint8))
    assert rig.show(200.0, np.zeros((256, 256, 3), np.uint8))[1] == []
    assert rig.topics() == {"tracked"}
    ros.remove(rig.node)
    assert set(threading.enumerate()) == threads


def test_without_hri_msgs_there_are_emotions_all_the_same(ros, capfd, monkeypatch):
    monkeypatch.delitem(sys.modules, "fer_ros.ros.humans")
    monkeypatch.setitem(sys.modules, "hri_msgs", None)
    monkeypatch.setitem(sys.modules, "hri_msgs.msg", None)
    peer = ros.node(Node, "peer")
    camera = peer.create_publisher(Image, "image", 10)
    emotions = Listener(peer).listen(Detection2DArray, "emotion_node/emotions")
    node = ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1)
    node.start()
    ros.until(camera.get_subscription_count, "the node subscribes")
    ros.until(lambda: peer.count_publishers("emotion_node/emotions"), "it offers emotions")
    camera.publish(image_at(1.0, BRIGHT))
    ros.until(lambda: emotions, "emotions")
    assert not [each for each in node.publishers if "humans" in each.topic_name]
    assert capfd.readouterr().err.count("hri_msgs is not installed") == 1


def test_topics_of_nobody_else_are_touched(ros):
    node = ros.node(Node, "subject")
    topics = FaceTopics(node, "/humans", {"roi": NormalizedRegionOfInterest2D})
    before = {each.topic_name for each in node.publishers}
    topics.publish("anna", "roi", NormalizedRegionOfInterest2D())  # she is not there
    assert not topics.is_watched("anna", "roi")
    topics.keep(["anna"])
    topics.keep(["anna", "bert"])
    now = {each.topic_name for each in node.publishers} - before
    assert now == {"/humans/faces/anna/roi", "/humans/faces/bert/roi"}
    topics.keep([])
    assert {each.topic_name for each in node.publishers} == before


def test_other_names_for_emotions(ros):
    rig = Rig(ros, label_map="happiness:joy, contempt:annoyed")
    emotions, _ = rig.show(1.0)
    (seen,) = emotions.detections
    said = [each.hypothesis.class_id for each in seen.results]
    assert said[0] == "joy"
    assert {*said} == {*EMOTIONS} - {"happiness", "contempt"} | {"joy", "annoyed"}
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    heard = rig.listener.listen(LabelInfo, "emotion_node/emotions/labels", latched)
    ros.until(lambda: heard, "the labels")
    assert [each.class_name for each in heard[0].class_map][1] == "joy"
