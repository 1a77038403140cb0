"""Backbone interface: an aligned face image to feature maps at three scales."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from torch import Tensor, nn

SCALES = (28, 14, 7)
"""Side lengths of the three feature maps."""


class Backbone(nn.Module):
    """Maps normalized images (B, 3, side_px, side_px) to three feature maps.

    Map ``i`` has shape (B, channels[i], SCALES[i], SCALES[i]). ``trunk`` is the part for which
    pretrained weights are published; ``backbone_name`` is its name in timm or in this package.
    """

    side_px: int
    channels: tuple[int, ...]
    trunk: nn.Module
    backbone_name: str
    frozen = False

    def freeze(self) -> None:
        """Exclude the trunk from training and freeze its batch statistics."""
        self.frozen = True
        self.trunk.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Set training mode; a frozen trunk stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Trainable trunk parameters grouped from input to output: stem, each block, the rest.

        For layer-wise learning-rate decay (Bao et al., BEiT, 2022, appendix).
        """
        trained = [item for item in self.trunk.named_parameters() if item[1].requires_grad]
        return [[value for _, value in group] for _, group in groupby(trained, _block_prefix)]

    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adapt the state dict of a trunk of this package that may be deeper than this one."""
        return dict(state)

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a published state dict to the trunk's; unknown keys are kept for reporting."""
        return dict(state)


class BlockTrunk(nn.Module):
    """A stem and a sequence of blocks without normalization layers.

    ``last_blocks`` are the indices of the blocks whose outputs are the three feature maps.
    """

    channels: tuple[int, ...]

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], last_blocks: Sequence[int]):
        super().__init__()
        self.stem, self.blocks, self._last_blocks = stem, nn.ModuleList(blocks), last_blocks
        for name, value in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(value, nonlinearity="relu")
            else:
                nn.init.zeros_(value)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Stem output to the feature map of each scale."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return [maps[index] for index in self._last_blocks]


class TrunkBackbone(Backbone):
    """A backbone whose trunk returns the three maps of a 112 px image itself."""

    side_px = 4 * SCALES[0]

    def __init__(self, trunk: BlockTrunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.channels = trunk.channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to maps (B, channels[i], SCALES[i], SCALES[i])."""
        return self.trunk(x)


def _block_prefix(named: tuple[str, nn.Parameter]) -> str:
    match = re.match(r"blocks\.\d+\.", named[0])
    return match.group() if match else ""
