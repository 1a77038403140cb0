"""Frames of a camera, made of background images and of portraits.

scikit-image has the background images and a portrait of E. Collins, Matplotlib one of G. Hopper;
both portraits are in the public domain.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.io.image_decoding import decode_image_file

_NOISE = 2.0  # standard deviation of the camera's noise, in gray levels
_PORTRAIT_BOXES = ((184.5, 63.0, 268.5, 174.5), (183.5, 119.5, 362.0, 338.0))
_TEXTURES = ("brick", "chelsea", "coffee", "grass", "gravel", "motorcycle_left", "rocket")


def textured_frame(random: np.random.Generator, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A part of a background image, without people (H, W, 3)."""
    import skimage.data

    name = _TEXTURES[random.integers(len(_TEXTURES))]
    folder = Path(skimage.data.__file__).parent
    path = next(path for path in folder.glob(f"{name}.*") if path.suffix in {".png", ".jpg"})
    photograph = decode_image_file(path.read_bytes())
    width, height = size_wh
    scale = max(width / photograph.shape[1], height / photograph.shape[0]) * random.uniform(
        1.0, 1.3
    )
    size = (
        max(width, round(photograph.shape[1] * scale)),
        max(height, round(photograph.shape[0] * scale)),
    )
    large = cv2.resize(
        photograph, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    x = random.integers(large.shape[1] - width + 1)
    y = random.integers(large.shape[0] - height + 1)
    return np.ascontiguousarray(large[y : y + height, x : x + width])


def add_portrait(
    background_rgb: NDArray[np.uint8], face_px: int, random: np.random.Generator, number: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The frame with a portrait whose face has this height, and the face's box (4,)."""
    portrait, box = _portrait(number)
    scale = face_px / (box[3] - box[1])
    if scale < 1:  # warpAffine skips pixels
        portrait = cv2.GaussianBlur(portrait, (0, 0), 0.35 / scale)
    height, width = background_rgb.shape[:2]
    half = scale * (box[2:] - box[:2]) / 2
    low, high = (
        np.minimum(half, [width / 2, height / 2]),
        np.maximum([width - half[0], height - half[1]], [width / 2, height / 2]),
    )
    center = random.uniform(low, high)
    shift = center - scale * (box[:2] + box[2:]) / 2
    to_frame = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    frame = background_rgb.copy()
    cv2.warpAffine(
        portrait, to_frame, (width, height), dst=frame, borderMode=cv2.BORDER_TRANSPARENT
    )
    return frame, np.concatenate([center - half, center + half]).astype(np.float32)


def _portrait(number: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Collins or Hopper, every second time mirrored, and the box of the face."""
    from matplotlib.cbook import get_sample_data
    from skimage.data import astronaut

    if number % 2:
        path = get_sample_data("grace_hopper.jpg", asfileobj=False)
        portrait = decode_image_file(Path(str(path)).read_bytes())
    else:
        portrait = np.asarray(astronaut(), np.uint8)
    box = np.array(_PORTRAIT_BOXES[number % 2])
    if number // 2 % 2:
        portrait = np.ascontiguousarray(portrait[:, ::-1])
        box = np.array([portrait.shape[1] - box[2], box[1], portrait.shape[1] - box[0], box[3]])
    return portrait, box


def add_noise(image_rgb: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The image with noise, the same pattern for all rows of a block, which is fast enough."""
    noise = random.normal(0, _NOISE, (64, image_rgb.shape[1], 3)).astype(np.int16)
    rows = np.resize(noise, image_rgb.shape)
    return np.asarray(cv2.add(image_rgb, rows, dtype=cv2.CV_8U), np.uint8)
