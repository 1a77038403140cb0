"""The pictures of faces that another detector publishes as REP-155 says."""

from collections.abc import Callable

from hri_msgs.msg import IdsList
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.validate_full_topic_name import validate_full_topic_name
from sensor_msgs.msg import Image

from fer_ros.ros.params import NodeConfig, image_qos

_DEPTH = 10  # of the lists of ids: each one counts


class FacesInput:
    """Subscribes to ``tracked`` and to a picture of each face in it; ``topic`` names the former.

    ``on_faces(ids)`` hears who is there, ``on_picture(id, message)`` what each one looks like. A
    picture is ``aligned`` where somebody publishes it, else ``cropped``, which REP-155 demands.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        on_faces: Callable[[list[str]], None],
        on_picture: Callable[[str, Image], None],
    ) -> None:
        self._node = node
        self._below = f"{config.humans_prefix}/faces"
        self._qos = image_qos(config.image_qos)
        self._on_faces = on_faces
        self._on_picture = on_picture
        self._refused: set[str] = set()
        self._pictures: dict[str, Subscription] = {}
        self.topic = f"{self._below}/tracked"
        self._tracked = node.create_subscription(IdsList, self.topic, self._hear, _DEPTH)

    def close(self) -> None:
        """Unsubscribes."""
        self._node.destroy_subscription(self._tracked)
        self._keep(set())

    def look(self) -> None:
        """Changes to the better picture when it has come, or when it has gone."""
        for id, subscription in [*self._pictures.items()]:
            if subscription.topic_name != self._best(id):
                self._node.destroy_subscription(subscription)
                self._subscribe(id)

    def is_alone(self) -> bool:
        """Whether nobody says which faces there are."""
        return not self._node.count_publishers(self.topic)

    def _hear(self, message: IdsList) -> None:
        self._keep({*message.ids})
        for id in message.ids:
            if id not in self._pictures and self._can_be_topic(id):
                self._subscribe(id)
        self.look()
        self._on_faces([*self._pictures])

    def _keep(self, ids: set[str]) -> None:
        for id in self._pictures.keys() - ids:
            self._node.destroy_subscription(self._pictures.pop(id))

    def _subscribe(self, id: str) -> None:
        self._pictures[id] = self._node.create_subscription(
            Image, self._best(id), lambda message: self._on_picture(id, message), self._qos
        )

    def _can_be_topic(self, id: str) -> bool:
        if id in self._refused:
            return False
        try:
            validate_full_topic_name(f"{self._below}/{id}/cropped")
        except InvalidTopicNameException:
            self._refused.add(id)
            self._node.get_logger().warning(
                f"{self.topic}: the id {id!r} cannot be part of a topic; ids begin with a letter"
            )
            return False
        return True

    def _best(self, id: str) -> str:
        aligned = f"{self._below}/{id}/aligned"
        return aligned if self._node.count_publishers(aligned) else f"{self._below}/{id}/cropped"
