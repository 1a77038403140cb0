"""POSTER++ as published, so that its public checkpoints load strictly and give the same outputs.

Mao et al., "POSTER++: A simpler and stronger facial expression recognition network", 2023. Two
differences: the 68 landmarks of its landmark stream are returned, and the batch statistics of the
frozen stream stay frozen in training.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import DropPath, LayerNorm, Mlp, trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fer_ros.emotions import EMOTIONS
from fer_ros.models.backbones.ir50 import IR50
from fer_ros.models.backbones.registry import SCALES
from fer_ros.models.cross_attention import relative_position_index
from fer_ros.models.mobilefacenet import MobileFaceNet
from fer_ros.models.wrapper import FaceOutput

HEAD_DIM = 32
FUSION_DIM = 768
FUSION_HEADS = 8
FUSION_DEPTH = 2
TOKENS = len(SCALES) * SCALES[-1] ** 2
DROP_PATH = (0.0, 0.125, 0.25)  # of the three scales


def _checkpoint_only(module: nn.Module) -> nn.Module:
    """Mark layers that published checkpoints contain but forward() does not use."""
    return module.requires_grad_(False)


def _downsample(inputs: int, outputs: int) -> nn.Conv2d:
    """Halve the spatial size."""
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


class CrossAttention(nn.Module):
    """Queries from landmarks, keys and values from the image (section 3.2); one global window."""

    relative_position_index: Tensor

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.heads = dim // HEAD_DIM
        table = torch.zeros((2 * side - 1) ** 2, self.heads)
        self.relative_position_bias_table = nn.Parameter(trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_position_index(side))
        self.qkv = nn.Linear(dim, 2 * dim)  # keys and values: the queries are the landmark map
        self.proj = nn.Linear(dim, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, HEAD_DIM)).transpose(1, 2)  # (B, heads, N, HEAD_DIM)

    def forward(self, queries: Tensor, image: Tensor) -> Tensor:
        """Queries and image (B, side * side, dim) to (B, side * side, dim)."""
        keys, values = self.qkv(image).chunk(2, dim=-1)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        parts = (self._split(queries), self._split(keys), self._split(values))
        out = F.scaled_dot_product_attention(*parts, attn_mask=bias)  # (B, heads, N, HEAD_DIM)
        return self.proj(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Residual connections around attention and MLP with per-channel scales."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(torch.full((dim,), 1e-5))
        self.gamma2 = nn.Parameter(torch.full((dim,), 1e-5))
        self.mlp = Mlp(dim, 4 * dim)
        self.norm = nn.LayerNorm(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, attended: Tensor, image: Tensor) -> Tensor:
        """Attention output and image tokens, both (B, N, dim), to (B, N, dim)."""
        x = image + self.drop_path(self.gamma1 * attended)
        return x + self.drop_path(self.gamma2 * self.mlp(self.norm(x)))


class SqueezeGate(nn.Module):
    """Squeeze-and-excitation gate over channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, dim)
        self.linear2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) to the same shape."""
        return x * self.linear2(self.linear1(x).relu()).sigmoid()


class Fusion(nn.Module):
    """Transformer over the tokens of the three scales and a class token (section 3.3)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        dim = FUSION_DIM
        self.cls_token = nn.Parameter(trunc_normal_(torch.zeros(1, 1, dim), std=0.02))
        self.pos_embed = nn.Parameter(trunc_normal_(torch.zeros(1, TOKENS + 1, dim), std=0.02))
        self.se_block = SqueezeGate(dim)
        self.patch_embed = _checkpoint_only(nn.ModuleDict({"proj": nn.Conv2d(256, dim, 1)}))
        self.head = nn.ModuleDict({"linear": nn.Linear(dim, classes)})
        self.eca_block = _checkpoint_only(nn.ModuleDict({"conv": nn.Conv1d(1, 1, 5, bias=False)}))
        self.CON1 = _checkpoint_only(nn.Conv2d(256, dim, 1, bias=False))
        self.IRLinear1 = _checkpoint_only(nn.Linear(1024, dim))
        self.IRLinear2 = _checkpoint_only(nn.Linear(dim, 512))
        self.blocks = nn.Sequential(*(self._block() for _ in range(FUSION_DEPTH)))
        self.norm = LayerNorm(dim)

    @staticmethod
    def _block() -> Block:
        block = Block(FUSION_DIM, FUSION_HEADS, qkv_bias=True, norm_layer=LayerNorm)
        block.conv = _checkpoint_only(nn.Conv1d(TOKENS + 1, TOKENS + 1, 1))
        return block

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, 147, 768) to logits (B, classes)."""
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        x = self.blocks(torch.cat([cls, tokens], dim=1) + self.pos_embed)  # (B, 148, 768)
        return self.head["linear"](self.se_block(self.norm(x)[:, 0]))


class PosterV2(nn.Module):
    """Landmarks and logits of aligned faces.

    Both streams take 112 px; larger images, such as the 224 px of the published training, are
    resized with nearest neighbor, as published.
    """

    side_px = 112

    def __init__(self, classes: int = len(EMOTIONS)) -> None:
        super().__init__()
        self.face_landback = MobileFaceNet().requires_grad_(False)
        self.VIT = Fusion(classes)
        self.ir_back = IR50()
        dims = IR50.channels
        self.attn1, self.attn2, self.attn3 = map(CrossAttention, dims, SCALES)
        self.window1, self.window2, self.window3 = (
            nn.ModuleDict({"norm": nn.LayerNorm(dim)}) for dim in dims
        )
        self.conv1, self.conv2, self.conv3 = (_downsample(dim, dim) for dim in dims)
        self.ffn1, self.ffn2, self.ffn3 = map(FeedForward, dims, DROP_PATH)
        self.last_face_conv = nn.Conv2d(MobileFaceNet.map_channels[-1], dims[-1], 3, padding=1)
        self.embed_q = nn.Sequential(
            _downsample(dims[0], FUSION_DIM), _downsample(FUSION_DIM, FUSION_DIM)
        )
        self.embed_k = nn.Sequential(_downsample(dims[1], FUSION_DIM))
        self.embed_v = nn.ModuleDict({"proj": nn.Conv2d(dims[2], FUSION_DIM, 1)})

    def train(self, mode: bool = True) -> "PosterV2":
        """Set training mode; the frozen landmark stream stays in eval mode."""
        super().train(mode)
        self.face_landback.eval()
        return self

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalized images (B, 3, side, side) to landmarks and logits."""
        face = x if x.shape[-1] == self.side_px else F.interpolate(x, size=self.side_px)
        with torch.no_grad():
            map_28, map_14, map_7 = self.face_landback.features(face)
            points = self.face_landback.points(self.face_landback.pool(map_7))
        scales = zip(
            (self.conv1, self.conv2, self.conv3),
            (self.window1["norm"], self.window2["norm"], self.window3["norm"]),
            (self.attn1, self.attn2, self.attn3),
            (self.ffn1, self.ffn2, self.ffn3),
            (self.embed_q, self.embed_k, self.embed_v["proj"]),
            self.ir_back(face),
            (map_28, map_14, self.last_face_conv(map_7)),
            strict=True,
        )
        tokens = [_to_tokens(_scale_forward(*parts)) for parts in scales]
        return FaceOutput(self.VIT(torch.cat(tokens, dim=1)), points)


def _to_tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # (B, C, H, W) to (B, H * W, C)


def _scale_forward(
    down: nn.Module,
    norm: nn.Module,
    attention: nn.Module,
    feed_forward: nn.Module,
    embed: nn.Module,
    image: Tensor,
    landmarks: Tensor,
) -> Tensor:
    """Maps (B, C, 2 * H, 2 * W) and (B, C, H, W) of one scale to (B, 768, 7, 7)."""
    small = down(image)
    image_tokens = norm(_to_tokens(small))
    attended = feed_forward(attention(_to_tokens(landmarks), image_tokens), image_tokens)
    return embed(attended.transpose(1, 2).reshape(small.shape))
