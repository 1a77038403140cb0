"""Which of ONNX Runtime's providers are tried, for builds and machines that are made up."""

from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from fer_ros.backends import BackendError, providers
from fer_ros.backends.onnx import OnnxBackend
from fer_ros.backends.providers import CUDA, TENSORRT, choose, engine_folder
from fer_ros.onnx_session import CPU
from fer_ros.weights import ModelCard

CARD = ModelCard("made", "vgg13", "w.safetensors", "ab" * 32)
INT8 = ModelCard("made_int8", "vgg13", "w.onnx", "cd" * 32)
FULL = [TENSORRT, CUDA, CPU]


@pytest.fixture
def machine(monkeypatch):
    """Sets what the build has, and the version of TensorRT on the machine."""

    def set_up(available, version=0):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(providers, "tensorrt_version", lambda: version)
        monkeypatch.setattr(providers, "gpu_name", lambda index: f"NVIDIA Orin (nvgpu) {index}")

    return set_up


def starts(monkeypatch, provider):
    """Sets the provider that a session begins with, whatever was asked for."""
    session = SimpleNamespace(metadata={}, provider=provider)
    monkeypatch.setattr("fer_ros.backends.onnx.graph_of", lambda card, on_cpu: b"")
    monkeypatch.setattr("fer_ros.backends.onnx.OnnxSession", lambda *arguments: session)


def names(chosen):
    return [each if isinstance(each, str) else each[0] for each in chosen]


@pytest.mark.parametrize(
    ("available", "version", "card", "device", "chosen"),
    [
        ([CPU], 0, CARD, "auto", [CPU]),
        ([CPU], 100300, CARD, "cpu", [CPU]),
        (FULL, 100300, CARD, "cpu", [CPU]),
        ([CUDA, CPU], 100300, CARD, "auto", [CUDA, CPU]),
        (FULL, 0, CARD, "auto", [CUDA, CPU]),
        (FULL, 100300, CARD, "auto", FULL),
        (FULL, 100300, CARD, "cuda:1", FULL),
        (FULL, 100300, INT8, "auto", [CPU]),
        (FULL, 0, INT8, "cuda", [CUDA, CPU]),
    ],
)
def test_the_choice(machine, available, version, card, device, chosen):
    machine(available, version)
    assert names(choose(card, device)) == chosen


@pytest.mark.parametrize(
    ("available", "version", "device", "precision", "in_fp16"),
    [
        (FULL, 100300, "auto", "auto", False),
        (FULL, 100300, "auto", "fp32", False),
        (FULL, 100300, "cuda:1", "fp16", True),
        (FULL, 100300, "auto", "bf16", None),
        (FULL, 100300, "cpu", "fp16", None),
        (FULL, 0, "cuda", "fp16", None),
        ([CPU], 0, "auto", "fp16", None),
        ([CPU], 0, "cpu", "bf16", None),
    ],
)
def test_the_precision_is_for_tensorrt(machine, available, version, device, precision, in_fp16):
    machine(available, version)
    if in_fp16 is None:
        said = f"^ONNX Runtime: precision '{precision}' needs .*: set classifier.precision to auto"
        with pytest.raises(BackendError, match=said):
            choose(CARD, device, precision)
    else:
        (_, options), *_ = choose(CARD, device, precision)
        assert options["trt_fp16_enable"] is in_fp16


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_build_without_cuda_is_told(machine, device):
    machine([CPU])
    with pytest.raises(BackendError, match="this build is for the CPU only"):
        choose(CARD, device)


@pytest.mark.parametrize(("device", "index"), [("auto", 0), ("cuda", 0), ("cuda:2", 2)])
def test_all_are_on_the_device(machine, device, index):
    machine(FULL, 100300)
    assert [options["device_id"] for _, options in choose(CARD, device)[:2]] == [index, index]


def test_engines_are_kept_where_only_the_same_machine_and_model_find_them(machine, monkeypatch):
    monkeypatch.setenv("FER_ROS_CACHE", "/somewhere/cache")
    machine(FULL, 100300)
    (_, options), *_ = choose(CARD, "auto")
    assert options["trt_engine_cache_enable"] is True
    folder = Path(options["trt_engine_cache_path"])
    assert folder == Path("/somewhere/cache/tensorrt/NVIDIA_Orin_nvgpu_0-100300-abababababababab")
    others = {
        engine_folder(INT8, "NVIDIA Orin (nvgpu) 0", 100300),
        engine_folder(CARD, "NVIDIA Thor", 100300),
        engine_folder(CARD, "NVIDIA Orin (nvgpu) 0", 100400),
    }
    assert len(others | {folder}) == 4


def test_one_engine_is_for_all_usual_numbers_of_faces(machine):
    machine(FULL, 100300)
    (_, options), *_ = choose(CARD, "auto")
    assert options["trt_profile_min_shapes"] == "crops_rgb:1x112x112x3"
    assert options["trt_profile_max_shapes"] == "crops_rgb:20x112x112x3"


@pytest.mark.parametrize(
    ("provider", "name", "device"),
    [
        (CPU, "ONNX Runtime", "cpu"),
        (CUDA, "ONNX Runtime", "cuda"),
        (TENSORRT, "ONNX Runtime, TensorRT", "cuda"),
    ],
)
def test_a_backend_says_which_provider_started(machine, monkeypatch, provider, name, device):
    machine(FULL, 100300)
    starts(monkeypatch, provider)
    backend = OnnxBackend(CARD, "auto")
    assert (backend.name, backend.device) == (name, device)


def test_a_backend_says_that_it_is_in_fp16_or_cannot(machine, monkeypatch):
    machine(FULL, 100300)
    starts(monkeypatch, TENSORRT)
    assert OnnxBackend(CARD, "auto", precision="fp16").name == "ONNX Runtime, TensorRT in fp16"
    starts(monkeypatch, CUDA)
    with pytest.raises(BackendError, match="precision 'fp16' needs TensorRT"):
        OnnxBackend(CARD, "auto", precision="fp16")


def test_a_cuda_provider_that_does_not_start_is_told(machine, monkeypatch):
    machine(FULL, 100300)
    starts(monkeypatch, CPU)
    with pytest.raises(BackendError, match="its CUDA provider does not start"):
        OnnxBackend(CARD, "cuda")


def test_libraries_that_are_not_there_are_no_error(monkeypatch):
    monkeypatch.setattr(providers, "_LIBRARIES", ("libnone.so.1",))
    assert providers.tensorrt_version() == 0
    assert isinstance(providers.gpu_name(0), str)
