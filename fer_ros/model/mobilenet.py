"""An image stream for CPUs: the first eleven blocks of MobileNet (Howard et al., 2017, table 1).

So far the maps of a picture of 112 px stay at 7x7. The normalisation of published weights is fixed,
so it is part of the convolutions here: nothing depends on a batch. As in TensorFlow, whose weights
these are, a stride of 2 adds its border to the right and below.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.model.stream import BlockTrunk, TrunkStream

_STEM = 32
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5)
_ENDS = (2, 4, 10)  # the last block of each scale


class SeparableBlock(nn.Module):
    """A convolution of each channel by itself, and one of all channels in each place."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 2 - stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H / stride, W / stride), 0 to 6."""
        x = F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        return F.relu6(self.pointwise(F.relu6(self.depthwise(x))))


class MobileNet(BlockTrunk):
    """The trunk."""

    channels = tuple(_BLOCKS[end][0] for end in _ENDS)

    def __init__(self) -> None:
        stem = nn.Conv2d(3, _STEM, 3, stride=2)
        blocks: list[nn.Module] = []
        inputs = _STEM
        for width, stride in _BLOCKS:
            blocks.append(SeparableBlock(inputs, width, stride))
            inputs = width
        super().__init__(stem, blocks, _ENDS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to maps of 28x28, 14x14 and 7x7."""
        return self.maps(F.relu6(self.stem(F.pad(x, (0, 1, 0, 1)))))


class MobileNetStream(TrunkStream):
    """The trunk as an image stream."""

    trunk_name = "mobilenet"

    def __init__(self) -> None:
        super().__init__(MobileNet())
