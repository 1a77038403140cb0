"""Faces as REP-155 has them: topics that come and go with the faces."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hri_msgs.msg import Expression, FacialLandmarks, IdsList, NormalizedRegionOfInterest2D
from hri_tools import SyntheticScene, crowd
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_tools import (
    BRIGHT,
    DARK,
    FakeDetector,
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

from fer_ros.blendshapes import NUM_BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.convert import to_rgb
from fer_ros.ros.node import EmotionNode
from fer_ros.ros.output.hri_publishers import (
    FACE_TOPIC_TYPES,
    HriFaceTopics,
    to_action_units,
)

ros = graph_of_a_test


class Rig:
    """An active node that reports a face at once, a camera, and a subscriber."""

    def __init__(self, ros, make=None, **parameters):
        self.ros = ros
        settings = {"tracker__min_hits": 1, "deterministic_ids": True} | parameters
        self.node = ros.node(EmotionNode, make or quick_pipeline(), **settings)
        self.client = ros.node(Node, "client")
        self.camera = self.client.create_publisher(Image, "image", 10)
        self.prefix = parameters.get("hri_namespace", "/humans")
        self.listener = Listener(self.client)
        self.tracked = self.listener.listen(IdsList, f"{self.prefix}/faces/tracked")
        self.emotions = self.listener.listen(Detection2DArray, "emotion_node/emotions")
        self.node.start()
        ros.until(self.camera.get_subscription_count, "the node subscribes")
        for topic in ("emotion_node/emotions", f"{self.prefix}/faces/tracked"):
            ros.until(lambda topic=topic: self.client.count_publishers(topic), topic)

    def show(self, stamp_s, image=BRIGHT):
        """The emotions of an image, and who is there."""
        before = len(self.emotions), len(self.tracked)
        self.camera.publish(image_at(stamp_s, image))
        self.ros.until(
            lambda: len(self.emotions) > before[0] and len(self.tracked) > before[1],
            f"results of the image at {stamp_s}",
        )
        return self.emotions[-1], [*self.tracked[-1].ids]

    def listen(self, name, face="f00001"):
        """The messages of a topic of a face, once the node has found the listener."""
        topic = f"{self.prefix}/faces/{face}/{name}"
        received = self.listener.listen(FACE_TOPIC_TYPES[name], topic)
        self.until_watched(name, face)
        return received

    def until_watched(self, name, face="f00001", count=1):
        topic = f"{self.prefix}/faces/{face}/{name}"
        (publisher,) = [pub for pub in self.node.publishers if pub.topic_name == topic]
        self.ros.until(lambda: publisher.get_subscription_count() == count, f"{topic} is watched")

    def until_worked(self, count):
        """Waits until so many images are done, with all that there is to say about them."""
        monitor = self.node._processor._cameras[""].statistics
        self.ros.until(lambda: monitor._processed == count, f"{count} images")

    def topics(self):
        """The topics of faces that the node offers."""
        below = f"{self.prefix}/faces/"
        return {
            publisher.topic_name.removeprefix(below)
            for publisher in self.node.publishers
            if publisher.topic_name.startswith(below)
        }


def test_no_face(ros):
    rig = Rig(ros)
    _, ids = rig.show(1.0, DARK)
    assert ids == []
    assert rig.tracked[0].header == header_at(1.0)
    assert rig.topics() == {"tracked"}


def test_topics_exist_from_the_first_detection_until_the_face_is_lost(ros):
    rig = Rig(ros)
    of_the_face = {f"f00001/{name}" for name in FACE_TOPIC_TYPES}
    seen = [f"/humans/faces/{name}" for name in of_the_face]
    assert rig.show(1.0)[1] == ["f00001"]
    ros.until(lambda: all(map(rig.client.count_publishers, seen)), "publishers")
    assert rig.show(1.4, DARK)[1] == ["f00001"]  # it may come back
    assert rig.topics() == {"tracked"} | of_the_face
    assert rig.show(1.6, DARK)[1] == []
    assert rig.topics() == {"tracked"}
    assert rig.show(1.7)[1] == ["f00002"]
    ros.until(lambda: not any(map(rig.client.count_publishers, seen)), "no publisher")


def test_a_face_has_the_same_id_everywhere(ros):
    emotions, ids = Rig(ros, deterministic_ids=False, id_prefix="front_").show(1.0)
    (face,) = emotions.detections
    assert [face.id] == ids
    assert face.id.startswith("front_")
    assert len(face.id) == len("front_") + 5


def test_two_nodes_give_different_ids(ros):
    first = Rig(ros, deterministic_ids=False)
    ids = first.show(1.0)[1]
    ros.remove(first.node)
    assert Rig(ros, deterministic_ids=False).show(1.0)[1] != ids


def test_topics_of_a_face(ros):
    rig = Rig(ros, hri_namespace="/robot/people")
    rig.show(1.0)
    regions, landmarks, expressions = map(rig.listen, ("roi", "landmarks", "expression"))
    rig.show(1.1)
    received = (regions, landmarks, expressions)
    last = header_at(1.1)
    ros.until(lambda: all(topic and topic[-1].header == last for topic in received), "all")
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


def test_no_image_is_published_where_publish_images_is_off(ros, capfd, monkeypatch):
    def no_picture(*_):
        raise AssertionError("an image was made")

    monkeypatch.setattr("fer_ros.ros.output.hri_publishers.crop_face_square", no_picture)
    monkeypatch.setattr("fer_ros.ros.output.publishers.draw", no_picture)
    rig = Rig(ros)
    rig.show(1.0)
    images = [rig.listen("cropped"), rig.listen("aligned")]
    images.append(rig.listener.listen(Image, "emotion_node/debug_image"))
    (debug,) = [pub for pub in rig.node.publishers if "debug_image" in pub.topic_name]
    ros.until(debug.get_subscription_count, "the debug image is watched")
    for stamp in (1.1, 1.2):
        rig.show(stamp)
    assert images == [[], [], []]
    logged = capfd.readouterr().err
    assert (
        logged.count("/emotion_node/debug_image has subscribers, but publish_images is false") == 1
    )


def test_images_are_published_only_to_subscribers(ros, astronaut, monkeypatch):
    crops = []

    def spy(image_rgb, *rest):
        crops.append(rest)
        return image_rgb[:128, :128]

    with monkeypatch.context() as patch:
        patch.setattr("fer_ros.ros.output.hri_publishers.crop_face_square", spy)
        rig = Rig(ros, fake_pipeline, publish_images=True)
        rig.show(1.0, astronaut)
        rig.show(1.1, astronaut)
        rig.until_worked(2)
        assert crops == []
    cropped, aligned = rig.listen("cropped"), rig.listen("aligned")
    rig.show(1.2, astronaut)
    for images in (cropped, aligned):
        ros.until(lambda received=images: any(received), "an image")
        message = images[-1]
        assert message.header == header_at(1.2)
        assert (message.width, message.height, message.encoding) == (128, 128, "rgb8")
    face = to_rgb(cropped[-1])
    assert face.std() > 30
    # Her head is a little tilted: the two differ, and not by much.
    assert 0 < np.abs(face.astype(int) - to_rgb(aligned[-1])).mean() < 40


def test_publish_images_can_be_disabled_but_not_enabled(ros):
    rig = Rig(ros, publish_images=True)
    rig.show(1.0)
    cropped = rig.listen("cropped")
    rig.show(1.1)
    ros.until(lambda: cropped, "an image")
    (result,) = rig.node.set_parameters([Parameter("publish_images", value=False)])
    assert result.successful, result.reason
    regions = rig.listen("roi")
    for stamp in (1.2, 1.3):
        rig.show(stamp)
    ros.until(lambda: regions and regions[-1].header == header_at(1.3), "regions")
    assert all(message.header in (header_at(1.0), header_at(1.1)) for message in cropped)
    (result,) = rig.node.set_parameters([Parameter("publish_images", value=True)])
    assert result.reason == (
        "publish_images: can only be disabled; restart the node with publish_images:=true"
    )


def test_action_units_are_published_while_there_is_a_subscriber(ros, monkeypatch):
    class Blendshapes(NodeClassifier):
        def classify(self, crops_rgb):
            predictions = super().classify(crops_rgb)
            values = np.full((len(crops_rgb), NUM_BLENDSHAPES), 0.5, np.float32)
            return replace(predictions, blendshapes=values)

    computed = []

    def spy(face, header):
        computed.append(header)
        return to_action_units(face, header)

    monkeypatch.setattr("fer_ros.ros.output.hri_publishers.to_action_units", spy)
    detector = FakeDetector(lambda _: None)
    rig = Rig(ros, lambda *settings: MultiCameraPipeline(*settings, detector, Blendshapes()))
    rig.show(1.0)
    rig.until_worked(1)
    assert computed == []
    received = rig.listen("facs")
    rig.show(1.1)
    ros.until(lambda: received, "action units")
    assert received[0].header == header_at(1.1)
    assert received[0].intensity[43] == 0.5


def test_without_blendshapes_there_are_no_action_units(ros):
    rig = Rig(ros)
    rig.show(1.0)
    received, regions = rig.listen("facs"), rig.listen("roi")
    rig.show(1.1)
    ros.until(lambda: regions, "a region")
    rig.until_worked(2)
    assert received == []


def test_a_relative_namespace_is_below_that_of_the_node(ros):
    def make(**given):
        return EmotionNode(quick_pipeline(), namespace="robot", **given)

    node = ros.node(make, hri_namespace="humans")
    node.start()
    topics = {publisher.topic_name for publisher in node.publishers}
    assert "/robot/humans/faces/tracked" in topics


@pytest.mark.parametrize("name", ["other_robot", "emotion_node"])
def test_another_publisher_of_the_same_faces_is_reported_once(ros, capfd, name):
    rig = Rig(ros)
    rig.node._report()
    assert "publishes the same list" not in capfd.readouterr().err
    ros.node(Node, name).create_publisher(IdsList, "/humans/faces/tracked", 1)
    ros.until(lambda: rig.node.count_publishers("/humans/faces/tracked") == 2, "the other one")
    for _ in range(2):
        rig.node._report()
    logged = capfd.readouterr().err
    assert logged.count(f"/{name} publishes the same list of tracked faces; set hri_namespace") == 1


def test_publishing_can_be_disabled_and_enabled(ros):
    rig = Rig(ros)
    rig.show(1.0)
    rig.node.set_parameters([Parameter("publish_humans", value=False)])
    assert (rig.show(1.1)[1], rig.topics()) == ([], {"tracked"})
    rig.camera.publish(image_at(1.2, BRIGHT))  # no list for this one
    rig.until_worked(3)
    rig.node.set_parameters([Parameter("publish_humans", value=True)])
    assert rig.show(1.3)[1] == ["f00001"]
    assert [len(message.ids) for message in rig.tracked] == [1, 0, 1]


@pytest.mark.parametrize("end", ["trigger_deactivate", "destroy_node"])
def test_an_inactive_node_removes_its_faces(ros, end):
    rig = Rig(ros)
    rig.show(1.0)
    if end == "destroy_node":
        ros.remove(rig.node)
    else:
        rig.node.trigger_deactivate()
        assert rig.topics() == {"tracked"}
    ros.until(lambda: [*rig.tracked[-1].ids] == [], "no tracked face")


def test_a_silent_camera_removes_its_faces(ros, monkeypatch):
    monkeypatch.setattr("fer_ros.ros.node._REPORT_PERIOD_S", 0.05)
    rig = Rig(ros, image_timeout_s=0.3)
    rig.show(1.0)
    ros.until(lambda: [*rig.tracked[-1].ids] == [], "no tracked face")
    ros.until(lambda: rig.topics() == {"tracked"}, "its topics are gone")
    before = len(rig.tracked)
    rig.show(1.1)
    assert [*rig.tracked[before].ids] == ["f00001"]  # soon it is silent again


def test_a_backward_clock_jump_removes_earlier_faces(ros):
    rig = Rig(ros)
    rig.show(1000.0)
    assert rig.show(10.0)[1] == ["f00002"]
    assert {name.split("/")[0] for name in rig.topics()} == {"tracked", "f00002"}


def test_many_faces_appear_and_leave_at_random(ros):
    """The topics are those of who is there, after each image, and nothing is left in the end."""
    threads = set(threading.enumerate())
    rig = Rig(
        ros,
        lambda cameras, config: MultiCameraPipeline(
            cameras, config, SyntheticScene(), NodeClassifier()
        ),
    )
    random = np.random.default_rng(5)
    seen = set()
    for step in range(25):
        emotions, ids = rig.show(1 + step / 3, crowd(random, 0.4))
        assert {face.id for face in emotions.detections} <= {*ids}
        assert rig.topics() == {"tracked"} | {
            f"{id}/{name}" for id in ids for name in FACE_TOPIC_TYPES
        }
        seen |= {*ids}
    assert len(seen) > 100
    rig.show(100.0, np.zeros((256, 256, 3), np.uint8))
    assert rig.show(200.0, np.zeros((256, 256, 3), np.uint8))[1] == []
    assert rig.topics() == {"tracked"}
    ros.remove(rig.node)
    assert set(threading.enumerate()) == threads


def test_without_hri_msgs_emotions_are_published(ros, capfd, monkeypatch):
    monkeypatch.delitem(sys.modules, "fer_ros.ros.output.hri_publishers")
    monkeypatch.setitem(sys.modules, "hri_msgs", None)
    monkeypatch.setitem(sys.modules, "hri_msgs.msg", None)
    client = ros.node(Node, "client")
    camera = client.create_publisher(Image, "image", 10)
    emotions = Listener(client).listen(Detection2DArray, "emotion_node/emotions")
    node = ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1)
    node.start()
    ros.until(camera.get_subscription_count, "the node subscribes")
    ros.until(lambda: client.count_publishers("emotion_node/emotions"), "it offers emotions")
    camera.publish(image_at(1.0, BRIGHT))
    ros.until(lambda: emotions, "emotions")
    assert not [publisher for publisher in node.publishers if "humans" in publisher.topic_name]
    assert capfd.readouterr().err.count("hri_msgs is not installed") == 1


def test_topics_of_other_nodes_are_untouched(ros):
    node = ros.node(Node, "subject")
    topics = HriFaceTopics(node, "/humans", {"roi": NormalizedRegionOfInterest2D})
    before = {publisher.topic_name for publisher in node.publishers}
    topics.publish("anna", "roi", NormalizedRegionOfInterest2D())  # she is not there
    assert not topics.has_subscribers("anna", "roi")
    topics.set_active_ids(["anna"])
    topics.set_active_ids(["anna", "bert"])
    now = {publisher.topic_name for publisher in node.publishers} - before
    assert now == {"/humans/faces/anna/roi", "/humans/faces/bert/roi"}
    topics.set_active_ids([])
    assert {publisher.topic_name for publisher in node.publishers} == before


def test_other_names_for_emotions(ros):
    rig = Rig(ros, label_map="happiness:joy, contempt:annoyed")
    emotions, _ = rig.show(1.0)
    (seen,) = emotions.detections
    logged = [result.hypothesis.class_id for result in seen.results]
    assert logged[0] == "joy"
    assert {*logged} == {*EMOTIONS} - {"happiness", "contempt"} | {"joy", "annoyed"}
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    received = rig.listener.listen(LabelInfo, "emotion_node/emotions/labels", latched)
    ros.until(lambda: received, "the labels")
    assert [entry.class_name for entry in received[0].class_map][1] == "joy"
