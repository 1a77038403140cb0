"""The subscription: who publishes, how, and why nothing arrives."""

import pytest
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_tools import BRIGHT, graph_of_a_test, image_at
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.ros.image_input import ImageInput
from fer_ros.ros.params import IMAGE_QOS, NodeConfig, image_qos

BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5)
NO_CAMERA = "no publisher (asking for {}): does the camera run, is 'image' remapped to it?"
MISSED = (
    "/image: a publisher offers another RELIABILITY than image_qos {!r} asks for, none of its"
    " images will arrive; the publisher is best effort: set image_qos to 'sensor_data'"
)


ros = graph_of_a_test


def test_profiles():
    profiles = {name: image_qos(name) for name in IMAGE_QOS}
    assert {name: (each.reliability.name, each.depth) for name, each in profiles.items()} == {
        "sensor_data": ("BEST_EFFORT", 1),
        "default": ("RELIABLE", 10),
        "reliable_latest": ("RELIABLE", 1),
    }
    assert image_qos("default", depth=5).depth == 5


# settings, publishers as (type, topic, QoS), the reason
SILENT = {
    "nobody": ({}, [], NO_CAMERA.format("sensor_data")),
    "nobody, default": ({"image_qos": "default"}, [], NO_CAMERA.format("default")),
    "it does not publish": (
        {},
        [(Image, "image", RELIABLE)],
        "publishers: camera (reliable); this node asks for sensor_data",
    ),
    "it is best effort": (
        {"image_qos": "reliable_latest"},
        [(Image, "image", BEST_EFFORT)],
        "publishers: camera (best effort); this node asks for reliable_latest",
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
}


@pytest.mark.parametrize(("settings", "publishers", "why"), SILENT.values(), ids=SILENT)
def test_why_no_image_arrives(ros, settings, publishers, why):
    asking = ImageInput(ros.node(Node, "emotion_node"), NodeConfig(**settings), "", pytest.fail)
    camera = ros.node(Node, "camera")
    for kind, topic, qos in publishers:
        camera.create_publisher(kind, topic, qos)
    ros.until(lambda: asking.why_silent() == why, why)


@pytest.mark.parametrize(
    ("wanted", "offered", "arrives"),
    [
        ("sensor_data", BEST_EFFORT, True),
        ("sensor_data", RELIABLE, True),
        ("default", RELIABLE, True),
        ("default", BEST_EFFORT, False),
        ("reliable_latest", RELIABLE, True),
        ("reliable_latest", BEST_EFFORT, False),
    ],
)
def test_images_of_a_publisher_that_does_not_fit_are_missed_aloud(
    ros, capfd, wanted, offered, arrives
):
    heard, said = [], ""
    node = ros.node(Node, "emotion_node")
    ImageInput(node, NodeConfig(image_qos=wanted), "", heard.append)
    publisher = ros.node(Node, "camera").create_publisher(Image, "image", offered)

    def settled():
        nonlocal said
        said += capfd.readouterr().err
        publisher.publish(image_at(1.0, BRIGHT))
        return heard or "a publisher offers" in said

    ros.until(settled, "an image or a warning")
    assert bool(heard) == arrives
    assert arrives or MISSED.format(wanted) in said


def test_closing_unsubscribes(ros):
    node = ros.node(Node, "emotion_node")
    asking = ImageInput(node, NodeConfig(), "", pytest.fail)
    assert asking.topic == "/image"
    asking.close()
    assert list(node.subscriptions) == []
