"""The moments at which a face was read most wrongly for longest, and pictures of them."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.decode import ConversionError, to_jpeg
from fer_ros.evaluation.bags import Bag
from fer_ros.evaluation.table import FaceTable
from fer_ros.evaluation.video import spells
from fer_ros.labels import EMOTIONS

COUNT = 6
_MARGIN = 0.3  # of the face's box, on each side
_HEIGHT_PX = 160


@dataclass(frozen=True)
class Moment:
    """One spell of wrong readings of a face, at its worst; ``jpeg`` is its picture, if wanted.

    ``margin`` is by how much the wrong emotion led the right one, ``weight`` that over all frames.
    """

    stamp_s: float
    seconds: float
    id: str
    label: str
    emotion: str
    margin: float
    weight: float
    box_xyxy: tuple[float, ...]
    bag: str = ""
    jpeg: bytes = b""


def worst(table: FaceTable) -> list[Moment]:
    """The worst moments of one recording, the worst first."""
    found = []
    for name in np.unique(table.id[table.scored]):
        face = table.where(table.scored & (table.id == name))
        wrong = face.emotion != face.label
        found += [_moment(face.where(rows)) for rows in spells(face, wrong) if wrong[rows[0]]]
    return sorted(found, key=lambda moment: (-moment.weight, moment.stamp_s, moment.id))[:COUNT]


def _moment(table: FaceTable) -> Moment:
    rows = np.arange(len(table))
    lead = table.probabilities[rows, table.emotion] - table.probabilities[rows, table.label]
    peak = int(lead.argmax())
    return Moment(
        stamp_s=float(table.stamp_s[peak]),
        seconds=round(float(table.stamp_s[-1] - table.stamp_s[0]), 6),
        id=str(table.id[peak]),
        label=EMOTIONS[table.label[peak]],
        emotion=EMOTIONS[table.emotion[peak]],
        margin=round(float(lead[peak]), 5),
        weight=round(float(lead.sum()), 5),
        box_xyxy=tuple(table.box_xyxy[peak].tolist()),
    )


def with_pictures(moments: list[Moment], bag: Bag, topic: str, first_ns: int) -> list[Moment]:
    """The moments with what was to be seen, read from the bag once more."""
    jpegs: dict[float, NDArray[np.uint8]] = {}
    wanted = {moment.stamp_s for moment in moments}
    for image in bag.images(topic):
        stamp_s = round((image.stamp_ns - first_ns) * 1e-9, 6)
        if stamp_s in wanted - set(jpegs):
            try:
                jpegs[stamp_s], _ = image.decode()
            except ConversionError:  # another image of the same stamp was the one
                continue
        if len(jpegs) == len(wanted):
            break
    return [
        replace(each, jpeg=_crop(jpegs[each.stamp_s], np.array(each.box_xyxy)))
        for each in moments
        if each.stamp_s in jpegs
    ]


def _crop(image_rgb: NDArray[np.uint8], box_xyxy: NDArray[np.float64]) -> bytes:
    size = box_xyxy[2:] - box_xyxy[:2]
    corners = np.concatenate([box_xyxy[:2] - _MARGIN * size, box_xyxy[2:] + _MARGIN * size])
    height, width = image_rgb.shape[:2]
    left, top, right, bottom = corners.round().astype(int).clip(0, [width, height] * 2).tolist()
    face_rgb = image_rgb[top : max(bottom, top + 1), left : max(right, left + 1)]
    wide = max(1, round(_HEIGHT_PX * face_rgb.shape[1] / face_rgb.shape[0]))
    small = cv2.resize(face_rgb, (wide, _HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return to_jpeg(np.asarray(small, np.uint8)).tobytes()
