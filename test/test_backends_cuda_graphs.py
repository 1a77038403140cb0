"""Which graph computes a batch, with graphs that only remember, and real ones where CUDA is."""

import pytest
import torch

from fer_ros.backends.cuda_graphs import SIZES, CudaGraph, FixedBatches


def predict(crops_rgb):
    first = crops_rgb[:, 0, 0, 0].float()
    return first[:, None, None].expand(-1, 68, 2), first[:, None].expand(-1, 8)


class Remembered:
    """Stands in for a captured graph, on the CPU."""

    def __init__(self, predict, size):
        self.crops = torch.zeros(size, 112, 112, 3, dtype=torch.uint8)
        self.outputs = tuple(torch.full_like(each, -1) for each in predict(self.crops))
        self.replays = 0

    def replay(self):
        self.replays += 1
        for kept, made in zip(self.outputs, predict(self.crops), strict=True):
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_real_graph():
    batches = FixedBatches(predict, lambda predict, size: CudaGraph(predict, size, "cuda"))
    for first in (1, 5):
        with torch.inference_mode():
            assert batches(crops(3, first).cuda())[1][:, 0].tolist() == [
                first,
                first + 1,
                first + 2,
            ]
