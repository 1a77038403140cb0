"""Several cameras with one network: the faces of all frames are classified in one batch."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from fer_ros.camera_stream import CameraStream, PendingFrame
from fer_ros.classifier import EMPTY_PREDICTION, Classifier
from fer_ros.config import PipelineConfig
from fer_ros.detector import FaceDetector, ImageDetector, make_detector
from fer_ros.face_ids import IdFactory
from fer_ros.io.errors import single_line
from fer_ros.types import FacePredictions, Frame, FrameFailure, FrameResult


class MultiCameraPipeline:
    """Classifies the faces of several cameras, which share a detector and a classifier.

    Args:
        cameras: names of the cameras, or names with the id factory of each.
        config: settings of all cameras.
        detector: made from ``config`` if None.
        classifier: made from ``config`` if None.

    Raises:
        ModelError, DetectorError: a model cannot be used; both are ValueErrors.
        TypeError: ``config`` is no PipelineConfig.
    """

    def __init__(
        self,
        cameras: Sequence[str] | Mapping[str, IdFactory],
        config: PipelineConfig = PipelineConfig(),  # noqa: B008  (it is frozen)
        detector: FaceDetector | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        _check_type("config", config, PipelineConfig)
        self.config = config
        self.classifier = classifier or Classifier(config.classifier)
        self._detector = detector or make_detector(
            config.detector, config.classifier.threads, config.classifier.device
        )
        id_factories = cameras if isinstance(cameras, Mapping) else {}
        self._streams = {
            name: CameraStream(config, self._detector, id_factories.get(name)) for name in cameras
        }

    @property
    def fallback(self) -> str:
        """Why better runtimes are not in use, or what fails at the moment; "" if nothing."""
        detector = self._detector
        errors = (
            self.classifier.fallback,
            detector.fallback if isinstance(detector, ImageDetector) else "",
        )
        return "; ".join(filter(None, errors))

    def reconfigure(self, config: PipelineConfig) -> None:
        """Apply other thresholds. Faces keep their ids and emotions, models stay loaded."""
        _check_type("config", config, PipelineConfig)
        self.config = config
        self._detector.config = config.detector
        for stream in self._streams.values():
            stream.reconfigure(config)

    def reset(self, camera: str) -> None:
        """Forget the faces of a camera: its next frame shows another scene or time."""
        self._streams[camera].reset()

    def live_ids(self, camera: str) -> list[str]:
        """Ids of the faces of a camera that are visible or may come back, oldest first."""
        return self._streams[camera].live_ids

    def detection_plan(self, camera: str) -> str:
        """The detection plan of a camera in one line; "" where every frame is searched alike."""
        return self._streams[camera].detection_plan

    def __call__(self, frames: Mapping[str, Frame]) -> dict[str, FrameResult | FrameFailure]:
        """Process one frame of each of these cameras.

        An error of one camera's frame, for example out of GPU memory, affects only that frame. The
        latency of ``classify`` is that of the whole batch and of waiting for it.
        """
        results: dict[str, FrameResult | FrameFailure] = {}
        pending: dict[str, PendingFrame] = {}
        for frame in frames.values():
            _check_type("frame", frame, Frame)
        for name, frame in frames.items():
            preprocessed = self._preprocess(name, frame)
            if isinstance(preprocessed, FrameFailure):
                results[name] = preprocessed
            else:
                pending[name] = preprocessed
        for name, predictions in self._classify(pending).items():
            if isinstance(predictions, RuntimeError):
                results[name] = FrameFailure(frames[name].stamp_s, single_line(predictions))
            else:
                results[name] = self._streams[name].postprocess(pending[name], predictions)
        return results

    def _preprocess(self, camera: str, frame: Frame) -> PendingFrame | FrameFailure:
        try:
            return self._streams[camera].preprocess(frame)
        except (RuntimeError, MemoryError, cv2.error) as error:
            return FrameFailure(frame.stamp_s, single_line(error))

    def _classify(
        self, pending: Mapping[str, PendingFrame]
    ) -> dict[str, FacePredictions | RuntimeError]:
        """Predictions of each camera's crops; the error where the batch cannot be computed."""
        predictions_by_camera: dict[str, FacePredictions | RuntimeError] = dict.fromkeys(
            pending, EMPTY_PREDICTION
        )
        crops = {name: frame.crops_rgb for name, frame in pending.items() if len(frame.aligned)}
        if not crops:
            return predictions_by_camera
        try:
            batch = self.classifier.classify(np.concatenate([*crops.values()]))
        except RuntimeError as error:
            return predictions_by_camera | dict.fromkeys(crops, error)
        ends = np.cumsum([len(crops_rgb) for crops_rgb in crops.values()])
        return predictions_by_camera | {
            name: batch[end - len(crops[name]) : end] for name, end in zip(crops, ends, strict=True)
        }


def _check_type(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        found = type(value).__name__
        raise TypeError(f"{name}: expected a {expected.__name__}, found {found}")
