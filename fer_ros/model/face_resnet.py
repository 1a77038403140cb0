"""An image stream for faces: a narrow residual network of plain 3x3 convolutions.

It has the layers of dlib's face recognition network (King, 2017: a ResNet of 29 layers, trained
to tell three million face pictures apart), without the last stage. That network's normalisation
is fixed, so it is part of the convolutions here: nothing depends on a batch, and dense
convolutions train and run several times faster on a CPU than depthwise ones of equal cost.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.model.stream import BlockTrunk, TrunkStream

_STAGES = ((32, 3), (64, 4), (128, 3), (256, 3))  # width, blocks


class ResidualBlock(nn.Module):
    """Two convolutions beside a path without weights, which is pooled and gets empty channels."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.stride, self.added = stride, width - inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        y = self.conv2(F.relu(self.conv1(x)))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        if self.added:
            x = F.pad(x, (0, 0, 0, 0, 0, self.added))
        return F.relu(x + y)


class FaceResNet(BlockTrunk):
    """The trunk. Its last stage is dilated instead of strided, so that its map stays at 7x7."""

    channels = (_STAGES[0][0], _STAGES[1][0], _STAGES[3][0])

    def __init__(self) -> None:
        stem = nn.Conv2d(3, _STAGES[0][0], 7, stride=2, padding=3)
        blocks: list[nn.Module] = []
        inputs = _STAGES[0][0]
        for index, (width, depth) in enumerate(_STAGES):
            is_last = index == len(_STAGES) - 1
            for place in range(depth):
                strides = place == 0 and index > 0 and not is_last
                blocks.append(ResidualBlock(inputs, width, 1 + strides, 1 + is_last))
                inputs = width
        first, second = _STAGES[0][1], _STAGES[0][1] + _STAGES[1][1]
        super().__init__(stem, blocks, (first - 1, second - 1, len(blocks) - 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to the maps behind the first, the second and the last stage."""
        return self.maps(F.max_pool2d(F.relu(self.stem(x)), 3, stride=2, padding=1))


class FaceStream(TrunkStream):
    """The trunk as an image stream."""

    trunk_name = "face_resnet"

    def __init__(self) -> None:
        super().__init__(FaceResNet())
