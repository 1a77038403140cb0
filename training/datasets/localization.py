"""Face localization and alignment for datasets, by the two rules of ``training.prepare``.

Tightly cropped faces: a detector needs surroundings, so each image is scaled to 128 px, padded with
gray to 192 px and searched with a low threshold. Uncropped images are reduced to 320 px and padded
by a gray margin, for faces at the border; where nothing is found, they are searched for all sizes.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import frame_points_to_crop, warp
from fer_ros.boxes import areas, iou
from fer_ros.config import DetectorConfig
from fer_ros.detector import FaceDetector, ImageDetector, make_detector
from fer_ros.detectors.centerface import find_model
from fer_ros.io.image_decoding import ConversionError, decode_image_file
from fer_ros.types import CROP_SIZE_PX, FaceDetections
from training.datasets.shards import MARGIN_PX, PADDED_CROP_PX

_TIGHT_PX, _FRAME_PX = 128, 192
_PHOTO_PX, _PHOTO_MARGIN_PX = 320, 32
_MIN_IOU = 0.1  # with the given box; below, the face is another person's


def make_dataset_detector(tight_crops: bool) -> FaceDetector:
    """The detector for tightly cropped faces, or for uncropped images, in fp32 on every machine."""
    path = str(find_model(""))
    if tight_crops:
        return make_detector(
            DetectorConfig(model_path=path, input_size_px=_FRAME_PX, score_threshold=0.2)
        )
    return make_detector(
        DetectorConfig(model_path=path, input_size_px=_PHOTO_PX + 2 * _PHOTO_MARGIN_PX)
    )


def pad_to_frame(
    image_rgb: NDArray[np.uint8],
    size: tuple[int, int],
    frame: tuple[int, int],
    enlarge: int = cv2.INTER_LINEAR,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Resize an image to ``size`` and center it in a gray ``frame``; both are width and height.

    Returns the frame and the position (2,) of the image's upper left corner in it. ``enlarge`` is
    the interpolation of OpenCV for images that become larger.
    """
    corner = np.array([(outer - inner) // 2 for outer, inner in zip(frame, size, strict=True)])
    method = cv2.INTER_AREA if size[0] < image_rgb.shape[1] else enlarge
    padded = np.full((frame[1], frame[0], 3), 128, np.uint8)
    rows, columns = (slice(corner[axis], corner[axis] + size[axis]) for axis in (1, 0))
    padded[rows, columns] = cv2.resize(image_rgb, size, interpolation=method)
    return padded, corner.astype(np.float32)


def fit_size(image_rgb: NDArray[np.uint8], input_size_px: int) -> tuple[float, tuple[int, int]]:
    """The scale that makes the long side ``input_size_px``, and the scaled width and height."""
    height, width = image_rgb.shape[:2]
    scale = input_size_px / max(height, width)
    return scale, (max(1, round(width * scale)), max(1, round(height * scale)))


def find_face(detector: FaceDetector, image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Five points (5, 2) of the best face of a tightly cropped image; NaN when none is found."""
    scale, size = fit_size(image_rgb, _TIGHT_PX)
    frame, corner = pad_to_frame(image_rgb, size, (_FRAME_PX, _FRAME_PX))
    faces = detector.detect(frame)
    if len(faces) == 0:
        return np.full((5, 2), np.nan, np.float32)
    points = faces.points_xy[int(np.argmax(faces.scores))]
    return ((points + 0.5 - corner) / scale - 0.5).astype(np.float32)


def find_in_photograph(
    detector: FaceDetector, image_rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Five points (5, 2) of the face in ``box_xyxy`` (4,); of the largest face for no box (0,).

    NaN when no face is found.
    """
    scale, size = fit_size(image_rgb, min(_PHOTO_PX, max(image_rgb.shape[:2])))
    frame = (size[0] + 2 * _PHOTO_MARGIN_PX, size[1] + 2 * _PHOTO_MARGIN_PX)
    faces = detector.detect(pad_to_frame(image_rgb, size, frame)[0])
    selected = _select_face(faces, box_xyxy * scale + _PHOTO_MARGIN_PX)
    if selected < 0:
        return _find_at_all_sizes(detector, image_rgb, box_xyxy)
    points = faces.points_xy[selected]
    return ((points + 0.5 - _PHOTO_MARGIN_PX) / scale - 0.5).astype(np.float32)


def _find_at_all_sizes(
    detector: FaceDetector, image_rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float32]
) -> NDArray[np.float32]:
    """As ``find_in_photograph``, for faces of 20 px and more in the whole image."""
    faces = FaceDetections.empty()
    if isinstance(detector, ImageDetector):
        config = DetectorConfig(score_threshold=detector.config.score_threshold)
        faces = ImageDetector(detector.network, config).detect(image_rgb)
    selected = _select_face(faces, box_xyxy)
    return faces.points_xy[selected] if selected >= 0 else np.full((5, 2), np.nan, np.float32)


def _select_face(faces: FaceDetections, box_xyxy: NDArray[np.float32]) -> int:
    """Index of the face with the largest IoU with the box, or of the largest face; -1: none."""
    boxes = faces.boxes_xyxy
    if len(boxes) == 0:
        return -1
    if len(box_xyxy) == 0:
        return int(np.argmax(areas(boxes)))
    ious = iou(boxes, box_xyxy[None])[:, 0]
    return int(np.argmax(ious)) if ious.max() >= _MIN_IOU else -1


def cut_padded_crop(
    image_rgb: NDArray[np.uint8], frame_to_crop: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """The gray padded crop (144, 144): the crop of ``frame_to_crop`` (2, 3) with its margin."""
    with_margin = frame_to_crop.copy()
    with_margin[:, 2] += MARGIN_PX
    return cv2.cvtColor(warp(image_rgb, with_margin, PADDED_CROP_PX), cv2.COLOR_RGB2GRAY)


def to_crop_fractions(
    points_xy: NDArray[np.float32], frame_to_crop: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Transform points (N, P, 2) in image pixels to fractions of crops, by affines (N, 2, 3)."""
    moved = frame_points_to_crop(points_xy, frame_to_crop)
    return ((moved + 0.5) / CROP_SIZE_PX).astype(np.float32)


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image to RGB. Raises ValueError that names the image."""
    try:
        return decode_image_file(data)
    except ConversionError as error:
        raise ValueError(f"{name}: expected an encoded image: {error}") from None


def normalize_affine(maps: NDArray[np.float32], sizes_px: NDArray[np.int32]) -> NDArray[np.float32]:
    """Affines (N, 2, 3) to crop pixels from the square around an image, with sides of length 1.

    ``sizes_px`` (N, 2) are width and height; the square and the image have one center.
    """
    long_px, corner = _square(sizes_px)
    shift = np.einsum("nij,nj->ni", maps[:, :, :2], corner) + maps[:, :, 2]
    return np.concatenate([maps[:, :, :2] * long_px[:, None, None], shift[:, :, None]], axis=2)


def denormalize_affine(
    normalized: NDArray[np.float32], size_px: NDArray[np.int32]
) -> NDArray[np.float32]:
    """The affine (2, 3) for an image of this width and height; inverse of ``normalize_affine``."""
    long_px, corner = _square(size_px[None])
    linear = normalized[:, :2] / long_px[0]
    shift = normalized[:, 2] - linear @ corner[0]
    return np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)


def _square(sizes_px: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Side (N,) and corner (N, 2) of the squares around images of these sizes (N, 2)."""
    long_px = sizes_px.max(axis=1)
    return long_px, (sizes_px - long_px[:, None]) / 2
