"""Batches and their CUDA graphs, with a stand-in for the device, and real graphs where CUDA is."""

import gc
import weakref

import numpy as np
import pytest
import torch
from cuda_tools import STICKY, FakeCuda

from fer_ros.inference.backends import torch as torch_backend
from fer_ros.inference.backends.cuda_graphs import BATCH_BUCKETS, CudaGraphRunner
from fer_ros.inference.model_store import InputSpec
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def predict(crops_rgb):
    first = crops_rgb[:, 0, 0, 0].float()
    return first[:, None, None].expand(-1, 68, 2), first[:, None].expand(-1, 8)


def crops(count, first=1):
    numbers = torch.arange(first, first + count, dtype=torch.uint8)
    return numbers[:, None, None, None].expand(-1, 112, 112, 3)


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    fake.install(monkeypatch)
    return fake


@pytest.fixture
def runner(cuda):
    graph_runner = CudaGraphRunner(cuda.runs(predict), "cpu")
    graph_runner.capture()
    return graph_runner


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (16, 16)])
def test_a_batch_is_padded_to_the_next_bucket(runner, cuda, count, size):
    points, probabilities = runner(crops(count))
    assert cuda.replayed == [size]
    assert points.shape == (count, 68, 2)
    assert probabilities[:, 0].tolist() == list(range(1, count + 1))
    assert points[:, 0, 0].tolist() == list(range(1, count + 1))


def test_all_buckets_are_captured_at_warm_up(runner, cuda):
    assert sorted(cuda.captured) == sorted(BATCH_BUCKETS)
    for first in (1, 7):
        _, probabilities = runner(crops(3, first))
        assert probabilities[:, 0].tolist() == [first, first + 1, first + 2]
    assert (len(cuda.captured), cuda.replayed) == (len(BATCH_BUCKETS), [4, 4])


def test_larger_batches_run_eagerly(runner, cuda):
    points, _ = runner(crops(BATCH_BUCKETS[-1] + 1))
    assert (len(points), cuda.replayed) == (BATCH_BUCKETS[-1] + 1, [])


def test_a_network_that_cannot_be_captured_runs_eagerly(cuda, caplog):
    graphs = []

    def refuse(crops_rgb):
        if len(crops_rgb) == 4 and cuda._recording is not None:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        graphs.append(weakref.ref(crops_rgb))
        return predict(crops_rgb)

    runner = CudaGraphRunner(cuda.runs(refuse), "cpu")
    runner.capture()
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "running eagerly: operation not permitted when stream is capturing"
    )
    assert runner(crops(2))[1][:, 0].tolist() == [1, 2]
    assert cuda.replayed == []
    assert graphs[0]() is None  # the buffers of the graphs before it are free


def test_out_of_memory_during_capture_is_an_error(cuda, caplog):
    def full(crops_rgb):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        CudaGraphRunner(cuda.runs(full), "cpu").capture()
    (record,) = caplog.records
    assert "running eagerly also when there is memory again" in record.getMessage()


def test_a_sticky_error_of_a_replay_is_raised(runner, cuda):
    cuda.error = RuntimeError(STICKY)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        runner(crops(1))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    return save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")


@pytest.fixture(scope="module")
def small_manifest(tmp_path_factory):
    """A network that is fast in bfloat16 on the CPU, too."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "small"
    config = {"depth": 1, "embed_dim": 24, "num_heads": 2, "img_size": 32}
    network = FaceNetwork(build_model("vit_base", **config), InputSpec(size_px=32))
    torch.nn.init.normal_(network.net.trunk.head.weight)  # so that answers differ
    return save_model(network, folder, "vit_base", **config)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_warm_backend_replays_graphs(small_manifest, cuda, monkeypatch, precision):
    """On the CPU, which passes for a GPU."""
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    expected = torch_backend.TorchBackend(small_manifest, "cpu", 1, precision).run(images)
    monkeypatch.setattr(torch_backend, "is_cuda", lambda device: True)
    monkeypatch.setattr(
        torch_backend,
        "CudaGraphRunner",
        type("Runner", (CudaGraphRunner,), {"__init__": recording(cuda)}),
    )
    backend = torch_backend.TorchBackend(small_manifest, "cpu", 1, precision)
    backend.warm_up()
    assert sorted(cuda.captured) == sorted(BATCH_BUCKETS)
    cuda.replayed.clear()
    predictions = backend.run(images)
    np.testing.assert_allclose(predictions.probabilities, expected.probabilities, atol=1e-2)
    assert (len(cuda.captured), cuda.replayed) == (len(BATCH_BUCKETS), [4])


@pytest.mark.parametrize(
    ("device", "precision", "allows_tf32"),
    [("cuda", "fp32", False), ("cuda", "bf16", True), ("cpu", "fp32", True)],
)
def test_fp32_means_no_tf32(small_manifest, cuda, monkeypatch, device, precision, allows_tf32):
    """On the CPU, which passes for a GPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch_backend, "is_cuda", lambda _: device == "cuda")
    torch_backend.TorchBackend(small_manifest, "cpu", 1, precision)
    assert torch.backends.cudnn.allow_tf32 is allows_tf32


def test_a_full_gpu_gives_back_what_it_has_cached(manifest, cuda, monkeypatch):
    """And the error of the batch is raised, whatever comes of that."""
    backend = torch_backend.TorchBackend(manifest, "cpu", 1)

    def full(crops_rgb):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backend, "predict", full)
    cuda.error = RuntimeError(STICKY)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        backend.run(np.zeros((1, 112, 112, 3), np.uint8))
    assert cuda.emptied == [backend.device]


def recording(cuda):
    def init(self, predict, device):
        CudaGraphRunner.__init__(self, cuda.runs(predict), device)

    return init


@NEEDS_CUDA
@torch.inference_mode()
def test_graphs_that_share_memory_do_not_corrupt_each_other():
    runner = CudaGraphRunner(predict, "cuda")
    runner.capture()
    for count, first in [(3, 1), (1, 9), (16, 30), (3, 5), (1, 2), (8, 70)]:
        _, probabilities = runner(crops(count, first).cuda())
        assert probabilities[:, 0].tolist() == list(range(first, first + count))


@NEEDS_CUDA
@torch.inference_mode()
def test_a_failed_capture_restores_the_stream():
    def waits(crops_rgb):
        if crops_rgb.sum().item() < 0:  # synchronizes, which a capture does not permit
            raise AssertionError
        return predict(crops_rgb)

    before = torch.cuda.current_stream()
    runner = CudaGraphRunner(waits, "cuda")
    runner.capture()
    assert runner(crops(2).cuda())[1][:, 0].tolist() == [1, 2]
    assert torch.cuda.current_stream() == before


@NEEDS_CUDA
def test_a_deleted_backend_frees_its_memory(manifest):
    def used():
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()

    torch_backend.TorchBackend(manifest, "cuda").warm_up()  # workspaces of cuBLAS stay
    before = used()
    backend = torch_backend.TorchBackend(manifest, "cuda")
    backend.warm_up()
    assert used() > before
    del backend
    assert used() <= before + 2**26  # a workspace of cuBLAS for the new stream
