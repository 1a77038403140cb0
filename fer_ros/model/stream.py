"""What every image stream promises, whatever its trunk."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from torch import Tensor, nn

SCALES = (28, 14, 7)
"""Sides of the three maps."""


class ImageStream(nn.Module):
    """Normalised pictures (B, 3, side_px, side_px) to three maps of ``channels``, sides SCALES.

    ``trunk`` is the part that others publish weights for, ``trunk_name`` its name in timm.
    """

    side_px: int
    channels: tuple[int, ...]
    trunk: nn.Module
    trunk_name: str
    frozen = False

    def freeze(self) -> None:
        """From now on the trunk is not trained, its batch statistics neither."""
        self.frozen = True
        self.trunk.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ImageStream":
        """A frozen trunk stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The trunk's trained parameters from the input on: stem, each block, what follows.

        For learning rates that decay towards the input (Bao et al., BEiT, 2022, appendix).
        """
        trained = [item for item in self.trunk.named_parameters() if item[1].requires_grad]
        return [[value for _, value in group] for _, group in groupby(trained, _block)]

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict under the trunk's names; what does not fit is left as it is."""
        return dict(state)


class BlockTrunk(nn.Module):
    """A stem and blocks without normalisation, of which the maps of three scales are given.

    ``ends``: the last block of each scale, by number.
    """

    channels: tuple[int, ...]

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], ends: Sequence[int]) -> None:
        super().__init__()
        self.stem, self.blocks, self._ends = stem, nn.ModuleList(blocks), ends
        for name, value in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(value, nonlinearity="relu")
            else:
                nn.init.zeros_(value)

    def maps(self, x: Tensor) -> list[Tensor]:
        """What the stem gave to the maps behind the last block of each scale."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return [maps[end] for end in self._ends]


class TrunkStream(ImageStream):
    """A trunk that gives the maps of a picture of 112 px itself."""

    side_px = 4 * SCALES[0]

    def __init__(self, trunk: BlockTrunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.channels = trunk.channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to maps (B, channels[i], SCALES[i], SCALES[i])."""
        return self.trunk(x)


def _block(named: tuple[str, nn.Parameter]) -> str:
    match = re.match(r"blocks\.\d+\.", named[0])
    return match.group() if match else ""
