"""ONNX Runtime on the CPU, or on a CUDA device through its CUDA or TensorRT provider."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fer_ros.inference.backends import BackendError
from fer_ros.inference.backends.onnx_cache import (
    GRAPH_INPUT,
    WEIGHT_BITS,
    cache_path,
    load_or_export,
)
from fer_ros.inference.devices import is_x86, supports_int8_dot_product
from fer_ros.inference.execution_providers import (
    ProviderError,
    TensorRtProfile,
    open_session,
    provider_candidates,
)
from fer_ros.inference.model_store import ModelManifest, is_onnx_model
from fer_ros.inference.onnx_session import CPU, TENSORRT
from fer_ros.types import CROP_SIZE_PX, FacePredictions

_log = logging.getLogger(__name__)

_MAX_BATCH = 20
"""Crops of the largest TensorRT profile, and of the warm-up: default of ``detector.max_faces``."""


class _FaceThreads:
    """Computes the faces of a batch side by side on the CPU, a part of them in each thread.

    Threads that share the layers of one batch wait for each other after each layer.
    """

    def __init__(self, graph: bytes, threads: int) -> None:
        """Raises ProviderError when the graph cannot be loaded."""
        self.count = threads
        self._session, _ = open_session(graph, "cpu", threads=1)
        self._pool = ThreadPoolExecutor(threads, "faces")

    def run(self, crops_rgb: NDArray[np.uint8]) -> list[list[NDArray]]:
        """The outputs of each part of at least ``count`` crops, in order. Raises RuntimeError."""
        return list(self._pool.map(self._session.run, np.array_split(crops_rgb, self.count)))


class OrtBackend:
    """The exported graph of a model, or the int8 graph that is its weights file.

    Attributes:
        fallback: why a better execution provider was not used, "" if none failed.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        device: str = "auto",
        threads: int = 0,
        precision: str = "auto",
    ) -> None:
        """Load a model; ``threads`` 0 means one per core.

        Raises ModelError when the model cannot be used, BackendError when the device or the
        precision cannot.
        """
        is_int8 = is_onnx_model(manifest)
        if is_int8:
            if device not in {"auto", "cpu"}:
                # ONNX Runtime's CUDA provider lacks DequantizeLinear of int32, the biases.
                raise BackendError(
                    f"ONNX Runtime: model {manifest.name}: int8 needs device cpu, found {device}: "
                    "set classifier.device to cpu, or use the model that it was quantized from, "
                    "with classifier.precision auto"
                )
            device = "cpu"
            precision = "auto" if precision == "int8" else precision
        elif precision == "int8":
            raise BackendError(f"ONNX Runtime: model {manifest.name} is not quantized to int8")
        profile = None if is_int8 else _profile(manifest)
        try:
            candidates = provider_candidates(device, precision, profile)
            graph = load_or_export(manifest, on_cpu=candidates == [CPU])
            self._session, self.fallback = open_session(graph, device, threads, precision, profile)
            threads = threads or len(os.sched_getaffinity(0))
            is_parallel = self._session.device == "cpu" and threads > 1
            self._face_threads = _FaceThreads(graph, threads) if is_parallel else None
        except ProviderError as error:
            raise BackendError(str(error)) from None
        self.provider, self.device = self._session.provider, self._session.device
        self._max_batch = _MAX_BATCH if self.provider == TENSORRT else None
        if is_int8:
            _warn_about_int8(manifest, self._session.metadata)
        self.precision = "int8" if is_int8 else "fp16" if precision == "fp16" else "fp32"
        self.name = "ONNX Runtime"
        if self.provider == TENSORRT:
            self.name += ", TensorRT"
        if self.precision != "fp32":
            self.name += f" in {self.precision}"

    def warm_up(self) -> None:
        """Run batches of 1 to 20 crops on a GPU, which loads its kernels on demand; else one crop.

        Raises RuntimeError.
        """
        for count in range(1, _MAX_BATCH + 1) if self.device != "cpu" else (1,):
            self.run(np.zeros((count, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))

    def run(self, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
        """Predict for crops (N, 112, 112, 3), N > 0. Raises RuntimeError when it cannot."""
        if self._face_threads and len(crops_rgb) >= self._face_threads.count:
            outputs = self._face_threads.run(crops_rgb)
        else:
            step = self._max_batch or len(crops_rgb)
            starts = range(0, len(crops_rgb), step)
            outputs = [self._session.run(crops_rgb[start : start + step]) for start in starts]
        return FacePredictions.concatenate([FacePredictions(*output) for output in outputs])


def _warn_about_int8(manifest: ModelManifest, metadata: dict[str, str]) -> None:
    """Warn where int8 is slow, and where it is inaccurate.

    x86 CPUs without VNNI multiply unsigned by signed bytes with VPMADDUBSW, which adds two products
    in 16 bits: weights of more than 7 bits can saturate.
    """
    if supports_int8_dot_product():
        return
    saturates = is_x86() and metadata.get(WEIGHT_BITS) != "7"
    _log.warning(
        "model %s: this CPU has no int8 dot products (AVX512-VNNI, AVX-VNNI or ARM's dotprod): "
        "int8 is slow%s; the model that it was quantized from is the better choice",
        manifest.name,
        " and, with weights of 8 bits, inaccurate" if saturates else "",
    )


def _profile(manifest: ModelManifest) -> TensorRtProfile:
    shapes = [(count, CROP_SIZE_PX, CROP_SIZE_PX, 3) for count in (1, 2, _MAX_BATCH)]
    return TensorRtProfile(engine_id(manifest), GRAPH_INPUT, *shapes)


def engine_id(manifest: ModelManifest) -> str:
    """Name of the graph in ``engine_dir``, of all that the graph contains.

    ONNX Runtime would load an engine that was built for other weights or constants.
    """
    return cache_path(manifest, nchwc=False).stem
