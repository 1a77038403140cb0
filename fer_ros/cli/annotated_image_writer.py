"""Write annotated images of image files and videos to a folder."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.io.media import MediaImage, is_video
from fer_ros.io.png_file import write_png


class AnnotatedImageWriter:
    """Writes PNG files. Raises OSError when the folder or a file cannot be written.

    ``sources`` are the analyzed files, which are never overwritten.
    """

    def __init__(self, folder: Path, sources: Iterable[Path]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._selected: set[tuple[str, int]] = set()
        self._names: set[str] = set()
        self._sources = {_identity(source) for source in sources}

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
        write_png(self._free_path(f"{source.stem}{second}_{kind}"), annotated_rgb)

    def _free_path(self, stem: str) -> Path:
        """Number files of the same name from different folders."""
        numbers = itertools.count(2)
        name = stem
        while name in self._names or self._is_source(self._folder / f"{name}.png"):
            name = f"{stem}_{next(numbers)}"
        self._names.add(name)
        return self._folder / f"{name}.png"

    def _is_source(self, path: Path) -> bool:
        return path.exists() and _identity(path) in self._sources


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
