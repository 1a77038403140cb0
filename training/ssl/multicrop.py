"""Multi-crop: several augmented views of larger and smaller parts of a face (SwAV, 2020)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fer_ros.config import config_field
from training.augment import (
    AugmentConfig,
    RandomDraws,
    photometric_augment,
    random_affines,
    sample_crops,
)


@dataclass(frozen=True)
class ViewConfig(AugmentConfig):
    """Strength of the augmentation of views."""

    rotate_deg: float = config_field(15.0, "to either side", 0.0, 15.0)
    blur: float = config_field(0.5, "probability of a Gaussian blur", 0.0, 1.0)
    jpeg: float = config_field(0.0, "probability of JPEG artifacts", 0.0, 1.0)
    erase: float = config_field(0.0, "probability of a covered rectangle", 0.0, 1.0)
    mixup: float = config_field(0.0, "always off: there are no labels", 0.0, 0.0)
    cutmix: float = config_field(0.0, "always off: there are no labels", 0.0, 0.0)
    area: float = config_field(0.5, "smallest fraction of the crop in a global view", 0.05, 1.0)


class ViewSpec(NamedTuple):
    """A kind of view: its side, and the range of the fraction of the crop in it."""

    side_px: int
    min_area: float
    max_area: float


def make_view(
    padded_crops: Tensor, draws: RandomDraws, spec: ViewSpec, config: ViewConfig
) -> Tensor:
    """Views (B, 1, side_px, side_px) in 0..1 of padded crops (B, side, side) uint8."""
    maps, _ = random_affines(draws, config)
    maps = compose(maps, random_crop_affines(draws, spec))
    return photometric_augment(sample_crops(padded_crops, maps, spec.side_px), draws, config)


def random_crop_affines(draws: RandomDraws, spec: ViewSpec) -> Tensor:
    """Maps (B, 2, 3) from a square part of the crop to the crop, in units of half its side."""
    side = draws.uniform(spec.min_area, spec.max_area).sqrt()
    x, y = ((1 - side) * draws.uniform(-1.0, 1.0) for _ in range(2))
    zero = torch.zeros_like(side)
    return torch.stack([side, zero, x, zero, side, y], dim=1).view(-1, 2, 3)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The maps (B, 2, 3) that do ``inner`` first and then ``outer``."""
    joined = outer[:, :, :2] @ inner
    joined[:, :, 2] += outer[:, :, 2]
    return joined
