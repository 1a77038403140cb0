"""The longest and most confident error segments of a recording, and images of them."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.bags.reader import Bag
from fer_ros.evaluation.metrics.temporal import segments
from fer_ros.evaluation.predictions import PredictionTable
from fer_ros.io.image_decoding import ConversionError, encode_jpeg

MAX_SEGMENTS = 6
_CROP_MARGIN = 0.3  # on each side, as a fraction of the box
_CROP_HEIGHT_PX = 160


@dataclass(frozen=True)
class ErrorSegment:
    """A segment in which one face was predicted wrongly without interruption.

    Attributes:
        stamp_s: Time of the largest error, in seconds since the first image.
        seconds: Duration of the segment.
        margin: Probability of the predicted emotion minus that of the label, at ``stamp_s``.
        weight: Sum of that margin over all frames of the segment.
        box_xyxy: Face box at ``stamp_s``, in pixels.
        jpeg: JPEG bytes of the face at ``stamp_s``, empty unless requested.
    """

    stamp_s: float
    seconds: float
    id: str
    label: str
    emotion: str
    margin: float
    weight: float
    box_xyxy: tuple[float, ...]
    jpeg: bytes = b""


def worst_segments(table: PredictionTable) -> list[ErrorSegment]:
    """Error segments of one recording with the largest weight, in descending order."""
    errors = []
    for name in np.unique(table.id[table.is_scored]):
        face = table.where(table.is_scored & (table.id == name))
        is_wrong = face.emotion != face.label
        errors += [
            _to_segment(face.where(rows)) for rows in segments(face, is_wrong) if is_wrong[rows[0]]
        ]
    return sorted(errors, key=lambda error: (-error.weight, error.stamp_s, error.id))[:MAX_SEGMENTS]


def _to_segment(table: PredictionTable) -> ErrorSegment:
    rows = np.arange(len(table))
    margins = table.probabilities[rows, table.emotion] - table.probabilities[rows, table.label]
    peak = int(margins.argmax())
    return ErrorSegment(
        stamp_s=float(table.stamp_s[peak]),
        seconds=round(float(table.stamp_s[-1] - table.stamp_s[0]), 6),
        id=str(table.id[peak]),
        label=EMOTIONS[table.label[peak]],
        emotion=EMOTIONS[table.emotion[peak]],
        margin=round(float(margins[peak]), 5),
        weight=round(float(margins.sum()), 5),
        box_xyxy=tuple(table.box_xyxy[peak].tolist()),
    )


def add_face_images(
    errors: list[ErrorSegment], bag: Bag, topic: str, first_ns: int
) -> list[ErrorSegment]:
    """Add face crops to error segments. Reads the image topic a second time.

    A segment whose image cannot be read again keeps an empty ``jpeg``.
    """
    images: dict[float, NDArray[np.uint8]] = {}
    error_stamps = {error.stamp_s for error in errors}
    for image in bag.images(topic):
        stamp_s = round((image.time_ns - first_ns) * 1e-9, 6)
        if stamp_s in error_stamps - set(images):
            try:
                images[stamp_s], _ = image.decode()
            except ConversionError:  # two images may share a stamp, and one be damaged
                continue
        if len(images) == len(error_stamps):
            break
    return [
        replace(error, jpeg=_crop(images[error.stamp_s], np.array(error.box_xyxy)))
        if error.stamp_s in images
        else error
        for error in errors
    ]


def _crop(image_rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float64]) -> bytes:
    size = box_xyxy[2:] - box_xyxy[:2]
    corners = np.concatenate(
        [box_xyxy[:2] - _CROP_MARGIN * size, box_xyxy[2:] + _CROP_MARGIN * size]
    )
    height, width = image_rgb.shape[:2]
    left, top, right, bottom = corners.round().astype(int).clip(0, [width, height] * 2).tolist()
    face_rgb = image_rgb[top : max(bottom, top + 1), left : max(right, left + 1)]
    crop_width = max(1, round(_CROP_HEIGHT_PX * face_rgb.shape[1] / face_rgb.shape[0]))
    crop = cv2.resize(face_rgb, (crop_width, _CROP_HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return encode_jpeg(np.asarray(crop, np.uint8)).tobytes()
