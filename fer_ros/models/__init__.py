"""Network architectures by name: ``build_model(name, **config)``."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from fer_ros.models.baselines import ImageClassifier, TimmClassifier, Vgg13
from fer_ros.models.mobilefacenet import MobileFaceNet
from fer_ros.models.poster_v2 import PosterV2
from fer_ros.models.two_stream import TwoStream

__all__ = ["MODELS", "build_model"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "two_stream": TwoStream,
    "two_stream_small": partial(TwoStream, dims=(32, 64, 128), fusion_dim=192),
    "two_stream_no_landmarks": partial(TwoStream, landmark_queries=False),
    "image_classifier": ImageClassifier,
    "mobilefacenet": MobileFaceNet,
    "poster_v2": PosterV2,
    "vit_base": partial(TimmClassifier, "vit_base_patch16_224", 224),
    "vit_large": partial(TimmClassifier, "vit_large_patch16_224", 224),
    "swin_base": partial(TimmClassifier, "swin_base_patch4_window7_224", 224),
    "efficientnet_b0": partial(TimmClassifier, "tf_efficientnet_b0", 224),
    "vgg13": Vgg13,
}
"""Constructors by name; ``config`` of model.yaml holds their keyword arguments."""


def build_model(name: str, **config: Any) -> nn.Module:
    """Create a network with random weights. Raises ValueError for an unknown name or argument."""
    if name not in MODELS:
        raise ValueError(f"unknown architecture {name!r}; known: {', '.join(MODELS)}")
    try:
        return MODELS[name](**config)
    except TypeError as error:
        raise ValueError(f"architecture {name}: {error}") from None
