"""Write annotated images of image files and videos to a folder."""

import errno
import itertools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.io.media import MediaImage, is_video


class AnnotatedImageWriter:
    """Writes PNG files. Raises OSError when the folder or a file cannot be written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._selected: set[tuple[str, int]] = set()
        self._names: set[str] = set()

    def select(self, image: MediaImage) -> bool:
        """Whether to write this image: an image file, or the first frame of each video second."""
        key = (image.name, int(image.stamp_s))
        is_new = key not in self._selected
        self._selected.add(key)
        return is_new

    def write(self, image: MediaImage, kind: str, annotated_rgb: NDArray[np.uint8]) -> None:
        """Write the annotated image (H, W, 3) under the name of its source and ``kind``."""
        source = Path(image.name)
        second = f"_{int(image.stamp_s):05d}s" if is_video(source) else ""
        path = self._folder / self._free_name(f"{source.stem}{second}_{kind}")
        if not cv2.imwrite(str(path), cv2.cvtColor(annotated_rgb, cv2.COLOR_RGB2BGR)):
            raise OSError(errno.EIO, "the image cannot be written", str(path))

    def _free_name(self, stem: str) -> str:
        """Number files of the same name from different folders."""
        numbers = itertools.count(2)
        name = stem
        while name in self._names:
            name = f"{stem}_{next(numbers)}"
        self._names.add(name)
        return f"{name}.png"
