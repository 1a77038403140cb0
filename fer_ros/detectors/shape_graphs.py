"""CUDA graphs of a detector, one for each image size that comes up again."""

import logging

from torch import Size, Tensor

from fer_ros.inference.graph_capture import CapturedGraph, Compute, GraphCapture
from fer_ros.io.errors import single_line

_MAX_GRAPHS = 32  # each keeps its input and output buffers in device memory

_log = logging.getLogger(__name__)


class ShapeGraphs:
    """Runs ``compute`` by graphs, captured when an image size comes for the second time.

    Further sizes run eagerly once there are 32 graphs; after a failed capture, all sizes do, with
    a warning. Not thread-safe.
    """

    def __init__(self, compute: Compute, device: str) -> None:
        self._compute = compute
        self._capture = GraphCapture(device)
        self._captured: dict[Size, CapturedGraph] = {}
        self._seen: set[Size] = set()
        self._works = True

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs of ``compute`` for images (B, C, h, w); overwritten by the next call.

        Raises RuntimeError, for example out of memory.
        """
        captured = self._captured.get(images.shape)
        if captured is None and self._is_due(images.shape):
            captured = self._add(images)
        if captured is None:
            return self._compute(images)
        captured.inputs.copy_(images)
        captured.graph.replay()
        return captured.outputs

    def _is_due(self, shape: Size) -> bool:
        if not self._works or len(self._captured) == _MAX_GRAPHS:
            return False
        was_seen = shape in self._seen
        self._seen.add(shape)
        return was_seen

    def _add(self, images: Tensor) -> CapturedGraph | None:
        try:
            captured = self._capture.capture(self._compute, images.clone())
        except RuntimeError as error:
            self._works = False
            self._captured.clear()
            _log.warning(
                "CUDA graph capture of the face detector failed, running eagerly: %s",
                single_line(error),
            )
            return None
        self._captured[images.shape] = captured
        return captured
