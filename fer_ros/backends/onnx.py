"""ONNX Runtime on the CPU, or on a CUDA device where its build has that, also by TensorRT."""

import logging
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.backends import BackendError
from fer_ros.backends.graphs import graph_of
from fer_ros.backends.providers import CUDA, TENSORRT, check_precision, choose
from fer_ros.onnx_session import CPU, OnnxSession
from fer_ros.weights import ModelCard

_CPU_INFO = Path("/proc/cpuinfo")
_INT8 = re.compile(r"\b(avx512_vnni|avx_vnni|asimddp)\b")

_log = logging.getLogger(__name__)


class OnnxBackend:
    """The exported graph of a model, or the one in int8 that is its weights."""

    def __init__(
        self, card: ModelCard, device: str = "auto", threads: int = 0, precision: str = "auto"
    ) -> None:
        """``threads`` 0: as many as there are cores. Raises ModelError."""
        providers = choose(card, device, precision)
        graph = graph_of(card, on_cpu=providers == [CPU])
        try:
            self._session = OnnxSession(graph, threads, providers)
        except RuntimeError as error:
            raise BackendError(f"ONNX Runtime: the graph of {card.name}: {error}") from None
        is_int8 = self._session.metadata.get("precision") == "int8"
        self.provider = self._session.provider
        by_tensorrt = self.provider == TENSORRT
        check_precision(precision, by_tensorrt)
        kind = "TensorRT" if by_tensorrt else "int8" if is_int8 else ""
        if precision == "fp16":
            kind += " in fp16"
        self.name = f"ONNX Runtime, {kind}" if kind else "ONNX Runtime"
        if is_int8 and not has_int8_products():
            _log.warning(
                "model %s: this CPU has no dot products of int8 (AVX512-VNNI, AVX-VNNI or ARM's "
                "dotprod), so that int8 is slow: take the model that it was made from",
                card.name,
            )
        self.device = "cuda" if self.provider in {CUDA, TENSORRT} else "cpu"
        if not device.startswith((self.device, "auto")):
            raise BackendError(f"ONNX Runtime: device {device!r}: its CUDA provider does not start")

    def run(self, crops_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of crops (N, 112, 112, 3)."""
        points_xy, probabilities = self._session.run(crops_rgb)
        return points_xy, probabilities


def has_int8_products() -> bool:
    """Whether this CPU multiplies int8 numbers and adds them up in one instruction."""
    return _CPU_INFO.is_file() and bool(_INT8.search(_CPU_INFO.read_text(encoding="utf-8")))
