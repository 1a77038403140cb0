"""CUDA graphs: the whole network in one launch, for a few batch sizes.

A small network on a large GPU is bound by kernel launches. A graph launches all kernels at once,
for one batch size and fixed buffers, so smaller batches are padded (PyTorch documentation, "CUDA
semantics", section CUDA Graphs).
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fer_ros.io.errors import single_line
from fer_ros.types import CROP_SIZE_PX

BATCH_BUCKETS = (1, 2, 4, 8, 16)

_WARM_UP_RUNS = 3  # until cuDNN and cuBLAS allocate nothing more

_log = logging.getLogger(__name__)

Predict = Callable[[Tensor], tuple[Tensor, ...]]


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    crops: Tensor
    outputs: tuple[Tensor, ...]


class CudaGraphRunner:
    """Runs ``predict`` by captured graphs up to 16 crops, and eagerly above. Not thread-safe.

    All graphs share one stream and one memory pool: the next call overwrites the outputs of the
    last one.
    """

    def __init__(self, predict: Predict, device: str) -> None:
        self._predict = predict
        self._device = device
        self._capture_stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[int, _Captured] = {}

    def capture(self) -> None:
        """Capture the graphs of all BATCH_BUCKETS, the largest first.

        A network that cannot be captured runs eagerly, with a warning. Raises
        torch.cuda.OutOfMemoryError.
        """
        try:
            for bucket in reversed(BATCH_BUCKETS):
                self._captured[bucket] = self._capture(bucket)
        except torch.cuda.OutOfMemoryError:
            self._captured.clear()
            raise
        except RuntimeError as error:
            self._captured.clear()
            _log.warning("CUDA graph capture failed, running eagerly: %s", single_line(error))

    def __call__(self, crops_rgb: Tensor) -> tuple[Tensor, ...]:
        """Outputs of ``predict`` for crops (N, 112, 112, 3), N > 0; overwritten by the next call.

        Raises RuntimeError, for example out of memory.
        """
        count = len(crops_rgb)
        bucket = next((size for size in BATCH_BUCKETS if size >= count), 0)
        captured = self._captured.get(bucket)
        if captured is None:
            return self._predict(crops_rgb)
        captured.crops[:count].copy_(crops_rgb)
        captured.graph.replay()
        return tuple(output[:count] for output in captured.outputs)

    def _capture(self, count: int) -> _Captured:
        shape = (count, CROP_SIZE_PX, CROP_SIZE_PX, 3)
        crops = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        self._capture_stream.wait_stream(current)
        # Also around the capture: a failed capture would leave its stream the current one.
        with torch.cuda.stream(self._capture_stream):
            for _ in range(_WARM_UP_RUNS):
                self._predict(crops)
            # thread_local: other threads may use the device during the capture.
            with torch.cuda.graph(graph, self._pool, self._capture_stream, "thread_local"):
                outputs = self._predict(crops)
        current.wait_stream(self._capture_stream)
        return _Captured(graph, crops, outputs)
