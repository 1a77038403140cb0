"""The whole road: one frame in, the emotion of every face out."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fer_ros import classify
from fer_ros.align import align, to_frame
from fer_ros.config import PipelineConfig, QualityConfig
from fer_ros.detect import FaceDetector, make_detector
from fer_ros.follow import Follower
from fer_ros.quality import why_unusable
from fer_ros.smooth import Smoother
from fer_ros.track import Tracker
from fer_ros.types import AlignedFaces, FaceEmotion, Frame, FrameEmotions, TrackedFace


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """The faces of a frame, half-way: ``crops_rgb`` (N, 112, 112, 3) are for the network."""

    stamp_s: float
    tracked: list[TrackedFace]
    aligned: AlignedFaces
    detections: int
    clock: "_Clock"

    @property
    def crops_rgb(self) -> NDArray[np.uint8]:
        """One for each face, in the same order."""
        return self.aligned.crops_rgb


class EmotionPipeline:
    """Reads the faces of one camera, frame by frame.

    Without ``classifier`` and ``detector`` it makes those that ``config`` names. Raises ModelError
    or DetectorError, both ValueErrors of one line, when their models cannot be used.
    """

    def __init__(
        self,
        config: PipelineConfig = PipelineConfig(),  # noqa: B008  (it is frozen)
        detector: FaceDetector | None = None,
        classifier: classify.Classifier | None = None,
    ) -> None:
        self.config = config
        self.classifier = classifier or classify.Classifier(config.classifier)
        self._detector = detector or make_detector(config.detector, config.classifier.threads)
        self._tracker = Tracker(config.tracker)
        self._smoother = Smoother(config.smoother)
        self._follower = Follower()

    def reconfigure(self, config: PipelineConfig) -> None:
        """Goes on with other thresholds: faces keep their ids and emotions, models stay."""
        self.config = config
        self._detector.config = config.detector
        self._tracker.config = config.tracker
        self._smoother.config = config.smoother

    def reset(self) -> None:
        """Forgets all faces: the next frame is of another place or time."""
        self._tracker.reset()
        self._smoother.reset()
        self._follower.reset()

    def __call__(self, frame: Frame) -> FrameEmotions:
        """The faces of ``frame``, best detection score first; all go through the network at once.

        ``latency_ms`` has detect, track, align, classify and smooth, whether or not a face is
        there. A face that cannot be read leaves its smoothed emotion as it was.
        """
        found = self.find(frame)
        answer = self.classifier.classify(found.crops_rgb) if found.tracked else classify.NOBODY
        return self.finish(found, *answer)

    def find(self, frame: Frame) -> FoundFaces:
        """The first half of the road, up to the network.

        The next frame comes when ``finish`` has had this one, or when it is given up.
        """
        clock = _Clock()
        boxes = self._follower.expected(frame.stamp_s, self.config.detector.every)
        if boxes is None:
            boxes = self._detector.detect(frame.image_rgb)
        clock.lap("detect")
        tracked = self._tracker.update(boxes, frame.stamp_s)
        clock.lap("track")
        aligned = align(frame.image_rgb, _points(tracked))
        clock.lap("align")
        return FoundFaces(frame.stamp_s, tracked, aligned, len(boxes), clock)

    def finish(
        self,
        found: FoundFaces,
        crop_points_xy: NDArray[np.float32],
        probabilities: NDArray[np.float32],
    ) -> FrameEmotions:
        """The second half: points (N, 68, 2) in crop pixels, probabilities (N, 8) of the crops."""
        points_xy = to_frame(crop_points_xy, found.aligned.frame_to_crop)
        found.clock.lap("classify")
        stamp_s = found.stamp_s
        tracked = self._follower.update(found.tracked, points_xy, stamp_s, found.detections)
        faces = [
            read_face(face, points, raw, crop_rgb, stamp_s, self.config.quality, self._smoother)
            for face, points, raw, crop_rgb in zip(
                tracked, points_xy, probabilities, found.crops_rgb, strict=True
            )
        ]
        self._smoother.forget_older(stamp_s)
        found.clock.lap("smooth")
        return FrameEmotions(stamp_s, faces, found.clock.laps_ms)


def read_face(
    face: TrackedFace,
    points_xy: NDArray[np.float32],
    raw: NDArray[np.float32],
    crop_rgb: NDArray[np.uint8],
    stamp_s: float,
    quality: QualityConfig,
    smoother: Smoother,
) -> FaceEmotion:
    """What the network said of a face, if the face can be read, smoothed.

    ``points_xy`` (68, 2) in frame pixels, ``raw`` probabilities (8,) of ``crop_rgb``. A face
    that cannot be read leaves the smoother as it was.
    """
    smoothed, emotion = raw, None
    why = why_unusable(face, points_xy, crop_rgb, quality)
    if not why:
        smoothed, emotion = smoother.update(face.id, stamp_s, raw)
    return FaceEmotion(
        id=face.id,
        box_xyxy=face.box_xyxy,
        score=face.score,
        points_xy=points_xy,
        probabilities=smoothed,
        raw_probabilities=raw,
        emotion=emotion,
        usable=not why,
        why=why,
    )


class _Clock:
    """Wall-clock milliseconds from lap to lap."""

    def __init__(self) -> None:
        self.laps_ms: dict[str, float] = {}
        self._since = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.laps_ms[stage] = (now - self._since) * 1000
        self._since = now


def _points(faces: list[TrackedFace]) -> NDArray[np.float32]:
    return np.array([face.points_xy for face in faces], np.float32).reshape(-1, 5, 2)
