"""What the methods of self-supervised pre-training share."""

from functools import partial
from pathlib import Path
from typing import cast

import torch.nn.functional as F  # noqa: N812
from lightly.models.modules import MaskedVisionTransformerTIMM
from timm.models import VisionTransformer
from torch import Tensor, nn

from fer_ros.model.image_stream import IMAGE_STREAMS, ImageStream
from fer_ros.model.published import load_trunk
from fer_ros.model.vit import TransformerStream
from training.multicrop import Shot


class Method(nn.Module):
    """A network that learns from views of faces, and the trunk that it is all about.

    ``shots`` are the views of each face that it wants, ``numbers`` how many random numbers beside.
    """

    shots: list[Shot]
    numbers: int

    @property
    def trunk(self) -> VisionTransformer:
        """The trunk that is kept in the end."""
        raise NotImplementedError

    def encoders(self) -> list[MaskedVisionTransformerTIMM]:
        """Where nearly all of the time goes."""
        raise NotImplementedError

    def forward(
        self, views: list[Tensor], numbers: Tensor, step: int, steps: int
    ) -> dict[str, Tensor]:
        """The ``loss`` of views (B, 1, side, side) in 0..1, one for each shot, and other figures.

        ``numbers`` (B, ``self.numbers``) in 0..1, on the CPU, choose what is masked.
        """
        raise NotImplementedError

    def features(self, crops: Tensor) -> Tensor:
        """What the kept trunk says (B, dim) about crops (B, 1, 112, 112) in 0..1."""
        raise NotImplementedError

    def after_backward(self, epoch: int) -> None:
        """Between the gradients and the step of the optimizer."""

    def after_step(self, step: int, steps: int) -> None:
        """When the weights have changed."""


def make_stream(name: str, drop_path: float = 0.0, weights: str = "") -> TransformerStream:
    """An image stream whose trunk takes pictures of several sizes and gives all its tokens.

    ``weights``: a file of its trunk; empty: fresh ones. ValueError, one line, when it is no vision
    transformer, or the weights are not its.
    """
    makers = {
        known: maker
        for known, maker in IMAGE_STREAMS.items()
        if isinstance(maker, partial) and maker.func is TransformerStream
    }
    if name not in makers:
        raise ValueError(f"stream: expected one of {', '.join(makers)}, got {name!r}")
    config = {"dynamic_img_size": True, "drop_path_rate": drop_path, "global_pool": ""}
    stream: ImageStream = makers[name](**config)
    if weights:
        load_trunk(stream, Path(weights))
    return cast(TransformerStream, stream)


def grid_side(trunk: VisionTransformer) -> int:
    """Patches on a side of the pictures that the trunk is for."""
    return trunk.patch_embed.grid_size[0]


def feature_std(features: Tensor) -> Tensor:
    """How far features (B, dim) are spread: up to 1, and 0 when all pictures look alike.

    The standard deviation of unit vectors over the batch, times the root of their dimension.
    """
    units = F.normalize(features.detach().float(), dim=1)
    return units.std(dim=0, correction=0).mean() * units.shape[1] ** 0.5
