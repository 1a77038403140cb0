"""Backends: runtimes that compute the classifier's network. The fastest that works is selected.

Runtimes are imported when they are selected: with ONNX Runtime, PyTorch is not imported once the
exported graph of the model is in the cache.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import ClassifierConfig
from fer_ros.inference.devices import (
    TORCH_IMPORT_ERRORS,
    CudaStatus,
    check_device,
    cuda_status,
)
from fer_ros.inference.model_store import ModelError, ModelManifest, is_onnx_model
from fer_ros.io.errors import single_line
from fer_ros.types import FacePredictions

_log = logging.getLogger(__name__)


class BackendError(ModelError):
    """This backend cannot be used here; another one may."""


class Backend(Protocol):
    """A loaded network on its device.

    Attributes:
        name: runtime and precision, for people.
        device: cpu, cuda or cuda:N.
        provider: ``PyTorch`` or the execution provider of ONNX Runtime.
        precision: fp32, fp16, bf16 or int8.
        fallback: why a better runtime of the device is not used, "" if none failed.
    """

    name: str
    device: str
    provider: str
    precision: str
    fallback: str

    def warm_up(self) -> None:
        """Trigger lazy initialization: for every batch size on a GPU, by one crop on a CPU.

        The largest batch size is 20 in ONNX Runtime; in PyTorch it is 16, that of the largest CUDA
        graph. Raises RuntimeError.
        """
        ...

    def run(self, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
        """Predict for crops (N, 112, 112, 3), N > 0.

        Raises RuntimeError when the device cannot compute the batch, for example out of memory.
        """
        ...


class BackendSelection(NamedTuple):
    """A backend, why it was selected, and what was wrong with better ones ("" if nothing)."""

    backend: Backend
    reason: str
    fallback: str


def open_backend(manifest: ModelManifest, config: ClassifierConfig) -> BackendSelection:
    """Open the backend of the settings, or the next best one with a warning.

    Raises ModelError when no backend can be used.
    """
    try:
        check_device(config.device)
    except ValueError as error:
        raise ModelError(str(error)) from None
    candidates, selection_reason, cuda_error = _candidates(config.backend, config.device)
    if config.backend == "auto" and is_onnx_model(manifest):
        candidates, selection_reason = [("onnx", config.device)], "its weights are an ONNX graph"
    errors = [cuda_error] if cuda_error else []
    for name, device in candidates:
        try:
            backend = _FACTORIES[name](manifest, replace(config, device=device))
        except BackendError as error:
            errors.append(str(error))
            continue
        errors += filter(None, [backend.fallback])
        fallback = "; ".join(errors)
        reason = f"{backend.name} on {backend.device}: {fallback or selection_reason}"
        (_log.warning if errors else _log.info)("model %s: %s", manifest.name, reason)
        return BackendSelection(backend, reason, fallback)
    raise ModelError(f"model {manifest.name}: {'; '.join(errors)}")


def _candidates(backend: str, device: str) -> tuple[list[tuple[str, str]], str, str]:
    """List the runtimes to try.

    Returns:
        (runtime, device) pairs, best first; the reason for the order; and why a GPU that is present
        is not among them, "" if it is.
    """
    cuda = cuda_status() if device == "auto" else CudaStatus(0, "")
    if backend == "auto" and device == "auto":
        if cuda.count:
            candidates = [("torch", "cuda"), ("onnx", "auto"), ("torch", "cpu")]
            return candidates, "the fastest with CUDA", ""
        device = "cpu"
    selection_reason = "as configured"
    if backend == "auto":
        backend = "onnx" if device == "cpu" else "torch"
        selection_reason = f"the fastest on {device}"
    remaining = _FACTORIES.keys() - {backend}
    return [(name, device) for name in (backend, *remaining)], selection_reason, cuda.error


def _open_torch(manifest: ModelManifest, config: ClassifierConfig) -> Backend:
    if is_onnx_model(manifest):
        raise BackendError(f"PyTorch: {manifest.weights} is an ONNX graph, for ONNX Runtime only")
    try:
        from fer_ros.inference.backends.torch import TorchBackend
    except TORCH_IMPORT_ERRORS as error:
        raise BackendError(f"PyTorch cannot be imported: {single_line(error)}") from None
    return TorchBackend(manifest, config.device, config.threads, config.precision)


def _open_onnx(manifest: ModelManifest, config: ClassifierConfig) -> Backend:
    from fer_ros.inference.backends.ort import OrtBackend

    return OrtBackend(manifest, config.device, config.threads, config.precision)


_FACTORIES: dict[str, Callable[[ModelManifest, ClassifierConfig], Backend]] = {
    "torch": _open_torch,
    "onnx": _open_onnx,
}
