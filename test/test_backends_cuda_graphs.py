"""Which graph computes a batch, with graphs that only remember, and real ones where CUDA is."""

import gc
import weakref

import numpy as np
import pytest
import torch

from fer_ros.backends import pytorch
from fer_ros.backends.cuda_graphs import SIZES, CudaGraphs, FixedBatches
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import InputSpec

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def predict(crops_rgb):
    first = crops_rgb[:, 0, 0, 0].float()
    return first[:, None, None].expand(-1, 68, 2), first[:, None].expand(-1, 8)


class Remembered:
    """Stands in for a captured graph, on the CPU."""

    def __init__(self, predict, size):
        self.predict = predict
        self.crops = torch.zeros(size, 112, 112, 3, dtype=torch.uint8)
        self.outputs = tuple(torch.full_like(each, -1) for each in predict(self.crops))
        self.replays = 0

    def replay(self):
        self.replays += 1
        for kept, made in zip(self.outputs, self.predict(self.crops), strict=True):
            kept.copy_(made)


def crops(count, first=1):
    numbers = torch.arange(first, first + count, dtype=torch.uint8)
    return numbers[:, None, None, None].expand(-1, 112, 112, 3)


@pytest.fixture
def made():
    return []


@pytest.fixture
def batches(made):
    def capture(predict, size):
        made.append((size, Remembered(predict, size)))
        return made[-1][1]

    return FixedBatches(predict, capture)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (16, 16)])
def test_a_batch_is_padded_to_the_next_size(batches, made, count, size):
    points, probabilities = batches(crops(count))
    assert [each for each, _ in made] == [size]
    assert points.shape == (count, 68, 2)
    assert probabilities[:, 0].tolist() == list(range(1, count + 1))
    assert points[:, 0, 0].tolist() == list(range(1, count + 1))


def test_a_size_is_captured_once_and_answers_the_newest(batches, made):
    for first in (1, 7):
        _, probabilities = batches(crops(3, first))
        assert probabilities[:, 0].tolist() == [first, first + 1, first + 2]
    ((_, graph),) = made
    assert graph.replays == 2


def test_larger_batches_go_layer_by_layer(batches, made):
    points, _ = batches(crops(SIZES[-1] + 1))
    assert (len(points), made) == (SIZES[-1] + 1, [])


def test_a_network_that_cannot_be_captured_works_without(caplog):
    tried = []

    def refuse(predict, size):
        tried.append(size)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    batches = FixedBatches(predict, refuse)
    for _ in range(2):
        assert batches(crops(2))[1][:, 0].tolist() == [1, 2]
    assert tried == [2]
    (said,) = caplog.records
    assert said.getMessage().endswith(
        "cannot have: operation not permitted when stream is capturing"
    )


def test_without_memory_for_a_graph_it_is_told():
    def full(predict, size):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        FixedBatches(predict, full)(crops(1))


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    return save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_gpu_answers_comes_from_graphs(card, monkeypatch, made, precision):
    """On the CPU, which passes for a GPU."""

    def capture(predict, size):
        made.append((size, Remembered(predict, size)))
        return made[-1][1]

    pictures = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    _, wanted = pytorch.TorchBackend(card, "cpu", 1, precision).run(pictures)
    assert made == []
    monkeypatch.setattr(pytorch, "is_cuda", lambda device: True)
    monkeypatch.setattr(pytorch, "CudaGraphs", lambda device: capture)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    _, probabilities = pytorch.TorchBackend(card, "cpu", 1, precision).run(pictures)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-2)
    ((size, graph),) = made
    assert (size, graph.replays) == (4, 1)


def test_graphs_that_are_not_used_any_more_leave_no_memory():
    captured = []

    def second_fails(predict, size):
        if captured:
            raise RuntimeError("operation not permitted when stream is capturing")
        captured.append(weakref.ref(graph := Remembered(predict, size)))
        return graph

    batches = FixedBatches(predict, second_fails)
    for count in (1, 2):
        batches(crops(count))
    assert captured[0]() is None


@NEEDS_CUDA
@torch.inference_mode()
def test_real_graphs_of_several_sizes_share_memory_and_none_spoils_another():
    batches = FixedBatches(predict, CudaGraphs("cuda"))
    for count, first in [(3, 1), (1, 9), (16, 30), (3, 5), (1, 2), (8, 70)]:
        _, probabilities = batches(crops(count, first).cuda())
        assert probabilities[:, 0].tolist() == list(range(first, first + count))


@NEEDS_CUDA
@torch.inference_mode()
def test_a_failed_capture_leaves_the_stream_as_it_was():
    def waits(crops_rgb):
        if crops_rgb.sum().item() < 0:  # asks the GPU, which a capture cannot
            raise AssertionError
        return predict(crops_rgb)

    before = torch.cuda.current_stream()
    batches = FixedBatches(waits, CudaGraphs("cuda"))
    assert batches(crops(2).cuda())[1][:, 0].tolist() == [1, 2]
    assert torch.cuda.current_stream() == before


@NEEDS_CUDA
def test_a_backend_that_is_dropped_gives_its_memory_back(card):
    def used():
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()

    pictures = np.zeros((1, 112, 112, 3), np.uint8)
    pytorch.TorchBackend(card, "cuda").run(pictures)  # workspaces of cuBLAS stay
    before = used()
    backend = pytorch.TorchBackend(card, "cuda")
    backend.run(pictures)
    assert used() > before
    del backend
    assert used() <= before + 2**26  # a workspace of cuBLAS for the new stream
