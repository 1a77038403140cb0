"""Picture to face to canvas, by the two rules of ``training.prepare``.

Sets of tightly cropped faces have their own rule, because a detector wants surroundings: each
picture is scaled to 128 px, framed with grey up to 192 px and searched with a low threshold.
Photographs are searched as they are, reduced to 320 px, with a margin of grey for faces at the
border.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.align import warp
from fer_ros.config import DetectorConfig
from fer_ros.decode import ConversionError, decode_picture
from fer_ros.detect import FaceDetector, make_detector
from fer_ros.types import CROP_SIZE_PX, FaceBoxes
from training.packs import CANVAS_PX, MARGIN_PX

_TIGHT_PX, _FRAMED_PX = 128, 192
_PHOTO_PX, _PHOTO_MARGIN_PX = 320, 32
_LEAST_OVERLAP = 0.1  # with the given box, or it is somebody else's face


def detector_for(tight: bool) -> FaceDetector:
    """The detector for tightly cropped faces, or for photographs."""
    if tight:
        return make_detector(DetectorConfig(long_side_px=_FRAMED_PX, min_score=0.2))
    return make_detector(DetectorConfig(long_side_px=_PHOTO_PX + 2 * _PHOTO_MARGIN_PX))


def framed(
    picture_rgb: NDArray[np.uint8],
    size: tuple[int, int],
    frame: tuple[int, int],
    enlarge: int = cv2.INTER_LINEAR,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The picture at ``size`` in the middle of a grey ``frame``, both width and height.

    And where its upper left corner (2,) stands there.
    """
    corner = np.array([(outer - inner) // 2 for outer, inner in zip(frame, size, strict=True)])
    method = cv2.INTER_AREA if size[0] < picture_rgb.shape[1] else enlarge
    grey = np.full((frame[1], frame[0], 3), 128, np.uint8)
    rows, columns = (slice(corner[axis], corner[axis] + size[axis]) for axis in (1, 0))
    grey[rows, columns] = cv2.resize(picture_rgb, size, interpolation=method)
    return grey, corner.astype(np.float32)


def scaled(picture_rgb: NDArray[np.uint8], long_side_px: int) -> tuple[float, tuple[int, int]]:
    """The scale that gives a picture this long side, and its width and height then."""
    height, width = picture_rgb.shape[:2]
    scale = long_side_px / max(height, width)
    return scale, (max(1, round(width * scale)), max(1, round(height * scale)))


def find_face(detector: FaceDetector, picture_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Five points (5, 2) of the best face of a tightly cropped picture; NaN where none is found."""
    scale, size = scaled(picture_rgb, _TIGHT_PX)
    frame, corner = framed(picture_rgb, size, (_FRAMED_PX, _FRAMED_PX))
    faces = detector.detect(frame)
    if len(faces) == 0:
        return np.full((5, 2), np.nan, np.float32)
    points = faces.points_xy[int(np.argmax(faces.scores))]
    return ((points + 0.5 - corner) / scale - 0.5).astype(np.float32)


def find_in_photograph(
    detector: FaceDetector, picture_rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Five points (5, 2) of the face that is meant by a box (4,), or none (0,): the largest.

    NaN where none is found.
    """
    scale, size = scaled(picture_rgb, min(_PHOTO_PX, max(picture_rgb.shape[:2])))
    frame = (size[0] + 2 * _PHOTO_MARGIN_PX, size[1] + 2 * _PHOTO_MARGIN_PX)
    faces = detector.detect(framed(picture_rgb, size, frame)[0])
    chosen = _meant(faces, box_xyxy * scale + _PHOTO_MARGIN_PX)
    if chosen < 0:
        return np.full((5, 2), np.nan, np.float32)
    points = faces.points_xy[chosen]
    return ((points + 0.5 - _PHOTO_MARGIN_PX) / scale - 0.5).astype(np.float32)


def _meant(faces: FaceBoxes, box_xyxy: NDArray[np.float32]) -> int:
    """Index of the face with the largest overlap with the box, without box the largest; or -1."""
    boxes = faces.boxes_xyxy
    if len(boxes) == 0:
        return -1
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    if len(box_xyxy) == 0:
        return int(np.argmax(areas))
    low, high = np.maximum(boxes[:, :2], box_xyxy[:2]), np.minimum(boxes[:, 2:], box_xyxy[2:])
    shared = np.prod((high - low).clip(0), axis=1)
    overlaps = shared / (areas + np.prod(box_xyxy[2:] - box_xyxy[:2]) - shared)
    return int(np.argmax(overlaps)) if overlaps.max() >= _LEAST_OVERLAP else -1


def canvas(picture_rgb: NDArray[np.uint8], frame_to_crop: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The grey canvas (144, 144): the crop of ``frame_to_crop`` (2, 3) with its margin."""
    with_margin = frame_to_crop.copy()
    with_margin[:, 2] += MARGIN_PX
    return cv2.cvtColor(warp(picture_rgb, with_margin, CANVAS_PX), cv2.COLOR_RGB2GRAY)


def in_crop(
    points_xy: NDArray[np.float32], frame_to_crop: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Points (N, P, 2) in pixels of their pictures as fractions of the crops of maps (N, 2, 3)."""
    moved = np.einsum("nij,npj->npi", frame_to_crop[:, :, :2], points_xy)
    moved += frame_to_crop[:, None, :, 2]
    return ((moved + 0.5) / CROP_SIZE_PX).astype(np.float32)


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """RGB picture of encoded bytes; ValueError names the picture that does not decode."""
    try:
        return decode_picture(data)
    except ConversionError as error:
        raise ValueError(f"{name}: expected an encoded picture: {error}") from None


def relative(maps: NDArray[np.float32], sizes_px: NDArray[np.int32]) -> NDArray[np.float32]:
    """Maps (N, 2, 3) to crop pixels from the square around a picture, whose sides are of length 1.

    ``sizes_px`` (N, 2) are width and height; the square shares the picture's middle.
    """
    long_px, corner = _square(sizes_px)
    shift = np.einsum("nij,nj->ni", maps[:, :, :2], corner) + maps[:, :, 2]
    return np.concatenate([maps[:, :, :2] * long_px[:, None, None], shift[:, :, None]], axis=2)


def absolute(typical: NDArray[np.float32], size_px: NDArray[np.int32]) -> NDArray[np.float32]:
    """The map (2, 3) from pixels of a picture of this width and height; undoes ``relative``."""
    long_px, corner = _square(size_px[None])
    linear = typical[:, :2] / long_px[0]
    shift = typical[:, 2] - linear @ corner[0]
    return np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)


def _square(sizes_px: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Side (N,) and corner (N, 2) of the squares around pictures of these sizes (N, 2)."""
    long_px = sizes_px.max(axis=1)
    return long_px, (sizes_px - long_px[:, None]) / 2
