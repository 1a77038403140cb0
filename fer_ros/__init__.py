"""Facial emotion recognition for robots: a library that does not need ROS.

For the frames of a video, in order: ``pipeline = EmotionPipeline()``, then
``pipeline(Frame(image_rgb, stamp_s)).faces``. For one image:
``EmotionPipeline(PipelineConfig().for_still_images())(Frame(image_rgb, 0.0)).faces``.

The names below are imported on first access: OpenCV and PyTorch take seconds.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Set before torch is imported: on a busy machine, threads that spin while they wait for each other
# turn milliseconds per frame into seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Set before OpenCV is imported: a file of 42 bytes can claim 30,000 x 30,000 pixels, 6 GB.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))
# Also before: errors about damaged files say the same as OpenCV's own lines on stderr.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

if TYPE_CHECKING:
    from fer_ros.config import PipelineConfig
    from fer_ros.emotions import EMOTIONS
    from fer_ros.models.checkpoint import load_model
    from fer_ros.pipeline import EmotionPipeline
    from fer_ros.types import (
        AlignedFaces,
        FaceDetections,
        FaceEmotion,
        Frame,
        FrameResult,
        TrackedFace,
    )

__all__ = [
    "EMOTIONS",
    "AlignedFaces",
    "EmotionPipeline",
    "FaceDetections",
    "FaceEmotion",
    "Frame",
    "FrameResult",
    "PipelineConfig",
    "TrackedFace",
    "load_model",
]

_MODULE_OF = {
    "EMOTIONS": "emotions",
    "AlignedFaces": "types",
    "EmotionPipeline": "pipeline",
    "FaceDetections": "types",
    "FaceEmotion": "types",
    "Frame": "types",
    "FrameResult": "types",
    "PipelineConfig": "config",
    "TrackedFace": "types",
    "load_model": "models.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
