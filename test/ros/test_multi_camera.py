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
    FakeDetector,
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

from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.convert import to_compressed
from fer_ros.ros.node import EmotionNode

START_S = 120.0  # importing and loading, on a machine that does other things as well
CAMERAS = ["front", "rear"]
OWN = {"emotions": Detection2DArray, "emotions/labels": LabelInfo, "debug_image": Image}


reports_often = diagnostics_often
ros = graph_of_a_test


class ClientNode:
    """The cameras, and a subscriber to all topics of them."""

    def __init__(self, ros, kind=Image, topic="{}/image", limit_s=LIMIT_S):
        self.ros, self.node = ros, ros.node(Node, "client")
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

        def all_received():
            for camera in self.cameras.values():
                camera.publish(message)
            return all(self.emotions.values()) and self.tracked

        self.ros.until(all_received, "the first results")

    def show(self, camera, message):
        """The emotions of an image, and who is there then."""

        def replies():
            topics = (self.emotions[camera], self.tracked)
            return [
                [candidate for candidate in messages if candidate.header == message.header]
                for messages in topics
            ]

        self.cameras[camera].publish(message)
        self.ros.until(lambda: all(replies()), f"results to an image of {camera}")
        emotions, tracked = replies()
        return emotions[-1], [*tracked[-1].ids]

    def report(self, **expected):
        """Statuses by the names of the cameras, of a report with these levels, if there is one."""
        for message in self.diagnostics:
            statuses = {status.name.split()[1]: status for status in message.status}
            if {name: status.level for name, status in statuses.items()} == expected:
                return statuses
        return None

    def wait_for_status(self, **expected):
        """Waits for such a report, from now on."""
        self.diagnostics.clear()
        self.ros.until(lambda: self.report(**expected), f"a report with {expected}")
        return self.report(**expected)


def active_node(ros, make=None, **parameters):
    settings = {"tracker__min_hits": 1, "deterministic_ids": True, "cameras": CAMERAS} | parameters
    node = ros.node(EmotionNode, make or quick_pipeline(), **settings)
    node.start()
    return node


def test_each_camera_has_its_own_topics(ros, capfd):
    node = active_node(ros, publish_tf=True)
    names = {publisher.topic_name for publisher in node.publishers}
    for topic, kind in OWN.items():
        own = {f"/emotion_node/{camera}/{topic}" for camera in CAMERAS}
        assert {name for name in names if name.endswith(f"/{topic}")} == own, kind
    taken = {subscription.topic_name for subscription in node.subscriptions}
    assert {"/front/image", "/front/camera_info", "/rear/image", "/rear/camera_info"} <= taken
    assert not {"/image", "/camera_info"} & taken
    assert "active, waiting for images on /front/image, /rear/image" in capfd.readouterr().err


def test_faces_of_two_cameras_have_different_ids(ros):
    node, client_node = active_node(ros), ClientNode(ros)
    emotions, ids = client_node.show("front", image_at(1.0, BRIGHT))
    assert [face.id for face in emotions.detections] == ids == ["front_f00001"]
    emotions, ids = client_node.show("rear", image_at(501.0, BRIGHT))  # its clock is another one
    assert [face.id for face in emotions.detections] == ["rear_f00001"]
    assert ids == ["front_f00001", "rear_f00001"]
    assert emotions.header == header_at(501.0)
    # The rear camera shows no face any more; the front one keeps its face.
    assert client_node.show("rear", image_at(502.0, DARK))[1] == ["front_f00001", "rear_f00001"]
    assert client_node.show("rear", image_at(502.1, DARK))[1] == ["front_f00001"]
    emotions, ids = client_node.show("front", image_at(1.1, BRIGHT))
    assert [face.id for face in emotions.detections] == ids == ["front_f00001"]
    node.trigger_deactivate()
    ros.until(lambda: not client_node.tracked[-1].ids, "no tracked face")


def test_topics_can_be_remapped(ros):
    def make(**given):
        arguments = ["--ros-args", "-r", "front/image:=/eye/a", "-r", "rear/image:=/eye/b"]
        return EmotionNode(quick_pipeline(), cli_args=arguments, **given)

    node = ros.node(make, cameras=CAMERAS)
    node.start()
    taken = {subscription.topic_name for subscription in node.subscriptions}
    assert {"/eye/a", "/eye/b"} <= taken
    assert not {"/front/image", "/rear/image"} & taken


def test_pending_images_are_one_batch(ros):
    network = HeldClassifier()
    node = active_node(
        ros, lambda *given: MultiCameraPipeline(*given, FakeDetector(lambda _: None), network)
    )
    client_node = ClientNode(ros)
    client_node.cameras["front"].publish(image_at(1.0, BRIGHT))
    ros.until(network.entered.is_set, "the first image is in work")
    monitors = {name: node._processor._cameras[name].statistics for name in CAMERAS}
    for name, stamp_s, received in (("rear", 1.1, 1), ("front", 1.1, 2), ("rear", 1.2, 2)):
        client_node.cameras[name].publish(image_at(stamp_s, BRIGHT))
        ros.until(lambda n=name, r=received: monitors[n]._received == r, f"an image of {name}")
    network.go_on.set()
    ros.until(
        lambda: len(client_node.emotions["front"]) == 2 and client_node.emotions["rear"], "results"
    )
    # each with the mirror image of its new face: that of front, then that of rear
    assert [len(crops) for crops in network.seen] == [2, 3]
    assert client_node.emotions["rear"][0].header == header_at(1.2)
    processed = {"front": 2, "rear": 1}
    ros.until(
        lambda: {name: each._processed for name, each in monitors.items()} == processed, "counts"
    )
    statuses = client_node.wait_for_status(front=DiagnosticStatus.OK, rear=DiagnosticStatus.OK)
    figures = {
        name: {value.key: value.value for value in status.values}
        for name, status in statuses.items()
    }
    counts = ("received", "processed", "dropped")
    assert [figures["front"][key] for key in counts] == ["2", "2", "0"]
    assert [figures["rear"][key] for key in counts] == ["2", "1", "1"]
    assert figures["rear"]["model"] == "fake"


def test_a_silent_camera_is_reported_and_leaves_no_face(ros, capfd):
    active_node(ros, image_timeout_s=1.0)
    client_node = ClientNode(ros)
    client_node.show("rear", image_at(1.0, BRIGHT))
    stamps = iter(range(2, 10**6))

    silent = {"front": DiagnosticStatus.OK, "rear": DiagnosticStatus.STALE}

    def is_alone():
        _, ids = client_node.show("front", image_at(next(stamps) / 10, BRIGHT))
        return not any(id.startswith("rear") for id in ids) and client_node.report(**silent)

    ros.until(is_alone, "the rear camera is silent and its face is gone")
    assert client_node.report(**silent)["rear"].message.startswith("no image for ")
    assert "no image on /rear/image for 1 s: publishers: client" in capfd.readouterr().err


@pytest.mark.parametrize("bad", [Image(), image_at(1.5, np.full_like(BRIGHT, 99))])
def test_an_invalid_image_is_skipped_alone(ros, capfd, bad):
    def fail(image_rgb):
        if image_rgb.min() == 99:
            raise RuntimeError("out of memory")

    active_node(ros, quick_pipeline(fail))
    client_node = ClientNode(ros)
    client_node.cameras["front"].publish(bad)
    client_node.wait_for_status(front=DiagnosticStatus.WARN, rear=DiagnosticStatus.OK)
    assert "image on /front/image is lost: " in capfd.readouterr().err
    for name in CAMERAS:
        assert len(client_node.show(name, image_at(2.0, BRIGHT))[0].detections) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cameras": ["a", "a"]}, "expected different names such as ['front', 'rear'], or [''] "),
        (
            {"input_source": "ros4hri"},
            "expected [''] with input_source ros4hri, found ['front', 'rear']",
        ),
    ],
)
def test_invalid_cameras_are_reported(ros, capfd, settings, says):
    active_node(ros, **settings)
    assert f"cannot be configured: parameter cameras: {says}" in capfd.readouterr().err


def test_two_cameras_and_the_node_as_a_process(ros, tmp_path, astronaut):
    """With the real detector and model."""
    log, results = tmp_path / "log", tmp_path / "results.jsonl"
    given = [
        "cameras:=[front, rear]",
        "image_transport:=compressed",
        f"results_log_path:={results}",
    ]
    arguments = [word for argument in given for word in ("-p", argument)]
    node = ros.process("fer_ros.entry_points", log, "emotion_node", "--ros-args", *arguments)
    client_node = ClientNode(ros, CompressedImage, "{}/image/compressed", START_S)
    client_node.meet(to_compressed(DARK, header_at(0.5)))
    ids = {}
    for number in range(3):  # the second one confirms the face
        for name in CAMERAS:
            image = astronaut if name == "front" else np.ascontiguousarray(astronaut[:, ::-1])
            message = to_compressed(image, header_at(1.0 + number / 10, name))
            emotions, present = client_node.show(name, message)
            assert emotions.header == message.header
            ids[name] = [face.id for face in emotions.detections]
    assert [len(camera_ids) for camera_ids in ids.values()] == [1, 1]
    assert ids["front"][0].startswith("front_f")
    assert ids["rear"][0].startswith("rear_f")
    assert present == [*ids["front"], *ids["rear"]]
    assert node.poll() is None
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert {record["source"] for record in records} == {f"/{n}/image/compressed" for n in CAMERAS}
