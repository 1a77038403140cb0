"""Weights that others published, from safetensors or PyTorch files. No code in a file is run."""

import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from fer_ros.model.checkpoint import first_difference
from fer_ros.weights import ModelError

_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02"  # how PyTorch files begin, since 1.6 and before
# What PyTorch and safetensors raise on files that are cut short, spoilt, or something else.
_BROKEN = (
    *(SafetensorError, UnpicklingError, struct.error, RuntimeError, OSError, EOFError),
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError),
)
_WRAPPERS = ("state_dict", "model")
_OURS = "image.trunk."  # how the names of a trunk begin in a network of ours
_PARALLEL = "module."  # the prefix that DataParallel gives to names


class Wearer(Protocol):
    """An image stream or a baseline: something around a published trunk."""

    trunk: nn.Module
    trunk_name: str

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict under the trunk's names."""
        ...


def load_published(network: nn.Module, path: Path) -> None:
    """Loads a whole published network, strictly; ModelError says in one line what differs."""
    _load(network, read_state(path), path, type(network).__name__)


def load_trunk(wearer: Wearer, path: Path) -> None:
    """Loads a published trunk into an image stream or a baseline; ModelError says what differs.

    Of a network of ours with an image stream, its trunk.
    """
    state = read_state(path)
    own = {name.removeprefix(_OURS): state[name] for name in state if name.startswith(_OURS)}
    _load(wearer.trunk, own or wearer.translate(state), path, wearer.trunk_name)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a .safetensors or PyTorch file. ModelError, one line, when there are none.

    Training checkpoints are unwrapped, the prefix of DataParallel is dropped.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else _load_tensors(path, start)
    except _BROKEN:
        raise ModelError(
            f"{path}: expected weights as a safetensors or PyTorch file, found something else: "
            "the file is damaged or holds more than tensors; get it again"
        ) from None
    return _state(loaded, path)


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> None:
    difference = first_difference(network.state_dict(), state)
    if difference:
        raise ModelError(f"{path}: not the weights of {name}: {difference}")
    network.load_state_dict(state)


class _Inert:
    """Stands for what a checkpoint holds beside tensors, such as its author's log of accuracies."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _load_tensors(path: Path, start: bytes) -> Any:
    if start != _ZIP and start[:2] != _LEGACY:
        raise UnpicklingError
    others = get_unsafe_globals_in_checkpoint(path) if start == _ZIP else []
    with safe_globals([(_Inert, name) for name in others]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _state(loaded: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(map(torch.is_tensor, loaded.values())):
        raise ModelError(f"{path}: expected tensors by name, found {type(loaded).__name__}")
    parallel = all(name.startswith(_PARALLEL) for name in loaded)
    return {name[len(_PARALLEL) * parallel :]: value for name, value in loaded.items()}
