"""Random views of aligned faces, another one for every picture, for a whole batch at once.

Pictures come as canvases: the aligned crop with a margin of real surroundings, so that a rotated
or shifted view has no made-up corners. One affine map per picture gives the view, and the same map
moves its landmarks. Mirrored views swap the left and right landmarks. Both streams of a network
see the same view.

All choices are made from numbers that are drawn beforehand (``Draws``): the same numbers give the
same views, on however many processes a batch is spread. Only noise, and what is mixed with what,
are drawn on the spot.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp
from torchvision.transforms.v2 import functional as V  # noqa: N812

from fer_ros.config import Checked, setting
from fer_ros.types import CROP_SIZE_PX

_PAIRS = (
    [(i, 16 - i) for i in range(8)]
    + [(17 + i, 26 - i) for i in range(5)]
    + [(31, 35), (32, 34)]
    + [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    + [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58)]
    + [(60, 64), (61, 63), (65, 67)]
)
_LOW_SIDES_PX = (24, 32, 40, 48, 64)  # of pictures that lose their resolution
_BLURS_PX = (0.6, 1.0, 1.6)  # standard deviations
_BLUR_SIDE_PX = 9
_QUALITIES = (30, 50, 70)  # of JPEG
_MOST_NOISE = 0.06


def _mirror_order() -> list[int]:
    order = list(range(68))
    for left, right in _PAIRS:
        order[left], order[right] = right, left
    return order


MIRROR_68 = _mirror_order()
"""Index i of a mirrored face is index MIRROR_68[i] of the face."""


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """How far views stray; probabilities are per picture."""

    rotate_deg: float = setting(12.0, "to either side", 0.0, 180.0)
    scale: float = setting(0.12, "share by which faces grow and shrink", 0.0, 0.5)
    shift: float = setting(0.06, "share of the crop's side, in both directions", 0.0, 0.5)
    contrast: float = setting(0.35, "share by which the contrast changes", 0.0, 1.0)
    brightness: float = setting(0.25, "shift of the brightness, white is 1", 0.0, 1.0)
    blur: float = setting(0.1, "probability of a Gaussian blur", 0.0, 1.0)
    jpeg: float = setting(0.1, "probability of JPEG's traces", 0.0, 1.0)
    low_resolution: float = setting(0.25, "probability of lost resolution", 0.0, 1.0)
    noise: float = setting(0.3, "probability of noise", 0.0, 1.0)
    erase: float = setting(0.25, "probability of a covered rectangle", 0.0, 1.0)
    mixup: float = setting(0.0, "alpha of Mixup (Zhang et al., 2018); 0: off", 0.0, 10.0)
    cutmix: float = setting(0.0, "alpha of CutMix (Yun et al., 2019); 0: off", 0.0, 10.0)


NO_AUGMENT = AugmentConfig(*[0.0] * 12)


class Draws:
    """Numbers in 0..1 (B, COUNT) that were drawn beforehand; each choice takes the next column."""

    COUNT = 21

    def __init__(self, numbers: Tensor) -> None:
        self._columns = iter(numbers.unbind(1))

    @classmethod
    def fresh(cls, pictures: int, generator: torch.Generator | None = None) -> "Draws":
        """New numbers for so many pictures."""
        return cls(torch.rand(pictures, cls.COUNT, generator=generator))

    def uniform(self, low: float, high: float) -> Tensor:
        """(B,) in ``low``..``high``."""
        return low + (high - low) * next(self._columns)

    def happens(self, probability: float) -> Tensor:
        """(B,) bool."""
        return next(self._columns) < probability

    def choice(self, count: int) -> Tensor:
        """(B,) whole numbers below ``count``."""
        return (next(self._columns) * count).long().clamp_max(count - 1)


def random_maps(draws: Draws, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Maps (B, 2, 3) from view to canvas, in units of half a crop side; mirrored (B,)."""
    angle = torch.deg2rad(draws.uniform(-config.rotate_deg, config.rotate_deg))
    scale = 1.0 + draws.uniform(-config.scale, config.scale)
    mirrored = draws.happens(0.5)
    sign = torch.where(mirrored, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    shift_x, shift_y = (draws.uniform(-2 * config.shift, 2 * config.shift) for _ in range(2))
    rows = torch.stack([cosine * sign, -sine, shift_x, sine * sign, cosine, shift_y], dim=1)
    return rows.view(-1, 2, 3), mirrored


def centre_maps(count: int) -> Tensor:
    """The maps (count, 2, 3) that show the aligned crop itself."""
    return torch.eye(2, 3).repeat(count, 1, 1)


def view(canvas: Tensor, maps: Tensor, side_px: int = CROP_SIZE_PX) -> Tensor:
    """Samples views (B, 1, side_px, side_px) in 0..1 from grey canvases (B, side, side) uint8."""
    ratio = CROP_SIZE_PX / canvas.shape[-1]
    size = [len(canvas), 1, side_px, side_px]
    grid = F.affine_grid((maps * ratio).to(canvas.device), size, align_corners=False)
    pictures = canvas[:, None].float().div_(255.0)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def move_points(points: Tensor, maps: Tensor, mirrored: Tensor) -> Tensor:
    """Landmarks (B, 68, 2), fractions of the crop, as they stand in the view of ``maps``."""
    centred = 2.0 * points - 1.0 - maps[:, None, :, 2]
    inverse = torch.linalg.inv(maps[:, :, :2])
    moved = (torch.einsum("bij,bpj->bpi", inverse, centred) + 1.0) / 2.0
    return torch.where(mirrored[:, None, None], moved[:, MIRROR_68], moved)


def degrade(crops: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
    """Light, sharpness, traces, noise and occlusion; crops (B, 1, 112, 112) in 0..1."""
    crops = _light(crops, draws, config)
    crops = _reduce(crops, draws, config.low_resolution)
    crops = _blur(crops, draws, config.blur)
    crops = _compress(crops, draws, config.jpeg)
    strength = draws.happens(config.noise) * draws.uniform(0.0, _MOST_NOISE)
    if strength.any():
        crops = crops + torch.randn_like(crops) * _per_picture(strength, crops)
    return erase(crops.clamp(0.0, 1.0), draws, config.erase)


def _per_picture(values: Tensor, crops: Tensor) -> Tensor:
    return values.to(crops).view(-1, 1, 1, 1)


def _light(crops: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
    gain = _per_picture(1.0 + draws.uniform(-config.contrast, config.contrast), crops)
    offset = _per_picture(draws.uniform(-config.brightness, config.brightness), crops)
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    return (crops - mean) * gain + mean + offset


def _reduce(crops: Tensor, draws: Draws, probability: float) -> Tensor:
    """Some pictures through a smaller one and back."""
    happens, size = draws.happens(probability), draws.choice(len(_LOW_SIDES_PX))
    for index, side in enumerate(_LOW_SIDES_PX):
        chosen = (happens & (size == index)).to(crops.device)
        if chosen.any():
            small = F.interpolate(crops[chosen], size=side, mode="area")
            crops[chosen] = F.interpolate(small, size=crops.shape[-1], mode="bilinear")
    return crops


def _blur(crops: Tensor, draws: Draws, probability: float) -> Tensor:
    happens, strength = draws.happens(probability), draws.choice(len(_BLURS_PX))
    for index, sigma_px in enumerate(_BLURS_PX):
        chosen = (happens & (strength == index)).to(crops.device)
        if chosen.any():
            crops[chosen] = V.gaussian_blur(crops[chosen], 2 * [_BLUR_SIDE_PX], 2 * [sigma_px])
    return crops


def _compress(crops: Tensor, draws: Draws, probability: float) -> Tensor:
    happens, quality = draws.happens(probability), draws.choice(len(_QUALITIES))
    for index in torch.nonzero(happens)[:, 0].tolist():
        encoded = crops[index].clamp(0, 1).mul(255).byte().cpu().expand(3, -1, -1)
        decoded = V.jpeg(encoded, _QUALITIES[int(quality[index])])
        crops[index] = decoded[:1].to(crops) / 255
    return crops


def erase(crops: Tensor, draws: Draws, probability: float) -> Tensor:
    """Covers a random rectangle of some crops with a flat grey (Zhong et al., 2020)."""
    happens = draws.happens(probability)
    inside = torch.ones((), dtype=torch.bool)
    for axis in (-1, -2):
        side = crops.shape[axis]
        length = draws.uniform(side / 8, side / 2)
        start = draws.uniform(0, 1) * (side - length)
        places = torch.arange(side) + 0.5
        between = (places >= start[:, None]) & (places <= (start + length)[:, None])  # (B, side)
        inside = inside & (between[:, None, None, :] if axis == -1 else between[:, None, :, None])
    covered = (inside & happens.view(-1, 1, 1, 1)).to(crops.device)
    return torch.where(covered, _per_picture(draws.uniform(0, 1), crops), crops)


def mix(crops: Tensor, targets: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Crops and their distributions (B, classes), mixed with those of others in the batch.

    With both kinds on, each batch gets one of them.
    """
    kinds = [MixUp(alpha=config.mixup)] if config.mixup else []
    kinds += [CutMix(alpha=config.cutmix)] if config.cutmix else []
    if not kinds:
        return crops, targets
    kind = kinds[int(torch.randint(len(kinds), ()))]
    mixed = kind(crops, targets)
    return mixed[0], mixed[1]
