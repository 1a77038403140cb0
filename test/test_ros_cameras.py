"""Several cameras in one node: each its own topics, ids and figures, all of them one network."""

import json

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from hri_msgs.msg import IdsList
from rclpy.node import Node
from ros_tools import (
    BRIGHT,
    DARK,
    LIMIT_S,
    Eye,
    HeldClassifier,
    Listener,
    diagnostics_often,
    graph_of_a_test,
    header_at,
    image_at,
    quick_pipeline,
)
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from fer_ros.cameras import CamerasPipeline
from fer_ros.ros.convert import to_compressed
from fer_ros.ros.node import EmotionNode

START_S = 120.0  # importing and loading, on a machine that does other things as well
CAMERAS = ["front", "rear"]
OWN = {"emotions": Detection2DArray, "emotions/labels": LabelInfo, "debug_image": Image}


reports_often = diagnostics_often
ros = graph_of_a_test


class Peer:
    """The cameras, and somebody who listens to all that is said of them."""

    def __init__(self, ros, kind=Image, topic="{}/image", limit_s=LIMIT_S):
        self.ros, self.node = ros, ros.node(Node, "peer")
        listener = Listener(self.node)
        self.tracked = listener.listen(IdsList, "/humans/faces/tracked", 100)
        self.diagnostics = listener.listen(DiagnosticArray, "/diagnostics")
        self.cameras, self.emotions = {}, {}
        for name in CAMERAS:
            self.cameras[name] = self.node.create_publisher(kind, topic.format(name), 10)
            emotions = f"emotion_node/{name}/emotions"
            self.emotions[name] = listener.listen(Detection2DArray, emotions)
            camera = self.cameras[name]
            ros.until(camera.get_subscription_count, f"the node subscribes to {name}", limit_s)
            ros.until(lambda topic=emotions: self.node.count_publishers(topic), emotions)

    def meet(self, message):
        """Shows this until it is answered: a process may find a camera before this listener."""

        def are_heard():
            for camera in self.cameras.values():
                camera.publish(message)
            return all(self.emotions.values()) and self.tracked

        self.ros.until(are_heard, "the first answers")

    def show(self, camera, message):
        """The emotions of an image, and who is there then."""

        def answers():
            heard = (self.emotions[camera], self.tracked)
            return [
                [each for each in messages if each.header == message.header] for messages in heard
            ]

        self.cameras[camera].publish(message)
        self.ros.until(lambda: all(answers()), f"answers to an image of {camera}")
        emotions, tracked = answers()
        return emotions[-1], [*tracked[-1].ids]

    def report(self, **wanted):
        """Statuses by the names of the cameras, of a report with these levels, if there is one."""
        for message in self.diagnostics:
            statuses = {status.name.split()[1]: status for status in message.status}
            if {name: status.level for name, status in statuses.items()} == wanted:
                return statuses
        return None

    def told(self, **wanted):
        """Waits for such a report, from now on."""
        self.diagnostics.clear()
        self.ros.until(lambda: self.report(**wanted), f"a report with {wanted}")
        return self.report(**wanted)


def active_node(ros, make=None, **parameters):
    settings = {"tracker__min_hits": 1, "deterministic_ids": True, "cameras": CAMERAS} | parameters
    node = ros.node(EmotionNode, make or quick_pipeline(), **settings)
    node.start()
    return node


def test_each_camera_has_its_own_topics(ros, capfd):
    node = active_node(ros, publish_tf=True)
    names = {each.topic_name for each in node.publishers}
    for topic, kind in OWN.items():
        own = {f"/emotion_node/{camera}/{topic}" for camera in CAMERAS}
        assert {name for name in names if name.endswith(f"/{topic}")} == own, kind
    taken = {each.topic_name for each in node.subscriptions}
    assert {"/front/image", "/front/camera_info", "/rear/image", "/rear/camera_info"} <= taken
    assert not {"/image", "/camera_info"} & taken
    assert "active, waiting for images on /front/image, /rear/image" in capfd.readouterr().err


def test_faces_of_two_cameras_stay_apart(ros):
    node, peer = active_node(ros), Peer(ros)
    emotions, ids = peer.show("front", image_at(1.0, BRIGHT))
    assert [face.id for face in emotions.detections] == ids == ["front_f00001"]
    emotions, ids = peer.show("rear", image_at(501.0, BRIGHT))  # its clock is another one
    assert [face.id for face in emotions.detections] == ["rear_f00001"]
    assert ids == ["front_f00001", "rear_f00001"]
    assert emotions.header == header_at(501.0)
    # Nobody is before the rear camera any more; the front one keeps its face.
    assert peer.show("rear", image_at(502.0, DARK))[1] == ["front_f00001", "rear_f00001"]
    assert peer.show("rear", image_at(502.1, DARK))[1] == ["front_f00001"]
    emotions, ids = peer.show("front", image_at(1.1, BRIGHT))
    assert [face.id for face in emotions.detections] == ids == ["front_f00001"]
    node.trigger_deactivate()
    ros.until(lambda: not peer.tracked[-1].ids, "nobody is there")


def test_topics_can_be_remapped(ros):
    def make(**given):
        arguments = ["--ros-args", "-r", "front/image:=/eye/a", "-r", "rear/image:=/eye/b"]
        return EmotionNode(quick_pipeline(), cli_args=arguments, **given)

    node = ros.node(make, cameras=CAMERAS)
    node.start()
    taken = {each.topic_name for each in node.subscriptions}
    assert {"/eye/a", "/eye/b"} <= taken
    assert not {"/front/image", "/rear/image"} & taken


def test_all_images_that_wait_are_one_batch(ros):
    network = HeldClassifier()
    node = active_node(ros, lambda *given: CamerasPipeline(*given, Eye(lambda _: None), network))
    peer = Peer(ros)
    peer.cameras["front"].publish(image_at(1.0, BRIGHT))
    ros.until(network.entered.is_set, "the first image is in work")
    monitors = {name: node._session._cameras[name].monitor for name in CAMERAS}
    for name, stamp_s, received in (("rear", 1.1, 1), ("front", 1.1, 2), ("rear", 1.2, 2)):
        peer.cameras[name].publish(image_at(stamp_s, BRIGHT))
        ros.until(lambda n=name, r=received: monitors[n]._received == r, f"an image of {name}")
    network.go_on.set()
    ros.until(lambda: len(peer.emotions["front"]) == 2 and peer.emotions["rear"], "answers")
    assert [len(crops) for crops in network.seen] == [1, 2]
    assert peer.emotions["rear"][0].header == header_at(1.2)
    statuses = peer.told(front=DiagnosticStatus.OK, rear=DiagnosticStatus.OK)
    figures = {
        name: {each.key: each.value for each in status.values} for name, status in statuses.items()
    }
    counts = ("received", "processed", "dropped")
    assert [figures["front"][key] for key in counts] == ["2", "2", "0"]
    assert [figures["rear"][key] for key in counts] == ["2", "1", "1"]
    assert figures["rear"]["model"] == "fake"


def test_one_that_falls_silent_is_told_and_leaves_nobody(ros, capfd):
    active_node(ros, image_timeout_s=1.0)
    peer = Peer(ros)
    peer.show("rear", image_at(1.0, BRIGHT))
    stamps = iter(range(2, 10**6))

    silent = {"front": DiagnosticStatus.OK, "rear": DiagnosticStatus.STALE}

    def is_alone():
        _, ids = peer.show("front", image_at(next(stamps) / 10, BRIGHT))
        return not any(id.startswith("rear") for id in ids) and peer.report(**silent)

    ros.until(is_alone, "the rear camera is silent and its face is gone")
    assert peer.report(**silent)["rear"].message.startswith("no image for ")
    assert "no image on /rear/image for 1 s: publishers: peer" in capfd.readouterr().err


@pytest.mark.parametrize("bad", [Image(), image_at(1.5, np.full_like(BRIGHT, 99))])
def test_a_bad_image_costs_itself_only(ros, capfd, bad):
    def fail(image_rgb):
        if image_rgb.min() == 99:
            raise RuntimeError("out of memory")

    active_node(ros, quick_pipeline(fail))
    peer = Peer(ros)
    peer.cameras["front"].publish(bad)
    peer.told(front=DiagnosticStatus.WARN, rear=DiagnosticStatus.OK)
    assert "image on /front/image is lost: " in capfd.readouterr().err
    for name in CAMERAS:
        assert len(peer.show(name, image_at(2.0, BRIGHT))[0].detections) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cameras": ["a", "a"]}, "expected different names such as ['front', 'rear'], or [''] "),
        ({"source": "ros4hri"}, "source ros4hri has none, got ['front', 'rear']"),
    ],
)
def test_cameras_that_cannot_be_are_told(ros, capfd, settings, says):
    active_node(ros, **settings)
    assert f"cannot be configured: parameter cameras: {says}" in capfd.readouterr().err


def test_two_cameras_and_the_node_as_a_process(ros, tmp_path, astronaut):
    """With the real detector and model."""
    log, results = tmp_path / "log", tmp_path / "results.jsonl"
    given = ["cameras:=[front, rear]", "image_transport:=compressed", f"log_path:={results}"]
    arguments = [word for each in given for word in ("-p", each)]
    node = ros.process("fer_ros.ros.node", log, "--ros-args", *arguments)
    peer = Peer(ros, CompressedImage, "{}/image/compressed", START_S)
    peer.meet(to_compressed(DARK, header_at(0.5)))
    ids = {}
    for number in range(3):  # the second one confirms the face
        for name in CAMERAS:
            picture = astronaut if name == "front" else np.ascontiguousarray(astronaut[:, ::-1])
            message = to_compressed(picture, header_at(1.0 + number / 10, name))
            emotions, present = peer.show(name, message)
            assert emotions.header == message.header
            ids[name] = [face.id for face in emotions.detections]
    assert [len(each) for each in ids.values()] == [1, 1]
    assert ids["front"][0].startswith("front_f")
    assert ids["rear"][0].startswith("rear_f")
    assert present == [*ids["front"], *ids["rear"]]
    assert node.poll() is None
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert {record["source"] for record in records} == {f"/{n}/image/compressed" for n in CAMERAS}
