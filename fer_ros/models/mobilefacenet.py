"""MobileFaceNet (Chen et al., 2018, table 1) as a regressor of 68 landmarks.

Layer names follow the state dict of the public 68-point checkpoint (pytorch_face_landmark, Chen,
2021), which POSTER++ (Mao et al., 2023) uses as its landmark stream, so that both load strictly.
"""

from collections import OrderedDict

from torch import Tensor, nn

from fer_ros.landmarks68 import NUM_LANDMARKS


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs))


class LinearBlock(nn.Sequential):
    """Convolution and batch normalization, no non-linearity."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> None:
        super().__init__(_conv_bn(inputs, outputs, kernel, groups=groups))


class ConvBlock(nn.Sequential):
    """Convolution, batch normalization, PReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        layers = _conv_bn(inputs, outputs, kernel, stride, kernel // 2, groups)
        super().__init__(OrderedDict(layers, prelu=nn.PReLU(outputs)))


class Bottleneck(nn.Module):
    """Inverted residual: expand, depthwise 3x3, project."""

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.conv = ConvBlock(inputs, hidden)
        self.conv_dw = ConvBlock(hidden, hidden, kernel=3, stride=stride, groups=hidden)
        self.project = LinearBlock(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out = self.project(self.conv_dw(self.conv(x)))
        return x + out if self.residual else out


class Stage(nn.Module):
    """A sequence of residual bottlenecks of one width."""

    def __init__(self, channels: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *(Bottleneck(channels, channels, hidden, stride=1) for _ in range(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        return self.model(x)


class GlobalDepthwiseHead(nn.Module):
    """Global depthwise convolution over the 7x7 map, then a normalized linear layer."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv_6_dw = LinearBlock(channels, channels, kernel=7, groups=channels)
        self.linear = nn.Linear(channels, outputs, bias=False)
        self.bn = nn.BatchNorm1d(outputs)

    def pool(self, x: Tensor) -> Tensor:
        """(B, channels, 7, 7) to (B, channels)."""
        return self.conv_6_dw(x).flatten(1)

    def project(self, pooled: Tensor) -> Tensor:
        """(B, channels) to (B, outputs)."""
        return self.bn(self.linear(pooled))


class MobileFaceNet(nn.Module):
    """112 px face crop to 68 landmarks and three feature maps."""

    map_channels = (64, 128, 512)
    """Channels of the maps at 28x28, 14x14 and 7x7."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 64, kernel=3, stride=2)  # 56x56
        self.conv2_dw = ConvBlock(64, 64, kernel=3, groups=64)
        self.conv_23 = Bottleneck(64, 64, hidden=128, stride=2)  # 28x28
        self.conv_3 = Stage(64, hidden=128, depth=4)
        self.conv_34 = Bottleneck(64, 128, hidden=256, stride=2)  # 14x14
        self.conv_4 = Stage(128, hidden=256, depth=6)
        self.conv_45 = Bottleneck(128, 128, hidden=512, stride=2)  # 7x7
        self.conv_5 = Stage(128, hidden=256, depth=2)
        self.conv_6_sep = ConvBlock(128, 512)
        self.output_layer = GlobalDepthwiseHead(512, 2 * NUM_LANDMARKS)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, 112, 112) to maps (B, 64, 28, 28), (B, 128, 14, 14), (B, 512, 7, 7)."""
        map_28 = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(x))))
        map_14 = self.conv_4(self.conv_34(map_28))
        map_7 = self.conv_6_sep(self.conv_5(self.conv_45(map_14)))
        return map_28, map_14, map_7

    def pool(self, map_7: Tensor) -> Tensor:
        """(B, 512, 7, 7) to the pooled features (B, 512) that ``points`` takes."""
        return self.output_layer.pool(map_7)

    def points(self, pooled: Tensor) -> Tensor:
        """(B, 512) to landmarks (B, 68, 2): x, y as fractions of the crop's side."""
        return self.output_layer.project(pooled).reshape(-1, NUM_LANDMARKS, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112), normalized, to (B, 68, 2): x, y as fractions of the crop's side."""
        return self.points(self.pool(self.features(x)[2]))
