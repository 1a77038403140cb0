"""Subscription to the face images that another detector publishes as REP-155 topics."""

from collections.abc import Callable

from hri_msgs.msg import IdsList
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.validate_full_topic_name import validate_full_topic_name
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from fer_ros.ros.parameters import NodeConfig, image_qos

_IDS_DEPTH = 10  # no list of ids may be lost


class HriFaceSubscriber:
    """Subscribes to the list of tracked ids and to one image topic per face.

    ``on_ids(ids, header)`` receives the ids of the tracked faces and ``on_face_image(id, message)``
    each image. The image is ``aligned`` where it has a publisher, else ``cropped``, which REP-155
    requires. ``topic`` is the resolved name of the list.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        on_ids: Callable[[list[str], Header], None],
        on_face_image: Callable[[str, Image], None],
    ) -> None:
        self._node = node
        self._faces_namespace = node.resolve_topic_name(f"{config.hri_namespace}/faces")
        self._qos = image_qos(config.image_qos)
        self._on_ids = on_ids
        self._on_face_image = on_face_image
        self._invalid_ids: set[str] = set()
        self._subscriptions: dict[str, Subscription] = {}
        self.topic = f"{self._faces_namespace}/tracked"
        self._tracked = node.create_subscription(IdsList, self.topic, self._on_tracked, _IDS_DEPTH)

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._tracked)
        self.clear()

    def refresh(self) -> None:
        """Resubscribe where the preferred image topic of a face has changed."""
        for id, subscription in [*self._subscriptions.items()]:
            if subscription.topic_name != self._preferred_topic(id):
                self._node.destroy_subscription(subscription)
                self._subscribe(id)

    def has_publisher(self) -> bool:
        """Whether any node publishes the list of tracked faces."""
        return self._node.count_publishers(self.topic) > 0

    def _on_tracked(self, message: IdsList) -> None:
        self._remove_others({*message.ids})
        for id in message.ids:
            if id not in self._subscriptions and self._is_valid(id):
                self._subscribe(id)
        self.refresh()
        self._on_ids([*self._subscriptions], message.header)

    def clear(self) -> None:
        """Unsubscribe from the images of all faces."""
        self._remove_others(set())

    def _remove_others(self, ids: set[str]) -> None:
        for id in self._subscriptions.keys() - ids:
            self._node.destroy_subscription(self._subscriptions.pop(id))

    def _subscribe(self, id: str) -> None:
        self._subscriptions[id] = self._node.create_subscription(
            Image,
            self._preferred_topic(id),
            lambda message: self._on_face_image(id, message),
            self._qos,
        )

    def _is_valid(self, id: str) -> bool:
        if id in self._invalid_ids:
            return False
        try:
            validate_full_topic_name(f"{self._faces_namespace}/{id}/cropped")
        except InvalidTopicNameException:
            self._invalid_ids.add(id)
            self._node.get_logger().warning(
                f"{self.topic}: id {id!r} is ignored: it is not a valid topic name; expected a "
                "letter first, then letters, digits and underscores"
            )
            return False
        return True

    def _preferred_topic(self, id: str) -> str:
        aligned = f"{self._faces_namespace}/{id}/aligned"
        if self._node.count_publishers(aligned):
            return aligned
        return f"{self._faces_namespace}/{id}/cropped"
