"""What runs the network: crops in, points and probabilities out. The fastest that works is chosen.

Runtimes are imported when they are chosen: with ONNX Runtime, PyTorch never is, once the graph of
the model stands in the cache.
"""

import ctypes
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import ClassifierConfig
from fer_ros.weights import ModelCard, ModelError

_log = logging.getLogger(__name__)


class BackendError(ModelError):
    """This runtime cannot be used here, another one may; the message is one line."""


class Backend(Protocol):
    """A loaded network on its device."""

    name: str
    device: str

    def run(self, crops_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of crops (N, 112, 112, 3).

        N is above 0. Raises RuntimeError when it cannot be computed, as without memory.
        """
        ...


class Choice(NamedTuple):
    """A backend, in one line which one and why, and what was wrong with better ones or ``""``."""

    backend: Backend
    reason: str
    fallback: str


def open_backend(card: ModelCard, config: ClassifierConfig) -> Choice:
    """The backend that the settings ask for, or the next best one, with a warning.

    Raises ModelError when no backend can be used.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
        raise ModelError(f"device: expected auto, cpu, cuda or cuda:N, got {config.device!r}")
    candidates, why = _candidates(config.backend, config.device)
    if config.backend == "auto" and is_graph(card):
        candidates, why = [("onnx", config.device)], "its weights are a graph"
    troubles: list[str] = []
    for name, device in candidates:
        try:
            backend = _OPEN[name](card, replace(config, device=device))
        except BackendError as error:
            troubles.append(str(error))
            continue
        reason = f"{backend.name} on {backend.device}: {'; '.join(troubles) or why}"
        (_log.warning if troubles else _log.info)("model %s: %s", card.name, reason)
        return Choice(backend, reason, "; ".join(troubles))
    raise ModelError(f"model {card.name}: {'; '.join(troubles)}")


def _candidates(backend: str, device: str) -> tuple[list[tuple[str, str]], str]:
    """Runtimes with their devices, the one to prefer first, and why."""
    if backend == "auto" and device == "auto":
        if cuda_devices():
            return [("torch", "cuda"), ("onnx", "auto"), ("torch", "cpu")], "the fastest with CUDA"
        device = "cpu"
    why = "as the settings say"
    if backend == "auto":
        backend = "onnx" if device == "cpu" else "torch"
        why = f"the fastest on {device}"
    return [(name, device) for name in (backend, *(_OPEN.keys() - {backend}))], why


def is_graph(card: ModelCard) -> bool:
    """Whether the weights of a model are an ONNX graph themselves, as those in int8 are."""
    return card.weights_path.suffix == ".onnx"


def cuda_devices() -> int:
    """How many CUDA devices NVIDIA's driver sees."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    is_up = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if is_up else 0


def _open_torch(card: ModelCard, config: ClassifierConfig) -> Backend:
    if is_graph(card):
        raise BackendError(f"PyTorch: {card.weights} is a graph, which ONNX Runtime computes")
    try:
        from fer_ros.backends.pytorch import TorchBackend
    except ImportError as error:
        raise BackendError(f"PyTorch cannot be imported: {error}") from None
    return TorchBackend(card, config.device, config.threads, config.precision)


def _open_onnx(card: ModelCard, config: ClassifierConfig) -> Backend:
    from fer_ros.backends.onnx import OnnxBackend

    return OnnxBackend(card, config.device, config.threads, config.precision)


_OPEN: dict[str, Callable[[ModelCard, ClassifierConfig], Backend]] = {
    "torch": _open_torch,
    "onnx": _open_onnx,
}
