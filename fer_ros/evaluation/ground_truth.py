"""Ground-truth labels: which emotion a face shows, when, and which detected face is meant.

A label holds for an interval or for one image, and for the face with its id, the face at its
position or, without either, the largest face of the image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.boxes import areas, centers, iou
from fer_ros.emotions import EMOTIONS, to_emotion
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.bags.messages import DETECTIONS, EXPRESSION, STRING, stamp_ns
from fer_ros.evaluation.bags.reader import Bag
from fer_ros.message_fields import corners_xyxy

LARGEST_FACE = "largest"
SINGLE_IMAGE_S = 0.01
"""A label of one image holds for images whose time differs by at most this."""

_MIN_IOU = 0.3
_MAX_REORDER_S = 1.0  # images come in the order of stamps, their times of receipt nearly do


class LabelError(EvaluationError):
    """Labels cannot be used. The message is one line."""


class LabelClock(Enum):
    """Time base of a label, a property of the label's source."""

    RELATIVE = "relative"  # seconds since the first image
    STAMP = "stamp"  # header stamps, in the clock of the images
    RECEIVED = "received"  # time of receipt, as recorded in the bag


@dataclass(frozen=True)
class Label:
    """One emotion of one face, from ``start_s`` until before ``end_s``.

    Attributes:
        start_s: Seconds of ``clock``.
        end_s: Seconds of ``clock``.
        emotion: Index into EMOTIONS.
        face: Track id of the face in the predictions, or LARGEST_FACE. With ``box_xyxy``, any name.
        box_xyxy: Position of the face in pixels, a single point when its corners are equal.
        bag: Name of the recording, empty for any.
        clock: Time base of ``start_s`` and ``end_s``.
    """

    start_s: float
    end_s: float
    emotion: int
    face: str = LARGEST_FACE
    box_xyxy: tuple[float, float, float, float] | None = None
    bag: str = ""
    clock: LabelClock = LabelClock.RELATIVE


def labels_for_bag(labels: Iterable[Label], name: str) -> list[Label]:
    """Labels that name this bag, or none."""
    return [label for label in labels if label.bag in ("", name)]


def unknown_bags(labels: Iterable[Label], names: Iterable[str]) -> list[str]:
    """Recordings that labels name, and that are not among ``names``, sorted."""
    return sorted({label.bag for label in labels} - {"", *names})


def topic_labels(bag: Bag, topic: str) -> list[Label]:
    """Read the labels of a topic.

    ``std_msgs/String`` holds for the largest face from its time of receipt until the next message;
    an empty string ends it. ``hri_msgs/Expression`` and ``vision_msgs/Detection2DArray`` hold for
    the image with their stamp: the former for the face whose id the topic names, the latter for
    the face at the same position.

    Raises:
        LabelError: The topic does not exist, has another type, or holds no or unknown labels.
    """
    readers = {STRING: _from_strings, EXPRESSION: _from_expressions, DETECTIONS: _from_detections}
    kind = bag.topics.get(topic)
    if kind not in readers:
        reason = "there is no such topic" if kind is None else f"its type is {kind}"
        raise LabelError(
            f"{bag.path}: labels from {topic}: expected a topic of {', '.join(readers)}; {reason}"
        )
    try:
        labels = list(readers[kind](bag, topic))
    except ValueError as error:
        raise LabelError(f"{bag.path}: labels from {topic}: {error}") from None
    if not labels:
        raise LabelError(f"{bag.path}: labels from {topic}: its messages hold no labels")
    return labels


def _from_strings(bag: Bag, topic: str) -> Iterator[Label]:
    messages = [
        (received_ns * 1e-9, message.data.strip()) for received_ns, message in bag.messages(topic)
    ]
    ends = [start_s for start_s, _ in messages[1:]] + [float("inf")]
    for (start_s, name), end_s in zip(messages, ends, strict=True):
        if name and start_s < end_s:
            emotion = EMOTIONS.index(to_emotion(name))
            yield Label(start_s, end_s, emotion, clock=LabelClock.RECEIVED)


def _from_expressions(bag: Bag, topic: str) -> Iterator[Label]:
    parts = topic.strip("/").split("/")
    face = parts[-2] if len(parts) > 2 and parts[-3] == "faces" else LARGEST_FACE
    for _, message in bag.messages(topic):
        if message.expression:
            emotion = EMOTIONS.index(to_emotion(message.expression))
            yield Label(*_stamp_interval(message.header), emotion, face, clock=LabelClock.STAMP)


def _from_detections(bag: Bag, topic: str) -> Iterator[Label]:
    for _, message in bag.messages(topic):
        start_s, end_s = _stamp_interval(message.header)
        for face in message.detections:
            if not face.results:
                continue
            best = max(face.results, key=lambda result: result.hypothesis.score)
            yield Label(
                start_s,
                end_s,
                EMOTIONS.index(to_emotion(best.hypothesis.class_id)),
                face.id or LARGEST_FACE,
                corners_xyxy(face.bbox),
                clock=LabelClock.STAMP,
            )


def _stamp_interval(header: Any) -> tuple[float, float]:
    stamp_s = stamp_ns(header) * 1e-9
    return stamp_s - SINGLE_IMAGE_S, stamp_s + SINGLE_IMAGE_S


@dataclass(frozen=True)
class ImageTime:
    """The time of one image in the clock of each label source, in seconds."""

    relative_s: float
    stamp_s: float
    received_s: float

    def in_clock(self, clock: LabelClock) -> float:
        """The time that labels of this clock are compared with."""
        if clock is LabelClock.RELATIVE:
            return self.relative_s
        return self.stamp_s if clock is LabelClock.STAMP else self.received_s


class LabelMatcher:
    """Assigns labels to the faces of consecutive frames, in the order of their time.

    ``unused`` lists the labels that no frame fell into so far.
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        labels = sorted(labels, key=lambda label: label.start_s, reverse=True)
        self._upcoming = {
            clock: [label for label in labels if label.clock is clock] for clock in LabelClock
        }
        self._active: list[Label] = []
        self._unused = {id(label): label for label in reversed(labels)}

    @property
    def unused(self) -> list[Label]:
        """Labels that held for no frame so far, in the order of their start."""
        return list(self._unused.values())

    def match(
        self, time: ImageTime, ids: list[str], boxes_xyxy: NDArray[np.floating]
    ) -> list[tuple[Label, int | None]]:
        """Find the labels that hold for a frame and the face of each.

        Args:
            time: Time of the frame.
            ids: Track ids of its N faces.
            boxes_xyxy: (N, 4) pixels.

        Returns:
            Each label with the index of its face, None if that face was not detected.
        """
        current = self._labels_at(time)
        by_face = {label.face: label for label in current}  # the later label wins
        ended = {id(label) for label in current if _outlives(by_face[label.face], label)}
        self._active = [label for label in self._active if id(label) not in ended]
        taken: set[int] = set()
        matches: list[tuple[Label, int | None]] = []
        for label in by_face.values():
            index = _match_face(label, ids, boxes_xyxy)
            if index in taken:
                index = None
            matches.append((label, index))
            taken |= {index} if index is not None else set()
        return matches

    def _labels_at(self, time: ImageTime) -> list[Label]:
        for clock, upcoming in self._upcoming.items():
            while upcoming and upcoming[-1].start_s <= time.in_clock(clock):
                self._active.append(upcoming.pop())
        self._active = [
            label
            for label in self._active
            if time.in_clock(label.clock) < label.end_s + _MAX_REORDER_S
        ]
        current = [
            label
            for label in self._active
            if label.start_s <= time.in_clock(label.clock) < label.end_s
        ]
        for label in current:
            self._unused.pop(id(label), None)
        return current


def _outlives(later: Label, label: Label) -> bool:
    """Whether a label that overrides another one does so to its end."""
    return later is not label and later.clock is label.clock and later.end_s >= label.end_s


def _match_face(label: Label, ids: list[str], boxes_xyxy: NDArray[np.floating]) -> int | None:
    if not ids:
        return None
    if label.box_xyxy is not None:
        return _match_box(np.array(label.box_xyxy), boxes_xyxy)
    if label.face == LARGEST_FACE:
        return int(areas(boxes_xyxy).argmax())
    return ids.index(label.face) if label.face in ids else None


def _match_box(box: NDArray[np.float64], boxes_xyxy: NDArray[np.floating]) -> int | None:
    """The face with the largest IoU, or, for a point, the nearest face that contains it."""
    if (box[:2] == box[2:]).all():
        contains = ((boxes_xyxy[:, :2] <= box[:2]) & (box[:2] <= boxes_xyxy[:, 2:])).all(axis=1)
        offsets = centers(boxes_xyxy) - box[:2]
        distances = np.where(contains, np.linalg.norm(offsets, axis=1), np.inf)
        return int(distances.argmin()) if contains.any() else None
    ious = iou(boxes_xyxy, box[None])[:, 0]
    return int(ious.argmax()) if ious.max() >= _MIN_IOU else None
