"""Emotion pipeline of one camera: the special case of MultiCameraPipeline."""

from fer_ros.classifier import Classifier
from fer_ros.config import PipelineConfig
from fer_ros.detector import FaceDetector
from fer_ros.face_ids import IdFactory, sequential_ids
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.types import Frame, FrameFailure, FrameResult

_CAMERA = "camera"


class EmotionPipeline:
    """Classifies the faces of one camera, frame by frame.

    Args:
        config: settings of every stage.
        detector: made from ``config`` if None.
        classifier: made from ``config`` if None.
        new_id: gives the ids of the faces; numbers them if None.

    Raises:
        ModelError, DetectorError: a model cannot be used; both are ValueErrors.
    """

    def __init__(
        self,
        config: PipelineConfig = PipelineConfig(),  # noqa: B008  (it is frozen)
        detector: FaceDetector | None = None,
        classifier: Classifier | None = None,
        new_id: IdFactory | None = None,
    ) -> None:
        cameras = {_CAMERA: new_id or sequential_ids()}
        self._cameras = MultiCameraPipeline(cameras, config, detector, classifier)

    @property
    def config(self) -> PipelineConfig:
        """The settings."""
        return self._cameras.config

    @property
    def classifier(self) -> Classifier:
        """The network that classifies the faces."""
        return self._cameras.classifier

    @property
    def live_ids(self) -> list[str]:
        """Ids of the faces that are visible or may come back, oldest first."""
        return self._cameras.live_ids(_CAMERA)

    @property
    def fallback(self) -> str:
        """Why better runtimes are not in use, or what fails at the moment; "" if nothing."""
        return self._cameras.fallback

    def reconfigure(self, config: PipelineConfig) -> None:
        """Apply other thresholds. Faces keep their ids and emotions, models stay loaded."""
        self._cameras.reconfigure(config)

    def reset(self) -> None:
        """Forget all faces: the next frame shows another scene or time."""
        self._cameras.reset(_CAMERA)

    def __call__(self, frame: Frame) -> FrameResult:
        """Return the faces of ``frame``, best detection score first.

        ``latency_ms`` has the stages detect, track, align, classify and smooth, also without a
        face. A face that is not readable leaves its smoothed emotion as it was.

        Raises:
            RuntimeError: the frame cannot be processed, for example out of GPU memory. A later one
                may succeed.
        """
        result = self._cameras({_CAMERA: frame})[_CAMERA]
        if isinstance(result, FrameFailure):
            raise RuntimeError(result.error)
        return result
