"""PyTorch on the CPU or a CUDA device."""

import numpy as np
import torch
from numpy.typing import NDArray

from fer_ros.backends import BackendError
from fer_ros.backends.cuda_graphs import CudaGraph, FixedBatches, Predict
from fer_ros.model.checkpoint import load_model
from fer_ros.weights import ModelCard


class TorchBackend:
    """The network as it was trained; it can also say where it looks."""

    name = "PyTorch"

    def __init__(self, card: ModelCard, device: str = "auto", threads: int = 0) -> None:
        """``threads`` 0: as many as there are cores. Raises ModelError."""
        if threads:
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        self._network = load_model(card.folder).to(self.device)
        # the layout in which PyTorch's convolutions are fastest on CPUs and on tensor cores
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._predict: Predict = self._network.predict
        if self.device.startswith("cuda"):
            self._predict = FixedBatches(self._network.predict, self._capture)

    def _capture(self, predict: Predict, size: int) -> CudaGraph:
        with torch.cuda.device(self.device):
            return CudaGraph(predict, size, self.device)

    @torch.inference_mode()
    def run(self, crops_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of crops (N, 112, 112, 3)."""
        try:
            points, probabilities = self._network.predict(
                torch.tensor(crops_rgb, device=self.device)
            )
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()  # what larger batches left, for a smaller one
            raise
        return points.cpu().numpy(), probabilities.cpu().numpy()

    @torch.inference_mode()
    def attention(self, crops_rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]] | None:
        """Where it looks in crops (N, 112, 112, 3), at three scales; None when it cannot say.

        Maps (N, 28, 28), (N, 14, 14), (N, 7, 7), 1 on average.
        """
        maps = self._network.attention(torch.tensor(crops_rgb, device=self.device))
        return None if maps is None else [each.cpu().numpy() for each in maps]


def choose_device(wanted: str) -> str:
    """``auto`` is CUDA where there is one; BackendError when PyTorch lacks the device asked for."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"device {wanted!r}: PyTorch sees {torch.cuda.device_count()} CUDA devices"
        )
    return wanted
