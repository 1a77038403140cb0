"""PyTorch on the CPU or a CUDA device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_ros.backends import BackendError
from fer_ros.backends.cuda_graphs import CudaGraphs, FixedBatches, Predict
from fer_ros.model.checkpoint import load_model
from fer_ros.model.network import FaceNetwork, FaceOutput
from fer_ros.weights import ModelCard

_TENSOR_CORES = (7, 0)  # compute capability from which on fp16 is the fastest
_BF16 = (8, 0)
_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchBackend:
    """The network as it was trained; it can also say where it looks.

    Weights stay float32, as do answers; convolutions and products are computed in ``precision``
    (Micikevicius et al., "Mixed Precision Training", 2018; torch.autocast).
    """

    def __init__(
        self, card: ModelCard, device: str = "auto", threads: int = 0, precision: str = "auto"
    ) -> None:
        """``threads`` 0: as many as there are cores. Raises ModelError."""
        if threads:
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        precision = choose_precision(precision, self.device)
        self.name = "PyTorch" if precision == "fp32" else f"PyTorch in {precision}"
        self._network = load_model(card.folder).to(self.device)
        # the layout in which PyTorch's convolutions are fastest on CPUs and on tensor cores
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._predict: Predict = self._network.predict
        if precision != "fp32":
            self._predict = _autocast(self._network, self.device, _TYPES[precision])
        if is_cuda(self.device):
            self._predict = FixedBatches(self._predict, CudaGraphs(self.device))

    @torch.inference_mode()
    def run(self, crops_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of crops (N, 112, 112, 3)."""
        try:
            points, probabilities = self._predict(torch.tensor(crops_rgb, device=self.device))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()  # what larger batches left, for a smaller one
            raise
        return points.cpu().numpy(), probabilities.cpu().numpy()

    @torch.inference_mode()
    def attention(self, crops_rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]] | None:
        """Where it looks in crops (N, 112, 112, 3), at three scales; None when it cannot say.

        Maps (N, 28, 28), (N, 14, 14), (N, 7, 7), 1 on average, computed in float32.
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


def choose_precision(wanted: str, device: str) -> str:
    """``auto`` is fp16 on tensor cores and else fp32; BackendError when the device has no other."""
    if not is_cuda(device):
        if wanted == "fp16":
            raise BackendError(
                f"PyTorch: precision 'fp16' needs CUDA, and the device is {device}: "
                "set classifier.precision to auto, fp32 or bf16"
            )
        return "fp32" if wanted == "auto" else wanted
    capability = torch.cuda.get_device_capability(device)
    if wanted == "auto":
        return "fp16" if capability >= _TENSOR_CORES else "fp32"
    if wanted == "bf16" and capability < _BF16:
        raise BackendError(
            f"PyTorch: precision 'bf16' needs compute capability 8.0, and {device} has "
            f"{capability[0]}.{capability[1]}: set classifier.precision to auto, fp32 or fp16"
        )
    return wanted


def is_cuda(device: str) -> bool:
    """Whether a device of ``choose_device`` is a GPU."""
    return device.startswith("cuda")


def _autocast(network: FaceNetwork, device: str, dtype: torch.dtype) -> Predict:
    network.core.register_forward_hook(_in_float32)

    def predict(crops_rgb: Tensor) -> tuple[Tensor, Tensor]:
        # no weight is used twice, and a cache of them must not outlive the capture of a graph
        with torch.autocast(torch.device(device).type, dtype, cache_enabled=False):
            return network.predict(crops_rgb)

    return predict


def _in_float32(core: nn.Module, pictures: tuple[Tensor], output: FaceOutput) -> FaceOutput:
    """Fractions of a crop become pixels, and logits probabilities, without rounding again."""
    points = None if output.points is None else output.points.float()
    return FaceOutput(output.logits.float(), points)
