"""IR-50, the residual network of ArcFace (Deng et al., 2019, section 3.1), without its last stage.

Layer names follow the state dict of POSTER++ (Mao et al., 2023), which uses it as image stream.
"""

from torch import Tensor, nn

STAGES = ((64, 3), (128, 4), (256, 14))
"""Channels and number of units of each stage."""


class BottleneckIR(nn.Module):
    """Pre-activation residual unit: BN, conv, PReLU, conv, BN."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        # A kernel of 1 only subsamples. PyTorch 2.12 cannot compile MaxPool2d with a kernel of 1.
        self.shortcut_layer: nn.Module = nn.AvgPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.res_layer(x) + self.shortcut_layer(x)


def _stage(inputs: int, outputs: int, units: int) -> nn.Sequential:
    """A stage whose first unit halves the spatial size."""
    rest = (BottleneckIR(outputs, outputs, stride=1) for _ in range(units - 1))
    return nn.Sequential(BottleneckIR(inputs, outputs, stride=2), *rest)


class IR50(nn.Module):
    """112 px face to three feature maps."""

    channels = tuple(channels for channels, _ in STAGES)

    def __init__(self) -> None:
        super().__init__()
        first = STAGES[0][0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        # The recognition head: present in published checkpoints, unused by forward().
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.0),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512),
        ).requires_grad_(False)
        self.body1, self.body2, self.body3 = (
            _stage(inputs, outputs, units)
            for inputs, (outputs, units) in zip((first, *self.channels), STAGES, strict=False)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, 112, 112) to maps (B, 64, 56, 56), (B, 128, 28, 28), (B, 256, 14, 14)."""
        map_56 = self.body1(self.input_layer(x))
        map_28 = self.body2(map_56)
        return map_56, map_28, self.body3(map_28)
