"""Several views of each face, of larger and smaller parts of it (Caron et al., SwAV, 2020).

Each view is another one of ``training.augment``, cut to a part of the crop.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fer_ros.config import setting
from training.augment import AugmentConfig, Draws, degrade, random_maps, view

NUMBERS = Draws.COUNT + 3
"""How many numbers in 0..1 a view is made from."""


@dataclass(frozen=True)
class ViewConfig(AugmentConfig):
    """How far views stray. None is upside down: the network is for upright faces."""

    rotate_deg: float = setting(15.0, "to either side", 0.0, 15.0)
    blur: float = setting(0.5, "probability of a Gaussian blur", 0.0, 1.0)
    jpeg: float = setting(0.0, "probability of JPEG's traces, which are made one by one", 0.0, 1.0)
    erase: float = setting(0.0, "probability of a covered rectangle", 0.0, 1.0)
    mixup: float = setting(0.0, "always off: there are no labels", 0.0, 0.0)
    cutmix: float = setting(0.0, "always off: there are no labels", 0.0, 0.0)
    area: float = setting(0.5, "smallest share of the crop that a large view shows", 0.05, 1.0)


class Shot(NamedTuple):
    """A kind of view: its side, and the range of the share of the crop that it shows."""

    side_px: int
    smallest: float
    largest: float


def make_view(canvases: Tensor, numbers: Tensor, shot: Shot, config: ViewConfig) -> Tensor:
    """Views (B, 1, side_px, side_px) in 0..1 of canvases (B, side, side) uint8.

    ``numbers`` (B, NUMBERS) in 0..1, on the CPU: the same ones give the same views.
    """
    draws = Draws(numbers)
    maps, _ = random_maps(draws, config)
    maps = inside(maps, random_parts(draws, shot))
    return degrade(view(canvases, maps, shot.side_px), draws, config)


def random_parts(draws: Draws, shot: Shot) -> Tensor:
    """Maps (B, 2, 3) from a square part of the crop to the crop, in units of half its side."""
    side = draws.uniform(shot.smallest, shot.largest).sqrt()
    x, y = ((1 - side) * draws.uniform(-1.0, 1.0) for _ in range(2))
    zero = torch.zeros_like(side)
    return torch.stack([side, zero, x, zero, side, y], dim=1).view(-1, 2, 3)


def inside(outer: Tensor, inner: Tensor) -> Tensor:
    """The maps (B, 2, 3) that do ``inner`` first and then ``outer``."""
    joined = outer[:, :, :2] @ inner
    joined[:, :, 2] += outer[:, :, 2]
    return joined
