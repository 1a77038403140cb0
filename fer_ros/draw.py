"""Results as pictures: the overlay on an image, and where in each face the network looks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.labels import EMOTIONS
from fer_ros.types import CROP_SIZE_PX, FaceEmotion

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
_UNUSABLE_RGB = (150, 150, 150)
_BACK_RGB = (20, 20, 20)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT_PX = 22.0  # of its capitals at scale 1
_SMALLEST_LINE_PX = 10
_TILE_PX = 3 * CROP_SIZE_PX  # of attention: large enough to see the eyes
_GAP_PX = 6
_CAPTION_PX = 18
_FAR_PX = 1e5  # OpenCV draws nothing sensible further out


def draw(image_rgb: NDArray[np.uint8], faces: list[FaceEmotion]) -> NDArray[np.uint8]:
    """A copy of the image (H, W, 3) with box, 68 points, label and probability bars of each face.

    A face that cannot be read is grey and says why instead of the bars.
    """
    canvas = np.array(image_rgb, np.uint8, order="C")
    line_px = max(_SMALLEST_LINE_PX, round(min(canvas.shape[:2]) / 40))
    for face in faces:
        _draw_outline(canvas, face, line_px)
    for face in faces:
        _draw_bars(canvas, face, line_px)
    for face in faces:  # last: the name of a face must not vanish below another face's bars
        _draw_label(canvas, face, line_px)
    return canvas


def draw_attention(
    faces: list[FaceEmotion], crops_rgb: NDArray[np.uint8], maps: list[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """A row for each face: its label, its crop, and the crop under a heat map of each scale.

    ``crops_rgb`` (N, 112, 112, 3) are the faces' crops, ``maps`` (N, side, side) the attention at
    each scale, 1 on average. Black is 0 and the brightest colour the largest value, which stands
    above the map.
    """
    rows = [
        _attention_row(face, crop_rgb, [scale[index] for scale in maps])
        for index, (face, crop_rgb) in enumerate(zip(faces, crops_rgb, strict=True))
    ]
    return np.concatenate(rows) if rows else _caption("no face", _TILE_PX, _UNUSABLE_RGB)


def _attention_row(
    face: FaceEmotion, crop_rgb: NDArray[np.uint8], maps: list[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    size = (_TILE_PX, _TILE_PX)
    large_rgb = cv2.resize(crop_rgb, size, interpolation=cv2.INTER_CUBIC)
    grey = cv2.cvtColor(cv2.cvtColor(large_rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    tiles = [_tile("aligned crop", large_rgb)]
    for looked_at in maps:
        text = f"{len(looked_at)} x {len(looked_at)}, at most {looked_at.max():.1f} x mean"
        tiles.append(_tile(text, cv2.addWeighted(grey, 0.4, _heat(looked_at), 0.6, 0)))
    row = np.concatenate(tiles, axis=1)
    title = _caption(_label(face), row.shape[1], _colour(face))
    return np.concatenate([title, row])


def _heat(looked_at: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours (H, W, 3) from black over red to bright yellow, as even to the eye as the values."""
    large = cv2.resize(
        np.nan_to_num(looked_at), (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_LINEAR
    )
    shares = large / max(float(large.max()), np.finfo(np.float32).tiny)
    heat_bgr = cv2.applyColorMap(np.uint8(255 * shares.clip(0, 1)), cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(heat_bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _tile(text: str, picture_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A caption above the picture, and a gap right of both."""
    column = np.concatenate([_caption(text, picture_rgb.shape[1], _UNUSABLE_RGB), picture_rgb])
    gap = np.full((len(column), _GAP_PX, 3), _BACK_RGB, np.uint8)
    return np.concatenate([column, gap], axis=1)


def _caption(text: str, width_px: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    strip = np.full((_CAPTION_PX + _GAP_PX, width_px, 3), _BACK_RGB, np.uint8)
    _write(strip, text, 0, 0, _CAPTION_PX, colour)
    return strip


def _draw_outline(canvas: NDArray[np.uint8], face: FaceEmotion, line_px: int) -> None:
    left, top, right, bottom = _pixels(face.box_xyxy)
    colour = _colour(face)
    cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), colour, max(1, line_px // 8))
    radius_px = max(0, min((right - left) // 80, line_px // 4))  # of a small face, single pixels
    for x, y in _pixels(face.points_xy):
        cv2.circle(canvas, (x, y), radius_px, colour, cv2.FILLED)


def _draw_label(canvas: NDArray[np.uint8], face: FaceEmotion, line_px: int) -> None:
    text = _label(face)
    if not face.emotion and _width_px(text, line_px) > canvas.shape[1]:
        text = text.partition(":")[0]  # the reason without its figures
    width_px = _width_px(text, line_px)
    left, top = _pixels(face.box_xyxy)[:2]
    left, top = _inside(left, width_px, canvas.shape[1]), _label_top(canvas, top, line_px)
    corner = (left + width_px - 1, top + line_px - 1)
    cv2.rectangle(canvas, (left, top), corner, _colour(face), cv2.FILLED)
    _write(canvas, text, left, top, line_px, _BACK_RGB)


def _draw_bars(canvas: NDArray[np.uint8], face: FaceEmotion, line_px: int) -> None:
    """Eight rows of name and bar, right of the box, or left of it where there is more room."""
    if not face.emotion:
        return
    names_px = max(_width_px(name, line_px) for name in EMOTIONS)
    width_px, height_px = names_px + 4 * line_px, len(EMOTIONS) * line_px
    box_left, box_top, box_right, _ = _pixels(face.box_xyxy)
    left = box_right + 2
    if canvas.shape[1] - box_right < min(width_px, box_left):
        left = box_left - 2 - width_px
    left = _inside(left, width_px, canvas.shape[1])
    top = _inside(_label_top(canvas, box_top, line_px) + line_px, height_px, canvas.shape[0])
    panel = canvas[top : top + height_px, left : left + width_px]
    panel[:] = panel // 3  # dark enough for any text, and the picture still shows
    for row, (name, share) in enumerate(zip(EMOTIONS, face.probabilities, strict=True)):
        y = top + row * line_px
        bar_left = left + names_px
        end = (bar_left + round(float(share) * 4 * line_px), y + line_px - 2)
        cv2.rectangle(canvas, (bar_left, y + 1), end, _COLOURS_RGB[name], cv2.FILLED)
        _write(canvas, name, left, y, line_px, _COLOURS_RGB[name])


def _label(face: FaceEmotion) -> str:
    if not face.emotion:
        return f"{face.id} {face.why}"
    share = face.probabilities[EMOTIONS.index(face.emotion)]
    return f"{face.id} {face.emotion} {share:.0%}"


def _colour(face: FaceEmotion) -> tuple[int, int, int]:
    return _COLOURS_RGB[face.emotion] if face.emotion else _UNUSABLE_RGB


def _label_top(canvas: NDArray[np.uint8], box_top: int, line_px: int) -> int:
    """On top of the box, or in it where there is no room above."""
    return _inside(box_top - line_px, line_px, canvas.shape[0])


def _inside(start: int, length: int, limit: int) -> int:
    """The start nearest to ``start`` at which ``length`` pixels fit into 0..``limit``."""
    return max(0, min(start, limit - length))


def _write(
    canvas: NDArray[np.uint8],
    text: str,
    left: int,
    top: int,
    line_px: int,
    colour: tuple[int, int, int],
) -> None:
    foot = (left + line_px // 4, top + round(0.8 * line_px))
    cv2.putText(
        canvas, text, foot, _FONT, _scale(line_px), colour, _stroke_px(line_px), cv2.LINE_AA
    )


def _width_px(text: str, line_px: int) -> int:
    size = cv2.getTextSize(text, _FONT, _scale(line_px), _stroke_px(line_px))[0]
    return int(size[0]) + line_px // 2


def _scale(line_px: int) -> float:
    return 0.6 * line_px / _FONT_HEIGHT_PX


def _stroke_px(line_px: int) -> int:
    return max(1, line_px // 16)


def _pixels(coordinates: NDArray[np.float32]) -> list:
    """Whole pixels, as nested lists; whatever the network gave, OpenCV can draw it."""
    near = np.nan_to_num(coordinates, nan=-_FAR_PX).clip(-_FAR_PX, _FAR_PX)
    return np.round(near).astype(int).tolist()
