"""Processing of one camera: detection and tracking before classification, smoothing after it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import align, crop_to_frame
from fer_ros.config import PipelineConfig
from fer_ros.detection_scheduler import DetectionScheduler
from fer_ros.detector import FaceDetector, ImageDetector
from fer_ros.face_assessment import FaceAssessor
from fer_ros.face_ids import IdFactory
from fer_ros.image_rotation import rotate_box_back, rotate_image, rotate_points_back
from fer_ros.landmark_propagation import LandmarkPropagator
from fer_ros.mirror_average import add_mirrored, average_mirrored
from fer_ros.quality import detection_rejection
from fer_ros.stage_timer import StageTimer
from fer_ros.stream_clock import MAX_GAP_S, StreamClock, StreamTime
from fer_ros.tracker import Tracker
from fer_ros.types import (
    AlignedFaces,
    FaceDetections,
    FaceEmotion,
    FacePredictions,
    Frame,
    FrameResult,
    TrackedFace,
)


@dataclass(frozen=True, eq=False)
class PendingFrame:
    """A frame whose faces are tracked, but not classified yet.

    ``rejections`` holds a reason for each of ``faces``, "" where the face passed; ``aligned`` are
    the crops of the faces that passed, in the order of ``faces``, and ``new_rows`` those of new
    faces (``FaceAssessor.new_rows``). Boxes and points are in pixels of the image turned upright;
    ``size_wh`` is the size of the image as it came.
    """

    time: StreamTime
    size_wh: tuple[int, int]
    faces: list[TrackedFace]
    rejections: list[str]
    aligned: AlignedFaces
    new_rows: list[int]
    num_detections: int
    timer: StageTimer

    @property
    def crops_rgb(self) -> NDArray[np.uint8]:
        """Crops (M, 112, 112, 3) for the network, with the mirror images of new faces."""
        return add_mirrored(self.aligned.crops_rgb, self.new_rows)


class CameraStream:
    """Tracks the faces of one camera before classification, and smooths the predictions after it.

    ``detector`` may be shared. ``new_id`` gives the ids of the faces.
    """

    def __init__(
        self, config: PipelineConfig, detector: FaceDetector, new_id: IdFactory | None = None
    ) -> None:
        self._detector = detector
        self._scheduler: DetectionScheduler | None = None
        if isinstance(detector, ImageDetector):
            self._scheduler = DetectionScheduler(detector)
        self._clock = StreamClock()
        self._tracker = Tracker(config.tracker, new_id)
        self._assessor = FaceAssessor(config)
        self._propagator = LandmarkPropagator()
        self._config = config
        self.reconfigure(config)

    @property
    def detection_plan(self) -> str:
        """The detection plan in one line; "" where every frame is searched alike."""
        if self._scheduler and not self._config.detector.input_size_px:
            return self._scheduler.describe()
        return ""

    @property
    def live_ids(self) -> list[str]:
        """Ids of the faces that are visible or may come back, oldest first."""
        return self._tracker.live_ids

    def reconfigure(self, config: PipelineConfig) -> None:
        """Apply other settings. Faces keep their ids and emotions, unless the rotation changes."""
        if config.image_rotation != self._config.image_rotation:
            self.reset()
        self._config = config
        self._clock.max_gap_s = max(MAX_GAP_S, config.tracker.max_age_s)
        self._tracker.config = config.tracker
        self._assessor.reconfigure(config)

    def reset(self) -> None:
        """Forget all faces: the next frame shows another scene or time."""
        self._clock.reset()
        self._forget_faces()

    def preprocess(self, frame: Frame) -> PendingFrame:
        """Detect, track and align the faces of a frame, up to the network.

        The result is given to ``postprocess`` before the next frame, or is dropped.
        """
        timer = StageTimer()
        time = self._clock.update(frame.stamp_s, frame.arrival_s)
        if time.event.starts_stream:
            self._forget_faces()
        upright_rgb = rotate_image(frame.image_rgb, self._config.image_rotation)
        detections = self._detect(upright_rgb, time.time_s)
        timer.mark("detect")
        faces = self._tracker.update(detections, time.time_s)
        rejections = [detection_rejection(face, self._config.quality) for face in faces]
        timer.mark("track")
        passed = [face for face, reason in zip(faces, rejections, strict=True) if not reason]
        points_xy = np.array([face.points_xy for face in passed], np.float32).reshape(-1, 5, 2)
        aligned = align(upright_rgb, points_xy)
        new_rows = self._assessor.new_rows([face.id for face in passed])
        timer.mark("align")
        height, width = frame.image_rgb.shape[:2]
        return PendingFrame(
            time, (width, height), faces, rejections, aligned, new_rows, len(detections), timer
        )

    def postprocess(self, pending: PendingFrame, predictions: FacePredictions) -> FrameResult:
        """Assess and smooth the faces of a frame; ``predictions`` are those of ``crops_rgb``."""
        predictions = average_mirrored(predictions, pending.new_rows)
        points_xy = crop_to_frame(predictions.points_xy, pending.aligned.frame_to_crop)
        pending.timer.mark("classify")
        time_s = pending.time.time_s
        passed = [
            face.id
            for face, reason in zip(pending.faces, pending.rejections, strict=True)
            if not reason
        ]
        tracked = self._propagator.update(
            pending.faces,
            dict(zip(passed, points_xy, strict=True)),
            time_s,
            pending.num_detections,
        )
        crops_rgb, times_s = pending.aligned.crops_rgb, [time_s] * len(tracked)
        faces = self._assessor.assess(
            tracked, pending.rejections, times_s, crops_rgb, predictions, points_xy
        )
        if self._config.image_rotation:
            faces = [self._rotate_back(face, pending.size_wh) for face in faces]
        self._assessor.forget_older(time_s)
        pending.timer.mark("smooth")
        return FrameResult(
            pending.time.stamp_s,
            faces,
            pending.timer.latency_ms,
            pending.time.event,
            pending.time.is_estimated,
        )

    def _rotate_back(self, face: FaceEmotion, size_wh: tuple[int, int]) -> FaceEmotion:
        degrees = self._config.image_rotation
        return replace(
            face,
            box_xyxy=rotate_box_back(face.box_xyxy, degrees, size_wh),
            points_xy=rotate_points_back(face.points_xy, degrees, size_wh),
        )

    def _detect(self, image_rgb: NDArray[np.uint8], time_s: float) -> FaceDetections:
        if self._scheduler and not self._config.detector.input_size_px:
            propagator = self._propagator
            return self._scheduler.detect(
                image_rgb, time_s, propagator.faces, propagator.propagated_ids
            )
        propagated = self._propagator.predict(time_s, self._config.detector.interval)
        return self._detector.detect(image_rgb) if propagated is None else propagated

    def _forget_faces(self) -> None:
        if self._scheduler:
            self._scheduler.reset()
        self._tracker.reset()
        self._assessor.reset()
        self._propagator.reset()
