"""The image subscription: publishers, QoS, and the diagnosis of missing images."""

from types import SimpleNamespace

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_tools import BRIGHT, graph_of_a_test, image_at
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.ros.input.image_subscriber import ImageSubscriber
from fer_ros.ros.parameters import IMAGE_QOS, NodeConfig, image_qos

BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5)
NO_CAMERA = (
    "no publisher (image_qos is {}): is the camera running? Is 'image' remapped to its topic?"
)
MISSED = (
    "/image: a publisher offers another RELIABILITY than image_qos {!r} requests; none of its"
    " images will arrive; the publisher is best effort: set image_qos to 'sensor_data'"
)


ros = graph_of_a_test


def test_qos_profiles():
    profiles = {name: image_qos(name) for name in IMAGE_QOS}
    assert {name: (each.reliability.name, each.depth) for name, each in profiles.items()} == {
        "sensor_data": ("BEST_EFFORT", 1),
        "default": ("RELIABLE", 10),
        "reliable": ("RELIABLE", 1),
    }
    assert image_qos("default", depth=5).depth == 5


# settings, publishers as (type, topic, QoS), the reason
SILENT = {
    "no camera": ({}, [], NO_CAMERA.format("sensor_data")),
    "no camera, default": ({"image_qos": "default"}, [], NO_CAMERA.format("default")),
    "it does not publish": (
        {},
        [(Image, "image", RELIABLE)],
        "publishers: camera (reliable); image_qos is sensor_data",
    ),
    "it is best effort": (
        {"image_qos": "reliable"},
        [(Image, "image", BEST_EFFORT)],
        "publishers: camera (best effort); image_qos is reliable",
    ),
    "only compressed": (
        {},
        [(CompressedImage, "image/compressed", RELIABLE)],
        "no publisher, but /image/compressed has one: set image_transport to 'compressed'",
    ),
    "only raw": (
        {"image_transport": "compressed"},
        [(Image, "image", RELIABLE)],
        "no publisher, but /image has one: set image_transport to 'raw'",
    ),
    "compressed images on the raw topic": (
        {},
        [(CompressedImage, "image", RELIABLE)],
        "publishers: camera (reliable), of type sensor_msgs/msg/CompressedImage; this node "
        "subscribes to sensor_msgs/msg/Image: set image_transport to 'compressed' and remap "
        "'image/compressed' to /image",
    ),
    "raw images on the compressed topic": (
        {"image_transport": "compressed"},
        [(Image, "image/compressed", RELIABLE)],
        "publishers: camera (reliable), of type sensor_msgs/msg/Image; this node subscribes to "
        "sensor_msgs/msg/CompressedImage: set image_transport to 'raw' and remap 'image' to "
        "/image/compressed",
    ),
}


@pytest.mark.parametrize(("settings", "publishers", "why"), SILENT.values(), ids=SILENT)
def test_missing_images_are_diagnosed(ros, settings, publishers, why):
    asking = ImageSubscriber(
        ros.node(Node, "emotion_node"), NodeConfig(**settings), "", pytest.fail
    )
    # In a context of its own: Fast DDS refuses two types on one topic within a participant.
    context = Context()
    rclpy.init(args=[], context=context, domain_id=ros.domain)
    try:
        camera = Node("camera", context=context)
        for kind, topic, qos in publishers:
            camera.create_publisher(kind, topic, qos)
        ros.until(lambda: asking.diagnose_no_images() == why, why)
        camera.destroy_node()
    finally:
        rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ("expected", "offered", "arrives"),
    [
        ("sensor_data", BEST_EFFORT, True),
        ("sensor_data", RELIABLE, True),
        ("default", RELIABLE, True),
        ("default", BEST_EFFORT, False),
        ("reliable", RELIABLE, True),
        ("reliable", BEST_EFFORT, False),
    ],
)
def test_an_incompatible_publisher_is_reported(ros, capfd, expected, offered, arrives):
    received, output = [], ""
    node = ros.node(Node, "emotion_node")
    ImageSubscriber(node, NodeConfig(image_qos=expected), "", received.append)
    publisher = ros.node(Node, "camera").create_publisher(Image, "image", offered)

    def settled():
        nonlocal output
        output += capfd.readouterr().err
        publisher.publish(image_at(1.0, BRIGHT))
        return received or "a publisher offers" in output

    ros.until(settled, "an image or a warning")
    assert bool(received) == arrives
    assert arrives or MISSED.format(expected) in output


def test_a_player_that_sends_nothing_may_be_paused(ros):
    asking = ImageSubscriber(ros.node(Node, "emotion_node"), NodeConfig(), "", pytest.fail)
    ros.node(Node, "rosbag2_player").create_publisher(Image, "image", RELIABLE)
    ros.until(lambda: "rosbag2_player" in asking.diagnose_no_images(), "the player is found")
    assert "the player may be paused: press space" in asking.diagnose_no_images()


def test_publishers_are_new_once(ros):
    asking = ImageSubscriber(ros.node(Node, "emotion_node"), NodeConfig(), "", pytest.fail)
    assert asking.new_publishers() == []
    ros.node(Node, "rosbag2_player").create_publisher(Image, "image", RELIABLE)
    ros.until(lambda: asking.new_publishers() == ["rosbag2_player"], "the player is found")
    assert asking.new_publishers() == []


def test_a_publisher_is_new_when_its_node_is_known(ros, monkeypatch):
    asking = ImageSubscriber(ros.node(Node, "emotion_node"), NodeConfig(), "", pytest.fail)
    names = ["_NODE_NAME_UNKNOWN_"]
    monkeypatch.setattr(
        asking._node,
        "get_publishers_info_by_topic",
        lambda topic: [SimpleNamespace(node_name=name) for name in names],
    )
    assert asking.new_publishers() == []
    names[:] = ["camera", "_NODE_NAME_UNKNOWN_"]
    assert asking.new_publishers() == ["camera"]


def test_closing_unsubscribes(ros):
    node = ros.node(Node, "emotion_node")
    asking = ImageSubscriber(node, NodeConfig(), "", pytest.fail)
    assert asking.topic == "/image"
    asking.close()
    assert list(node.subscriptions) == []
