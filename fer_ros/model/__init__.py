"""The networks, each reachable by name: ``build_model(name, **config)``."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.model.two_stream import TwoStream

__all__ = ["MODELS", "build_model"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "two_stream": TwoStream,
    "two_stream_small": partial(TwoStream, dims=(32, 64, 128), fusion_dim=192),
    "two_stream_no_landmarks": partial(TwoStream, landmark_queries=False),
    "mobilefacenet": MobileFaceNet,
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
