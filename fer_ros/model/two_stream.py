"""The Two-Stream network: landmarks ask the image, at three scales, which emotion a face shows.

Da Re, "Attention mechanism and Visual Transformer models for Facial Emotion Recognition in natural
settings", after POSTER++ (Mao et al., 2023). A frozen MobileFaceNet gives the 68 landmarks and the
maps that ask, an image stream the maps that answer; a small ViT joins the scales.
"""

from functools import partial
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from fer_ros.labels import EMOTIONS
from fer_ros.model.cross_attention import CrossAttentionBlock
from fer_ros.model.image_stream import SCALES, image_stream
from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.model.network import FaceOutput
from fer_ros.types import CROP_SIZE_PX

TOKENS_PER_SCALE = SCALES[-1] ** 2


def _down(inputs: int, outputs: int) -> nn.Sequential:
    """Halves the sides of a map."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.GELU())


class Tokens(nn.Module):
    """A map of any of the three scales to 49 tokens."""

    def __init__(self, inputs: int, outputs: int, halvings: int) -> None:
        super().__init__()
        self.outputs = outputs
        widths = [inputs * 2**step for step in range(halvings)] + [outputs]
        steps: list[nn.Module] = [_down(*pair) for pair in pairwise(widths)]
        self.steps = nn.Sequential(*(steps or [nn.Conv2d(inputs, outputs, 1)]))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, H, W, inputs) to (B, 49, outputs)."""
        small = self.steps(maps.permute(0, 3, 1, 2))
        return small.reshape(-1, self.outputs, TOKENS_PER_SCALE).transpose(1, 2)


class TokenAttention(Attention):
    """Attention whose exported graph is of fixed sizes but for the batch."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        """(B, tokens, dim) to the same shape."""
        cut = (-1, int(x.shape[1]), self.num_heads, self.head_dim)
        parts = self.qkv(x).split(self.attn_dim, dim=-1)
        asking, keys, values = (each.reshape(cut).transpose(1, 2) for each in parts)
        found = F.scaled_dot_product_attention(asking, keys, values, scale=self.scale)
        return self.proj(found.transpose(1, 2).reshape(-1, cut[1], self.attn_dim))


class ClassBlock(Block):
    """A block behind which only the class token is read: it alone asks, and it alone goes on."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # without masks
        """(B, tokens, dim) to (B, 1, dim)."""
        cls = x[:, :1]
        cls = cls + self.drop_path1(self.ls1(self._attend(self.norm1(x))))
        return cls + self.drop_path2(self.ls2(self.mlp(self.norm2(cls))))

    def _attend(self, x: Tensor) -> Tensor:
        """Projections of all keys and values are left out: those of one query and answer do.

        As (W_k x) . q is x . (W_k^T q), and a sum of W_v x is W_v times that of x (DeepSeek-V2,
        2024, section 2.1.2). The bias of the keys adds the same to all scores: softmax ignores it.
        """
        attention = cast(Attention, self.attn)
        heads, width = attention.num_heads, attention.head_dim
        ask, key, value = attention.qkv.weight.reshape(3, heads, width, -1).unbind()
        ask_bias, _, value_bias = attention.qkv.bias.reshape(3, heads, 1, width).unbind()
        cls = x[:, None, :1]  # (B, 1, 1, dim)
        asking = (cls @ ask.transpose(1, 2) + ask_bias) @ key  # (B, heads, 1, dim)
        seen = F.scaled_dot_product_attention(asking[:, :, 0], x, x, scale=attention.scale)
        found = seen[:, :, None] @ value.transpose(1, 2) + value_bias  # (B, heads, 1, width)
        return attention.proj(found.reshape(-1, 1, heads * width))


class FusionTransformer(nn.Module):
    """Tokens of all scales and a class token to logits (POSTER++, section 3.3)."""

    def __init__(
        self, tokens: int, dim: int, depth: int, heads: int, classes: int, drop_path: float
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.zeros(1, tokens + 1, dim))
        kinds = [partial(Block, attn_layer=TokenAttention)] * (depth - 1) + [ClassBlock]
        self.blocks = nn.Sequential(
            *(kind(dim, heads, qkv_bias=True, drop_path=drop_path) for kind in kinds)
        )
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Sigmoid())
        self.head = nn.Linear(dim, classes)
        for weight in (self.cls_token, self.position, self.head.weight):
            trunc_normal_(weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, tokens, dim) to logits (B, classes)."""
        start = F.pad(self.cls_token, (0, 0, 0, self.position.shape[1] - 1)) + self.position
        x = self.blocks(F.pad(tokens, (0, 0, 1, 0)) + start)
        summary = self.norm(x[:, 0])
        return self.head(summary * self.gate(summary))


class TwoStream(nn.Module):
    """Points and logits of aligned faces from one call.

    ``image`` names an image stream, ``dims`` are the widths of the three scales. Without
    ``landmark_queries`` the image asks itself: the thesis's ablation, and the logits no longer
    depend on the landmark stream, which still gives the points.
    """

    def __init__(
        self,
        image: str = "efficientnet_lite0",
        dims: tuple[int, int, int] = (64, 128, 256),
        head_dim: int = 32,
        fusion_dim: int = 384,
        fusion_depth: int = 2,
        drop_path: float = 0.1,
        landmark_queries: bool = True,
        classes: int = len(EMOTIONS),
    ) -> None:
        super().__init__()
        self.landmarks = MobileFaceNet().requires_grad_(False)
        self.image = image_stream(image)
        self.enter = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, dim, 1, bias=False), nn.BatchNorm2d(dim))
            for channels, dim in zip(self.image.channels, dims, strict=True)
        )
        asking = MobileFaceNet.map_channels if landmark_queries else (None,) * len(SCALES)
        self.cross = nn.ModuleList(
            CrossAttentionBlock(dim, dim // head_dim, ask, drop_path)
            for dim, ask in zip(dims, asking, strict=True)
        )
        self.tokens = nn.ModuleList(
            Tokens(dim, fusion_dim, halvings) for dim, halvings in zip(dims, (2, 1, 0), strict=True)
        )
        self.fusion = FusionTransformer(
            len(SCALES) * TOKENS_PER_SCALE,
            fusion_dim,
            fusion_depth,
            fusion_dim // head_dim,
            classes,
            drop_path,
        )

    @property
    def side_px(self) -> int:
        """Side of the pictures that the image stream wants."""
        return self.image.side_px

    def train(self, mode: bool = True) -> "TwoStream":
        """The landmark stream is frozen, its batch statistics too."""
        super().train(mode)
        self.landmarks.eval()
        return self

    def _streams(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Image maps and landmark maps (B, H, W, C) of the three scales, points (B, 68, 2)."""
        face = x
        if x.shape[-1] != CROP_SIZE_PX:
            face = F.interpolate(x, size=(CROP_SIZE_PX, CROP_SIZE_PX), mode="bilinear")
        with torch.no_grad():
            asking = self.landmarks.features(face)
            points = self.landmarks.points(asking[-1])
        images = [enter(each) for enter, each in zip(self.enter, self.image(x), strict=True)]
        last = [[each.permute(0, 2, 3, 1) for each in maps] for maps in (images, asking)]
        return last[0], last[1], points

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalised pictures (B, 3, side_px, side_px) to points and logits."""
        images, asking, points = self._streams(x)
        tokens = [
            to_tokens(cross(image, ask))
            for to_tokens, cross, image, ask in zip(
                self.tokens, self.cross, images, asking, strict=True
            )
        ]
        return FaceOutput(self.fusion(torch.cat(tokens, dim=1)), points)

    def attention_maps(self, x: Tensor) -> list[Tensor]:
        """Where the landmarks look, 1 on average: (B, 28, 28), (B, 14, 14), (B, 7, 7)."""
        images, asking, _ = self._streams(x)
        blocks = cast(list[CrossAttentionBlock], self.cross)
        scales = zip(blocks, images, asking, strict=True)
        return [cross.attention_map(image, ask) for cross, image, ask in scales]
