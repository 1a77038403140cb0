"""A trunk that sees a quarter of the patches, and a small decoder that draws the others.

Masked autoencoders (He et al., 2022).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.utils import get_at_index, normalize_mean_var, patchify, set_at_index
from timm.models import VisionTransformer
from torch import Tensor, nn

from fer_ros.config import Checked, setting
from fer_ros.model.network import FaceInput
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import InputSpec
from training.method import Method, feature_std, grid_side
from training.multicrop import Shot


@dataclass(frozen=True)
class MaeConfig(Checked):
    """What is masked, and what draws it."""

    masked: float = setting(0.75, "share of the patches", 0.01, 0.99)
    decoder_width: int = setting(256, "of its tokens", 4, 65536)
    decoder_depth: int = setting(4, "its blocks", 1, 64)
    decoder_heads: int = setting(8, "of its attention", 1, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_width % self.decoder_heads or self.decoder_width % 4:
            raise ValueError(
                f"decoder_width: expected a multiple of 4 and of {self.decoder_heads} heads, "
                f"got {self.decoder_width}"
            )


class Mae(Method):
    """Encoder and decoder; ``started`` trunks keep the weights and positions that they have."""

    def __init__(
        self,
        trunk: VisionTransformer,
        side_px: int,
        area: float,
        config: MaeConfig,
        started: bool = False,
    ) -> None:
        """``area``: smallest share of the crop in a view."""
        super().__init__()
        self.config, self.patches = config, grid_side(trunk) ** 2
        self.kept = max(1, round((1 - config.masked) * self.patches))
        self.shots, self.numbers = [Shot(CROP_SIZE_PX, area, 1.0)], self.patches
        self.input = FaceInput(InputSpec(size_px=side_px))
        self.encoder = MaskedVisionTransformerTIMM(
            trunk,
            weight_initialization="skip" if started else "",
            pos_embed_initialization="skip" if started else "sincos",
        )
        self.encoder.mask_token.requires_grad_(False)  # what is masked is left out instead
        width = config.decoder_width
        self.enter = nn.Linear(trunk.embed_dim, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            self.patches,
            width,
            config.decoder_depth,
            config.decoder_heads,
            num_prefix_tokens=trunk.num_prefix_tokens,
        )
        self.draw = nn.Linear(width, trunk.patch_embed.patch_size[0] ** 2)

    @property
    def trunk(self) -> VisionTransformer:
        """The encoder."""
        return self.encoder.vit

    def encoders(self) -> list[MaskedVisionTransformerTIMM]:
        """The only one."""
        return [self.encoder]

    def forward(
        self, views: list[Tensor], numbers: Tensor, step: int, steps: int
    ) -> dict[str, Tensor]:
        """``loss``: squared error of masked patches; grey pixels, normalised in each patch."""
        pictures = self.input(views[0])
        order = numbers.argsort(dim=1).to(pictures.device)
        kept, masked = order[:, : self.kept], order[:, self.kept :]
        tokens = self.encoder(pictures, idx_keep=self._with_prefix(kept))
        drawn = self._decode(tokens, kept, masked)
        side = self.trunk.patch_embed.patch_size[0]
        truth = normalize_mean_var(get_at_index(patchify(pictures[:, :1], side), masked))
        spread = feature_std(tokens[:, self._prefix :].mean(dim=1))
        return {"loss": F.mse_loss(drawn.float(), truth), "feature_std": spread}

    @property
    def _prefix(self) -> int:
        return self.trunk.num_prefix_tokens

    def _with_prefix(self, patches: Tensor) -> Tensor:
        """Indices of tokens (B, prefix + n): those before the patches, and patches (B, n)."""
        first = torch.arange(self._prefix, device=patches.device).expand(len(patches), -1)
        return torch.cat([first, patches + self._prefix], dim=1)

    def _decode(self, tokens: Tensor, kept: Tensor, masked: Tensor) -> Tensor:
        """Pixels (B, n, side * side) of the ``masked`` patches (B, n)."""
        known = self.enter(tokens)
        unknown = self.decoder.mask_token.to(known.dtype)
        everything = unknown.repeat(len(tokens), self._prefix + self.patches, 1)
        seen = self.decoder(set_at_index(everything, self._with_prefix(kept), known))
        return self.draw(get_at_index(seen, masked + self._prefix))

    def features(self, crops: Tensor) -> Tensor:
        """The mean of the patches: no loss asks the class token for anything."""
        return self.encoder.encode(self.input(crops))[:, self._prefix :].mean(dim=1)
