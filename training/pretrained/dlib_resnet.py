"""The weights of dlib's face recognition network, which a PyPI package brings, for FaceResNet.

``face_recognition_models`` 0.3.0 (CC0) has them in dlib's own format: layer after layer from the
input on, each with its name, a tensor, and numbers that are not needed here. A whole number is
one byte with its length and then its bytes, a tensor a version, four sizes and its floats.
"""

import math
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.models.backbones.face_resnet import FaceResNet
from training.pretrained.fold_normalization import fold_normalization

_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
_LAYER = re.compile(rb"con_4|affine_")
_MEAN = (122.782 / 256, 117.001 / 256, 104.298 / 256)  # red, green, blue
_SCALE = 255 / 256


def dlib_faces() -> dict[str, Tensor]:
    """The state dict of FaceResNet, for images as InputSpec normalizes them.

    Raises ValueError when the package is missing or contains another network.
    """
    path = _find()
    layers = _layers(path.read_bytes())
    state: dict[str, Tensor] = {}
    for index, (name, expected) in enumerate(_convolutions()):
        width, weights = len(expected), expected.numel()
        pair = layers[2 * index : 2 * index + 2]
        if [len(values) for values in pair] != [weights + width, 2 * width]:
            raise ValueError(
                f"{path}: {name}: expected {weights + width} weights and biases and {2 * width} "
                f"affine values, found {[len(values) for values in pair]}"
            )
        convolution, affine = map(torch.from_numpy, pair)
        gain, offset = affine.split(width)
        state[f"{name}.weight"] = convolution[:weights].view(expected.shape) * gain.view(
            -1, 1, 1, 1
        )
        state[f"{name}.bias"] = convolution[weights:] * gain + offset
    fold_normalization(state, _SCALE, _MEAN)
    return state


def _convolutions() -> list[tuple[str, Tensor]]:
    with torch.device("meta"):
        state = FaceResNet().state_dict()
    weights = {name: value for name, value in state.items() if name.endswith(".weight")}
    return [(name.removesuffix(".weight"), value) for name, value in weights.items()]


def _find() -> Path:
    spec = find_spec("face_recognition_models")  # to import it would need setuptools
    if spec is None or spec.origin is None:
        raise ValueError("face_recognition_models: not installed; see requirements/train.txt")
    return Path(spec.origin).parent / _FILE


def _number(data: bytes, place: int) -> tuple[int, int]:
    """The integer at offset ``place``, and the offset of its end."""
    end = place + 1 + data[place]
    return int.from_bytes(data[place + 1 : end], "little"), end


def _layers(data: bytes) -> list[NDArray[np.float32]]:
    """The values of convolutions and normalizations, one after the other."""
    layers = []
    for layer in _LAYER.finditer(data):
        _, place = _number(data, layer.end())
        sizes = []
        for _ in range(4):
            size, place = _number(data, place)
            sizes.append(size)
        layers.append(np.frombuffer(data, "<f4", math.prod(sizes), place).copy())
    return layers
