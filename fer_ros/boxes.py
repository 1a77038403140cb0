"""Geometry of axis-aligned boxes, ``xyxy`` in pixels."""

import numpy as np
from numpy.typing import NDArray


def centers(boxes_xyxy: NDArray) -> NDArray[np.float64]:
    """Centers (N, 2) of boxes (N, 4)."""
    return (boxes_xyxy[:, :2].astype(np.float64) + boxes_xyxy[:, 2:]) / 2


def areas(boxes_xyxy: NDArray) -> NDArray[np.float64]:
    """Areas (N,) of boxes (N, 4). Boxes without area, or inside out, count as 1e-12 px²."""
    sizes = boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2]
    return sizes.clip(1e-6, None).prod(axis=1)


def iou(first_xyxy: NDArray, second_xyxy: NDArray) -> NDArray[np.float64]:
    """Intersection over union (N, M) of every box in (N, 4) with every box in (M, 4)."""
    low = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    high = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    intersection = (high.astype(np.float64) - low).clip(0, None).prod(axis=2)
    union = areas(first_xyxy)[:, None] + areas(second_xyxy)[None] - intersection
    return np.asarray(intersection / union, np.float64)
