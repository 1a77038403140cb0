"""Faces as REP-155 has them: the topics that ROS4HRI robots share, below ``/humans/faces``.

``tracked`` names the faces that are there; each has its topics below its id, for as long as it may
come back.
"""

import threading
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from hri_msgs.msg import (
    Expression,
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

from fer_ros.labels import HRI_EXPRESSIONS
from fer_ros.portrait import portrait, roll_rad, with_pupils
from fer_ros.records import told
from fer_ros.ros.convert import to_image
from fer_ros.types import FaceEmotion, FrameEmotions

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks

CROP_PX = 128
"""Side of ``cropped`` and ``aligned``, REP-155's default."""

OF_A_FACE = {
    "roi": NormalizedRegionOfInterest2D,
    "landmarks": FacialLandmarks,
    "expression": Expression,
    "cropped": Image,
    "aligned": Image,
}
WORDS = frozenset(
    getattr(Expression, name)
    for name in dir(Expression)
    if isinstance(getattr(Expression, name), str) and not name.startswith("_")
)
"""What ``Expression`` may say; readers drop everything else."""

# The executor waits for the events of publishers: those may only go in its own thread.
_NO_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)


class FaceTopics:
    """Publishers below ``<prefix>/faces/<id>/``, those of ``kinds``; any thread may use them."""

    def __init__(self, node: Node, prefix: str, kinds: Mapping[str, type]) -> None:
        self._node = node
        self._prefix = prefix
        self._kinds = kinds
        self._lock = threading.Lock()
        self._publishers: dict[str, dict[str, Publisher]] = {}

    def keep(self, ids: Collection[str]) -> None:
        """Makes the topics of new ids and takes down those of ids that are not among these."""
        with self._lock:
            for id in [id for id in self._publishers if id not in ids]:
                for publisher in self._publishers.pop(id).values():
                    self._node.destroy_publisher(publisher)
            for id in [id for id in ids if id not in self._publishers]:
                self._publishers[id] = {name: self._make(id, name) for name in self._kinds}

    def publish(self, id: str, name: str, message: Any) -> None:
        """Nothing happens when the face is gone."""
        with self._lock:
            if id in self._publishers:
                self._publishers[id][name].publish(message)

    def is_watched(self, id: str, name: str) -> bool:
        """Whether anybody subscribes."""
        with self._lock:
            topics = self._publishers.get(id)
            return bool(topics and topics[name].get_subscription_count())

    def _make(self, id: str, name: str) -> Publisher:
        topic = f"{self._prefix}/faces/{id}/{name}"
        return self._node.create_publisher(self._kinds[name], topic, 1, event_callbacks=_NO_EVENTS)


class Humans:
    """All topics of the faces of all cameras; ``words`` as of ``hri_words``."""

    def __init__(self, node: Node, prefix: str, words: Mapping[str, str]) -> None:
        self._node = node
        self._words = words
        self._topics = FaceTopics(node, prefix, OF_A_FACE)
        self._tracked = node.create_publisher(IdsList, f"{prefix}/faces/tracked", 1)
        self._lock = threading.Lock()
        self._header = Header()
        self._present: dict[str, list[str]] = {}  # ids by camera

    def publish(
        self,
        camera: str,
        result: FrameEmotions,
        present: list[str],
        image_rgb: NDArray[np.uint8],
        header: Header,
        with_pictures: bool,
    ) -> None:
        """What is known of the faces of one image (H, W, 3); ``present`` has those not gone."""
        self._track(camera, present, header)
        height, width = image_rgb.shape[:2]
        for face in result.faces:
            self._topics.publish(face.id, "roi", to_region(face, header, (height, width)))
            if np.isfinite(face.points_xy).all():
                landmarks = to_landmarks(face, header, (height, width))
                self._topics.publish(face.id, "landmarks", landmarks)
            expression = to_expression(face, header, self._words)
            if expression:
                self._topics.publish(face.id, "expression", expression)
            if with_pictures:
                self._publish_pictures(face, image_rgb, header)

    def forget(self, camera: str) -> None:
        """The faces of a camera are gone, and those who watch ``tracked`` hear of it."""
        self._track(camera, [], self._header)

    def close(self) -> None:
        """Takes the topics down."""
        self._topics.keep(())
        self._node.destroy_publisher(self._tracked)

    def _track(self, camera: str, present: list[str], header: Header) -> None:
        with self._lock:
            self._header = header
            self._present[camera] = present
            ids = [id for those in self._present.values() for id in those]
            self._topics.keep(ids)
            self._tracked.publish(IdsList(header=header, ids=ids))

    def _publish_pictures(
        self, face: FaceEmotion, image_rgb: NDArray[np.uint8], header: Header
    ) -> None:
        """Only for those who watch: cutting pictures out costs time."""
        if self._topics.is_watched(face.id, "cropped"):
            picture = portrait(image_rgb, face.box_xyxy, CROP_PX)
            self._topics.publish(face.id, "cropped", to_image(picture, header))
        if self._topics.is_watched(face.id, "aligned") and np.isfinite(face.points_xy).all():
            picture = portrait(image_rgb, face.box_xyxy, CROP_PX, roll_rad(face.points_xy))
            self._topics.publish(face.id, "aligned", to_image(picture, header))


def hri_words(names: Mapping[str, str]) -> dict[str, str]:
    """The word of ``Expression`` for each emotion that has one; ``names`` as of ``label_names``.

    Contempt has none, unless its name is one of the words that the message knows.
    """
    own = {emotion: name for emotion, name in names.items() if name in WORDS}
    return HRI_EXPRESSIONS | own


def to_expression(face: FaceEmotion, header: Header, words: Mapping[str, str]) -> Expression | None:
    """What the face expresses, with its own probability; None when it cannot be read.

    Where the message has no word for the emotion, the most probable one of the others is told.
    Valence and arousal are NaN: nobody estimates them.
    """
    expressed = told(face, words)
    if expressed is None:
        return None
    name, share = expressed
    unknown = float("nan")
    return Expression(
        header=header,
        expression=words[name],
        valence=unknown,
        arousal=unknown,
        confidence=share,
    )


def to_region(
    face: FaceEmotion, header: Header, size_hw: tuple[int, int]
) -> NormalizedRegionOfInterest2D:
    """The box as fractions of the image, which it does not leave."""
    height, width = size_hw
    left, top, right, bottom = (face.box_xyxy / [width, height, width, height]).clip(0, 1).tolist()
    return NormalizedRegionOfInterest2D(
        header=header, xmin=left, ymin=top, xmax=right, ymax=bottom, c=face.score
    )


def to_landmarks(face: FaceEmotion, header: Header, size_hw: tuple[int, int]) -> FacialLandmarks:
    """68 points, which are as sure as the face is, and the pupils, as fractions of the image.

    A pupil is taken to be in the middle of its eye. The more the eye closes, the less it is to be
    seen: its confidence goes down to 0.
    """
    height, width = size_hw
    points_xy, seen = with_pupils(face.points_xy)
    points, sure = points_xy / [width, height], face.score * seen
    return FacialLandmarks(
        header=header,
        height=height,
        width=width,
        landmarks=[
            NormalizedPointOfInterest2D(x=x, y=y, c=c)
            for (x, y), c in zip(points.tolist(), sure.tolist(), strict=True)
        ],
    )
