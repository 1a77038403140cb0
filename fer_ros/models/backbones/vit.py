"""Vision transformers as backbones: DINOv2 (Oquab et al., 2024) and ViT-S/8.

Patch tokens of three depths become the three maps, as in ViTDet (Li et al., 2022, section 3): the
14x14 grid is upsampled, used as it is, and downsampled.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F  # noqa: N812
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import LayerNorm2d
from timm.models import VisionTransformer
from torch import Tensor, nn

from fer_ros.inference.model_store import InputSpec
from fer_ros.models.backbones.base import Backbone

PROJECT_INPUT = InputSpec()
IMAGENET = InputSpec(grayscale=False, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)

# Keys of masked pretraining and of other tasks; no output token depends on them.
_DROPPED_KEYS = {"mask_token", "head.weight", "head.bias"}
# DINOv2 resizes its 37x37 position embedding by the factor (side + 0.1) / 37.
_RESIZE_OFFSET = 0.1
_PROJECTION = ("patch_embed.proj.weight", "patch_embed.proj.bias")


class VitBackbone(Backbone):
    """A ViT with 14x14 patches; maps are taken at one third, two thirds and all of its depth.

    ``published_input`` is the image normalization that the published weights expect.
    """

    trunk: VisionTransformer

    def __init__(
        self, trunk: str, side_px: int, published_input: InputSpec = PROJECT_INPUT, **config: Any
    ) -> None:
        """``config``: arguments of timm's constructor, such as ``depth`` or ``drop_path_rate``."""
        super().__init__()
        created = timm.create_model(trunk, img_size=side_px, num_classes=0, **config)
        self.trunk = cast(VisionTransformer, created)
        self.backbone_name, self.side_px = trunk, side_px
        self.published_input = published_input
        dim, depth = self.trunk.embed_dim, len(self.trunk.blocks)
        self.depths = (depth // 3, 2 * depth // 3, depth)
        self.channels = (64, dim, 256)
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(dim, self.channels[0], 2, stride=2),
            LayerNorm2d(self.channels[0]),
            nn.GELU(),
        )
        self.reduce = nn.Conv2d(dim, self.channels[2], 3, stride=2, padding=1)

    def tokens(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, side_px, side_px) to normalized tokens (B, dim, 14, 14) at ``depths``."""
        indices = [depth - 1 for depth in self.depths]
        tokens = self.trunk.forward_intermediates(x, indices, norm=True, intermediates_only=True)
        return cast(list[Tensor], tokens)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, side_px, side_px) to maps (B, channels[i], SCALES[i], SCALES[i])."""
        early, middle, last = self.tokens(x)
        return [self.enlarge(early), middle, self.reduce(last)]

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adapt a published state dict to this patch grid and to PROJECT_INPUT.

        Both streams of a network get the same images, normalized by PROJECT_INPUT. The patch
        projection has no padding, so it absorbs the difference to ``published_input`` exactly.
        """
        weights = {
            name: value.float() for name, value in state.items() if name not in _DROPPED_KEYS
        }
        own = self.trunk.state_dict()
        if "pos_embed" in weights:
            side = math.isqrt(own["pos_embed"].shape[1] - 1)
            weights["pos_embed"] = resample_positions(weights["pos_embed"], side)
        if all(name in weights and weights[name].shape == own[name].shape for name in _PROJECTION):
            weights.update(_fold_normalization(weights, self.published_input, PROJECT_INPUT))
        return weights

    def to_published_state_dict(self) -> dict[str, Tensor]:
        """The trunk's state dict for images normalized by ``published_input``."""
        state = self.trunk.state_dict()
        return state | _fold_normalization(state, PROJECT_INPUT, self.published_input)


def resample_positions(embedding: Tensor, side: int) -> Tensor:
    """Resize a position embedding (1, 1 + n * n, dim) to (1, 1 + side * side, dim) as DINOv2 does.

    Bicubic, not antialiased, scale offset 0.1. Returned unchanged if the grid is not square.
    """
    count = embedding.shape[1] - 1 if embedding.ndim == 3 else 0
    old = math.isqrt(max(count, 0))
    if old in (0, side) or old * old != count:
        return embedding
    grid = embedding[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, dim, old, old)
    factor = (side + _RESIZE_OFFSET) / old
    grid = F.interpolate(grid, scale_factor=factor, mode="bicubic")
    return torch.cat([embedding[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def _fold_normalization(
    state: Mapping[str, Tensor], trained: InputSpec, used: InputSpec
) -> dict[str, Tensor]:
    """The patch projection trained on one image normalization, for images of another."""
    weight, bias = (state[name] for name in _PROJECTION)
    mean, std = torch.tensor(trained.mean), torch.tensor(trained.std)
    gain = torch.tensor(used.std) / std
    shift = (torch.tensor(used.mean) - mean) / std
    folded_bias = bias + (weight * shift[:, None, None]).sum(dim=(1, 2, 3))
    return dict(zip(_PROJECTION, (weight * gain[:, None, None], folded_bias), strict=True))
