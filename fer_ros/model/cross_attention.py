"""Window cross-attention: landmarks ask, the image answers.

The attention of POSTER++ (Mao et al., 2023, section 3.2) with two things that it lacks: real
windows where the map is larger than one (Liu et al., Swin Transformer, 2021, section 3.2), and a
learned projection of the landmark map to queries.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import DropPath, LayerScale, Mlp, trunc_normal_
from torch import Tensor, nn

WINDOW = 7


def partition(maps: Tensor, heads: int, side: int = WINDOW) -> Tensor:
    """Cuts maps (B, H, W, C) into windows, row by row, and their channels into heads.

    (B * H/side * W/side, heads, side * side, C/heads).
    """
    # Integers, so that an exported graph is of fixed sizes but for the batch.
    height, width, channels = (int(size) for size in maps.shape[1:])
    shape = (height // side, side, width // side, side, heads, channels // heads)
    cut = maps.reshape(-1, *shape).permute(0, 1, 3, 5, 2, 4, 6)
    return cut.reshape(-1, heads, side * side, channels // heads)


def reverse(windows: Tensor, height: int, width: int, side: int = WINDOW) -> Tensor:
    """Inverse of ``partition``: maps (B, height, width, C)."""
    heads, _, head_dim = (int(size) for size in windows.shape[1:])
    shape = (height // side, width // side, heads, side, side, head_dim)
    cut = windows.reshape(-1, *shape).permute(0, 1, 4, 2, 5, 3, 6)
    return cut.reshape(-1, height, width, heads * head_dim)


def relative_index(side: int = WINDOW) -> Tensor:
    """For each pair of places in a window (side^2, side^2), the row of its offset's bias."""
    places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    flat = places.flatten(1)  # (2, side^2)
    offset = flat[:, :, None] - flat[:, None, :] + side - 1
    return offset[0] * (2 * side - 1) + offset[1]


class WindowCrossAttention(nn.Module):
    """Multi-head attention inside windows of 7x7, with a relative position bias."""

    index: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.keys_values = nn.Linear(dim, 2 * dim)
        self.project = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("index", relative_index(), persistent=False)
        trunc_normal_(self.bias, std=0.02)

    def _position_bias(self) -> Tensor:
        return self.bias[self.index].permute(2, 0, 1)  # (heads, 49, 49)

    def _parts(self, queries: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (N, heads, 49, dim / heads)."""
        cut = partition(self.keys_values(image), 2 * self.heads)
        keys, values = cut.split(self.heads, dim=1)
        return partition(queries, self.heads), keys, values

    def forward(self, queries: Tensor, image: Tensor) -> Tensor:
        """Maps of queries and of the image (B, H, W, dim) to what was found (B, H, W, dim)."""
        height, width = (int(size) for size in image.shape[1:3])
        parts, bias = self._parts(queries, image), self._position_bias()
        found = F.scaled_dot_product_attention(*parts, attn_mask=bias, scale=self.scale)
        return self.project(reverse(found, height, width))

    def weights(self, queries: Tensor, image: Tensor) -> Tensor:
        """The attention itself (N, heads, 49, 49): rows are queries and add up to 1."""
        asking, keys, _ = self._parts(queries, image)
        scores = asking @ keys.transpose(-2, -1) * self.scale
        return (scores + self._position_bias()).softmax(dim=-1)


class CrossAttentionBlock(nn.Module):
    """One scale: attention of the image to the landmarks, then an MLP, both residual."""

    def __init__(
        self, dim: int, heads: int, landmark_dim: int | None, drop_path: float = 0.0
    ) -> None:
        """``landmark_dim`` None: the queries come from the image itself."""
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

    def _asked(self, image: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Queries, and what they are asked of: both (B, H, W, dim)."""
        asking = landmarks if self.from_landmarks else image
        return self.query_norm(self.query(asking)), self.image_norm(image)

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Maps (B, H, W, dim) and (B, H, W, landmark_dim) to (B, H, W, dim); sides are 7 * n."""
        found = self.attention(*self._asked(image, landmarks))
        image = image + self.drop_path(self.attention_scale(found))
        return image + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(image))))

    def attention_map(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """How much each place of the image is looked at (B, H, W): mean over heads and queries."""
        weights = self.attention.weights(*self._asked(image, landmarks))
        looked_at = weights.mean(dim=(1, 2))[:, None, :, None] * WINDOW**2  # 1 on average
        return reverse(looked_at, *image.shape[1:3])[..., 0]
