"""Face to crop: the one crop rule, for the robot and for training.

A similarity transform brings five points (eyes, nose, mouth corners) onto a fixed template in a
112 px crop. The template keeps the proportions of the five-point template used throughout face
recognition (Deng et al., ArcFace, 2019), made symmetric, and widened until the 68 landmarks of a
frontal face, chin and brows included, lie inside the crop.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.types import CROP_SIZE_PX, AlignedFaces

TEMPLATE_XY: NDArray[np.float32] = np.array(
    [(38.0, 40.0), (74.0, 40.0), (56.0, 60.5), (41.0, 81.5), (71.0, 81.5)], np.float32
)
"""Where the five points stand in the crop, in pixels: eyes, nose tip, mouth corners."""

FIVE_FROM_68 = (range(36, 42), range(42, 48), (30,), (48,), (54,))
"""Which of the 68 points average to each of the five."""

_SHRINK_BELOW = 0.5  # bilinear sampling skips pixels below this scale
_FARTHEST_PX = 1e6  # of what is still in or around a picture
_RESEMBLANCE_PX2 = 0.05  # five points within a thousandth of a pixel; a scale of 0 has no inverse


def five_points(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The five alignment points (N, 5, 2) of 68 landmarks (N, 68, 2)."""
    groups = [points_xy[:, list(group)].mean(axis=1) for group in FIVE_FROM_68]
    return np.stack(groups, axis=1).astype(np.float32)


def similarity(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least-squares similarities (N, 2, 3) that take five points (N, 5, 2) to the template.

    Closed form of Umeyama (1991) for two dimensions, without reflection. Points that have no
    resemblance to a face, such as five in one place, give a transform that shows their
    neighbourhood upright at scale 1. Points that are no numbers, or a million pixels away, count as
    those of the template.
    """
    is_near = np.abs(points_xy).max(axis=(1, 2), keepdims=True, initial=0) < _FARTHEST_PX
    points_xy = np.where(is_near, points_xy, TEMPLATE_XY)
    source_mean = points_xy.mean(axis=1, keepdims=True)
    source = (points_xy - source_mean).astype(np.float64)  # (N, 5, 2)
    target_mean = TEMPLATE_XY.mean(axis=0)
    target = (TEMPLATE_XY - target_mean).astype(np.float64)  # (5, 2)
    along = (source * target).sum(axis=(1, 2))
    across = (source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]).sum(axis=1)
    unlike = np.hypot(along, across) < _RESEMBLANCE_PX2
    spread = np.where(unlike, 1.0, (source**2).sum(axis=(1, 2)))
    cosine, sine = np.where(unlike, 1.0, along) / spread, np.where(unlike, 0.0, across) / spread
    rotation = np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)
    shift = target_mean - np.einsum("nij,nj->ni", rotation, source_mean[:, 0].astype(np.float64))
    return np.concatenate([rotation, shift[:, :, None]], axis=2).astype(np.float32)


def align(image_rgb: NDArray[np.uint8], points_xy: NDArray[np.float32]) -> AlignedFaces:
    """Crops every face of a frame. ``points_xy``: (N, 5, 2) in frame pixels."""
    maps = similarity(points_xy)
    side = CROP_SIZE_PX
    crops = np.empty((len(maps), side, side, 3), np.uint8)
    for crop, frame_to_crop in zip(crops, maps, strict=True):
        crop[:] = warp(image_rgb, frame_to_crop, side)
    return AlignedFaces(crops, maps)


def warp(image: NDArray[np.uint8], to_crop: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Samples the ``side`` x ``side`` crop that ``to_crop`` (2, 3) maps ``image`` onto.

    Large faces are first reduced by area averaging; beyond the picture its border is repeated.
    """
    scale = float(np.hypot(to_crop[0, 0], to_crop[1, 0]))
    if scale < _SHRINK_BELOW:
        image, to_crop = _shrink(image, to_crop, side, scale)
    return cv2.warpAffine(
        image, to_crop, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _shrink(
    image: NDArray[np.uint8], to_crop: NDArray[np.float32], side: int, scale: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """What the crop shows of the image, in averaged blocks, and the map from there to the crop.

    The blocks lie on one raster in the whole image, so that another crop of the same scale averages
    the same pixels. An incomplete block at the border, less than a crop pixel, is left away.
    """
    corners = np.array([[(0, 0), (side, 0), (0, side), (side, side)]], np.float32)
    inside = to_frame(corners, to_crop[None])[0]
    block_px = int(1 / scale)
    size = np.array(image.shape[1::-1])
    count = np.maximum(1, size // block_px)
    low = (np.floor(inside.min(axis=0) / block_px) - 2).clip(0, count - 1).astype(int)
    high = (np.ceil(inside.max(axis=0) / block_px) + 2).clip(low + 1, count).astype(int)
    (left, top), (right, bottom) = low * block_px, high * block_px
    region = image[top:bottom, left:right]
    small = cv2.resize(region, (high - low).tolist(), interpolation=cv2.INTER_AREA)
    moved = to_crop.astype(np.float64)
    moved[:, 2] += moved[:, :2] @ (low * block_px + (block_px - 1) / 2)
    moved[:, :2] *= block_px
    return small, moved.astype(np.float32)


def to_frame(
    points_xy: NDArray[np.float32], frame_to_crop: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Crop points (N, P, 2) in frame pixels; ``frame_to_crop`` is (N, 2, 3)."""
    linear = frame_to_crop[:, :, :2].astype(np.float64)
    shifted = points_xy - frame_to_crop[:, None, :, 2]
    inverse = np.linalg.inv(linear)
    return np.einsum("nij,npj->npi", inverse, shifted).astype(np.float32)
