"""Views cover a frame, share one network input, and return boxes in frame pixels."""

from itertools import pairwise

import numpy as np
import pytest
from square_faces import SquareFaceNetwork, paint

from fer_ros.detection_plan import (
    COARSEST_SIDE_PX,
    MAX_TILE_PX,
    View,
    ViewDetections,
    concatenate,
    detect_in_views,
    intersection_over_minimum,
    merge,
    pack_rectangles,
    plan_levels,
    region_view,
)
from fer_ros.types import FaceDetections

FRAMES_WH = [(1, 1), (1, 4000), (33, 31), (320, 240), (640, 480), (480, 640), (1280, 720)]
FRAMES_WH += [(1920, 1080), (3840, 2160), (7680, 4320)]
STRIPS_WH = [(1280, 120), (1500, 140), (1920, 150), (3840, 100), (100, 3840), (8000, 30)]


@pytest.mark.parametrize("frame_wh", FRAMES_WH + STRIPS_WH, ids=str)
@pytest.mark.parametrize("settings", [(20, 16), (20, 16, 0), (8, 16, 64)], ids=str)
def test_every_level_covers_the_frame(frame_wh, settings):
    for level in plan_levels(frame_wh, *settings):
        is_covered = np.zeros(frame_wh[::-1], np.bool_)
        for view in level.views:
            left, top, right, bottom = view.region_xyxy
            assert 0 <= left < right <= frame_wh[0]
            assert 0 <= top < bottom <= frame_wh[1]
            is_covered[top:bottom, left:right] = True
        assert is_covered.all()


@pytest.mark.parametrize("frame_wh", FRAMES_WH, ids=str)
def test_levels_go_from_the_whole_frame_to_the_smallest_face(frame_wh):
    levels = plan_levels(frame_wh, 20, 16)
    assert max(levels[0].views[0].size_wh) <= 1.25 * COARSEST_SIDE_PX
    assert len(levels[0].views) == 1
    assert levels[-1].scale == pytest.approx(0.8)
    steps = [fine.scale / coarse.scale for coarse, fine in pairwise(levels)]
    assert all(1 < step <= 5 for step in steps)
    assert all(view.area_px <= 1.2 * MAX_TILE_PX for level in levels for view in level.views)


@pytest.mark.parametrize(("min_face_px", "scale"), [(8, 1.0), (16, 1.0), (32, 0.5), (64, 0.25)])
def test_frames_are_never_enlarged(min_face_px, scale):
    assert plan_levels((640, 480), min_face_px, 16)[-1].scale == pytest.approx(scale)


def test_a_face_up_to_the_next_level_is_whole_in_one_tile():
    """Wherever it is: a face of 60 px has 15 px on the level that is four times coarser."""
    finest = plan_levels((1280, 720), 20, 16)[-1]
    half = 48 / finest.scale / 2
    for x in range(0, 1280, 7):
        for y in range(0, 720, 7):
            box = np.array([x - half, y - half, x + half, y + half]).clip(0, [1280, 720] * 2)
            regions = np.array([view.region_xyxy for view in finest.views])
            holds = (regions[:, :2] <= box[:2] + 1) & (regions[:, 2:] >= box[2:] - 1)
            assert holds.all(axis=1).any()


@pytest.mark.parametrize(
    "sizes_wh",
    [[(1, 1)], [(160, 120)], [(96, 96)] * 5, [(264, 360), (160, 120), *[(96, 96)] * 12]],
    ids=len,
)
def test_packed_views_share_no_pixel(sizes_wh):
    (width, height), corners = pack_rectangles(sizes_wh)
    assert width % 32 == height % 32 == 0
    uses = np.zeros((height, width), int)
    for (columns, rows), (x, y) in zip(sizes_wh, corners, strict=True):
        assert x + columns <= width
        assert y + rows <= height
        uses[y : y + rows, x : x + columns] += 1
    assert uses.max() == 1
    assert width * height <= 2 * uses.sum() + 32 * (width + height)


@pytest.mark.parametrize(
    ("box", "region", "size"),
    [
        ((100, 100, 140, 148), (72, 76, 168, 172), (96, 96)),
        ((100, 100, 116, 120), (88, 90, 128, 130), (64, 64)),
        ((-10, -10, 30, 40), (0, 0, 60, 65), (58, 62)),
    ],
)
def test_the_region_of_a_face_is_twice_its_size(box, region, size):
    view = region_view(np.array(box, np.float32), (640, 480))
    assert view == View(region, size)


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (9, 5, 5, 9), (900, 5, 940, 50), (np.nan, 5, 9, 9), (np.inf, 5, 9, 9)]
)
def test_a_box_without_a_place_in_the_frame_has_no_region(box):
    assert region_view(np.array(box, np.float32), (640, 480)) is None


def test_boxes_are_returned_in_frame_pixels():
    frame = np.zeros((480, 640, 3), np.uint8)
    paint(frame, (100, 52, 140, 92))
    paint(frame, (400, 300, 480, 380))
    views = [
        View((80, 40, 180, 140), (50, 50)),
        View((360, 260, 520, 420), (160, 160)),
        View((0, 0, 640, 480), (160, 120)),
    ]
    detections = detect_in_views(SquareFaceNetwork(8), frame, views, 0.5, 0.3)
    order = np.lexsort((detections.views, detections.faces.boxes_xyxy[:, 0]))
    assert detections.views[order].tolist() == [0, 2, 1, 2]
    expected = [(100, 52, 140, 92)] * 2 + [(400, 300, 480, 380)] * 2
    np.testing.assert_allclose(detections.faces.boxes_xyxy[order], expected, atol=1e-3)
    np.testing.assert_allclose(detections.heights_px[order], [20, 10, 80, 20])
    nose = detections.faces.points_xy[order][:, 2]
    np.testing.assert_allclose(nose, [(119.5, 71.5)] * 2 + [(439.5, 339.5)] * 2, atol=1e-3)


@pytest.mark.parametrize(
    ("face", "found"), [((90, 50, 130, 90), 1), ((120, 50, 160, 90), 0), ((-20, 50, 20, 90), 1)]
)
def test_a_face_cut_by_a_view_counts_only_at_the_border_of_the_frame(face, found):
    frame = np.zeros((480, 640, 3), np.uint8)
    paint(frame, face)
    views = [View((0, 0, 140, 140), (140, 140))]
    assert len(detect_in_views(_Extending(), frame, views, 0.5, 0.3).faces) == found


class _Extending(SquareFaceNetwork):
    """Completes a face of which it sees a part, as real networks do."""

    def detect(self, image_rgb, score_threshold, nms_iou_threshold):
        faces = super().detect(image_rgb, score_threshold, nms_iou_threshold)
        boxes = faces.boxes_xyxy.copy()
        is_cut = boxes[:, 2] >= image_rgb.shape[1] - 20
        boxes[is_cut, 2] = boxes[is_cut, 0] + 40
        boxes[boxes[:, 0] == 0, 0] = -20
        return FaceDetections(boxes, faces.scores, faces.points_xy)


def detections(*boxes_and_scores):
    boxes = np.array([box for box, _ in boxes_and_scores], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in boxes_and_scores], np.float32)
    points = np.zeros((len(boxes), 5, 2), np.float32)
    count = len(boxes)
    faces = FaceDetections(boxes, scores, points)
    return ViewDetections(faces, np.zeros(count, np.intp), np.zeros(count, np.float32))


@pytest.mark.parametrize(
    ("boxes_and_scores", "kept"),
    [
        ([], []),
        ([((0, 0, 10, 10), 0.6), ((20, 0, 30, 10), 0.9)], [0.9, 0.6]),
        ([((0, 0, 10, 10), 0.6), ((1, 0, 11, 10), 0.9)], [0.9]),
        ([((0, 0, 40, 40), 0.9), ((10, 10, 20, 20), 0.8)], [0.9]),
        ([((0, 0, 40, 40), 0.7), ((10, 10, 20, 20), 0.8)], [0.8]),
        ([((0, 0, 0, 40), 0.7)], []),
    ],
)
def test_duplicates_of_a_face_are_merged(boxes_and_scores, kept):
    merged = merge(detections(*boxes_and_scores), 0.3)
    np.testing.assert_allclose(merged.faces.scores, kept)


def test_merging_nothing_gives_no_detections():
    assert len(concatenate([]).faces) == 0
    assert intersection_over_minimum(np.zeros(4), np.zeros((0, 4))).shape == (0,)
