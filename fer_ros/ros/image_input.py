"""The subscription of the images, and why none arrives."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy, qos_policy_name_from_kind
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.ros.params import NodeConfig, below, image_qos

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_TOPICS = {"raw": "image", "compressed": "image/compressed"}
_TYPES = {"raw": Image, "compressed": CompressedImage}


class ImageInput:
    """Subscribes to the images that the settings ask for; ``topic`` is the full name.

    The topics of a camera that has a name are below it.
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
        self._topics = {kind: below(camera, topic) for kind, topic in _TOPICS.items()}
        self._subscription = node.create_subscription(
            _TYPES[config.image_transport],
            self._topics[config.image_transport],
            on_image,
            image_qos(config.image_qos),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._tell_incompatible),
        )
        self.topic = self._subscription.topic_name

    def close(self) -> None:
        """Unsubscribes."""
        self._node.destroy_subscription(self._subscription)

    def why_silent(self) -> str:
        """Who publishes images, how, and what to change, in one line."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        wanted = self._config.image_qos
        if publishers:
            offers = ", ".join(
                f"{each.node_name} ({_reliability(each.qos_profile.reliability)})"
                for each in publishers
            )
            return f"publishers: {offers}; this node asks for {wanted}"
        other = "raw" if self._config.image_transport == "compressed" else "compressed"
        other_topic = self._node.resolve_topic_name(self._topics[other])
        if self._node.count_publishers(other_topic):
            return f"no publisher, but {other_topic} has one: set image_transport to {other!r}"
        own = self._topics["raw"]
        return (
            f"no publisher (asking for {wanted}): does the camera run, is {own!r} remapped to it?"
        )

    def _tell_incompatible(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        advice = "set the same in both"
        if policy == "RELIABILITY":
            advice = "the publisher is best effort: set image_qos to 'sensor_data'"
        self._node.get_logger().warning(
            f"{self.topic}: a publisher offers another {policy} than image_qos "
            f"{self._config.image_qos!r} asks for, none of its images will arrive; {advice}"
        )


def _reliability(policy: QoSReliabilityPolicy) -> str:
    return QoSReliabilityPolicy(policy).name.lower().replace("_", " ")
