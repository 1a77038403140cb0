"""Masked autoencoder (He et al., 2022)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.utils import get_at_index, normalize_mean_var, patchify, set_at_index
from timm.models import VisionTransformer
from torch import Tensor, nn

from fer_ros.config import ValidatedConfig, config_field
from fer_ros.inference.model_store import InputSpec
from fer_ros.models.wrapper import FaceInput
from fer_ros.types import CROP_SIZE_PX
from training.ssl.base import SelfSupervisedMethod, feature_std, grid_side
from training.ssl.multicrop import ViewSpec


@dataclass(frozen=True)
class MaeConfig(ValidatedConfig):
    """Mask and decoder."""

    mask_ratio: float = config_field(0.75, "fraction of the patches that is masked", 0.01, 0.99)
    decoder_width: int = config_field(256, "dimension of the decoder's tokens", 4, 65536)
    decoder_depth: int = config_field(4, "blocks of the decoder", 1, 64)
    decoder_heads: int = config_field(8, "attention heads of the decoder", 1, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_width % self.decoder_heads or self.decoder_width % 4:
            raise ValueError(
                f"decoder_width: expected a multiple of 4 and of {self.decoder_heads} heads, "
                f"found {self.decoder_width}"
            )


class Mae(SelfSupervisedMethod):
    """Encoder and decoder. A ``pretrained`` encoder keeps its weights and position embedding."""

    def __init__(
        self,
        trunk: VisionTransformer,
        side_px: int,
        area: float,
        config: MaeConfig,
        pretrained: bool = False,
    ) -> None:
        """``area``: smallest fraction of the crop in a view."""
        super().__init__()
        self.config, self.num_patches = config, grid_side(trunk) ** 2
        self.num_visible = max(1, round((1 - config.mask_ratio) * self.num_patches))
        self.view_specs = [ViewSpec(CROP_SIZE_PX, area, 1.0)]
        self.num_random_draws = self.num_patches
        self.input = FaceInput(InputSpec(size_px=side_px))
        self.encoder = MaskedVisionTransformerTIMM(
            trunk,
            weight_initialization="skip" if pretrained else "",
            pos_embed_initialization="skip" if pretrained else "sincos",
        )
        self.encoder.mask_token.requires_grad_(False)  # masked patches are left out
        width = config.decoder_width
        self.decoder_embed = nn.Linear(trunk.embed_dim, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            self.num_patches,
            width,
            config.decoder_depth,
            config.decoder_heads,
            num_prefix_tokens=trunk.num_prefix_tokens,
        )
        self.decoder_pred = nn.Linear(width, trunk.patch_embed.patch_size[0] ** 2)

    @property
    def trunk(self) -> VisionTransformer:
        """The encoder."""
        return self.encoder.vit

    def encoders(self) -> list[MaskedVisionTransformerTIMM]:
        """The encoder."""
        return [self.encoder]

    def forward(
        self, views: list[Tensor], numbers: Tensor, step: int, steps: int
    ) -> dict[str, Tensor]:
        """``loss``: squared error of gray pixels in masked patches, each normalized."""
        images = self.input(views[0])
        order = numbers.argsort(dim=1).to(images.device)
        visible, masked = order[:, : self.num_visible], order[:, self.num_visible :]
        tokens = self.encoder(images, idx_keep=self._with_prefix(visible))
        predicted = self._decode(tokens, visible, masked)
        side = self.trunk.patch_embed.patch_size[0]
        target = normalize_mean_var(get_at_index(patchify(images[:, :1], side), masked))
        spread = feature_std(tokens[:, self._prefix :].mean(dim=1))
        return {"loss": F.mse_loss(predicted.float(), target), "feature_std": spread}

    @property
    def _prefix(self) -> int:
        return self.trunk.num_prefix_tokens

    def _with_prefix(self, patches: Tensor) -> Tensor:
        """Token indices (B, prefix + n) of patches (B, n), after those of the prefix tokens."""
        first = torch.arange(self._prefix, device=patches.device).expand(len(patches), -1)
        return torch.cat([first, patches + self._prefix], dim=1)

    def _decode(self, tokens: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Pixels (B, n, side * side) of the ``masked`` patches (B, n)."""
        visible_tokens = self.decoder_embed(tokens)
        mask_token = self.decoder.mask_token.to(visible_tokens.dtype)
        tokens_with_masks = mask_token.repeat(len(tokens), self._prefix + self.num_patches, 1)
        decoded = self.decoder(
            set_at_index(tokens_with_masks, self._with_prefix(visible), visible_tokens)
        )
        return self.decoder_pred(get_at_index(decoded, masked + self._prefix))

    def features(self, crops: Tensor) -> Tensor:
        """Mean of the patch tokens: no loss trains the class token."""
        return self.encoder.encode(self.input(crops))[:, self._prefix :].mean(dim=1)
