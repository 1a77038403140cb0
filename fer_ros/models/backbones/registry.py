"""Backbones by name."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import timm
from timm.models import FeatureListNet
from torch import Tensor

from fer_ros.models.backbones.base import SCALES, Backbone
from fer_ros.models.backbones.face_resnet import SMALL_DEPTHS, FaceResNetBackbone
from fer_ros.models.backbones.mobilenet_v1 import MobileNetBackbone
from fer_ros.models.backbones.vit import IMAGENET, VitBackbone

__all__ = ["BACKBONES", "SCALES", "Backbone", "TimmConvBackbone", "make_backbone"]


class TimmConvBackbone(Backbone):
    """A convolutional network of timm at 112 px with output stride 16.

    The last stage is dilated instead of strided: its map is 7x7, where stride 32 would leave 4x4.
    """

    side_px = 112

    def __init__(self, trunk: str, stages: tuple[int, int, int]) -> None:
        super().__init__()
        created = timm.create_model(trunk, features_only=True, out_indices=stages, output_stride=16)
        self.trunk = cast(FeatureListNet, created)
        self.backbone_name = trunk
        self.channels = tuple(self.trunk.feature_info.channels())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to maps (B, channels[i], SCALES[i], SCALES[i])."""
        return self.trunk(x)

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Drop the published layers after the last map."""
        return {name: state[name] for name in self.trunk.state_dict() if name in state}


def _dinov2(size: str) -> Callable[[], Backbone]:
    # 196 px = 14 x 14 patches of 14 px: the middle map needs no resampling
    return partial(VitBackbone, f"vit_{size}_patch14_dinov2", 196, IMAGENET)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "efficientnet_lite0": partial(TimmConvBackbone, "efficientnet_lite0", stages=(1, 2, 4)),
    "face_resnet": FaceResNetBackbone,
    "face_resnet_small": partial(FaceResNetBackbone, SMALL_DEPTHS),
    "mobilenet": MobileNetBackbone,
    "dinov2_vits14": _dinov2("small"),
    "dinov2_vitb14": _dinov2("base"),
    "dinov2_vitl14": _dinov2("large"),
    "vits8": partial(VitBackbone, "vit_small_patch8_224", 112),
}
"""Constructors by name."""


def make_backbone(name: str) -> Backbone:
    """Create a backbone with random weights. Raises ValueError for an unknown name."""
    if name not in BACKBONES:
        raise ValueError(f"image {name!r}: expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]()
