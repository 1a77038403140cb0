"""Random views of aligned faces, one draw per picture, for a whole batch at once.

Pictures come as canvases: the aligned crop with a margin of real surroundings, so that a rotated
or shifted view has no made-up corners. One affine map per picture gives the view, and the same map
moves its landmarks. Mirrored views swap the left and right landmarks.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fer_ros.types import CROP_SIZE_PX

_PAIRS = (
    [(i, 16 - i) for i in range(8)]
    + [(17 + i, 26 - i) for i in range(5)]
    + [(31, 35), (32, 34)]
    + [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    + [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58)]
    + [(60, 64), (61, 63), (65, 67)]
)


def _mirror_order() -> list[int]:
    order = list(range(68))
    for left, right in _PAIRS:
        order[left], order[right] = right, left
    return order


MIRROR_68 = _mirror_order()
"""Index i of a mirrored face is index MIRROR_68[i] of the face."""


@dataclass(frozen=True)
class AugmentConfig:
    """How far views stray; probabilities are per picture."""

    rotate_deg: float = 12.0
    scale: float = 0.12
    shift: float = 0.06
    contrast: float = 0.35
    brightness: float = 0.25
    low_resolution: float = 0.25
    noise: float = 0.3
    erase: float = 0.25


def _uniform(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count).uniform_(low, high)


def random_maps(count: int, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Maps (count, 2, 3) from view to canvas, in units of half a crop side; mirrored (count,)."""
    angle = torch.deg2rad(_uniform(count, -config.rotate_deg, config.rotate_deg))
    scale = 1.0 + _uniform(count, -config.scale, config.scale)
    mirrored = torch.rand(count) < 0.5
    sign = torch.where(mirrored, -1.0, 1.0)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    shift_x, shift_y = _uniform(2 * count, -2 * config.shift, 2 * config.shift).view(2, count)
    rows = torch.stack([cosine * sign, -sine, shift_x, sine * sign, cosine, shift_y], dim=1)
    return rows.view(count, 2, 3), mirrored


def centre_maps(count: int) -> Tensor:
    """The maps (count, 2, 3) that show the aligned crop itself."""
    return torch.eye(2, 3).repeat(count, 1, 1)


def view(canvas: Tensor, maps: Tensor) -> Tensor:
    """Samples crops (B, 1, 112, 112) in 0..1 from grey canvases (B, side, side) uint8."""
    side = CROP_SIZE_PX
    ratio = side / canvas.shape[-1]
    size = [len(canvas), 1, side, side]
    grid = F.affine_grid(maps * ratio, size, align_corners=False)
    pictures = canvas[:, None].float().div_(255.0)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def move_points(points: Tensor, maps: Tensor, mirrored: Tensor) -> Tensor:
    """Landmarks (B, 68, 2), fractions of the crop, as they stand in the view of ``maps``."""
    centred = 2.0 * points - 1.0 - maps[:, None, :, 2]
    inverse = torch.linalg.inv(maps[:, :, :2])
    moved = (torch.einsum("bij,bpj->bpi", inverse, centred) + 1.0) / 2.0
    return torch.where(mirrored[:, None, None], moved[:, MIRROR_68], moved)


def degrade(crops: Tensor, config: AugmentConfig) -> Tensor:
    """Light, resolution, noise and occlusion, drawn per picture; (B, 1, 112, 112) in 0..1."""
    count, _, side, _ = crops.shape
    gain = 1.0 + _uniform(count, -config.contrast, config.contrast).view(-1, 1, 1, 1)
    offset = _uniform(count, -config.brightness, config.brightness).view(-1, 1, 1, 1)
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    crops = (crops - mean) * gain + mean + offset

    low = torch.rand(count) < config.low_resolution
    if low.any():
        small = F.interpolate(crops[low], size=int(torch.randint(24, 64, ())), mode="area")
        crops[low] = F.interpolate(small, size=side, mode="bilinear", align_corners=False)

    noisy = (torch.rand(count) < config.noise).view(-1, 1, 1, 1) * _uniform(count, 0.0, 0.06).view(
        -1, 1, 1, 1
    )
    crops = crops + torch.randn_like(crops) * noisy
    return erase(crops.clamp_(0.0, 1.0), config.erase)


def erase(crops: Tensor, probability: float) -> Tensor:
    """Covers a random rectangle of some crops with a flat grey (Zhong et al., 2020)."""
    side = crops.shape[-1]
    for index in torch.nonzero(torch.rand(len(crops)) < probability)[:, 0].tolist():
        height, width = torch.randint(side // 8, side // 2, (2,)).tolist()
        top = int(torch.randint(0, side - height + 1, ()))
        left = int(torch.randint(0, side - width + 1, ()))
        crops[index, :, top : top + height, left : left + width] = torch.rand(())
    return crops
