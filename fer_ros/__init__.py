"""Facial emotions for robots: a ROS-free library around a two-stream network.

``EmotionPipeline()(Frame(image_rgb, stamp_s)).faces`` is the shortest way from a picture to the
emotion that each of its faces shows.
"""

import os
from typing import Any

# Before torch starts: on a busy machine, threads that spin while they wait for each other turn the
# milliseconds of a frame into seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before OpenCV is loaded: a file of 42 bytes that claims 30,000 x 30,000 pixels would take 6 GB.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))

from fer_ros.config import PipelineConfig
from fer_ros.labels import EMOTIONS
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


def __getattr__(name: str) -> Any:
    if name == "load_model":  # torch takes seconds to import: only for those who ask for a network
        from fer_ros.model.checkpoint import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
