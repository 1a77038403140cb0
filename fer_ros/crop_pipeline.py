"""Emotions of faces that another detector found, cut out and named.

Other detectors crop in their own way. The network therefore runs twice: on the crop as it came, for
landmarks, and on the face aligned by them, for landmarks and emotion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import align, alignment_points, crop_to_frame, warp
from fer_ros.config import PipelineConfig
from fer_ros.face_assessment import FaceAssessor
from fer_ros.mirror_average import add_mirrored, average_mirrored
from fer_ros.quality import detection_rejection
from fer_ros.stage_timer import StageTimer
from fer_ros.stream_clock import StampEstimator
from fer_ros.types import (
    CROP_SIZE_PX,
    TEMPLATE_XY,
    AlignedFaces,
    FaceEmotion,
    Frame,
    TrackedFace,
)

if TYPE_CHECKING:
    from fer_ros.classifier import Classifier


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """A face that fills its frame; ``id`` stays the same from frame to frame."""

    id: str
    frame: Frame


class FaceCropPipeline:
    """Classifies faces that are already cropped.

    Args:
        config: settings; those of detector and tracker are not used.
        classifier: made from ``config`` if None.

    Raises:
        ModelError: the model cannot be used; a ValueError.
    """

    def __init__(
        self,
        config: PipelineConfig = PipelineConfig(),  # noqa: B008  (it is frozen)
        classifier: "Classifier | None" = None,
    ) -> None:
        if classifier is None:
            # Imports the inference runtime, which a caller with a classifier may not need.
            from fer_ros.classifier import Classifier

            classifier = Classifier(config.classifier)
        self.config = config
        self.classifier = classifier
        self._assessor = FaceAssessor(config)
        self._stamps = StampEstimator()

    @property
    def fallback(self) -> str:
        """Why a better runtime is not in use, or what fails at the moment; "" if nothing."""
        return self.classifier.fallback

    def reconfigure(self, config: PipelineConfig) -> None:
        """Apply other thresholds. Faces keep their emotions, the model stays loaded."""
        self.config = config
        self._assessor.reconfigure(config)

    def reset(self) -> None:
        """Forget all faces."""
        self._assessor.reset()

    def __call__(self, crops: Sequence[FaceCrop]) -> tuple[list[FaceEmotion], dict[str, float]]:
        """Return the emotion of each face, in the order of ``crops``, and the stages' latency.

        All faces are classified in one batch, twice. Boxes and points are in pixels of each crop.
        Latency is in milliseconds.

        Raises:
            RuntimeError: the batch cannot be computed, for example out of GPU memory.
        """
        timer = StageTimer()
        stamps_s = [self._stamp_s(crop.frame) for crop in crops]
        faces = [_whole_frame(crop) for crop in crops]
        rejections = [detection_rejection(face, self.config.quality) for face in faces]
        passed = [crop for crop, reason in zip(crops, rejections, strict=True) if not reason]
        aligned = self._align([crop.frame.image_rgb for crop in passed])
        timer.mark("align")
        new_rows = self._assessor.new_rows([crop.id for crop in passed])
        predictions = average_mirrored(
            self.classifier.classify(add_mirrored(aligned.crops_rgb, new_rows)), new_rows
        )
        points_xy = crop_to_frame(predictions.points_xy, aligned.frame_to_crop)
        timer.mark("classify")
        results = self._assessor.assess(
            faces, rejections, stamps_s, aligned.crops_rgb, predictions, points_xy
        )
        if stamps_s:
            self._assessor.forget_older(max(stamps_s))
        timer.mark("smooth")
        return results, timer.latency_ms

    def _stamp_s(self, frame: Frame) -> float:
        if frame.arrival_s is None:
            return frame.stamp_s
        if frame.stamp_s <= 0:
            return self._stamps.estimate(frame.arrival_s)
        self._stamps.observe(frame.stamp_s, frame.arrival_s)
        return frame.stamp_s

    def _align(self, images_rgb: list[NDArray[np.uint8]]) -> AlignedFaces:
        """Align faces by the landmarks that the network finds in the images as they came."""
        side = CROP_SIZE_PX
        to_crop = np.array([_fit(image) for image in images_rgb], np.float32).reshape(-1, 2, 3)
        fitted = np.zeros((len(to_crop), side, side, 3), np.uint8)
        for crop_rgb, image_rgb, transform in zip(fitted, images_rgb, to_crop, strict=True):
            crop_rgb[:] = warp(image_rgb, transform, side)
        if not images_rgb:
            return AlignedFaces(fitted, to_crop)
        five_points = alignment_points(self.classifier.classify(fitted).points_xy)
        is_finite = np.isfinite(five_points).all(axis=(1, 2))
        five_points[~is_finite] = TEMPLATE_XY  # the image is used as it came
        five_points = crop_to_frame(five_points, to_crop)
        aligned = [
            align(image_rgb, points[None])
            for image_rgb, points in zip(images_rgb, five_points, strict=True)
        ]
        return AlignedFaces(
            np.concatenate([face.crops_rgb for face in aligned]),
            np.concatenate([face.frame_to_crop for face in aligned]),
        )


def _whole_frame(crop: FaceCrop) -> TrackedFace:
    """A face whose box is the whole image; its points are not known."""
    height, width = crop.frame.image_rgb.shape[:2]
    box_xyxy = np.array([0, 0, width, height], np.float32)
    return TrackedFace(crop.id, box_xyxy, np.zeros((5, 2), np.float32), score=1.0)


def _fit(image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Transform (2, 3) that fits a whole image into the middle of the network's square."""
    height, width = image_rgb.shape[:2]
    scale = CROP_SIZE_PX / max(height, width)
    middle = (CROP_SIZE_PX - 1) / 2
    shift_x, shift_y = middle - scale * (width - 1) / 2, middle - scale * (height - 1) / 2
    return np.array([[scale, 0, shift_x], [0, scale, shift_y]], np.float32)
