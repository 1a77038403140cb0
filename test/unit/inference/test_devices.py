"""CUDA devices as the driver reports them, with drivers that are made up."""

import ctypes
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from cuda_tools import STICKY, FakeCuda

from fer_ros.inference import devices
from fer_ros.inference.devices import (
    cuda_index,
    cuda_status,
    gpu_name,
    release_cuda_memory,
    tensorrt_version,
)


class Driver:
    """NVIDIA's driver library with so many devices; ``code`` is what cuInit returns."""

    def __init__(self, count: int, code: int = 0) -> None:
        self.count, self.code = count, code

    def cuInit(self, flags):  # noqa: N802
        return self.code

    def cuDeviceGetCount(self, count):  # noqa: N802
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self.count
        return 0

    def cuDeviceGet(self, device, index):  # noqa: N802
        return 0 if index < self.count else 101

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"NVIDIA Thor"
        return 0


# library, whether a device file exists; devices, error
STATES = [
    (None, False, 0, ""),
    (None, True, 0, "exists but libcuda.so.1 cannot be loaded"),
    (Driver(0), True, 0, ""),
    (Driver(2), True, 2, ""),
    (Driver(0, 100), False, 0, ""),
    (Driver(0, 100), True, 0, r"driver error 100\): check that this user is in the groups video"),
    (Driver(0, 803), True, 0, r"exists but CUDA fails to start \(driver error 803\)"),
]


@pytest.mark.parametrize(("library", "has_file", "count", "error"), STATES)
def test_the_status(monkeypatch, tmp_path, library, has_file, count, error):
    file = tmp_path / "nvmap"
    if has_file:
        file.touch()
    monkeypatch.setattr(devices, "_DEVICE_FILES", (str(file),))
    monkeypatch.setattr(devices, "_load_library", lambda name: library)
    status = cuda_status()
    assert status.count == count
    assert re.search(error or "^$", status.error)


@pytest.mark.parametrize(("library", "name"), [(None, ""), (Driver(1), "NVIDIA Thor")])
def test_the_name_of_a_gpu(monkeypatch, library, name):
    monkeypatch.setattr(devices, "_load_library", lambda _: library)
    assert gpu_name(0) == name
    assert gpu_name(1) == ""


def test_the_version_of_tensorrt(monkeypatch):
    assert isinstance(tensorrt_version(), int)
    monkeypatch.setattr(devices, "_load_library", lambda _: None)
    assert tensorrt_version() == 0
    library = SimpleNamespace(getInferLibVersion=lambda: 100300)
    monkeypatch.setattr(devices, "_load_library", lambda _: library)
    assert tensorrt_version() == 100300


@pytest.mark.parametrize(("device", "index"), [("auto", 0), ("cuda", 0), ("cuda:3", 3)])
def test_the_index_of_a_device(device, index):
    assert cuda_index(device) == index


def test_memory_is_released_also_after_a_sticky_error(monkeypatch, caplog):
    """An error here would end in a finalized node."""
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    release_cuda_memory()
    assert caplog.text == ""
    cuda.error = RuntimeError(STICKY + "\nCUDA kernel errors might be asynchronously reported")
    release_cuda_memory()
    (record,) = caplog.records
    assert "CUDA memory cannot be released: CUDA error: an illegal" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_memory_is_released_without_a_context_on_another_device(monkeypatch):
    """A context takes some 500 MB of a GPU that others use."""
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    cuda.count, cuda.reserved = 3, {1: 2**20}
    release_cuda_memory()
    assert cuda.emptied == [1]


def test_without_pytorch_there_is_nothing_to_release(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: pytest.fail("PyTorch was used"))
    monkeypatch.delitem(sys.modules, "torch")
    release_cuda_memory()
