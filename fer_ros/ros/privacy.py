"""Declaration of personal data processing, where hri_privacy_msgs is installed.

ROS4HRI nodes that process personal data declare it on one latched topic for the whole robot.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rclpy.node import Node

from fer_ros.ros.parameters import NodeConfig
from fer_ros.ros.qos import LATCHED

TOPIC = "/data_management"
"""The topic that hri_face_identification uses."""

_PACKAGE = "hri_privacy_msgs"  # optional


class PrivacyNotice:
    """Latched privacy notice of the node until it is closed."""

    def __init__(self, node: Node, config: NodeConfig) -> None:
        self._node = node
        self._message_type: Any = import_module(f"{_PACKAGE}.msg").PersonalDataProcessor
        self._publisher = node.create_publisher(self._message_type, TOPIC, LATCHED)
        self.publish(config)

    def publish(self, config: NodeConfig) -> None:
        """Replace the notice by one for these settings."""
        log_path = config.results_log_path
        self._publisher.publish(
            self._message_type(
                data_source_node=self._node.get_fully_qualified_name(),
                user_friendly_source_name="Facial expressions",
                data_purpose=purpose(config),
                path=str(Path(log_path).absolute()) if log_path else "",
            )
        )

    def close(self) -> None:
        """Destroy the publisher."""
        self._node.destroy_publisher(self._publisher)


def is_installed() -> bool:
    """Whether hri_privacy_msgs is installed."""
    return find_spec(_PACKAGE) is not None


def purpose(config: NodeConfig) -> str:
    """Purpose and use of the data, written for the people in front of the robot."""
    images = "No image leaves the program and none is stored."
    if config.publish_images:
        images = "Images of faces are sent to other programs that subscribe; none is stored."
    results = "No results are stored."
    if config.results_log_path:
        results = "Expressions, times and positions of faces in the image are stored in a file."
    return (
        "The robot estimates which emotion each face shows, so that it can respond to people. "
        f"{images} {results}"
    )
