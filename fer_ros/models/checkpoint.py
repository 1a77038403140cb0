"""Save and load model folders. Weights are safetensors in half precision, never pickles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fer_ros.inference.model_store import (
    ModelError,
    ModelManifest,
    check_conventions,
    find_model,
    read_manifest,
    sha256_of,
    write_manifest,
)
from fer_ros.inference.priors import Prior
from fer_ros.io.atomic_write import atomic_write
from fer_ros.io.errors import single_line
from fer_ros.models import build_model
from fer_ros.models.wrapper import FaceNetwork
from fer_ros.types import TEMPLATE_XY

WEIGHTS_FILE = "weights.safetensors"
# Layers of TwoStream by their names in weights files of format 1.
_RENAMED_LAYERS = {
    "enter": "input_proj",
    "cross": "cross_attention",
    "tokens": "tokenizers",
}


def save_model(
    network: FaceNetwork,
    folder: Path,
    architecture: str,
    priors: Mapping[str, Prior] | None = None,
    **config: Any,
) -> ModelManifest:
    """Write weights and ``model.yaml`` into ``folder``, whose name becomes the model's.

    With ``priors``, the outputs assume that all emotions are equally frequent.
    ``config`` holds the keyword arguments of ``build_model``. Parameters are stored in half
    precision, buffers such as batch statistics in their own.
    """
    parameters = {name for name, _ in network.net.named_parameters()}
    state = {
        name: (value.half() if name in parameters else value).detach().cpu().contiguous()
        for name, value in network.net.state_dict().items()
    }
    with atomic_write(folder / WEIGHTS_FILE) as file:
        save_file(state, file)
    manifest = ModelManifest(
        name=folder.name,
        architecture=architecture,
        config=config,
        weights=WEIGHTS_FILE,
        sha256=sha256_of(folder / WEIGHTS_FILE),
        input=network.spec,
        template_xy=tuple((float(x), float(y)) for x, y in TEMPLATE_XY),
        temperature=network.temperature.item(),
        priors=dict(priors or {}),
        folder=folder,
    )
    write_manifest(manifest)
    return manifest


def load_model(path: Path | str) -> FaceNetwork:
    """Load the network of a model folder, or of an installed model by name, for the CPU.

    The network is in eval mode. Raises ModelError when the architecture, the labels, the crop
    template, the sha256 or the weights are not what this package expects.
    """
    manifest = read_manifest(find_model(str(path)))
    check_conventions(manifest)
    manifest.verify()
    try:
        net = build_model(manifest.architecture, **manifest.config)
    except ValueError as error:
        raise ModelError(f"{manifest.folder}: {error}") from None
    state = read_state(manifest.weights_path, net.state_dict(), manifest.architecture)
    net.load_state_dict(state)
    return FaceNetwork(net, manifest.input, manifest.temperature).eval()


def read_state(path: Path, expected: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file for the network ``owner``.

    Raises ModelError naming the first difference to the ``expected`` names, shapes and types.
    """
    try:
        state = rename_layers(load_file(path))
    except (SafetensorError, OSError, AttributeError) as error:
        # AttributeError: a dtype that this PyTorch lacks
        raise ModelError(f"{path}: not a safetensors file: {single_line(error)}") from None
    difference = first_difference(expected, state)
    if difference:
        raise ModelError(f"{path}: not the weights of {owner}: {difference}")
    return state


def rename_layers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the layers of a two-stream weights file with earlier names to the current ones."""
    renamed = {}
    for name, value in state.items():
        layer, separator, rest = name.partition(".")
        renamed[_RENAMED_LAYERS.get(layer, layer) + separator + rest] = value
    return renamed


def first_difference(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Describe the first difference in names, shapes or kinds of dtype; "" if there is none."""
    for name, value in expected.items():
        if name not in state:
            return f"{name} is missing"
        if state[name].shape != value.shape:
            shapes = tuple(value.shape), tuple(state[name].shape)
            return f"{name}: expected shape {shapes[0]}, found {shapes[1]}"
        if state[name].is_floating_point() != value.is_floating_point():
            return f"{name}: expected {value.dtype}, found {state[name].dtype}"
    extra = [name for name in state if name not in expected]
    return f"{' '.join(extra[0].split())} is unknown" if extra else ""
