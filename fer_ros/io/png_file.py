"""Write PNG files."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.io.atomic_write import atomic_write
from fer_ros.io.json_file import add_path_to_oserror


def write_png(path: Path, image_rgb: NDArray[np.uint8]) -> None:
    """Write an image (H, W, 3) atomically. Raises OSError, which names the file.

    The file may have any name: OpenCV crashes at names that are not UTF-8.
    """
    _, data = cv2.imencode(".png", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    with add_path_to_oserror(path), atomic_write(path) as partial:
        partial.write_bytes(np.asarray(data).tobytes())
