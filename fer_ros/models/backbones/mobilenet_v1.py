"""MobileNet v1 as a backbone: its first eleven blocks (Howard et al., 2017, table 1).

The eleven blocks of a 112 px image end at 7x7. Batch normalization of the pretrained weights is
folded into the convolutions, so nothing depends on batch statistics. As in TensorFlow, where the
weights come from, strided convolutions pad on the right and the bottom.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.models.backbones.base import BlockTrunk, TrunkBackbone

_STEM = 32
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5)
_LAST_BLOCKS = (2, 4, 10)  # of each scale


class SeparableBlock(nn.Module):
    """Depthwise separable convolution: depthwise 3x3, then pointwise 1x1."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 2 - stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H / stride, W / stride), values in 0..6."""
        x = F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        return F.relu6(self.pointwise(F.relu6(self.depthwise(x))))


class MobileNet(BlockTrunk):
    """The trunk."""

    channels = tuple(_BLOCKS[index][0] for index in _LAST_BLOCKS)

    def __init__(self) -> None:
        stem = nn.Conv2d(3, _STEM, 3, stride=2)
        blocks: list[nn.Module] = []
        inputs = _STEM
        for width, stride in _BLOCKS:
            blocks.append(SeparableBlock(inputs, width, stride))
            inputs = width
        super().__init__(stem, blocks, _LAST_BLOCKS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to maps of 28x28, 14x14 and 7x7."""
        return self.maps(F.relu6(self.stem(F.pad(x, (0, 1, 0, 1)))))


class MobileNetBackbone(TrunkBackbone):
    """MobileNet v1 as a backbone."""

    backbone_name = "mobilenet"

    def __init__(self) -> None:
        super().__init__(MobileNet())
