"""Several cameras and one network: each camera has its own faces, and all go through it at once.

Images that are read together are looked through at the same time, in threads; before the network
these wait for each other.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fer_ros import classify
from fer_ros.config import PipelineConfig
from fer_ros.detect import FaceDetector, make_detector
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import CROP_SIZE_PX, Frame, FrameEmotions

_Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
_NOBODY: NDArray[np.uint8] = np.zeros((0, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)


class CamerasPipeline:
    """Reads the faces of the named cameras; ``detector`` and ``classifier`` are those of all.

    Without these two it makes those that ``config`` names. Raises what EmotionPipeline raises.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        config: PipelineConfig = PipelineConfig(),  # noqa: B008  (it is frozen)
        detector: FaceDetector | None = None,
        classifier: classify.Classifier | None = None,
    ) -> None:
        self.config = config
        self.classifier = classifier or classify.Classifier(config.classifier)
        detector = detector or make_detector(config.detector, config.classifier.threads)
        self._pipelines = {
            name: EmotionPipeline(config, detector, self.classifier) for name in cameras
        }

    def reconfigure(self, config: PipelineConfig) -> None:
        """Goes on with other thresholds: faces keep their ids and emotions, models stay."""
        self.config = config
        for pipeline in self._pipelines.values():
            pipeline.reconfigure(config)

    def reset(self, camera: str) -> None:
        """Forgets the faces of a camera: its next frame is of another place or time."""
        self._pipelines[camera].reset()

    def __call__(self, frames: Mapping[str, Frame]) -> dict[str, FrameEmotions | RuntimeError]:
        """What each camera that has a frame shows, as EmotionPipeline says it.

        In place of what cannot be computed stands its error, as when a GPU is full. The time of
        ``classify`` is that of all faces, and of waiting for them.
        """
        if len(frames) < 2:
            return {
                name: self._read(name, frame, self.classifier) for name, frame in frames.items()
            }
        questions = {name: _Question() for name in frames}
        with ThreadPoolExecutor(max_workers=len(frames)) as threads:
            results = {
                name: threads.submit(self._ask, name, frame, questions[name])
                for name, frame in frames.items()
            }
            self._answer([*questions.values()])
        return {name: result.result() for name, result in results.items()}

    def _read(
        self, camera: str, frame: Frame, classifier: "classify.Classifier | _Question"
    ) -> FrameEmotions | RuntimeError:
        pipeline = self._pipelines[camera]
        pipeline.classifier = cast(classify.Classifier, classifier)
        try:
            return pipeline(frame)
        except RuntimeError as error:
            return error

    def _ask(
        self, camera: str, frame: Frame, question: "_Question"
    ) -> FrameEmotions | RuntimeError:
        """In a thread of its own. A frame that has no face, or fails, lets nobody wait."""
        try:
            return self._read(camera, frame, question)
        finally:
            if not question.crops_rgb.done():
                question.crops_rgb.set_result(_NOBODY)

    def _answer(self, questions: "Sequence[_Question]") -> None:
        """All crops in one batch, once every thread has asked for its own or needs none."""
        crops = [question.crops_rgb.result() for question in questions]
        ends = np.cumsum([len(each) for each in crops])[:-1]
        try:
            points_xy, probabilities = self.classifier.classify(np.concatenate(crops))
            parts = zip(np.split(points_xy, ends), np.split(probabilities, ends), strict=True)
            for question, part in zip(questions, parts, strict=True):
                question.answer.set_result(part)
        except RuntimeError as error:
            for question in questions:
                question.answer.set_exception(error)
        finally:
            for question in questions:  # whatever happens, no thread waits for ever
                question.answer.cancel()


class _Question:
    """The network for a pipeline in a thread: says what it has and waits for what it is."""

    def __init__(self) -> None:
        self.crops_rgb: Future[NDArray[np.uint8]] = Future()
        self.answer: Future[_Answer] = Future()

    def classify(self, crops_rgb: NDArray[np.uint8]) -> _Answer:
        self.crops_rgb.set_result(crops_rgb)
        return self.answer.result()
