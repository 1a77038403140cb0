"""Synthetic video around one real face, for demonstrations and tests.

A public-domain portrait (astronaut Eileen Collins, NASA; part of scikit-image) moves through the
image twice, the second time mirrored, and changes its size on the way. There is no face before,
between and after the two passes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.io.media import MediaError, MediaImage

SIZE_WH = (640, 480)
FPS = 15.0
COUNT = 150

_SCENES_S = ((0.5, 4.5, False), (5.5, 9.5, True))  # begin, end, mirrored
_HEAD_XYXY = (126, 20, 326, 220)
_TILES_PER_ROW = 5
_FACE_XYXY = np.array([182, 58, 270, 178], np.float64)  # in the portrait


class SyntheticFace(NamedTuple):
    """Box (4,) in pixels, also outside the frame, and the visible fraction of the face, 0..1."""

    box_xyxy: NDArray[np.float32]
    visible: float


def synthetic_frames() -> Iterator[MediaImage]:
    """Return the 150 frames of 640x480 at 15 frames/s.

    Raises MediaError immediately when scikit-image is not installed.
    """
    portrait_rgb = _portrait()
    return (_frame(portrait_rgb, number) for number in range(COUNT))


def synthetic_face(number: int) -> SyntheticFace | None:
    """Return the face of the frame ``number``; None while the portrait is not in the image."""
    transform = _face_transform(number / FPS)
    if transform is None:
        return None
    corners = _FACE_XYXY.reshape(2, 2) @ transform[:, :2].T + transform[:, 2]
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    inside = box.clip(0, [*SIZE_WH, *SIZE_WH])
    share = np.prod(inside[2:] - inside[:2]) / np.prod(box[2:] - box[:2])
    return SyntheticFace(box.astype(np.float32), float(share))


def tiled_faces(count: int, size_wh: tuple[int, int] = SIZE_WH) -> NDArray[np.uint8]:
    """Return a frame (H, W, 3) that shows the head ``count`` times, up to 10, in two rows.

    Raises MediaError as ``synthetic_frames`` does.
    """
    left, top, right, bottom = _HEAD_XYXY
    width, height = size_wh
    side = width // _TILES_PER_ROW
    head_rgb = cv2.resize(
        _portrait()[top:bottom, left:right], (side, side), interpolation=cv2.INTER_AREA
    )
    image_rgb = np.full((height, width, 3), 120, np.uint8)
    for place in range(count):
        row, column = divmod(place, _TILES_PER_ROW)
        y, x = row * height // 2, column * side
        image_rgb[y : y + side, x : x + side] = head_rgb
    return image_rgb


def _portrait() -> NDArray[np.uint8]:
    try:
        from skimage.data import astronaut
    except ImportError:
        raise MediaError(
            "sample: the portrait comes with scikit-image, which is not installed: "
            "pip install scikit-image, or choose another camera"
        ) from None
    return np.asarray(astronaut(), np.uint8)


def _frame(portrait_rgb: NDArray[np.uint8], number: int) -> MediaImage:
    image_rgb = _background()
    transform = _face_transform(number / FPS)
    if transform is not None:
        cv2.warpAffine(
            portrait_rgb,
            transform,
            SIZE_WH,
            dst=image_rgb,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    return MediaImage("sample", number / FPS, image_rgb)


def _background() -> NDArray[np.uint8]:
    """A wall that is darker towards the bottom."""
    width, height = SIZE_WH
    shade = np.linspace(150, 90, height).astype(np.uint8)
    return np.repeat(shade, width * 3).reshape(height, width, 3)


def _face_transform(stamp_s: float) -> NDArray[np.float64] | None:
    """Transform (2, 3) from portrait to frame pixels; None when there is no face.

    The center of the face enters on one side, slows down and leaves on the other.
    """
    for begin_s, end_s, mirrored in _SCENES_S:
        if begin_s <= stamp_s < end_s:
            progress = 2 * (stamp_s - begin_s) / (end_s - begin_s) - 1  # -1..1
            scale = 0.75 + 0.35 * np.cos(progress * np.pi / 2)
            to_x = SIZE_WH[0] / 2 + 400 * (0.4 * progress + 0.6 * progress**3)
            to_y = SIZE_WH[1] / 2 - 40 + 25 * np.sin(progress * np.pi)
            from_x, from_y = (_FACE_XYXY[:2] + _FACE_XYXY[2:]) / 2
            scale_x = -scale if mirrored else scale
            return np.array(
                [[scale_x, 0, to_x - scale_x * from_x], [0, scale, to_y - scale * from_y]]
            )
    return None
