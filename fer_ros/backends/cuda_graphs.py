"""CUDA graphs: a whole network as one launch, for the few batch sizes of a robot.

A small network on a large GPU waits for the launches of its layers, not for their work. A graph
launches all of them at once, for one batch size and fixed memory, so smaller batches are padded
(PyTorch documentation, "CUDA semantics", section CUDA Graphs).
"""

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from fer_ros.errors import one_line
from fer_ros.types import CROP_SIZE_PX

SIZES = (1, 2, 4, 8, 16)

_CROP = (CROP_SIZE_PX, CROP_SIZE_PX, 3)
_WARM_UPS = 3  # what cuDNN and cuBLAS need before they allocate nothing any more

_log = logging.getLogger(__name__)

Predict = Callable[[Tensor], tuple[Tensor, Tensor]]


class Captured(Protocol):
    """A network for one batch size: ``replay`` computes ``outputs`` of what is in ``crops``."""

    crops: Tensor
    outputs: tuple[Tensor, Tensor]

    def replay(self) -> None:
        """Computes it once, in the current stream."""
        ...


class FixedBatches:
    """Batches of any size, by graphs for SIZES; larger ones layer by layer. One thread at a time.

    ``capture`` makes the graph of a size when it is first needed. Where that fails, all batches are
    computed layer by layer from then on, with a warning.
    """

    def __init__(self, predict: Predict, capture: Callable[[Predict, int], Captured]) -> None:
        self._predict, self._capture = predict, capture
        self._captured: dict[int, Captured] = {}
        self._sizes: tuple[int, ...] = SIZES

    def __call__(self, crops_rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Points (N, 68, 2) and probabilities (N, 8) of crops (N, 112, 112, 3), N above 0.

        They are overwritten by the next call. Raises RuntimeError, as without memory.
        """
        count = len(crops_rgb)
        graph = self._graph(next((size for size in self._sizes if size >= count), 0))
        if not graph:
            return self._predict(crops_rgb)
        graph.crops[:count].copy_(crops_rgb)
        graph.replay()
        points, probabilities = graph.outputs
        return points[:count], probabilities[:count]

    def _graph(self, size: int) -> Captured | None:
        if size and size not in self._captured:
            try:
                self._captured[size] = self._capture(self._predict, size)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = one_line(error)
                _log.warning("without CUDA graphs, which this network cannot have: %s", reason)
                self._sizes = ()
                self._captured.clear()
        return self._captured.get(size)


class CudaGraph:
    """A captured graph on a CUDA device."""

    def __init__(
        self, graph: torch.cuda.CUDAGraph, crops: Tensor, outputs: tuple[Tensor, Tensor]
    ) -> None:
        self._graph, self.crops, self.outputs = graph, crops, outputs

    def replay(self) -> None:
        """Computes ``outputs`` of ``crops``."""
        self._graph.replay()


class CudaGraphs:
    """Captures graphs on a CUDA device, all on one stream and in one pool of memory.

    A replay overwrites what another graph left, so that answers must be copied before it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._aside = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, predict: Predict, size: int) -> CudaGraph:
        """The graph of a batch size. Raises RuntimeError when it cannot be captured."""
        crops = torch.zeros(size, *_CROP, dtype=torch.uint8, device=self._device)
        graph, now = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        self._aside.wait_stream(now)
        # around the capture as well: one that fails leaves its stream the current one
        with torch.cuda.stream(self._aside):
            for _ in range(_WARM_UPS):
                predict(crops)
            # thread_local: other threads may use the device meanwhile
            with torch.cuda.graph(graph, self._pool, self._aside, "thread_local"):
                outputs = predict(crops)
        now.wait_stream(self._aside)
        return CudaGraph(graph, crops, outputs)
