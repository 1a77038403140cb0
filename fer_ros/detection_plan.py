"""Plan which parts of a frame a face detection network searches, and at which scale.

A face detection network finds faces in a limited range of heights, in pixels of its input. A frame
is therefore searched on several levels. On the finest level the smallest required faces are just
large enough to be detected; each further level is four times coarser; the coarsest shows the whole
frame at 160 px. Fine levels are cut into overlapping tiles. Small views share one input of the
network (``pack_rectangles``), because each call has a fixed cost; large ones fill an input each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.boxes import areas
from fer_ros.detectors.base import SIDE_MULTIPLE_PX, DetectionNetwork, nms, select
from fer_ros.single_pixel import widen_single_pixel
from fer_ros.types import FaceDetections

LEVEL_STEP = 4
COARSEST_SIDE_PX = 160
TILE_MARGIN_PX = 24  # half a face that the next coarser level finds only just
MAX_TILE_PX = 165_000
_SINGLE_TILE_PX = 100_000  # larger levels have two tiles at least, searched in two frames
REFINED_HEIGHT_PX = 32  # smaller faces in a view have imprecise boxes and points
_REGION_SIDES = 2.0  # a region is twice as long as its face
_LOST_REGION_SIDES = 4.0
_LOST_REGION_PX = 128
_SMALL_FACE_PX = 40  # below, a region of 64 px shows all that the frame has
_CUT_MARGIN = 0.05  # of a face's height: a face this close to the edge of a view may be cut
_DUPLICATE_MIN_IOM = 0.7
_MAX_MOSAIC_SIDE_PX = 1024
_MAX_SHARED_PX = 96 * 96  # larger views have an input of their own


@dataclass(frozen=True)
class View:
    """A part of the frame, in whole pixels, and its width and height in the network's input."""

    region_xyxy: tuple[int, int, int, int]
    size_wh: tuple[int, int]

    @property
    def area_px(self) -> int:
        """Pixels of the network's input."""
        return self.size_wh[0] * self.size_wh[1]


@dataclass(frozen=True)
class Level:
    """The whole frame at one scale (input pixels per frame pixel), in one or more tiles."""

    scale: float
    views: tuple[View, ...]

    @property
    def area_px(self) -> int:
        """Pixels of the network's input for all tiles."""
        return sum(view.area_px for view in self.views)


def plan_levels(
    frame_wh: tuple[int, int],
    min_face_px: float,
    proposal_height_px: float,
    tile_margin_px: int = TILE_MARGIN_PX,
) -> list[Level]:
    """Return the levels of a frame, coarsest first.

    On the finest level a face of ``min_face_px`` has ``proposal_height_px``, or the frame's own
    size where that is smaller. Neighboring tiles share twice ``tile_margin_px``.
    """
    long_side = max(frame_wh)
    side = min(float(long_side), long_side * proposal_height_px / min_face_px)
    sides = [side]
    while sides[-1] > COARSEST_SIDE_PX * 1.25:
        coarser = sides[-1] / LEVEL_STEP
        sides.append(coarser if coarser > COARSEST_SIDE_PX * 1.25 else COARSEST_SIDE_PX)
    return [_level(frame_wh, side / long_side, tile_margin_px) for side in reversed(sides)]


def _level(frame_wh: tuple[int, int], scale: float, margin_px: int) -> Level:
    """The frame in the grid of tiles that costs the least."""
    width, height = (side * scale for side in frame_wh)
    limit_px = min(MAX_TILE_PX, max(_SINGLE_TILE_PX, 0.6 * width * height))
    grids = []
    for columns in range(1, math.ceil(width / COARSEST_SIDE_PX) + 1):
        tile_width = width / columns + 2 * margin_px * (columns > 1)
        tallest = limit_px / tile_width - 2 * margin_px
        is_one_row = tile_width * height <= limit_px
        if tallest < COARSEST_SIDE_PX < height or (tallest <= 0 and not is_one_row):
            continue
        rows = 1 if is_one_row else math.ceil(height / tallest)
        tile_height = height / rows + 2 * margin_px * (rows > 1)
        area_px = columns * rows * _round_up(round(tile_width)) * _round_up(round(tile_height))
        grids.append((area_px, columns, rows))
    _, columns, rows = min(grids)
    return Level(scale, tuple(_tiles(frame_wh, scale, columns, rows, margin_px)))


def _tiles(
    frame_wh: tuple[int, int], scale: float, columns: int, rows: int, margin_px: int
) -> list[View]:
    margin = margin_px / scale
    spans: list[list[tuple[int, int]]] = []
    for side, count in zip(frame_wh, (columns, rows), strict=True):
        edges = [side * number / count for number in range(count + 1)]
        spans.append(
            [
                (max(0, math.ceil(low - margin)), min(side, math.floor(high + margin)))
                for low, high in pairwise(edges)
            ]
        )
    return [
        _view((left, top, right, bottom), scale)
        for top, bottom in spans[1]
        for left, right in spans[0]
    ]


def region_view(
    box_xyxy: NDArray, frame_wh: tuple[int, int], reduced: bool = False, is_lost: bool = False
) -> View | None:
    """Return the view that shows one face at the size that suits the network best.

    ``reduced`` views cost half as much; that of a face that ``is_lost`` reaches further. None for a
    box outside the frame or without area.
    """
    width, height = (box_xyxy[2:] - box_xyxy[:2]).tolist()
    face_px = max(width, height)
    if not (np.isfinite(box_xyxy).all() and min(width, height) > 0):
        return None
    view_px = 64 if reduced or face_px < _SMALL_FACE_PX else 96
    sides = _LOST_REGION_SIDES if is_lost else _REGION_SIDES
    if is_lost:
        view_px = _LOST_REGION_PX
    half = sides * face_px / 2
    center = (box_xyxy[:2] + box_xyxy[2:]) / 2
    limit = np.array(frame_wh)
    low = np.floor(center - half).clip(0, limit).astype(int).tolist()
    high = np.ceil(center + half).clip(0, limit).astype(int).tolist()
    if low[0] >= high[0] or low[1] >= high[1]:
        return None
    scale = view_px / max(high[0] - low[0], high[1] - low[1], 2 * half)
    return _view((low[0], low[1], high[0], high[1]), scale)


def _view(region_xyxy: tuple[int, int, int, int], scale: float) -> View:
    left, top, right, bottom = region_xyxy
    width, height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    return View(region_xyxy, (width, height))


def pack_rectangles(
    sizes_wh: Sequence[tuple[int, int]],
) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Place rectangles in rows: the mosaic's width and height, and each left upper corner.

    The mosaic is the smallest of those tried whose sides are multiples of 32.
    """
    order = sorted(range(len(sizes_wh)), key=lambda index: -sizes_wh[index][1])
    widest = max(width for width, _ in sizes_wh)
    best: tuple[int, tuple[int, int], list[tuple[int, int]]] | None = None
    for limit in range(_round_up(widest), max(_MAX_MOSAIC_SIDE_PX, _round_up(widest)) + 1, 32):
        corners = [(0, 0)] * len(sizes_wh)
        x = y = row_height = right = 0
        for index in order:
            width, height = sizes_wh[index]
            if x + width > limit:
                x, y, row_height = 0, y + row_height, 0
            corners[index] = (x, y)
            x, row_height = x + width, max(row_height, height)
            right = max(right, x)
        mosaic = _round_up(right), _round_up(y + row_height)
        area = mosaic[0] * mosaic[1]
        if best is None or area < best[0]:
            best = area, mosaic, corners
        if right < limit - SIDE_MULTIPLE_PX:
            break  # all of them stand in one row
    assert best is not None
    return best[1], best[2]


def _round_up(side: int) -> int:
    return -(-side // SIDE_MULTIPLE_PX) * SIDE_MULTIPLE_PX


@dataclass(frozen=True, eq=False)
class ViewDetections:
    """Detections in frame pixels, with the view (N,) of each and its height (N,) in that view."""

    faces: FaceDetections
    views: NDArray[np.intp]
    heights_px: NDArray[np.float32]

    @classmethod
    def empty(cls) -> "ViewDetections":
        """No face."""
        return cls(FaceDetections.empty(), np.zeros(0, np.intp), np.zeros(0, np.float32))

    def select(self, indices: NDArray) -> "ViewDetections":
        """Return the detections at ``indices`` or where a mask (N,) is set."""
        return ViewDetections(
            select(self.faces, indices), self.views[indices], self.heights_px[indices]
        )


def detect_in_views(
    network: DetectionNetwork,
    image_rgb: NDArray[np.uint8],
    views: Sequence[View],
    score_threshold: float,
    nms_iou_threshold: float,
    keep_cut: bool = False,
) -> ViewDetections:
    """Detect faces in several views of a frame (H, W, 3).

    Each face is in the view that holds its center. Faces that a view cuts are dropped, unless the
    frame cuts them too; with ``keep_cut`` they stay as proposals, with a height of 0.
    """
    small = [index for index, view in enumerate(views) if view.area_px <= _MAX_SHARED_PX]
    inputs = [small] if small else []
    inputs += [[index] for index, view in enumerate(views) if view.area_px > _MAX_SHARED_PX]
    parts = []
    for indices in inputs:
        shared_views = [views[index] for index in indices]
        detections = _detect_together(
            network, image_rgb, shared_views, score_threshold, nms_iou_threshold, keep_cut
        )
        parts.append(replace(detections, views=np.array(indices, np.intp)[detections.views]))
    return concatenate(parts)


def _detect_together(
    network: DetectionNetwork,
    image_rgb: NDArray[np.uint8],
    views: Sequence[View],
    score_threshold: float,
    nms_iou_threshold: float,
    keep_cut: bool,
) -> ViewDetections:
    """Detect faces in the views that share one input of the network."""
    (width, height), corners = pack_rectangles([view.size_wh for view in views])
    mosaic: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
    for view, (x, y) in zip(views, corners, strict=True):
        left, top, right, bottom = view.region_xyxy
        columns, rows = view.size_wh
        region = _halve(widen_single_pixel(image_rgb[top:bottom, left:right]), view.size_wh)
        # OpenCV 4.5.4 cannot write into an image of one pixel.
        mosaic[y : y + rows, x : x + columns] = cv2.resize(region, view.size_wh)
    detections = network.detect(mosaic, score_threshold, nms_iou_threshold)
    return _to_frame(detections, image_rgb.shape[1::-1], views, corners, keep_cut)


def _halve(image_rgb: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Halve an image (H, W, 3) while it is at least twice as large as ``size_wh``.

    What is left to reduce is little enough for bilinear interpolation. Averaging over areas in one
    step takes three to five times as long.
    """
    height, width = image_rgb.shape[:2]
    while width >= 2 * size_wh[0] and height >= 2 * size_wh[1]:
        width, height = width // 2, height // 2
        image_rgb = np.asarray(
            cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
    return image_rgb


def _to_frame(
    detections: FaceDetections,
    frame_wh: tuple[int, ...],
    views: Sequence[View],
    corners: Sequence[tuple[int, int]],
    keep_cut: bool,
) -> ViewDetections:
    low = np.array(corners, np.float32)
    sizes = np.array([view.size_wh for view in views], np.float32)
    regions = np.array([view.region_xyxy for view in views], np.float32)
    frame = np.array(frame_wh, np.float32)
    centers = (detections.boxes_xyxy[:, :2] + detections.boxes_xyxy[:, 2:]) / 2
    inside = (centers[:, None] >= low) & (centers[:, None] < low + sizes)
    is_inside = np.logical_and.reduce(inside, axis=2)  # (detections, views)
    view_of = is_inside.argmax(axis=1) if len(views) else np.zeros(0, np.intp)
    scale = (regions[:, 2:] - regions[:, :2]) / sizes  # frame pixels per view pixel

    def to_frame(points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (N, P, 2), counted from the image's edge."""
        at = view_of
        return (points_xy - low[at][:, None]) * scale[at][:, None] + regions[at][:, None, :2]

    boxes = to_frame(detections.boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
    points = to_frame(detections.points_xy + 0.5) - 0.5
    heights = detections.boxes_xyxy[:, 3] - detections.boxes_xyxy[:, 1]
    margin = _CUT_MARGIN * (boxes[:, 3] - boxes[:, 1])[:, None]
    view_regions = regions[view_of]
    cut_low = (boxes[:, :2] < view_regions[:, :2] + margin) & (view_regions[:, :2] > 0)
    cut_high = (boxes[:, 2:] > view_regions[:, 2:] - margin) & (view_regions[:, 2:] < frame)
    clipped = np.clip(boxes, 0, np.tile(frame, 2)).astype(np.float32)
    is_cut = cut_low.any(axis=1) | cut_high.any(axis=1)
    heights = np.where(is_cut, np.float32(0), heights)
    keep = is_inside.any(axis=1) & (keep_cut | ~is_cut)
    keep &= (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    faces = FaceDetections(clipped, detections.scores, points.astype(np.float32))
    return ViewDetections(faces, view_of, heights).select(keep)


def concatenate(parts: Sequence[ViewDetections]) -> ViewDetections:
    """Join detections of several calls, whose indices of views stay as they are."""
    faces = [part.faces for part in (ViewDetections.empty(), *parts)]
    return ViewDetections(
        FaceDetections(
            np.concatenate([part.boxes_xyxy for part in faces]),
            np.concatenate([part.scores for part in faces]),
            np.concatenate([part.points_xy for part in faces]),
        ),
        np.concatenate([np.zeros(0, np.intp), *(part.views for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.heights_px for part in parts)]),
    )


def merge(detections: ViewDetections, nms_iou_threshold: float) -> ViewDetections:
    """Keep one detection of each face, best score first.

    In addition to non-maximum suppression, a box that lies mostly inside a better one is dropped:
    a tile may show a part of a face as a smaller face.
    """
    boxes = detections.faces.boxes_xyxy
    order = nms(boxes, detections.faces.scores, nms_iou_threshold)
    indices: list[int] = []
    for index in order.tolist():
        if not (intersection_over_minimum(boxes[index], boxes[indices]) > _DUPLICATE_MIN_IOM).any():
            indices.append(index)
    return detections.select(np.array(indices, np.intp))


def intersection_over_minimum(box_xyxy: NDArray, boxes_xyxy: NDArray) -> NDArray[np.float64]:
    """Intersection (N,) of a box (4,) and each of ``boxes_xyxy`` (N, 4) over the smaller area."""
    low = np.maximum(box_xyxy[:2], boxes_xyxy[:, :2])
    high = np.minimum(box_xyxy[2:], boxes_xyxy[:, 2:])
    smaller = np.minimum(areas(box_xyxy[None]), areas(boxes_xyxy))
    return np.asarray((high - low).clip(0).prod(axis=1) / smaller, np.float64)
