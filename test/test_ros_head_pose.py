"""Heads as frames of TF, over DDS."""

import numpy as np
import pytest
from rclpy.node import Node
from ros_tools import BRIGHT, Listener, graph_of_a_test, image_at, quick_pipeline
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

from fer_ros.ros.head_pose import image_size, info_topic, to_camera
from fer_ros.ros.node import EmotionNode

MATRIX = (150.0, 0, 80, 0, 150, 60, 0, 0, 1)


ros = graph_of_a_test


class Rig:
    """An active node, its camera, and somebody who listens to TF."""

    def __init__(self, ros, image="image", info="camera_info", arguments=(), **parameters):
        self.ros = ros

        def make(**given):
            return EmotionNode(quick_pipeline(), cli_args=["--ros-args", *arguments], **given)

        settings = {"tracker__min_hits": 1, "deterministic_ids": True, "publish_tf": True}
        self.node = ros.node(make, **settings | parameters)
        self.peer = ros.node(Node, "peer")
        self.camera = self.peer.create_publisher(Image, image, 10)
        self.info = self.peer.create_publisher(CameraInfo, info, 10)
        listener = Listener(self.peer)
        self.heads = listener.listen(TFMessage, "/tf", 100)
        self.emotions = listener.listen(Detection2DArray, "emotion_node/emotions")
        self.node.start()
        ros.until(self.camera.get_subscription_count, "the node subscribes")
        ros.until(lambda: self.peer.count_publishers("emotion_node/emotions"), "it offers emotions")

    def calibrate(self, **fields):
        self.ros.until(self.info.get_subscription_count, "somebody takes the calibration")
        given = {"width": 160, "height": 120, "k": MATRIX, "distortion_model": "plumb_bob"}
        message = CameraInfo(**given | fields)
        self.info.publish(message)
        poses = self.node._session._cameras[""].poses
        self.ros.until(lambda: poses._info == message, "the calibration")

    def show(self, stamp_s, **fields):
        before = len(self.emotions)
        message = image_at(stamp_s, BRIGHT)
        message.header.frame_id = fields.get("frame_id", "eye_optical")
        self.camera.publish(message)
        self.ros.until(lambda: len(self.emotions) > before, "emotions")
        return message.header

    def until_worked(self, count):
        monitor = self.node._session._cameras[""].monitor
        self.ros.until(lambda: monitor._processed == count, f"{count} images")


def test_it_is_off_by_itself(ros):
    rig = Rig(ros, publish_tf=False)
    rig.show(1.0)
    assert not rig.peer.count_publishers("/tf")
    assert not rig.info.get_subscription_count()


def test_a_head_is_a_frame_below_that_of_its_image(ros):
    rig = Rig(ros)
    rig.calibrate()
    ros.until(lambda: rig.peer.count_publishers("/tf"), "it offers TF")
    header = rig.show(1.5)
    ros.until(lambda: rig.heads, "a head")
    (frame,) = rig.heads[0].transforms
    assert (frame.header, frame.child_frame_id) == (header, "face_f00001")
    place, turn = frame.transform.translation, frame.transform.rotation
    # The face of 60 px is in the middle, its eyes about 24 px above; an average one is 9 cm wide
    # between the outer corners of its eyes.
    assert abs(place.x) < 0.02
    assert -0.1 < place.y < 0
    assert 0.1 < place.z < 0.6
    x, y, z, w = turn.x, turn.y, turn.z, turn.w
    assert np.linalg.norm([x, y, z, w]) == pytest.approx(1)
    assert 2 * (x * z - y * w) < -0.7  # forward, out of the face, is against the camera's sight


@pytest.mark.parametrize(
    ("fields", "frame_id", "says"),
    [
        (None, "eye", "no heads in TF: no calibration on /camera_info"),
        ({}, "", "no heads in TF: the images have no frame_id"),
        (
            {"binning_x": 2},
            "eye",
            "no heads in TF: /camera_info is of 80 x 120 pixels, the images have 160 x 120",
        ),
        ({"k": [0.0] * 9}, "eye", "no heads in TF: /camera_info: the camera is not calibrated"),
        (
            {"width": 640, "height": 480},
            "eye",
            "no heads in TF: /camera_info is of 640 x 480 pixels, the images have 160 x 120",
        ),
    ],
)
def test_why_there_is_none_is_told_once(ros, capfd, monkeypatch, fields, frame_id, says):
    monkeypatch.setattr("fer_ros.ros.head_pose._PATIENCE_S", 0.0)
    rig = Rig(ros)
    if fields is not None:
        rig.calibrate(**fields)
    for number in range(3):
        rig.show(1.0 + number / 10, frame_id=frame_id)
    rig.until_worked(3)
    assert capfd.readouterr().err.count(says) == 1
    assert rig.heads == []


def test_the_calibration_may_come_after_the_first_image(ros, capfd):
    rig = Rig(ros)
    rig.show(1.0)
    rig.until_worked(1)
    rig.calibrate()
    ros.until(lambda: rig.peer.count_publishers("/tf"), "it offers TF")
    rig.show(1.1)
    ros.until(lambda: rig.heads, "a head")


@pytest.mark.parametrize(
    ("image", "remapped", "expected"),
    [
        ("/image", None, "/robot/camera_info"),
        ("/image", "/robot/camera_info", "/robot/camera_info"),
        ("/camera/image_raw", None, "/camera/camera_info"),
        ("/camera/image_raw/compressed", None, "/camera/camera_info"),
        ("/camera/image_raw", "/calibration", "/calibration"),
    ],
)
def test_where_the_calibration_is(ros, image, remapped, expected):
    arguments = ["-r", f"camera_info:={remapped}"] if remapped else []

    def make(**given):
        return Node("subject", namespace="robot", cli_args=["--ros-args", *arguments], **given)

    topic = image if image != "/image" else "/robot/image"
    assert info_topic(ros.node(make), "", topic) == expected


@pytest.mark.parametrize(
    ("binning", "roi", "size"),
    [
        ((0, 0), (0, 0, 0, 0), (480, 640)),
        ((1, 1), (0, 0, 640, 480), (480, 640)),
        ((2, 4), (0, 0, 0, 0), (120, 320)),
        ((1, 1), (100, 40, 320, 240), (240, 320)),
        ((2, 2), (100, 40, 320, 240), (120, 160)),
        ((2, 2), (0, 0, 321, 241), (120, 160)),
    ],
)
def test_a_point_is_seen_in_one_direction_whatever_part_the_camera_sends(binning, roi, size):
    full = {"width": 640, "height": 480, "k": (500.0, 0, 310, 0, 510, 250, 0, 0, 1)}
    full |= {"d": (0.1, -0.2, 0.01, 0.02, 0.0), "distortion_model": "plumb_bob"}
    left, top, width, height = roi
    region = RegionOfInterest(x_offset=left, y_offset=top, width=width, height=height)
    part = CameraInfo(**full, binning_x=binning[0], binning_y=binning[1], roi=region)
    assert image_size(part) == size
    points = np.array([(120, 60), (250, 160), (400, 270)], np.float32)
    sent = (points - (left, top)) / np.maximum(binning, 1)
    np.testing.assert_allclose(
        to_camera(part).rays(sent.astype(np.float32)),
        to_camera(CameraInfo(**full)).rays(points),
        atol=1e-6,
    )


def test_a_node_that_rests_takes_tf_down(ros):
    rig = Rig(ros)
    ros.until(lambda: rig.peer.count_publishers("/tf"), "it offers TF")
    rig.node.trigger_deactivate()
    ros.until(lambda: not rig.peer.count_publishers("/tf"), "TF is down")
    ros.until(lambda: not rig.info.get_subscription_count(), "nobody takes the calibration")
