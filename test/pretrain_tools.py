"""A tiny image stream and made-up faces for the tests of pre-training."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from dataset_tools import write_dataset

from fer_ros.emotions import FERPLUS_VOTES
from fer_ros.models.backbones.vit import IMAGENET, VitBackbone
from training.ssl.base import SelfSupervisedMethod, make_pretraining_backbone
from training.ssl.dino import Dino, DinoConfig
from training.ssl.mae import Mae, MaeConfig

SHAPE = {"embed_dim": 24, "num_heads": 2, "depth": 3}
TINY = partial(VitBackbone, "vit_small_patch8_224", 112, **SHAPE)
TINY_14 = partial(VitBackbone, "vit_small_patch14_dinov2", 196, IMAGENET, **SHAPE)
DINO = {"prototypes": 16, "hidden": 16, "bottleneck": 8, "local_crops": 2}
MAE = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
PLAIN = {"noise": 0.0, "blur": 0.0, "low_resolution": 0.0}


def write_datasets(folder: Path) -> Path:
    """Happy faces are bright below, sad ones above."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("valid", 6), ("test", 2)):
        votes = np.zeros((count, len(FERPLUS_VOTES)), np.uint8)
        votes[::2, FERPLUS_VOTES.index("happiness")] = 10
        votes[1::2, FERPLUS_VOTES.index("sadness")] = 10
        padded_crop = generator.integers(40, 80, (count, 144, 144)).astype(np.uint8)
        padded_crop[::2, 72:] += 120
        padded_crop[1::2, :72] += 120
        write_dataset(folder / f"ferplus_{split}", padded_crop=padded_crop, votes=votes)
    return folder


def dino(stream: str = "tiny", **config: object) -> Dino:
    torch.manual_seed(0)
    backbone = make_pretraining_backbone(stream)
    return Dino(backbone.trunk, backbone.side_px, 0.5, DinoConfig(**{**DINO, **config}))


def mae(stream: str = "tiny", **config: object) -> Mae:
    torch.manual_seed(0)
    backbone = make_pretraining_backbone(stream)
    return Mae(backbone.trunk, backbone.side_px, 0.5, MaeConfig(**{**MAE, **config}))


def inputs(method: SelfSupervisedMethod, count: int = 4) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Views of each spec that are alike in color within a face, and other numbers."""
    generator = torch.Generator().manual_seed(1)
    faces = torch.rand(count, 1, 7, 7, generator=generator)
    views = [
        torch.nn.functional.interpolate(faces, size=spec.side_px, mode="bilinear")
        for spec in method.view_specs
    ]
    return views, torch.rand(count, method.num_random_draws, generator=generator)
