"""Selection of a detector's runtime, reports of failures, and fallback to the CPU."""

import logging
import sys

import numpy as np
import pytest
import torch

from fer_ros import multi_camera
from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig
from fer_ros.detector import ImageDetector
from fer_ros.detectors import session
from fer_ros.detectors.base import DetectorError
from fer_ros.detectors.centerface import CenterFace, load_centerface
from fer_ros.detectors.session import DetectorSession, open_detector
from fer_ros.inference.devices import CudaStatus
from fer_ros.inference.execution_providers import ProviderError
from fer_ros.inference.onnx_session import CPU, CUDA, TENSORRT
from fer_ros.multi_camera import MultiCameraPipeline

BATCH = np.zeros((1, 3, 32, 32), np.float32)


class Runtime:
    """A stand-in for a device, which fails while ``error`` is set."""

    def __init__(self, device="cuda", provider=CUDA):
        self.provider = CPU if device == "cpu" else provider
        self.device, self.error, self.calls = device, "", 0
        self.kind = RuntimeError

    def run(self, batch):
        self.calls += 1
        if self.error:
            raise self.kind(self.error)
        return [np.full(1, len(self.device))]


class Cuda:
    """A machine with a CUDA device whose PyTorch and ONNX Runtime behave as a test says."""

    def __init__(self, monkeypatch):
        self.torch_error = None
        self.gpu = Runtime()
        self.opened, self.profiles = [], []
        self.predictions = {
            "auto": (Runtime(), ""),
            "cuda": (Runtime(), ""),
            "cpu": (Runtime("cpu"), ""),
        }
        monkeypatch.setattr(session, "cuda_status", lambda: CudaStatus(1, ""))
        monkeypatch.setattr("fer_ros.detectors.torch_graph.TorchGraph", self._open_torch)
        monkeypatch.setattr(session, "open_session", self._open_session)

    def _open_torch(self, model, device):
        self.opened.append(device)
        if self.torch_error:
            raise self.torch_error
        return self.gpu

    def _open_session(self, graph, device="auto", threads=0, precision="auto", profile=None):
        self.opened.append(f"onnx {device}")
        self.profiles.append(profile is not None)
        result = self.predictions[device]
        if isinstance(result, str):
            raise ProviderError(result)
        return result


@pytest.fixture
def cuda(monkeypatch):
    return Cuda(monkeypatch)


@pytest.fixture
def model(published_centerface):
    return load_centerface(published_centerface)


@pytest.mark.parametrize(("device", "opened"), [("auto", "cuda"), ("cuda:1", "cuda:1")])
def test_with_cuda_the_detector_runs_in_pytorch(cuda, published_centerface, device, opened):
    detector = CenterFace(str(published_centerface), 1, device)
    assert (detector.device, detector.fallback, cuda.opened) == ("cuda", "", [opened])


@pytest.mark.parametrize(
    ("device", "torch_error", "result", "used", "fallback"),
    [
        ("auto", None, (Runtime(), ""), "cuda", ""),
        (
            "auto",
            None,
            (Runtime(), "TensorrtExecutionProvider: no engine"),
            "cuda",
            "face detector on cuda: TensorrtExecutionProvider: no engine",
        ),
        (
            "auto",
            None,
            (Runtime("cpu"), "CUDAExecutionProvider does not start"),
            "cpu",
            "face detector on cpu: CUDAExecutionProvider does not start",
        ),
        (
            "auto",
            None,
            (Runtime("cpu"), ""),
            "cpu",
            "face detector on cpu: ONNX Runtime: this build is for the CPU only; "
            "install onnxruntime-gpu instead of onnxruntime",
        ),
        (
            "cuda",
            None,
            "this build is for the CPU only",
            "cpu",
            "face detector on cpu: this build is for the CPU only",
        ),
        (
            "auto",
            RuntimeError("CUDA error: no memory\nsee the log"),
            (Runtime(), ""),
            "cuda",
            "face detector on cuda: PyTorch on auto: CUDA error: no memory see the log",
        ),
    ],
)
def test_fallbacks_are_reported(cuda, model, caplog, device, torch_error, result, used, fallback):
    caplog.set_level(logging.WARNING)
    cuda.torch_error, cuda.predictions[device] = torch_error, result
    opened = open_detector(model, device, 1, torch_works=torch_error is not None)
    assert (opened.device, opened.fallback) == (used, fallback)
    assert caplog.messages == [fallback] * bool(fallback)


def test_a_graph_that_pytorch_cannot_compute_runs_in_onnx_runtime(
    cuda, published_centerface, caplog
):
    cuda.torch_error = DetectorError("detector model in PyTorch: unknown operators ['Softmax']")
    opened = open_detector(load_centerface(published_centerface), "cuda", 1, torch_works=True)
    assert "PyTorch on cuda: detector model in PyTorch: unknown operators" in opened.fallback


def images(width):
    return np.zeros((1, 3, 256, width), np.float32)


def test_images_beyond_the_profile_of_tensorrt_run_on_the_cuda_provider(cuda, model):
    """TensorRT refuses them: a panorama, or detector.input_size_px above 1024."""
    tensorrt, larger = Runtime("cuda:1", TENSORRT), Runtime("cuda:1")
    cuda.predictions["cuda:1"] = (tensorrt, "")
    opened = open_detector(model, "cuda:1", 1, torch_works=False)
    opened.run(images(1024))
    assert (cuda.opened, tensorrt.calls) == (["onnx cuda:1"], 1)
    cuda.predictions["cuda:1"] = (larger, "")
    for width in (1056, 4096):
        opened.run(images(width))
    assert (tensorrt.calls, larger.calls, opened.device) == (1, 2, "cuda:1")
    assert cuda.profiles == [True, False]


def test_without_the_cuda_provider_the_cpu_takes_images_beyond_the_profile(cuda, model):
    cuda.predictions["cuda"] = (Runtime("cuda", TENSORRT), "")
    opened = open_detector(model, "cuda", 1, torch_works=False)
    cuda.predictions["cuda"] = "CUDAExecutionProvider does not start"
    assert opened.run(images(1056))[0].tolist() == [3]
    assert "CUDAExecutionProvider does not start; the CPU takes over" in opened.fallback


def test_a_gpu_for_which_pytorch_has_no_kernels_is_replaced_at_once(cuda, model):
    cuda.gpu.error = "CUDA error: no kernel image is available for execution on the device"
    opened = open_detector(model, "auto", 1, torch_works=True)
    assert cuda.opened == ["cuda", "onnx auto"]
    assert f"PyTorch on auto: {cuda.gpu.error}" in opened.fallback


def test_a_gpu_that_is_full_at_first_is_tried_again(cuda, model):
    cuda.gpu.error, cuda.gpu.kind = "CUDA out of memory", torch.cuda.OutOfMemoryError
    opened = open_detector(model, "auto", 1, torch_works=True)
    assert (cuda.opened, cuda.gpu.calls) == (["cuda"], 1)
    cuda.gpu.error = ""
    assert opened.run(BATCH)[0].tolist() == [4]


class BrokenTorch:
    """Finder of imports that fails for PyTorch, as where a library of CUDA is missing."""

    def __init__(self, error):
        self.error = error

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise self.error


@pytest.mark.parametrize(
    "error",
    [
        ImportError("no module named torch"),
        OSError("libcudss.so.0: cannot open shared object file"),
        ValueError("libcublas.so.*[0-9] not found in the system path"),
    ],
)
def test_a_pytorch_that_cannot_be_imported_is_reported(model, monkeypatch, error):
    monkeypatch.setattr(session, "cuda_status", lambda: CudaStatus(1, ""))
    for name in ("torch", "fer_ros.detectors.torch_graph"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [BrokenTorch(error), *sys.meta_path])
    opened = open_detector(model, "auto", 1, torch_works=True)
    assert opened.device == "cpu"
    assert f"PyTorch on auto: it cannot be imported: {error}" in opened.fallback


def test_with_a_pytorch_for_the_cpu_the_detector_uses_the_cpu(model, monkeypatch):
    """NVIDIA's driver finds a GPU, and PyTorch was built without CUDA."""
    monkeypatch.setattr(session, "cuda_status", lambda: CudaStatus(1, ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        torch.cuda, "_lazy_init", lambda: pytest.fail("Torch not compiled with CUDA enabled")
    )
    opened = open_detector(model, "auto", 1, torch_works=True)
    assert opened.device == "cpu"
    assert f"PyTorch {torch.__version__} can use 0 CUDA devices" in opened.fallback


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_graph_that_no_runtime_loads_is_reported_in_one_line(cuda, model, device):
    cuda.predictions[device] = "ONNX Runtime: invalid graph"
    with pytest.raises(DetectorError, match=r"^face detector: ONNX Runtime: invalid graph$"):
        open_detector(model, device, 1, torch_works=False)


def test_the_pipeline_gives_the_detector_the_device_of_the_classifier(monkeypatch):
    """One setting decides for both networks."""
    opened = []
    monkeypatch.setattr(multi_camera, "make_detector", lambda *given: opened.append(given))
    classifier = ClassifierConfig(device="cuda:1", threads=3)
    config = PipelineConfig(classifier=classifier)
    MultiCameraPipeline(["camera"], config, classifier=object())
    assert opened == [(config.detector, 3, "cuda:1")]


def test_the_pipeline_reports_the_fallback_of_the_detector():
    class Network:
        name, device, fallback = "n", "cpu", "face detector on cpu: no libcudnn"

    class Classifier:
        fallback = "no libnvinfer"

    detector = ImageDetector(Network(), DetectorConfig())
    pipeline = MultiCameraPipeline(["camera"], PipelineConfig(), detector, Classifier())
    assert pipeline.fallback == "no libnvinfer; face detector on cpu: no libcudnn"


def test_the_cpu_replaces_a_failing_device_until_it_recovers(caplog):
    caplog.set_level(logging.WARNING)
    gpu, cpu, now = Runtime(), Runtime("cpu"), [0.0]
    detector = DetectorSession(gpu, lambda: cpu, "no libnvinfer", lambda: now[0])
    assert detector.run(BATCH)[0].tolist() == [4]
    gpu.error = "CUDA error:\nout of memory"
    for _ in range(3):
        assert detector.run(BATCH)[0].tolist() == [3]
    assert (gpu.calls, cpu.calls, detector.device) == (2, 3, "cpu")
    error = "face detector on cuda: CUDA error: out of memory; the CPU takes over"
    assert detector.fallback == f"no libnvinfer; {error}"
    for now[0], calls in ((0.9, 2), (1.0, 3), (2.9, 3), (3.0, 4)):
        detector.run(BATCH)
        assert gpu.calls == calls
    gpu.error, now[0] = "", 7.0
    assert detector.run(BATCH)[0].tolist() == [4]
    assert (detector.device, detector.fallback) == ("cuda", "no libnvinfer")
    assert caplog.messages == [
        f"{error}; the device is tried again later",
        "face detector on cuda works again",
    ]


def test_a_frame_that_no_device_computes_raises_one_error():
    def open_cpu():
        raise ProviderError("no memory for the CPU")

    gpu = Runtime()
    gpu.error = "out of memory"
    with pytest.raises(RuntimeError, match="out of memory; the CPU takes over; no memory for the"):
        DetectorSession(gpu, open_cpu).run(BATCH)
