"""Pictures of faces that somebody else found, cut out and named: their emotions.

What detector and tracker do for a frame is done already. Others cut in their own way, so the
network looks twice: at the picture as it came, for the landmarks, and at the face aligned by them,
for landmarks and emotion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_ros.align import TEMPLATE_XY, align, five_points, to_frame, warp
from fer_ros.config import PipelineConfig
from fer_ros.pipeline import read_face
from fer_ros.smooth import Smoother
from fer_ros.types import CROP_SIZE_PX, AlignedFaces, FaceEmotion, Frame, TrackedFace

if TYPE_CHECKING:
    from fer_ros.classify import Classifier


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """A face that fills a picture; ``id`` stays the same from picture to picture."""

    id: str
    picture: Frame


class CropPipeline:
    """Reads faces in pictures of their own.

    Without ``classifier`` it makes the one that ``config`` names. Raises ModelError, a ValueError
    of one line, when its model cannot be used.
    """

    def __init__(
        self,
        config: PipelineConfig = PipelineConfig(),  # noqa: B008  (it is frozen)
        classifier: "Classifier | None" = None,
    ) -> None:
        if classifier is None:
            # brings the runtime of the networks: not for those who pass their own
            from fer_ros.classify import Classifier

            classifier = Classifier(config.classifier)
        self.config = config
        self.classifier = classifier
        self._smoother = Smoother(config.smoother)

    def reconfigure(self, config: PipelineConfig) -> None:
        """Goes on with other thresholds: faces keep their emotions, the model stays."""
        self.config = config
        self._smoother.config = config.smoother

    def reset(self) -> None:
        """Forgets all faces."""
        self._smoother.reset()

    def __call__(self, crops: Sequence[FaceCrop]) -> tuple[list[FaceEmotion], dict[str, float]]:
        """The emotion of each face, in the order of ``crops``, and milliseconds per stage.

        All go through the network at once, twice. Boxes and points are in pixels of each crop.
        """
        begin = perf_counter()
        aligned = self._align([crop.picture.image_rgb for crop in crops])
        found = perf_counter()
        crop_points_xy, probabilities = self.classifier.classify(aligned.crops_rgb)
        points_xy = to_frame(crop_points_xy, aligned.frame_to_crop)
        classified = perf_counter()
        faces = [
            self._read(crop, points, raw, crop_rgb)
            for crop, points, raw, crop_rgb in zip(
                crops, points_xy, probabilities, aligned.crops_rgb, strict=True
            )
        ]
        if crops:
            self._smoother.forget_older(max(crop.picture.stamp_s for crop in crops))
        latency_ms = {
            "align": (found - begin) * 1000,
            "classify": (classified - found) * 1000,
            "smooth": (perf_counter() - classified) * 1000,
        }
        return faces, latency_ms

    def _align(self, pictures_rgb: list[NDArray[np.uint8]]) -> AlignedFaces:
        """The faces as the network wants them, by the landmarks that it sees in the pictures."""
        side = CROP_SIZE_PX
        maps = np.array([_fit(picture) for picture in pictures_rgb], np.float32).reshape(-1, 2, 3)
        fitted = np.zeros((len(maps), side, side, 3), np.uint8)
        for crop, picture, to_crop in zip(fitted, pictures_rgb, maps, strict=True):
            crop[:] = warp(picture, to_crop, side)
        points_xy, _ = self.classifier.classify(fitted)
        five = five_points(points_xy)
        lost = ~np.isfinite(five).all(axis=(1, 2))
        five[lost] = TEMPLATE_XY  # the picture stays as it came
        five = to_frame(five, maps)
        each = [align(rgb, points[None]) for rgb, points in zip(pictures_rgb, five, strict=True)]
        if not each:
            return AlignedFaces(fitted, maps)
        return AlignedFaces(
            np.concatenate([one.crops_rgb for one in each]),
            np.concatenate([one.frame_to_crop for one in each]),
        )

    def _read(
        self,
        crop: FaceCrop,
        points_xy: NDArray[np.float32],
        raw: NDArray[np.float32],
        crop_rgb: NDArray[np.uint8],
    ) -> FaceEmotion:
        height, width = crop.picture.image_rgb.shape[:2]
        box = np.array([0, 0, width, height], np.float32)
        face = TrackedFace(crop.id, box, five_points(points_xy[None])[0], score=1.0)
        stamp_s = crop.picture.stamp_s
        return read_face(
            face, points_xy, raw, crop_rgb, stamp_s, self.config.quality, self._smoother
        )


def _fit(picture_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The map (2, 3) that brings all of a picture into the middle of the network's square."""
    height, width = picture_rgb.shape[:2]
    scale = CROP_SIZE_PX / max(height, width)
    middle = (CROP_SIZE_PX - 1) / 2
    shift_x, shift_y = middle - scale * (width - 1) / 2, middle - scale * (height - 1) / 2
    return np.array([[scale, 0, shift_x], [0, scale, shift_y]], np.float32)
