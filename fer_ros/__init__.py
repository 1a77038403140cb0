"""Facial emotions for robots: a ROS-free library around a two-stream network.

``EmotionPipeline()(Frame(image_rgb, stamp_s)).faces`` is the shortest way from a picture to the
emotion that each of its faces shows.

The names below are imported when they are asked for: OpenCV and PyTorch take seconds.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before torch starts: on a busy machine, threads that spin while they wait for each other turn the
# milliseconds of a frame into seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before OpenCV is loaded: a file of 42 bytes that claims 30,000 x 30,000 pixels would take 6 GB.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))

if TYPE_CHECKING:
    from fer_ros.config import PipelineConfig
    from fer_ros.labels import EMOTIONS
    from fer_ros.model.checkpoint import load_model
    from fer_ros.pipeline import EmotionPipeline
    from fer_ros.types import (
        AlignedFaces,
        FaceBoxes,
        FaceEmotion,
        Frame,
        FrameEmotions,
        TrackedFace,
    )

__all__ = [
    "EMOTIONS",
    "AlignedFaces",
    "EmotionPipeline",
    "FaceBoxes",
    "FaceEmotion",
    "Frame",
    "FrameEmotions",
    "PipelineConfig",
    "TrackedFace",
    "load_model",
]

_MODULE_OF = {
    "EMOTIONS": "labels",
    "AlignedFaces": "types",
    "EmotionPipeline": "pipeline",
    "FaceBoxes": "types",
    "FaceEmotion": "types",
    "Frame": "types",
    "FrameEmotions": "types",
    "PipelineConfig": "config",
    "TrackedFace": "types",
    "load_model": "model.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
