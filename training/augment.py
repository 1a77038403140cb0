"""Augmentation of aligned faces, for a whole batch at once and on its device.

The input is padded crops: the aligned crop with a margin of the image around it, so that rotated
and shifted views need no fill color. Each image has an affine map that gives its view and moves its
landmarks; mirrored views swap the left and right landmarks.

``RandomDraws`` makes all choices but the noise and the mixing of images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp
from torchvision.transforms.v2 import functional as V  # noqa: N812

from fer_ros.config import ValidatedConfig, config_field
from fer_ros.landmarks68 import FLIP
from fer_ros.types import CROP_SIZE_PX
from training.jpeg import jpeg_artifacts

_LOW_SIDES_PX = (24, 32, 40, 48, 64)  # of images with reduced resolution
_BLURS_PX = (0.6, 1.0, 1.6)  # standard deviations
_BLUR_SIDE_PX = 9
_QUALITIES = (30, 50, 70)  # of JPEG
_MAX_NOISE_STD = 0.06


@dataclass(frozen=True)
class AugmentConfig(ValidatedConfig):
    """Strength of the augmentation; probabilities are per image."""

    rotate_deg: float = config_field(12.0, "maximum rotation to either side, degrees", 0.0, 180.0)
    scale: float = config_field(0.12, "fraction by which faces grow and shrink", 0.0, 0.5)
    shift: float = config_field(0.06, "fraction of the crop's side, in both directions", 0.0, 0.5)
    contrast: float = config_field(0.35, "fraction by which the contrast changes", 0.0, 1.0)
    brightness: float = config_field(0.25, "largest change of the brightness; white is 1", 0.0, 1.0)
    blur: float = config_field(0.1, "probability of a Gaussian blur", 0.0, 1.0)
    jpeg: float = config_field(0.1, "probability of JPEG artifacts", 0.0, 1.0)
    low_resolution: float = config_field(0.25, "probability of reduced resolution", 0.0, 1.0)
    noise: float = config_field(0.3, "probability of noise", 0.0, 1.0)
    erase: float = config_field(0.25, "probability of a covered rectangle", 0.0, 1.0)
    mixup: float = config_field(0.0, "alpha of Mixup (Zhang et al., 2018); 0: off", 0.0, 10.0)
    cutmix: float = config_field(0.0, "alpha of CutMix (Yun et al., 2019); 0: off", 0.0, 10.0)


NO_AUGMENT = AugmentConfig(**{field.name: 0.0 for field in fields(AugmentConfig)})


class RandomDraws:
    """Random choices for the images of a batch; each takes the next column (B,) of numbers in 0..1.

    Columns on the CPU are best on a GPU too: which images an operation changes is then known
    without waiting for it.
    """

    def __init__(self, columns: Iterator[Tensor]) -> None:
        self._columns = columns

    @classmethod
    def generated(
        cls, generator: torch.Generator, batch_size: int, own: slice = slice(None)
    ) -> "RandomDraws":
        """Numbers of ``generator``, drawn for a global batch, of which ``own`` images are kept.

        Processes with equal generators thus make the choices that a single one would make.
        """

        def columns() -> Iterator[Tensor]:
            while True:
                yield torch.rand(batch_size, generator=generator, device=generator.device)[own]

        return cls(columns())

    def uniform(self, low: float, high: float) -> Tensor:
        """(B,) in ``low``..``high``."""
        return low + (high - low) * next(self._columns)

    def happens(self, probability: float) -> Tensor:
        """(B,) bool."""
        return next(self._columns) < probability

    def choice(self, count: int) -> Tensor:
        """(B,) integers below ``count``."""
        return (next(self._columns) * count).long().clamp_max(count - 1)


def random_affines(draws: RandomDraws, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Affine maps (B, 2, 3) from view to padded crop, in half crop sides; which mirror (B,)."""
    angle = torch.deg2rad(draws.uniform(-config.rotate_deg, config.rotate_deg))
    scale = 1.0 + draws.uniform(-config.scale, config.scale)
    mirrored = draws.happens(0.5)
    sign = torch.where(mirrored, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    shift_x, shift_y = (draws.uniform(-2 * config.shift, 2 * config.shift) for _ in range(2))
    rows = torch.stack([cosine * sign, -sine, shift_x, sine * sign, cosine, shift_y], dim=1)
    return rows.view(-1, 2, 3), mirrored


def identity_affines(count: int) -> Tensor:
    """Maps (count, 2, 3) whose view is the aligned crop."""
    return torch.eye(2, 3).repeat(count, 1, 1)


def sample_crops(padded_crops: Tensor, maps: Tensor, side_px: int = CROP_SIZE_PX) -> Tensor:
    """Sample views (B, 1, side_px, side_px) in 0..1 from padded crops (B, side, side) uint8."""
    ratio = CROP_SIZE_PX / padded_crops.shape[-1]
    size = [len(padded_crops), 1, side_px, side_px]
    # In float64: TF32, which training allows in float32, moves pixels by up to 0.07 px.
    maps = (maps * ratio).to(padded_crops.device).double()
    grid = F.affine_grid(maps, size, align_corners=False)
    images = padded_crops[:, None].float().div_(255.0)
    return F.grid_sample(images, grid.float(), padding_mode="border", align_corners=False)


def transform_landmarks(points: Tensor, maps: Tensor, mirrored: Tensor) -> Tensor:
    """Move landmarks (B, 68, 2), in fractions of the crop, into the views of ``maps``."""
    centered = 2.0 * points - 1.0 - maps[:, None, :, 2]
    inverse = torch.linalg.inv(maps[:, :, :2])
    # Not a matrix product, which may be computed in TF32.
    moved = ((inverse[:, None] * centered[:, :, None]).sum(dim=-1) + 1.0) / 2.0
    return torch.where(mirrored[:, None, None], moved[:, list(FLIP)], moved)


def photometric_augment(crops: Tensor, draws: RandomDraws, config: AugmentConfig) -> Tensor:
    """Change crops (B, 1, H, W) in 0..1: brightness, resolution, blur, JPEG, noise, occlusion."""
    crops = change_contrast(crops, draws, config)
    crops = _change_some(crops, draws, config.low_resolution, _LOW_SIDES_PX, _reduce_resolution)
    crops = _change_some(crops, draws, config.blur, _BLURS_PX, _blur)
    crops = _change_some(crops, draws, config.jpeg, _QUALITIES, jpeg_artifacts)
    noise_std = draws.happens(config.noise) * draws.uniform(0.0, _MAX_NOISE_STD)
    if config.noise:
        crops = crops + torch.randn_like(crops) * _per_image(noise_std, crops)
    return erase(crops.clamp(0.0, 1.0), draws, config.erase)


def _per_image(values: Tensor, crops: Tensor) -> Tensor:
    return values.to(crops).view(-1, 1, 1, 1)


def change_contrast(crops: Tensor, draws: RandomDraws, config: AugmentConfig) -> Tensor:
    """Change contrast and brightness of crops (B, 1, H, W) in 0..1; the result is not clipped."""
    gain = _per_image(1.0 + draws.uniform(-config.contrast, config.contrast), crops)
    offset = _per_image(draws.uniform(-config.brightness, config.brightness), crops)
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    return (crops - mean) * gain + mean + offset


def _change_some(
    crops: Tensor,
    draws: RandomDraws,
    probability: float,
    strengths: Sequence[Any],
    change: Callable[[Tensor, Any], Tensor],
) -> Tensor:
    """Replace some crops in place by ``change(crops, strength)`` of a random strength."""
    happens, choice = draws.happens(probability), draws.choice(len(strengths))
    for index, strength in enumerate(strengths):
        chosen = (happens & (choice == index)).nonzero()[:, 0]
        if len(chosen):
            chosen = chosen.to(crops.device, non_blocking=True)
            crops[chosen] = change(crops[chosen], strength)
    return crops


def _reduce_resolution(crops: Tensor, side_px: int) -> Tensor:
    small = F.interpolate(crops, size=side_px, mode="area")
    return F.interpolate(small, size=crops.shape[-1], mode="bilinear")


def _blur(crops: Tensor, sigma_px: float) -> Tensor:
    return V.gaussian_blur(crops, 2 * [_BLUR_SIDE_PX], 2 * [sigma_px])


def erase(crops: Tensor, draws: RandomDraws, probability: float) -> Tensor:
    """Cover a random rectangle of some crops with a uniform gray (Zhong et al., 2020)."""
    covered = _per_image(draws.happens(probability), crops).bool()
    for axis in (-1, -2):
        side = crops.shape[axis]
        length = draws.uniform(side / 8, side / 2)
        start = draws.uniform(0, 1) * (side - length)
        first, last = _per_image(start, crops), _per_image(start + length, crops)
        shape = [1, 1, 1, -1] if axis == -1 else [1, 1, -1, 1]
        centers = (torch.arange(side, device=crops.device) + 0.5).view(shape)
        covered = covered & (centers >= first) & (centers <= last)
    return torch.where(covered, _per_image(draws.uniform(0, 1), crops), crops)


def mix(crops: Tensor, targets: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Mix crops and their targets (B, classes) with those of other images of the batch.

    With Mixup and CutMix both on, each batch gets one of them.
    """
    kinds = [MixUp(alpha=config.mixup)] if config.mixup else []
    kinds += [CutMix(alpha=config.cutmix)] if config.cutmix else []
    if not kinds:
        return crops, targets
    kind = kinds[int(torch.randint(len(kinds), ()))]
    mixed = kind(crops, targets)
    return mixed[0], mixed[1]
