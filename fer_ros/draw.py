"""Overlay of the results on an image."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.labels import EMOTIONS
from fer_ros.types import FaceEmotion

_COLOURS_RGB = {
    "neutral": (200, 200, 200),
    "happiness": (255, 200, 0),
    "sadness": (70, 130, 255),
    "surprise": (255, 130, 30),
    "fear": (190, 90, 255),
    "disgust": (110, 200, 60),
    "anger": (255, 60, 50),
    "contempt": (0, 200, 190),
}
_UNUSABLE_RGB = (130, 130, 130)
_BACK_RGB = (20, 20, 20)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT_PX = 22.0  # of its capitals at scale 1
_FAR_PX = 1e5  # OpenCV draws nothing sensible further out


def draw(image_rgb: NDArray[np.uint8], faces: list[FaceEmotion]) -> NDArray[np.uint8]:
    """A copy of the image (H, W, 3) with box, 68 points, label and probability bars of each face.

    A face that cannot be read is grey and says why instead of the bars.
    """
    canvas = np.ascontiguousarray(image_rgb).copy()
    line_px = max(8, round(canvas.shape[0] / 40))
    for face in faces:
        colour = _COLOURS_RGB[face.emotion] if face.emotion else _UNUSABLE_RGB
        _draw_outline(canvas, face, colour, line_px)
        if face.emotion:
            _draw_bars(canvas, face, line_px)
        _draw_label(canvas, face, colour, line_px)
    return canvas


def _draw_outline(
    canvas: NDArray[np.uint8], face: FaceEmotion, colour: tuple[int, int, int], line_px: int
) -> None:
    left, top, right, bottom = _pixels(face.box_xyxy)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, max(1, line_px // 8))
    for x, y in _pixels(face.points_xy):
        cv2.circle(canvas, (x, y), max(1, line_px // 10), colour, cv2.FILLED, cv2.LINE_AA)


def _draw_label(
    canvas: NDArray[np.uint8], face: FaceEmotion, colour: tuple[int, int, int], line_px: int
) -> None:
    text = f"{face.id} {face.why}"
    if face.emotion:
        share = face.probabilities[EMOTIONS.index(face.emotion)]
        text = f"{face.id} {face.emotion} {share:.0%}"
    left, top, _, _ = _pixels(face.box_xyxy)
    left = max(0, min(left, canvas.shape[1] - _width_px(text, line_px)))
    top = max(0, top - line_px)
    cv2.rectangle(
        canvas, (left, top), (left + _width_px(text, line_px), top + line_px), colour, cv2.FILLED
    )
    _write(canvas, text, left, top, line_px, _BACK_RGB)


def _draw_bars(canvas: NDArray[np.uint8], face: FaceEmotion, line_px: int) -> None:
    """Eight rows of name and bar, right of the box, or left of it where there is more room."""
    names_px = max(_width_px(name, line_px) for name in EMOTIONS)
    width_px = names_px + 4 * line_px
    box_left, top, box_right, _ = _pixels(face.box_xyxy)
    left = box_right + 2
    if canvas.shape[1] - box_right < min(width_px, box_left):
        left = max(0, box_left - 2 - width_px)
    panel = canvas[top : top + len(EMOTIONS) * line_px, left : left + width_px]
    panel[:] = panel // 3  # dark enough for any text, and the picture still shows
    for row, (name, share) in enumerate(zip(EMOTIONS, face.probabilities, strict=True)):
        y = top + row * line_px
        bar_left = left + names_px
        end = (bar_left + round(float(share) * 4 * line_px), y + line_px - 2)
        cv2.rectangle(canvas, (bar_left, y + 1), end, _COLOURS_RGB[name], cv2.FILLED)
        _write(canvas, name, left, y, line_px, _COLOURS_RGB[name])


def _write(
    canvas: NDArray[np.uint8],
    text: str,
    left: int,
    top: int,
    line_px: int,
    colour: tuple[int, int, int],
) -> None:
    foot = (left + line_px // 4, top + round(0.8 * line_px))
    cv2.putText(canvas, text, foot, _FONT, _scale(line_px), colour, 1, cv2.LINE_AA)


def _width_px(text: str, line_px: int) -> int:
    return int(cv2.getTextSize(text, _FONT, _scale(line_px), 1)[0][0]) + line_px // 2


def _scale(line_px: int) -> float:
    return 0.6 * line_px / _FONT_HEIGHT_PX


def _pixels(coordinates: NDArray[np.float32]) -> list:
    """Whole pixels, as nested lists; whatever the network gave, OpenCV can draw it."""
    near = np.nan_to_num(coordinates, nan=-_FAR_PX).clip(-_FAR_PX, _FAR_PX)
    return np.round(near).astype(int).tolist()
