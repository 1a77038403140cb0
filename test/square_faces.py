"""A face detection network for tests: faces are red squares, found from a given height on."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.types import FaceDetections

_POINTS = np.array([(0.2, 0.2), (0.8, 0.2), (0.5, 0.5), (0.25, 0.8), (0.75, 0.8)], np.float32)


def paint(image_rgb: NDArray[np.uint8], box_xyxy: tuple[float, ...]) -> None:
    """Show a face in this box, as far as it lies inside the image."""
    left, top, right, bottom = (max(0, round(side)) for side in box_xyxy)
    image_rgb[top:bottom, left:right, 0] = 255


class SquareFaceNetwork:
    """Sure of faces from ``sure_px`` on, and a little below in doubt; blind above ``max_px``.

    ``inputs`` keeps the size (height, width) of each image that it saw.
    """

    name = "squares"
    device = "cpu"
    fallback = ""
    is_fast = False
    proposal_height_px = 14.0
    proposal_score = 0.2

    def __init__(self, sure_px: float = 20.0, max_px: float = 200.0) -> None:
        self.sure_px, self.max_px = sure_px, max_px
        self.inputs: list[tuple[int, int]] = []

    def detect(
        self, image_rgb: NDArray[np.uint8], score_threshold: float, nms_iou_threshold: float
    ) -> FaceDetections:
        self.inputs.append(image_rgb.shape[:2])
        mask = (image_rgb[..., 0] > 127).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        boxes = []
        for left, top, width, height, _ in stats[1:]:
            if 0.65 * self.sure_px <= height <= self.max_px:
                score = 0.9 if height >= self.sure_px - 1 else 0.3
                boxes.append((left, top, left + width, top + height, score))
        values = np.array(boxes, np.float32).reshape(-1, 5)
        values = values[values[:, 4] >= score_threshold]
        corner, size = values[:, None, :2], values[:, None, 2:4] - values[:, None, :2]
        points = corner + size * _POINTS - 0.5
        return FaceDetections(values[:, :4], values[:, 4], points)

    @property
    def area_px(self) -> int:
        """Pixels that the network has seen so far."""
        return sum(height * width for height, width in self.inputs)
