"""Pre- and post-processing around every network: uint8 crops to landmarks and probabilities.

Input size, color, normalization and temperature are buffers that are not saved; they come from
``model.yaml``. No other code normalizes images.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.inference.model_store import InputSpec
from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.types import CROP_SIZE_PX

_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # Rec. 601, as OpenCV's RGB to gray


class FaceOutput(NamedTuple):
    """Network output: ``logits`` (B, classes), and what not every network has.

    ``points`` (B, 68, 2) as fractions of the crop, ``blendshapes`` (B, 52) in 0..1; else None.
    """

    logits: Tensor
    points: Tensor | None
    blendshapes: Tensor | None = None


class FaceInput(nn.Module):
    """Crops (B, 1 or 3, H, W) in 0..1, grayscale or RGB, to normalized network input."""

    weights: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.side, self.grayscale = spec.size_px, spec.grayscale
        weights = torch.tensor(_LUMA_WEIGHTS).view(1, 3, 1, 1)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        """Normalized images (B, 3, side, side)."""
        if self.grayscale and crops.shape[1] == 3:
            crops = (crops * self.weights).sum(dim=1, keepdim=True)
        if crops.shape[-1] != self.side:
            crops = _resize(crops, self.side)
        return (crops - self.mean) / self.std


class FaceNetwork(nn.Module):
    """A network ``net`` that maps normalized images (B, 3, side, side) to a FaceOutput, wrapped."""

    temperature: Tensor

    def __init__(self, net: nn.Module, spec: InputSpec, temperature: float = 1.0) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.input = FaceInput(spec)
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)

    @property
    def has_blendshapes(self) -> bool:
        """Whether ``predict`` returns blendshapes as well."""
        return getattr(self.net, "blendshape_head", None) is not None

    def forward(self, crops: Tensor) -> FaceOutput:
        """Network output for crops (B, 1 or 3, 112, 112) in 0..1."""
        return self.net(self.input(crops))

    def predict(self, crops_rgb: Tensor) -> tuple[Tensor, ...]:
        """Predict for uint8 RGB crops (B, 112, 112, 3).

        Returns landmarks (B, 68, 2) in crop pixels, NaN from networks without landmarks;
        probabilities (B, classes); and, if ``has_blendshapes``, blendshapes (B, 52) in 0..1.
        """
        output = self(self._to_float(crops_rgb))
        probabilities = (output.logits / self.temperature).softmax(dim=1)
        if output.points is None:
            # A product instead of a shape that is read from the batch: ONNX Runtime's CUDA provider
            # leaves computations of shapes to the CPU.
            missing = probabilities.new_full((1, NUM_LANDMARKS, 2), torch.nan)
            points = probabilities[:, :1, None] * missing
        else:
            points = output.points * CROP_SIZE_PX - 0.5
        if output.blendshapes is None:
            return points, probabilities
        return points, probabilities, output.blendshapes

    def attention(self, crops_rgb: Tensor) -> list[Tensor] | None:
        """Attention maps of the network for uint8 crops (B, 112, 112, 3), None if it has none."""
        maps = getattr(self.net, "attention_maps", None)
        return maps(self.input(self._to_float(crops_rgb))) if maps else None

    def _to_float(self, crops_rgb: Tensor) -> Tensor:
        # The cast comes first: TensorRT accepts uint8 inputs only into a cast.
        return crops_rgb.to(self.temperature.dtype).permute(0, 3, 1, 2) / 255.0


def _resize(crops: Tensor, side: int) -> Tensor:
    """Resize square crops bilinearly.

    By a factor where that gives this side: with a size, the exported graph would compute the shape
    of its output, which ONNX Runtime's CUDA provider leaves to the CPU.
    """
    factor = side / CROP_SIZE_PX
    if crops.shape[-1] == CROP_SIZE_PX and int(CROP_SIZE_PX * factor) == side:
        return F.interpolate(
            crops, scale_factor=factor, mode="bilinear", recompute_scale_factor=False
        )
    return F.interpolate(crops, size=(side, side), mode="bilinear", align_corners=False)
