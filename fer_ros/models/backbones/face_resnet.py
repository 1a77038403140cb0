"""dlib's face recognition ResNet as a backbone.

The layers are those of ``dlib_face_recognition_resnet_model_v1`` (King, 2017: a ResNet with 29
convolutions, trained on three million face images) without the last stage. Its affine layers are
fixed after training and folded into the convolutions here, so nothing depends on batch statistics.
Dense convolutions train and run several times faster on a CPU than depthwise ones of equal cost.
"""

from collections.abc import Mapping
from itertools import accumulate

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.models.backbones.base import BlockTrunk, TrunkBackbone

_WIDTHS, _DEPTHS = (32, 64, 128, 256), (3, 4, 3, 3)  # of each stage; blocks
SMALL_DEPTHS = (3, 4, 2, 1)
"""Three fifths of the multiplications: without the blocks whose removal changes predictions
least."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a parameter-free shortcut: average pooling and zero channels."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.stride, self.added_channels = stride, width - inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        y = self.conv2(F.relu(self.conv1(x)))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        if self.added_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.added_channels))
        return F.relu(x + y)


class FaceResNet(BlockTrunk):
    """The trunk. The last stage is dilated instead of strided, which keeps its map at 7x7."""

    channels = (_WIDTHS[0], _WIDTHS[1], _WIDTHS[3])

    def __init__(self, depths: tuple[int, int, int, int] = _DEPTHS) -> None:
        stem = nn.Conv2d(3, _WIDTHS[0], 7, stride=2, padding=3)
        blocks: list[nn.Module] = []
        inputs = _WIDTHS[0]
        for stage, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True)):
            is_last = stage == len(_WIDTHS) - 1
            for index in range(depth):
                is_strided = index == 0 and stage > 0 and not is_last
                blocks.append(ResidualBlock(inputs, width, 1 + is_strided, 1 + is_last))
                inputs = width
        first, second = depths[0], depths[0] + depths[1]
        super().__init__(stem, blocks, (first - 1, second - 1, len(blocks) - 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to the maps after the first, the second and the last stage."""
        return self.maps(F.max_pool2d(F.relu(self.stem(x)), 3, stride=2, padding=1))


class FaceResNetBackbone(TrunkBackbone):
    """FaceResNet as a backbone."""

    backbone_name = "face_resnet"

    def __init__(self, depths: tuple[int, int, int, int] = _DEPTHS) -> None:
        super().__init__(FaceResNet(depths))
        self._depths = depths

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of dlib's network need no conversion, but may be deeper."""
        return self.adapt_state_dict(state)

    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Drop the last blocks of each stage of a full trunk, as many as this one lacks.

        A residual network works without some of its blocks (Veit et al., 2016).
        """
        if f"blocks.{sum(_DEPTHS) - 1}.conv1.weight" not in state:
            return dict(state)
        starts = [0, *accumulate(_DEPTHS[:-1])]
        kept_blocks = [
            s + i for s, depth in zip(starts, self._depths, strict=True) for i in range(depth)
        ]
        adapted = {name: value for name, value in state.items() if not name.startswith("blocks.")}
        for index, block in enumerate(kept_blocks):
            prefix = f"blocks.{block}."
            adapted |= {
                f"blocks.{index}.{name.removeprefix(prefix)}": value
                for name, value in state.items()
                if name.startswith(prefix)
            }
        return adapted
