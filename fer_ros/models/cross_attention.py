"""Window cross-attention: queries from the landmark stream, keys and values from the image stream.

The attention of POSTER++ (Mao et al., 2023, section 3.2) with two additions: windows of 7x7 where
the map is larger than one window (Liu et al., Swin Transformer, 2021, section 3.2), and a learned
query projection.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import DropPath, LayerScale, Mlp, trunc_normal_
from torch import Tensor, nn

WINDOW = 7


def window_partition(maps: Tensor, heads: int, side: int = WINDOW) -> Tensor:
    """Split maps (B, H, W, C) into windows, in row-major order, and channels into heads.

    Returns (B * H/side * W/side, heads, side * side, C/heads).
    """
    # int(): sizes other than the batch become constants of the exported graph.
    height, width, channels = (int(size) for size in maps.shape[1:])
    shape = (height // side, side, width // side, side, heads, channels // heads)
    windows = maps.reshape(-1, *shape).permute(0, 1, 3, 5, 2, 4, 6)
    return windows.reshape(-1, heads, side * side, channels // heads)


def window_reverse(windows: Tensor, height: int, width: int, side: int = WINDOW) -> Tensor:
    """Inverse of ``window_partition``: maps (B, height, width, C)."""
    heads, _, head_dim = (int(size) for size in windows.shape[1:])
    shape = (height // side, width // side, heads, side, side, head_dim)
    maps = windows.reshape(-1, *shape).permute(0, 1, 4, 2, 5, 3, 6)
    return maps.reshape(-1, height, width, heads * head_dim)


def relative_position_index(side: int = WINDOW) -> Tensor:
    """Index (side^2, side^2) into the relative position bias for each pair of window positions."""
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    positions = grid.flatten(1)  # (2, side^2)
    offset = positions[:, :, None] - positions[:, None, :] + side - 1
    return offset[0] * (2 * side - 1) + offset[1]


class WindowCrossAttention(nn.Module):
    """Multi-head cross-attention inside 7x7 windows with a relative position bias."""

    index: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.keys_values = nn.Linear(dim, 2 * dim)
        self.project = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("index", relative_position_index(), persistent=False)
        trunc_normal_(self.bias, std=0.02)

    def _position_bias(self) -> Tensor:
        return self.bias[self.index].permute(2, 0, 1)  # (heads, 49, 49)

    def _query_key_value(self, queries: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (N, heads, 49, dim / heads)."""
        keys_values = window_partition(self.keys_values(image), 2 * self.heads)
        keys, values = keys_values.split(self.heads, dim=1)
        return window_partition(queries, self.heads), keys, values

    def forward(self, queries: Tensor, image: Tensor) -> Tensor:
        """Query and image maps (B, H, W, dim) to (B, H, W, dim)."""
        height, width = (int(size) for size in image.shape[1:3])
        qkv, bias = self._query_key_value(queries, image), self._position_bias()
        windows = F.scaled_dot_product_attention(*qkv, attn_mask=bias, scale=self.scale)
        return self.project(window_reverse(windows, height, width))

    def weights(self, queries: Tensor, image: Tensor) -> Tensor:
        """Attention weights (N, heads, 49, 49); rows sum to 1."""
        query, key, _ = self._query_key_value(queries, image)
        scores = query @ key.transpose(-2, -1) * self.scale
        return (scores + self._position_bias()).softmax(dim=-1)


class CrossAttentionBlock(nn.Module):
    """Cross-attention and MLP of one scale, both residual with LayerScale."""

    def __init__(
        self, dim: int, heads: int, landmark_dim: int | None, drop_path: float = 0.0
    ) -> None:
        """``landmark_dim`` None: self-attention, queries come from the image."""
        super().__init__()
        self.query = nn.Linear(landmark_dim or dim, dim)
        self.query_norm = nn.LayerNorm(dim)
        self.image_norm = nn.LayerNorm(dim)
        self.attention = WindowCrossAttention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.attention_scale = LayerScale(dim, 0.1)
        self.mlp_scale = LayerScale(dim, 0.1)
        self.drop_path = DropPath(drop_path)
        self.from_landmarks = landmark_dim is not None

    def _query_and_context(self, image: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized query and context maps (B, H, W, dim)."""
        source = landmarks if self.from_landmarks else image
        return self.query_norm(self.query(source)), self.image_norm(image)

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Maps (B, H, W, dim), (B, H, W, landmark_dim) to (B, H, W, dim); H, W multiples of 7."""
        attended = self.attention(*self._query_and_context(image, landmarks))
        image = image + self.drop_path(self.attention_scale(attended))
        return image + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(image))))

    def attention_map(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Attention received by each position (B, H, W), mean over heads and queries, mean 1."""
        weights = self.attention.weights(*self._query_and_context(image, landmarks))
        received = weights.mean(dim=(1, 2))[:, None, :, None] * WINDOW**2
        return window_reverse(received, *image.shape[1:3])[..., 0]
