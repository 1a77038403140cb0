"""Load published weights from safetensors or PyTorch files without executing pickled code."""

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

from fer_ros.inference.model_store import ModelError
from fer_ros.models.backbones.base import Backbone
from fer_ros.models.checkpoint import first_difference

_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02"  # magic numbers of PyTorch files since and before 1.6
# Raised by PyTorch and safetensors for truncated, damaged or foreign files.
_READ_ERRORS = (
    *(SafetensorError, UnpicklingError, struct.error, RuntimeError, OSError, EOFError),
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError),
)
_WRAPPERS = ("state_dict", "model")
_TRUNK_PREFIX = "image.trunk."  # of trunk parameters in this package's networks
_DATA_PARALLEL_PREFIX = "module."


class HasBackbone(Protocol):
    """A module around a trunk with published weights: a backbone or a baseline."""

    trunk: nn.Module
    backbone_name: str

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a published state dict to the trunk's."""
        ...


def load_pretrained(network: nn.Module, path: Path) -> None:
    """Load a complete network, strictly. Raises ModelError naming the first difference."""
    _load(network, read_state(path), path, type(network).__name__)


def load_backbone(module: HasBackbone, path: Path) -> None:
    """Load a published trunk, strictly. Raises ModelError naming the first difference.

    For a weights file of this package, loads the trunk of its image stream; of a deeper trunk, only
    the blocks that this one has.
    """
    state = read_state(path)
    own = {
        name.removeprefix(_TRUNK_PREFIX): state[name]
        for name in state
        if name.startswith(_TRUNK_PREFIX)
    }
    if own and isinstance(module, Backbone):
        own = module.adapt_state_dict(own)
    _load(module.trunk, own or module.convert_state_dict(state), path, module.backbone_name)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or PyTorch file, by name.

    Training checkpoints are unwrapped and DataParallel's prefix is removed. Raises ModelError when
    the file holds anything else.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else _load_tensors(path, start)
    except _READ_ERRORS:
        raise ModelError(
            f"{path}: expected weights as a safetensors or PyTorch file, found something else: "
            "the file is damaged or holds more than tensors; download or export it again"
        ) from None
    return _state(loaded, path)


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> None:
    difference = first_difference(network.state_dict(), state)
    if difference:
        raise ModelError(f"{path}: not the weights of {name}: {difference}")
    network.load_state_dict(state)


class _PickleStub:
    """Stands in for every non-tensor class in a checkpoint, such as a training log."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _load_tensors(path: Path, start: bytes) -> Any:
    if start != _ZIP and start[:2] != _LEGACY:
        raise UnpicklingError
    others = get_unsafe_globals_in_checkpoint(path) if start == _ZIP else []
    with safe_globals([(_PickleStub, name) for name in others]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _state(loaded: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(map(torch.is_tensor, loaded.values())):
        raise ModelError(f"{path}: expected tensors by name, found {type(loaded).__name__}")
    if all(name.startswith(_DATA_PARALLEL_PREFIX) for name in loaded):
        return {name.removeprefix(_DATA_PARALLEL_PREFIX): loaded[name] for name in loaded}
    return loaded
