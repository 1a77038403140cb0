"""Several cameras and one network: each camera has its own faces, and all go through it at once."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fer_ros import classify
from fer_ros.config import PipelineConfig
from fer_ros.detect import FaceDetector, make_detector
from fer_ros.pipeline import EmotionPipeline, FoundFaces
from fer_ros.types import Frame, FrameEmotions

_Answer = tuple[NDArray[np.float32], NDArray[np.float32]]


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
        found: dict[str, FoundFaces] = {}
        results: dict[str, FrameEmotions | RuntimeError] = {}
        for name, frame in frames.items():
            faces = self._find(name, frame)
            if isinstance(faces, RuntimeError):
                results[name] = faces
            else:
                found[name] = faces
        for name, answer in self._classify(found).items():
            if isinstance(answer, RuntimeError):
                results[name] = answer
            else:
                results[name] = self._pipelines[name].finish(found[name], *answer)
        return results

    def _find(self, camera: str, frame: Frame) -> FoundFaces | RuntimeError:
        try:
            return self._pipelines[camera].find(frame)
        except RuntimeError as error:
            return error

    def _classify(self, found: Mapping[str, FoundFaces]) -> dict[str, _Answer | RuntimeError]:
        """All crops in one batch; what cannot be computed costs those who have a face."""
        answers: dict[str, _Answer | RuntimeError] = dict.fromkeys(found, classify.NOBODY)
        crops = {name: each.crops_rgb for name, each in found.items() if len(each.crops_rgb)}
        if not crops:
            return answers
        try:
            together = self.classifier.classify(np.concatenate([*crops.values()]))
        except RuntimeError as error:
            return answers | dict.fromkeys(crops, error)
        ends = np.cumsum([len(each) for each in crops.values()])[:-1]
        parts = zip(*(np.split(each, ends) for each in together), strict=True)
        return answers | dict(zip(crops, parts, strict=True))
