"""Baseline classifiers without landmarks.

The baselines of Da Re (training/RESULTS.md): ViT (Dosovitskiy et al., 2021) and Swin (Liu et al.,
2021); EmotiEffNet's network (Savchenko, 2022), the VGG13 of the FER+ labels (Barsoum et al., 2016),
and a backbone of this package alone.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import timm
from torch import Tensor, nn

from fer_ros.blendshapes import NUM_BLENDSHAPES
from fer_ros.emotions import EMOTIONS
from fer_ros.models.backbones.registry import make_backbone
from fer_ros.models.wrapper import FaceOutput


class TimmClassifier(nn.Module):
    """A timm classifier with random weights."""

    def __init__(
        self, trunk: str, side_px: int, classes: int = len(EMOTIONS), **config: Any
    ) -> None:
        """``config``: arguments of timm's constructor, such as ``depth`` or ``drop_path_rate``."""
        super().__init__()
        self.trunk = timm.create_model(trunk, num_classes=classes, **config)
        self._head = f"{timm.get_pretrained_cfg_value(trunk, 'classifier')}."
        self.backbone_name, self.side_px = trunk, side_px

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalized images (B, 3, side_px, side_px) to logits."""
        return FaceOutput(self.trunk(x), None)

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replace the head of a published state dict by this network's own."""
        own = self.trunk.state_dict()
        return {**state, **{name: own[name] for name in own if name.startswith(self._head)}}


class Vgg13(nn.Module):
    """VGG13 of Barsoum et al. (2016, table 1), 64 px grayscale."""

    side_px = 64
    stages = ((64, 64), (128, 128), (256, 256, 256), (256, 256, 256))

    def __init__(self, classes: int = len(EMOTIONS)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for widths in self.stages:
            for before, after in pairwise((inputs, *widths)):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
            inputs = widths[-1]
        self.features = nn.Sequential(*layers)
        dense: list[nn.Module] = []
        for before, after in pairwise((inputs * 4 * 4, 1024, 1024)):
            dense += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.5)]
        self.head = nn.Sequential(*dense, nn.Linear(1024, classes))
        # Glorot, as published: with PyTorch's default the signal vanishes over 13 layers.
        for value in self.parameters():
            nn.init.xavier_uniform_(value) if value.ndim > 1 else nn.init.zeros_(value)

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalized images (B, 3, 64, 64) to logits."""
        maps = self.features(x.mean(dim=1, keepdim=True))  # (B, 256, 4, 4)
        return FaceOutput(self.head(maps.flatten(1)), None)


class ImageClassifier(nn.Module):
    """A backbone with global average pooling: TwoStream without the landmark stream.

    It costs a quarter of TwoStream's compute and is used to fine-tune the trunk.
    """

    def __init__(
        self,
        image: str = "face_resnet",
        drop: float = 0.2,
        classes: int = len(EMOTIONS),
        blendshapes: bool = False,
    ) -> None:
        """``blendshapes``: adds a linear layer for them, as an auxiliary task."""
        super().__init__()
        self.image = make_backbone(image)
        self.drop = nn.Dropout(drop)
        width = self.image.channels[-1]
        self.head = nn.Linear(width, classes)
        self.blendshape_head = nn.Linear(width, NUM_BLENDSHAPES) if blendshapes else None

    @property
    def side_px(self) -> int:
        """Input side of the backbone."""
        return self.image.side_px

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalized images (B, 3, side_px, side_px) to logits and, optionally, blendshapes."""
        features = self.image(x)[-1].mean(dim=(2, 3))
        blendshapes = None
        if self.blendshape_head is not None:
            blendshapes = self.blendshape_head(features).sigmoid()
        return FaceOutput(self.head(self.drop(features)), None, blendshapes)
