"""Heads as frames of TF, over DDS."""

import numpy as np
import pytest
from rclpy.node import Node
from ros_tools import BRIGHT, Listener, graph_of_a_test, image_at, quick_pipeline
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

from fer_ros.ros.node import EmotionNode
from fer_ros.ros.output.head_tf import camera_info_topic, image_size, is_rectified, to_intrinsics

MATRIX = (150.0, 0, 80, 0, 150, 60, 0, 0, 1)


ros = graph_of_a_test


class Rig:
    """An active node, its camera, and a subscriber to TF."""

    def __init__(self, ros, image="image", info="camera_info", arguments=(), **parameters):
        self.ros = ros

        def make(**given):
            return EmotionNode(quick_pipeline(), cli_args=["--ros-args", *arguments], **given)

        settings = {"tracker__min_hits": 1, "deterministic_ids": True, "publish_tf": True}
        self.node = ros.node(make, **settings | parameters)
        self.client_node = ros.node(Node, "client")
        self.camera = self.client_node.create_publisher(Image, image, 10)
        self.info = self.client_node.create_publisher(CameraInfo, info, 10)
        listener = Listener(self.client_node)
        self.heads = listener.listen(TFMessage, "/tf", 100)
        self.emotions = listener.listen(Detection2DArray, "emotion_node/emotions")
        self.node.start()
        ros.until(self.camera.get_subscription_count, "the node subscribes")
        ros.until(
            lambda: self.client_node.count_publishers("emotion_node/emotions"), "it offers emotions"
        )

    def calibrate(self, **fields):
        self.ros.until(self.info.get_subscription_count, "a subscriber to the calibration")
        given = {"width": 160, "height": 120, "k": MATRIX, "distortion_model": "plumb_bob"}
        message = CameraInfo(**given | fields)
        self.info.publish(message)
        head_tf = self.node._processor._cameras[""].head_tf
        self.ros.until(lambda: head_tf._info == message, "the calibration")

    def show(self, stamp_s, **fields):
        before = len(self.emotions)
        message = image_at(stamp_s, BRIGHT)
        message.header.frame_id = fields.get("frame_id", "eye_optical")
        self.camera.publish(message)
        self.ros.until(lambda: len(self.emotions) > before, "emotions")
        return message.header

    def until_worked(self, count):
        monitor = self.node._processor._cameras[""].statistics
        self.ros.until(lambda: monitor._processed == count, f"{count} images")


def test_publishing_is_off_by_default(ros):
    rig = Rig(ros, publish_tf=False)
    rig.show(1.0)
    assert "/tf" not in {publisher.topic_name for publisher in rig.node.publishers}
    assert "/camera_info" not in {item.topic_name for item in rig.node.subscriptions}


def test_the_head_frame_is_a_child_of_the_image_frame(ros):
    rig = Rig(ros)
    rig.calibrate()
    ros.until(lambda: rig.client_node.count_publishers("/tf"), "it offers TF")
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
        (
            None,
            "eye",
            "no calibration received on /camera_info; is camera_info published or remapped?",
        ),
        (
            {},
            "",
            "/image: header.frame_id is empty; set frame_id in the camera driver",
        ),
        (
            {"binning_x": 2},
            "eye",
            "/camera_info is for 80 x 120 pixels, the images have 160 x 120; "
            "calibrate the camera at this size",
        ),
        ({"d": [0.1] * 3}, "eye", "distortion of plumb_bob: expected 4, 5, 8, 12 or 14"),
        (
            {"k": [0.0] * 9},
            "eye",
            "/camera_info: the camera is not calibrated",
        ),
        (
            {"width": 640, "height": 480},
            "eye",
            "/camera_info is for 640 x 480 pixels, the images have 160 x 120; "
            "calibrate the camera at this size",
        ),
    ],
)
def test_the_reason_for_a_missing_transform_is_logged_once(
    ros, capfd, monkeypatch, fields, frame_id, says
):
    monkeypatch.setattr("fer_ros.ros.output.head_tf._CAMERA_INFO_TIMEOUT_S", 0.0)
    rig = Rig(ros)
    publisher = rig.node._processor._cameras[""].head_tf._publisher
    ros.until(publisher.get_subscription_count, "a subscriber to TF")
    if fields is not None:
        rig.calibrate(**fields)
    for number in range(3):
        rig.show(1.0 + number / 10, frame_id=frame_id)
    rig.until_worked(3)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if says in line]
    assert "No head poses are published: " in line
    # A last message of the same publisher: what it published before has arrived by then.
    publisher.publish(TFMessage())
    ros.until(lambda: rig.heads, "the last message")
    assert rig.heads == [TFMessage()]


def test_the_calibration_may_come_after_the_first_image(ros, capfd):
    rig = Rig(ros)
    rig.show(1.0)
    rig.until_worked(1)
    rig.calibrate()
    ros.until(lambda: rig.client_node.count_publishers("/tf"), "it offers TF")
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
def test_the_calibration_topic(ros, image, remapped, expected):
    arguments = ["-r", f"camera_info:={remapped}"] if remapped else []

    def make(**given):
        return Node("subject", namespace="robot", cli_args=["--ros-args", *arguments], **given)

    topic = image if image != "/image" else "/robot/image"
    assert camera_info_topic(ros.node(make), "", topic) == expected


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
def test_binning_and_region_of_interest_do_not_change_directions(binning, roi, size):
    full = {"width": 640, "height": 480, "k": (500.0, 0, 310, 0, 510, 250, 0, 0, 1)}
    full |= {"d": (0.1, -0.2, 0.01, 0.02, 0.0), "distortion_model": "plumb_bob"}
    left, top, width, height = roi
    region = RegionOfInterest(x_offset=left, y_offset=top, width=width, height=height)
    part = CameraInfo(**full, binning_x=binning[0], binning_y=binning[1], roi=region)
    assert image_size(part) == size
    points = np.array([(120, 60), (250, 160), (400, 270)], np.float32)
    sent = (points - (left, top)) / np.maximum(binning, 1)
    np.testing.assert_allclose(
        to_intrinsics(part).undistort_normalized(sent.astype(np.float32)),
        to_intrinsics(CameraInfo(**full)).undistort_normalized(points),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/image", False),
        ("/camera/image_raw", False),
        ("/camera/image_rect", True),
        ("/camera/image_rect_color", True),
        ("/camera/image_rect/compressed", True),
        ("/direct/image", False),
        ("/rect_camera/image_raw", False),
        ("/camera/rect/image", True),
        ("/camera/rectified/image/compressed", True),
        ("/rectangle/image_raw", False),
    ],
)
def test_rectified_images_are_known_by_their_topic(topic, expected):
    assert is_rectified(topic) == expected


def test_rectified_images_have_the_projection_matrix_and_no_distortion():
    p = (400.0, 0, 300, 0, 0, 410, 240, 0, 0, 0, 1, 0)
    info = CameraInfo(k=(500.0, 0, 310, 0, 510, 250, 0, 0, 1), p=p, d=(0.1, -0.2, 0.0, 0.0, 0.0))
    info.distortion_model = "plumb_bob"
    camera = to_intrinsics(info, is_rectified=True)
    assert camera.matrix.tolist() == [[400, 0, 300], [0, 410, 240], [0, 0, 1]]
    assert len(camera.distortion) == 0
    assert len(to_intrinsics(info).distortion) == 5


@pytest.mark.parametrize(
    ("model", "length"),
    [("plumb_bob", 3), ("plumb_bob", 6), ("equidistant", 5), ("rational_polynomial", 2)],
)
def test_distortion_of_an_odd_length_is_an_error_of_one_line(model, length):
    info = CameraInfo(k=(500.0, 0, 310, 0, 510, 250, 0, 0, 1), d=[0.1] * length)
    info.distortion_model = model
    with pytest.raises(ValueError, match=f"distortion of {model}: expected .*, found {length}"):
        to_intrinsics(info)


def test_an_inactive_node_has_no_tf_publisher(ros):
    rig = Rig(ros)
    ros.until(lambda: rig.client_node.count_publishers("/tf"), "it offers TF")
    rig.node.trigger_deactivate()
    ros.until(lambda: not rig.client_node.count_publishers("/tf"), "TF is down")
    ros.until(lambda: not rig.info.get_subscription_count(), "no subscriber to the calibration")
