"""Networks to compare with: a whole face to logits, no landmarks.

The thesis's own baselines (ViT, Dosovitskiy et al., 2021; Swin, Liu et al., 2021), EmotiEffNet's
network (Savchenko, 2022), the one that came with the FER+ labels (Barsoum et al., 2016), and an
image stream of ours alone.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import timm
from torch import Tensor, nn

from fer_ros.labels import EMOTIONS
from fer_ros.model.image_stream import image_stream
from fer_ros.model.network import FaceOutput


class Baseline(nn.Module):
    """A classifier of timm with fresh weights."""

    def __init__(
        self, trunk: str, side_px: int, classes: int = len(EMOTIONS), **config: Any
    ) -> None:
        """``config``: arguments of timm's constructor, such as ``depth`` or ``drop_path_rate``."""
        super().__init__()
        self.trunk = timm.create_model(trunk, num_classes=classes, **config)
        self._head = f"{timm.get_pretrained_cfg_value(trunk, 'classifier')}."
        self.trunk_name, self.side_px = trunk, side_px

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalised pictures (B, 3, side_px, side_px) to logits."""
        return FaceOutput(self.trunk(x), None)

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict with the fresh head of this network instead of its own."""
        own = self.trunk.state_dict()
        return {**state, **{name: own[name] for name in own if name.startswith(self._head)}}


class Vgg13(nn.Module):
    """The 13 layers of Barsoum et al. (2016, table 1), 64 px grey."""

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
        self._initialise()

    def _initialise(self) -> None:
        """Glorot's rule, as published: PyTorch's own leaves 13 layers without signal."""
        for value in self.parameters():
            nn.init.xavier_uniform_(value) if value.ndim > 1 else nn.init.zeros_(value)

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalised pictures (B, 3, 64, 64), grey or colour, to logits."""
        grey = x.mean(dim=1, keepdim=True)
        maps = self.features(grey)  # (B, 256, 4, 4)
        return FaceOutput(self.head(maps.flatten(1)), None)


class ImageClassifier(nn.Module):
    """An image stream and the mean of its last map: the Two-Stream without the other stream.

    It costs a quarter of the whole, so this is where its trunk learns what a face displays.
    """

    def __init__(
        self, image: str = "face_resnet", drop: float = 0.2, classes: int = len(EMOTIONS)
    ) -> None:
        super().__init__()
        self.image = image_stream(image)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(self.image.channels[-1], classes)

    @property
    def side_px(self) -> int:
        """Side of the pictures that the image stream wants."""
        return self.image.side_px

    def forward(self, x: Tensor) -> FaceOutput:
        """Normalised pictures (B, 3, side_px, side_px) to logits."""
        summary = self.image(x)[-1].mean(dim=(2, 3))
        return FaceOutput(self.head(self.drop(summary)), None)
