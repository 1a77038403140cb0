"""Write the messages that the node would publish to a bag."""

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

from fer_ros.emotions import EMOTIONS, HRI_EXPRESSIONS
from fer_ros.evaluation.bags.messages import (
    ACTION_UNITS,
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
from fer_ros.evaluation.bags.reader import BagImage
from fer_ros.io.errors import single_line
from fer_ros.message_fields import (
    best_expressible_emotion,
    bounding_box,
    facial_action_units,
    normalized_landmarks,
    normalized_region,
    sorted_hypotheses,
)
from fer_ros.types import FaceEmotion

NODE = "/emotion_node"
HRI_NAMESPACE = "/humans/faces"
BAG_VERSION: Literal[8] = 8
"""Of rosbag2's metadata.yaml. Version 9 writes QoS in a way that Humble does not read."""


class ResultRecorder:
    """Writes results with the stamps and times of receipt of their images.

    When the disk is full, ``errors`` gets one line and the rest is not written.

    Args:
        path: Bag to write, None to write nothing. An existing one is replaced.
        errors: List that receives errors.
    """

    def __init__(self, path: Path | None, errors: list[str]) -> None:
        self._errors = errors
        self._topics: dict[str, Connection] = {}
        self._writer: Writer | None = None
        if path:
            self._path = path
            with self._disable_on_write_error():
                if path.exists():
                    shutil.rmtree(path)
                self._writer = Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
                self._writer.open()

    def write(
        self, image: BagImage, frame_id: str, size_hw: tuple[int, ...], faces: list[FaceEmotion]
    ) -> None:
        """Write the results of one image of size (H, W)."""
        if not self._writer:
            return
        header = make_header(image.stamp_ns, frame_id)
        with self._disable_on_write_error():
            if not self._topics:
                self._write(image, f"{NODE}/emotions/labels", LABEL_INFO, _label_info(header))
            detections = [_detection(face, header) for face in faces]
            self._write(image, f"{NODE}/emotions", DETECTIONS, make(DETECTIONS, header, detections))
            ids = make(IDS, header, [face.id for face in faces])
            self._write(image, f"{HRI_NAMESPACE}/tracked", IDS, ids)
            for face in faces:
                for name, kind, message in _hri_messages(face, header, size_hw):
                    self._write(image, f"{HRI_NAMESPACE}/{face.id}/{name}", kind, message)

    def close(self) -> None:
        """Complete the bag."""
        with self._disable_on_write_error():
            if self._writer:
                self._writer.close()
                self._writer = None

    def _write(self, image: BagImage, topic: str, kind: str, message: Any) -> None:
        assert self._writer
        if topic not in self._topics:
            qos = [_LATCHED] if kind == LABEL_INFO else []
            self._topics[topic] = self._writer.add_connection(
                topic, kind, typestore=typestore(), offered_qos_profiles=qos
            )
        self._writer.write(self._topics[topic], image.recorded_ns, to_bytes(kind, message))

    @contextmanager
    def _disable_on_write_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, WriterError) as error:
            self._errors.append(
                f"{self._path}: cannot be written any further: {single_line(error)}"
            )
            writer, self._writer = self._writer, None
            with suppress(OSError):  # flushing the buffer fails as well
                if writer:
                    writer.abort()


def _label_info(header: Any) -> Any:
    classes = [make("vision_msgs/msg/VisionClass", *pair) for pair in enumerate(EMOTIONS)]
    return make(LABEL_INFO, header, classes, 0.0)


def _detection(face: FaceEmotion, header: Any) -> Any:
    box = bounding_box(face)
    center = make("vision_msgs/msg/Point2D", box.center_x, box.center_y)
    pose = make("vision_msgs/msg/Pose2D", center, 0.0)
    return make(
        "vision_msgs/msg/Detection2D",
        header,
        [_hypothesis(*hypothesis) for hypothesis in sorted_hypotheses(face)],
        make("vision_msgs/msg/BoundingBox2D", pose, box.size_x, box.size_y),
        face.id,
    )


def _hypothesis(name: str, score: float) -> Any:
    no_pose = make(
        "geometry_msgs/msg/PoseWithCovariance",
        make(
            "geometry_msgs/msg/Pose",
            make("geometry_msgs/msg/Point", 0.0, 0.0, 0.0),
            make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
        ),
        np.zeros(36),
    )
    hypothesis = make("vision_msgs/msg/ObjectHypothesis", name, score)
    return make("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis, no_pose)


def _hri_messages(
    face: FaceEmotion, header: Any, size_hw: tuple[int, ...]
) -> Iterator[tuple[str, str, Any]]:
    """Name, type and message of each REP-155 topic of one face."""
    height, width = size_hw
    yield "roi", REGION, make(REGION, header, *normalized_region(face, size_hw), face.score)
    points = [make(POINT, *point) for point in normalized_landmarks(face, size_hw)]
    if points:
        yield "landmarks", LANDMARKS, make(LANDMARKS, header, points, height, width)
    expressed = best_expressible_emotion(face, HRI_EXPRESSIONS)
    if expressed:
        name, confidence = expressed
        unknown = float("nan")  # valence and arousal are not estimated
        message = make(EXPRESSION, header, HRI_EXPRESSIONS[name], unknown, unknown, confidence)
        yield "expression", EXPRESSION, message
    action_units = facial_action_units(face)
    if action_units:
        yield "facs", ACTION_UNITS, make(ACTION_UNITS, header, *action_units)


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
