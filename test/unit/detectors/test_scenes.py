"""CenterFace, the detection plan and the tracker on portraits in front of a photograph."""

import cv2
import numpy as np
import pytest
import skimage.data

from fer_ros.boxes import iou
from fer_ros.config import DetectorConfig, TrackerConfig
from fer_ros.detection_scheduler import DetectionScheduler
from fer_ros.detector import make_detector
from fer_ros.tracker import Tracker

FPS = 15
EMPTY_FRAMES = 4
FACE_XYXY = np.array([184.5, 63.0, 268.5, 174.5])  # in the portrait
TILE_XYXY = np.array([155, 24, 298, 214])  # the part of the portrait that is shown


def background(width: int, height: int) -> np.ndarray:
    return cv2.resize(skimage.data.coffee(), (width, height))


def add_portrait(frame: np.ndarray, portrait: np.ndarray, center_xy, face_px: int) -> np.ndarray:
    """Put the portrait with the center of its face there; the visible part of the face's box."""
    height, width = frame.shape[:2]
    scale = face_px / (FACE_XYXY[3] - FACE_XYXY[1])
    shift = np.asarray(center_xy) - scale * FACE_XYXY.reshape(2, 2).mean(axis=0)
    left, top, right, bottom = TILE_XYXY
    tile = cv2.resize(
        portrait[top:bottom, left:right], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    x, y = np.round(shift + scale * TILE_XYXY[:2]).astype(int)
    low_x, low_y = max(0, x), max(0, y)
    visible = tile[low_y - y : height - y, low_x - x : width - x]
    frame[low_y : low_y + visible.shape[0], low_x : low_x + visible.shape[1]] = visible
    return (scale * FACE_XYXY + np.tile(shift, 2)).clip(0, [width, height] * 2)


def confirmed_ids(empty: np.ndarray, frame: np.ndarray, boxes_xyxy, seconds: float, **config):
    """Ids of the tracked faces on each box over the time, and the number of all ids."""
    scheduler = DetectionScheduler(make_detector(DetectorConfig(**config), 2))
    tracker, random = Tracker(TrackerConfig()), np.random.default_rng(0)
    tracked, all_ids = [], set()
    ids = [[] for _ in boxes_xyxy]
    for index in range(EMPTY_FRAMES + round(seconds * FPS)):
        image = empty if index < EMPTY_FRAMES else frame
        noise = random.normal(0, 2, image.shape).astype(np.int16)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
        led = [face.id for face in tracked]
        tracked = tracker.update(scheduler.detect(image, index / FPS, tracked, led), index / FPS)
        all_ids |= {face.id for face in tracked}
        for face in tracked:
            overlaps = iou(np.array(face.box_xyxy)[None], np.array(boxes_xyxy))[0]
            if overlaps.max() > 0.4:
                ids[int(overlaps.argmax())].append(face.id)
    return ids, len(all_ids)


def crowd(portrait: np.ndarray, empty: np.ndarray, columns: int, rows: int, face_px: int):
    """A frame with faces in rows and columns, and their boxes (N, 4)."""
    frame, (height, width) = empty.copy(), empty.shape[:2]
    centers = [
        ((column + 0.5) * width / columns, (row + 0.5) * height / rows)
        for row in range(rows)
        for column in range(columns)
    ]
    boxes = [add_portrait(frame, portrait, center, face_px) for center in centers]
    return frame, np.reshape(boxes, (-1, 4))


@pytest.mark.parametrize(
    ("size_wh", "columns", "rows", "face_px"),
    [
        pytest.param((640, 480), 0, 0, 60, id="no face"),
        pytest.param((640, 480), 5, 2, 60, id="10 faces"),
        pytest.param((1280, 720), 6, 5, 48, id="30 faces"),
    ],
)
def test_each_face_of_a_crowd_has_an_id(astronaut, size_wh, columns, rows, face_px):
    empty = background(*size_wh)
    frame, boxes = crowd(astronaut, empty, columns, rows, face_px)
    ids, count = confirmed_ids(empty, frame, boxes, 1.0, max_faces=30)
    assert [len(set(each)) for each in ids] == [1] * (columns * rows)
    assert count == columns * rows


def test_beyond_max_faces_the_tracked_ones_are_kept(astronaut, caplog):
    empty = background(640, 480)
    frame, boxes = crowd(astronaut, empty, 5, 2, 60)
    ids, count = confirmed_ids(empty, frame, boxes, 2.0, max_faces=6)
    assert sorted(len(set(each)) for each in ids) == [0] * 4 + [1] * 6
    assert count == 6
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning.startswith("detector.max_faces: 6 of ")


@pytest.mark.parametrize("hidden", [0.2, 0.35])
def test_faces_cut_by_the_border_have_an_id(astronaut, hidden):
    empty = background(640, 480)
    frame, face_px = empty.copy(), 100
    visible_x, visible_y = face_px * 0.75 * (0.5 - hidden), face_px * (0.5 - hidden)
    centers = [(visible_x, 150), (640 - visible_x, 150), (320, visible_y), (320, 480 - visible_y)]
    boxes = [add_portrait(frame, astronaut, center, face_px) for center in centers]
    ids, count = confirmed_ids(empty, frame, boxes, seconds=0.7)
    assert [len(set(each)) for each in ids] == [1] * 4
    assert count == 4
