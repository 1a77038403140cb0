"""What the node would have published, as a bag that ROS, Foxglove and PlotJuggler play."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from fer_ros.errors import one_line
from fer_ros.evaluation.bags import BagImage
from fer_ros.evaluation.messages import (
    DETECTIONS,
    EXPRESSION,
    IDS,
    LABEL_INFO,
    LANDMARKS,
    POINT,
    REGION,
    make,
    make_header,
    to_bytes,
    typestore,
)
from fer_ros.labels import EMOTIONS, HRI_EXPRESSIONS
from fer_ros.portrait import with_pupils
from fer_ros.records import ranked, told
from fer_ros.types import FaceEmotion

NODE = "/emotion_node"
HUMANS = "/humans/faces"
VERSION: Literal[8] = 8
"""Of rosbag2's format; version 9 writes the quality of service in a way that is new."""


class Recorder:
    """Writes results as they come, with the stamps and times of recording of their images.

    ``path`` None: writes nothing. When the disk does not take it, a line in ``troubles`` says so
    and the rest is not written.
    """

    def __init__(self, path: Path | None, troubles: list[str]) -> None:
        self._troubles = troubles
        self._topics: dict[str, Connection] = {}
        self._writer: Writer | None = None
        if path:
            self._path = path
            with self._while_there_is_room():
                if path.exists():
                    shutil.rmtree(path)
                self._writer = Writer(path, version=VERSION, storage_plugin=StoragePlugin.MCAP)
                self._writer.open()

    def write(
        self, image: BagImage, frame_id: str, size_hw: tuple[int, ...], faces: list[FaceEmotion]
    ) -> None:
        """The results of one image."""
        if not self._writer:
            return
        header = make_header(image.stamp_ns, frame_id)
        with self._while_there_is_room():
            if not self._topics:
                self._put(image, f"{NODE}/emotions/labels", LABEL_INFO, _label_info(header))
            detections = [_detection(face, header) for face in faces]
            message = make(DETECTIONS, header, detections)
            self._put(image, f"{NODE}/emotions", DETECTIONS, message)
            ids = make(IDS, header, [face.id for face in faces])
            self._put(image, f"{HUMANS}/tracked", IDS, ids)
            for face in faces:
                for name, kind, message in _humans(face, header, size_hw):
                    self._put(image, f"{HUMANS}/{face.id}/{name}", kind, message)

    def close(self) -> None:
        """Completes the bag."""
        with self._while_there_is_room():
            if self._writer:
                self._writer.close()
                self._writer = None

    def _put(self, image: BagImage, topic: str, kind: str, message: Any) -> None:
        assert self._writer
        if topic not in self._topics:
            qos = [_LATCHED] if kind == LABEL_INFO else []
            self._topics[topic] = self._writer.add_connection(
                topic, kind, typestore=typestore(), offered_qos_profiles=qos
            )
        self._writer.write(self._topics[topic], image.recorded_ns, to_bytes(kind, message))

    @contextmanager
    def _while_there_is_room(self) -> Iterator[None]:
        try:
            yield
        except (OSError, WriterError) as error:
            self._troubles.append(f"{self._path}: cannot be written any further: {one_line(error)}")
            writer, self._writer = self._writer, None
            with suppress(OSError):  # what is buffered does not fit either
                if writer:
                    writer.abort()


def _label_info(header: Any) -> Any:
    classes = [make("vision_msgs/msg/VisionClass", *pair) for pair in enumerate(EMOTIONS)]
    return make(LABEL_INFO, header, classes, 0.0)


def _detection(face: FaceEmotion, header: Any) -> Any:
    left, top, right, bottom = (float(edge) for edge in face.box_xyxy)
    middle = make("vision_msgs/msg/Point2D", (left + right) / 2, (top + bottom) / 2)
    pose = make("vision_msgs/msg/Pose2D", middle, 0.0)
    box = make("vision_msgs/msg/BoundingBox2D", pose, right - left, bottom - top)
    return make(
        "vision_msgs/msg/Detection2D",
        header,
        [_hypothesis(*pair) for pair in ranked(face)],
        box,
        face.id,
    )


def _hypothesis(name: str, share: float) -> Any:
    nowhere = make(
        "geometry_msgs/msg/PoseWithCovariance",
        make(
            "geometry_msgs/msg/Pose",
            make("geometry_msgs/msg/Point", 0.0, 0.0, 0.0),
            make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
        ),
        np.zeros(36),
    )
    hypothesis = make("vision_msgs/msg/ObjectHypothesis", name, share)
    return make("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis, nowhere)


def _humans(
    face: FaceEmotion, header: Any, size_hw: tuple[int, ...]
) -> Iterator[tuple[str, str, Any]]:
    """Name, type and content of what REP-155 has for one face."""
    height, width = size_hw
    corners = (face.box_xyxy / [width, height, width, height]).clip(0, 1).tolist()
    yield "roi", REGION, make(REGION, header, *corners, face.score)
    if np.isfinite(face.points_xy).all():
        points = _points(face, size_hw)
        yield "landmarks", LANDMARKS, make(LANDMARKS, header, points, height, width)
    expressed = told(face, HRI_EXPRESSIONS)  # which has no contempt
    if expressed:
        name, share = expressed
        unknown = float("nan")  # of a valence and arousal that nobody estimates
        message = make(EXPRESSION, header, HRI_EXPRESSIONS[name], unknown, unknown, share)
        yield "expression", EXPRESSION, message


def _points(face: FaceEmotion, size_hw: tuple[int, ...]) -> list[Any]:
    height, width = size_hw
    points, seen = with_pupils(face.points_xy)
    sure = (face.score * seen).tolist()
    places = (points / [width, height]).tolist()
    return [make(POINT, *place, c) for place, c in zip(places, sure, strict=True)]


_NEVER = QosTime(9223372036, 854775807)
_LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _NEVER,
    _NEVER,
    QosLiveliness.AUTOMATIC,
    _NEVER,
    False,
)
