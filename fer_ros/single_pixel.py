"""Images of one pixel, which OpenCV 4.5.4 (Ubuntu 22.04) refuses when they have colors."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Sample = TypeVar("_Sample", np.uint8, np.uint16)


def widen_single_pixel(image: NDArray[_Sample]) -> NDArray[_Sample]:
    """Return an image (H, W, 3) as it is, but one of 1x1 with its pixel twice (1, 2, 3)."""
    return np.repeat(image, 2, axis=1) if image.shape == (1, 1, 3) else image
