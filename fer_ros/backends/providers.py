"""Which of ONNX Runtime's providers compute a graph, and where TensorRT keeps its engines."""

import ctypes
import re
from pathlib import Path
from typing import Any

from fer_ros.backends import BackendError, is_graph
from fer_ros.onnx_session import CPU, Provider
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import ModelCard, cache_folder

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
INPUT = "crops_rgb"

_LIBRARIES = ("libnvinfer.so.10", "libnvinfer.so.8")
_BATCHES = {"min": 1, "opt": 2, "max": 20}  # faces of a frame; with more an engine is built anew


def choose(card: ModelCard, device: str, precision: str = "auto") -> list[Provider]:
    """The providers to try on a device, best first; the CPU is the last of all of them.

    TensorRT comes first where this build of ONNX Runtime and the machine have it; engines, which
    take minutes to build, stay in ``engine_folder``; they are in fp16 only where ``precision`` asks
    for it. Models in int8 are for CPUs. Raises BackendError when ONNX Runtime has nothing for the
    device, or not in this precision.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"ONNX Runtime cannot be imported: {error}") from None
    available = onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and (CUDA not in available or is_graph(card))):
        check_precision(precision, by_tensorrt=False)
        return [CPU]
    if CUDA not in available:
        raise BackendError(f"ONNX Runtime: device {device!r}: this build is for the CPU only")
    index = int(device.partition(":")[2] or 0)
    chosen: list[Provider] = [(CUDA, {"device_id": index}), CPU]
    version = tensorrt_version() if TENSORRT in available else 0
    check_precision(precision, by_tensorrt=bool(version))
    if version:
        chosen.insert(0, (TENSORRT, _tensorrt(card, index, version, precision)))
    return chosen


def check_precision(precision: str, by_tensorrt: bool) -> None:
    """Raises BackendError for what ONNX Runtime cannot: only TensorRT has fp16, nothing bf16."""
    if precision in {"auto", "fp32"} or (precision == "fp16" and by_tensorrt):
        return
    needs = "PyTorch" if precision == "bf16" else "TensorRT"
    raise BackendError(
        f"ONNX Runtime: precision {precision!r} needs {needs}: set classifier.precision to auto or "
        "fp32, or classifier.backend to torch"
    )


def engine_folder(card: ModelCard, gpu: str, version: int) -> Path:
    """Where engines are kept: those of another GPU, TensorRT or model are of no use."""
    name = re.sub(r"\W+", "_", gpu)
    return cache_folder() / "tensorrt" / f"{name}-{version}-{card.sha256[:16]}"


def tensorrt_version() -> int:
    """As TensorRT counts, such as 100300 for 10.3; 0 where it is not installed."""
    libraries = filter(None, map(_library, _LIBRARIES))
    return next((int(library.getInferLibVersion()) for library in libraries), 0)


def gpu_name(index: int) -> str:
    """As NVIDIA's driver says; ``""`` where it does not."""
    driver = _library("libcuda.so.1")
    if not driver:
        return ""
    name, device = ctypes.create_string_buffer(256), ctypes.c_int(0)
    is_known = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), index) == 0
        and driver.cuDeviceGetName(name, len(name), device) == 0
    )
    return name.value.decode(errors="replace") if is_known else ""


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _tensorrt(card: ModelCard, index: int, version: int, precision: str) -> dict[str, Any]:
    shapes = {
        f"trt_profile_{kind}_shapes": f"{INPUT}:{count}x{CROP_SIZE_PX}x{CROP_SIZE_PX}x3"
        for kind, count in _BATCHES.items()
    }
    folder = engine_folder(card, gpu_name(index), version)
    kept = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
    return {"device_id": index, "trt_fp16_enable": precision == "fp16", **kept, **shapes}
