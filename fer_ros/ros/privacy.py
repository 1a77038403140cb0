"""Tells the robot what is done with what is seen of people, where hri_privacy_msgs is installed.

Nodes of ROS4HRI that keep personal data declare it on one latched topic for the whole robot.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from fer_ros.ros.params import NodeConfig

TOPIC = "/data_management"  # that of hri_face_identification

_PACKAGE = "hri_privacy_msgs"  # robots without ROS4HRI need not install it
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class PrivacyNotice:
    """The node's notice, until it is closed."""

    def __init__(self, node: Node, config: NodeConfig) -> None:
        self._node = node
        self._kind: Any = import_module(f"{_PACKAGE}.msg").PersonalDataProcessor
        self._publisher = node.create_publisher(self._kind, TOPIC, _LATCHED)
        self.publish(config)

    def publish(self, config: NodeConfig) -> None:
        """Tells what these settings mean, in place of what was told before."""
        self._publisher.publish(
            self._kind(
                data_source_node=self._node.get_fully_qualified_name(),
                user_friendly_source_name="Facial expressions",
                data_purpose=purpose(config),
                path=str(Path(config.log_path).absolute()) if config.log_path else "",
            )
        )

    def close(self) -> None:
        """Takes the topic down."""
        self._node.destroy_publisher(self._publisher)


def is_installed() -> bool:
    """Whether there is a message for it."""
    return find_spec(_PACKAGE) is not None


def purpose(config: NodeConfig) -> str:
    """What the data is for, and what becomes of it, for those whom it is about."""
    pictures = "No picture leaves the program or is kept."
    if not config.privacy:
        pictures = "Pictures of faces are shown to other programs that ask for them; none is kept."
    results = "Nothing is written down."
    if config.log_path:
        results = "Expressions, times and places of faces in the image are written to a file."
    return (
        "The robot reads which emotion each face shows, so that it can respond to people. "
        f"{pictures} {results}"
    )
