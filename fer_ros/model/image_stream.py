"""The image stream: a picture to feature maps at the three scales of the landmark stream."""

from collections.abc import Callable
from typing import cast

import timm
from timm.models import FeatureListNet
from torch import Tensor, nn

SCALES = (28, 14, 7)
"""Sides of the three maps, whatever the trunk."""


class ImageStream(nn.Module):
    """Normalised pictures (B, 3, side_px, side_px) to three maps of ``channels``."""

    side_px: int
    channels: tuple[int, ...]
    trunk: nn.Module


class ConvolutionalStream(ImageStream):
    """A convolutional trunk of timm at 112 px. Its last stage is dilated instead of strided.

    ``output_stride`` 16 keeps the deepest map at 7x7, where 32 would leave 4x4.
    """

    side_px = 112

    def __init__(self, trunk: str, stages: tuple[int, int, int]) -> None:
        super().__init__()
        made = timm.create_model(trunk, features_only=True, out_indices=stages, output_stride=16)
        self.trunk = cast(FeatureListNet, made)
        self.channels = tuple(self.trunk.feature_info.channels())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to maps (B, channels[i], SCALES[i], SCALES[i])."""
        return self.trunk(x)


def _efficientnet_lite0() -> ConvolutionalStream:
    return ConvolutionalStream("efficientnet_lite0", stages=(1, 2, 4))


IMAGE_STREAMS: dict[str, Callable[[], ImageStream]] = {"efficientnet_lite0": _efficientnet_lite0}
"""Image streams by name."""
