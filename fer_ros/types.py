"""What travels from stage to stage, checked on birth.

Conventions, everywhere in the library:

* images are RGB, uint8, ``(H, W, 3)``;
* boxes are ``xyxy`` in float32 pixels of the frame, origin top left;
* points are ``(x, y)`` in frame pixels (crop pixels only inside ``align`` and ``classify``);
  68 points follow iBUG-68, 5 points are the eye on the left of the picture, the eye on the right,
  the nose tip, the mouth corner on the left, the mouth corner on the right;
* times are seconds of the image stamp, never wall clock;
* "no face" is an empty array or list, never None.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_ros.labels import EMOTIONS

CROP_SIZE_PX = 112
"""Side of the aligned crop that every network sees."""


def _check(name: str, array: NDArray, shape: tuple[int | None, ...], dtype: type) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected an array, got {type(array).__name__}")
    fits = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(
            f"{name}: expected shape ({wanted}) of {np.dtype(dtype).name}, "
            f"got {array.shape} of {array.dtype}"
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera picture: ``image_rgb`` (H, W, 3) uint8, taken at ``stamp_s``."""

    image_rgb: NDArray[np.uint8]
    stamp_s: float

    def __post_init__(self) -> None:
        _check("image_rgb", self.image_rgb, (None, None, 3), np.uint8)
        if self.image_rgb.size == 0:
            raise ValueError(f"image_rgb: the image is empty, shape {self.image_rgb.shape}")


@dataclass(frozen=True, eq=False)
class FaceBoxes:
    """Detections of one frame: boxes (N, 4), scores (N,) in 0..1, five points (N, 5, 2)."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    points_xy: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        _check("boxes_xyxy", self.boxes_xyxy, (None, 4), np.float32)
        _check("scores", self.scores, (count,), np.float32)
        _check("points_xy", self.points_xy, (count, 5, 2), np.float32)

    @classmethod
    def empty(cls) -> "FaceBoxes":
        """No face."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        )

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face that has a name: ``id`` stays the same from frame to frame.

    ``box_xyxy`` (4,), ``points_xy`` (5, 2), ``score`` in 0..1 are those of the current frame.
    """

    id: str
    box_xyxy: NDArray[np.float32]
    points_xy: NDArray[np.float32]
    score: float

    def __post_init__(self) -> None:
        _check("box_xyxy", self.box_xyxy, (4,), np.float32)
        _check("points_xy", self.points_xy, (5, 2), np.float32)


@dataclass(frozen=True, eq=False)
class AlignedFaces:
    """Aligned crops (N, 112, 112, 3) uint8 RGB and the maps (N, 2, 3) from frame to crop pixels."""

    crops_rgb: NDArray[np.uint8]
    frame_to_crop: NDArray[np.float32]

    def __post_init__(self) -> None:
        side = CROP_SIZE_PX
        _check("crops_rgb", self.crops_rgb, (None, side, side, 3), np.uint8)
        _check("frame_to_crop", self.frame_to_crop, (len(self.crops_rgb), 2, 3), np.float32)

    def __len__(self) -> int:
        return len(self.crops_rgb)


@dataclass(frozen=True, eq=False)
class FaceEmotion:
    """What one face of one frame shows.

    ``box_xyxy`` (4,) and ``points_xy`` (68, 2) in frame pixels, ``score`` of the detector in 0..1.
    ``probabilities`` (8,) in the order of EMOTIONS, smoothed over time; ``raw_probabilities`` (8,)
    of this frame alone. ``emotion`` is the stable label after hysteresis. An unusable face has
    ``usable`` False, ``why`` in words, no emotion, and its probabilities mean nothing.
    """

    id: str
    box_xyxy: NDArray[np.float32]
    score: float
    points_xy: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    raw_probabilities: NDArray[np.float32]
    emotion: str | None
    usable: bool = True
    why: str = ""

    def __post_init__(self) -> None:
        _check("box_xyxy", self.box_xyxy, (4,), np.float32)
        _check("points_xy", self.points_xy, (68, 2), np.float32)
        _check("probabilities", self.probabilities, (len(EMOTIONS),), np.float32)
        _check("raw_probabilities", self.raw_probabilities, (len(EMOTIONS),), np.float32)
        if self.usable != (self.emotion is not None):
            raise ValueError(f"face {self.id}: usable is {self.usable} but emotion {self.emotion}")
        if self.emotion is not None and self.emotion not in EMOTIONS:
            raise ValueError(f"face {self.id}: unknown emotion {self.emotion!r}")


@dataclass(frozen=True, eq=False)
class FrameEmotions:
    """The faces of one frame, best detection score first, and where the time went.

    ``latency_ms`` maps each stage of the pipeline, in order, to its wall-clock milliseconds.
    """

    stamp_s: float
    faces: list[FaceEmotion]
    latency_ms: dict[str, float]
