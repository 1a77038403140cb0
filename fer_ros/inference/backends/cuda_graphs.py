"""CUDA graphs of the classifier, for a few batch sizes; smaller batches are padded."""

import logging

import torch
from torch import Tensor

from fer_ros.inference.graph_capture import CapturedGraph, Compute, GraphCapture
from fer_ros.io.errors import single_line
from fer_ros.types import CROP_SIZE_PX

BATCH_BUCKETS = (1, 2, 4, 8, 16)

_log = logging.getLogger(__name__)


class CudaGraphRunner:
    """Runs ``predict`` by captured graphs up to 16 crops, and eagerly above. Not thread-safe.

    The next call overwrites the outputs of the last one.
    """

    def __init__(self, predict: Compute, device: str) -> None:
        self._predict = predict
        self._device = device
        self._capture = GraphCapture(device)
        self._captured: dict[int, CapturedGraph] = {}

    def capture(self) -> None:
        """Capture the graphs of all BATCH_BUCKETS, the largest first.

        A network that cannot be captured runs eagerly, with a warning; so does one for which the
        memory does not suffice, and torch.cuda.OutOfMemoryError is raised.
        """
        try:
            for bucket in reversed(BATCH_BUCKETS):
                shape = (bucket, CROP_SIZE_PX, CROP_SIZE_PX, 3)
                crops = torch.zeros(shape, dtype=torch.uint8, device=self._device)
                self._captured[bucket] = self._capture.capture(self._predict, crops)
        except torch.cuda.OutOfMemoryError:
            self._captured.clear()
            _log.warning(
                "CUDA graph capture: out of memory, running eagerly also when there is memory "
                "again; free GPU memory, then configure the node again"
            )
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
        captured.inputs[:count].copy_(crops_rgb)
        captured.graph.replay()
        return tuple(output[:count] for output in captured.outputs)
