"""One recording through the pipeline of the robot, or through what the robot said then."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import PipelineConfig
from fer_ros.decode import ConversionError
from fer_ros.errors import one_line
from fer_ros.evaluation.bags import Bag, BagError, BagImage
from fer_ros.evaluation.labels import Label, Labeller, box_of, topic_labels
from fer_ros.evaluation.messages import DETECTIONS, stamp_ns
from fer_ros.evaluation.moments import Moment, with_pictures, worst
from fer_ros.evaluation.record import Recorder
from fer_ros.evaluation.table import NONE, FaceRow, FaceTable
from fer_ros.labels import EMOTIONS, to_emotion
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import CROP_SIZE_PX, FaceEmotion, Frame

Progress = Callable[[int], object]

_TABLE_ROWS = 4096


@dataclass(frozen=True)
class Task:
    """A recording to evaluate, and how.

    ``label_topic`` and ``predictions`` are topics of the bag; with ``predictions``, those are
    scored and no model is asked. ``source`` is the recording that predictions are about: labels
    count from its first image, and its images without an answer were dropped. ``realtime`` takes
    the newest image only, like the node. ``record`` is a bag to write.
    """

    bag: Path
    image_topic: str | None = None
    config: PipelineConfig = PipelineConfig()  # noqa: RUF009  (it is frozen)
    labels: tuple[Label, ...] = ()
    label_topic: str | None = None
    predictions: str | None = None
    source: Path | None = None
    realtime: bool = False
    thumbnails: bool = False
    record: Path | None = None


@dataclass
class Outcome:
    """What became of a task. ``troubles`` say what is missing, ``notes`` what is unusual.

    ``latency_ms`` has a number per frame for each stage; nothing else here depends on the machine,
    unless ``realtime`` was asked for.
    """

    table: FaceTable
    frames: int = 0
    dropped: int = 0
    duration_s: float = 0.0
    image_topic: str = ""
    model: str = ""
    sha256: str = ""
    troubles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    latency_ms: dict[str, list[float]] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    interrupted: bool = False


def evaluate(task: Task, progress: Progress = lambda images: None) -> Outcome:
    """Evaluates one recording; ``progress`` is told how many more images are done.

    Raises BagError, LabelError, ModelError or DetectorError when there is nothing to evaluate.
    What goes wrong later ends up in ``troubles``, and so does Ctrl-C.
    """
    with Bag(task.bag) as bag:
        run = _Run(task, bag, progress)
        try:
            run.go()
        except KeyboardInterrupt:
            run.outcome.interrupted = True
            run.outcome.troubles.append(f"{task.bag}: interrupted")
        return run.finish()


class _Run:
    """The state of one evaluation."""

    def __init__(self, task: Task, bag: Bag, progress: Progress) -> None:
        self.outcome = Outcome(FaceTable.of([]))
        self._task = task
        self._bag = bag
        self._progress = progress
        self._rows: list[FaceRow] = []
        self._tables: list[FaceTable] = []
        self._first_ns: int | None = None
        self._last_ns = 0
        self._lost: list[str] = []
        self._labels = list(task.labels)
        if task.label_topic:
            self._labels += topic_labels(bag, task.label_topic)
        self._labeller = Labeller([])
        if task.predictions:
            self.outcome.image_topic = task.predictions
        else:
            self.outcome.image_topic = bag.image_topic(task.image_topic)

    def go(self) -> None:
        if self._task.predictions:
            self._score_topic(self._task.predictions)
        else:
            self._ask_pipeline()

    def finish(self) -> Outcome:
        """Whatever has been evaluated so far."""
        outcome, path = self.outcome, self._bag.path
        outcome.table = FaceTable.joined([*self._tables, FaceTable.of(self._rows)])
        if self._first_ns is None:
            outcome.troubles.append(f"{path}: topic {outcome.image_topic} has no messages")
        if self._lost:
            outcome.troubles.append(
                f"{path}: {len(self._lost)} images cannot be read, the first {self._lost[0]}"
            )
        outcome.duration_s = self._since_first(self._last_ns)
        outcome.notes += self._outside()
        outcome.moments = worst(outcome.table)
        if self._task.thumbnails and not self._task.predictions and outcome.moments:
            topic, first_ns = outcome.image_topic, self._first_ns or 0
            outcome.moments = with_pictures(outcome.moments, self._bag, topic, first_ns)
        outcome.troubles += [each for each in self._bag.troubles if each not in outcome.troubles]
        outcome.notes += self._bag.notes
        return outcome

    def _ask_pipeline(self) -> None:
        pipeline = EmotionPipeline(self._task.config)
        card = pipeline.classifier.card
        self.outcome.model, self.outcome.sha256 = card.name, card.sha256
        # The first call takes longer, which no image is to be blamed for.
        pipeline.classifier.classify(np.zeros((1, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))
        recorder = Recorder(self._task.record, self.outcome.troubles)
        busy = _Busy()
        images = self._counted(self._bag.images(self.outcome.image_topic))
        try:
            for image in _newest(images, busy) if self._task.realtime else images:
                self._read(image, pipeline, recorder, busy)
        finally:
            self.outcome.dropped = busy.dropped
            recorder.close()

    def _counted(self, images: Iterator[BagImage]) -> Iterator[BagImage]:
        for image in images:
            self._see(image.stamp_ns)
            yield image
            self._progress(1)

    def _read(
        self, image: BagImage, pipeline: EmotionPipeline, recorder: Recorder, busy: "_Busy"
    ) -> None:
        began_s = perf_counter()
        stamp_s = self._since_first(image.stamp_ns)
        try:
            image_rgb, frame_id = image.decode()
        except ConversionError as error:
            self._lost.append(f"at {stamp_s:.3f} s: {error}")
            return
        decode_ms = (perf_counter() - began_s) * 1000
        try:
            result = pipeline(Frame(image_rgb, image.stamp_ns * 1e-9))
        except RuntimeError as error:  # of a network, as when a GPU is full
            self._lost.append(f"at {stamp_s:.3f} s: {one_line(error)}")
            return
        spent_ms = {"decode": decode_ms, **result.latency_ms}
        spent_ms["total"] = sum(spent_ms.values())
        for stage, milliseconds in spent_ms.items():
            self.outcome.latency_ms.setdefault(stage, []).append(milliseconds)
        busy.work(image.stamp_ns, spent_ms["total"])
        self.outcome.frames += 1
        self._add(stamp_s, [_Reading.of(face) for face in result.faces])
        recorder.write(image, frame_id, image_rgb.shape[:2], result.faces)

    def _score_topic(self, topic: str) -> None:
        if self._bag.topics.get(topic) != DETECTIONS:
            raise BagError(
                f"{self._bag.path}: predictions: expected a topic {topic} of {DETECTIONS}"
            )
        said = sorted(
            (stamp_ns(message.header), number, message)
            for number, (_, message) in enumerate(self._bag.messages(topic))
        )
        self._see_source({stamp for stamp, _, _ in said})
        for stamp, _, message in said:
            self._see(stamp)
            self.outcome.frames += 1
            try:
                faces = [_Reading.from_detection(each) for each in message.detections]
            except ValueError as error:
                raise BagError(f"{self._bag.path}: predictions {topic}: {error}") from None
            self._add(self._since_first(stamp), faces)
            self._progress(1)

    def _see_source(self, answered: set[int]) -> None:
        """The images that the predictions are about, where somebody has them."""
        if not self._task.source:
            return
        with Bag(self._task.source) as source:
            stamps = [
                each.stamp_ns for each in source.images(source.image_topic(self._task.image_topic))
            ]
            self.outcome.troubles += source.troubles
        for stamp in stamps[:1]:
            self._see(stamp)
        self.outcome.dropped = len(set(stamps) - answered)

    def _see(self, stamp_ns: int) -> None:
        """Time starts with the first image: labels may count from there."""
        if self._first_ns is None:
            self._first_ns = stamp_ns
            self._labels = [label.since(stamp_ns * 1e-9) for label in self._labels]
            self._labeller = Labeller(self._labels)
        self._last_ns = stamp_ns

    def _since_first(self, stamp_ns: int) -> float:
        return round((stamp_ns - (self._first_ns or 0)) * 1e-9, 6) if stamp_ns else 0.0

    def _add(self, stamp_s: float, faces: list["_Reading"]) -> None:
        """Rows take more memory than tables do, which counts in recordings of a day."""
        self._rows += self._labelled(stamp_s, faces)
        if len(self._rows) >= _TABLE_ROWS:
            self._tables.append(FaceTable.of(self._rows))
            self._rows.clear()

    def _labelled(self, stamp_s: float, faces: list["_Reading"]) -> list[FaceRow]:
        """The faces of a frame as rows, then those that have a label and are not there."""
        boxes = np.array([face.box_xyxy for face in faces], np.float64).reshape(-1, 4)
        found = self._labeller.at(stamp_s, [face.id for face in faces], boxes)
        label_of = {index: label for label, index in found if index is not None}
        rows = [_row(stamp_s, face, label_of.get(k)) for k, face in enumerate(faces)]
        return rows + [_row(stamp_s, _NOBODY, label) for label, index in found if index is None]

    def _outside(self) -> list[str]:
        """A note about labels that no image belongs to."""
        duration_s = self.outcome.duration_s
        outside = [each for each in self._labels if each.end_s < 0 or each.start_s > duration_s]
        if not outside or self._first_ns is None or self.outcome.interrupted:
            return []
        return [
            f"{self._bag.path}: {len(outside)} of {len(self._labels)} labels lie outside the "
            f"{duration_s:.3f} s of the recording, the first at {outside[0].start_s:.3f} s"
        ]


@dataclass(frozen=True)
class _Reading:
    """What was read in a face; ``emotion`` is an index or NONE."""

    id: str
    box_xyxy: NDArray[np.floating]
    emotion: int
    probabilities: NDArray[np.floating]
    raw: NDArray[np.floating]

    @classmethod
    def of(cls, face: FaceEmotion) -> "_Reading":
        if face.emotion is None:
            return cls(face.id, face.box_xyxy, NONE, _UNKNOWN, _UNKNOWN)
        emotion = EMOTIONS.index(face.emotion)
        return cls(face.id, face.box_xyxy, emotion, face.probabilities, face.raw_probabilities)

    @classmethod
    def from_detection(cls, detection: Any) -> "_Reading":
        """Of a ``vision_msgs/Detection2D``, whose first hypothesis is the stable emotion."""
        box = np.array(box_of(detection.bbox))
        if not detection.results:
            return cls(detection.id, box, NONE, _UNKNOWN, _UNKNOWN)
        names = [to_emotion(each.hypothesis.class_id) for each in detection.results]
        shares = np.zeros(len(EMOTIONS))
        for name, each in zip(names, detection.results, strict=True):
            shares[EMOTIONS.index(name)] = each.hypothesis.score
        return cls(detection.id, box, EMOTIONS.index(names[0]), shares, _UNKNOWN)


_UNKNOWN = np.full(len(EMOTIONS), np.nan)
_NOBODY = _Reading("", np.full(4, np.nan), NONE, _UNKNOWN, _UNKNOWN)


def _row(stamp_s: float, face: _Reading, label: Label | None) -> FaceRow:
    emotion, who = (label.emotion, label.face) if label else (NONE, "")
    probabilities = face.probabilities, face.raw
    return FaceRow(stamp_s, face.id, face.box_xyxy, face.emotion, emotion, who, *probabilities)


class _Busy:
    """Until when the robot would have been busy, and how many images it would have dropped."""

    def __init__(self) -> None:
        self.until_ns = 0
        self.dropped = 0

    def work(self, stamp_ns: int, milliseconds: float) -> None:
        """On an image that came at ``stamp_ns``."""
        self.until_ns = max(self.until_ns, stamp_ns) + round(milliseconds * 1e6)


def _newest(images: Iterator[BagImage], busy: _Busy) -> Iterator[BagImage]:
    """The images that a robot gets to that always takes the newest one.

    An image waits until the robot is free; the next one takes its place if it comes before that.
    """
    waiting: BagImage | None = None
    for image in images:
        if waiting is not None and busy.until_ns > image.stamp_ns:
            busy.dropped += 1
        elif waiting is not None:
            yield waiting
        waiting = image
    if waiting is not None:
        yield waiting
