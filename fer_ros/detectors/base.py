"""Interface of the face detection networks, and the steps that they share."""

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.types import FaceDetections

SIDE_MULTIPLE_PX = 32  # both networks halve their input five times


class DetectorError(ValueError):
    """The detector's model cannot be used; the message is one line."""


class DetectionNetwork(Protocol):
    """Finds faces at the size that the image has; it neither reduces nor enlarges it.

    ``proposal_height_px`` is the height of a face that scores above ``proposal_score`` in nine of
    ten images; a score that low needs a second look at a larger size.
    """

    name: str
    proposal_height_px: float
    proposal_score: float

    @property
    def device(self) -> str:
        """Device in use at the moment: cpu, cuda or cuda:N."""
        ...

    @property
    def fallback(self) -> str:
        """Why a better runtime is not in use, or what fails at the moment; "" if nothing."""
        ...

    @property
    def is_fast(self) -> bool:
        """Whether a search costs little beside the classifier, on the device in use."""
        ...

    def detect(
        self, image_rgb: NDArray[np.uint8], score_threshold: float, nms_iou_threshold: float
    ) -> FaceDetections:
        """Detect the faces of an RGB image (H, W, 3), best score first.

        Boxes may reach beyond the image. Raises RuntimeError, one line, when the network cannot
        be computed, for example without memory.
        """
        ...


def pad_to_multiple(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (1, 3, h, w) in 0..255 with sides that are multiples of 32.

    Black is added on the right and below, so positions do not change.
    """
    height, width = image.shape[:2]
    sides = (-(-side // SIDE_MULTIPLE_PX) * SIDE_MULTIPLE_PX for side in (height, width))
    padded: NDArray[np.float32] = np.zeros((1, 3, *sides), np.float32)
    padded[0, :, :height, :width] = image.transpose(2, 0, 1)
    return padded


def nms(
    boxes_xyxy: NDArray[np.float32], scores: NDArray[np.float32], iou_threshold: float
) -> NDArray[np.intp]:
    """Return indices of the boxes (N, 4) to keep, best score first (non-maximum suppression).

    Boxes without area are dropped.
    """
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    valid = np.flatnonzero((sizes > 0).all(axis=1))
    xywh = np.concatenate([boxes_xyxy[:, :2], sizes], axis=1)[valid]
    selected = cv2.dnn.NMSBoxes(xywh.tolist(), scores[valid].tolist(), 0.0, iou_threshold)
    return valid[np.array(selected, np.intp).reshape(-1)]


def select(detections: FaceDetections, indices: NDArray[np.intp]) -> FaceDetections:
    """Return the detections at ``indices``, in that order; also takes a mask (N,) bool."""
    return FaceDetections(
        detections.boxes_xyxy[indices], detections.scores[indices], detections.points_xy[indices]
    )
