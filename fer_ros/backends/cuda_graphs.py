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
    """Batches of any size, by graphs for SIZES; larger ones layer by layer.

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
        return self._captured.get(size)


class CudaGraph:
    """A captured graph on a CUDA device."""

    def __init__(self, predict: Predict, size: int, device: str) -> None:
        """Raises RuntimeError when it cannot be captured."""
        self.crops = torch.zeros(size, *_CROP, dtype=torch.uint8, device=device)
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                predict(self.crops)
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may use the device meanwhile
        with torch.cuda.graph(self._graph, stream=aside, capture_error_mode="thread_local"):
            self.outputs = predict(self.crops)

    def replay(self) -> None:
        """Computes ``outputs`` of ``crops``."""
        self._graph.replay()
