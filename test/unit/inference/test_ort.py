"""The ONNX Runtime backend: batches, precision, and what it reports."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fer_ros.inference.backends import BackendError, onnx_cache
from fer_ros.inference.backends import ort as ort_backend
from fer_ros.inference.backends.ort import OrtBackend
from fer_ros.inference.execution_providers import ProviderError
from fer_ros.inference.model_store import InputSpec, ModelManifest, find_model, read_manifest
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
        session.threads = []

        def open_session(graph, device, threads, precision="auto", profile=None):
            session.profile = profile
            session.threads.append(threads)
            if provider != CPU and device != "auto":
                session.device = device
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
    """A larger batch fails, and no engine is built for it."""
    session = start(TENSORRT)
    predictions = OrtBackend(MANIFEST, "auto").run(crops(count))
    assert session.batches == batches
    np.testing.assert_array_equal(predictions.probabilities[:, 0], np.arange(count))
    assert session.profile.max_shape == (20, 112, 112, 3)
    assert session.profile.input_name == "crops_rgb"


def test_engines_of_a_changed_model_have_a_folder_of_their_own(start, monkeypatch):
    """ONNX Runtime does not compare the constants of a graph with those of its engine."""
    names = []
    for changed in ({}, {"temperature": 2.0}, {"input": InputSpec(mean=(0.4,) * 3)}):
        session = start(TENSORRT)
        OrtBackend(replace(MANIFEST, **changed), "auto")
        names.append(session.profile.graph_id)
    monkeypatch.setattr(onnx_cache, "EXPORT_VERSION", 99)
    OrtBackend(MANIFEST, "auto")
    assert len({*names, session.profile.graph_id}) == 4


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_int8_on_a_gpu_is_refused_with_the_remedy(device):
    """The CUDA provider dequantizes int8 and uint8, and the biases are int32."""
    manifest = read_manifest(find_model("two_stream_small_int8"))
    graph = onnx.load(manifest.weights_path)
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    scaled = [node.input[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"]
    assert TensorProto.INT32 in {kinds.get(name) for name in scaled}
    message = f"two_stream_small_int8: int8 needs device cpu, found {device}: set classifier.device"
    with pytest.raises(BackendError, match=message) as caught:
        OrtBackend(manifest, device, precision="int8")
    assert "\n" not in str(caught.value)


def test_cuda_gets_the_whole_batch(start):
    session = start(CUDA)
    assert len(OrtBackend(MANIFEST, "auto").run(crops(45))) == 45
    assert session.batches == [45]


@pytest.mark.parametrize(
    ("threads", "count", "batches"),
    [
        (1, 1, [1]),
        (1, 5, [5]),
        (2, 1, [1]),
        (2, 2, [1, 1]),
        (2, 5, [3, 2]),
        (4, 3, [3]),
        (4, 30, [8, 8, 7, 7]),
    ],
)
def test_threads_of_a_cpu_share_the_faces_where_there_is_one_for_each(
    start, threads, count, batches
):
    session = start(CPU)
    predictions = OrtBackend(MANIFEST, "auto", threads).run(crops(count))
    assert sorted(session.batches, reverse=True) == batches
    assert session.threads == [threads, *[1] * (threads > 1)]
    np.testing.assert_array_equal(predictions.probabilities[:, 0], np.arange(count))


def test_all_cores_are_the_threads_of_zero(start, monkeypatch):
    monkeypatch.setattr(ort_backend.os, "sched_getaffinity", lambda process: {0, 1, 2})
    session = start(CPU)
    OrtBackend(MANIFEST, "auto").run(crops(6))
    assert session.batches == [2, 2, 2]


def test_an_error_of_one_thread_is_that_of_the_batch(start):
    session = start(CPU)
    session.run = lambda crops_rgb: 1 / 0 if crops_rgb[0, 0, 0, 0] else []
    with pytest.raises(ZeroDivisionError):
        OrtBackend(MANIFEST, "auto", threads=2).run(crops(4))


@pytest.mark.parametrize("model", ["two_stream_small", "two_stream_small_int8"])
def test_faces_get_the_same_results_alone_and_side_by_side(model):
    random_rgb = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), np.uint8)
    backend = OrtBackend(read_manifest(find_model(model)), "cpu", threads=2)
    together = backend.run(random_rgb)
    for row, crop_rgb in enumerate(random_rgb):
        alone = backend.run(crop_rgb[None])
        np.testing.assert_allclose(alone.points_xy[0], together.points_xy[row], atol=1e-4)
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[row], atol=1e-6)


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
    ("provider", "device", "batches"),
    [
        (TENSORRT, "auto", range(1, 21)),
        (CUDA, "cuda", range(1, 21)),
        (CUDA, "cuda:1", range(1, 21)),
        (CPU, "auto", [1]),
    ],
)
def test_the_warm_up_of_a_gpu_runs_every_usual_batch(start, provider, device, batches):
    """Kernels are loaded and chosen at configure, not for the first frame of so many faces."""
    session = start(provider)
    backend = OrtBackend(MANIFEST, device)
    backend.warm_up()
    assert session.batches == list(batches)
    assert backend.device == ("cpu" if provider == CPU else device.replace("auto", "cuda"))


def test_a_provider_that_does_not_start_is_an_error_of_the_model(start):
    start(CPU, error=ProviderError("ONNX Runtime: device 'cuda': no driver"))
    with pytest.raises(BackendError, match=r"^ONNX Runtime: device 'cuda': no driver$"):
        OrtBackend(MANIFEST, "cuda")
