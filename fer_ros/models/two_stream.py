"""The two-stream network: cross-attention from a landmark stream to an image stream.

Da Re, "Attention mechanism and Visual Transformer models for Facial Emotion Recognition in natural
settings", after POSTER++ (Mao et al., 2023). A frozen MobileFaceNet gives the 68 landmarks and the
query maps, a backbone gives the image maps, and a small transformer fuses the scales.
"""

from functools import partial
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from fer_ros.blendshapes import NUM_BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.models.backbones.registry import SCALES, make_backbone
from fer_ros.models.blendshape_head import BlendshapeHead
from fer_ros.models.cross_attention import CrossAttentionBlock
from fer_ros.models.mobilefacenet import MobileFaceNet
from fer_ros.models.wrapper import FaceOutput
from fer_ros.types import CROP_SIZE_PX

TOKENS_PER_SCALE = SCALES[-1] ** 2


def _downsample(inputs: int, outputs: int) -> nn.Sequential:
    """Halve the spatial size."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.GELU())


class ScaleTokenizer(nn.Module):
    """A map of one scale to 49 tokens."""

    def __init__(self, inputs: int, outputs: int, halvings: int) -> None:
        super().__init__()
        self.outputs = outputs
        widths = [inputs * 2**step for step in range(halvings)] + [outputs]
        steps: list[nn.Module] = [_downsample(*pair) for pair in pairwise(widths)]
        self.steps = nn.Sequential(*(steps or [nn.Conv2d(inputs, outputs, 1)]))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, H, W, inputs) to (B, 49, outputs)."""
        small = self.steps(maps.permute(0, 3, 1, 2))
        return small.reshape(-1, self.outputs, TOKENS_PER_SCALE).transpose(1, 2)


class TokenAttention(Attention):
    """timm's attention with constant sizes, except for the batch, in the exported graph."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        """(B, tokens, dim) to the same shape."""
        split = (-1, int(x.shape[1]), self.num_heads, self.head_dim)
        projections = self.qkv(x).split(self.attn_dim, dim=-1)
        queries, keys, values = (values.reshape(split).transpose(1, 2) for values in projections)
        attended = F.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        return self.proj(attended.transpose(1, 2).reshape(-1, split[1], self.attn_dim))


class ClassAttentionBlock(Block):
    """Class attention (Touvron et al., CaiT, 2021): only the class token queries and is kept."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # without masks
        """(B, tokens, dim) to (B, 1, dim)."""
        cls = x[:, :1]
        cls = cls + self.drop_path1(self.ls1(self._attend(self.norm1(x))))
        return cls + self.drop_path2(self.ls2(self.mlp(self.norm2(cls))))

    def _attend(self, x: Tensor) -> Tensor:
        """Attention of the class token with the key and value projections absorbed.

        (W_k x) . q equals x . (W_k^T q), and a weighted sum of W_v x equals W_v times the weighted
        sum of x (DeepSeek-V2, 2024, section 2.1.2), so keys and values of the other tokens are
        never projected. The key bias adds the same to all scores; softmax ignores it.
        """
        attention = cast(Attention, self.attn)
        heads, width = attention.num_heads, attention.head_dim
        q_weight, k_weight, v_weight = attention.qkv.weight.reshape(3, heads, width, -1).unbind()
        q_bias, _, v_bias = attention.qkv.bias.reshape(3, heads, 1, width).unbind()
        cls = x[:, None, :1]  # (B, 1, 1, dim)
        queries = (cls @ q_weight.transpose(1, 2) + q_bias) @ k_weight  # (B, heads, 1, dim)
        attended = F.scaled_dot_product_attention(queries[:, :, 0], x, x, scale=attention.scale)
        values = attended[:, :, None] @ v_weight.transpose(1, 2) + v_bias  # (B, heads, 1, width)
        return attention.proj(values.reshape(-1, 1, heads * width))


class FusionTransformer(nn.Module):
    """Transformer over the tokens of all scales and a class token (POSTER++, section 3.3)."""

    def __init__(
        self, tokens: int, dim: int, depth: int, heads: int, classes: int, drop_path: float
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.zeros(1, tokens + 1, dim))
        kinds = [partial(Block, attn_layer=TokenAttention)] * (depth - 1) + [ClassAttentionBlock]
        self.blocks = nn.Sequential(
            *(kind(dim, heads, qkv_bias=True, drop_path=drop_path) for kind in kinds)
        )
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Sigmoid())
        self.head = nn.Linear(dim, classes)
        for weight in (self.cls_token, self.position, self.head.weight):
            trunc_normal_(weight, std=0.02)

    def features(self, tokens: Tensor) -> Tensor:
        """(B, tokens, dim) to the gated class token (B, dim)."""
        start = F.pad(self.cls_token, (0, 0, 0, self.position.shape[1] - 1)) + self.position
        x = self.blocks(F.pad(tokens, (0, 0, 1, 0)) + start)
        cls = self.norm(x[:, 0])
        return cls * self.gate(cls)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, tokens, dim) to logits (B, classes)."""
        return self.head(self.features(tokens))


class TwoStream(nn.Module):
    """Landmarks, logits and, optionally, blendshapes of aligned faces."""

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
        scales: int = len(SCALES),
        blendshapes: bool = False,
        image_head: bool = False,
    ) -> None:
        """Create the network with random weights.

        Args:
            image: name of the backbone.
            dims: widths of the three scales.
            landmark_queries: False replaces cross-attention by self-attention of the image, the
                ablation of Da Re; logits then do not depend on the landmark stream.
            scales: number of scales used, the coarsest first: 3 for 28, 14 and 7; 2 for 14 and 7.
            blendshapes: adds a BlendshapeHead.
            image_head: adds the logits of the linear layers of an ImageClassifier, so that the rest
                learns a correction to them.
        """
        super().__init__()
        self.landmarks = MobileFaceNet().requires_grad_(False)
        self.image = make_backbone(image)
        query_dims = MobileFaceNet.map_channels if landmark_queries else (None,) * len(SCALES)
        self._used_scales = [str(i) for i in range(len(SCALES) - scales, len(SCALES))]
        self.input_proj, self.cross_attention = nn.ModuleDict(), nn.ModuleDict()
        self.tokenizers = nn.ModuleDict()
        for scale in self._used_scales:
            i = int(scale)
            dim = dims[i]
            projection = nn.Conv2d(self.image.channels[i], dim, 1, bias=False)
            self.input_proj[scale] = nn.Sequential(projection, nn.BatchNorm2d(dim))
            self.cross_attention[scale] = CrossAttentionBlock(
                dim, dim // head_dim, query_dims[i], drop_path
            )
            self.tokenizers[scale] = ScaleTokenizer(dim, fusion_dim, len(SCALES) - 1 - i)
        tokens, heads = scales * TOKENS_PER_SCALE, fusion_dim // head_dim
        self.fusion = FusionTransformer(tokens, fusion_dim, fusion_depth, heads, classes, drop_path)
        self.blendshape_head = (
            BlendshapeHead(self.image.channels, fusion_dim) if blendshapes else None
        )
        self.image_head = nn.ModuleDict()
        if image_head:
            self._add_image_head(classes)

    def _add_image_head(self, classes: int) -> None:
        self.image_head["head"] = nn.Linear(self.image.channels[-1], classes)
        if self.blendshape_head is not None:
            self.image_head["blendshape_head"] = nn.Linear(self.image.channels[-1], NUM_BLENDSHAPES)
            nn.init.zeros_(self.blendshape_head.output.weight)
            nn.init.zeros_(self.blendshape_head.output.bias)

    @property
    def side_px(self) -> int:
        """Input side of the backbone."""
        return self.image.side_px

    def train(self, mode: bool = True) -> "TwoStream":
        """Set training mode; the frozen landmark stream stays in eval mode."""
        super().train(mode)
        self.landmarks.eval()
        return self

    def _landmark_maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Landmark maps of the three scales; the frozen stream takes no gradient."""
        if x.shape[-1] != CROP_SIZE_PX:
            x = F.interpolate(x, size=(CROP_SIZE_PX, CROP_SIZE_PX), mode="bilinear")
        with torch.no_grad():
            return self.landmarks.features(x)

    def _attention_inputs(
        self, scale: str, image_maps: list[Tensor], landmark_maps: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Projected image map and landmark map of a scale, both (B, H, W, C)."""
        image = self.input_proj[scale](image_maps[int(scale)])
        return image.permute(0, 2, 3, 1), landmark_maps[int(scale)].permute(0, 2, 3, 1)

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalized images (B, 3, side_px, side_px) to landmarks, logits and blendshapes."""
        landmark_maps, image_maps = self._landmark_maps(x), self.image(x)
        with torch.no_grad():
            landmark_features = self.landmarks.pool(landmark_maps[-1])
            points = self.landmarks.points(landmark_features)
        tokens = []
        for scale in self._used_scales:
            maps = self._attention_inputs(scale, image_maps, landmark_maps)
            tokens.append(self.tokenizers[scale](self.cross_attention[scale](*maps)))
        fused = self.fusion.features(torch.cat(tokens, dim=1))
        logits = self.fusion.head(fused)
        image_features = image_maps[-1].mean(dim=(2, 3))
        if "head" in self.image_head:
            logits = logits + self.image_head["head"](image_features)
        if self.blendshape_head is None:
            return FaceOutput(logits, points)
        shapes = self.blendshape_head(
            image_maps, landmark_maps, image_features, landmark_features, points, fused
        )
        if "blendshape_head" in self.image_head:
            shapes = shapes + self.image_head["blendshape_head"](image_features)
        return FaceOutput(logits, points, shapes.sigmoid())

    def attention_maps(self, x: Tensor) -> list[Tensor]:
        """Attention received by each position, mean 1, of the used scales.

        (B, 28, 28), (B, 14, 14), (B, 7, 7) with three scales.
        """
        landmark_maps, image_maps = self._landmark_maps(x), self.image(x)
        return [
            cast(CrossAttentionBlock, self.cross_attention[scale]).attention_map(
                *self._attention_inputs(scale, image_maps, landmark_maps)
            )
            for scale in self._used_scales
        ]
