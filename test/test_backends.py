"""Which runtime computes a model, and what becomes of those that cannot."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fer_ros import backends
from fer_ros.align import align
from fer_ros.backends import BackendError, open_backend
from fer_ros.backends.onnx import OnnxBackend
from fer_ros.backends.pytorch import TorchBackend, choose_device, choose_precision
from fer_ros.config import ClassifierConfig
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import InputSpec, ModelCard, ModelError, find_model, read_card

NEEDS_NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def card(tmp_path_factory) -> ModelCard:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    return save_model(network, folder, "vgg13")


class Runtime:
    """Stands in for a runtime: answers nothing, on the devices that it has."""

    def __init__(self, name, *devices):
        self.name, self.devices = name, devices

    def __call__(self, card, config):
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
def test_the_choice(card, monkeypatch, caplog, cuda, settings, torchs, onnxs, chosen):
    monkeypatch.setattr(backends, "cuda_devices", lambda: cuda)
    runtimes = {"torch": Runtime("torch", *torchs), "onnx": Runtime("onnx", *onnxs)}
    monkeypatch.setattr(backends, "_OPEN", runtimes)
    caplog.set_level(logging.INFO)
    choice = open_backend(card, ClassifierConfig(**settings))
    assert (choice.backend.name, choice.backend.device, choice.fallback) == chosen
    (said,) = caplog.records
    assert said.getMessage() == f"model fresh: {choice.reason}"
    assert said.levelname == ("WARNING" if choice.fallback else "INFO")
    assert choice.fallback in choice.reason


@pytest.mark.parametrize("backend", ["auto", "torch", "onnx"])
def test_without_any_runtime_all_reasons_are_told(card, monkeypatch, backend):
    monkeypatch.setattr(backends, "cuda_devices", lambda: 0)
    monkeypatch.setattr(backends, "_OPEN", {"torch": Runtime("torch"), "onnx": Runtime("onnx")})
    with pytest.raises(ModelError, match="torch has no ") as caught:
        open_backend(card, ClassifierConfig(backend=backend))
    assert "onnx has no " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["", "FP16", "float16", "int8"])
def test_wrong_precisions_are_named(precision):
    with pytest.raises(ValueError, match="precision: expected auto, fp32, fp16 or bf16, got"):
        ClassifierConfig(precision=precision)


@pytest.mark.parametrize("device", ["", "gpu", "meta", "cuda:", "cuda:x", "cpu:0"])
def test_wrong_devices_are_named(card, device):
    with pytest.raises(ModelError, match="expected auto, cpu, cuda or cuda:N, got"):
        open_backend(card, ClassifierConfig(device=device))


@NEEDS_NO_CUDA
@pytest.mark.parametrize("backend", ["auto", "torch", "onnx"])
def test_a_device_that_is_not_there_is_told(card, backend):
    with pytest.raises(ModelError, match="PyTorch sees 0 CUDA devices") as caught:
        open_backend(card, ClassifierConfig(backend=backend, device="cuda:99"))
    assert "ONNX Runtime: device 'cuda:99'" in str(caught.value)


def test_pytorch_finds_a_device():
    assert choose_device("auto") in {"cpu", "cuda"}


def test_damaged_weights_are_no_reason_to_try_another_runtime(card, tmp_path, monkeypatch):
    for name in ("model.yaml", "weights.safetensors"):
        (tmp_path / name).write_bytes((card.folder / name).read_bytes())
    with (tmp_path / "weights.safetensors").open("ab") as weights:
        weights.write(b"more")
    for backend in ("torch", "onnx"):
        with pytest.raises(ModelError, match="the file is damaged") as caught:
            open_backend(read_card(tmp_path), ClassifierConfig(backend=backend, device="cpu"))
        assert not isinstance(caught.value, BackendError)


def test_both_runtimes_give_the_same(card):
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    answers = [
        open_backend(card, ClassifierConfig(backend=name, device="cpu", threads=1)).backend.run(
            crops
        )
        for name in ("torch", "onnx")
    ]
    for mine, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3)


# what is asked for, the device, its compute capability; what is computed in
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


@pytest.mark.parametrize(("wanted", "device", "capability", "chosen"), PRECISIONS)
def test_the_precision(monkeypatch, wanted, device, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda asked: capability)
    assert choose_precision(wanted, device) == chosen


@pytest.mark.parametrize(
    ("wanted", "device", "said"),
    [
        ("fp16", "cpu", "needs CUDA, and the device is cpu: set classifier.precision to auto"),
        ("bf16", "cuda:1", r"needs compute capability 8\.0, and cuda:1 has 7\.2: set classifier"),
    ],
)
def test_a_precision_that_pytorch_refuses(monkeypatch, wanted, device, said):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda asked: (7, 2))
    with pytest.raises(BackendError, match=f"^PyTorch: precision '{wanted}' {said}"):
        choose_precision(wanted, device)


def test_a_precision_that_no_runtime_has_is_told_with_what_to_set(card):
    with pytest.raises(ModelError, match="PyTorch: precision 'fp16' needs CUDA") as caught:
        open_backend(card, ClassifierConfig(device="cpu", precision="fp16"))
    assert "ONNX Runtime: precision 'fp16' needs TensorRT" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_precision_leads_to_the_runtime_that_has_it(card):
    choice = open_backend(card, ClassifierConfig(device="cpu", precision="bf16", threads=1))
    assert choice.reason.startswith("PyTorch in bf16 on cpu: ONNX Runtime: precision 'bf16' needs")
    points_xy, probabilities = choice.backend.run(np.zeros((2, 112, 112, 3), np.uint8))
    assert np.isnan(points_xy).all()  # this network has none
    assert points_xy.dtype == probabilities.dtype == np.float32


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
def test_another_precision_reads_the_same_in_a_face(faces, device, precision, name):
    shipped = read_card(find_model("two_stream_small"))
    points_xy, probabilities = TorchBackend(shipped, "cpu", 1).run(faces)
    backend = TorchBackend(shipped, device, 1, precision)
    assert backend.name == name
    for count in (1, 5, 2):
        mine = backend.run(faces[:count])
        assert [each.dtype for each in mine] == [np.float32] * 2
        np.testing.assert_allclose(mine[0], points_xy[:count], atol=0.5)
        np.testing.assert_allclose(mine[1], probabilities[:count], atol=0.03)
        assert mine[1].argmax(1).tolist() == probabilities[:count].argmax(1).tolist()
        assert (mine[1] != probabilities[:count]).any()


def test_a_graph_that_onnx_runtime_cannot_read(card, monkeypatch):
    monkeypatch.setattr("fer_ros.backends.onnx.graph_of", lambda card, on_cpu: b"not a graph")
    with pytest.raises(BackendError, match="ONNX Runtime: the graph of fresh: "):
        OnnxBackend(card, "cpu", 1)


@pytest.mark.parametrize("module", ["onnxruntime", "torch"])
def test_a_runtime_that_is_not_installed(card, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # what `import` takes as: there is none
    monkeypatch.delitem(sys.modules, "fer_ros.backends.pytorch", raising=False)
    wanted = {"onnxruntime": "onnx", "torch": "torch"}[module]
    with pytest.raises(BackendError, match="cannot be imported"):
        backends._OPEN[wanted](card, ClassifierConfig(device="cpu", threads=1))


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
    """In a process of its own: the first run exports, the second finds the graph."""
    for has_torch in (True, False):
        ran = subprocess.run(
            [sys.executable, "-c", _WITHOUT_TORCH],
            env={**os.environ, "FER_ROS_CACHE": os.environ["FER_ROS_CACHE"] + "/pipeline"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == f"happiness {has_torch}\n"
