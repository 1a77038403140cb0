"""ONNX Runtime on the CPU, or on a CUDA device where its build has that."""

import logging
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.backends import BackendError
from fer_ros.backends.graphs import graph_of
from fer_ros.onnx_session import CPU, OnnxSession, Provider
from fer_ros.weights import ModelCard

_CUDA = "CUDAExecutionProvider"
_CPU_INFO = Path("/proc/cpuinfo")
_INT8 = re.compile(r"\b(avx512_vnni|avx_vnni|asimddp)\b")

_log = logging.getLogger(__name__)


class OnnxBackend:
    """The exported graph of a model, or the one in int8 that is its weights."""

    def __init__(self, card: ModelCard, device: str = "auto", threads: int = 0) -> None:
        """``threads`` 0: as many as there are cores. Raises ModelError."""
        providers = _providers(device)
        graph = graph_of(card)
        try:
            self._session = OnnxSession(graph, threads, providers)
        except RuntimeError as error:
            raise BackendError(f"ONNX Runtime: the graph of {card.name}: {error}") from None
        is_int8 = self._session.metadata.get("precision") == "int8"
        self.name = "ONNX Runtime, int8" if is_int8 else "ONNX Runtime"
        if is_int8 and not has_int8_products():
            _log.warning(
                "model %s: this CPU has no dot products of int8 (AVX512-VNNI, AVX-VNNI or ARM's "
                "dotprod), so that int8 is slow: take the model that it was made from",
                card.name,
            )
        self.device = "cuda" if self._session.provider == _CUDA else "cpu"
        if not device.startswith((self.device, "auto")):
            raise BackendError(f"ONNX Runtime: device {device!r}: its CUDA provider does not start")

    def run(self, crops_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of crops (N, 112, 112, 3)."""
        points_xy, probabilities = self._session.run(crops_rgb)
        return points_xy, probabilities


def has_int8_products() -> bool:
    """Whether this CPU multiplies int8 numbers and adds them up in one instruction."""
    return _CPU_INFO.is_file() and bool(_INT8.search(_CPU_INFO.read_text(encoding="utf-8")))


def _providers(device: str) -> list[Provider]:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"ONNX Runtime cannot be imported: {error}") from None
    has_cuda = _CUDA in onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and not has_cuda):
        return [CPU]
    if not has_cuda:
        raise BackendError(f"ONNX Runtime: device {device!r}: this build is for the CPU only")
    return [(_CUDA, {"device_id": int(device.partition(":")[2] or 0)}), CPU]
