"""Subscription to the images of one camera, and diagnosis when no image arrives."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy, qos_policy_name_from_kind
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.ros.graph import named_publishers
from fer_ros.ros.parameters import NodeConfig, camera_topic, image_qos

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_TOPICS = {"raw": "image", "compressed": "image/compressed"}
_TYPES = {"raw": Image, "compressed": CompressedImage}
_TYPE_NAMES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}
_PLAYER = "rosbag2_player"


class ImageSubscriber:
    """Subscribes to the image topic of one camera; ``topic`` is its resolved name.

    The topics of a named camera are below its name.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        camera: str,
        on_image: Callable[[Image | CompressedImage], None],
    ) -> None:
        self._node = node
        self._config = config
        self._topics = {kind: camera_topic(camera, topic) for kind, topic in _TOPICS.items()}
        self._subscription = node.create_subscription(
            _TYPES[config.image_transport],
            self._topics[config.image_transport],
            on_image,
            image_qos(config.image_qos),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._warn_incompatible),
        )
        self.topic = self._subscription.topic_name
        self._known_publishers: set[str] = set()

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def new_publishers(self) -> list[str]:
        """Names of the nodes that publish to ``topic`` since the last call, sorted."""
        names = {publisher.node_name for publisher in named_publishers(self._node, self.topic)}
        new = sorted(names - self._known_publishers)
        self._known_publishers = names
        return new

    def diagnose_no_images(self) -> str:
        """One line: who publishes images, with which type and QoS, and what to change."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers:
            return self._diagnose_no_publisher()
        transport = self._config.image_transport
        offers = ", ".join(
            f"{publisher.node_name} ({_reliability(publisher.qos_profile.reliability)})"
            for publisher in publishers
        )
        types = {publisher.topic_type for publisher in publishers}
        if _TYPE_NAMES[transport] not in types:
            return (
                f"publishers: {offers}, of type {', '.join(sorted(types))}; this node subscribes "
                f"to {_TYPE_NAMES[transport]}: {self._remedy_for_type()}"
            )
        diagnosis = f"publishers: {offers}; image_qos is {self._config.image_qos}"
        if any(publisher.node_name.startswith(_PLAYER) for publisher in publishers):
            diagnosis += "; the player may be paused: press space in its terminal to resume it"
        return diagnosis

    def _diagnose_no_publisher(self) -> str:
        other_transport = _other_transport(self._config.image_transport)
        other_topic = self._node.resolve_topic_name(self._topics[other_transport])
        if self._node.count_publishers(other_topic):
            return (
                f"no publisher, but {other_topic} has one: "
                f"set image_transport to {other_transport!r}"
            )
        return (
            f"no publisher (image_qos is {self._config.image_qos}): is the camera running? Is "
            f"{self._topics[self._config.image_transport]!r} remapped to its topic?"
        )

    def _remedy_for_type(self) -> str:
        transport = _other_transport(self._config.image_transport)
        topic = self.topic
        base = topic.removesuffix("/compressed")
        if transport == "compressed" and base != topic:  # the launch file derives the other name
            return f"set image_transport to 'compressed' and image to {base}"
        return (
            f"set image_transport to {transport!r} and remap {self._topics[transport]!r} to {topic}"
        )

    def _warn_incompatible(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        remedy = "use the same in both"
        if policy == "RELIABILITY":
            remedy = "the publisher is best effort: set image_qos to 'sensor_data'"
        self._node.get_logger().warning(
            f"{self.topic}: a publisher offers another {policy} than image_qos "
            f"{self._config.image_qos!r} requests; none of its images will arrive; {remedy}"
        )


def _other_transport(transport: str) -> str:
    return "raw" if transport == "compressed" else "compressed"


def _reliability(policy: QoSReliabilityPolicy) -> str:
    return QoSReliabilityPolicy(policy).name.lower().replace("_", " ")
