"""Selection of the backend, and reports about the failing ones."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from cuda_tools import FakeCuda

from fer_ros.alignment import align
from fer_ros.config import ClassifierConfig
from fer_ros.detectors import centerface
from fer_ros.detectors.centerface import load_centerface
from fer_ros.detectors.centerface_int8 import int8_graph
from fer_ros.inference import backends
from fer_ros.inference.backends import BackendError, open_backend
from fer_ros.inference.backends import torch as torch_backend
from fer_ros.inference.backends.onnx_cache import export_graph, load_or_export
from fer_ros.inference.backends.ort import OrtBackend
from fer_ros.inference.backends.torch import TorchBackend, choose_device, choose_precision
from fer_ros.inference.devices import CudaStatus
from fer_ros.inference.model_store import (
    InputSpec,
    ModelError,
    ModelManifest,
    find_model,
    read_manifest,
)
from fer_ros.models import build_model
from fer_ros.models.checkpoint import load_model, save_model
from fer_ros.models.wrapper import FaceNetwork

NEEDS_NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> ModelManifest:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    return save_model(network, folder, "vgg13")


class Runtime:
    """Stands in for a runtime without outputs, on the given devices."""

    def __init__(self, name, *devices):
        self.name, self.devices, self.fallback = name, devices, ""

    def __call__(self, manifest, config):
        if config.device not in self.devices:
            raise BackendError(f"{self.name} has no {config.device}")
        opened = Runtime(self.name)
        opened.device = "cpu" if config.device == "auto" else config.device
        return opened


# devices of the driver, settings, what PyTorch and ONNX Runtime can; what is chosen
CHOICES = [
    (0, {}, ["cpu"], ["cpu"], ("onnx", "cpu", "")),
    (0, {}, ["cpu"], [], ("torch", "cpu", "onnx has no cpu")),
    (1, {}, ["cpu", "cuda"], ["cpu", "auto"], ("torch", "cuda", "")),
    (1, {}, ["cpu"], ["cpu", "auto"], ("onnx", "cpu", "torch has no cuda")),
    (1, {}, ["cpu"], [], ("torch", "cpu", "torch has no cuda; onnx has no auto")),
    (1, {"device": "cpu"}, ["cpu", "cuda"], ["cpu"], ("onnx", "cpu", "")),
    (1, {"device": "cuda:1"}, ["cuda:1"], ["cpu"], ("torch", "cuda:1", "")),
    (0, {"backend": "torch", "device": "cpu"}, ["cpu"], ["cpu"], ("torch", "cpu", "")),
    (0, {"backend": "torch"}, [], ["auto"], ("onnx", "cpu", "torch has no auto")),
    (1, {"backend": "onnx"}, ["auto"], ["auto"], ("onnx", "cpu", "")),
    (0, {"backend": "onnx"}, ["auto"], [], ("torch", "cpu", "onnx has no auto")),
]


@pytest.mark.parametrize(("cuda", "settings", "torchs", "onnxs", "chosen"), CHOICES)
def test_the_backend_is_selected_by_device_and_settings(
    manifest, monkeypatch, caplog, cuda, settings, torchs, onnxs, chosen
):
    monkeypatch.setattr(backends, "cuda_status", lambda: CudaStatus(cuda, ""))
    runtimes = {"torch": Runtime("torch", *torchs), "onnx": Runtime("onnx", *onnxs)}
    monkeypatch.setattr(backends, "_FACTORIES", runtimes)
    caplog.set_level(logging.INFO)
    choice = open_backend(manifest, ClassifierConfig(**settings))
    assert (choice.backend.name, choice.backend.device, choice.fallback) == chosen
    (record,) = caplog.records
    assert record.getMessage() == f"model fresh: {choice.reason}"
    assert record.levelname == ("WARNING" if choice.fallback else "INFO")
    assert choice.fallback in choice.reason


@pytest.mark.parametrize("backend", ["auto", "torch", "onnx"])
def test_without_any_runtime_all_reasons_are_reported(manifest, monkeypatch, backend):
    monkeypatch.setattr(backends, "cuda_status", lambda: CudaStatus(0, ""))
    monkeypatch.setattr(
        backends, "_FACTORIES", {"torch": Runtime("torch"), "onnx": Runtime("onnx")}
    )
    with pytest.raises(ModelError, match="torch has no ") as caught:
        open_backend(manifest, ClassifierConfig(backend=backend))
    assert "onnx has no " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["", "FP16", "float16", "int4"])
def test_invalid_precisions_are_rejected(precision):
    says = "precision: expected auto, fp32, fp16, bf16 or int8, found"
    with pytest.raises(ValueError, match=says):
        ClassifierConfig(precision=precision)


@pytest.mark.parametrize("device", ["", "gpu", "meta", "cuda:", "cuda:x", "cpu:0"])
def test_invalid_devices_are_rejected(manifest, device):
    with pytest.raises(ModelError, match="expected auto, cpu, cuda or cuda:N, found"):
        open_backend(manifest, ClassifierConfig(device=device))


@NEEDS_NO_CUDA
@pytest.mark.parametrize("backend", ["auto", "torch", "onnx"])
def test_a_missing_device_is_reported(manifest, backend):
    with pytest.raises(ModelError, match="can use 0 CUDA devices") as caught:
        open_backend(manifest, ClassifierConfig(backend=backend, device="cuda:99"))
    assert "ONNX Runtime: device 'cuda:99'" in str(caught.value)


def test_auto_device_is_cuda_where_available():
    assert choose_device("auto") in {"cpu", "cuda"}


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA device that the driver reports too."""
    fake = FakeCuda()
    fake.install(monkeypatch)
    monkeypatch.setattr(backends, "cuda_status", lambda: CudaStatus(fake.count, ""))
    return fake


def test_an_old_driver_falls_back_to_the_cpu(manifest, cuda, caplog):
    """NVML reports a device, and CUDA does not start."""
    cuda.usable = False
    assert choose_device("auto") == "cpu"
    with pytest.raises(BackendError, match=r"device 'cuda': PyTorch .* can use 0 CUDA devices"):
        choose_device("cuda")
    selection = open_backend(manifest, ClassifierConfig(threads=1))
    assert selection.backend.device == "cpu"
    assert "can use 0 CUDA devices" in selection.fallback
    assert "the driver may be older" in caplog.text
    with pytest.raises(ModelError, match="can use 0 CUDA devices") as caught:
        open_backend(manifest, ClassifierConfig(device="cuda"))
    assert "\n" not in str(caught.value)


def test_a_gpu_that_disappears_falls_back_to_the_cpu(manifest, cuda, monkeypatch):
    cuda.usable = False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # NVML, by its variable
    selection = open_backend(manifest, ClassifierConfig(threads=1))
    assert selection.backend.device == "cpu"
    assert "PyTorch: device cuda: The NVIDIA driver on your system is too old" in selection.fallback


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nAssert"),
        torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 MiB"),
    ],
)
def test_a_busy_or_full_gpu_falls_back_to_the_cpu(manifest, cuda, monkeypatch, error):
    """The error comes when the weights move to the device."""

    def refuse(network, device):
        if device == "cuda":
            raise error
        return network

    monkeypatch.setattr(
        FaceNetwork, "to", lambda self, *args, **options: refuse(self, *args or [0])
    )
    selection = open_backend(manifest, ClassifierConfig(threads=1))
    assert selection.backend.device == "cpu"
    assert "PyTorch: device cuda: CUDA " in selection.fallback
    assert "\n" not in selection.reason


def test_a_gpu_without_permission_is_a_warning(manifest, monkeypatch, caplog):
    """The user of a container is not in the group that may open the device."""
    error = "/dev/nvmap exists but CUDA fails to start"
    monkeypatch.setattr(backends, "cuda_status", lambda: CudaStatus(0, error))
    selection = open_backend(manifest, ClassifierConfig(threads=1))
    assert (selection.backend.device, selection.fallback) == ("cpu", error)
    assert error in caplog.text
    assert open_backend(manifest, ClassifierConfig(device="cpu", threads=1)).fallback == ""


def test_damaged_weights_do_not_fall_back_to_another_runtime(manifest, tmp_path, monkeypatch):
    for name in ("model.yaml", "weights.safetensors"):
        (tmp_path / name).write_bytes((manifest.folder / name).read_bytes())
    with (tmp_path / "weights.safetensors").open("ab") as weights:
        weights.write(b"more")
    for backend in ("torch", "onnx"):
        with pytest.raises(ModelError, match="the file is damaged") as caught:
            open_backend(read_manifest(tmp_path), ClassifierConfig(backend=backend, device="cpu"))
        assert not isinstance(caught.value, BackendError)


def test_both_runtimes_give_the_same_outputs(manifest):
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    predicted = [
        open_backend(manifest, ClassifierConfig(backend=name, device="cpu", threads=1)).backend.run(
            crops
        )
        for name in ("torch", "onnx")
    ]
    for name in ("points_xy", "probabilities"):
        np.testing.assert_allclose(*(getattr(result, name) for result in predicted), atol=1e-3)


# requested precision, device, its compute capability, resulting precision
PRECISIONS = [
    ("auto", "cpu", None, "fp32"),
    ("fp32", "cpu", None, "fp32"),
    ("bf16", "cpu", None, "bf16"),
    ("auto", "cuda", (6, 2), "fp32"),
    ("auto", "cuda:1", (7, 0), "fp16"),
    ("auto", "cuda", (9, 0), "fp16"),
    ("fp32", "cuda", (9, 0), "fp32"),
    ("fp16", "cuda", (5, 3), "fp16"),
    ("bf16", "cuda", (8, 7), "bf16"),
]


@pytest.mark.parametrize(("expected", "device", "capability", "chosen"), PRECISIONS)
def test_auto_precision_follows_the_device(monkeypatch, expected, device, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda argument: capability)
    assert choose_precision(expected, device) == chosen


@pytest.mark.parametrize(
    ("expected", "device", "message"),
    [
        ("fp16", "cpu", "needs CUDA, and the device is cpu: set classifier.precision to auto"),
        ("int8", "cpu", "needs a quantized model and ONNX Runtime"),
        ("bf16", "cuda:1", r"needs compute capability 8\.0, and cuda:1 has 7\.2: set classifier"),
    ],
)
def test_pytorch_rejects_unsupported_precisions(monkeypatch, expected, device, message):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda argument: (7, 2))
    with pytest.raises(BackendError, match=f"^PyTorch: precision '{expected}' {message}"):
        choose_precision(expected, device)


def test_an_unavailable_precision_is_reported_with_the_remedy(manifest):
    with pytest.raises(ModelError, match="PyTorch: precision 'fp16' needs CUDA") as caught:
        open_backend(manifest, ClassifierConfig(device="cpu", precision="fp16"))
    assert "ONNX Runtime: precision 'fp16' needs TensorRT" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_precision_selects_the_runtime_that_supports_it(manifest):
    choice = open_backend(manifest, ClassifierConfig(device="cpu", precision="bf16", threads=1))
    assert choice.reason.startswith("PyTorch in bf16 on cpu: ONNX Runtime: precision 'bf16' needs")
    predictions = choice.backend.run(np.zeros((2, 112, 112, 3), np.uint8))
    assert np.isnan(predictions.points_xy).all()  # this network has none
    assert predictions.probabilities.dtype == np.float32


@pytest.fixture(scope="module")
def faces(astronaut) -> np.ndarray:
    """Crops (5, 112, 112, 3) of the portrait, upright, mirrored, tilted, near and far."""
    five = np.array([[204, 105], [246, 104], [227, 137], [208, 150], [246, 149]], np.float32)
    views = [five, five + 4, five * (1, 0.9) + (0, 10), (five - 225) * 1.3 + 225]
    crops = np.concatenate([align(astronaut, view[None]).crops_rgb for view in views])
    return np.concatenate([crops, crops[:1, :, ::-1]])


DEVICES = [
    pytest.param("cpu", "bf16", "PyTorch in bf16"),
    *(
        pytest.param(
            "cuda",
            precision,
            name,
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        )
        for precision, name in [
            ("fp32", "PyTorch"),
            ("fp16", "PyTorch in fp16"),
            ("bf16", "PyTorch in bf16"),
        ]
    ),
]


@pytest.mark.parametrize(("device", "precision", "name"), DEVICES)
def test_other_precisions_give_the_same_emotion(faces, device, precision, name):
    shipped = read_manifest(find_model("two_stream_small"))
    expected = TorchBackend(shipped, "cpu", 1).run(faces)
    backend = TorchBackend(shipped, device, 1, precision)
    assert backend.name == name
    for count in (1, 5, 2):
        mine = backend.run(faces[:count])
        probabilities = expected.probabilities[:count]
        np.testing.assert_allclose(mine.points_xy, expected.points_xy[:count], atol=0.5)
        np.testing.assert_allclose(mine.probabilities, probabilities, atol=0.03)
        assert mine.probabilities.argmax(1).tolist() == probabilities.argmax(1).tolist()
        assert (mine.probabilities != probabilities).any()


def test_weights_are_converted_once_and_not_in_each_call(faces):
    """Autocast would convert them in each replay of a graph; the outputs are the same."""
    shipped = read_manifest(find_model("two_stream_small"))
    backend = TorchBackend(shipped, "cpu", 1, "bf16")
    layers = [
        layer
        for layer in backend._network.net.modules()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
    ]
    assert {layer.weight.dtype for layer in layers} == {torch.bfloat16}
    predictions, network = backend.run(faces), load_model(shipped.folder)
    network.net.register_forward_hook(torch_backend._to_float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        points_xy, probabilities, *_ = network.predict(torch.from_numpy(faces))
    np.testing.assert_array_equal(predictions.points_xy, points_xy.numpy())
    np.testing.assert_array_equal(predictions.probabilities, probabilities.numpy())


def test_attention_maps_in_another_precision(faces):
    shipped = read_manifest(find_model("two_stream_small"))
    expected = TorchBackend(shipped, "cpu", 1).attention(faces)
    maps = TorchBackend(shipped, "cpu", 1, "bf16").attention(faces)
    for mine, reference in zip(maps, expected, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, reference, atol=0.05 * reference.max())


def test_an_invalid_graph_is_reported(manifest, monkeypatch):
    monkeypatch.setattr(
        "fer_ros.inference.backends.ort.load_or_export", lambda manifest, on_cpu: b"not a graph"
    )
    with pytest.raises(BackendError, match=r"^ONNX Runtime: device 'cpu': "):
        OrtBackend(manifest, "cpu", 1)


@pytest.mark.parametrize("module", ["onnxruntime", "torch"])
def test_a_missing_runtime_is_reported(manifest, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # what `import` takes as: there is none
    monkeypatch.delitem(sys.modules, "fer_ros.inference.backends.torch", raising=False)
    expected = {"onnxruntime": "onnx", "torch": "torch"}[module]
    with pytest.raises(BackendError, match="cannot be imported"):
        backends._FACTORIES[expected](manifest, ClassifierConfig(device="cpu", threads=1))


@pytest.mark.parametrize("error", [OSError("libcudss.so.0"), ValueError("libcublas not found")])
def test_without_a_library_of_cuda_onnx_runtime_takes_over(manifest, monkeypatch, error):
    """``import torch`` raises these, as on a Jetson without cuDSS."""

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torch":
                raise error

    load_or_export(manifest)
    monkeypatch.delitem(sys.modules, "torch")
    for name in ("torch", "onnx_export"):
        monkeypatch.delitem(sys.modules, f"fer_ros.inference.backends.{name}", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    monkeypatch.setattr(backends, "cuda_status", lambda: CudaStatus(1, ""))
    selection = open_backend(manifest, ClassifierConfig(threads=1))
    assert selection.backend.name == "ONNX Runtime"
    assert f"PyTorch cannot be imported: {error}" in selection.fallback
    with pytest.raises(BackendError, match=f"exporting to ONNX needs PyTorch and onnx: {error}"):
        export_graph(manifest)


_WITHOUT_TORCH = """
import sys
import skimage.data
from fer_ros import EmotionPipeline, Frame, PipelineConfig
from fer_ros.config import ClassifierConfig, TrackerConfig

config = PipelineConfig(
    tracker=TrackerConfig(min_hits=1), classifier=ClassifierConfig(device="cpu")
)
(face,) = EmotionPipeline(config)(Frame(skimage.data.astronaut(), 0.0)).faces
print(face.emotion, "torch" in sys.modules)
"""


def test_once_exported_a_model_needs_no_torch():
    """A process of its own finds the graphs that this one has made."""
    load_or_export(read_manifest(find_model("two_stream_small")))
    int8_graph(load_centerface(centerface.find_model("")))
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "happiness False\n"
