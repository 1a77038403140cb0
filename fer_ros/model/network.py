"""The shell that every network wears: from uint8 crops to points and probabilities.

What differs between networks before and after their layers (side, colour or grey, mean, deviation,
temperature) lives here, as buffers that are not saved: nobody else normalises.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import InputSpec

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601, as OpenCV's grey


class FaceOutput(NamedTuple):
    """``logits`` (B, classes); ``points`` (B, 68, 2) in fractions of the crop, None without."""

    logits: Tensor
    points: Tensor | None


class FaceInput(nn.Module):
    """Crops (B, 1 or 3, H, W), grey or RGB in 0..1, to what a network was trained on."""

    weights: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.side, self.luma = spec.size_px, spec.luma
        self.register_buffer("weights", torch.tensor(_LUMA).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        """Normalised pictures (B, 3, side, side)."""
        if self.luma and crops.shape[1] == 3:
            crops = (crops * self.weights).sum(dim=1, keepdim=True)
        if crops.shape[-1] != self.side:
            size = (self.side, self.side)
            crops = F.interpolate(crops, size=size, mode="bilinear", align_corners=False)
        return (crops - self.mean) / self.std


class FaceNetwork(nn.Module):
    """``core`` maps normalised pictures (B, 3, side, side) to a FaceOutput."""

    temperature: Tensor

    def __init__(self, core: nn.Module, spec: InputSpec, temperature: float = 1.0) -> None:
        super().__init__()
        self.core, self.spec = core, spec
        self.input = FaceInput(spec)
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)

    def forward(self, crops: Tensor) -> FaceOutput:
        """Points and logits of crops (B, 1 or 3, 112, 112) in 0..1."""
        return self.core(self.input(crops))

    def predict(self, crops_rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, 68, 2) in crop pixels and probabilities (B, classes) of uint8 crops.

        ``crops_rgb``: (B, 112, 112, 3). Networks without landmarks give points that are NaN.
        """
        output = self(self._pictures(crops_rgb))
        probabilities = (output.logits / self.temperature).softmax(dim=1)
        if output.points is None:
            return probabilities.new_full((crops_rgb.shape[0], 68, 2), torch.nan), probabilities
        return output.points * CROP_SIZE_PX - 0.5, probabilities

    def attention(self, crops_rgb: Tensor) -> list[Tensor] | None:
        """Where the network looks in uint8 crops (B, 112, 112, 3), as its ``attention_maps`` say.

        None from networks without such maps.
        """
        maps = getattr(self.core, "attention_maps", None)
        return maps(self.input(self._pictures(crops_rgb))) if maps else None

    def _pictures(self, crops_rgb: Tensor) -> Tensor:
        return crops_rgb.permute(0, 3, 1, 2).to(self.temperature.dtype) / 255.0
