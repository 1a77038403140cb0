"""SROS 2: the policy of the enclave allows what the node does, and nothing else."""

import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rclpy.node import Node
from ros_tools import BRIGHT, graph, image_at, quick_pipeline
from sensor_msgs.msg import Image
from tree import ROOT

from fer_ros.ros.node import EmotionNode

POLICY = ROOT / "config/emotions.policy.xml"
NODE = "/emotion_node"
SETTINGS = (
    {"publish_tf": True, "use_sim_time": True},
    {"image_transport": "compressed"},
)


def allowed(kind: str, right: str) -> set[str]:
    """Absolute names of what the policy allows."""
    (profile,) = ElementTree.parse(POLICY).getroot().iter("profile")
    given = [element.text or "" for element in profile.find(f"{kind}[@{right}='ALLOW']") or ()]
    names = [name.replace("~", NODE, 1) if name.startswith("~") else name for name in given]
    return {name if name.startswith("/") else f"/{name}" for name in names}


@pytest.fixture(scope="module")
def used():
    """What active nodes use: names of topics to publish, to subscribe, and of services."""
    names = {"publish": set(), "subscribe": set(), "reply": set()}
    for settings in SETTINGS:
        with graph() as ros:
            node = ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1, **settings)
            client_node = ros.node(Node, "client")
            camera = client_node.create_publisher(Image, "image", 10)
            node.start()
            if "image_transport" not in settings:
                ros.until(camera.get_subscription_count, "the node subscribes")
                camera.publish(image_at(1.0, BRIGHT))
                ros.until(lambda n=node: faces(n), "the topics of a face")
            for right, ask in (
                ("publish", node.get_publisher_names_and_types_by_node),
                ("subscribe", node.get_subscriber_names_and_types_by_node),
                ("reply", node.get_service_names_and_types_by_node),
            ):
                names[right] |= {name for name, _ in ask("emotion_node", "/")}
    return names


def faces(node):
    names = [name for name, _ in node.get_publisher_names_and_types_by_node("emotion_node", "/")]
    return [name for name in names if name.endswith("/expression")]


@pytest.mark.parametrize(
    ("kind", "right"), [("topics", "publish"), ("topics", "subscribe"), ("services", "reply")]
)
def test_the_policy_allows_exactly_the_interfaces_of_the_node(used, kind, right):
    rights = allowed(kind, right)
    assert rights
    assert {
        name for name in used[right] if not any(fnmatch(name, pattern) for pattern in rights)
    } == set()
    idle = {
        pattern for pattern in rights if not any(fnmatch(name, pattern) for name in used[right])
    }
    assert idle <= {
        f"{NODE}/get_type_description",  # ROS 2 Humble has none
        "/data_management",  # where hri_privacy_msgs is installed
    }


@pytest.mark.skipif(not shutil.which("ros2"), reason="the command ros2 is not installed")
def test_keys_can_be_generated_from_the_policy(tmp_path):
    """ROS 2 from PyPI lacks this; a robot's has it."""
    if subprocess.run(["ros2", "security", "--help"], capture_output=True).returncode:
        pytest.skip("sros2 is not installed")
    store = tmp_path / "store"
    command = ["ros2", "security", "generate_artifacts", "-k", store, "-p", POLICY]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rights = Path(store, "enclaves/emotions/permissions.xml").read_text()
    assert "rt/emotion_node/emotions" in rights
