"""The networks, each reachable by name: ``build_model(name, **config)``."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from fer_ros.model.baselines import Baseline, ImageClassifier, Vgg13
from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.model.poster_v2 import PosterV2
from fer_ros.model.two_stream import TwoStream

__all__ = ["MODELS", "build_model"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "two_stream": TwoStream,
    "two_stream_small": partial(TwoStream, dims=(32, 64, 128), fusion_dim=192),
    "two_stream_no_landmarks": partial(TwoStream, landmark_queries=False),
    "image_classifier": ImageClassifier,
    "mobilefacenet": MobileFaceNet,
    "poster_v2": PosterV2,
    "vit_base": partial(Baseline, "vit_base_patch16_224", 224),
    "vit_large": partial(Baseline, "vit_large_patch16_224", 224),
    "swin_base": partial(Baseline, "swin_base_patch4_window7_224", 224),
    "efficientnet_b0": partial(Baseline, "tf_efficientnet_b0", 224),
    "vgg13": Vgg13,
}
"""Constructors by name; their arguments are what ``config`` in model.yaml may hold."""


def build_model(name: str, **config: Any) -> nn.Module:
    """A network with fresh weights. ValueError names an unknown model or argument."""
    if name not in MODELS:
        raise ValueError(f"unknown architecture {name!r}; known: {', '.join(MODELS)}")
    try:
        return MODELS[name](**config)
    except TypeError as error:
        raise ValueError(f"architecture {name}: {error}") from None
