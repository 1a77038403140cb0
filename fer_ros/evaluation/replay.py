"""Evaluate one recording: run the pipeline on its images, or score recorded predictions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import PipelineConfig
from fer_ros.emotions import EMOTIONS, to_emotion
from fer_ros.evaluation.bags.messages import DETECTIONS, LABEL_INFO, stamp_ns
from fer_ros.evaluation.bags.reader import Bag, BagError, BagImage
from fer_ros.evaluation.bags.writer import ResultRecorder
from fer_ros.evaluation.code_version import code_version
from fer_ros.evaluation.ground_truth import (
    ImageTime,
    Label,
    LabelMatcher,
    topic_labels,
)
from fer_ros.evaluation.live_coverage import LiveCoverage
from fer_ros.evaluation.metrics.error_segments import ErrorSegment, add_face_images, worst_segments
from fer_ros.evaluation.predictions import NO_LABEL, FacePrediction, PredictionTable
from fer_ros.evaluation.realtime import RealtimeClock, drop_stale
from fer_ros.evaluation.unused_labels import labels_without_face, labels_without_image
from fer_ros.io.errors import WarningCounter, single_line
from fer_ros.io.image_decoding import ConversionError
from fer_ros.message_fields import corners_xyxy
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import CROP_SIZE_PX, FaceEmotion, Frame

ProgressCallback = Callable[[int], object]

_TABLE_ROWS = 4096  # rows are moved into a table, which needs less memory, at this number


@dataclass(frozen=True)
class EvaluationTask:
    """One recording to evaluate, and how.

    Attributes:
        image_topic: None for the only image topic of the bag.
        label_topic: Topic of the bag that holds labels, in addition to ``labels``.
        predictions_topic: Score the messages of this topic instead of running a model.
        source_bag: The recording that the predictions are about: label times count from its first
            image, and its images without a prediction count as dropped.
        realtime: Drop the images that a node as fast as this machine would drop.
        with_images: Add face images to the error segments.
        record: Bag to write, with the messages that the node would publish.
    """

    bag: Path
    image_topic: str | None = None
    config: PipelineConfig = PipelineConfig()  # noqa: RUF009  (it is frozen)
    labels: tuple[Label, ...] = ()
    label_topic: str | None = None
    predictions_topic: str | None = None
    source_bag: Path | None = None
    realtime: bool = False
    with_images: bool = False
    record: Path | None = None


@dataclass
class EvaluationResult:
    """Result of one task.

    Attributes:
        frames: Number of evaluated images or prediction messages.
        recording: Number, first time and duration of all images of the recording.
        code: Version of the code, see ``code_version``.
        errors: What is missing in the result, one line each.
        warnings: What was unusual, one line each.
        latency_ms: One number per frame for each stage. Nothing else depends on the machine,
            unless ``realtime`` was requested.
    """

    predictions: PredictionTable
    frames: int = 0
    dropped: int = 0
    duration_s: float = 0.0
    image_topic: str = ""
    recording: dict[str, float] = field(default_factory=dict)
    model: str = ""
    sha256: str = ""
    code: str = ""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    latency_ms: dict[str, list[float]] = field(default_factory=dict)
    error_segments: list[ErrorSegment] = field(default_factory=list)
    interrupted: bool = False


def evaluate(
    task: EvaluationTask, progress: ProgressCallback = lambda images: None
) -> EvaluationResult:
    """Evaluate one recording.

    Args:
        progress: Called with the number of images done since its last call.

    Raises:
        BagError, LabelError, ModelError, DetectorError: There is nothing to evaluate. Later
            errors, and Ctrl-C, are listed in ``errors`` of the result.
    """
    with Bag(task.bag) as bag:
        evaluator = _Evaluator(task, bag, progress)
        try:
            evaluator.run()
        except KeyboardInterrupt:
            evaluator.result.interrupted = True
            evaluator.result.errors.append(f"{task.bag}: interrupted")
        return evaluator.finish()


class _Evaluator:
    """State of one evaluation."""

    def __init__(self, task: EvaluationTask, bag: Bag, progress: ProgressCallback) -> None:
        self.result = EvaluationResult(PredictionTable.from_rows([]), code=code_version())
        self._task = task
        self._bag = bag
        self._progress = progress
        self._rows: list[FacePrediction] = []
        self._tables: list[PredictionTable] = []
        self._first_ns: int | None = None
        self._last_ns = 0
        self._unreadable: list[str] = []
        self._guesses = WarningCounter()
        self._labels_in_source = False
        self._source_end_ns = 0
        self._num_images = 0
        self._labels = [*task.labels, *self._topic_labels()]
        self._matcher = LabelMatcher(self._labels)
        self.result.image_topic = task.predictions_topic or bag.image_topic(task.image_topic)

    def _topic_labels(self) -> list[Label]:
        """Labels of the label topic, which may be in the source bag of predictions."""
        topic, source_bag = self._task.label_topic, self._task.source_bag
        if not topic:
            return []
        if topic in self._bag.topics or not source_bag:
            return topic_labels(self._bag, topic)
        self._labels_in_source = True
        with Bag(source_bag) as source:
            return topic_labels(source, topic)

    def run(self) -> None:
        if self._task.predictions_topic:
            self._score_topic(self._task.predictions_topic)
        else:
            self._run_pipeline()

    def finish(self) -> EvaluationResult:
        """Complete the result with what has been evaluated so far."""
        result, path = self.result, self._bag.path
        result.predictions = PredictionTable.concatenate(
            [*self._tables, PredictionTable.from_rows(self._rows)]
        )
        if self._first_ns is None:
            result.errors.append(f"{path}: topic {result.image_topic} has no messages")
        if self._unreadable:
            result.errors.append(
                f"{path}: {len(self._unreadable)} images cannot be read, the first "
                f"{self._unreadable[0]}"
            )
        result.duration_s = self._since_first(self._last_ns)
        result.recording = {
            "images": self._num_images,
            "first_ns": self._first_ns or 0,
            "duration_s": self._since_first(max(self._last_ns, self._source_end_ns)),
        }
        result.errors += self._unused_labels()
        result.error_segments = worst_segments(result.predictions)
        runs_model = not self._task.predictions_topic
        if self._task.with_images and runs_model and result.error_segments:
            result.error_segments = add_face_images(
                result.error_segments, self._bag, result.image_topic, self._first_ns or 0
            )
        result.errors += [error for error in self._bag.errors if error not in result.errors]
        result.warnings += self._bag.warnings
        result.warnings += [f"{path}: {line}" for line in self._guesses.lines]
        return result

    def _run_pipeline(self) -> None:
        pipeline = EmotionPipeline(self._task.config)
        manifest = pipeline.classifier.manifest
        self.result.model, self.result.sha256 = manifest.name, manifest.sha256
        # Trigger lazy initialization, so that it is not counted for the first image.
        pipeline.classifier.classify(np.zeros((1, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))
        recorder = ResultRecorder(self._task.record, self.result.errors)
        clock = RealtimeClock()
        images = self._counted(self._bag.images(self.result.image_topic))
        try:
            for image in drop_stale(images, clock) if self._task.realtime else images:
                self._evaluate_image(image, pipeline, recorder, clock)
        finally:
            self.result.dropped = clock.dropped
            recorder.close()

    def _counted(self, images: Iterator[BagImage]) -> Iterator[BagImage]:
        for image in images:
            self._track_time(image.time_ns)
            self._num_images += 1
            yield image
            self._progress(1)

    def _evaluate_image(
        self,
        image: BagImage,
        pipeline: EmotionPipeline,
        recorder: ResultRecorder,
        clock: RealtimeClock,
    ) -> None:
        start = perf_counter()
        stamp_s = self._since_first(image.time_ns)
        try:
            image_rgb, frame_id = image.decode(self._guesses.about(f"at {stamp_s:.3f} s"))
        except ConversionError as error:
            self._unreadable.append(f"at {stamp_s:.3f} s: {error}")
            return
        decode_ms = (perf_counter() - start) * 1000
        try:
            faces = pipeline(Frame(image_rgb, image.time_ns * 1e-9))
        except RuntimeError as error:  # such as out of memory on a GPU
            self._unreadable.append(f"at {stamp_s:.3f} s: {single_line(error)}")
            return
        latency_ms = {"decode": decode_ms, **faces.latency_ms}
        latency_ms["total"] = sum(latency_ms.values())
        for stage, milliseconds in latency_ms.items():
            self.result.latency_ms.setdefault(stage, []).append(milliseconds)
        clock.advance(image.time_ns, latency_ms["total"])
        self.result.frames += 1
        predictions = [_Prediction.from_face(face) for face in faces.faces]
        time = self._image_time(image.time_ns, image.stamp_ns, image.recorded_ns)
        self._add_frame(time, predictions)
        recorder.write(image, frame_id, image_rgb.shape[:2], faces.faces)

    def _score_topic(self, topic: str) -> None:
        if self._bag.topics.get(topic) != DETECTIONS:
            raise BagError(
                f"{self._bag.path}: predictions: expected a topic {topic} of {DETECTIONS}"
            )
        messages = [
            (stamp_ns(message.header), recorded_ns, message)
            for recorded_ns, message in self._bag.messages(topic)
        ]
        stamps = {stamp for stamp, *_ in messages}
        if len(stamps) < len(messages):
            self.result.errors.append(
                f"{self._bag.path}: {len(messages) - len(stamps)} messages of {topic} repeat the "
                "stamp of another one; expected one publisher, found the predictions of several"
            )
        sources = self._read_source(stamps)
        self._num_images = self._num_images or len(messages)
        messages.sort(key=lambda message: sources.get(message[0], message[:1])[0])
        emotion_of = self._label_map(topic)
        for stamp, recorded_ns, message in messages:
            time_ns, source_recorded_ns = sources.get(stamp, (stamp, recorded_ns))
            self._track_time(time_ns)
            self.result.frames += 1
            try:
                predictions = [
                    _Prediction.from_detection(detection, emotion_of)
                    for detection in message.detections
                ]
            except ValueError as error:
                raise BagError(
                    f"{self._bag.path}: predictions {topic}: {error}; with a label_map, record "
                    f"{topic}/labels as well"
                ) from None
            received_ns = source_recorded_ns if self._labels_in_source else recorded_ns
            self._add_frame(self._image_time(time_ns, stamp, received_ns), predictions)
            self._progress(1)

    def _label_map(self, topic: str) -> dict[str, int]:
        """Indices into EMOTIONS by class name, where the bag has the node's label topic."""
        label_topic = f"{topic}/labels"
        if self._bag.topics.get(label_topic) != LABEL_INFO:
            return {}
        return {
            label.class_name: label.class_id
            for _, message in self._bag.messages(label_topic)
            for label in message.class_map
            if label.class_id < len(EMOTIONS)
        }

    def _read_source(self, predicted_ns: set[int]) -> dict[int, tuple[int, int]]:
        """Time and time of receipt by stamp of the images that the predictions are about.

        Counts the images without a prediction. Time starts with the first image.
        """
        path = self._task.source_bag
        if not path:
            return {}
        times: dict[int, tuple[int, int]] = {}
        with Bag(path) as source:
            topic = source.image_topic(self._task.image_topic)
            for image in source.images(topic):
                times[image.stamp_ns] = (image.time_ns, image.recorded_ns)
                self._num_images += 1
            self.result.errors += source.errors
            self.result.warnings += source.warnings
        if times:
            self._track_time(min(times.values())[0])
            self._source_end_ns = max(times.values())[0]
        coverage = LiveCoverage.of(
            {stamp: time for stamp, (time, _) in times.items()}, predicted_ns
        )
        self.result.dropped = coverage.dropped
        self.result.warnings += coverage.warnings(self._task.bag, path)
        self.result.errors += coverage.errors(self._task.bag, path)
        return times

    def _track_time(self, time_ns: int) -> None:
        if self._first_ns is None:
            self._first_ns = time_ns
        self._last_ns = time_ns

    def _since_first(self, time_ns: int) -> float:
        return 0.0 if self._first_ns is None else round((time_ns - self._first_ns) * 1e-9, 6)

    def _image_time(self, time_ns: int, stamp_ns: int, recorded_ns: int) -> ImageTime:
        return ImageTime(self._since_first(time_ns), stamp_ns * 1e-9, recorded_ns * 1e-9)

    def _add_frame(self, time: ImageTime, predictions: list["_Prediction"]) -> None:
        """Add the faces of a frame, and a row for each label whose face was not detected."""
        boxes = np.array([face.box_xyxy for face in predictions], np.float64).reshape(-1, 4)
        matches = self._matcher.match(time, [face.id for face in predictions], boxes)
        label_of = {index: label for label, index in matches if index is not None}
        missed = [label for label, index in matches if index is None]
        self._rows += [
            face.to_row(time.relative_s, label_of.get(k)) for k, face in enumerate(predictions)
        ]
        self._rows += [_MISSED_FACE.to_row(time.relative_s, label) for label in missed]
        if len(self._rows) >= _TABLE_ROWS:
            self._tables.append(PredictionTable.from_rows(self._rows))
            self._rows.clear()

    def _unused_labels(self) -> list[str]:
        if self._first_ns is None or self.result.interrupted:
            return []
        duration_s = self.result.recording["duration_s"]
        lines = labels_without_image(
            self._matcher.unused, len(self._labels), self._first_ns * 1e-9, duration_s
        )
        lines += labels_without_face(self._labels, set(self.result.predictions.id.tolist()))
        return [f"{self._task.source_bag or self._bag.path}: {line}" for line in lines]


class _Prediction(NamedTuple):
    """Prediction of one face; ``emotion`` is an index into EMOTIONS or NO_LABEL."""

    id: str
    box_xyxy: NDArray[np.floating]
    emotion: int
    probabilities: NDArray[np.floating]
    raw: NDArray[np.floating]

    @classmethod
    def from_face(cls, face: FaceEmotion) -> "_Prediction":
        if face.emotion is None:
            return cls(face.id, face.box_xyxy, NO_LABEL, _UNKNOWN, _UNKNOWN)
        emotion = EMOTIONS.index(face.emotion)
        return cls(face.id, face.box_xyxy, emotion, face.probabilities, face.raw_probabilities)

    @classmethod
    def from_detection(cls, detection: Any, emotion_of: dict[str, int]) -> "_Prediction":
        """Of a ``vision_msgs/Detection2D``, whose first hypothesis is the label."""
        box = np.array(corners_xyxy(detection.bbox))
        if not detection.results:
            return cls(detection.id, box, NO_LABEL, _UNKNOWN, _UNKNOWN)
        probabilities = np.zeros(len(EMOTIONS))
        indices = []
        for result in detection.results:
            name = result.hypothesis.class_id
            index = emotion_of[name] if name in emotion_of else EMOTIONS.index(to_emotion(name))
            probabilities[index] = result.hypothesis.score
            indices.append(index)
        return cls(detection.id, box, indices[0], probabilities, _UNKNOWN)

    def to_row(self, stamp_s: float, label: Label | None) -> FacePrediction:
        emotion, target_face = (label.emotion, label.face) if label else (NO_LABEL, "")
        return FacePrediction(
            stamp_s,
            self.id,
            self.box_xyxy,
            self.emotion,
            emotion,
            target_face,
            self.probabilities,
            self.raw,
        )


_UNKNOWN = np.full(len(EMOTIONS), np.nan)
_MISSED_FACE = _Prediction("", np.full(4, np.nan), NO_LABEL, _UNKNOWN, _UNKNOWN)
