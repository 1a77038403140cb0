"""What a network costs, counted without computing anything: tensors of it have shapes only."""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fer_ros.model import build_model
from fer_ros.types import CROP_SIZE_PX


class Cost(NamedTuple):
    """``macs`` are multiply-accumulates for one picture of ``side_px``."""

    parameters: int
    macs: int
    side_px: int


def cost_of(architecture: str, **config: Any) -> Cost:
    """Of a network of MODELS. ValueError names an unknown one, or an unknown argument."""
    with torch.device("meta"):
        network = build_model(architecture, **config)
    return count(network, getattr(network, "side_px", CROP_SIZE_PX))


@torch.no_grad()
def count(network: nn.Module, side_px: int) -> Cost:
    """Of a network on the meta device that takes pictures (B, 3, side_px, side_px).

    Convolutions and matrix products are counted, which is nearly all that there is.
    """
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, side_px, side_px, device="meta"))
    parameters = sum(value.numel() for value in network.parameters())
    return Cost(parameters, counter.get_total_flops() // 2, side_px)
