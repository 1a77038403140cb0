"""What a face was to show, when: labels from CSV, YAML or a topic, and the faces they mean.

A label holds for an interval or for one image, and for the face with its id, the face at its
place, or, without either, the largest face of the image.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import parse_yaml
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.bags import Bag
from fer_ros.evaluation.messages import DETECTIONS, EXPRESSION, STRING, stamp_ns
from fer_ros.labels import EMOTIONS, to_emotion

LARGEST = "largest"
_STAMPS_FROM_S = 1e8  # larger times are stamps, counted from 1970
_AT_S = 0.01  # a label of one image holds for images so near
_MIN_OVERLAP = 0.3
_LARGEST = 1e12  # number in a label: seconds have hundredths up to here
_KEYS = ("start_s", "end_s", "stamp_s", "emotion", "face", "x", "y", "bag")


class LabelError(EvaluationError):
    """Labels cannot be used; the message is one line."""


@dataclass(frozen=True)
class Label:
    """``emotion``, an index into EMOTIONS, from ``start_s`` until before ``end_s``.

    Seconds since the first image, or stamps. ``box_xyxy`` is where the face is, a single point when
    its corners are the same; without it ``face`` is the id that the face has in the results.
    """

    start_s: float
    end_s: float
    emotion: int
    face: str = LARGEST
    box_xyxy: tuple[float, float, float, float] | None = None
    bag: str = ""

    def since(self, first_s: float) -> "Label":
        """In seconds since the first image, whose stamp is ``first_s``."""
        if self.start_s < _STAMPS_FROM_S:
            return self
        return replace(self, start_s=self.start_s - first_s, end_s=self.end_s - first_s)


def read_labels(path: Path) -> list[Label]:
    """The labels of a CSV or YAML file. Raises LabelError with the line of what is wrong."""
    rows = _yaml_rows(path) if path.suffix.lower() in {".yaml", ".yml"} else _csv_rows(path)
    return [_label(row, where) for where, row in rows]


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, skipinitialspace=True)
            for line in lines:
                if None in line:
                    raise LabelError(f"{path} line {lines.line_num}: more values than columns")
                yield f"{path} line {lines.line_num}", line
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path}: not a CSV file: {error}") from None


def _yaml_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = parse_yaml(path.read_bytes()) or []
    except ValueError as error:
        raise LabelError(f"{path}: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LabelError(f"{path}: expected a list of labels, each with keys such as start_s")
    for number, row in enumerate(rows, 1):
        yield f"{path} label {number}", row


def _label(row: dict[str, Any], where: str) -> Label:
    given = {str(key).strip(): value for key, value in row.items() if value not in (None, "")}
    unknown = sorted(set(given) - set(_KEYS))
    if unknown:
        raise LabelError(f"{where}: unknown key {short(unknown[0])}; known: {', '.join(_KEYS)}")
    for key, value in given.items():
        if not isinstance(value, str | int | float) or _is_huge(value):
            what = type(value).__name__
            raise LabelError(f"{where}: {key}: expected a number or a word, found a {what}")
    if "emotion" not in given:
        raise LabelError(f"{where}: no emotion; expected one of {', '.join(EMOTIONS)}")
    try:
        emotion = EMOTIONS.index(to_emotion(str(given["emotion"])))
    except ValueError as error:
        raise LabelError(f"{where}: {error}") from None
    start_s, end_s = _times(given, where)
    box, face = None, str(given.get("face", LARGEST))
    if "x" in given or "y" in given:
        x, y = _number(given, "x", where), _number(given, "y", where)
        box, face = (x, y, x, y), str(given.get("face", f"{x:g},{y:g}"))
    return Label(start_s, end_s, emotion, face, box, str(given.get("bag", "")))


def _times(given: dict[str, Any], where: str) -> tuple[float, float]:
    if "stamp_s" in given:
        stamp_s = _number(given, "stamp_s", where)
        return stamp_s - _AT_S, stamp_s + _AT_S
    start_s, end_s = _number(given, "start_s", where), _number(given, "end_s", where)
    if not start_s < end_s:
        raise LabelError(f"{where}: expected start_s before end_s, found {start_s:g} and {end_s:g}")
    return start_s, end_s


def _number(given: dict[str, Any], key: str, where: str) -> float:
    try:
        value = float(given[key])
    except KeyError:
        raise LabelError(f"{where}: {key} is missing") from None
    except (TypeError, ValueError):
        raise LabelError(f"{where}: {key}: expected a number, found {short(given[key])}") from None
    if not abs(value) <= _LARGEST:
        raise LabelError(
            f"{where}: {key}: expected a finite number up to {_LARGEST:g}, found {value:g}"
        )
    return value


def _is_huge(value: Any) -> bool:
    """An integer that may have too many digits to be shown."""
    return isinstance(value, int) and abs(value) > _LARGEST


def topic_labels(bag: Bag, topic: str) -> list[Label]:
    """The labels of a topic of the bag, with stamps.

    ``std_msgs/String`` holds for the largest face until the next one, an empty one ends it;
    ``hri_msgs/Expression`` and ``vision_msgs/Detection2DArray`` hold for the image of their stamp,
    the former for the face whose id the topic names, the latter for the face at the same place.
    Raises LabelError when there is no such topic or it holds no labels.
    """
    readers = {STRING: _from_strings, EXPRESSION: _from_expressions, DETECTIONS: _from_detections}
    kind = bag.topics.get(topic)
    if kind not in readers:
        found = "there is no such topic" if kind is None else f"its type is {kind}"
        raise LabelError(
            f"{bag.path}: labels from {topic}: expected a topic of {', '.join(readers)}; {found}"
        )
    try:
        return list(readers[kind](bag, topic))
    except ValueError as error:
        raise LabelError(f"{bag.path}: labels from {topic}: {error}") from None


def _from_strings(bag: Bag, topic: str) -> Iterator[Label]:
    said = [
        (recorded_ns * 1e-9, message.data.strip()) for recorded_ns, message in bag.messages(topic)
    ]
    ends = [start_s for start_s, _ in said[1:]] + [float("inf")]
    for (start_s, word), end_s in zip(said, ends, strict=True):
        if word and start_s < end_s:
            yield Label(start_s, end_s, EMOTIONS.index(to_emotion(word)))


def _from_expressions(bag: Bag, topic: str) -> Iterator[Label]:
    parts = topic.strip("/").split("/")
    face = parts[-2] if len(parts) > 2 and parts[-3] == "faces" else LARGEST
    for _, message in bag.messages(topic):
        if message.expression:
            start_s, end_s = _around(message.header)
            yield Label(start_s, end_s, EMOTIONS.index(to_emotion(message.expression)), face)


def _from_detections(bag: Bag, topic: str) -> Iterator[Label]:
    for _, message in bag.messages(topic):
        start_s, end_s = _around(message.header)
        for face in message.detections:
            if not face.results:
                continue
            best = max(face.results, key=lambda each: each.hypothesis.score)
            emotion = EMOTIONS.index(to_emotion(best.hypothesis.class_id))
            yield Label(start_s, end_s, emotion, face.id or LARGEST, box_of(face.bbox))


def _around(header: Any) -> tuple[float, float]:
    stamp_s = stamp_ns(header) * 1e-9
    return stamp_s - _AT_S, stamp_s + _AT_S


def box_of(bbox: Any) -> tuple[float, float, float, float]:
    """The corners of a ``vision_msgs/BoundingBox2D``."""
    x, y = bbox.center.position.x, bbox.center.position.y
    return (
        x - bbox.size_x / 2,
        y - bbox.size_y / 2,
        x + bbox.size_x / 2,
        y + bbox.size_y / 2,
    )


def of_bag(labels: Iterable[Label], name: str) -> list[Label]:
    """Those that name this bag or none."""
    return [label for label in labels if label.bag in ("", name)]


class Labeller:
    """Says which label each face of a frame has, frame after frame in order of time."""

    def __init__(self, labels: list[Label]) -> None:
        self._coming = sorted(labels, key=lambda label: label.start_s, reverse=True)
        self._holding: list[Label] = []

    def at(
        self, stamp_s: float, ids: list[str], boxes_xyxy: NDArray[np.floating]
    ) -> list[tuple[Label, int | None]]:
        """The labels that hold at this time, each with the index of its face, None when not there.

        ``ids`` and ``boxes_xyxy`` (N, 4) are the faces of the frame.
        """
        while self._coming and self._coming[-1].start_s <= stamp_s:
            self._holding.append(self._coming.pop())
        # Of two labels for one face, the later one holds.
        by_face = {each.face: each for each in self._holding if stamp_s < each.end_s}
        self._holding = list(by_face.values())
        taken: set[int] = set()
        found: list[tuple[Label, int | None]] = []
        for label in self._holding:
            index = _face_of(label, ids, boxes_xyxy)
            if index in taken:
                index = None
            found.append((label, index))
            taken |= {index} if index is not None else set()
        return found


def _face_of(label: Label, ids: list[str], boxes_xyxy: NDArray[np.floating]) -> int | None:
    if not ids:
        return None
    if label.box_xyxy is not None:
        return _at_place(np.array(label.box_xyxy), boxes_xyxy)
    if label.face == LARGEST:
        return int((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1).argmax())
    return ids.index(label.face) if label.face in ids else None


def _at_place(box: NDArray[np.float64], boxes_xyxy: NDArray[np.floating]) -> int | None:
    """The face that overlaps the box best, or the one around the point, its middle nearest."""
    if (box[:2] == box[2:]).all():
        inside = ((boxes_xyxy[:, :2] <= box[:2]) & (box[:2] <= boxes_xyxy[:, 2:])).all(axis=1)
        middles = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        distances = np.where(inside, np.linalg.norm(middles - box[:2], axis=1), np.inf)
        return int(distances.argmin()) if inside.any() else None
    low, high = np.maximum(boxes_xyxy[:, :2], box[:2]), np.minimum(boxes_xyxy[:, 2:], box[2:])
    common = (high - low).clip(0, None).prod(axis=1)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlaps = common / (areas - common)
    return int(overlaps.argmax()) if overlaps.max() >= _MIN_OVERLAP else None
