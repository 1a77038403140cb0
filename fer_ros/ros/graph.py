"""The ROS graph, as far as this node has discovered it."""

from typing import Any

from rclpy.node import Node

_UNDISCOVERED = "_NODE_NAME_UNKNOWN_"  # until the middleware has received the name


def named_publishers(node: Node, topic: str) -> list[Any]:
    """Endpoints of the publishers of ``topic`` whose nodes are known by name.

    A publisher is discovered before the name of its node.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    return [publisher for publisher in publishers if publisher.node_name != _UNDISCOVERED]
