"""A tiny image stream and made-up faces for the tests of pre-training."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from pack_tools import write_pack

from fer_ros.labels import FERPLUS_VOTES
from fer_ros.model.vit import IMAGENET, TransformerStream
from training.dino import Dino, DinoConfig
from training.mae import Mae, MaeConfig
from training.method import Method, make_stream

SHAPE = {"embed_dim": 24, "num_heads": 2, "depth": 3}
TINY = partial(TransformerStream, "vit_small_patch8_224", 112, **SHAPE)
TINY_14 = partial(TransformerStream, "vit_small_patch14_dinov2", 196, IMAGENET, **SHAPE)
DINO = {"prototypes": 16, "hidden": 16, "bottleneck": 8, "small_views": 2}
MAE = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
PLAIN = {"noise": 0.0, "blur": 0.0, "low_resolution": 0.0}


def write_packs(folder: Path) -> Path:
    """Happy faces are bright below, sad ones above."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("valid", 6), ("test", 2)):
        votes = np.zeros((count, len(FERPLUS_VOTES)), np.uint8)
        votes[::2, FERPLUS_VOTES.index("happiness")] = 10
        votes[1::2, FERPLUS_VOTES.index("sadness")] = 10
        canvas = generator.integers(40, 80, (count, 144, 144)).astype(np.uint8)
        canvas[::2, 72:] += 120
        canvas[1::2, :72] += 120
        write_pack(folder / f"ferplus_{split}", canvas=canvas, votes=votes)
    return folder


def dino(stream: str = "tiny", **config: object) -> Dino:
    torch.manual_seed(0)
    made = make_stream(stream)
    return Dino(made.trunk, made.side_px, 0.5, DinoConfig(**{**DINO, **config}))


def mae(stream: str = "tiny", **config: object) -> Mae:
    torch.manual_seed(0)
    made = make_stream(stream)
    return Mae(made.trunk, made.side_px, 0.5, MaeConfig(**{**MAE, **config}))


def inputs(method: Method, count: int = 4) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Views of each shot that are alike in colour within a face, and other numbers."""
    generator = torch.Generator().manual_seed(1)
    faces = torch.rand(count, 1, 7, 7, generator=generator)
    views = [
        torch.nn.functional.interpolate(faces, size=shot.side_px, mode="bilinear")
        for shot in method.shots
    ]
    return views, torch.rand(count, method.numbers, generator=generator)
