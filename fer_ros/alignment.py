"""Align faces to the network's crop, for inference and for training.

A similarity transform maps five points (eyes, nose tip, mouth corners) onto a fixed template in a
112 px crop. The template keeps the proportions of the five-point template used throughout face
recognition (Deng et al., ArcFace, 2019), made symmetric, and widened until the 68 landmarks of a
frontal face, chin and brows included, lie inside the crop.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.landmarks68 import ALIGNMENT_GROUPS
from fer_ros.single_pixel import widen_single_pixel
from fer_ros.types import CROP_SIZE_PX, TEMPLATE_XY, AlignedFaces

_MIN_BILINEAR_SCALE = 0.5  # bilinear sampling skips pixels below this scale
_MAX_COORDINATE_PX = 1e6
_MIN_CORRELATION_PX2 = 0.05  # below it the scale is close to 0, which has no inverse


def alignment_points(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average 68 landmarks (N, 68, 2) to the five alignment points (N, 5, 2)."""
    groups = [points_xy[:, list(group)].mean(axis=1) for group in ALIGNMENT_GROUPS]
    return np.stack(groups, axis=1).astype(np.float32)


def similarity(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate least-squares similarities (N, 2, 3) from five points (N, 5, 2) to the template.

    Closed form of Umeyama (1991) for two dimensions, without reflection. Points that do not
    correlate with the template, such as five equal ones, give an upright transform at scale 1
    around their mean. Points that are not finite, or beyond 1e6 px, are replaced by the template.
    """
    is_usable = np.abs(points_xy).max(axis=(1, 2), keepdims=True, initial=0) < _MAX_COORDINATE_PX
    points_xy = np.where(is_usable, points_xy, TEMPLATE_XY)
    source_mean = points_xy.mean(axis=1, keepdims=True)
    source = (points_xy - source_mean).astype(np.float64)  # (N, 5, 2)
    target_mean = TEMPLATE_XY.mean(axis=0)
    target = (TEMPLATE_XY - target_mean).astype(np.float64)  # (5, 2)
    along = (source * target).sum(axis=(1, 2))
    across = (source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]).sum(axis=1)
    uncorrelated = np.hypot(along, across) < _MIN_CORRELATION_PX2
    variance = np.where(uncorrelated, 1.0, (source**2).sum(axis=(1, 2)))
    cosine = np.where(uncorrelated, 1.0, along) / variance
    sine = np.where(uncorrelated, 0.0, across) / variance
    rotation = np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)
    shift = target_mean - np.einsum("nij,nj->ni", rotation, source_mean[:, 0].astype(np.float64))
    return np.concatenate([rotation, shift[:, :, None]], axis=2).astype(np.float32)


def align(image_rgb: NDArray[np.uint8], points_xy: NDArray[np.float32]) -> AlignedFaces:
    """Crop the faces of an image (H, W, 3). ``points_xy``: (N, 5, 2) in pixels of the image."""
    frame_to_crop = similarity(points_xy)
    crops_rgb = np.empty((len(frame_to_crop), CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)
    for crop_rgb, transform in zip(crops_rgb, frame_to_crop, strict=True):
        crop_rgb[:] = warp(image_rgb, transform, CROP_SIZE_PX)
    return AlignedFaces(crops_rgb, frame_to_crop)


def warp(image: NDArray[np.uint8], to_crop: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Sample the ``side`` x ``side`` crop of ``image``; ``to_crop`` (2, 3) maps image to crop.

    Large faces are first reduced by area averaging. Border pixels are replicated outside the image.
    """
    scale = float(np.hypot(to_crop[0, 0], to_crop[1, 0]))
    if scale < _MIN_BILINEAR_SCALE:
        image, to_crop = _area_downscale(image, to_crop, side, scale)
    return cv2.warpAffine(
        widen_single_pixel(image),
        to_crop,
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _area_downscale(
    image: NDArray[np.uint8], to_crop: NDArray[np.float32], side: int, scale: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Average blocks of the region under the crop; return it and its transform to the crop.

    The block grid is anchored at the image origin, so crops of the same scale average the same
    pixels. An incomplete block at the border, less than a crop pixel, is dropped.
    """
    corners = np.array([[(0, 0), (side, 0), (0, side), (side, side)]], np.float32)
    inside = crop_to_frame(corners, to_crop[None])[0]
    block_px = int(1 / scale)
    size = np.array(image.shape[1::-1])
    count = np.maximum(1, size // block_px)
    low = (np.floor(inside.min(axis=0) / block_px) - 2).clip(0, count - 1).astype(int)
    high = (np.ceil(inside.max(axis=0) / block_px) + 2).clip(low + 1, count).astype(int)
    (left, top), (right, bottom) = low * block_px, high * block_px
    region = image[top:bottom, left:right]
    reduced = cv2.resize(region, (high - low).tolist(), interpolation=cv2.INTER_AREA)
    reduced_to_crop = to_crop.astype(np.float64)
    reduced_to_crop[:, 2] += reduced_to_crop[:, :2] @ (low * block_px + (block_px - 1) / 2)
    reduced_to_crop[:, :2] *= block_px
    return reduced, reduced_to_crop.astype(np.float32)


def crop_to_frame(
    points_xy: NDArray[np.float32], frame_to_crop: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Transform crop points (N, P, 2) to frame pixels; ``frame_to_crop`` is (N, 2, 3)."""
    linear = frame_to_crop[:, :, :2].astype(np.float64)
    shifted = points_xy - frame_to_crop[:, None, :, 2]
    inverse = np.linalg.inv(linear)
    return np.einsum("nij,npj->npi", inverse, shifted).astype(np.float32)


def frame_points_to_crop(
    points_xy: NDArray[np.float32], frame_to_crop: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Transform frame points (N, P, 2) to crop pixels; ``frame_to_crop`` is (N, 2, 3)."""
    moved: NDArray[np.float32] = np.einsum("nij,npj->npi", frame_to_crop[:, :, :2], points_xy)
    moved += frame_to_crop[:, None, :, 2]
    return moved
