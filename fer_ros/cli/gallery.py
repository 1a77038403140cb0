"""A folder of PNG files about pictures and videos."""

import errno
import itertools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.media import MediaImage, is_video


class Gallery:
    """Makes the folder. Raises OSError when it or a file cannot be written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._seen: set[tuple[str, int]] = set()
        self._names: set[str] = set()

    def wants(self, image: MediaImage) -> bool:
        """A picture, or the first frame in each second of a video; each is wanted once."""
        moment = (image.name, int(image.stamp_s))
        wanted = moment not in self._seen
        self._seen.add(moment)
        return wanted

    def add(self, image: MediaImage, kind: str, drawn_rgb: NDArray[np.uint8]) -> None:
        """Stores what was drawn (H, W, 3) about an image, under its name and ``kind``."""
        source = Path(image.name)
        moment = f"_{int(image.stamp_s):05d}s" if is_video(source) else ""
        path = self._folder / self._free_name(f"{source.stem}{moment}_{kind}")
        if not cv2.imwrite(str(path), cv2.cvtColor(drawn_rgb, cv2.COLOR_RGB2BGR)):
            raise OSError(errno.EIO, "the picture cannot be written", str(path))

    def _free_name(self, stem: str) -> str:
        """Pictures of the same name from two folders must not overwrite each other."""
        numbers = itertools.count(2)
        name = stem
        while name in self._names:
            name = f"{stem}_{next(numbers)}"
        self._names.add(name)
        return f"{name}.png"
