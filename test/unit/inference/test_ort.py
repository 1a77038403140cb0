"""The ONNX Runtime backend: batches, precision, and what it reports."""

import numpy as np
import pytest

from fer_ros.inference.backends import BackendError
from fer_ros.inference.backends import ort as ort_backend
from fer_ros.inference.backends.ort import OrtBackend
from fer_ros.inference.execution_providers import ProviderError
from fer_ros.inference.model_store import ModelManifest
from fer_ros.inference.onnx_session import CPU, CUDA, TENSORRT

MANIFEST = ModelManifest("made", "vgg13", "w.safetensors", "ab" * 32)


class Session:
    """Answers with the first pixel of each crop; TensorRT refuses more crops than its profile."""

    def __init__(self, provider, capacity=20):
        self.provider, self.capacity = provider, capacity
        self.device = "cpu" if provider == CPU else "cuda"
        self.batches = []

    def run(self, crops_rgb):
        if self.provider == TENSORRT and len(crops_rgb) > self.capacity:
            raise RuntimeError("EP_FAIL: setInputShape")
        self.batches.append(len(crops_rgb))
        first = crops_rgb[:, 0, 0, 0].astype(np.float32)
        return [np.tile(first[:, None, None], (1, 68, 2)), np.tile(first[:, None], (1, 8))]


@pytest.fixture
def start(monkeypatch):
    """Sets the provider that starts, or the error."""

    def set_up(provider, fallback="", error=None):
        session = Session(provider)

        def open_session(graph, device, threads, precision, profile):
            session.profile = profile
            if error:
                raise error
            return session, fallback

        monkeypatch.setattr(ort_backend, "load_or_export", lambda manifest, on_cpu: b"")
        monkeypatch.setattr(ort_backend, "provider_candidates", lambda *_: [provider])
        monkeypatch.setattr(ort_backend, "open_session", open_session)
        return session

    return set_up


def crops(count):
    numbers = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(numbers, (count, 112, 112, 3))


@pytest.mark.parametrize(
    ("count", "batches"), [(1, [1]), (20, [20]), (21, [20, 1]), (45, [20, 20, 5])]
)
def test_tensorrt_gets_no_more_crops_than_its_profile_allows(start, count, batches):
    """G3: a larger batch fails, and no engine is built for it."""
    session = start(TENSORRT)
    predictions = OrtBackend(MANIFEST, "auto").run(crops(count))
    assert session.batches == batches
    np.testing.assert_array_equal(predictions.probabilities[:, 0], np.arange(count))
    assert session.profile.max_shape == (20, 112, 112, 3)
    assert session.profile.input_name == "crops_rgb"


@pytest.mark.parametrize("provider", [CPU, CUDA])
def test_other_providers_get_the_whole_batch(start, provider):
    session = start(provider)
    assert len(OrtBackend(MANIFEST, "auto").run(crops(45))) == 45
    assert session.batches == [45]


@pytest.mark.parametrize(
    ("provider", "precision", "name", "device"),
    [
        (CPU, "auto", "ONNX Runtime", "cpu"),
        (CUDA, "auto", "ONNX Runtime", "cuda"),
        (TENSORRT, "auto", "ONNX Runtime, TensorRT", "cuda"),
        (TENSORRT, "fp16", "ONNX Runtime, TensorRT in fp16", "cuda"),
    ],
)
def test_a_backend_reports_what_started(start, provider, precision, name, device):
    start(provider, "no libnvinfer")
    backend = OrtBackend(MANIFEST, "auto", precision=precision)
    assert (backend.name, backend.device, backend.provider) == (name, device, provider)
    assert backend.precision == ("fp16" if precision == "fp16" else "fp32")
    assert backend.fallback == "no libnvinfer"


@pytest.mark.parametrize(
    ("provider", "batches"), [(TENSORRT, range(1, 21)), (CUDA, range(1, 21)), (CPU, [1])]
)
def test_the_warm_up_of_a_gpu_runs_every_usual_batch(start, provider, batches):
    """G11: kernels are loaded and chosen at configure, not for the first frame of so many faces."""
    session = start(provider)
    OrtBackend(MANIFEST, "auto").warm_up()
    assert session.batches == list(batches)


def test_a_provider_that_does_not_start_is_an_error_of_the_model(start):
    start(CPU, error=ProviderError("ONNX Runtime: device 'cuda': no driver"))
    with pytest.raises(BackendError, match=r"^ONNX Runtime: device 'cuda': no driver$"):
        OrtBackend(MANIFEST, "cuda")
