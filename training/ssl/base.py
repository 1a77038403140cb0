"""What the methods of self-supervised pretraining share."""

from functools import partial
from pathlib import Path
from typing import cast

import torch.nn.functional as F  # noqa: N812
from lightly.models.modules import MaskedVisionTransformerTIMM
from timm.models import VisionTransformer
from torch import Tensor, nn

from fer_ros.models.backbones.base import Backbone
from fer_ros.models.backbones.pretrained import load_backbone
from fer_ros.models.backbones.registry import BACKBONES
from fer_ros.models.backbones.vit import VitBackbone
from training.ssl.multicrop import ViewSpec


class SelfSupervisedMethod(nn.Module):
    """A network that learns a backbone from views of faces.

    ``view_specs``: the views of each face that it needs; ``num_random_draws``: how many random
    numbers in 0..1 it also needs for each face.
    """

    view_specs: list[ViewSpec]
    num_random_draws: int

    @property
    def trunk(self) -> VisionTransformer:
        """The backbone to keep."""
        raise NotImplementedError

    def encoders(self) -> list[MaskedVisionTransformerTIMM]:
        """The modules to compile and to checkpoint: nearly all of the computation."""
        raise NotImplementedError

    def forward(
        self, views: list[Tensor], numbers: Tensor, step: int, steps: int
    ) -> dict[str, Tensor]:
        """``loss`` and other metrics of views (B, 1, side, side) in 0..1, one for each spec.

        ``numbers`` (B, ``num_random_draws``) in 0..1, on the CPU, choose what is masked.
        """
        raise NotImplementedError

    def features(self, crops: Tensor) -> Tensor:
        """Features (B, dim) of crops (B, 1, 112, 112) in 0..1 from the backbone to keep."""
        raise NotImplementedError

    def after_backward(self, epoch: int) -> None:
        """Change the gradients before the step of the optimizer."""

    def after_step(self, step: int, steps: int) -> None:
        """Called after each change of the weights."""


def make_pretraining_backbone(name: str, drop_path: float = 0.0, weights: str = "") -> VitBackbone:
    """A vision transformer that takes images of several sizes and returns all tokens.

    ``weights``: file of its weights; empty: fresh ones. Raises ValueError when the backbone is no
    vision transformer, or the weights do not fit.
    """
    factories = {
        known: factory
        for known, factory in BACKBONES.items()
        if isinstance(factory, partial) and factory.func is VitBackbone
    }
    if name not in factories:
        raise ValueError(f"backbone: expected one of {', '.join(factories)}, found {name!r}")
    config = {"dynamic_img_size": True, "drop_path_rate": drop_path, "global_pool": ""}
    backbone: Backbone = factories[name](**config)
    if weights:
        load_backbone(backbone, Path(weights))
    return cast(VitBackbone, backbone)


def grid_side(trunk: VisionTransformer) -> int:
    """Number of patches along a side of the images that the backbone is built for."""
    return trunk.patch_embed.grid_size[0]


def feature_std(features: Tensor) -> Tensor:
    """Spread of features (B, dim): up to 1, and 0 when they are the same for all images.

    The standard deviation of unit vectors over the batch, times the root of their dimension.
    """
    units = F.normalize(features.detach().float(), dim=1)
    return units.std(dim=0, correction=0).mean() * units.shape[1] ** 0.5
