"""Devices of this machine: CUDA by NVIDIA's driver, without PyTorch; the CPU by its flags."""

import ctypes
import gc
import logging
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fer_ros.io.errors import single_line

_DRIVER_LIBRARY = "libcuda.so.1"
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer.so.8")
# Device files of a desktop GPU and of a Jetson.
_DEVICE_FILES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvmap", "/dev/nvgpu/igpu0")
_CPU_INFO = Path("/proc/cpuinfo")
_INT8_FLAGS = re.compile(r"\b(avx512_vnni|avx_vnni|asimddp)\b")
_DEVICE_PATTERN = re.compile(r"auto|cpu|cuda(:\d+)?")

TORCH_IMPORT_ERRORS = (ImportError, OSError, ValueError)
"""Errors of ``import torch``; OSError and ValueError where a library of CUDA is missing."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CudaStatus:
    """``count`` CUDA devices; ``error`` says why a GPU that is present cannot be used, or ""."""

    count: int
    error: str


def check_device(device: str) -> None:
    """Raise ValueError unless ``device`` is auto, cpu, cuda or cuda:N."""
    if not _DEVICE_PATTERN.fullmatch(device):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}")


def cuda_index(device: str) -> int:
    """N of ``cuda:N``; 0 for ``cuda`` and ``auto``."""
    return int(device.partition(":")[2] or 0)


def cuda_status() -> CudaStatus:
    """Ask the driver for its CUDA devices."""
    driver = _load_library(_DRIVER_LIBRARY)
    if driver is None:
        return CudaStatus(0, _missing_driver_error())
    code, count = driver.cuInit(0), ctypes.c_int(0)
    if code == 0:
        code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code == 0:
        return CudaStatus(count.value, "")
    present = gpu_device_file()
    if not present:
        return CudaStatus(0, "")
    return CudaStatus(
        0,
        f"{present} exists but CUDA fails to start (driver error {code}): check that this user is "
        "in the groups video and render, and that the driver is the one of the running kernel",
    )


def supports_int8_dot_product() -> bool:
    """Whether this CPU has int8 dot products: AVX512-VNNI, AVX-VNNI or ARM's dotprod."""
    if not _CPU_INFO.is_file():
        return False
    return bool(_INT8_FLAGS.search(_CPU_INFO.read_text(encoding="utf-8", errors="replace")))


def is_x86() -> bool:
    """Whether this is a CPU of the x86-64 architecture."""
    return platform.machine().lower() in {"x86_64", "amd64"}


def gpu_name(index: int) -> str:
    """Name of a CUDA device as the driver reports it, "" if there is none."""
    driver = _load_library(_DRIVER_LIBRARY)
    if driver is None:
        return ""
    name, device = ctypes.create_string_buffer(256), ctypes.c_int(0)
    is_known = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), index) == 0
        and driver.cuDeviceGetName(name, len(name), device) == 0
    )
    return name.value.decode(errors="replace") if is_known else ""


def tensorrt_version() -> int:
    """Version of the installed TensorRT, such as 100300 for 10.3; 0 if it is not installed."""
    libraries = filter(None, map(_load_library, _TENSORRT_LIBRARIES))
    return next((int(library.getInferLibVersion()) for library in libraries), 0)


def release_cuda_memory() -> None:
    """Return PyTorch's unused CUDA memory to the driver. Never raises, does not import PyTorch.

    After an asynchronous CUDA error every call into CUDA fails until the process ends; then nothing
    can be returned, and one warning says so.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    try:
        if not torch.cuda.is_initialized():
            return
        for index in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(index):
                with torch.cuda.device(index):  # else a context is opened on device 0
                    torch.cuda.empty_cache()
    except RuntimeError as error:
        _log.warning("CUDA memory cannot be released: %s", single_line(error))


def _missing_driver_error() -> str:
    present = gpu_device_file()
    return f"{present} exists but {_DRIVER_LIBRARY} cannot be loaded" if present else ""


def gpu_device_file() -> str:
    """Path of a device file that the driver of a GPU makes, "" without one."""
    return next((path for path in _DEVICE_FILES if Path(path).exists()), "")


def _load_library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
