"""The execution providers of ONNX Runtime: selection for a device, and their options.

The classifier and the detector both open their sessions here.
"""

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fer_ros.inference.devices import (
    check_device,
    cuda_index,
    gpu_name,
    tensorrt_version,
)
from fer_ros.inference.model_store import cache_folder
from fer_ros.inference.onnx_session import (
    CPU,
    CUDA,
    TENSORRT,
    OnnxSession,
    Provider,
    provider_name,
)
from fer_ros.io.errors import format_os_error

_log = logging.getLogger(__name__)


class ProviderError(ValueError):
    """ONNX Runtime cannot use a device or a precision on this machine."""


@dataclass(frozen=True)
class TensorRtProfile:
    """Input shapes that one TensorRT engine accepts, and a name for its graph.

    ``graph_id`` distinguishes the graph from every other one, such as its digest. Inputs outside
    of ``min_shape`` to ``max_shape`` are refused by TensorRT.
    """

    graph_id: str
    input_name: str
    min_shape: tuple[int, ...]
    opt_shape: tuple[int, ...]
    max_shape: tuple[int, ...]


def open_session(
    graph: bytes,
    device: str = "auto",
    threads: int = 0,
    precision: str = "auto",
    profile: TensorRtProfile | None = None,
) -> tuple[OnnxSession, str]:
    """Open a session with the fastest execution provider that starts.

    Args:
        graph: serialized ONNX model.
        device: auto, cpu, cuda or cuda:N. Only ``auto`` may fall back to the CPU.
        threads: CPU threads, 0 for one per core.
        precision: auto, fp32 or fp16; fp16 needs TensorRT.
        profile: lets TensorRT be tried; building its engine takes minutes the first time.

    Returns:
        The session, and why a better execution provider was not used ("" if none failed).

    Raises:
        ProviderError: the device or the precision is not available, or the graph cannot be loaded.
    """
    errors: list[str] = []
    cuda_device = "cuda" if device == "auto" else device
    for provider in provider_candidates(device, precision, profile):
        try:
            session = _open(graph, threads, provider, cuda_device)
        except RuntimeError as error:
            errors.append(f"{provider_name(provider)} does not start: {error}")
            continue
        return session, "; ".join(errors)
    raise ProviderError(f"ONNX Runtime: device {device!r}: {'; '.join(errors)}")


def provider_candidates(
    device: str, precision: str = "auto", profile: TensorRtProfile | None = None
) -> list[Provider]:
    """The execution providers to try for a device, best first.

    Raises ProviderError when this build of ONNX Runtime has none for the device or the precision.
    """
    try:
        check_device(device)
        import onnxruntime
    except ImportError as error:
        raise ProviderError(f"ONNX Runtime cannot be imported: {error}") from None
    except ValueError as error:
        raise ProviderError(f"ONNX Runtime: {error}") from None
    available = onnxruntime.get_available_providers()
    candidates: list[Provider] = []
    if device != "cpu" and CUDA in available:
        candidates = _gpu_candidates(cuda_index(device), precision, profile, available)
    elif device not in {"cpu", "auto"}:
        raise ProviderError(
            f"ONNX Runtime: device {device!r}: this build is for the CPU only; "
            "install onnxruntime-gpu instead of onnxruntime"
        )
    if device in {"cpu", "auto"} and precision in {"auto", "fp32"}:
        candidates.append(CPU)
    if not candidates:
        needs = "PyTorch" if precision == "bf16" else "TensorRT"
        raise ProviderError(
            f"ONNX Runtime: precision {precision!r} needs {needs}: set classifier.precision to "
            "auto or fp32, or classifier.backend to torch"
        )
    return candidates


def _gpu_candidates(
    index: int, precision: str, profile: TensorRtProfile | None, available: list[str]
) -> list[Provider]:
    # HEURISTIC: the default benchmarks every convolution again for each new batch size.
    cuda_options: dict[str, Any] = {"device_id": index, "cudnn_conv_algo_search": "HEURISTIC"}
    if precision == "fp32":
        cuda_options["use_tf32"] = 0
    candidates: list[Provider] = []
    version = tensorrt_version() if profile and TENSORRT in available else 0
    if profile and version and precision in {"auto", "fp32", "fp16"}:
        options = _tensorrt_options(profile, index, version, precision)
        candidates.append((TENSORRT, options))
    if precision in {"auto", "fp32"}:
        candidates.append((CUDA, cuda_options))
    return candidates


def _tensorrt_options(
    profile: TensorRtProfile, index: int, version: int, precision: str
) -> dict[str, Any]:
    folder = str(engine_dir(profile.graph_id, gpu_name(index), version))
    shapes = {"min": profile.min_shape, "opt": profile.opt_shape, "max": profile.max_shape}
    return {
        "device_id": index,
        "trt_fp16_enable": precision == "fp16",
        "trt_layer_norm_fp32_fallback": True,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": folder,
        **{
            f"trt_profile_{kind}_shapes": f"{profile.input_name}:{'x'.join(map(str, shape))}"
            for kind, shape in shapes.items()
        },
    }


def engine_dir(graph_id: str, gpu: str, version: int) -> Path:
    """Folder of the engines of a graph; they are valid for one GPU and TensorRT version only."""
    name = re.sub(r"\W+", "_", gpu)
    return cache_folder() / "tensorrt" / f"{name}-{version}-{graph_id}"


def _open(graph: bytes, threads: int, provider: Provider, cuda_device: str) -> OnnxSession:
    open_graph = partial(OnnxSession, graph, threads, provider, cuda_device)
    if isinstance(provider, str) or "trt_engine_cache_path" not in provider[1]:
        return open_graph()
    folder = Path(provider[1]["trt_engine_cache_path"])
    try:
        folder.mkdir(parents=True, exist_ok=True)  # TensorRT creates one level only
        return _open_tensorrt(open_graph, folder)
    except OSError as error:
        raise RuntimeError(
            f"engines cannot be stored: {format_os_error(error)}; name a writable folder in "
            "FER_ROS_CACHE"
        ) from None


def _open_tensorrt(open_graph: Callable[[], OnnxSession], folder: Path) -> OnnxSession:
    """Open a session with the engines of ``folder``, or build them again where they are damaged.

    Engines are kept when the failure has another cause, such as a full GPU. Raises RuntimeError and
    OSError.
    """
    try:
        return open_graph()
    except RuntimeError as error:
        if not any(folder.iterdir()):
            raise
        _log.warning("%s: TensorRT fails with these engines, building new ones: %s", folder, error)
    saved = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(saved, ignore_errors=True)
    folder.rename(saved)
    folder.mkdir()
    try:
        session = open_graph()
    except RuntimeError:
        shutil.rmtree(folder)
        saved.rename(folder)
        raise
    shutil.rmtree(saved, ignore_errors=True)
    return session
