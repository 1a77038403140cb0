"""CUDA graphs for each image size, with a stand-in for the device, and real ones where CUDA is."""

import numpy as np
import pytest
import torch
from cuda_tools import STICKY, FakeCuda

from fer_ros.detectors import shape_graphs
from fer_ros.detectors.centerface import load_centerface
from fer_ros.detectors.shape_graphs import ShapeGraphs
from fer_ros.detectors.torch_graph import TorchGraph

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def double(images):
    return (2 * images,)


def images(height, width, value):
    return torch.full((1, 3, height, width), float(value))


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    fake.install(monkeypatch)
    return fake


@pytest.mark.parametrize(
    ("sizes", "captures", "replays"),
    [
        ([], 0, 0),
        ([(32, 64)], 0, 0),
        ([(32, 64), (64, 32)], 0, 0),
        ([(32, 64), (64, 32), (32, 64)], 1, 1),
        ([(32, 64), (32, 64), (64, 32), (64, 32), (32, 64)], 2, 3),
    ],
)
def test_a_size_is_captured_when_it_comes_again(cuda, sizes, captures, replays):
    graphs = ShapeGraphs(cuda.runs(double), "cpu")
    for value, size in enumerate(sizes, start=1):
        (output,) = graphs(images(*size, value))
        assert torch.equal(output, images(*size, 2 * value))
    assert (len(cuda.captured), len(cuda.replayed)) == (captures, replays)


def test_an_input_is_not_kept_as_the_buffer_of_a_graph(cuda):
    graphs = ShapeGraphs(cuda.runs(double), "cpu")
    mine = images(32, 32, 1)
    for _ in range(2):
        graphs(mine)
    graphs(images(32, 32, 5))
    assert torch.equal(mine, images(32, 32, 1))


def test_sizes_beyond_the_limit_run_eagerly(cuda, monkeypatch):
    monkeypatch.setattr(shape_graphs, "_MAX_GRAPHS", 2)
    graphs = ShapeGraphs(cuda.runs(double), "cpu")
    for width in (32, 64, 96, 32):
        for value in (1, 2):
            (output,) = graphs(images(32, width, value))
            assert torch.equal(output, images(32, width, 2 * value))
    assert (len(cuda.captured), len(cuda.replayed)) == (2, 4)


@pytest.mark.parametrize("error", [RuntimeError, torch.cuda.OutOfMemoryError])
def test_what_cannot_be_captured_runs_eagerly(cuda, caplog, error):
    def refuses(batch):
        if cuda._recording is not None and batch.shape[-1] == 64:
            raise error("operation not permitted\nwhen stream is capturing")
        return double(batch)

    graphs = ShapeGraphs(cuda.runs(refuses), "cpu")
    for width in (32, 32, 64, 64, 64, 32, 96, 96):
        (output,) = graphs(images(32, width, width))
        assert torch.equal(output, images(32, width, 2 * width))
    (record,) = caplog.records
    assert record.getMessage() == (
        "CUDA graph capture of the face detector failed, running eagerly: "
        "operation not permitted when stream is capturing"
    )
    assert (len(cuda.captured), len(cuda.replayed)) == (1, 1)


def test_a_sticky_error_of_a_replay_is_raised(cuda):
    graphs = ShapeGraphs(cuda.runs(double), "cpu")
    for _ in range(2):
        graphs(images(32, 32, 1))
    cuda.error = RuntimeError(STICKY)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        graphs(images(32, 32, 1))


@NEEDS_CUDA
def test_graphs_of_centerface_equal_the_eager_network(published_centerface):
    network, eager = (TorchGraph(load_centerface(published_centerface), "cuda") for _ in range(2))
    eager._compute = eager.forward
    random = np.random.default_rng(0)
    for size in [(96, 160), (64, 64), (96, 160), (64, 64), (320, 320), (96, 160), (320, 320)]:
        batch = random.uniform(0, 255, (1, 3, *size)).astype(np.float32)
        for ours, theirs in zip(network.run(batch), eager.run(batch), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
