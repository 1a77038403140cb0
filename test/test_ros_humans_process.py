"""REP-155 as other nodes see it: the node is a process of its own, whose faces come and go."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from hri_msgs.msg import IdsList
from rclpy.node import Node
from ros_tools import Listener, graph_of_a_test, image_at
from sensor_msgs.msg import Image
from test_ros_humans import crowd
from vision_msgs.msg import Detection2DArray

from fer_ros.ros.humans import CROP_PX, OF_A_FACE

START_S = 120.0  # importing, on a machine that does other things as well
NOBODY = np.zeros((256, 256, 3), np.uint8)

# A node whose detector finds the bright squares of a crowd.
NODE = """
import functools, sys
from ros_tools import NodeClassifier
from test_ros_humans import Crowd
from fer_ros.cameras import CamerasPipeline
from fer_ros.ros import node
make = lambda *given: CamerasPipeline(*given, Crowd(), NodeClassifier())
node.EmotionNode = functools.partial(node.EmotionNode, make)
sys.exit(node.main())
"""


ros = graph_of_a_test


class Rig:
    """The process of the node, a camera, and somebody who follows the faces."""

    def __init__(self, ros, log: Path):
        self.ros, self.peer = ros, ros.node(Node, "peer")
        given = ["tracker.min_hits:=1", "privacy:=false"]
        arguments = ["--ros-args", *(word for each in given for word in ("-p", each))]
        variables = {"ROS_DOMAIN_ID": str(ros.domain), "PYTHONPATH": str(Path(__file__).parent)}
        with log.open("w") as file:
            command = [sys.executable, "-c", NODE, *arguments]
            self.process = subprocess.Popen(
                command, env=os.environ | variables, stdout=file, stderr=file
            )
        ros.processes.append(self.process)
        self.camera = self.peer.create_publisher(Image, "image", 10)
        self.listener = Listener(self.peer)
        self.tracked = self.listener.listen(IdsList, "/humans/faces/tracked", 100)
        self.emotions = self.listener.listen(Detection2DArray, "emotion_node/emotions", 100)
        ros.until(self.camera.get_subscription_count, "the node subscribes", START_S)

        def is_heard():  # the node may find the camera before it finds the listener
            self.camera.publish(image_at(0.5, NOBODY))
            return self.emotions and self.tracked

        ros.until(is_heard, "the first answers")

    def show(self, stamp_s, picture):
        """Who is seen in an image, and who is there."""
        message = image_at(stamp_s, picture)
        self.camera.publish(message)

        def answers(heard):
            return [each for each in heard if each.header == message.header]

        self.ros.until(lambda: answers(self.emotions) and answers(self.tracked), f"{stamp_s} s")
        (seen,), (there,) = answers(self.emotions), answers(self.tracked)
        return {face.id for face in seen.detections}, [*there.ids]

    def offered(self):
        """Topics of faces that somebody publishes, as everybody can see."""
        below = "/humans/faces/"
        names = [name for name, _ in self.peer.get_topic_names_and_types() if below in name]
        return {name.removeprefix(below) for name in names if self.peer.count_publishers(name)}

    def follow(self, id):
        """The messages of all topics of a face, once the node knows that somebody listens."""
        names = {kind: f"/humans/faces/{id}/{kind}" for kind in OF_A_FACE}
        for name in names.values():
            self.ros.until(lambda name=name: self.peer.count_publishers(name), name)
        return {kind: self.listener.listen(OF_A_FACE[kind], name) for kind, name in names.items()}


def test_faces_that_appear_and_leave_at_random(ros, tmp_path):
    """Ids are names in ROS and never come back; the topics are those of who is there."""
    rig = Rig(ros, tmp_path / "log")
    assert rig.show(1.0, NOBODY) == (set(), [])
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
        wanted = {"tracked"} | {f"{id}/{kind}" for id in ids for kind in OF_A_FACE}
        ros.until(lambda wanted=wanted: rig.offered() == wanted, f"topics of {len(ids)} faces")
    assert len(before | gone) > 50
    rig.show(100.0, NOBODY)
    assert rig.show(200.0, NOBODY) == (set(), [])
    ros.until(lambda: rig.offered() == {"tracked"}, "nothing is left")


def test_all_that_is_told_of_a_face_is_of_the_image_that_shows_it(ros, tmp_path):
    rig = Rig(ros, tmp_path / "log")
    picture = NOBODY.copy()
    picture[64:96, 96:128] = 200
    _, (id,) = rig.show(1.0, picture)
    heard = rig.follow(id)
    stamps = iter(range(11, 10**6))

    def are_told():
        rig.show(next(stamps) / 10, picture)
        return all(heard.values())

    ros.until(are_told, "roi, landmarks, expression and pictures")
    shown = [each.header for each in rig.tracked]
    assert all(each.header in shown for messages in heard.values() for each in messages)
    region, landmarks = heard["roi"][0], heard["landmarks"][0]
    edges = np.array([region.xmin, region.ymin, region.xmax, region.ymax]) * 256
    np.testing.assert_allclose(edges, [96, 64, 120, 88], atol=1e-3)
    assert (len(landmarks.landmarks), landmarks.width, landmarks.height) == (70, 256, 256)
    assert heard["expression"][0].expression == "happy"
    for kind in ("cropped", "aligned"):
        assert (heard[kind][0].width, heard[kind][0].height) == (CROP_PX, CROP_PX)
    assert rig.process.poll() is None
