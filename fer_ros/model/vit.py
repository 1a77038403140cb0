"""Image streams of plain vision transformers: DINOv2 (Oquab et al., 2024) and a ViT-S/8.

Tokens of three depths become the maps of three scales, in the manner of ViTDet (Li et al., 2022,
section 3): a grid of 14x14 is enlarged, taken as it is, and reduced.
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

from fer_ros.model.stream import ImageStream
from fer_ros.weights import InputSpec

OURS = InputSpec()
IMAGENET = InputSpec(luma=False, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)

# Of masked pre-training and of other tasks; no token depends on them.
_NOT_OURS = {"mask_token", "head.weight", "head.bias"}
# The official embedding is enlarged by (side + 0.1) / 37: the 0.1 moves each sample a little.
_OFFSET = 0.1
_PROJECTION = ("patch_embed.proj.weight", "patch_embed.proj.bias")


class TransformerStream(ImageStream):
    """A ViT whose patches form a grid of 14x14; maps from one third, two thirds, all of its depth.

    ``published`` is how the pictures were normalised that published weights were trained on.
    """

    trunk: VisionTransformer

    def __init__(
        self, trunk: str, side_px: int, published: InputSpec = OURS, **config: Any
    ) -> None:
        """``config``: arguments of timm's constructor, such as ``depth`` or ``drop_path_rate``."""
        super().__init__()
        made = timm.create_model(trunk, img_size=side_px, num_classes=0, **config)
        self.trunk = cast(VisionTransformer, made)
        self.trunk_name, self.side_px, self.published = trunk, side_px, published
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
        """Pictures (B, 3, side_px, side_px) to normalised tokens (B, dim, 14, 14) of the depths."""
        indices = [depth - 1 for depth in self.depths]
        found = self.trunk.forward_intermediates(x, indices, norm=True, intermediates_only=True)
        return cast(list[Tensor], found)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, side_px, side_px) to maps (B, channels[i], SCALES[i], SCALES[i])."""
        early, middle, last = self.tokens(x)
        return [self.enlarge(early), middle, self.reduce(last)]

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict for our grid of patches and our normalisation of pictures.

        Both streams of a network see the same pictures, normalised as OURS says. The patch
        projection has no padding, so it can absorb the difference to ``published`` exactly.
        """
        ours = {name: value.float() for name, value in state.items() if name not in _NOT_OURS}
        own = self.trunk.state_dict()
        if "pos_embed" in ours:
            side = math.isqrt(own["pos_embed"].shape[1] - 1)
            ours["pos_embed"] = resample_positions(ours["pos_embed"], side)
        if all(name in ours and ours[name].shape == own[name].shape for name in _PROJECTION):
            ours.update(_absorb(ours, self.published, OURS))
        return ours

    def publish(self) -> dict[str, Tensor]:
        """The trunk's state dict as ``translate`` takes it, for pictures as ``published`` says."""
        state = self.trunk.state_dict()
        return state | _absorb(state, OURS, self.published)


def resample_positions(embedding: Tensor, side: int) -> Tensor:
    """Positions (1, 1 + n * n, dim) to (1, 1 + side * side, dim) by the rule of DINOv2's authors.

    Bicubic, not antialiased, offset by 0.1. Unchanged when there is no square grid to resample.
    """
    count = embedding.shape[1] - 1 if embedding.ndim == 3 else 0
    old = math.isqrt(max(count, 0))
    if old in (0, side) or old * old != count:
        return embedding
    grid = embedding[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, dim, old, old)
    factor = (side + _OFFSET) / old
    grid = F.interpolate(grid, scale_factor=factor, mode="bicubic")
    return torch.cat([embedding[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def _absorb(state: Mapping[str, Tensor], learned: InputSpec, seen: InputSpec) -> dict[str, Tensor]:
    """The projection, learned on pictures of one normalisation, for those of another."""
    weight, bias = (state[name] for name in _PROJECTION)
    mean, std = torch.tensor(learned.mean), torch.tensor(learned.std)
    gain = torch.tensor(seen.std) / std
    shift = (torch.tensor(seen.mean) - mean) / std
    moved = bias + (weight * shift[:, None, None]).sum(dim=(1, 2, 3))
    return dict(zip(_PROJECTION, (weight * gain[:, None, None], moved), strict=True))
