"""JPEG artifacts of gray images, for a whole batch on its device."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_BLOCK_PX = 8
# Luminance quantization table of quality 50 (ITU-T T.81, table K.1).
_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def jpeg_artifacts(images: Tensor, quality: int) -> Tensor:
    """Gray images (B, 1, H, W) in 0..1 as they come back from baseline JPEG.

    ``quality`` in 1..100 scales the quantization table as libjpeg does. Entropy coding is lossless
    and left out.
    """
    height, width = images.shape[-2:]
    padding = (0, -width % _BLOCK_PX, 0, -height % _BLOCK_PX)
    padded = F.pad(images, padding, mode="replicate")
    # float64: tensor cores would round the products of float32.
    levels = (padded.clamp(0, 1) * 255).round().double() - 128
    blocks = levels.unflatten(3, (-1, _BLOCK_PX)).unflatten(2, (-1, _BLOCK_PX)).transpose(3, 4)
    basis = _dct_basis().to(images.device, non_blocking=True)
    steps = _quantization_steps(quality).to(images.device, non_blocking=True)
    coefficients = (basis @ blocks @ basis.T / steps).round() * steps
    restored = (basis.T @ coefficients @ basis + 128).round().clamp(0, 255)
    restored = restored.transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., :height, :width]
    return (restored / 255).to(images.dtype)


def _dct_basis() -> Tensor:
    """Orthonormal DCT-II (8, 8): frequencies in rows, pixels in columns."""
    frequencies, pixels = torch.arange(_BLOCK_PX)[:, None], torch.arange(_BLOCK_PX) + 0.5
    basis = torch.cos(math.pi / _BLOCK_PX * frequencies * pixels).double() / 2
    basis[0] /= math.sqrt(2)
    return basis


def _quantization_steps(quality: int) -> Tensor:
    """Steps (8, 8) of the coefficients."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(_TABLE).view(_BLOCK_PX, _BLOCK_PX)
    return ((table * scale + 50) // 100).clamp(1, 255).double()
