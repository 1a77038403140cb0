"""Capture of CUDA graphs: all kernels of a network in one launch.

A small network on a large GPU is bound by kernel launches. A graph launches all kernels at once,
for inputs of one shape and in fixed buffers (PyTorch documentation, "CUDA semantics", section CUDA
Graphs).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_WARM_UP_RUNS = 3  # until cuDNN and cuBLAS allocate nothing more

Compute = Callable[[Tensor], tuple[Tensor, ...]]


class CapturedGraph(NamedTuple):
    """A graph with its buffers: a replay computes ``outputs`` from ``inputs``."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    outputs: tuple[Tensor, ...]


class GraphCapture:
    """Captures graphs on one stream with one memory pool. Not thread-safe.

    The replay of any of the graphs overwrites the outputs of all.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, compute: Compute, inputs: Tensor) -> CapturedGraph:
        """Capture ``compute`` of ``inputs``, which become the graph's buffer.

        Raises RuntimeError when it cannot be captured, torch.cuda.OutOfMemoryError among them.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        # Also around the capture: a failed capture would leave its stream the current one.
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):
                compute(inputs)
            # thread_local: other threads may use the device during the capture.
            with torch.cuda.graph(graph, self._pool, self._stream, "thread_local"):
                outputs = compute(inputs)
        current.wait_stream(self._stream)
        return CapturedGraph(graph, inputs, outputs)
