"""Values that travel from stage to stage, validated on construction.

Conventions of the whole library:

* images are RGB, uint8, ``(H, W, 3)``;
* boxes are ``xyxy`` in float32 pixels of the frame, origin top left;
* points are ``(x, y)`` in frame pixels (crop pixels only between a transform to the crop, such as
  ``align``, and ``crop_to_frame``);
  68 points follow iBUG-68; 5 points are the eye on the left of the image, the eye on the right, the
  nose tip, the mouth corner on the left, the mouth corner on the right;
* times are seconds of the image stamp;
* "no face" is an empty array or list, never None.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from fer_ros.blendshapes import NUM_BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.stream_clock import StreamEvent

CROP_SIZE_PX = 112
"""Side of the aligned crop, the input of every network."""

TEMPLATE_XY: NDArray[np.float32] = np.array(
    [(38.0, 40.0), (74.0, 40.0), (56.0, 60.5), (41.0, 81.5), (71.0, 81.5)], np.float32
)
"""The five alignment points in the crop, in pixels: eyes, nose tip, mouth corners."""


def _check_array(name: str, array: NDArray, shape: tuple[int | None, ...], dtype: type) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected an array, found {type(array).__name__}")
    fits = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        expected = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(
            f"{name}: expected shape ({expected}) of {np.dtype(dtype).name}, "
            f"found {array.shape} of {array.dtype}"
        )


def _check_seconds(name: str, value: float) -> None:
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected seconds, found {type(value).__name__}")


@dataclass(frozen=True, eq=False)
class Frame:
    """An image of a stream: ``image_rgb`` (H, W, 3) uint8, taken at ``stamp_s``.

    ``arrival_s`` is when it was received, by any clock. Where it is given, a ``stamp_s`` of 0 or
    less counts as missing and is estimated from it.
    """

    image_rgb: NDArray[np.uint8]
    stamp_s: float
    arrival_s: float | None = None

    def __post_init__(self) -> None:
        _check_array("image_rgb", self.image_rgb, (None, None, 3), np.uint8)
        if self.image_rgb.size == 0:
            raise ValueError(f"image_rgb: the image is empty, shape {self.image_rgb.shape}")
        _check_seconds("stamp_s", self.stamp_s)
        if self.arrival_s is not None:
            _check_seconds("arrival_s", self.arrival_s)
        if not math.isfinite(self.stamp_s):
            raise ValueError(f"stamp_s: expected finite seconds, found {self.stamp_s}")


@dataclass(frozen=True, eq=False)
class FaceDetections:
    """Detections of one frame: boxes (N, 4), scores (N,) in 0..1, five points (N, 5, 2)."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    points_xy: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        _check_array("boxes_xyxy", self.boxes_xyxy, (None, 4), np.float32)
        _check_array("scores", self.scores, (count,), np.float32)
        _check_array("points_xy", self.points_xy, (count, 5, 2), np.float32)

    @classmethod
    def empty(cls) -> "FaceDetections":
        """Return detections without a face."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        )

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A detection with an id that stays the same from frame to frame.

    ``box_xyxy`` (4,), ``points_xy`` (5, 2) and ``score`` in 0..1 are those of the current frame.
    """

    id: str
    box_xyxy: NDArray[np.float32]
    points_xy: NDArray[np.float32]
    score: float

    def __post_init__(self) -> None:
        _check_array("box_xyxy", self.box_xyxy, (4,), np.float32)
        _check_array("points_xy", self.points_xy, (5, 2), np.float32)


@dataclass(frozen=True, eq=False)
class AlignedFaces:
    """Aligned crops (N, 112, 112, 3) uint8 RGB and the maps (N, 2, 3) from frame to crop pixels."""

    crops_rgb: NDArray[np.uint8]
    frame_to_crop: NDArray[np.float32]

    def __post_init__(self) -> None:
        side = CROP_SIZE_PX
        _check_array("crops_rgb", self.crops_rgb, (None, side, side, 3), np.uint8)
        _check_array("frame_to_crop", self.frame_to_crop, (len(self.crops_rgb), 2, 3), np.float32)

    def __len__(self) -> int:
        return len(self.crops_rgb)


@dataclass(frozen=True, eq=False)
class FacePredictions:
    """Network outputs for N crops, in the order of the crops.

    ``points_xy`` (N, 68, 2) in crop pixels, NaN from networks without landmarks; ``probabilities``
    (N, 8) in the order of EMOTIONS; ``blendshapes`` (N, 52) in 0..1, None from networks without
    that head.
    """

    points_xy: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    blendshapes: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        count = len(self.points_xy)
        _check_array("points_xy", self.points_xy, (None, NUM_LANDMARKS, 2), np.float32)
        _check_array("probabilities", self.probabilities, (count, len(EMOTIONS)), np.float32)
        if self.blendshapes is not None:
            _check_array("blendshapes", self.blendshapes, (count, NUM_BLENDSHAPES), np.float32)

    def __len__(self) -> int:
        return len(self.points_xy)

    def __getitem__(self, index: slice) -> "FacePredictions":
        blendshapes = None if self.blendshapes is None else self.blendshapes[index]
        return FacePredictions(self.points_xy[index], self.probabilities[index], blendshapes)

    def blendshapes_of(self, row: int) -> NDArray[np.float32] | None:
        """Blendshapes (52,) of one crop."""
        return None if self.blendshapes is None else self.blendshapes[row]

    @classmethod
    def concatenate(cls, batches: "Sequence[FacePredictions]") -> "FacePredictions":
        """Join one or more batches of the same network."""
        if len(batches) == 1:
            return batches[0]
        blendshapes = [batch.blendshapes for batch in batches if batch.blendshapes is not None]
        return cls(
            np.concatenate([batch.points_xy for batch in batches]),
            np.concatenate([batch.probabilities for batch in batches]),
            np.concatenate(blendshapes) if len(blendshapes) == len(batches) else None,
        )


@dataclass(frozen=True, eq=False)
class FaceEmotion:
    """Emotion of one face of one frame.

    ``box_xyxy`` (4,) and ``points_xy`` (68, 2) in frame pixels, ``score`` of the detector in 0..1.
    ``probabilities`` (8,) in the order of EMOTIONS, smoothed over time; ``raw_probabilities`` (8,)
    of this frame alone. ``emotion`` is the label, after hysteresis. A face that
    fails the quality gate has ``is_readable`` False, a ``rejection_reason`` and no emotion; its
    probabilities mean nothing. One that was rejected before the network has ``is_classified``
    False, and its points and probabilities are NaN. ``blendshapes`` (52,) in 0..1 of this frame
    alone, in the order of ``fer_ros.blendshapes``; None from models without them.
    """

    id: str
    box_xyxy: NDArray[np.float32]
    score: float
    points_xy: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    raw_probabilities: NDArray[np.float32]
    emotion: str | None
    is_readable: bool = True
    rejection_reason: str = ""
    is_classified: bool = True
    blendshapes: NDArray[np.float32] | None = None

    @property
    def confidence(self) -> float:
        """Smoothed probability of ``emotion``, 0..1; 0 without an emotion."""
        return float(self.probabilities[EMOTIONS.index(self.emotion)]) if self.emotion else 0.0

    def __post_init__(self) -> None:
        _check_array("box_xyxy", self.box_xyxy, (4,), np.float32)
        _check_array("points_xy", self.points_xy, (NUM_LANDMARKS, 2), np.float32)
        _check_array("probabilities", self.probabilities, (len(EMOTIONS),), np.float32)
        _check_array("raw_probabilities", self.raw_probabilities, (len(EMOTIONS),), np.float32)
        if self.blendshapes is not None:
            _check_array("blendshapes", self.blendshapes, (NUM_BLENDSHAPES,), np.float32)
        if self.is_readable != (self.emotion is not None):
            raise ValueError(
                f"face {self.id}: is_readable is {self.is_readable} but emotion is {self.emotion}"
            )
        if self.emotion is not None and self.emotion not in EMOTIONS:
            raise ValueError(f"face {self.id}: unknown emotion {self.emotion!r}")


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The faces of one frame, best detection score first, and the latency of every stage.

    ``stamp_s`` is the stamp of the frame, or an estimate where ``stamp_is_estimated``.
    ``latency_ms`` maps each stage of the pipeline, in order, to its wall-clock milliseconds.
    ``stream_event``: whether the frame continues the stream of the previous one.
    """

    stamp_s: float
    faces: list[FaceEmotion]
    latency_ms: dict[str, float]
    stream_event: StreamEvent = StreamEvent.NEXT
    stamp_is_estimated: bool = False


@dataclass(frozen=True)
class FrameFailure:
    """A frame that could not be processed; ``error`` is one line."""

    stamp_s: float
    error: str
