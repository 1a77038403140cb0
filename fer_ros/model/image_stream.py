"""The image streams by name: a picture to feature maps at the three scales of the landmarks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import timm
from timm.models import FeatureListNet
from torch import Tensor

from fer_ros.model.face_resnet import FaceStream
from fer_ros.model.mobilenet import MobileNetStream
from fer_ros.model.stream import SCALES, ImageStream
from fer_ros.model.vit import IMAGENET, TransformerStream

__all__ = ["IMAGE_STREAMS", "SCALES", "ConvolutionalStream", "ImageStream", "image_stream"]


class ConvolutionalStream(ImageStream):
    """A convolutional trunk of timm at 112 px. Its last stage is dilated instead of strided.

    ``output_stride`` 16 keeps the deepest map at 7x7, where 32 would leave 4x4.
    """

    side_px = 112

    def __init__(self, trunk: str, stages: tuple[int, int, int]) -> None:
        super().__init__()
        made = timm.create_model(trunk, features_only=True, out_indices=stages, output_stride=16)
        self.trunk = cast(FeatureListNet, made)
        self.trunk_name = trunk
        self.channels = tuple(self.trunk.feature_info.channels())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, 112, 112) to maps (B, channels[i], SCALES[i], SCALES[i])."""
        return self.trunk(x)

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict without the layers behind the last map."""
        return {name: state[name] for name in self.trunk.state_dict() if name in state}


def _dinov2(size: str) -> Callable[[], ImageStream]:
    # 196 px: 14x14 patches of 14 px, so no map has to be resampled
    return partial(TransformerStream, f"vit_{size}_patch14_dinov2", 196, IMAGENET)


IMAGE_STREAMS: dict[str, Callable[[], ImageStream]] = {
    "efficientnet_lite0": partial(ConvolutionalStream, "efficientnet_lite0", stages=(1, 2, 4)),
    "face_resnet": FaceStream,
    "mobilenet": MobileNetStream,
    "dinov2_vits14": _dinov2("small"),
    "dinov2_vitb14": _dinov2("base"),
    "dinov2_vitl14": _dinov2("large"),
    "vits8": partial(TransformerStream, "vit_small_patch8_224", 112),
}
"""Image streams by name."""


def image_stream(name: str) -> ImageStream:
    """An image stream with fresh weights. ValueError names an unknown one."""
    if name not in IMAGE_STREAMS:
        raise ValueError(f"image {name!r}: expected one of {', '.join(IMAGE_STREAMS)}")
    return IMAGE_STREAMS[name]()
