"""Assessment of classified faces: quality gate, smoothing, and which faces are new."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import PipelineConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.quality import landmark_rejection
from fer_ros.smoother import Smoother
from fer_ros.types import FaceEmotion, FacePredictions, TrackedFace


class FaceAssessor:
    """Applies the quality gate and smooths predictions to emotions, for each face of one camera.

    Args:
        config: thresholds of the quality gate, settings of the smoother.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self._smoother = Smoother(config.smoother)
        self._config = config
        self._classified_s: dict[str, float] = {}

    def reconfigure(self, config: PipelineConfig) -> None:
        """Apply other thresholds. Faces keep their emotions."""
        self._config = config
        self._smoother.config = config.smoother

    def reset(self) -> None:
        """Forget all faces."""
        self._smoother.reset()
        self._classified_s = {}

    def new_rows(self, ids: Sequence[str]) -> list[int]:
        """Rows of the faces that were not classified within the last ``smoother.reset_after_s``.

        They have no predictions to be smoothed with: their mirror images are classified as well.
        """
        return [row for row, id in enumerate(ids) if id not in self._classified_s]

    def assess(
        self,
        faces: Sequence[TrackedFace],
        rejections: Sequence[str],
        times_s: Sequence[float],
        crops_rgb: NDArray[np.uint8],
        predictions: FacePredictions,
        points_xy: NDArray[np.float32],
    ) -> list[FaceEmotion]:
        """Return the result of each face of a frame.

        A face that was rejected before the network has outputs of NaN. One that is rejected here
        leaves its smoothed emotion as it was.

        Args:
            faces: N faces.
            rejections: reason for each of them, "" for the M faces that were classified.
            times_s: stream time of each of them, seconds.
            crops_rgb: aligned crops (M, 112, 112, 3) of the classified faces.
            predictions: those of the M crops.
            points_xy: their landmarks (M, 68, 2) in pixels of the frame.
        """
        results, rows = [], iter(range(len(predictions)))
        for face, reason, time_s in zip(faces, rejections, times_s, strict=True):
            if reason:
                results.append(_unclassified(face, reason))
                continue
            row = next(rows)
            raw, blendshapes = predictions.probabilities[row], predictions.blendshapes_of(row)
            crop_rgb = crops_rgb[row]
            results.append(
                self._assess_face(face, time_s, crop_rgb, points_xy[row], raw, blendshapes)
            )
        self._classified_s |= {
            face.id: time_s
            for face, time_s in zip(results, times_s, strict=True)
            if face.is_classified
        }
        return results

    def forget_older(self, time_s: float) -> None:
        """Forget faces that were not seen within ``smoother.reset_after_s`` of ``time_s``."""
        self._smoother.forget_older(time_s)
        limit_s = self._config.smoother.reset_after_s
        self._classified_s = {
            id: last_s
            for id, last_s in self._classified_s.items()
            if abs(time_s - last_s) <= limit_s
        }

    def _assess_face(
        self,
        face: TrackedFace,
        time_s: float,
        crop_rgb: NDArray[np.uint8],
        points_xy: NDArray[np.float32],
        raw: NDArray[np.float32],
        blendshapes: NDArray[np.float32] | None,
    ) -> FaceEmotion:
        smoothed, emotion = raw, None
        if np.isfinite(raw).all():
            reason = landmark_rejection(points_xy, crop_rgb, self._config.quality)
        else:
            reason = "no probabilities: the network output is not finite"
        if not reason:
            smoothed, emotion = self._smoother.update(face.id, time_s, raw)
        return FaceEmotion(
            id=face.id,
            box_xyxy=face.box_xyxy,
            score=face.score,
            points_xy=points_xy,
            probabilities=smoothed,
            raw_probabilities=raw,
            emotion=emotion,
            is_readable=not reason,
            rejection_reason=reason,
            blendshapes=blendshapes,
        )


def _unclassified(face: TrackedFace, rejection_reason: str) -> FaceEmotion:
    unknown = np.full(len(EMOTIONS), np.nan, np.float32)
    return FaceEmotion(
        id=face.id,
        box_xyxy=face.box_xyxy,
        score=face.score,
        points_xy=np.full((NUM_LANDMARKS, 2), np.nan, np.float32),
        probabilities=unknown,
        raw_probabilities=unknown,
        emotion=None,
        is_readable=False,
        rejection_reason=rejection_reason,
        is_classified=False,
    )
