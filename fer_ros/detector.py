"""Image to face boxes with five points each.

``ImageDetector`` searches one image on its own: the whole range of sizes, or the image reduced to
a fixed size. For the frames of a camera, ``detection_scheduler`` spreads the same work over time.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.config import DetectorConfig
from fer_ros.detection_plan import (
    REFINED_HEIGHT_PX,
    Level,
    ViewDetections,
    concatenate,
    detect_in_views,
    merge,
    plan_levels,
    region_view,
)
from fer_ros.detectors.base import DetectionNetwork, DetectorError, nms, select
from fer_ros.detectors.centerface import CenterFace
from fer_ros.detectors.yunet import YuNet
from fer_ros.types import FaceDetections

_REGIONS_AT_ONCE = 16
_STILL_HEIGHT_PX = 20.0  # of the smallest faces on the finest level: 14 px find fewer of them
_STILL_MARGIN_PX = 48

_log = logging.getLogger(__name__)

_NETWORKS: dict[str, Callable[[str, int, str], DetectionNetwork]] = {
    "centerface": CenterFace,
    "yunet": YuNet,
}


class FaceDetector(Protocol):
    """Detects the faces of single images; ``config`` may change between two of them."""

    config: DetectorConfig

    def detect(self, image_rgb: NDArray[np.uint8]) -> FaceDetections:
        """Detect the faces of an RGB image (H, W, 3), best score first, boxes inside the image.

        Raises RuntimeError, one line, when the network cannot be computed.
        """
        ...


def make_detector(config: DetectorConfig, threads: int = 0, device: str = "cpu") -> "ImageDetector":
    """Load the detector that the configuration names.

    ``threads`` 0: one for each core. ``device``: auto, cpu, cuda or cuda:N; without a runtime for
    CUDA the CPU computes. Raises DetectorError when the model cannot be used.
    """
    if config.name not in _NETWORKS:
        raise DetectorError(
            f"detector.name: expected {' or '.join(_NETWORKS)}, found {config.name!r}"
        )
    return ImageDetector(_NETWORKS[config.name](config.model_path, threads, device), config)


class ImageDetector:
    """Searches images independently of each other.

    With ``config.input_size_px`` an image is reduced to this long side and searched once. With 0 it
    is searched for faces of ``config.min_face_px`` and more, up to those that fill it, in twice
    as many pixels as a frame of a camera.
    """

    def __init__(self, network: DetectionNetwork, config: DetectorConfig) -> None:
        self.network = network
        self.config = config
        self._reported_max_faces = 0

    @property
    def fallback(self) -> str:
        """Why a better runtime is not in use, or what fails at the moment; "" if nothing."""
        return self.network.fallback

    def detect(self, image_rgb: NDArray[np.uint8]) -> FaceDetections:
        """Detect the faces of an RGB image (H, W, 3), best score first.

        Boxes are clipped to the image, points are not. Raises RuntimeError, one line, when the
        network cannot be computed, for example without memory.
        """
        if self.config.input_size_px:
            return self._detect_reduced(image_rgb)
        levels = plan_levels(
            (image_rgb.shape[1], image_rgb.shape[0]),
            self.config.min_face_px,
            max(_STILL_HEIGHT_PX, self.network.proposal_height_px),
            _STILL_MARGIN_PX,
        )
        return self._search(image_rgb, levels)

    def _detect_reduced(self, image_rgb: NDArray[np.uint8]) -> FaceDetections:
        config = self.config
        small = _resize_long_side(image_rgb, config.input_size_px)
        faces = self.network.detect(small, config.score_threshold, config.nms_iou_threshold)
        size = np.array(image_rgb.shape[1::-1], np.float32)
        scale = size / np.array(small.shape[1::-1], np.float32)
        boxes = (faces.boxes_xyxy * np.tile(scale, 2)).clip(0, np.tile(size, 2))
        points = ((faces.points_xy + 0.5) * scale - 0.5).astype(np.float32)
        # Clipping moves boxes, and the padding may hold a center.
        keep = nms(boxes, faces.scores, config.nms_iou_threshold)
        return self.limit(select(FaceDetections(boxes, faces.scores, points), keep))

    def _search(self, image_rgb: NDArray[np.uint8], levels: Sequence[Level]) -> FaceDetections:
        """Detect the faces on all levels; small ones are located again at a larger size."""
        config, network = self.config, self.network
        low = min(network.proposal_score, config.score_threshold)
        candidates = concatenate(
            [
                detect_in_views(
                    network, image_rgb, [view], low, config.nms_iou_threshold, keep_cut=True
                )
                for level in levels
                for view in level.views
            ]
        )
        candidates = merge(candidates, config.nms_iou_threshold)
        is_small = candidates.heights_px < REFINED_HEIGHT_PX
        is_face = candidates.faces.scores >= config.score_threshold
        refined = self._refine(image_rgb, candidates.select(is_small).faces)
        accepted = concatenate([candidates.select(is_face & ~is_small), refined])
        return self.limit(merge(accepted, config.nms_iou_threshold).faces)

    def limit(self, faces: FaceDetections, num_tracked: int = 0) -> FaceDetections:
        """Keep ``config.max_faces``: the first ``num_tracked``, then those of the best score.

        They are returned with the best score first. A warning says once how many there were.
        """
        max_faces = self.config.max_faces
        if len(faces) > max_faces and self._reported_max_faces != max_faces:
            self._reported_max_faces = max_faces
            _log.warning("detector.max_faces: %d of %d faces are used", max_faces, len(faces))
        is_new = np.arange(len(faces)) >= num_tracked
        kept = np.lexsort((-faces.scores, is_new))[:max_faces]
        return select(faces, kept[np.argsort(-faces.scores[kept], kind="stable")])

    def _refine(self, image_rgb: NDArray[np.uint8], proposals: FaceDetections) -> ViewDetections:
        """Detect again around each proposal, at the size that suits the network best."""
        frame_wh = (image_rgb.shape[1], image_rgb.shape[0])
        regions = [region_view(box, frame_wh) for box in proposals.boxes_xyxy]
        views = [view for view in regions if view is not None]
        config = self.config
        return concatenate(
            [
                detect_in_views(
                    self.network,
                    image_rgb,
                    views[start : start + _REGIONS_AT_ONCE],
                    config.score_threshold,
                    config.nms_iou_threshold,
                )
                for start in range(0, len(views), _REGIONS_AT_ONCE)
            ]
        )


def _resize_long_side(image_rgb: NDArray[np.uint8], input_size_px: int) -> NDArray[np.uint8]:
    """Reduce the long side to ``input_size_px``; never enlarge."""
    height, width = image_rgb.shape[:2]
    scale = input_size_px / max(height, width)
    if scale >= 1:
        return image_rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
