"""Parameter and multiply-accumulate counts, computed on the meta device without data."""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fer_ros.models import build_model
from fer_ros.types import CROP_SIZE_PX


class ModelComplexity(NamedTuple):
    """``macs``: multiply-accumulates for one image of ``side_px``."""

    parameters: int
    macs: int
    side_px: int


def complexity_of(architecture: str, **config: Any) -> ModelComplexity:
    """Complexity of a network of MODELS. Raises ValueError for an unknown name or argument."""
    with torch.device("meta"):
        network = build_model(architecture, **config)
    return measure_complexity(network, getattr(network, "side_px", CROP_SIZE_PX))


@torch.no_grad()
def measure_complexity(network: nn.Module, side_px: int) -> ModelComplexity:
    """Complexity of a network on the meta device that takes images (B, 3, side_px, side_px).

    Only convolutions and matrix products are counted; the other operations are negligible.
    """
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, side_px, side_px, device="meta"))
    parameters = sum(value.numel() for value in network.parameters())
    return ModelComplexity(parameters, counter.get_total_flops() // 2, side_px)
