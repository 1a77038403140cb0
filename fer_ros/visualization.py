"""Draw results: the overlay on an image, and the attention maps of each face."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import EMOTION_COLORS, EMOTIONS
from fer_ros.types import CROP_SIZE_PX, FaceEmotion

_COLORS_RGB = {
    emotion: (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16))
    for emotion, color in EMOTION_COLORS.items()
}
_UNREADABLE_RGB = (150, 150, 150)
_BACKGROUND_RGB = (20, 20, 20)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT_PX = 22.0  # of its capitals at scale 1
_MIN_LINE_PX = 10
_TILE_PX = 3 * CROP_SIZE_PX  # side of an attention map
_GAP_PX = 6
_CAPTION_PX = 18
_MAX_COORDINATE_PX = 1e5  # OpenCV cannot draw further out


def draw(image_rgb: NDArray[np.uint8], faces: list[FaceEmotion]) -> NDArray[np.uint8]:
    """Copy the image (H, W, 3) and draw box, landmarks, label and probabilities of each face.

    A face that is not readable is gray, with the reason in place of the probabilities.
    """
    annotated = np.array(image_rgb, np.uint8, order="C")
    line_px = max(_MIN_LINE_PX, round(min(annotated.shape[:2]) / 40))
    for face in faces:
        _draw_outline(annotated, face, line_px)
    for face in faces:
        _draw_bars(annotated, face, line_px)
    for face in faces:  # last, above the bars of other faces
        _draw_label(annotated, face, line_px)
    return annotated


def draw_attention(
    faces: list[FaceEmotion], crops_rgb: NDArray[np.uint8], maps: list[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """Draw a row for each face: its label, its crop, and a heat map over the crop per scale.

    Args:
        faces: the faces.
        crops_rgb: their aligned crops (N, 112, 112, 3).
        maps: attention (N, side, side) at each scale, 1 on average. Black is 0; the brightest color
            is the largest value, which the caption names.
    """
    rows = [
        _attention_row(face, crop_rgb, [scale[index] for scale in maps])
        for index, (face, crop_rgb) in enumerate(zip(faces, crops_rgb, strict=True))
    ]
    return np.concatenate(rows) if rows else _caption("no face", _TILE_PX, _UNREADABLE_RGB)


def _attention_row(
    face: FaceEmotion, crop_rgb: NDArray[np.uint8], maps: list[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    size = (_TILE_PX, _TILE_PX)
    large_rgb = cv2.resize(crop_rgb, size, interpolation=cv2.INTER_CUBIC)
    gray = cv2.cvtColor(cv2.cvtColor(large_rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    tiles = [_tile("aligned crop", large_rgb)]
    for attention in maps:
        text = f"{len(attention)} x {len(attention)}, at most {attention.max():.1f} x mean"
        tiles.append(_tile(text, cv2.addWeighted(gray, 0.4, _heat(attention), 0.6, 0)))
    row = np.concatenate(tiles, axis=1)
    title = _caption(_label(face), row.shape[1], _color(face))
    return np.concatenate([title, row])


def _heat(attention: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map values to colors (H, W, 3) from black over red to bright yellow (inferno)."""
    large = cv2.resize(
        np.nan_to_num(attention), (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_LINEAR
    )
    shares = large / max(float(large.max()), np.finfo(np.float32).tiny)
    heat_bgr = cv2.applyColorMap(np.uint8(255 * shares.clip(0, 1)), cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(heat_bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _tile(text: str, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put a caption above the image, and a gap to the right of both."""
    column = np.concatenate([_caption(text, image_rgb.shape[1], _UNREADABLE_RGB), image_rgb])
    gap = np.full((len(column), _GAP_PX, 3), _BACKGROUND_RGB, np.uint8)
    return np.concatenate([column, gap], axis=1)


def _caption(text: str, width_px: int, color: tuple[int, int, int]) -> NDArray[np.uint8]:
    strip = np.full((_CAPTION_PX + _GAP_PX, width_px, 3), _BACKGROUND_RGB, np.uint8)
    _write(strip, text, 0, 0, _CAPTION_PX, color)
    return strip


def _draw_outline(annotated: NDArray[np.uint8], face: FaceEmotion, line_px: int) -> None:
    left, top, right, bottom = _pixels(face.box_xyxy)
    color = _color(face)
    cv2.rectangle(annotated, (left, top), (right - 1, bottom - 1), color, max(1, line_px // 8))
    radius_px = max(0, min((right - left) // 80, line_px // 4))  # of a small face, single pixels
    for x, y in _pixels(face.points_xy):
        cv2.circle(annotated, (x, y), radius_px, color, cv2.FILLED)


def _draw_label(annotated: NDArray[np.uint8], face: FaceEmotion, line_px: int) -> None:
    text = _label(face)
    if not face.emotion and _width_px(text, line_px) > annotated.shape[1]:
        text = text.partition(":")[0]  # the reason without its values
    width_px = _width_px(text, line_px)
    left, top = _pixels(face.box_xyxy)[:2]
    left, top = _fit_inside(left, width_px, annotated.shape[1]), _label_top(annotated, top, line_px)
    corner = (left + width_px - 1, top + line_px - 1)
    cv2.rectangle(annotated, (left, top), corner, _color(face), cv2.FILLED)
    _write(annotated, text, left, top, line_px, _BACKGROUND_RGB)


def _draw_bars(annotated: NDArray[np.uint8], face: FaceEmotion, line_px: int) -> None:
    """Draw a name and a bar per emotion, on the side of the box with more space."""
    if not face.emotion:
        return
    name_width_px = max(_width_px(name, line_px) for name in EMOTIONS)
    width_px, height_px = name_width_px + 4 * line_px, len(EMOTIONS) * line_px
    box_left, box_top, box_right, _ = _pixels(face.box_xyxy)
    left = box_right + 2
    if annotated.shape[1] - box_right < min(width_px, box_left):
        left = box_left - 2 - width_px
    left = _fit_inside(left, width_px, annotated.shape[1])
    top = _fit_inside(
        _label_top(annotated, box_top, line_px) + line_px, height_px, annotated.shape[0]
    )
    panel = annotated[top : top + height_px, left : left + width_px]
    panel[:] = panel // 3  # dark enough for text, while the image shows through
    for row, (name, share) in enumerate(zip(EMOTIONS, face.probabilities, strict=True)):
        y = top + row * line_px
        bar_left = left + name_width_px
        end = (bar_left + round(float(share) * 4 * line_px), y + line_px - 2)
        cv2.rectangle(annotated, (bar_left, y + 1), end, _COLORS_RGB[name], cv2.FILLED)
        _write(annotated, name, left, y, line_px, _COLORS_RGB[name])


def _label(face: FaceEmotion) -> str:
    if not face.emotion:
        return f"{face.id} {face.rejection_reason}"
    return f"{face.id} {face.emotion} {face.confidence:.0%}"


def _color(face: FaceEmotion) -> tuple[int, int, int]:
    return _COLORS_RGB[face.emotion] if face.emotion else _UNREADABLE_RGB


def _label_top(annotated: NDArray[np.uint8], box_top: int, line_px: int) -> int:
    """Top of the label: above the box, or inside it at the border of the image."""
    return _fit_inside(box_top - line_px, line_px, annotated.shape[0])


def _fit_inside(start: int, length: int, limit: int) -> int:
    """Nearest position to ``start`` at which ``length`` pixels fit into 0..``limit``."""
    return max(0, min(start, limit - length))


def _write(
    annotated: NDArray[np.uint8],
    text: str,
    left: int,
    top: int,
    line_px: int,
    color: tuple[int, int, int],
) -> None:
    foot = (left + line_px // 4, top + round(0.8 * line_px))
    cv2.putText(
        annotated, text, foot, _FONT, _scale(line_px), color, _stroke_px(line_px), cv2.LINE_AA
    )


def _width_px(text: str, line_px: int) -> int:
    size = cv2.getTextSize(text, _FONT, _scale(line_px), _stroke_px(line_px))[0]
    return int(size[0]) + line_px // 2


def _scale(line_px: int) -> float:
    return 0.6 * line_px / _FONT_HEIGHT_PX


def _stroke_px(line_px: int) -> int:
    return max(1, line_px // 16)


def _pixels(coordinates: NDArray[np.float32]) -> list:
    """Whole pixels as nested lists, limited to what OpenCV can draw."""
    near = np.nan_to_num(coordinates, nan=-_MAX_COORDINATE_PX).clip(
        -_MAX_COORDINATE_PX, _MAX_COORDINATE_PX
    )
    return np.round(near).astype(int).tolist()
