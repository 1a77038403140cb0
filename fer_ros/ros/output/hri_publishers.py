"""Publishers of faces as REP-155 (ROS4HRI) defines them, below ``<hri_namespace>/faces``.

``tracked`` lists the faces that are present. Each face has topics below its id until it is lost for
good.
"""

import threading
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from hri_msgs.msg import (
    Expression,
    FacialActionUnits,
    FacialLandmarks,
    IdsList,
    NormalizedPointOfInterest2D,
    NormalizedRegionOfInterest2D,
)
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from fer_ros.emotions import HRI_EXPRESSIONS
from fer_ros.face_images import crop_face_square, roll_rad
from fer_ros.message_fields import (
    best_expressible_emotion,
    facial_action_units,
    normalized_landmarks,
    normalized_region,
)
from fer_ros.ros.convert import to_image
from fer_ros.ros.graph import named_publishers
from fer_ros.types import FaceEmotion, FrameResult

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks

CROP_PX = 128
"""Side of ``cropped`` and ``aligned`` in pixels, the default of REP-155."""

FACE_TOPIC_TYPES = {
    "roi": NormalizedRegionOfInterest2D,
    "landmarks": FacialLandmarks,
    "expression": Expression,
    "facs": FacialActionUnits,
    "cropped": Image,
    "aligned": Image,
}
EXPRESSION_VALUES = frozenset(
    getattr(Expression, name)
    for name in dir(Expression)
    if isinstance(getattr(Expression, name), str) and not name.startswith("_")
)
"""Values that ``Expression`` defines; readers ignore all others."""

# The executor waits on publisher events, so publishers with events can only be destroyed by it.
_NO_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)


class HriFaceTopics:
    """Thread-safe publishers below ``<namespace>/faces/<id>/``, one per name in ``topic_types``."""

    def __init__(self, node: Node, namespace: str, topic_types: Mapping[str, type]) -> None:
        self._node = node
        self._namespace = namespace
        self._topic_types = topic_types
        self._lock = threading.Lock()
        self._publishers: dict[str, dict[str, Publisher]] = {}

    def set_active_ids(self, ids: Collection[str]) -> None:
        """Create the topics of new ids and destroy those of all ids that are not in ``ids``."""
        with self._lock:
            for id in [id for id in self._publishers if id not in ids]:
                for publisher in self._publishers.pop(id).values():
                    self._node.destroy_publisher(publisher)
            for id in [id for id in ids if id not in self._publishers]:
                self._publishers[id] = {name: self._create(id, name) for name in self._topic_types}

    def publish(self, id: str, name: str, message: Any) -> None:
        """Publish a message, unless the face is not active any more."""
        with self._lock:
            if id in self._publishers:
                self._publishers[id][name].publish(message)

    def has_subscribers(self, id: str, name: str) -> bool:
        """Whether a topic of a face has subscribers."""
        with self._lock:
            publishers = self._publishers.get(id)
            return bool(publishers and publishers[name].get_subscription_count())

    def _create(self, id: str, name: str) -> Publisher:
        topic = f"{self._namespace}/faces/{id}/{name}"
        return self._node.create_publisher(
            self._topic_types[name], topic, 1, event_callbacks=_NO_EVENTS
        )


class HriFacePublishers:
    """REP-155 topics of the faces of all cameras; ``names`` as of ``expression_names``."""

    def __init__(self, node: Node, namespace: str, names: Mapping[str, str]) -> None:
        self._node = node
        self._expression_names = names
        self._topics = HriFaceTopics(node, namespace, FACE_TOPIC_TYPES)
        self._tracked = node.create_publisher(IdsList, f"{namespace}/faces/tracked", 1)
        self._lock = threading.Lock()
        self._header = Header()
        self._active_ids: dict[str, list[str]] = {}  # by camera

    def publish(
        self,
        camera: str,
        result: FrameResult,
        active_ids: list[str],
        image_rgb: NDArray[np.uint8],
        header: Header,
        with_images: bool,
    ) -> None:
        """Publish the faces of one image (H, W, 3); ``active_ids`` are those not lost."""
        self._set_active_ids(camera, active_ids, header)
        size_hw = image_rgb.shape[:2]
        for face in result.faces:
            self._topics.publish(face.id, "roi", to_region(face, header, size_hw))
            if np.isfinite(face.points_xy).all():
                landmarks = to_landmarks(face, header, size_hw)
                self._topics.publish(face.id, "landmarks", landmarks)
            expression = to_expression(face, header, self._expression_names)
            if expression:
                self._topics.publish(face.id, "expression", expression)
            if face.blendshapes is not None and self._topics.has_subscribers(face.id, "facs"):
                self._topics.publish(face.id, "facs", to_action_units(face, header))
            if with_images:
                self._publish_images(face, image_rgb, header)

    def clear(self, camera: str) -> None:
        """Report once that this camera shows no face any more; nothing if it showed none."""
        if self._active_ids.get(camera):
            self._set_active_ids(camera, [], self._header)

    def other_publishers(self) -> list[str]:
        """Full names of other nodes that publish the same list of tracked faces."""
        publishers = named_publishers(self._node, self._tracked.topic_name)
        names = {
            f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
            for publisher in publishers
        }
        others = names - {self._node.get_fully_qualified_name()}
        has_namesake = len(publishers) > 1 and not others
        return sorted(others) or ([self._node.get_fully_qualified_name()] if has_namesake else [])

    def close(self) -> None:
        """Destroy the publishers."""
        self._topics.set_active_ids(())
        self._node.destroy_publisher(self._tracked)

    def _set_active_ids(self, camera: str, active_ids: list[str], header: Header) -> None:
        with self._lock:
            self._header = header
            self._active_ids[camera] = active_ids
            ids = [id for camera_ids in self._active_ids.values() for id in camera_ids]
            self._topics.set_active_ids(ids)
            self._tracked.publish(IdsList(header=header, ids=ids))

    def _publish_images(
        self, face: FaceEmotion, image_rgb: NDArray[np.uint8], header: Header
    ) -> None:
        """Publish face crops that have subscribers; cropping takes time."""
        if self._topics.has_subscribers(face.id, "cropped"):
            crop = crop_face_square(image_rgb, face.box_xyxy, CROP_PX)
            self._topics.publish(face.id, "cropped", to_image(crop, header))
        has_landmarks = bool(np.isfinite(face.points_xy).all())
        if has_landmarks and self._topics.has_subscribers(face.id, "aligned"):
            roll = roll_rad(face.points_xy)
            crop = crop_face_square(image_rgb, face.box_xyxy, CROP_PX, roll)
            self._topics.publish(face.id, "aligned", to_image(crop, header))


def expression_names(label_names: Mapping[str, str]) -> dict[str, str]:
    """Value of ``Expression`` for each emotion that has one; ``label_names`` of parameters.

    Contempt has none, unless ``label_map`` renames it to a value that the message defines.
    """
    renamed = {emotion: name for emotion, name in label_names.items() if name in EXPRESSION_VALUES}
    return HRI_EXPRESSIONS | renamed


def to_expression(face: FaceEmotion, header: Header, names: Mapping[str, str]) -> Expression | None:
    """Expression of a face with its own probability; None when the face is not readable.

    If the message has no value for the emotion, the most probable other emotion is used. Valence
    and arousal are NaN: they are not estimated.
    """
    best = best_expressible_emotion(face, names)
    if best is None:
        return None
    emotion, probability = best
    return Expression(
        header=header,
        expression=names[emotion],
        valence=float("nan"),
        arousal=float("nan"),
        confidence=probability,
    )


def to_region(
    face: FaceEmotion, header: Header, size_hw: tuple[int, ...]
) -> NormalizedRegionOfInterest2D:
    """The box as fractions of the image of size (H, W), clipped to it."""
    xmin, ymin, xmax, ymax = normalized_region(face, size_hw)
    return NormalizedRegionOfInterest2D(
        header=header, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, c=face.score
    )


def to_action_units(face: FaceEmotion, header: Header) -> FacialActionUnits:
    """Intensity of each FACS action unit of a face that has blendshapes."""
    fields = facial_action_units(face)
    assert fields is not None, "the caller checks it"
    return FacialActionUnits(header=header, **fields._asdict())


def to_landmarks(face: FaceEmotion, header: Header, size_hw: tuple[int, ...]) -> FacialLandmarks:
    """The 68 landmarks and both pupils as fractions of the image of size (H, W)."""
    height, width = size_hw
    return FacialLandmarks(
        header=header,
        height=height,
        width=width,
        landmarks=[
            NormalizedPointOfInterest2D(**point._asdict())
            for point in normalized_landmarks(face, size_hw)
        ],
    )
