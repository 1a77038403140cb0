"""REP-155 as other nodes see it: the node is a process of its own, whose faces come and go."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from hri_msgs.msg import IdsList
from hri_tools import crowd
from rclpy.node import Node
from ros_tools import Listener, graph_of_a_test, image_at
from sensor_msgs.msg import Image
from tree import ROOT
from vision_msgs.msg import Detection2DArray

from fer_ros.ros.output.hri_publishers import CROP_PX, FACE_TOPIC_TYPES

START_S = 120.0  # importing, on a machine that does other things as well
EMPTY_IMAGE = np.zeros((256, 256, 3), np.uint8)

# A node whose detector finds the bright squares of a crowd.
NODE = """
import functools, sys
from ros_tools import NodeClassifier
from hri_tools import SyntheticScene
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros import node
make = lambda *given: MultiCameraPipeline(*given, SyntheticScene(), NodeClassifier())
node.EmotionNode = functools.partial(node.EmotionNode, make)
sys.exit(node.main())
"""


ros = graph_of_a_test


class Rig:
    """The process of the node, a camera, and a subscriber to the topics of faces."""

    def __init__(self, ros, log: Path):
        self.ros, self.client_node = ros, ros.node(Node, "client")
        given = ["tracker.min_hits:=1", "publish_images:=true"]
        arguments = ["--ros-args", *(word for argument in given for word in ("-p", argument))]
        variables = {"ROS_DOMAIN_ID": str(ros.domain), "PYTHONPATH": str(ROOT / "test")}
        with log.open("w") as file:
            command = [sys.executable, "-c", NODE, *arguments]
            self.process = subprocess.Popen(
                command, env=os.environ | variables, stdout=file, stderr=file
            )
        ros.processes.append(self.process)
        self.camera = self.client_node.create_publisher(Image, "image", 10)
        self.listener = Listener(self.client_node)
        self.tracked = self.listener.listen(IdsList, "/humans/faces/tracked", 100)
        self.emotions = self.listener.listen(Detection2DArray, "emotion_node/emotions", 100)
        ros.until(self.camera.get_subscription_count, "the node subscribes", START_S)

        def all_received():  # the node may find the camera before it finds the listener
            self.camera.publish(image_at(0.5, EMPTY_IMAGE))
            return self.emotions and self.tracked

        ros.until(all_received, "the first results")

    def show(self, stamp_s, image):
        """Who is seen in an image, and who is there."""
        message = image_at(stamp_s, image)
        self.camera.publish(message)

        def results(received):
            return [candidate for candidate in received if candidate.header == message.header]

        self.ros.until(lambda: results(self.emotions) and results(self.tracked), f"{stamp_s} s")
        (seen,), (there,) = results(self.emotions), results(self.tracked)
        return {face.id for face in seen.detections}, [*there.ids]

    def offered(self):
        """Topics of faces with a publisher."""
        below = "/humans/faces/"
        names = [name for name, _ in self.client_node.get_topic_names_and_types() if below in name]
        return {
            name.removeprefix(below) for name in names if self.client_node.count_publishers(name)
        }

    def follow(self, id):
        """The messages of all topics of a face, once the node has found the subscriber."""
        kinds = FACE_TOPIC_TYPES.keys() - {"facs"}  # the network has no blendshapes
        names = {kind: f"/humans/faces/{id}/{kind}" for kind in kinds}
        for name in names.values():
            self.ros.until(lambda name=name: self.client_node.count_publishers(name), name)
        return {
            kind: self.listener.listen(FACE_TOPIC_TYPES[kind], name) for kind, name in names.items()
        }


def test_faces_that_appear_and_leave_at_random(ros, tmp_path):
    """Ids are names in ROS and never come back; the topics are those of who is there."""
    rig = Rig(ros, tmp_path / "log")
    assert rig.show(1.0, EMPTY_IMAGE) == (set(), [])
    assert rig.offered() == {"tracked"}
    random = np.random.default_rng(11)
    before, gone = set(), set()
    for step in range(12):
        seen, ids = rig.show(2 + step / 3, crowd(random, 0.2))
        assert seen <= {*ids}
        assert len({*ids}) == len(ids)
        assert all(re.fullmatch("[a-z]{6}", id) for id in ids)
        gone |= before - {*ids}
        assert not gone & {*ids}
        before = {*ids}
        expected = {"tracked"} | {f"{id}/{kind}" for id in ids for kind in FACE_TOPIC_TYPES}
        ros.until(
            lambda expected=expected: rig.offered() == expected, f"topics of {len(ids)} faces"
        )
    assert len(before | gone) > 50
    rig.show(100.0, EMPTY_IMAGE)
    assert rig.show(200.0, EMPTY_IMAGE) == (set(), [])
    ros.until(lambda: rig.offered() == {"tracked"}, "nothing is left")


def test_all_messages_of_a_face_are_of_the_image_that_shows_it(ros, tmp_path):
    rig = Rig(ros, tmp_path / "log")
    image = EMPTY_IMAGE.copy()
    image[64:96, 96:128] = 200
    _, (id,) = rig.show(1.0, image)
    received = rig.follow(id)
    stamps = iter(range(11, 10**6))

    def all_received():
        rig.show(next(stamps) / 10, image)
        return all(received.values())

    ros.until(all_received, "roi, landmarks, expression and images")
    shown = [message.header for message in rig.tracked]
    assert all(message.header in shown for messages in received.values() for message in messages)
    region, landmarks = received["roi"][0], received["landmarks"][0]
    edges = np.array([region.xmin, region.ymin, region.xmax, region.ymax]) * 256
    np.testing.assert_allclose(edges, [96, 64, 120, 88], atol=1e-3)
    assert (len(landmarks.landmarks), landmarks.width, landmarks.height) == (70, 256, 256)
    assert received["expression"][0].expression == "happy"
    for kind in ("cropped", "aligned"):
        assert (received[kind][0].width, received[kind][0].height) == (CROP_PX, CROP_PX)
    assert rig.process.poll() is None
